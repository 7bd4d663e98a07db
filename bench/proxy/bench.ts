// The service proxy: what a connection through a Service costs beside one between the same pods on a plain bridge
// without us; what 10,000 services of five endpoints change in that; and how fast changes reach the kernel then.
//
// Everything happens in network namespaces of this benchmark's own. TCP throughput is iperf3's; round trips and
// connections are made by load.c. Rounds take turns, and medians are printed. Needs root and a C compiler.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Service } from '../../src/api/types/core-v1.ts';
import type { EndpointSlice } from '../../src/api/types/discovery-v1.ts';
import { createClient, resources } from '../../src/client/index.ts';
import { eventually } from '../../src/client/testing/eventually.ts';
import { FakeApi } from '../../src/client/testing/fake-api.ts';
import type { HostOperations } from '../../src/host/index.ts';
import { type ServiceProxy, startServiceProxy } from '../../src/proxy/index.ts';
import { type Machine, startTestNetwork, type TestNetwork } from '../../src/proxy/testing/network.ts';
import { skipPackets } from '../../src/proxy/testing/world.ts';

const ROUNDS = 7;
const MANY = 10_000;
const ENDPOINTS = 5;
const PINGS = 20_000;
const CONNECTIONS = 3000;
const IPERF_SECONDS = 2;
const ECHO = 7000;
const IPERF = 5201;
const SERVICE_IP = '10.112.0.1';
const TABLE = 'bench_services';

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Runs a program in a namespace until the answer is disposed. */
async function background(
  network: TestNetwork,
  netns: string,
  command: readonly string[],
  port: number,
): Promise<AsyncDisposable> {
  const controller = new AbortController();
  const ended = network.host
    .run(command, { networkNamespace: netns, signal: controller.signal })
    .then(undefined, () => undefined);
  await eventually(`${command[0]} listens`, async () =>
    (await network.run(netns, ['ss', '-Hlnt'])).includes(`:${port} `),
  );
  return {
    async [Symbol.asyncDispose]() {
      controller.abort();
      await ended;
    },
  };
}

async function servers(network: TestNetwork, load: string, netns: string): Promise<AsyncDisposable> {
  const stack = new AsyncDisposableStack();
  stack.use(await background(network, netns, [load, 'serve', String(ECHO)], ECHO));
  stack.use(await background(network, netns, ['iperf3', '-s', '-p', String(IPERF)], IPERF));
  return stack;
}

/** A client that has a server behind an address: the same for a service and for the plain bridge. */
class Path {
  readonly throughput: number[] = [];
  readonly ping: number[] = [];
  readonly connect: number[] = [];
  readonly #network: TestNetwork;
  readonly #load: string;
  readonly #netns: string;
  readonly #address: string;

  constructor(network: TestNetwork, load: string, netns: string, address: string) {
    this.#network = network;
    this.#load = load;
    this.#netns = netns;
    this.#address = address;
  }

  async #timed(what: string, count: number): Promise<number> {
    const command = [this.#load, what, this.#address, String(ECHO), String(count)];
    const [p50 = ''] = (await this.#network.run(this.#netns, command)).split(' ');
    return Number(p50) / 1000;
  }

  async measureTransfer(): Promise<void> {
    const command = ['iperf3', '-c', this.#address, '-p', String(IPERF), '-t', String(IPERF_SECONDS), '-J'];
    const answer = JSON.parse(await this.#network.run(this.#netns, command)) as {
      readonly end: { readonly sum_received: { readonly bits_per_second: number } };
    };
    this.throughput.push(answer.end.sum_received.bits_per_second / 1e9);
  }

  async measurePing(): Promise<void> {
    this.ping.push(await this.#timed('ping', PINGS));
  }

  async measureConnect(): Promise<void> {
    this.connect.push(await this.#timed('connect', CONNECTIONS));
  }
}

interface Plain {
  /** Over the bridge, as a switch has it. */
  readonly switched: Path;
  /** By way of the node, as the pod network has it and services need it. */
  readonly routed: Path;
}

/** Pods on a bridge, and nothing else: no rule, no connection tracking. */
async function plainBridge(stack: AsyncDisposableStack, load: string): Promise<Plain> {
  const network = stack.use(await startTestNetwork());
  const pair = async (switched: boolean): Promise<Path> => {
    const [server, client] = [await network.pod(), await network.pod()];
    if (switched)
      for (const { netns } of [server, client])
        await network.run(netns, ['ip', 'route', 'add', '10.244.0.0/24', 'dev', 'eth0', 'scope', 'link']);
    stack.use(await servers(network, load, server.netns));
    return new Path(network, load, client.netns, server.ips[0]);
  };
  return { switched: await pair(true), routed: await pair(false) };
}

function service(index: number): Service {
  const ip = `10.${112 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
  return {
    metadata: { name: `s${index}`, namespace: 'default' },
    spec: {
      clusterIP: ip,
      clusterIPs: [ip],
      ports: [
        { name: 'echo', port: ECHO, protocol: 'TCP' },
        ...(index === 1 ? [{ name: 'iperf', port: IPERF, protocol: 'TCP' as const }] : []),
      ],
    },
  } as Service;
}

function slice(index: number, addresses: readonly string[]): EndpointSlice {
  const name = `s${index}`;
  return {
    metadata: { name: `${name}-a`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [
      { name: 'echo', port: ECHO, protocol: 'TCP' },
      { name: 'iperf', port: IPERF, protocol: 'TCP' },
    ],
    endpoints: addresses.map((address) => ({ addresses: [address], nodeName: 'n1' })),
  } as unknown as EndpointSlice;
}

interface Node {
  readonly network: TestNetwork;
  readonly api: FakeApi;
  readonly client: ReturnType<typeof createClient>;
  readonly path: Path;
  /** When the last transaction ended. */
  readonly committed: { at: number };
  start(): Promise<ServiceProxy>;
}

async function nodeWith(stack: AsyncDisposableStack, load: string, services: number): Promise<Node> {
  const network = stack.use(await startTestNetwork());
  const pods: readonly Machine[] = [await network.pod(), await network.pod()];
  const [server, asking] = pods;
  stack.use(await servers(network, load, server!.netns));
  const api = new FakeApi();
  const client = stack.use(createClient(api));
  const [serviceApi, sliceApi] = [
    client.resource(resources.services, 'default'),
    client.resource(resources.endpointSlices, 'default'),
  ];
  for (let i = 1; i <= services; i++) {
    await serviceApi.create(service(i));
    const others = Array.from({ length: ENDPOINTS }, (_, n) => `10.245.${i & 255}.${n + 1}`);
    await sliceApi.create(slice(i, i === 1 ? [server!.ips[0]] : others));
  }
  // Held here, so that starting the proxy does not read it all anew.
  for (const type of [resources.services, resources.endpointSlices] as const)
    await stack.use(client.informers.informer<never>(type as never)).synced;
  const committed = { at: 0 };
  const host: Partial<HostOperations> = {
    async run(command, options) {
      const result = await network.host.run(command, options);
      committed.at = performance.now();
      return result;
    },
    check: (command, options) => network.host.check(command, options),
    watchTableChanges: (name, changed, options) => network.host.watchTableChanges(name, changed, options),
  };
  return {
    network,
    api,
    client,
    committed,
    path: new Path(network, load, asking!.netns, SERVICE_IP),
    start: () =>
      startServiceProxy({
        client,
        nodeName: 'n1',
        host: host as HostOperations,
        table: TABLE,
        podCidrs: network.podCidrs,
        serviceCidrs: ['10.112.0.0/15'],
        networkNamespace: network.netns,
      }),
  };
}

/**
 * The longest stretch, in ms, for which the event loop did one thing: as processor time of its thread, since on a
 * busy machine the thread waits for its turn too.
 */
function watchEventLoop(): () => number {
  const used = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = used();
  let longest = 0;
  let watching = true;
  const tick = (): void => {
    const now = used();
    longest = Math.max(longest, now - last);
    last = now;
    if (watching) setImmediate(tick);
  };
  setImmediate(tick);
  return () => {
    watching = false;
    return longest;
  };
}

const figure = (value: number, digits = 1): string => value.toFixed(digits);
const spread = (values: readonly number[]): string =>
  `${figure(Math.min(...values))}–${figure(Math.max(...values))}`;

function compare(
  what: string,
  unit: string,
  of: (path: Path) => readonly number[],
  service: Path,
  plain: Plain,
  more: boolean,
): void {
  const ours = of(service);
  // Round by round: what else the machine does changes slowly, and hits both.
  const ratio = (other: readonly number[]): string =>
    `${figure(100 * median(ours.map((value, i) => (more ? value / other[i]! : other[i]! / value))))} %`;
  const shown = (values: readonly number[]): string =>
    `${figure(median(values))} ${unit} (${spread(values)})`;
  console.log(`pod → service, ${what}: ${shown(ours)}`);
  console.log(
    `  plain bridge by way of the node  ${shown(of(plain.routed))}: ratio ${ratio(of(plain.routed))}  [≥ 95 %]`,
  );
  console.log(
    `  plain bridge as a switch         ${shown(of(plain.switched))}: ratio ${ratio(of(plain.switched))}`,
  );
}

async function traffic(load: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const plain = await plainBridge(stack, load);
  const node = await nodeWith(stack, load, 1);
  stack.use(await node.start());
  const paths = [node.path, plain.routed, plain.switched];
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < paths.length; i++) {
      const path = paths[(i + round) % paths.length]!;
      await path.measureTransfer();
      await path.measurePing();
    }
  }
  compare('TCP throughput', 'Gbit/s', ({ throughput }) => throughput, node.path, plain, true);
  compare('round trip', 'µs', ({ ping }) => ping, node.path, plain, false);
}

async function scale(load: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const few = await nodeWith(stack, load, 1);
  const many = await nodeWith(stack, load, MANY);
  stack.use(await few.start());

  const longest = watchEventLoop();
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const begun = performance.now();
    const proxy = await many.start();
    times.push(performance.now() - begun);
    await proxy[Symbol.asyncDispose]();
  }
  const blocked = longest();
  stack.use(await many.start());
  console.log(
    `full sync of ${MANY} services × ${ENDPOINTS}       ${figure(median(times), 0)} ms (${spread(times)})  [≤ 3000 ms]; the event loop did one thing for ${figure(blocked)} ms at most  [≤ 20 ms]`,
  );

  for (let round = 0; round < ROUNDS; round++) {
    for (const node of round % 2 === 0 ? [few, many] : [many, few]) {
      await node.network.run(node.network.netns, ['conntrack', '-F']);
      await node.path.measureConnect();
    }
  }
  const [one, all] = [median(few.path.connect), median(many.path.connect)];
  console.log(
    `connection set-up, ${MANY} services      ${figure(all)} µs (${spread(many.path.connect)})  1 service ${figure(one)} µs (${spread(few.path.connect)})  ratio ${figure(all / one, 2)}  [≤ 1.1]`,
  );

  const slices = many.client.resource(resources.endpointSlices, 'default');
  const replaced: number[] = [];
  const removed: number[] = [];
  for (let round = 0; round < 2 * ROUNDS; round++) {
    const index = 100 + round * 37;
    const found = await slices.get(`s${index}-a`);
    const endpoints = found.endpoints ?? [];
    const changed =
      round % 2 === 0
        ? [{ ...endpoints[0]!, addresses: [`10.246.0.${round + 1}`] }, ...endpoints.slice(1)]
        : endpoints.slice(1);
    // A lone change: the burst before it is over.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    many.committed.at = 0;
    const begun = performance.now();
    await slices.update({ ...found, endpoints: changed });
    await eventually('the change is committed', () => many.committed.at > 0);
    (round % 2 === 0 ? replaced : removed).push(many.committed.at - begun);
  }
  for (const [what, values] of [
    ['replaced', replaced],
    ['removed', removed],
  ] as const)
    console.log(
      `one endpoint ${what}, ${MANY} services ${figure(median(values))} ms (${spread(values)})  [≤ 50 ms]`,
    );
}

export async function run(): Promise<void> {
  if (skipPackets !== false) {
    console.log(`the benchmark of the service proxy was not run: it ${skipPackets}`);
    return;
  }
  const load = join(process.env['TMPDIR'] ?? '/tmp', `bulkhead-bench-load-${process.pid}`);
  const source = fileURLToPath(new URL('load.c', import.meta.url));
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-o', load, source]);
  try {
    console.log(`medians of ${ROUNDS} rounds (least–most)`);
    await traffic(load);
    await scale(load);
  } finally {
    execFileSync('rm', ['-f', load]);
  }
}
