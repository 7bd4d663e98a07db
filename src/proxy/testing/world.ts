// A test network with a proxy on its node, an API in memory to tell it of services, and machines that ask and answer.

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Service, ServiceSpec, ServiceStatus } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { type Client, createClient, resources } from '../../client/index.ts';
import { eventually, settle } from '../../client/testing/eventually.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { type ServiceProxy, type ServiceProxyOptions, startServiceProxy } from '../index.ts';
import { type Machine, startTestNetwork, type TestNetwork } from './network.ts';
import type { DialOptions, DialResult, HoldOptions, HoldResult } from './peer.ts';

const peer = fileURLToPath(new URL('peer.ts', import.meta.url));

/** Why tests with packets cannot run here; false when they can. */
export const skipPackets: string | false =
  process.platform !== 'linux'
    ? 'needs Linux'
    : process.getuid?.() !== 0
      ? 'needs root'
      : !existsSync('/proc/net/if_inet6')
        ? 'needs IPv6'
        : false;

export const NODE = 'n1';
export const TABLE = 'test_services';
export const SERVICE_CIDRS = ['10.96.0.0/16', 'fd00:96::/112'] as const;

export type TestEndpoint = Partial<Endpoint> & { readonly address: string };

/** Connections that stand. Disposing of them ends them too. */
export interface Held extends AsyncDisposable {
  end(): Promise<HoldResult>;
}

export interface World extends AsyncDisposable {
  readonly network: TestNetwork;
  readonly api: FakeApi;
  readonly client: Client;
  start(options?: Partial<ServiceProxyOptions>): Promise<ServiceProxy>;
  /** A pod, or a machine outside, that answers at these ports by TCP and UDP. */
  server(kind: 'pod' | 'outsider', ...ports: number[]): Promise<Machine>;
  /** Starts answering on a machine that is there, or in the node itself. */
  serve(machine: Pick<Machine, 'name' | 'netns'>, ...ports: number[]): Promise<AsyncDisposable>;
  service(name: string, spec: ServiceSpec, status?: ServiceStatus): Promise<Service>;
  /** Makes these all the endpoints of one slice of the service; its ports are the service's, numbered as given. */
  endpoints(
    service: string,
    slice: string,
    port: number,
    endpoints: readonly TestEndpoint[],
  ): Promise<EndpointSlice>;
  dial(from: string, options: DialOptions): Promise<DialResult>;
  /** Resolves when all connections stand; they are kept busy until they are ended. */
  hold(from: string, options: HoldOptions): Promise<Held>;
  /** Resolves when the rules hold all that the API has. */
  settled(proxy: ServiceProxy): Promise<void>;
}

export async function startWorld(): Promise<World> {
  const network = await startTestNetwork();
  const api = new FakeApi();
  const client = createClient(api);
  const servers: AsyncDisposable[] = [];
  let holds = 0;
  await client.resource(resources.nodes).create({ metadata: { name: NODE }, spec: {} });

  const node = (netns: string, args: readonly string[]): Promise<string> =>
    network.run(netns, [process.execPath, '--no-warnings', peer, ...args]);

  const serve: World['serve'] = async ({ name, netns }, ...ports) => {
    const controller = new AbortController();
    const ended = network.host
      .run([process.execPath, '--no-warnings', peer, 'serve', name, ...ports.map(String)], {
        networkNamespace: netns,
        signal: controller.signal,
      })
      .then(
        ({ stderr }) => new Error(`the server ${name} ended: ${stderr.toString()}`),
        () => undefined,
      );
    let failure: Error | undefined;
    ended.then((error) => {
      failure = error;
    });
    await eventually(
      `${name} answers at ${ports.join(', ')}`,
      async () => {
        if (failure) throw failure;
        const listening = await network.run(netns, ['ss', '-Hlntu']);
        return ports.every((port) => (listening.match(new RegExp(`:${port} `, 'g')) ?? []).length >= 2);
      },
      10_000,
    );
    return {
      async [Symbol.asyncDispose]() {
        controller.abort();
        await ended;
      },
    };
  };

  return {
    network,
    api,
    client,
    serve,
    start: (options = {}) =>
      startServiceProxy({
        client,
        nodeName: NODE,
        host: network.host,
        table: TABLE,
        podCidrs: network.podCidrs,
        serviceCidrs: SERVICE_CIDRS,
        networkNamespace: network.netns,
        ...options,
      }),
    async server(kind, ...ports) {
      const machine = await network[kind]();
      servers.push(await serve(machine, ...ports));
      return machine;
    },
    async service(name, spec, status) {
      const services = client.resource(resources.services, 'default');
      const found = await services.get(name).catch(() => undefined);
      if (!found) return services.create({ metadata: { name }, spec, ...(status ? { status } : {}) });
      const updated = await services.update({ ...found, spec });
      return status ? services.updateStatus({ ...updated, status }) : updated;
    },
    async endpoints(service, slice, port, endpoints) {
      const slices = client.resource(resources.endpointSlices, 'default');
      const { spec } = await client.resource(resources.services, 'default').get(service);
      const content = {
        metadata: { name: slice, labels: { 'kubernetes.io/service-name': service } },
        addressType: endpoints[0]?.address.includes(':') ? ('IPv6' as const) : ('IPv4' as const),
        ports: (spec?.ports ?? []).map(({ name = '', protocol = 'TCP' }) => ({ name, protocol, port })),
        endpoints: endpoints.map(({ address, ...more }) => ({
          addresses: [address],
          nodeName: NODE,
          ...more,
        })),
      };
      const found = await slices.get(slice).catch(() => undefined);
      if (!found) return slices.create(content);
      return slices.update({ ...found, ...content, metadata: { ...found.metadata, ...content.metadata } });
    },
    dial: async (from, options) =>
      JSON.parse(await node(from, ['dial', JSON.stringify(options)])) as DialResult,
    async hold(from, options) {
      const control = join(network.directory, `hold-${++holds}.sock`);
      const server = createServer();
      const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
      await new Promise<void>((resolve) => server.listen(control, resolve));
      const controller = new AbortController();
      const ended = network.host
        .check([process.execPath, '--no-warnings', peer, 'hold', JSON.stringify(options), control], {
          networkNamespace: from,
          signal: controller.signal,
        })
        .then((text) => JSON.parse(text.toString()) as HoldResult)
        .finally(() => server.close());
      const broken = ended.then(({ broken }) => {
        throw new Error(`connections do not stand: ${broken}`);
      });
      broken.catch(() => {});
      try {
        const socket = await Promise.race([connected, broken]);
        await Promise.race([once(socket, 'data'), broken]);
        const end = (): Promise<HoldResult> => {
          socket.destroy();
          return ended;
        };
        return {
          end,
          async [Symbol.asyncDispose]() {
            await end();
          },
        };
      } catch (error) {
        controller.abort();
        throw error;
      }
    },
    async settled(proxy) {
      // Events reach the proxy within a few turns; from then on it counts them.
      await settle();
      await eventually('the rules hold what the API has', () => {
        const pending = proxy.metrics().match(/_changes_pending (\d+)/g) ?? [];
        return pending.every((line) => line.endsWith(' 0'));
      });
    },
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
      await network[Symbol.asyncDispose]();
    },
  };
}
