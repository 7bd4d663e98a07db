// Gives Services of type LoadBalancer their addresses: asks the load balancers for them, writes them into the status,
// and lets a Service go only when what it had is given back. Services with a loadBalancerClass are somebody else's.
// Follows upstream's service controller (cloud-provider/controllers/service).

import { isNotFound } from '../api/index.ts';
import type { LoadBalancerStatus, Node, Service } from '../api/types/core-v1.ts';
import {
  type Client,
  createEventRecorder,
  ExponentialFailureLimiter,
  keyOf,
  referenceTo,
  resources,
  startController,
} from '../client/index.ts';
import { type Clock, type Running, type StartOptions, silentLogger } from '../component/index.ts';
import { LoadBalancerRefused, type LoadBalancers } from './load-balancers.ts';

export interface ServiceControllerOptions extends StartOptions {
  readonly client: Client;
  readonly loadBalancers: LoadBalancers;
}

const FINALIZER = 'service.kubernetes.io/load-balancer-cleanup';
const EXCLUDED = 'node.kubernetes.io/exclude-from-external-load-balancers';
const TO_BE_DELETED = 'ToBeDeletedByClusterAutoscaler';
/** Upstream's (minRetryDelay, maxRetryDelay). */
const RETRY_MS = { first: 5_000, longest: 300_000 };

export function startServiceController(options: ServiceControllerOptions): Running {
  const { client, loadBalancers } = options;
  const clock: Clock = options.clock ?? client.clock;
  const logger = (options.logger ?? silentLogger).child({ component: 'service-controller' });
  const recorder = createEventRecorder({ client, component: 'service-controller', clock, logger });
  const services = client.informers.informer(resources.services);
  const nodes = client.informers.informer(resources.nodes);
  /** Failures that an event was made for, so that retries of one do not tell it again and again. */
  const failing = new Map<string, string>();
  const about = (service: Service) => referenceTo(resources.services, service);
  const ready = Promise.all([services.synced, nodes.synced]).then(() => {
    // Before the first decision: what an earlier process gave away must not be given twice.
    for (const service of services.lister.values()) if (wanted(service)) loadBalancers.adopt(service);
  });
  ready.catch(() => {});

  const controller = startController({
    name: 'service-lb-controller',
    clock,
    logger,
    ready,
    rateLimiter: new ExponentialFailureLimiter<string>(RETRY_MS.first, RETRY_MS.longest),
    async reconcile(key) {
      const service = services.lister.get(key);
      if (service === undefined) {
        failing.delete(key);
        return loadBalancers.release(key);
      }
      try {
        if (wanted(service)) await provide(service);
        else await takeBack(service);
        failing.delete(key);
      } catch (error) {
        const message = `Error syncing load balancer: ${error instanceof Error ? error.message : String(error)}`;
        if (failing.get(key) !== message)
          recorder.event(about(service), 'Warning', 'SyncLoadBalancerFailed', message);
        failing.set(key, message);
        if (error instanceof LoadBalancerRefused && service.status?.loadBalancer?.ingress !== undefined)
          await writeStatus(service, {});
        throw error;
      }
    },
  });

  async function provide(service: Service): Promise<void> {
    const settled = hasFinalizer(service) && service.status?.loadBalancer?.ingress !== undefined;
    if (!settled && !failing.has(keyOf(service)))
      recorder.event(about(service), 'Normal', 'EnsuringLoadBalancer', 'Ensuring load balancer');
    // The finalizer first: what is given must not be forgotten because the Service went meanwhile.
    const kept = hasFinalizer(service)
      ? service
      : await setFinalizers(service, [...finalizersOf(service), FINALIZER]);
    if (kept === undefined) return;
    const status = await loadBalancers.ensure(kept, [...nodes.lister.values()].filter(balances));
    const changed = !sameIngress(kept.status?.loadBalancer, status);
    if (changed) await writeStatus(kept, status);
    if (!settled || changed)
      recorder.event(about(service), 'Normal', 'EnsuredLoadBalancer', 'Ensured load balancer');
  }

  async function takeBack(service: Service): Promise<void> {
    const had = service.status?.loadBalancer?.ingress !== undefined;
    if (!hasFinalizer(service)) return;
    recorder.event(about(service), 'Normal', 'DeletingLoadBalancer', 'Deleting load balancer');
    const left = had ? await writeStatus(service, {}) : service;
    await loadBalancers.release(keyOf(service));
    if (left === undefined) return;
    await setFinalizers(
      left,
      finalizersOf(left).filter((name) => name !== FINALIZER),
    );
    recorder.event(about(service), 'Normal', 'DeletedLoadBalancer', 'Deleted load balancer');
  }

  /** Only from this version, so that another writer's finalizer is never lost; undefined when the Service is gone. */
  async function setFinalizers(
    service: Service,
    finalizers: readonly string[],
  ): Promise<Service | undefined> {
    return patch(service, { metadata: { finalizers, resourceVersion: service.metadata.resourceVersion } });
  }

  async function writeStatus(
    service: Service,
    loadBalancer: LoadBalancerStatus,
  ): Promise<Service | undefined> {
    const ingress = loadBalancer.ingress ?? null;
    return patch(service, { status: { loadBalancer: { ingress } } }, 'status');
  }

  async function patch(
    service: Service,
    change: unknown,
    subresource?: string,
  ): Promise<Service | undefined> {
    const { namespace, name } = service.metadata;
    const body = { type: 'merge', patch: change } as const;
    try {
      return await client
        .resource(resources.services, namespace)
        .patch(name, body, subresource === undefined ? {} : { subresource });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  const look = (service: Service): void => controller.queue.add(keyOf(service));
  services.addHandler({
    added: look,
    updated: look,
    deleted: look,
  });
  const lookAtAll = (): void => {
    for (const service of services.lister.values()) if (wanted(service)) look(service);
  };
  loadBalancers.onRelease(() => {
    for (const key of failing.keys()) {
      controller.queue.forget(key);
      controller.queue.add(key);
    }
  });
  nodes.addHandler({
    added: lookAtAll,
    updated(node, old) {
      const addresses = (of: Node): string => JSON.stringify(of.status?.addresses);
      if (balances(node) !== balances(old) || addresses(node) !== addresses(old)) lookAtAll();
    },
    deleted: lookAtAll,
  });

  return {
    ready: controller.ready,
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await Promise.all([services, nodes, recorder].map((part) => part[Symbol.asyncDispose]()));
    },
  };
}

function wanted({ metadata, spec }: Service): boolean {
  return (
    metadata.deletionTimestamp === undefined &&
    spec?.type === 'LoadBalancer' &&
    spec.loadBalancerClass === undefined
  );
}

/** Readiness is not asked for: addresses that come and go with it break more than they mend (KEP-3458). */
function balances({ metadata, spec }: Node): boolean {
  return (
    metadata.deletionTimestamp === undefined &&
    metadata.labels?.[EXCLUDED] === undefined &&
    !spec?.taints?.some(({ key }) => key === TO_BE_DELETED)
  );
}

const finalizersOf = ({ metadata }: Service): readonly string[] => metadata.finalizers ?? [];
const hasFinalizer = (service: Service): boolean => finalizersOf(service).includes(FINALIZER);

function sameIngress(a: LoadBalancerStatus | undefined, b: LoadBalancerStatus): boolean {
  const text = (status: LoadBalancerStatus | undefined): string =>
    JSON.stringify((status?.ingress ?? []).map(({ ip, hostname, ipMode }) => [ip, hostname, ipMode]));
  return text(a) === text(b);
}
