// The API server put together: store → watch cache → chain → registry → HTTP. Everything it needs comes in as an
// option; everything it starts ends when it is disposed of.

import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { createCatalog } from '../api/catalog.ts';
import type { ResourceCatalog } from '../api/definition.ts';
import type { Transport } from '../api/transport.ts';
import { type Running, type StartOptions, silentLogger, systemClock } from '../component/index.ts';
import type { Store } from '../store/store.ts';
import type { EventRingLimits } from './cache/event-ring.ts';
import { storageForm } from './cache/stored-object.ts';
import { WatchCache } from './cache/watch-cache.ts';
import type { ChainFactory, ObjectReader, UserInfo } from './chain.ts';
import { startCompaction } from './compaction.ts';
import { defaultVersion, type VersionInfo } from './discovery/version.ts';
import { Dispatcher } from './dispatcher.ts';
import type { HealthCheck } from './health.ts';
import { type Front, openFront } from './http/front.ts';
import { RequestHandler } from './http/handler.ts';
import { InFlight } from './http/in-flight.ts';
import { Paths } from './http/paths.ts';
import { UpgradeRequestHandler } from './http/upgrade.ts';
import { Watches } from './http/watches.ts';
import { inProcessTransport } from './in-process.ts';
import { Metrics } from './metrics.ts';
import { objectReader } from './reader.ts';
import { admissionByOperation, type RegistryContext } from './registry/context.ts';
import { ObjectStore } from './registry/object-store.ts';
import { seed } from './registry/seed.ts';

export interface ApiServerLimits {
  /** Of one request's body. */
  readonly maxBodyBytes: number;
  /** A request that takes longer is answered with 504; watches and streams are not meant. */
  readonly requestTimeoutMs: number;
  /** Requests under way at the same time; more are answered with 429. */
  readonly maxReadOnlyInFlight: number;
  readonly maxMutatingInFlight: number;
  /** What is under way at the end may take this much longer. */
  readonly drainMs: number;
}

export const defaultLimits: ApiServerLimits = {
  maxBodyBytes: 3 * 1024 * 1024,
  requestTimeoutMs: 60_000,
  maxReadOnlyInFlight: 400,
  maxMutatingInFlight: 200,
  drainMs: 10_000,
};

export interface ApiServerOptions extends StartOptions {
  /** Belongs to the caller and must outlive the server. */
  readonly store: Store;
  /** All built-in resources when absent. */
  readonly catalog?: ResourceCatalog;
  /** Authentication, authorization, admission and all that is not plain storage. */
  readonly chain: ChainFactory;
  /** Where to listen with TLS; absent: the server is reached in process only. */
  readonly listen?: {
    readonly host: string;
    /** 0: any free port. */
    readonly port: number;
    /** PEM. */
    readonly certificate: string;
    readonly key: string;
    /** PEM; who shows a certificate that it signed is authenticated by it. */
    readonly clientCa?: string;
  };
  /** The URL under which others reach the server; made from the listening address when absent. */
  readonly advertiseUrl?: string;
  readonly version?: VersionInfo;
  readonly limits?: Partial<ApiServerLimits>;
  /** How often the store's history is cut down to the last two intervals, in ms; 0: never. Five minutes when absent. */
  readonly compactionIntervalMs?: number;
  /** How much of the past watchers can be told; for tests. */
  readonly watchHistory?: EventRingLimits;
  /** New uids; random version-4 UUIDs when absent. */
  readonly newUid?: () => string;
  /** Uniform in [0, 1), for generated names and timeouts. */
  readonly random?: () => number;
}

export interface ApiServer extends Running {
  /** Undefined when it does not listen. */
  readonly address: AddressInfo | undefined;
  /** `https://127.0.0.1:6443` */
  readonly url: string;
  readonly reader: ObjectReader;
  /** In process, as this user. */
  transport(user: UserInfo): Transport;
  /** Answers at another address, too, on the same port. Rejects when it does not listen, or cannot there. */
  listenAlso(host: string): Promise<void>;
  /** For connections to come; PEM. */
  replaceCertificate(certificate: string, key: string, clientCa?: string): void;
}

/** Who the server is to itself. */
const ITSELF: UserInfo = {
  name: 'system:apiserver',
  groups: ['system:masters', 'system:authenticated'],
};

/** Resolves when the server answers requests; its `ready` resolves when the objects that every server has are there. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const clock = options.clock ?? systemClock;
  const logger = options.logger ?? silentLogger;
  const catalog = options.catalog ?? createCatalog();
  const limits = { ...defaultLimits, ...options.limits };
  const random = options.random ?? Math.random;
  const version = options.version ?? defaultVersion();

  const cache = new WatchCache({
    store: options.store,
    clock,
    logger,
    ...(options.watchHistory === undefined ? {} : { ring: options.watchHistory }),
  });
  const stop = new AsyncDisposableStack();
  try {
    stop.use(cache);
    await cache.start(
      catalog
        .all()
        .filter(({ verbs }) => verbs.includes('list'))
        .map((definition) => storageForm(definition)),
    );
    const objects = new ObjectStore(options.store, cache, clock);
    const reader = objectReader(objects, catalog, logger);

    let dispatcher: Dispatcher | undefined;
    let paths: Paths | undefined;
    const transport = (user: UserInfo): Transport =>
      inProcessTransport(
        { dispatcher: () => started(dispatcher), paths: () => started(paths), objects, clock },
        user,
      );
    let registry: RegistryContext | undefined;
    let front: Front | undefined;
    const url = (): string => options.advertiseUrl ?? urlOf(front?.address);
    const chain = options.chain({
      reader,
      catalog,
      transport: transport(ITSELF),
      async seed({ group, version, resource }, object) {
        const definition = catalog.byResource(group, version, resource);
        if (definition === undefined)
          throw new Error(`no resource ${resource} is served in ${group}/${version}`);
        return seed(started(registry), definition, object);
      },
      url,
      clock,
      logger,
    });
    stop.use(chain);
    const context: RegistryContext = {
      objects,
      catalog,
      admission: admissionByOperation(chain.admission),
      clock,
      logger,
      newUid: options.newUid ?? randomUUID,
      random,
    };
    registry = context;
    dispatcher = new Dispatcher(context, chain);

    const metrics = new Metrics();
    addGauges(metrics, cache, options.store);
    const inFlight = new InFlight(
      {
        readOnly: limits.maxReadOnlyInFlight,
        mutating: limits.maxMutatingInFlight,
        requestTimeoutMs: limits.requestTimeoutMs,
      },
      clock,
    );
    stop.defer(() => inFlight.stop());
    metrics.addGauge({
      name: 'apiserver_current_inflight_requests',
      help: 'Requests under way by kind.',
      type: 'gauge',
      values: () => [
        { labels: { request_kind: 'mutating' }, value: inFlight.mutating },
        { labels: { request_kind: 'readOnly' }, value: inFlight.readOnly },
      ],
    });
    const state: ServerState = { bootstrapped: false, bootstrapError: undefined, stopping: false };
    paths = new Paths({
      catalog,
      version,
      checks: healthChecks(state, cache, options.store),
      metrics,
      handlers: chain.paths,
      address: () => new URL(url()).host,
      now: () => clock.now(),
      logger,
    });
    const watches = new Watches({ dispatcher, objects, metrics, clock });
    const { authenticator } = chain;
    const handler = new RequestHandler({
      authenticator,
      dispatcher,
      paths,
      watches,
      inFlight,
      metrics,
      clock,
      logger,
      maxBodyBytes: limits.maxBodyBytes,
    });
    const upgrades = new UpgradeRequestHandler({ authenticator, dispatcher, watches, logger });
    if (options.listen !== undefined) {
      const { host, port, certificate, key, clientCa } = options.listen;
      front = await openFront({
        host,
        port,
        certificate,
        key,
        ...(clientCa === undefined ? {} : { clientCa }),
        logger,
        onExchange: handler.handle,
        onUpgrade: upgrades.handle,
      });
    }
    stop.defer(async () => {
      watches.stop();
      handler.stop();
      const closing = front?.close(limits.drainMs);
      await Promise.race([inFlight.drained(), delay(limits.drainMs)]);
      upgrades.stop();
      await closing;
    });
    const compaction = options.compactionIntervalMs ?? 5 * 60_000;
    if (compaction > 0)
      stop.use(startCompaction({ store: options.store, intervalMs: compaction, clock, logger }));

    const abort = new AbortController();
    const ready = chain.bootstrap(abort.signal).then(
      () => {
        state.bootstrapped = true;
      },
      (error: unknown) => {
        state.bootstrapError = error;
        if (!state.stopping) throw error;
      },
    );
    // Whoever awaits `ready` hears of the failure; that nobody does must not end the process.
    ready.catch((error: unknown) =>
      logger.error({ component: 'apiserver', err: error }, 'the server could not make its own objects'),
    );
    stop.defer(async () => {
      state.stopping = true;
      abort.abort();
      await ready.catch(() => {});
    });
    logger.info(
      { component: 'apiserver', url: url(), version: version.gitVersion },
      'the API server answers',
    );
    const running = stop.move();
    return {
      ready,
      address: front?.address,
      get url() {
        return url();
      },
      reader,
      transport,
      async listenAlso(host) {
        if (front === undefined)
          throw new Error('the API server listens nowhere; it was started without `listen`');
        await front.listenAlso(host);
      },
      replaceCertificate: (certificate, key, clientCa) =>
        front?.replaceCertificate(certificate, key, clientCa),
      [Symbol.asyncDispose]: () => running.disposeAsync(),
    };
  } catch (error) {
    await stop.disposeAsync();
    throw error;
  }
}

function started<T>(value: T | undefined): T {
  if (value === undefined)
    throw new Error(
      'the request chain is still being put together; use its transport after its factory returned',
    );
  return value;
}

function urlOf(address: AddressInfo | undefined): string {
  if (address === undefined) return 'https://localhost';
  const { family, address: host, port } = address;
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `https://${family === 'IPv6' && reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

/** In real time, whatever the clock says: it is about connections of other processes. */
async function delay(ms: number): Promise<void> {
  await new Promise<void>((resolve) => systemClock.setTimer(ms, resolve, { unref: true }));
}

interface ServerState {
  bootstrapped: boolean;
  bootstrapError: unknown;
  stopping: boolean;
}

function healthChecks(state: ServerState, cache: WatchCache, store: Store): HealthCheck[] {
  return [
    { name: 'ping', live: true, ready: true, check() {} },
    {
      // Under the name that dashboards and probes know, whatever the engine is.
      name: 'etcd',
      live: true,
      ready: true,
      async check() {
        await store.get('/registry/health');
      },
    },
    {
      name: 'poststarthook/bootstrap',
      live: true,
      ready: true,
      check() {
        if (state.bootstrapError !== undefined) throw state.bootstrapError;
        if (!state.bootstrapped) throw new Error('not finished');
      },
    },
    {
      name: 'informer-sync',
      live: false,
      ready: true,
      check() {
        if (!cache.healthy) throw new Error('the watch cache has lost touch with the store');
      },
    },
    {
      name: 'shutdown',
      live: false,
      ready: true,
      check() {
        if (state.stopping) throw new Error('the server is shutting down');
      },
    },
  ];
}

function addGauges(metrics: Metrics, cache: WatchCache, store: Store): void {
  metrics.addGauge({
    name: 'apiserver_storage_objects',
    help: 'Stored objects by resource.',
    type: 'gauge',
    *values() {
      for (const { form, size } of cache.resources())
        yield {
          labels: { resource: form.group === '' ? form.resource : `${form.resource}.${form.group}` },
          value: size,
        };
    },
  });
  metrics.addGauge({
    name: 'apiserver_watch_cache_resource_version',
    help: 'The revision up to which the watch cache is filled.',
    type: 'gauge',
    values: () => [{ labels: {}, value: cache.revision }],
  });
  metrics.addGauge({
    name: 'apiserver_store_revision',
    help: "The store's newest revision.",
    type: 'gauge',
    values: () => [{ labels: {}, value: store.revision }],
  });
  metrics.addGauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory of the process in bytes.',
    type: 'gauge',
    values: () => [{ labels: {}, value: process.memoryUsage.rss() }],
  });
  metrics.addGauge({
    name: 'process_cpu_seconds_total',
    help: 'User and system time of the process in seconds.',
    type: 'counter',
    values() {
      const { user, system } = process.cpuUsage();
      return [{ labels: {}, value: (user + system) / 1e6 }];
    },
  });
}
