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
  addressOf,
  type BackendPort,
  familiesOf,
  hasBackends,
  hostnameOf,
  isHeadless,
  mayServe,
  portsOf,
} from './backends.ts';
import { followServices, selectedPods } from './service-queue.ts';
import { LAST_CHANGE, TriggerTimes } from './trigger-times.ts';

const HEADLESS = 'service.kubernetes.io/headless';
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
  followServices(services, pods, (key) => queue.add(key));
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
    const { subsets, truncated } = subsetsOf(service, pods.lister.values(namespace));
    const labels = {
      ...service.metadata.labels,
      [MANAGED_BY]: OURSELVES,
      ...(isHeadless(service) ? { [HEADLESS]: '' } : {}),
    };
    const backends = selectedPods(service, pods.lister.values(namespace));
    const trigger = triggers.lastChange(key, service, backends);
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

/** One subset for each set of ports, addresses in order, so that the same endpoints give the same object. */
export function subsetsOf(
  service: Service,
  candidates: Iterable<Pod>,
): { readonly subsets: Endpoints['subsets']; readonly truncated: boolean } {
  const [family = 'IPv4'] = familiesOf(service);
  const publishAll = service.spec?.publishNotReadyAddresses === true;
  const groups = new Map<
    string,
    { ports: readonly BackendPort[]; ready: EndpointAddress[]; notReady: EndpointAddress[] }
  >();
  const headlessWithoutPorts = isHeadless(service) && !service.spec?.ports?.length;
  let count = 0;
  let truncated = false;
  for (const pod of selectedPods(service, candidates)) {
    const ip = addressOf(pod, family);
    if (ip === undefined || !mayServe(pod, publishAll)) continue;
    const ports = portsOf(service, pod);
    if (ports.length === 0 && !headlessWithoutPorts) continue;
    if (++count > MOST_ADDRESSES) {
      truncated = true;
      break;
    }
    const hostname = hostnameOf(pod, service);
    const { namespace, name, uid } = pod.metadata;
    const address: EndpointAddress = {
      ip,
      ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      targetRef: { kind: 'Pod', ...(namespace === undefined ? {} : { namespace }), name, uid },
      ...(hostname === undefined ? {} : { hostname }),
    };
    const key = JSON.stringify(ports);
    const group = groups.get(key) ?? { ports, ready: [], notReady: [] };
    groups.set(key, group);
    (publishAll || isPodReady(pod) ? group.ready : group.notReady).push(address);
  }
  const byAddress = (a: EndpointAddress, b: EndpointAddress): number =>
    a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0;
  const subsets = [...groups.entries()]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([, { ports, ready, notReady }]): EndpointSubset => ({
        ...(ready.length > 0 ? { addresses: ready.toSorted(byAddress) } : {}),
        ...(notReady.length > 0 ? { notReadyAddresses: notReady.toSorted(byAddress) } : {}),
        ...(ports.length > 0
          ? {
              ports: ports.map(({ name, ...port }) => (name === '' ? { ...port } : { name, ...port })),
            }
          : {}),
      }),
    );
  return { subsets, truncated };
}
