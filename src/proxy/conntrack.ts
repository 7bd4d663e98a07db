// UDP flows outlive what they led to: as long as a client goes on sending, the kernel sends its packets where the
// first one went, to an endpoint that is no more, or past a Service that had no endpoint then. Such entries of the
// connection table are removed, with conntrack(8). TCP connections end by themselves and are left alone (KEP-5343).

import type { Clock, Family, Logger } from '../component/index.ts';
import { HostError, type HostOperations } from '../host/index.ts';
import { addressOf } from './backends.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { DatagramPort, ServiceProgram } from './program.ts';
import { TimeSlice } from './time-slice.ts';

export interface ConntrackOptions {
  readonly host: HostOperations;
  readonly networkNamespace: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: ProxyMetrics;
  /** All UDP ports of all services. */
  ports(): Iterable<DatagramPort>;
}

export interface Flow {
  readonly destination: string;
  readonly port: number;
  /** Where answers come from: the endpoint. */
  readonly replySource: string;
}

const LONGEST_LIST = 256 << 20;
const CHUNK = 128 * 1024;

/** One line of `conntrack -L -o extended`. */
export function parseFlow(line: string): Flow | undefined {
  const match = line.match(/ dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+) /);
  const destination = addressOf(match?.[1]);
  const replySource = addressOf(match?.[3]);
  if (!match || destination === undefined || replySource === undefined) return undefined;
  return { destination, port: Number(match[2]), replySource };
}

/** Whether a change of a service can have left flows that lead nowhere. */
export function leavesStaleFlows(
  before: ServiceProgram | undefined,
  after: ServiceProgram | undefined,
): boolean {
  if (!after) return false;
  return after.datagrams.some((port) => {
    if (port.serving.length === 0) return false;
    const old = before?.datagrams.find(
      ({ family, port: number }) => family === port.family && number === port.port,
    );
    if (!old || old.serving.length === 0 || old.nodePort !== port.nodePort) return true;
    const serving = new Set(port.serving);
    const addresses = new Set(old.addresses);
    return (
      !old.serving.every((address) => serving.has(address)) || !port.addresses.every((a) => addresses.has(a))
    );
  });
}

/** What a flow has to lead to, by its destination. Ports without a serving endpoint leave flows as they are. */
export class FlowJudge {
  readonly #frontends = new Map<string, ReadonlySet<string>>();
  readonly #nodePorts = new Map<number, ReadonlySet<string>>();

  constructor(ports: Iterable<DatagramPort>, family: Family) {
    for (const port of ports) {
      if (port.family !== family || port.serving.length === 0) continue;
      const serving = new Set(port.serving);
      for (const address of port.addresses) this.#frontends.set(`${address} ${port.port}`, serving);
      if (port.nodePort !== 0) this.#nodePorts.set(port.nodePort, serving);
    }
  }

  get idle(): boolean {
    return this.#frontends.size === 0 && this.#nodePorts.size === 0;
  }

  /** `ours` tells of a destination whether it is an address of this node. */
  isStale({ destination, port, replySource }: Flow, ours: (address: string) => boolean): boolean {
    const serving = this.#frontends.get(`${destination} ${port}`);
    if (serving) return !serving.has(replySource);
    const atNodePort = this.#nodePorts.get(port);
    // Flows from this node's pods to the same port number elsewhere are none of ours.
    return atNodePort !== undefined && !atNodePort.has(replySource) && ours(destination);
  }
}

export class ConntrackCleaner {
  readonly #options: ConntrackOptions;
  #asked = false;
  #running: Promise<void> | undefined;
  #stopped = false;
  #missing = false;

  constructor(options: ConntrackOptions) {
    this.#options = options;
  }

  /** Looks through the table soon, once for all who ask meanwhile. */
  request(): void {
    this.#asked = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, metrics, logger } = this.#options;
    // Those who ask in the same turn are served together.
    await null;
    while (this.#asked && !this.#stopped && !this.#missing) {
      this.#asked = false;
      const begun = clock.monotonic();
      try {
        for (const family of [4, 6] as const) await this.#clean(family);
      } catch (error) {
        if (error instanceof HostError && error.code === 'ENOENT') {
          this.#missing = true;
          logger.error(
            { err: error },
            'UDP flows to endpoints that are gone cannot be ended without conntrack(8); on Debian: apt-get install conntrack',
          );
          return;
        }
        logger.error({ err: error }, 'UDP flows to endpoints that are gone could not be ended');
      }
      metrics.conntrack.observe((clock.monotonic() - begun) / 1000);
    }
  }

  async #clean(family: Family): Promise<void> {
    const judge = new FlowJudge(this.#options.ports(), family);
    if (judge.idle) return;
    const list = await this.#program([
      'conntrack',
      '-L',
      '-f',
      `ipv${family}`,
      '-p',
      'udp',
      '-o',
      'extended',
    ]);
    const stale = await this.#judge(list, judge);
    if (stale.length === 0) return;
    const commands = stale.map(
      ({ destination, port, replySource }) =>
        `-D -f ipv${family} -p udp --orig-dst ${destination} --orig-port-dst ${port} --reply-src ${replySource}\n`,
    );
    await this.#program(['conntrack', '-R', '-'], commands.join(''));
    this.#options.metrics.conntrackDeleted.value += stale.length;
    this.#options.logger.debug({ flows: stale }, 'UDP flows to endpoints that are gone were ended');
  }

  /** The stale flows, each kind once: clients of one frontend that were sent to one endpoint go together. */
  async #judge(list: Buffer, judge: FlowJudge): Promise<Flow[]> {
    const slice = new TimeSlice(this.#options.clock);
    let own: ReadonlySet<string> | undefined;
    const candidates = new Map<string, Flow>();
    for (let at = 0; at < list.length; ) {
      const end = at + CHUNK < list.length ? list.lastIndexOf(10, at + CHUNK) + 1 : list.length;
      const next = end > at ? end : list.length;
      for (const line of list.toString('latin1', at, next).split('\n')) {
        const flow = parseFlow(line);
        if (flow && judge.isStale(flow, () => true))
          candidates.set(`${flow.destination} ${flow.port} ${flow.replySource}`, flow);
      }
      at = next;
      if (slice.over) await slice.pause();
    }
    if (candidates.size > 0) own = await this.#ownAddresses();
    return [...candidates.values()].filter((flow) =>
      judge.isStale(flow, (address) => own?.has(address) === true),
    );
  }

  async #ownAddresses(): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    const links: unknown = JSON.parse((await this.#program(['ip', '-j', 'address', 'show'])).toString());
    for (const link of Array.isArray(links) ? links : []) {
      const { addr_info: infos } = link as { readonly addr_info?: readonly { readonly local?: string }[] };
      for (const { local } of infos ?? []) {
        const address = addressOf(local);
        if (address !== undefined) found.add(address);
      }
    }
    return found;
  }

  async #program(command: readonly string[], input?: string): Promise<Buffer> {
    const { host, networkNamespace } = this.#options;
    return host.check(command, {
      limit: LONGEST_LIST,
      ...(networkNamespace ? { networkNamespace } : {}),
      ...(input ? { input } : {}),
    });
  }
}
