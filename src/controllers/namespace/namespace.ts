// Empties a namespace that is being deleted and then lets it go. Whatever the server serves in namespaces is found by
// discovery, custom resources too, and deleted collection by collection: pods first, and the rest only when the last
// pod has ended (KEP-5080), since pods may need their Secrets, services and policies to the end.
//
// What stays behind (pods in their grace period, objects with finalizers) is watched until it is gone; the conditions
// of the namespace say what it is waiting for. What is there and not even being deleted came in since: that is reported,
// and deleted at the next try, which comes later and later, since somebody may put it back as fast as it is deleted.

import { isMethodNotSupported, isNotFound } from '../../api/index.ts';
import type { Namespace } from '../../api/types/core-v1.ts';
import {
  clusterScoped,
  type DiscoveredResource,
  type Informer,
  type MetadataObject,
  namespaced,
  type ReconcileResult,
  type ResourceType,
  resources,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { type ControllerContext, disposeAll } from '../context.ts';
import { messageOf } from '../pods/pod-control.ts';
import { deletionConditions } from './conditions.ts';

/** What the namespace controller holds in `spec.finalizers` of every namespace. */
const FINALIZER = 'kubernetes';
const type = resources.namespaces;

interface Remaining {
  readonly type: ResourceType;
  readonly count: number;
}

export function startNamespaceController(context: ControllerContext): Running {
  const { client, clock, logger, settings } = context;
  const namespaces = client.informers.informer(type);
  /** For each namespace, what it waits for. */
  const waiting = new Map<string, Map<string, Informer<MetadataObject>>>();

  const controller = startController({
    name: 'namespace-controller',
    clock,
    logger,
    concurrency: 10,
    ready: namespaces.synced,
    reconcile,
  });
  const { queue } = controller;

  const enqueue = (namespace: Namespace): void => {
    if (namespace.metadata.deletionTimestamp === undefined) return;
    queue.addAfter(namespace.metadata.name, settings.namespaceDeletionDelayMs);
  };
  namespaces.addHandler({
    added: enqueue,
    updated(namespace, old) {
      // Our own writes of conditions need no second look; finalizers that others take away do.
      const began = old.metadata.deletionTimestamp === undefined;
      const finalizers = namespace.spec?.finalizers?.length !== old.spec?.finalizers?.length;
      if (began || finalizers) enqueue(namespace);
    },
    deleted(namespace) {
      stopWaiting(namespace.metadata.name);
    },
  });

  async function reconcile(name: string, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    // Read from the server: what is deleted here cannot be brought back, so a stale cache must not decide.
    let namespace: Namespace;
    try {
      namespace = await client.resource(type).get(name, { signal });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      stopWaiting(name);
      return undefined;
    }
    if (namespace.metadata.deletionTimestamp === undefined) return undefined;
    if (!namespace.spec?.finalizers?.includes(FINALIZER)) return undefined;
    if (namespace.status?.phase !== 'Terminating')
      namespace = await client
        .resource(type)
        .updateStatus({ ...namespace, status: { ...namespace.status, phase: 'Terminating' } });

    const { remaining, finalizers, discoveryErrors, contentErrors, unexpected } = await deleteContent(
      name,
      signal,
    );
    const conditions = deletionConditions(
      namespace.status?.conditions,
      {
        discoveryErrors,
        contentErrors,
        remaining: new Map(remaining.map(({ type: t, count }) => [`${t.resource}.${t.group}`, count])),
        finalizers,
      },
      clock.now(),
    );
    if (conditions !== namespace.status?.conditions)
      namespace = await client
        .resource(type)
        .updateStatus({ ...namespace, status: { ...namespace.status, conditions: [...conditions] } });
    // Its comings and goings must not call us sooner than the next try is due.
    if (unexpected) stopWaiting(name);
    const errors = [...discoveryErrors, ...contentErrors];
    if (errors.length > 0)
      throw new AggregateError(errors, `namespace ${name}: ${errors.map(messageOf).join('; ')}`);
    if (remaining.length > 0) {
      waitFor(name, remaining);
      return undefined;
    }
    stopWaiting(name);
    const { spec } = namespace;
    await client.resource(type).updateSubresource(name, 'finalize', {
      ...namespace,
      apiVersion: 'v1',
      kind: 'Namespace',
      spec: { ...spec, finalizers: spec.finalizers?.filter((f) => f !== FINALIZER) ?? [] },
    });
    return undefined;
  }

  async function deleteContent(name: string, signal: AbortSignal) {
    const served = await client.discovery.serverResources(signal);
    const discoveryErrors = [...served.failed].map(([groupVersion, error]) => {
      return new Error(`${groupVersion}: ${error.message}`);
    });
    const contentErrors: unknown[] = [];
    const remaining: Remaining[] = [];
    const finalizers = new Map<string, number>();
    let unexpected = false;
    const empty = async (resource: DiscoveredResource): Promise<void> => {
      try {
        const left = await emptyResource(resource, name, signal);
        if (left.length === 0) return;
        remaining.push({ type: typeOf(resource), count: left.length });
        for (const finalizer of left.flatMap((object) => object.metadata.finalizers ?? []))
          finalizers.set(finalizer, (finalizers.get(finalizer) ?? 0) + 1);
        if (left.every(isExpected)) return;
        unexpected = true;
        const { group, version, resource: plural } = resource;
        contentErrors.push(
          new Error(
            `unexpected items still remain in namespace: ${name} for gvr: ${group}/${version}, Resource=${plural}`,
          ),
        );
      } catch (error) {
        signal.throwIfAborted();
        contentErrors.push(error);
      }
    };
    const deletable = served.preferred.filter((r) => r.namespaced && r.verbs.has('delete'));
    const isPods = (r: DiscoveredResource): boolean => r.group === '' && r.resource === 'pods';
    await Promise.all(deletable.filter(isPods).map(empty));
    if (remaining.length === 0 && contentErrors.length === 0)
      await Promise.all(deletable.filter((r) => !isPods(r)).map(empty));
    return { remaining, finalizers, discoveryErrors, contentErrors, unexpected };
  }

  /** Deletes all objects of a resource in the namespace; resolves with those that are still there. */
  async function emptyResource(
    resource: DiscoveredResource,
    namespace: string,
    signal: AbortSignal,
  ): Promise<readonly MetadataObject[]> {
    const objects = client.resource<MetadataObject>(typeOf(resource), namespace);
    const list = async (): Promise<readonly MetadataObject[]> => {
      if (!resource.verbs.has('list')) return [];
      try {
        return await Array.fromAsync(objects.each({ metadataOnly: true, signal }));
      } catch (error) {
        // The resource went away after it was discovered (its CustomResourceDefinition was deleted).
        if (isNotFound(error) || isMethodNotSupported(error)) return [];
        throw error;
      }
    };
    // Most resources are empty in most namespaces: looking is cheaper than deleting nothing.
    const present = await list();
    if (present.length === 0) return [];
    try {
      if (resource.verbs.has('deletecollection'))
        await objects.deleteCollection({ propagationPolicy: 'Background', signal });
      else
        for (const { metadata } of present)
          await objects
            .delete(metadata.name, { propagationPolicy: 'Background', signal })
            .catch((error: unknown) => {
              if (!isNotFound(error)) throw error;
            });
    } catch (error) {
      if (!isNotFound(error) && !isMethodNotSupported(error)) throw error;
    }
    return list();
  }

  /** Looks again when one of these objects goes, or another one comes, whose creation began before the deletion. */
  function waitFor(name: string, remaining: readonly Remaining[]): void {
    const held = waiting.get(name) ?? new Map<string, Informer<MetadataObject>>();
    waiting.set(name, held);
    for (const { type: t } of remaining) {
      const key = `${t.group}/${t.resource}`;
      if (held.has(key)) continue;
      const informer = client.informers.metadata(t, { namespace: name });
      held.set(key, informer);
      informer.addHandler({
        added: ({ metadata }) => {
          if (metadata.deletionTimestamp === undefined) queue.add(name);
        },
        deleted: () => queue.add(name),
      });
      // What went between our list and the watch would never be told of: one more look when the watch stands.
      informer.synced.then(
        () => queue.add(name),
        () => {},
      );
    }
  }

  function stopWaiting(name: string): void {
    const held = waiting.get(name);
    waiting.delete(name);
    for (const informer of held?.values() ?? []) void informer[Symbol.asyncDispose]();
  }

  return {
    ready: controller.ready,
    async [Symbol.asyncDispose]() {
      await disposeAll([namespaces, controller]);
      await disposeAll([...waiting.values()].flatMap((held) => [...held.values()]));
    },
  };
}

/** Whether an object may still be there after its deletion was asked for. */
function isExpected({ metadata }: MetadataObject): boolean {
  return metadata.deletionTimestamp !== undefined || (metadata.finalizers?.length ?? 0) > 0;
}

function typeOf(resource: DiscoveredResource): ResourceType<MetadataObject> {
  const make = resource.namespaced ? namespaced<MetadataObject> : clusterScoped<MetadataObject>;
  return make(resource.group, resource.version, resource.resource, resource.kind);
}
