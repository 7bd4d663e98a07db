// Keeps the EndpointSlices of Services with selectors: the addresses behind each, whether they are ready, and where
// traffic for them should come from.

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
import { byNode } from '../pods/indexes.ts';
import { messageOf } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import {
  type AddressFamily,
  addressOf,
  type BackendPort,
  familiesOf,
  hasBackends,
  hostnameOf,
  mayServe,
  portsOf,
} from './backends.ts';
import { HEADLESS, MANAGED_BY, SERVICE_NAME, serviceOfManaged } from './labels.ts';
import { followServices } from './service-queue.ts';
import { type PortGroup, planSlices, portsKey, type SlicePlan } from './slice-plan.ts';
import { SliceTracker } from './slice-tracker.ts';
import {
  capacityChanged,
  disabledEvent,
  type HintEvent,
  TopologyHints,
  wantsTopologyHints,
} from './topology-hints.ts';
import { LAST_CHANGE, TriggerTimes } from './trigger-times.ts';

const OURSELVES = 'endpointslice-controller.k8s.io';
/** Labels that slices do not take over from their Service. */
const RESERVED = new Set([SERVICE_NAME, MANAGED_BY, HEADLESS]);
const ZONE = 'topology.kubernetes.io/zone';
/** No Service has this key: the spread of CPUs over the zones is to be looked at. */
const NODES = '';

const ourService = (slice: EndpointSlice): readonly string[] => serviceOfManaged(slice, OURSELVES);

export function startEndpointSliceController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const services = client.informers.informer(resources.services);
  const pods = client.informers.informer(resources.pods);
  const nodes = client.informers.informer(resources.nodes);
  const slices = client.informers.informer(resources.endpointSlices);
  const slicesByService = slices.index(ourService);
  const podsByNode = pods.index(byNode);
  const recorder = createEventRecorder({ client, component: 'endpoint-slice-controller', clock, logger });
  const tracker = new SliceTracker((slice) => slices.lister.get(keyOf(slice)));
  const triggers = new TriggerTimes();
  const topology = new TopologyHints();
  const ready = allSynced(services, pods, nodes, slices).then(() => topology.setNodes(nodes.lister.values()));
  // Stopping before that is no failure of whoever does not wait for it.
  ready.catch(() => {});
  const controller = startController({
    name: 'endpointslice-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;
  /** Services of which something else than their slices has changed. */
  const changed = new Set<string>();
  const enqueue = (key: string): void => {
    changed.add(key);
    queue.add(key);
  };
  const backends = followServices(services, pods, enqueue);
  const memory = new EndpointMemory();
  tracker.follow(slices, ourService, (key) => queue.add(key));
  nodes.addHandler({
    // Zones may change, and pods of a node that was not known were left out.
    added(node) {
      enqueuePodsOf(node);
      queue.add(NODES);
    },
    updated(node, old) {
      if (node.metadata.labels?.[ZONE] !== old.metadata.labels?.[ZONE]) enqueuePodsOf(node);
      if (capacityChanged(node, old)) queue.add(NODES);
    },
    deleted: () => queue.add(NODES),
  });
  function enqueuePodsOf(node: Node): void {
    if (!nodes.hasSynced) return;
    for (const pod of podsByNode.get(node.metadata.name))
      for (const service of backends.servicesOf(pod)) enqueue(keyOf(service));
  }

  async function reconcile(key: string): Promise<void> {
    if (key === NODES) {
      topology.setNodes(nodes.lister.values());
      for (const service of topology.overloaded()) enqueue(service);
      return;
    }
    const service = services.lister.get(key);
    if (!service) {
      // The slices are owned by the Service: they go with it.
      tracker.forget(key);
      triggers.forget(key);
      topology.forgetService(key);
      changed.delete(key);
      return;
    }
    if (!hasBackends(service)) {
      changed.delete(key);
      return;
    }
    const existing = slicesByService
      .list(key)
      .filter((slice) => slice.metadata.deletionTimestamp === undefined);
    // The event that brings the cache up to date brings us back.
    if (tracker.isStale(key, existing)) return;
    if (!changed.delete(key) && tracker.isSettled(key, existing)) return;
    tracker.begin(key, existing);
    const families = familiesOf(service);
    const selected = backends.podsOf(service);
    const trigger = triggers.lastChange(key, service, selected);
    const missing = new Set<string>();
    try {
      for (const family of families)
        await reconcileFamily(
          key,
          service,
          family,
          selected,
          existing.filter((slice) => slice.addressType === family),
          trigger,
          missing,
        );
      for (const slice of existing)
        if (!families.some((family) => family === slice.addressType)) {
          topology.forget(key, slice.addressType === 'IPv6' ? 'IPv6' : 'IPv4');
          await remove(key, slice);
        }
    } catch (error) {
      if (isNamespaceTerminating(error)) return;
      changed.add(key);
      report(service, messageOf(error));
      throw error;
    }
    // The node's coming brings us back.
    if (missing.size > 0) report(service, [...missing].join(', '));
  }

  function report(service: Service, problem: string): void {
    recorder.event(
      referenceTo(resources.services, service),
      'Warning',
      'FailedToUpdateEndpointSlices',
      `Error updating Endpoint Slices for Service ${keyOf(service)}: ${problem}`,
    );
  }

  async function reconcileFamily(
    key: string,
    service: Service,
    family: AddressFamily,
    selected: readonly Pod[],
    existing: readonly EndpointSlice[],
    trigger: string | undefined,
    missing: Set<string>,
  ): Promise<void> {
    // Those of an earlier Service of the same name are the garbage collector's, and go at once.
    const { uid } = service.metadata;
    const own = existing.filter(({ metadata }) =>
      metadata.ownerReferences?.some((owner) => owner.uid === uid),
    );
    const groups = groupByPorts(service, family, selected, missing);
    const byTopology = wantsTopologyHints(service);
    const plan = planSlices(own, groups, { ignoreHints: byTopology });
    const events = hint(key, family, own, plan, byTopology);
    const labels = labelsFor(service);
    for (const slice of own)
      if (!isIn(plan, slice) && !sameValue(slice.metadata.labels, labels))
        plan.update.push({ slice, ports: slice.ports ?? [], endpoints: slice.endpoints ?? [] });
    await carryOut(key, service, family, plan, labels, trigger);
    for (const slice of existing) if (!own.includes(slice)) await remove(key, slice);
    for (const { type, reason, message } of events)
      recorder.event(referenceTo(resources.services, service), type, reason, message);
  }

  function hint(
    key: string,
    family: AddressFamily,
    own: readonly EndpointSlice[],
    plan: SlicePlan,
    byTopology: boolean,
  ): readonly HintEvent[] {
    if (byTopology) {
      const unchanged = own.filter((slice) => !isIn(plan, slice));
      return topology.apply(key, family, plan, unchanged);
    }
    return topology.forget(key, family) ? [disabledEvent(family)] : [];
  }

  async function carryOut(
    key: string,
    service: Service,
    family: AddressFamily,
    plan: SlicePlan,
    labels: Record<string, string>,
    trigger: string | undefined,
  ): Promise<void> {
    const api = client.resource(resources.endpointSlices, service.metadata.namespace);
    // A Service on its way out gets no new ones: the garbage collector would chase them.
    for (const { ports, endpoints } of service.metadata.deletionTimestamp === undefined ? plan.create : []) {
      try {
        tracker.wrote(
          key,
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
    for (const { slice, ports, endpoints } of plan.update) {
      const { [LAST_CHANGE]: _, ...others } = slice.metadata.annotations ?? {};
      const annotations = trigger === undefined ? others : { ...others, [LAST_CHANGE]: trigger };
      tracker.wrote(
        key,
        await api.update({
          ...slice,
          metadata: { ...slice.metadata, labels, annotations },
          ports,
          endpoints,
        }),
      );
    }
    for (const slice of plan.delete) await remove(key, slice);
  }

  async function remove(key: string, slice: EndpointSlice): Promise<void> {
    const { namespace, name, uid } = slice.metadata;
    tracker.removes(key, slice);
    try {
      await client.resource(resources.endpointSlices, namespace).delete(name, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  function groupByPorts(
    service: Service,
    family: AddressFamily,
    selected: readonly Pod[],
    missing: Set<string>,
  ): Iterable<PortGroup> {
    const groups = new Map<string, PortGroup>();
    const known = memory.of(service, family);
    // Only named ports differ from pod to pod.
    const isFixed = (service.spec?.ports ?? []).every(({ targetPort }) => typeof targetPort !== 'string');
    let fixed: Ports | undefined;
    for (const pod of selected) {
      if (!mayServe(pod, true)) continue;
      const node = pod.spec.nodeName ? nodes.lister.get(pod.spec.nodeName) : undefined;
      if (!node && !service.spec?.publishNotReadyAddresses) {
        missing.add(
          `skipping Pod ${pod.metadata.name} for Service ${keyOf(service)}: Node ${pod.spec.nodeName ?? ''} Not Found`,
        );
        continue;
      }
      const zone = node?.metadata.labels?.[ZONE] || undefined;
      let one = known.get(pod);
      if (one === undefined || one.endpoint.zone !== zone) {
        const address = addressOf(pod, family);
        if (address === undefined) continue;
        if (isFixed) fixed ??= one?.ports ?? keyed(portsOf(service, pod));
        one = {
          endpoint: endpointOf(service, pod, zone, address),
          ports: fixed ?? keyed(portsOf(service, pod)),
        };
        known.set(pod, one);
      }
      const group = groups.get(one.ports.key);
      if (group) group.endpoints.push(one.endpoint);
      else groups.set(one.ports.key, { ports: one.ports.ports, endpoints: [one.endpoint] });
    }
    return groups.values();
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([services, pods, nodes, slices, recorder, controller]),
  };
}

function isIn(plan: SlicePlan, slice: EndpointSlice): boolean {
  return plan.update.some((one) => one.slice === slice) || plan.delete.includes(slice);
}

interface Ports {
  readonly key: string;
  readonly ports: readonly BackendPort[];
}

function keyed(ports: readonly BackendPort[]): Ports {
  return { key: portsKey(ports), ports };
}

interface KnownEndpoint {
  readonly endpoint: Endpoint;
  readonly ports: Ports;
}

/** Endpoints as they were made of one version of a Service and a pod: of thousands few change at a time. */
class EndpointMemory {
  readonly #known = new WeakMap<Service, Map<AddressFamily, WeakMap<Pod, KnownEndpoint>>>();

  of(service: Service, family: AddressFamily): WeakMap<Pod, KnownEndpoint> {
    let families = this.#known.get(service);
    if (families === undefined) {
      families = new Map();
      this.#known.set(service, families);
    }
    let pods = families.get(family);
    if (pods === undefined) {
      pods = new WeakMap();
      families.set(family, pods);
    }
    return pods;
  }
}

function endpointOf(service: Service, pod: Pod, zone: string | undefined, address: string): Endpoint {
  const serving = isPodReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const ready = service.spec?.publishNotReadyAddresses === true || (serving && !terminating);
  const { namespace, name, uid } = pod.metadata;
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
  // The annotation goes before the field.
  if (wantsTopologyHints(service)) return undefined;
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
  const { clusterIP = '' } = service.spec ?? {};
  return {
    ...Object.fromEntries(own),
    [SERVICE_NAME]: service.metadata.name,
    [MANAGED_BY]: OURSELVES,
    ...(clusterIP === '' || clusterIP === 'None' ? { [HEADLESS]: '' } : {}),
  };
}
