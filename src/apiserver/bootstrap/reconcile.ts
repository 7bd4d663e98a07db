// Brings the default objects into being and up to date at every start: creates what is missing, completes what is
// older, leaves alone what somebody took over. Writes go through the server's own in-process transport, all at once,
// so that the store commits them together. Safe to run twice and from several servers.

import {
  type ApiCall,
  isAlreadyExists,
  isConflict,
  isNotFound,
  type KubeObject,
  timestamp,
} from '../../api/index.ts';
import type { ChainContext, ObjectReader } from '../chain.ts';
import {
  type BootstrapObject,
  type BootstrapOptions,
  bootstrapObjects,
  systemNamespaces,
} from './objects.ts';

/** Another server may write the same object; each try reads it afresh. */
const TRIES = 5;

type Context = Pick<ChainContext, 'reader' | 'transport' | 'seed' | 'clock' | 'logger'>;

/** Resolves when every default object is there; rejects with the first failure (each message names its object). */
export async function reconcileBootstrapObjects(
  context: Context,
  options: BootstrapOptions,
  signal?: AbortSignal,
): Promise<void> {
  const reconcileAll = (objects: readonly BootstrapObject[]): Promise<unknown> =>
    Promise.all(objects.map((object) => reconcileOne(context, object, signal)));
  await reconcileAll(systemNamespaces());
  await reconcileAll(bootstrapObjects(options, timestamp(context.clock.now())));
}

/** What the cluster cannot do without while it runs; roles that somebody deleted come back at the next start only. */
const KEPT: readonly (readonly [group: string, resource: string])[] = [
  ['', 'namespaces'],
  ['', 'services'],
  ['networking.k8s.io', 'servicecidrs'],
  ['scheduling.k8s.io', 'priorityclasses'],
];

/** Makes such an object again when it was deleted. Disposing ends that. */
export function keepBootstrapObjects(context: Context, options: BootstrapOptions): Disposable {
  const abort = new AbortController();
  const keyOf = (group: string, resource: string, namespace: string | undefined, name: string): string =>
    `${group}/${resource}/${namespace ?? ''}/${name}`;
  const wanted = new Map(
    [...systemNamespaces(), ...bootstrapObjects(options, timestamp(context.clock.now()))].map((one) => [
      keyOf(
        one.resource.group,
        one.resource.resource,
        one.object.metadata.namespace,
        one.object.metadata.name,
      ),
      one,
    ]),
  );
  const stops = KEPT.map(([group, resource]) =>
    context.reader.follow(group, resource, ({ type, object }) => {
      if (type !== 'DELETED') return;
      const gone = wanted.get(keyOf(group, resource, object.metadata.namespace, object.metadata.name));
      // reconcileOne logs what fails; the next start tries again.
      if (gone) reconcileOne(context, gone, abort.signal).catch(() => {});
    }),
  );
  return {
    [Symbol.dispose]() {
      abort.abort();
      for (const stop of stops) stop();
    },
  };
}

async function reconcileOne(context: Context, wanted: BootstrapObject, signal?: AbortSignal): Promise<void> {
  const { namespace, name } = wanted.object.metadata;
  const target = {
    resource: wanted.resource,
    ...(namespace !== undefined && { namespace }),
    ...(signal && { signal }),
  };
  const call = (request: Omit<ApiCall, 'resource' | 'namespace' | 'signal'>): Promise<unknown> =>
    context.transport.call({ ...target, ...request });
  const create = (): Promise<unknown> =>
    wanted.normal
      ? context.seed(wanted.resource, wanted.object)
      : call({ verb: 'create', body: wanted.object });

  let existing: KubeObject | undefined = cached(context.reader, wanted);
  for (let attempt = 1; ; attempt++) {
    try {
      if (existing === undefined) {
        existing = (await create()) as KubeObject;
      } else {
        const step = wanted.reconcile(existing);
        if (step.action === 'update') {
          existing = (await call({ verb: 'update', name, body: step.object })) as KubeObject;
        } else if (step.action === 'replace') {
          const uid = existing.metadata.uid;
          await call({ verb: 'delete', name, body: { preconditions: { uid } } });
          existing = (await create()) as KubeObject;
        }
      }
      const leaving = existing.metadata.deletionTimestamp !== undefined;
      if (wanted.status !== undefined && !leaving && !hasConditions(existing)) {
        await call({
          verb: 'update',
          name,
          subresource: 'status',
          body: { ...existing, status: wanted.status },
        });
      }
      return;
    } catch (error) {
      const lostRace = isAlreadyExists(error) || isConflict(error) || isNotFound(error);
      if (!lostRace || attempt === TRIES) {
        const what = `${wanted.resource.resource} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
        if (!signal?.aborted)
          context.logger.error({ err: error, object: what }, 'a default object could not be written');
        throw new Error(`cannot set up the default object ${what}: ${String((error as Error).message)}`, {
          cause: error,
        });
      }
      existing = await fresh(context.reader, wanted);
    }
  }
}

function cached(reader: ObjectReader, { resource, object }: BootstrapObject): KubeObject | undefined {
  return reader.get(resource.group, resource.resource, object.metadata.namespace ?? '', object.metadata.name);
}

function fresh(reader: ObjectReader, { resource, object }: BootstrapObject): Promise<KubeObject | undefined> {
  return reader.getFresh(
    resource.group,
    resource.resource,
    object.metadata.namespace ?? '',
    object.metadata.name,
  );
}

const hasConditions = (object: KubeObject): boolean =>
  ((object as { status?: { conditions?: unknown[] } }).status?.conditions?.length ?? 0) > 0;
