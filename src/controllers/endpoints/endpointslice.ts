// Keeps the EndpointSlices of Services with selectors: the addresses behind each, and whether they are ready.

import {
  controllerReference,
  isAlreadyExists,
  isNamespaceTerminating,
  isNotFound,
  isPodReady,
} from '../../api/index.ts';
import type { Node, Pod, Service } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointHints, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { createEventRecorder, keyOf, referenceTo, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { messageOf } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import {
  type AddressFamily,
  addressOf,
  familiesOf,
  hasBackends,
  hostnameOf,
  isHeadless,
  mayServe,
  portsOf,
} from './backends.ts';
import { followServices, selectedPods } from './service-queue.ts';
import { type PortGroup, planSlices, portsKey } from './slice-plan.ts';
import { LAST_CHANGE, TriggerTimes } from './trigger-times.ts';

const SERVICE_NAME = 'kubernetes.io/service-name';
const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
const OURSELVES = 'endpointslice-controller.k8s.io';
const HEADLESS = 'service.kubernetes.io/headless';
/** Labels that slices do not take over from their Service. */
const RESERVED = new Set([SERVICE_NAME, MANAGED_BY, HEADLESS]);
const ZONE = 'topology.kubernetes.io/zone';

/** What we wrote and the cache must show before we decide anything on it: slice uid → generation. */
type Written = Map<string, number>;

export function startEndpointSliceController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const services = client.informers.informer(resources.services);
  const pods = client.informers.informer(resources.pods);
  const nodes = client.informers.informer(resources.nodes);
  const slices = client.informers.informer(resources.endpointSlices);
  const slicesByService = slices.index(serviceOf);
  const recorder = createEventRecorder({ client, component: 'endpoint-slice-controller', clock, logger });
  const written = new Map<string, Written>();
  const triggers = new TriggerTimes();
  const ready = allSynced(services, pods, nodes, slices);
  const controller = startController({
    name: 'endpointslice-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;
  followServices(services, pods, (key) => queue.add(key));
  const sliceChanged = (slice: EndpointSlice): void => {
    const [key] = serviceOf(slice);
    if (key !== undefined) queue.add(key);
  };
  slices.addHandler({
    added: sliceChanged,
    updated: sliceChanged,
    deleted(slice) {
      const [key] = serviceOf(slice);
      if (key === undefined) return;
      written.get(key)?.delete(slice.metadata.uid);
      queue.add(key);
    },
  });
  nodes.addHandler({
    // Zones may change, and pods of a node that was not known were left out.
    added: (node) => enqueuePodsOf(node),
    updated(node, old) {
      if (node.metadata.labels?.[ZONE] !== old.metadata.labels?.[ZONE]) enqueuePodsOf(node);
    },
  });
  function enqueuePodsOf(node: Node): void {
    if (!nodes.hasSynced) return;
    for (const service of services.lister.values())
      if (hasBackends(service))
        for (const pod of selectedPods(service, pods.lister.values(service.metadata.namespace)))
          if (pod.spec.nodeName === node.metadata.name) {
            queue.add(keyOf(service));
            break;
          }
  }

  async function reconcile(key: string): Promise<void> {
    const service = services.lister.get(key);
    if (!service) {
      // The slices are owned by the Service: they go with it.
      written.delete(key);
      triggers.forget(key);
      return;
    }
    if (!hasBackends(service)) return;
    const existing = slicesByService
      .list(key)
      .filter((slice) => slice.metadata.deletionTimestamp === undefined);
    // The event that brings the cache up to date brings us back.
    if (isStale(written.get(key), existing)) return;
    const families = familiesOf(service);
    const backends = selectedPods(service, pods.lister.values(service.metadata.namespace));
    const trigger = triggers.lastChange(key, service, backends);
    try {
      for (const family of families)
        await reconcileFamily(
          key,
          service,
          family,
          existing.filter((slice) => slice.addressType === family),
          trigger,
        );
      for (const slice of existing)
        if (!families.some((family) => family === slice.addressType)) await remove(key, slice);
    } catch (error) {
      if (isNamespaceTerminating(error)) return;
      recorder.event(
        referenceTo(resources.services, service),
        'Warning',
        'FailedToUpdateEndpointSlices',
        `Error updating Endpoint Slices for Service ${key}: ${messageOf(error)}`,
      );
      throw error;
    }
  }

  async function reconcileFamily(
    key: string,
    service: Service,
    family: AddressFamily,
    existing: readonly EndpointSlice[],
    trigger: string | undefined,
  ): Promise<void> {
    const plan = planSlices(existing, groupByPorts(service, family));
    const api = client.resource(resources.endpointSlices, service.metadata.namespace);
    const labels = labelsFor(service);
    const known = written.get(key) ?? new Map<string, number>();
    written.set(key, known);
    const note = (slice: EndpointSlice): void => {
      // Already in the cache when the transport is in process.
      const cached = slices.lister.get(keyOf(slice));
      if (cached?.metadata.uid === slice.metadata.uid && generationOf(cached) >= generationOf(slice)) return;
      known.set(slice.metadata.uid, generationOf(slice));
    };
    for (const { ports, endpoints } of plan.create) {
      try {
        note(
          await api.create({
            metadata: {
              generateName: `${service.metadata.name}-`,
              labels,
              ...(trigger === undefined ? {} : { annotations: { [LAST_CHANGE]: trigger } }),
              ownerReferences: [controllerReference(service, { apiVersion: 'v1', kind: 'Service' })],
            },
            addressType: family,
            endpoints,
            ports,
          }),
        );
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
      }
    }
    const updates = new Map(plan.update.map(({ slice, endpoints }) => [slice, endpoints]));
    for (const slice of existing)
      if (!updates.has(slice) && !plan.delete.includes(slice) && !sameValue(slice.metadata.labels, labels))
        updates.set(slice, slice.endpoints ?? []);
    for (const [slice, endpoints] of updates) {
      const { [LAST_CHANGE]: _, ...others } = slice.metadata.annotations ?? {};
      const annotations = trigger === undefined ? others : { ...others, [LAST_CHANGE]: trigger };
      note(await api.update({ ...slice, metadata: { ...slice.metadata, labels, annotations }, endpoints }));
    }
    for (const slice of plan.delete) await remove(key, slice);
  }

  async function remove(key: string, slice: EndpointSlice): Promise<void> {
    const { namespace, name, uid } = slice.metadata;
    written.get(key)?.delete(uid);
    try {
      await client.resource(resources.endpointSlices, namespace).delete(name, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  function groupByPorts(service: Service, family: AddressFamily): Iterable<PortGroup> {
    const groups = new Map<string, PortGroup>();
    const headlessWithoutPorts = isHeadless(service) && !service.spec?.ports?.length;
    for (const pod of selectedPods(service, pods.lister.values(service.metadata.namespace))) {
      if (!mayServe(pod, true)) continue;
      const address = addressOf(pod, family);
      if (address === undefined) continue;
      const node = pod.spec.nodeName ? nodes.lister.get(pod.spec.nodeName) : undefined;
      if (!node && !service.spec?.publishNotReadyAddresses) continue;
      const ports = portsOf(service, pod);
      if (ports.length === 0 && !headlessWithoutPorts) continue;
      const key = portsKey(ports);
      const group = groups.get(key) ?? { ports, endpoints: [] };
      groups.set(key, group);
      group.endpoints.push(endpointOf(service, pod, node, address));
    }
    return groups.values();
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([services, pods, nodes, slices, recorder, controller]),
  };
}

function endpointOf(service: Service, pod: Pod, node: Node | undefined, address: string): Endpoint {
  const serving = isPodReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const ready = service.spec?.publishNotReadyAddresses === true || (serving && !terminating);
  const { namespace, name, uid } = pod.metadata;
  const zone = node?.metadata.labels?.[ZONE];
  const hostname = hostnameOf(pod, service);
  const hints = hintsFor(service, zone, pod.spec.nodeName);
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    targetRef: { kind: 'Pod', ...(namespace === undefined ? {} : { namespace }), name, uid },
    ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    ...(zone === undefined ? {} : { zone }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(hints && ready ? { hints } : {}),
  };
}

/** Where traffic for this endpoint should come from (spec.trafficDistribution, KEP-4444 and KEP-3015). */
function hintsFor(
  service: Service,
  zone: string | undefined,
  node: string | undefined,
): EndpointHints | undefined {
  const forZones = zone === undefined ? undefined : [{ name: zone }];
  switch (service.spec?.trafficDistribution) {
    case 'PreferClose':
    case 'PreferSameZone':
      return forZones && { forZones };
    case 'PreferSameNode':
      return node === undefined
        ? forZones && { forZones }
        : { ...(forZones ? { forZones } : {}), forNodes: [{ name: node }] };
    default:
      return undefined;
  }
}

function labelsFor(service: Service): Record<string, string> {
  const own = Object.entries(service.metadata.labels ?? {}).filter(([key]) => !RESERVED.has(key));
  return {
    ...Object.fromEntries(own),
    [SERVICE_NAME]: service.metadata.name,
    [MANAGED_BY]: OURSELVES,
    ...(isHeadless(service) ? { [HEADLESS]: '' } : {}),
  };
}

/** The key of the Service whose slice of ours it is. */
function serviceOf(slice: EndpointSlice): readonly string[] {
  const labels = slice.metadata.labels ?? {};
  const name = labels[SERVICE_NAME];
  return name !== undefined && labels[MANAGED_BY] === OURSELVES
    ? [`${slice.metadata.namespace}/${name}`]
    : [];
}

function generationOf(slice: EndpointSlice): number {
  return slice.metadata.generation ?? 0;
}

function isStale(written: Written | undefined, cached: readonly EndpointSlice[]): boolean {
  if (!written) return false;
  for (const [uid, generation] of written) {
    const slice = cached.find((one) => one.metadata.uid === uid);
    if (!slice || generationOf(slice) < generation) return true;
    written.delete(uid);
  }
  return false;
}
