// Keeps the Endpoints of Services with selectors: the older, single object that holds what EndpointSlices say for the
// Service's primary address family. Programs written before slices still read it.

import { isAlreadyExists, isNamespaceTerminating, isNotFound, isPodReady } from '../../api/index.ts';
import type { EndpointAddress, EndpointSubset, Endpoints, Pod, Service } from '../../api/types/core-v1.ts';
import {
  createEventRecorder,
  keyOf,
  referenceTo,
  resources,
  splitKey,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { messageOf } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import {
  type AddressFamily,
  addressOf,
  type BackendPort,
  familiesOf,
  hasBackends,
  hostnameOf,
  isHeadless,
  mayServe,
  portsOf,
} from './backends.ts';
import { HEADLESS } from './labels.ts';
import { followServices } from './service-queue.ts';
import { LAST_CHANGE, TriggerTimes } from './trigger-times.ts';

const MANAGED_BY = 'endpoints.kubernetes.io/managed-by';
const OURSELVES = 'endpoint-controller';
const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity';
const MOST_ADDRESSES = 1000;
const type = resources.endpoints;

export function startEndpointsController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const services = client.informers.informer(resources.services);
  const pods = client.informers.informer(resources.pods);
  const endpoints = client.informers.informer(type);
  const recorder = createEventRecorder({ client, component: 'endpoint-controller', clock, logger });
  const triggers = new TriggerTimes();
  const known = new WeakMap<Service, WeakMap<Pod, KnownBackend>>();
  const ready = allSynced(services, pods, endpoints);
  const controller = startController({
    name: 'endpoints-controller',
    clock,
    logger,
    concurrency: 5,
    ready,
    reconcile,
  });
  const { queue } = controller;
  const backends = followServices(services, pods, (key) => queue.add(key));
  endpoints.addHandler({
    // Left over from a Service that went while nobody looked.
    added(object, { initial }) {
      if (initial && object.metadata.labels?.[MANAGED_BY] === OURSELVES) queue.add(keyOf(object));
    },
    deleted: (object) => queue.add(keyOf(object)),
  });

  async function reconcile(key: string): Promise<void> {
    const service = services.lister.get(key);
    const current = endpoints.lister.get(key);
    const { namespace, name } = splitKey(key);
    const api = client.resource(type, namespace);
    if (!service) {
      triggers.forget(key);
      if (current?.metadata.labels?.[MANAGED_BY] !== OURSELVES) return;
      await api.delete(name, { preconditions: { uid: current.metadata.uid } }).catch((error: unknown) => {
        if (!isNotFound(error)) throw error;
      });
      return;
    }
    if (!hasBackends(service)) return;
    const selected = backends.podsOf(service);
    let seen = known.get(service);
    if (seen === undefined) {
      seen = new WeakMap();
      known.set(service, seen);
    }
    const { subsets, truncated } = subsetsOf(service, selected, seen);
    const labels = {
      ...service.metadata.labels,
      [MANAGED_BY]: OURSELVES,
      ...(isHeadless(service) ? { [HEADLESS]: '' } : {}),
    };
    const trigger = triggers.lastChange(key, service, selected);
    const { [OVER_CAPACITY]: wasTruncated, [LAST_CHANGE]: _, ...kept } = current?.metadata.annotations ?? {};
    if (
      current &&
      sameValue(current.subsets, subsets) &&
      sameValue(current.metadata.labels, labels) &&
      (wasTruncated !== undefined) === truncated
    )
      return;
    const annotations = {
      ...kept,
      ...(truncated ? { [OVER_CAPACITY]: 'truncated' } : {}),
      ...(trigger === undefined ? {} : { [LAST_CHANGE]: trigger }),
    };
    try {
      const metadata = { ...current?.metadata, name, labels, annotations };
      if (current) await api.update({ ...current, metadata: { ...current.metadata, ...metadata }, subsets });
      else await api.create({ metadata, subsets });
    } catch (error) {
      if (isNamespaceTerminating(error) || isAlreadyExists(error)) return;
      const [reason, verb] = current
        ? ['FailedToUpdateEndpoint', 'update']
        : ['FailedToCreateEndpoint', 'create'];
      recorder.event(
        referenceTo(resources.services, service),
        'Warning',
        reason,
        `Failed to ${verb} endpoint ${key}: ${messageOf(error)}`,
      );
      throw error;
    }
  }

  return {
    ready,
    [Symbol.asyncDispose]: () => disposeAll([services, pods, endpoints, recorder, controller]),
  };
}

/**
 * One subset for each set of ports, addresses in order, so that the same endpoints give the same object. `selected`: the
 * pods that the Service selects. `known`: what was found before, of this version of the Service.
 */
export function subsetsOf(
  service: Service,
  selected: Iterable<Pod>,
  known?: WeakMap<Pod, KnownBackend>,
): { readonly subsets: Endpoints['subsets']; readonly truncated: boolean } {
  const [family = 'IPv4'] = familiesOf(service);
  const publishAll = service.spec?.publishNotReadyAddresses === true;
  const groups = new Map<string, Group>();
  const headlessWithoutPorts = isHeadless(service) && !service.spec?.ports?.length;
  for (const pod of selected) {
    if (!mayServe(pod, publishAll)) continue;
    let backend = known?.get(pod);
    if (backend === undefined) {
      backend = backendOf(service, pod, family);
      known?.set(pod, backend);
    }
    const { address, ports, key, ready } = backend;
    if (address === undefined || (ports.length === 0 && !headlessWithoutPorts)) continue;
    const group = groups.get(key) ?? { ports, ready: [], notReady: [] };
    groups.set(key, group);
    (publishAll || ready ? group.ready : group.notReady).push(address);
  }
  const sorted = [...groups.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  for (const group of sorted) {
    group.ready.sort(byAddress);
    group.notReady.sort(byAddress);
  }
  const truncated = truncate(sorted);
  const subsets = sorted.map(
    ({ ports, ready, notReady }): EndpointSubset => ({
      ...(ready.length > 0 ? { addresses: ready } : {}),
      ...(notReady.length > 0 ? { notReadyAddresses: notReady } : {}),
      ...(ports.length > 0
        ? { ports: ports.map(({ name, ...port }) => (name === '' ? { ...port } : { name, ...port })) }
        : {}),
    }),
  );
  return { subsets, truncated };
}

/** One version of a pod, as an address of one version of a Service. */
interface KnownBackend {
  readonly address: EndpointAddress | undefined;
  readonly ports: readonly BackendPort[];
  readonly key: string;
  readonly ready: boolean;
}

function backendOf(service: Service, pod: Pod, family: AddressFamily): KnownBackend {
  const ports = portsOf(service, pod);
  const ready = isPodReady(pod);
  const key = JSON.stringify(ports);
  const ip = addressOf(pod, family);
  if (ip === undefined) return { address: undefined, ports, key, ready };
  const hostname = hostnameOf(pod, service);
  const { namespace, name, uid } = pod.metadata;
  const address = {
    ip,
    ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
    targetRef: { kind: 'Pod', ...(namespace === undefined ? {} : { namespace }), name, uid },
    ...(hostname === undefined ? {} : { hostname }),
  };
  return { address, ports, key, ready };
}

interface Group {
  readonly ports: readonly BackendPort[];
  ready: EndpointAddress[];
  notReady: EndpointAddress[];
}

function byAddress(a: EndpointAddress, b: EndpointAddress): number {
  return a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0;
}

/**
 * At most a thousand addresses: ready ones before others, and of what is cut each subset in proportion to its size.
 * True when something was cut.
 */
function truncate(groups: readonly Group[]): boolean {
  const sum = (field: 'ready' | 'notReady'): number =>
    groups.reduce((total, group) => total + group[field].length, 0);
  const ready = sum('ready');
  const notReady = sum('notReady');
  if (ready + notReady <= MOST_ADDRESSES) return false;
  const field = ready > MOST_ADDRESSES ? 'ready' : 'notReady';
  const room = field === 'ready' ? MOST_ADDRESSES : MOST_ADDRESSES - ready;
  const total = field === 'ready' ? ready : notReady;
  let left = room;
  for (const group of groups) {
    const share = Math.min(left, Math.ceil((group[field].length / total) * room));
    group[field] = group[field].slice(0, share);
    left -= group[field].length;
    if (field === 'ready') group.notReady = [];
  }
  return true;
}
