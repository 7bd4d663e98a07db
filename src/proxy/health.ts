// What load balancers and operators ask: for each Service with a health-check node port whether this node has an
// endpoint of it, and of the proxy itself whether its rules are up to date. Both answer as kube-proxy does.

import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Cidr, type Clock, contains, type Logger, parseAddress } from '../component/index.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { HealthCheck } from './program.ts';

/** A change that is not in the rules after this long makes the proxy unhealthy. */
const LATE_MS = 60_000;
/** Set by the cluster autoscaler on nodes that it is about to remove. */
const TO_BE_DELETED = 'ToBeDeletedByClusterAutoscaler';

function listen(server: Server, port: number, address: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, ...(address === undefined ? {} : { host: address }), exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** Whether rules keep up with changes, and whether the node is to get traffic at all. */
export class ProxyHealth {
  readonly #clock: Clock;
  #waitingSince: number | undefined;
  #lastUpdated: number;
  #nodeEligible = true;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastUpdated = clock.now();
  }

  get nodeEligible(): boolean {
    return this.#nodeEligible;
  }

  get healthy(): boolean {
    return this.#waitingSince === undefined || this.#clock.monotonic() - this.#waitingSince < LATE_MS;
  }

  /** Of the last rules; now as long as all is well. */
  get lastUpdated(): number {
    return this.healthy ? this.#clock.now() : this.#lastUpdated;
  }

  queued(): void {
    this.#waitingSince ??= this.#clock.monotonic();
  }

  updated(): void {
    this.#waitingSince = undefined;
    this.#lastUpdated = this.#clock.now();
  }

  sawNode(node: {
    readonly metadata: { readonly deletionTimestamp?: string };
    readonly spec?: { readonly taints?: readonly { readonly key: string }[] };
  }): void {
    this.#nodeEligible =
      node.metadata.deletionTimestamp === undefined &&
      !node.spec?.taints?.some(({ key }) => key === TO_BE_DELETED);
  }
}

const JSON_HEADERS = { 'content-type': 'application/json', 'x-content-type-options': 'nosniff' } as const;

export interface HealthServer extends AsyncDisposable {
  /** Where it listens: 127.0.0.1:10256. */
  readonly address: string;
}

/** /healthz, /livez and /metrics; `bind` is an address and a port, [::1]:10256. */
export async function startHealthServer(
  bind: string,
  health: ProxyHealth,
  metrics: ProxyMetrics,
  clock: Clock,
): Promise<HealthServer> {
  const [, bracketed, plain, port] = bind.match(/^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/) ?? [];
  if (port === undefined) throw new RangeError(`"${bind}" is no address with a port: 127.0.0.1:10256`);
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/metrics') {
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
      response.end(metrics.text());
      return;
    }
    if (path !== '/healthz' && path !== '/livez') {
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' });
      response.end('404 page not found\n');
      return;
    }
    const eligible = path === '/livez' || health.nodeEligible;
    const code = health.healthy && eligible ? 200 : 503;
    metrics[path === '/healthz' ? 'healthz' : 'livez'].add(1, String(code));
    const times = `"lastUpdated": "${new Date(health.lastUpdated).toISOString()}","currentTime": "${new Date(clock.now()).toISOString()}"`;
    response.writeHead(code, JSON_HEADERS);
    response.end(path === '/healthz' ? `{${times}, "nodeEligible": ${health.nodeEligible}}` : `{${times}}`);
  });
  await listen(server, Number(port), bracketed ?? (plain || undefined));
  const { address, port: actual } = server.address() as AddressInfo;
  return {
    address: `${address.includes(':') ? `[${address}]` : address}:${actual}`,
    [Symbol.asyncDispose]: () => close(server),
  };
}

interface Check {
  readonly port: number;
  localEndpoints: number;
  readonly servers: Server[];
  /** Opening and closing go one after the other. */
  settled: Promise<void>;
}

export interface ServiceHealthOptions {
  readonly health: ProxyHealth;
  readonly logger: Logger;
  /** The node's addresses to listen at; every address when empty. */
  readonly nodePortRanges: readonly Cidr[];
  /** A port could not be opened. */
  failed(service: string, port: number, error: unknown): void;
}

/** The servers of health-check node ports, one a Service. */
export class ServiceHealth implements AsyncDisposable {
  readonly #options: ServiceHealthOptions;
  readonly #checks = new Map<string, Check>();
  /** A port that one Service gives back may be another one's at once. */
  #closing: Promise<unknown> = Promise.resolve();

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
  }

  /** Undefined: the Service has no such port (any more). */
  set(service: string, wanted: HealthCheck | undefined): void {
    const known = this.#checks.get(service);
    if (known && known.port === wanted?.port) {
      known.localEndpoints = wanted.localEndpoints;
      return;
    }
    if (known) {
      this.#checks.delete(service);
      this.#closing = Promise.all([this.#closing, this.#close(known)]);
    }
    if (!wanted) return;
    const check: Check = { ...wanted, servers: [], settled: Promise.resolve() };
    this.#checks.set(service, check);
    check.settled = this.#closing.then(() => this.#open(service, check));
  }

  async #open(service: string, check: Check): Promise<void> {
    const answer = this.#answer(service, check);
    try {
      for (const address of this.#addresses()) {
        const server = createServer(answer);
        check.servers.push(server);
        await listen(server, check.port, address);
      }
    } catch (error) {
      if (this.#checks.get(service) === check) this.#checks.delete(service);
      await Promise.all(check.servers.filter(({ listening }) => listening).map(close));
      this.#options.failed(service, check.port, error);
    }
  }

  #addresses(): (string | undefined)[] {
    const { nodePortRanges } = this.#options;
    if (nodePortRanges.length === 0) return [undefined];
    return Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .flatMap(({ address: text }) => {
        const address = parseAddress(text);
        return address && nodePortRanges.some((range) => contains(range, address)) ? [text] : [];
      });
  }

  #answer(service: string, check: Check): RequestListener {
    const [namespace = '', name = ''] = service.split('/');
    return (_request, response) => {
      const { localEndpoints } = check;
      const { healthy } = this.#options.health;
      response.writeHead(localEndpoints > 0 && healthy ? 200 : 503, {
        ...JSON_HEADERS,
        'x-load-balancing-endpoint-weight': String(localEndpoints),
      });
      const body = { service: { namespace, name }, localEndpoints, serviceProxyHealthy: healthy };
      response.end(`${JSON.stringify(body, undefined, '\t')}`);
    };
  }

  async #close(check: Check): Promise<void> {
    await check.settled;
    await Promise.all(check.servers.filter(({ listening }) => listening).map(close));
  }

  /** Resolves when all ports asked for are open, or failed. */
  async settled(): Promise<void> {
    await Promise.all([...this.#checks.values()].map(({ settled }) => settled));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const checks = [...this.#checks.values()];
    this.#checks.clear();
    await Promise.all([this.#closing, ...checks.map((check) => this.#close(check))]);
  }
}
