// Small rules about objects that more than one component keeps: owners, conditions, the states of a pod, its
// quality of service. Pure functions over frozen objects: what changes comes back as a new value.
// Sums of resources are in pod-resources.ts, matching of nodes and taints in node-selection.ts.

import { isPodTerminal } from './node-selection.ts';
import { parseGroupVersion } from './object.ts';
import { addQuantities, compareQuantities, parseQuantity, type Quantity } from './quantity.ts';
import type { ContainerStatus, Pod, PodSpec } from './types/core-v1.ts';
import type { OwnerReference } from './types/meta-v1.ts';

/** RFC 3339 in UTC with whole seconds, as metav1.Time is written. `ms` since the epoch. */
export function timestamp(ms: number): string {
  return `${new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, 19)}Z`;
}

/** RFC 3339 in UTC with six decimals, as metav1.MicroTime is written. */
export function microTimestamp(ms: number): string {
  const whole = Math.floor(ms);
  const micros = Math.floor((ms - whole) * 1000);
  return `${new Date(whole).toISOString().slice(0, 23)}${String(micros).padStart(3, '0')}Z`;
}

/** Milliseconds since the epoch of either form; undefined for what is not set or not a time. */
export function timestampMs(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

interface Owned {
  readonly metadata: { readonly ownerReferences?: readonly OwnerReference[] };
}

interface Owner {
  readonly metadata: { readonly name: string; readonly uid: string };
}

/** The one owner that manages the object. */
export function controllerOf(object: Owned): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

export function isControlledBy(object: Owned, owner: Owner): boolean {
  return controllerOf(object)?.uid === owner.metadata.uid;
}

/** The reference by which a controller marks what it makes. `kind`: of the owner, as objects in a list carry none. */
export function controllerReference(
  owner: Owner,
  kind: { readonly apiVersion: string; readonly kind: string },
): OwnerReference {
  return {
    apiVersion: kind.apiVersion,
    kind: kind.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** True when both name the same object, whatever the version. */
export function sameOwner(a: OwnerReference, b: OwnerReference): boolean {
  return (
    parseGroupVersion(a.apiVersion).group === parseGroupVersion(b.apiVersion).group &&
    a.kind === b.kind &&
    a.name === b.name &&
    a.uid === b.uid
  );
}

/** What the conditions of every kind have in common. */
export interface ConditionLike {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
}

export function findCondition<C extends ConditionLike>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export function isConditionTrue(conditions: readonly ConditionLike[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/**
 * The conditions with one of them set. Its lastTransitionTime is `now` (ms) when its status changes, else what it
 * was. The same array comes back when nothing changes, so that a controller can tell that there is nothing to write.
 */
export function withCondition<C extends ConditionLike>(
  conditions: readonly C[] | undefined,
  condition: Omit<C, 'lastTransitionTime'> & { readonly lastTransitionTime?: string },
  now: number,
): readonly C[] {
  const all = conditions ?? [];
  const at = all.findIndex((one) => one.type === condition.type);
  const old = all[at];
  const lastTransitionTime =
    old !== undefined && old.status === condition.status
      ? old.lastTransitionTime
      : (condition.lastTransitionTime ?? timestamp(now));
  const next = { ...old, ...condition, lastTransitionTime } as unknown as C;
  if (old === undefined) return [...all, next];
  return sameFields(old, next) ? all : all.with(at, next);
}

export function withoutCondition<C extends ConditionLike>(
  conditions: readonly C[] | undefined,
  type: string,
): readonly C[] {
  const all = conditions ?? [];
  return all.some((condition) => condition.type === type)
    ? all.filter((condition) => condition.type !== type)
    : all;
}

function sameFields(a: object, b: object): boolean {
  const left = a as Readonly<Record<string, unknown>>;
  const right = b as Readonly<Record<string, unknown>>;
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)]))
    if ((left[key] ?? '') !== (right[key] ?? '')) return false;
  return true;
}

/** Neither ended nor on its way out: what a controller counts as one of its replicas. */
export function isPodActive(pod: Pod): boolean {
  return !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;
}

export function isPodReady(pod: Pick<Pod, 'status'>): boolean {
  return isConditionTrue(pod.status?.conditions, 'Ready');
}

/** Ready for at least `minReadySeconds`. */
export function isPodAvailable(pod: Pick<Pod, 'status'>, minReadySeconds: number, now: number): boolean {
  const ready = findCondition(pod.status?.conditions, 'Ready');
  if (ready?.status !== 'True') return false;
  if (minReadySeconds <= 0) return true;
  const since = timestampMs(ready.lastTransitionTime);
  return since !== undefined && since + minReadySeconds * 1000 <= now;
}

/** An init container that keeps running beside the others (a sidecar, KEP-753). */
export function isSidecar(container: { readonly restartPolicy?: string }): boolean {
  return container.restartPolicy === 'Always';
}

export function findContainerStatus(
  statuses: readonly ContainerStatus[] | undefined,
  name: string,
): ContainerStatus | undefined {
  return statuses?.find((status) => status.name === name);
}

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

const qosResources = ['cpu', 'memory'] as const;

/**
 * Guaranteed: every container has limits for cpu and memory and requests the same. BestEffort: nobody asks for
 * either. Burstable: the rest. Pod-level resources, where given, decide alone (KEP-2837).
 */
export function podQos(spec: PodSpec): QosClass {
  const parts =
    spec.resources?.requests !== undefined || spec.resources?.limits !== undefined
      ? [{ resources: spec.resources }]
      : [...spec.containers, ...(spec.initContainers ?? [])];
  const requests = new Map<string, Quantity>();
  const limits = new Map<string, Quantity>();
  let guaranteed = true;
  for (const { resources } of parts) {
    let limited = 0;
    for (const name of qosResources) {
      const request = resources?.requests?.[name];
      const limit = resources?.limits?.[name];
      addPositive(requests, name, request);
      if (addPositive(limits, name, limit)) limited++;
    }
    if (limited !== qosResources.length) guaranteed = false;
  }
  if (requests.size === 0 && limits.size === 0) return 'BestEffort';
  if (!guaranteed || requests.size !== limits.size) return 'Burstable';
  for (const [name, request] of requests) {
    const limit = limits.get(name);
    if (limit === undefined || compareQuantities(request, limit) !== 0) return 'Burstable';
  }
  return 'Guaranteed';
}

function addPositive(sums: Map<string, Quantity>, name: string, text: string | undefined): boolean {
  if (text === undefined) return false;
  const quantity = parseQuantity(text);
  if (quantity.nanos <= 0n) return false;
  const sum = sums.get(name);
  sums.set(name, sum === undefined ? quantity : addQuantities(sum, quantity));
  return true;
}
