// Waiting for what the cluster makes of the application, and what hinders it when that takes too long.

import type { KubeObject } from '../../api/index.ts';
import type { Deployment } from '../../api/types/apps-v1.ts';
import type { Pod, Service } from '../../api/types/core-v1.ts';
import { type Client, type ResourceType, resources } from '../../client/index.ts';
import { CommandError } from '../command.ts';
import { NAMESPACE } from './application.ts';

/** A machine under load pulls nothing and still needs a moment. */
const PATIENCE_MS = 120_000;

/** Watches objects until the condition gives something for one of them; undefined when told to end, or after too long. */
async function until<T extends KubeObject, R>(
  client: Client,
  type: ResourceType<T>,
  fieldSelector: Readonly<Record<string, string>>,
  condition: (object: T) => R | undefined,
  signal?: AbortSignal,
): Promise<R | undefined> {
  await using informer = client.informers.informer(type, { namespace: NAMESPACE, fieldSelector });
  const done = Promise.withResolvers<R | undefined>();
  const look = (object: T): void => {
    const result = condition(object);
    if (result !== undefined) done.resolve(result);
  };
  using _handler = informer.addHandler({ added: look, updated: look });
  const giveUp = (): void => done.resolve(undefined);
  const timer = setTimeout(giveUp, PATIENCE_MS);
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    return await done.promise;
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves with the number of replicas when all of them are of the current template and available. */
export async function rolledOut(client: Client, name: string): Promise<number> {
  const replicas = await until(client, resources.deployments, { 'metadata.name': name }, complete);
  if (replicas !== undefined) return replicas;
  const why = await hindrances(client, name);
  throw new CommandError(
    `deployment ${name} is not complete after ${PATIENCE_MS / 1000} s:\n${why.join('\n')}`,
  );
}

function complete({ metadata, spec, status }: Deployment): number | undefined {
  const observed = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const all = [status.updatedReplicas, status.availableReplicas, status.replicas];
  return observed && all.every((count) => (count ?? 0) === spec.replicas) ? spec.replicas : undefined;
}

/** What the pods of a deployment wait for, a line each. */
async function hindrances(client: Client, app: string): Promise<string[]> {
  const { items } = await client.resource(resources.pods, NAMESPACE).list({ labelSelector: `app=${app}` });
  const lines = items.flatMap(({ metadata, status }: Pod) => {
    const unmet = (status.conditions ?? []).filter(({ status: met, message }) => met !== 'True' && message);
    const waiting = (status.containerStatuses ?? []).flatMap(({ name, state }) =>
      state?.waiting ? `container ${name}: ${state.waiting.reason} ${state.waiting.message ?? ''}` : [],
    );
    return [...unmet.map(({ type, message }) => `${type}: ${message}`), ...waiting].map(
      (line) => `  ${metadata.name}  ${line}`,
    );
  });
  return lines.length > 0 ? lines : ['  there are no pods; kubectl -n demo describe deployments tells more'];
}

export interface Reach {
  readonly url: string;
  /** Why it is not the load balancer's address; undefined when it is. */
  readonly instead?: string;
}

/** Where the front is reached from the machine: by the load balancer's address, else by the node port. */
export async function addressOf(client: Client, name: string): Promise<Reach> {
  const named = { 'metadata.name': name };
  const warnings = { 'involvedObject.kind': 'Service', 'involvedObject.name': name, type: 'Warning' };
  const over = new AbortController();
  const why =
    (await Promise.race([
      until(client, resources.services, named, (service) => (given(service) ? '' : undefined), over.signal),
      until(client, resources.events, warnings, ({ message }) => message, over.signal),
    ])) ?? 'nothing says why';
  over.abort();
  const service = await client.resource(resources.services, NAMESPACE).get(name);
  // Also when the warning came first: it may be of a time that is over.
  const url = given(service);
  if (url !== undefined) return { url };
  const nodePort = service.spec.ports?.[0]?.nodePort;
  const { items: nodes } = await client.resource(resources.nodes).list();
  const node = nodes[0]?.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
  if (nodePort === undefined || node === undefined)
    throw new CommandError(`service ${name} has got no address: ${why}`);
  return { url: hostUrl(node, nodePort), instead: why };
}

function given({ spec, status }: Service): string | undefined {
  const ip = status?.loadBalancer?.ingress?.[0]?.ip;
  return ip === undefined ? undefined : hostUrl(ip, spec.ports?.[0]?.port ?? 80);
}

function hostUrl(address: string, port: number): string {
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}/`;
}
