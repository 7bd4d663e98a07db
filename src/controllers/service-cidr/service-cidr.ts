// Protects ServiceCIDRs: each has a finalizer from the beginning, and one that is deleted stays while addresses of
// Services would be left without a range. The API server's allocators take no more from a range that is on its way
// out; they are given ten seconds to learn of it before the last look counts (KEP-1880).

import { isNotFound, timestamp, timestampMs } from '../../api/index.ts';
import type { Condition } from '../../api/types/meta-v1.ts';
import type { IPAddress, ServiceCIDR } from '../../api/types/networking-v1.ts';
import { createEventRecorder, keyOf, referenceTo, resources, startController } from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { containsAddress, isCovered, overlap } from './ranges.ts';

export const SERVICE_CIDR_FINALIZER = 'networking.k8s.io/service-cidr-finalizer';
const MANAGED_BY = 'ipaddress.kubernetes.io/managed-by';
const ALLOCATOR = 'ipallocator.k8s.io';
const DELETION_GRACE_MS = 10_000;
const type = resources.serviceCidrs;

export function startServiceCidrController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const cidrs = client.informers.informer(type);
  const addresses = client.informers.informer(resources.ipAddresses);
  const recorder = createEventRecorder({ client, component: 'service-cidr-controller', clock, logger });
  const api = client.resource(type);
  const controller = startController({
    name: 'service-cidr-controller',
    clock,
    logger,
    concurrency: 5,
    ready: allSynced(cidrs, addresses),
    reconcile,
  });
  const { queue } = controller;
  const changed = (cidr: ServiceCIDR): void => {
    queue.add(keyOf(cidr));
    // What lies in another range may go, what lay in one that went may not.
    for (const other of cidrs.lister.values()) if (overlap(cidr, other)) queue.add(keyOf(other));
  };
  cidrs.addHandler({ added: changed, updated: (cidr) => queue.add(keyOf(cidr)), deleted: changed });
  const addressChanged = (address: IPAddress): void => {
    if (!isAllocated(address)) return;
    // Only one that is on its way out waits for addresses.
    for (const cidr of cidrs.lister.values())
      if (cidr.metadata.deletionTimestamp !== undefined && containsAddress(cidr, address.metadata.name))
        queue.add(keyOf(cidr));
  };
  addresses.addHandler({ added: addressChanged, deleted: addressChanged });

  async function reconcile(name: string): Promise<{ requeueAfterMs: number } | undefined> {
    const cidr = cidrs.lister.get(name);
    if (cidr === undefined) return undefined;
    if (cidr.metadata.deletionTimestamp !== undefined) return finish(cidr);
    if (!(cidr.metadata.finalizers ?? []).includes(SERVICE_CIDR_FINALIZER))
      await api.patch(name, {
        type: 'strategic',
        patch: { metadata: { finalizers: [SERVICE_CIDR_FINALIZER] } },
      });
    if (readyCondition(cidr)?.status === 'True') return undefined;
    try {
      await setReady(cidr, { status: 'True', reason: '', message: 'Kubernetes Service CIDR is ready' });
    } catch (error) {
      recorder.event(
        referenceTo(type, cidr),
        'Warning',
        'KubernetesServiceCIDRError',
        'The ServiceCIDR Status can not be set to Ready=True',
      );
      throw error;
    }
    return undefined;
  }

  /** Lets it go when nothing needs it any more. */
  async function finish(cidr: ServiceCIDR): Promise<{ requeueAfterMs: number } | undefined> {
    const { name, finalizers = [] } = cidr.metadata;
    if (!finalizers.includes(SERVICE_CIDR_FINALIZER)) return undefined;
    if (isNeeded(cidr)) {
      await setReady(cidr, {
        status: 'False',
        reason: 'Terminating',
        message:
          'There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR',
      });
      return undefined;
    }
    const since = timestampMs(cidr.metadata.deletionTimestamp) ?? 0;
    const left = since + DELETION_GRACE_MS - clock.now();
    if (left > 0) return { requeueAfterMs: left };
    try {
      await api.patch(name, {
        type: 'strategic',
        patch: { metadata: { '$deleteFromPrimitiveList/finalizers': [SERVICE_CIDR_FINALIZER] } },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    return undefined;
  }

  /** Whether an address of a Service would be left without a range. */
  function isNeeded(cidr: ServiceCIDR): boolean {
    const others = cidrs.lister.list().filter((other) => other.metadata.uid !== cidr.metadata.uid);
    if (isCovered(cidr, others)) return false;
    for (const address of addresses.lister.values()) {
      const { name } = address.metadata;
      if (!isAllocated(address) || !containsAddress(cidr, name)) continue;
      if (!others.some((other) => containsAddress(other, name))) return true;
    }
    return false;
  }

  async function setReady(
    cidr: ServiceCIDR,
    wanted: Pick<Condition, 'status' | 'reason' | 'message'>,
  ): Promise<void> {
    const before = readyCondition(cidr);
    if (before?.status === wanted.status && before.reason === wanted.reason) return;
    const condition = { type: 'Ready', ...wanted, lastTransitionTime: timestamp(clock.now()) };
    try {
      await api.patch(
        cidr.metadata.name,
        { type: 'strategic', patch: { status: { conditions: [condition] } } },
        { subresource: 'status' },
      );
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([cidrs, addresses, recorder, controller]),
  };
}

function isAllocated({ metadata }: IPAddress): boolean {
  return metadata.labels?.[MANAGED_BY] === ALLOCATOR;
}

function readyCondition({ status }: ServiceCIDR): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === 'Ready');
}
