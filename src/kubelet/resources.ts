// From requests and limits to what the kernel enforces: QoS class, cgroup paths, CPU shares and quota, memory limits
// and OOM scores, with upstream's rounding (pkg/kubelet/cm, pkg/kubelet/qos). Pure. CPU in milli-cores, memory in bytes.

import { isSidecar, podLimits, podQos, podRequests, type QosClass, resourceAmount } from '../api/index.ts';
import type { Container, Pod } from '../api/types/core-v1.ts';

export type ResourceList = Readonly<Record<string, string>>;

const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
const CFS_PERIOD = 100_000;
const MIN_CFS_QUOTA = 1000;

export function cpuShares(milliCpu: number): number {
  if (milliCpu === 0) return MIN_SHARES;
  return Math.min(MAX_SHARES, Math.max(MIN_SHARES, Math.floor((milliCpu * 1024) / 1000)));
}

/** Undefined: no limit. */
export function cpuQuota(milliCpu: number): { readonly quota: number; readonly period: number } | undefined {
  if (milliCpu === 0) return undefined;
  return { quota: Math.max(MIN_CFS_QUOTA, Math.floor((milliCpu * CFS_PERIOD) / 1000)), period: CFS_PERIOD };
}

/** The number that arithmetic on a resource works with: milli-cores for cpu, whole units for all else; absent: 0. */
export function amount(name: string, quantity: string | undefined): number {
  return quantity === undefined ? 0 : resourceAmount(name, quantity);
}

/** The class that the pod's status says, else what its requests and limits make it. */
export function qosClass(pod: Pod): QosClass {
  return pod.status?.qosClass ?? podQos(pod.spec);
}

/** What a cgroup of the agent's is set to; absent fields stay as the kernel has them. */
export interface CgroupResources {
  readonly cpuShares?: number;
  readonly cpuQuota?: number;
  readonly cpuPeriod?: number;
  readonly memoryLimitBytes?: number;
  readonly pidsLimit?: number;
}

/** The pod's cgroup under `root`: /kubepods/pod<uid>, with the class between for the two lower ones. */
export function podCgroup(root: string, pod: Pod): string {
  const qos = qosClass(pod);
  const parent = qos === 'Guaranteed' ? `${root}/kubepods` : `${root}/kubepods/${qos.toLowerCase()}`;
  return `${parent}/pod${pod.metadata.uid}`;
}

/** Limits hold for the whole pod only when every container (or the pod itself) has one. */
export function podCgroupResources(pod: Pod, podPidsLimit: number): CgroupResources {
  const qos = qosClass(pod);
  const limits = podLimits(pod);
  const quota = qos === 'BestEffort' ? undefined : cpuQuota(limits.get('cpu') ?? 0);
  const memory = qos === 'BestEffort' ? undefined : limits.get('memory');
  const requested = podRequests(pod).get('cpu') ?? limits.get('cpu') ?? 0;
  return {
    cpuShares: qos === 'BestEffort' ? MIN_SHARES : cpuShares(requested),
    ...(quota && { cpuQuota: quota.quota, cpuPeriod: quota.period }),
    ...(memory && { memoryLimitBytes: memory }),
    ...(podPidsLimit > 0 && { pidsLimit: podPidsLimit }),
  };
}

export interface ContainerResources {
  readonly cpuShares: number;
  readonly cpuQuota?: number;
  readonly cpuPeriod?: number;
  readonly memoryLimitBytes?: number;
  readonly oomScoreAdj: number;
}

/** A container's own limits; a missing CPU request defaults to the limit, as the API server does for new pods. */
export function containerResources(
  pod: Pod,
  container: Container,
  memoryCapacity: number,
): ContainerResources {
  const { requests = {}, limits = {} } = container.resources ?? {};
  const cpuLimit =
    amount('cpu', limits['cpu']) ||
    (container.resources ? 0 : amount('cpu', pod.spec.resources?.limits?.['cpu']));
  const cpuRequest =
    requests['cpu'] === undefined && limits['cpu'] !== undefined ? cpuLimit : amount('cpu', requests['cpu']);
  const memoryLimit =
    amount('memory', limits['memory']) || amount('memory', pod.spec.resources?.limits?.['memory']);
  const quota = cpuQuota(cpuLimit);
  return {
    cpuShares: cpuShares(cpuRequest),
    ...(quota && { cpuQuota: quota.quota, cpuPeriod: quota.period }),
    ...(memoryLimit > 0 && { memoryLimitBytes: memoryLimit }),
    oomScoreAdj: oomScoreAdj(pod, container, memoryCapacity),
  };
}

const GUARANTEED_OOM_SCORE = -997;
const BEST_EFFORT_OOM_SCORE = 1000;
/** Pods of this priority and above are node-critical. */
const SYSTEM_CRITICAL_PRIORITY = 2_000_000_000;

/** Who dies first when memory runs out: BestEffort, then Burstable by how little was requested, Guaranteed last. */
export function oomScoreAdj(pod: Pod, container: Container, memoryCapacity: number): number {
  if (pod.spec.priorityClassName === 'system-node-critical') return GUARANTEED_OOM_SCORE;
  const qos = qosClass(pod);
  if (qos === 'Guaranteed') return GUARANTEED_OOM_SCORE;
  if (qos === 'BestEffort') return BEST_EFFORT_OOM_SCORE;
  const ofRequest = (bytes: number): number => {
    const score = 1000 - Math.floor((1000 * bytes) / memoryCapacity);
    const least = 1000 + GUARANTEED_OOM_SCORE;
    if (score < least) return least;
    return score === BEST_EFFORT_OOM_SCORE ? score - 1 : score;
  };
  const memoryRequest = (c: Container): number => amount('memory', c.resources?.requests?.['memory']);
  const own = ofRequest(memoryRequest(container));
  const sidecar = (pod.spec.initContainers ?? []).some((c) => c.name === container.name && isSidecar(c));
  // A sidecar should not be killed before the containers that it serves.
  return sidecar ? Math.min(own, ...pod.spec.containers.map((c) => ofRequest(memoryRequest(c)))) : own;
}

export function isCriticalPod(pod: Pod): boolean {
  return (pod.spec.priority ?? 0) >= SYSTEM_CRITICAL_PRIORITY;
}
