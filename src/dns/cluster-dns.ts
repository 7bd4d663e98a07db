// The cluster's name server, put together: informers fill the zone, listeners take queries, the forwarder asks
// upstreams for what is not the cluster's. It holds no state beyond caches: a restart loses nothing, and while the API
// server is away it goes on answering from what it knows.

import { type Client, resources } from '../client/index.ts';
import {
  type Clock,
  type Logger,
  type Running,
  type StartOptions,
  silentLogger,
  systemClock,
} from '../component/index.ts';
import { Forwarder } from './forward/forwarder.ts';
import { LoopGuard } from './forward/loop-guard.ts';
import { followResolvConf } from './forward/resolv-conf.ts';
import { parseUpstream, type UpstreamAddress } from './forward/upstream.ts';
import { type UpstreamPolicy, UpstreamSet } from './forward/upstream-set.ts';
import { parseRange } from './message/address.ts';
import { isWithin, lowerCase, parseName, ROOT, type WireName } from './message/name.ts';
import { DnsMetrics } from './metrics.ts';
import { serveHttp } from './server/http-server.ts';
import { type PacketReceiver, Responder } from './server/responder.ts';
import { listenTcp } from './server/tcp-listener.ts';
import { listenUdp } from './server/udp-listener.ts';
import { ClusterZone } from './zone/cluster-zone.ts';

/** kubeadm's Corefile. */
const DEFAULT_TTL = 30;
const DEFAULT_SERVICE = { namespace: 'kube-system', name: 'kube-dns' };
/** Tries to find a port that is free over both UDP and TCP. */
const PORT_ATTEMPTS = 20;

export interface ListenAddress {
  /** One of the machine's addresses; answers to a wildcard may leave from another address than was asked. */
  readonly address: string;
  /** 0: one that is free over UDP and TCP. */
  readonly port: number;
}

export interface ClusterDnsOptions extends StartOptions {
  /** May read services, endpointslices and namespaces. */
  readonly client: Client;
  /** For logs: which node this is. */
  readonly nodeName: string;
  /** Over UDP and TCP each. */
  readonly listen: readonly ListenAddress[];
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** Seconds; 30 when absent, as in kubeadm's clusters. */
  readonly ttl?: number;
  /** The ranges of cluster and pod addresses: their reverse names are asked of no upstream. */
  readonly reverseRanges?: readonly string[];
  /** The Service that leads here. */
  readonly service?: { readonly namespace: string; readonly name: string };
  /** Resolvers for all other names: `9.9.9.9`, `[2620:fe::fe]:5353`. They go before those of `resolvConf`. */
  readonly upstreams?: readonly string[];
  /** Path of a resolv.conf whose name servers are upstreams, read again when it changes; not read when absent. */
  readonly resolvConf?: string;
  /** Which upstream is asked first; `random` as in CoreDNS when absent. */
  readonly policy?: UpstreamPolicy;
  /** Domains with resolvers of their own. */
  readonly stubDomains?: Readonly<Record<string, readonly string[]>>;
  /** Where /metrics, /health and /ready are served; nowhere when absent. */
  readonly http?: ListenAddress;
  /** Uniform in [0, 1): which upstream comes first. */
  readonly random?: () => number;
}

export interface ClusterDns extends Running {
  /** Where queries are taken, in the order of `listen`, with the ports that were chosen. */
  readonly addresses: readonly ListenAddress[];
  /** Where metrics are served, with the port that was chosen. */
  readonly http: ListenAddress | undefined;
  /** The page that /metrics serves. */
  metrics(): string;
}

/**
 * Resolves when the addresses are bound; `ready` when the zone is known, before which names of the cluster get
 * SERVFAIL. Rejects with the system's error for an address that cannot be had, with RangeError or NameError for
 * options that make no sense.
 */
export async function startClusterDns(options: ClusterDnsOptions): Promise<ClusterDns> {
  const { client } = options;
  const clock = options.clock ?? systemClock;
  const logger = (options.logger ?? silentLogger).child({ component: 'dns', node: options.nodeName });
  const zoneName = zoneOf(options.clusterDomain);
  const stubs = parseStubs(options.stubDomains ?? {}, zoneName);
  const fixed = (options.upstreams ?? []).map(parseUpstream);
  const reverseRanges = (options.reverseRanges ?? []).map(parseRange);
  const metrics = new DnsMetrics();

  await using stack = new AsyncDisposableStack();
  // The zone and the forwarder know where the server listens, so listeners come first; they are told of no packet
  // before this function gives up control again.
  let responder: Responder | undefined;
  const takes = {
    receive: (...packet: Parameters<Responder['receive']>) => responder?.receive(...packet) ?? false,
  };
  const addresses: ListenAddress[] = [];
  for (const wanted of options.listen) {
    const listening = await listen(wanted, takes, { clock, logger, metrics });
    stack.use(listening);
    addresses.push({ address: wanted.address, port: listening.port });
  }

  const loops = stack.use(new LoopGuard({ clock, logger, own: addresses }));
  const makeSet = (): UpstreamSet =>
    stack.use(
      new UpstreamSet({
        clock,
        logger,
        metrics,
        random: options.random ?? Math.random,
        policy: options.policy ?? 'random',
        wentDown: (set, upstream) => void loops.checkOne(set, upstream),
      }),
    );
  const rest = makeSet();
  const byDomain = new Map<WireName, UpstreamSet>([[ROOT, rest]]);
  const zone = new ClusterZone({
    zone: zoneName,
    ttl: options.ttl ?? DEFAULT_TTL,
    service: options.service ?? DEFAULT_SERVICE,
    ownAddresses: addresses.map(({ address }) => address),
    reverseRanges,
    now: () => clock.now(),
  });
  const forwarder = new Forwarder({
    clock,
    logger,
    metrics,
    upstreamsFor: (name) => nearest(byDomain, name),
  });
  metrics.cacheEntries = () => forwarder.entries;
  responder = new Responder({ clock, logger, zone, forwarder, loops });

  const use = (set: UpstreamSet, upstreams: readonly UpstreamAddress[]): void => {
    if (!set.replace(upstreams)) return;
    forwarder.clear();
    void loops.check(set);
  };
  for (const [domain, upstreams] of stubs) {
    const set = makeSet();
    byDomain.set(domain, set);
    use(set, upstreams);
  }
  if (options.resolvConf === undefined) {
    use(rest, fixed);
    if (fixed.length === 0) warnOfNone(logger);
  } else {
    const follower = await followResolvConf({
      path: options.resolvConf,
      logger,
      changed: (found) => {
        const upstreams = [...fixed, ...found];
        use(rest, upstreams);
        if (upstreams.length === 0) warnOfNone(logger);
        else
          logger.info(
            { upstreams: rest.upstreams.map(({ label }) => label) },
            'upstream resolvers are known',
          );
      },
    });
    stack.use(follower);
  }
  const http =
    options.http &&
    stack.use(
      await serveHttp({ ...options.http, metrics: () => metrics.toString(), ready: () => zone.synced }),
    );

  const services = stack.use(client.informers.informer(resources.services));
  const slices = stack.use(client.informers.informer(resources.endpointSlices));
  const namespaces = stack.use(client.informers.metadata(resources.namespaces));
  services.addHandler(zone.services);
  slices.addHandler(zone.slices);
  namespaces.addHandler(zone.namespaces);
  const ready = Promise.all([services.synced, slices.synced, namespaces.synced]).then(() => {
    zone.synced = true;
    logger.info({ addresses, zone: options.clusterDomain }, 'the cluster’s names are served');
  });
  // Whoever needs it awaits it; nobody awaiting it is no error either.
  ready.catch(() => {});

  const owned = stack.move();
  return {
    addresses,
    http: http && { address: http.address, port: http.port },
    ready,
    metrics: () => metrics.toString(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Listening extends AsyncDisposable {
  readonly port: number;
}

/** Binds UDP and TCP to the same port. */
async function listen(
  { address, port }: ListenAddress,
  responder: PacketReceiver,
  {
    clock,
    logger,
    metrics,
  }: { readonly clock: Clock; readonly logger: Logger; readonly metrics: DnsMetrics },
): Promise<Listening> {
  const family = address.includes(':') ? '2' : '1';
  const server = (bound: number): string =>
    family === '2' ? `dns://[${address}]:${bound}` : `dns://${address}:${bound}`;
  for (let attempt = 1; ; attempt++) {
    await using stack = new AsyncDisposableStack();
    const udp = stack.use(
      await listenUdp({
        address,
        port,
        responder,
        logger,
        metrics: (bound) => metrics.listener(server(bound), 'udp', family),
      }),
    );
    try {
      stack.use(
        await listenTcp({
          address,
          port: udp.port,
          responder,
          clock,
          logger,
          metrics: (bound) => metrics.listener(server(bound), 'tcp', family),
        }),
      );
    } catch (error) {
      const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
      if (port === 0 && taken && attempt < PORT_ATTEMPTS) continue;
      throw error;
    }
    const owned = stack.move();
    return { port: udp.port, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }
}

function zoneOf(clusterDomain: string): WireName {
  const zone = lowerCase(parseName(clusterDomain));
  // The longest own name is ns.dns below it and the mailbox of its SOA.
  if (zone === ROOT || zone.length > 200)
    throw new RangeError(`the cluster domain "${clusterDomain}" must be a domain of at most 200 bytes`);
  return zone;
}

function parseStubs(
  stubs: Readonly<Record<string, readonly string[]>>,
  zone: WireName,
): [WireName, UpstreamAddress[]][] {
  return Object.entries(stubs).map(([domain, upstreams]) => {
    const name = lowerCase(parseName(domain));
    if (isWithin(name, zone))
      throw new RangeError(
        `the stub domain "${domain}" lies in the cluster's own domain, whose names are known here`,
      );
    if (upstreams.length === 0) throw new RangeError(`the stub domain "${domain}" names no resolvers`);
    return [name, upstreams.map(parseUpstream)];
  });
}

/** The set of the closest domain above the name; the root's when there is none. */
function nearest(sets: ReadonlyMap<WireName, UpstreamSet>, name: WireName): UpstreamSet | undefined {
  if (sets.size > 1)
    for (let at = 0; name.charCodeAt(at) !== 0; at += 1 + name.charCodeAt(at)) {
      const set = sets.get(name.slice(at) as WireName);
      if (set !== undefined) return set;
    }
  return sets.get(ROOT);
}

function warnOfNone(logger: Logger): void {
  logger.warn(
    {},
    'no upstream resolver is known: names outside the cluster get SERVFAIL until resolv.conf names one',
  );
}
