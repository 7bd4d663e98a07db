// pods/exec, pods/attach and pods/portforward: the client's connection is joined to the kubelet's server, which
// speaks SPDY/3.1 and the WebSocket protocols (v4 and v5.channel.k8s.io, SPDY/3.1+portforward.k8s.io) itself.

import { badRequest } from '../../api/index.ts';
import { forbiddenRequest } from '../authorization/forbidden-message.ts';
import type {
  Authorizer,
  HandlerContext,
  ObjectReader,
  StreamingResource,
  StreamingUpgrade,
} from '../chain.ts';
import { backendError, type Kubelets } from './kubelets.ts';
import { segment } from './logs.ts';
import { containerOf, flag, podOf } from './pods.ts';
import type { Backends } from './relay.ts';
import { proxyUpgrade } from './upgrade.ts';

interface StreamingOptions {
  readonly reader: ObjectReader;
  readonly kubelets: Kubelets;
  readonly backends: Backends;
  readonly authorizer: Authorizer;
}

/** The names that kubelets know the streams by. */
const STREAMS: readonly (readonly [ours: string, kubelets: string])[] = [
  ['stdin', 'input'],
  ['stdout', 'output'],
  ['stderr', 'error'],
  ['tty', 'tty'],
];

function streamParameters(query: URLSearchParams): URLSearchParams {
  const parameters = new URLSearchParams();
  for (const [ours, theirs] of STREAMS) if (flag(query, ours)) parameters.set(theirs, '1');
  for (const command of query.getAll('command')) parameters.append('command', command);
  return parameters;
}

/** Whoever may only read must not get a shell because browsers open WebSockets with GET. */
async function mayCreate(
  authorizer: Authorizer,
  context: HandlerContext,
  upgrade: StreamingUpgrade,
): Promise<void> {
  if (upgrade.method !== 'GET') return;
  const attributes = {
    user: context.user,
    verb: 'create',
    resourceRequest: true,
    path: upgrade.url.split('?')[0] ?? '',
    group: context.resource.group,
    version: context.resource.version,
    resource: context.resource.resource,
    subresource: context.subresource,
    namespace: context.namespace,
    name: context.name,
  };
  const { decision, reason } = await authorizer.authorize(attributes);
  if (decision !== 'allow') throw forbiddenRequest(attributes, reason);
}

type Target = (context: HandlerContext, container: (asked: string) => string) => string;

const TARGETS: Readonly<Record<string, Target>> = {
  exec: ({ namespace, name, query }, container) =>
    `/exec/${segment(namespace)}/${segment(name)}/${segment(container(query.get('container') ?? ''))}?${streamParameters(query)}`,
  attach: ({ namespace, name, query }, container) => {
    const parameters = streamParameters(query);
    parameters.delete('command');
    return `/attach/${segment(namespace)}/${segment(name)}/${segment(container(query.get('container') ?? ''))}?${parameters}`;
  },
  portforward: ({ namespace, name, query }) => {
    const ports = query.getAll('ports').flatMap((list) => list.split(','));
    if (!ports.every((port) => /^[0-9]{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535))
      throw badRequest(
        `the ports to forward must be numbers from 1 to 65535, not ${JSON.stringify(ports.join(','))}`,
      );
    const parameters = new URLSearchParams(ports.length > 0 ? { port: ports.join(',') } : {});
    return `/portForward/${segment(namespace)}/${segment(name)}?${parameters}`;
  },
};

export function podStreams({
  reader,
  kubelets,
  backends,
  authorizer,
}: StreamingOptions): readonly StreamingResource[] {
  return Object.entries(TARGETS).map(([subresource, target]) => ({
    group: '',
    resource: 'pods',
    subresource,
    methods: new Set(['GET', 'POST']),
    async upgrade(context, upgrade) {
      await mayCreate(authorizer, context, upgrade);
      const pod = await podOf(reader, context);
      const path = target(context, (asked) => containerOf(pod, asked));
      const nodeName = pod.spec.nodeName ?? '';
      if (nodeName === '') throw badRequest(`pod ${context.name} does not have a host assigned`);
      await proxyUpgrade(backends, upgrade, {
        backend: kubelets.backend(nodeName),
        method: upgrade.method,
        path,
        signal: context.signal,
        unreachable: (problem) => backendError(`error dialing backend: ${problem}`),
      });
    },
  }));
}
