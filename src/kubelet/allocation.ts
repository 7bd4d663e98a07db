// What a running pod has been given, which a resize (KEP-1287) may ask to change: the new values are taken when the node
// has room for them, and kept waiting otherwise. Everything else in the agent sees pods with the resources that they
// were given. After a restart of the agent these are read from the status that it reported.

import { findContainerStatus, podRequests } from '../api/index.ts';
import type { Container, Pod, ResourceRequirements } from '../api/types/core-v1.ts';
import { amount, containerResources, type ResourceList } from './resources.ts';
import type { ContainerRecord } from './runtime-state.ts';
import { sameValue } from './same-value.ts';

export interface PendingResize {
  /** Deferred: when others leave room. Infeasible: never on this node. */
  readonly reason: 'Deferred' | 'Infeasible';
  readonly message: string;
}

export interface Allocation {
  /** The pod with the resources that it was given. */
  readonly pod: Pod;
  readonly pending: PendingResize | undefined;
}

const RESIZABLE = ['cpu', 'memory'] as const;

function sameResources(a: ResourceRequirements | undefined, b: ResourceRequirements | undefined): boolean {
  return RESIZABLE.every(
    (name) =>
      amount(name, a?.requests?.[name]) === amount(name, b?.requests?.[name]) &&
      amount(name, a?.limits?.[name]) === amount(name, b?.limits?.[name]),
  );
}

function withResources(pod: Pod, of: (container: Container) => ResourceRequirements | undefined): Pod {
  const given = (container: Container): Container => {
    const resources = of(container);
    return sameValue(resources, container.resources) ? container : { ...container, resources };
  };
  const { containers, initContainers } = pod.spec;
  return {
    ...pod,
    spec: {
      ...pod.spec,
      containers: containers.map(given),
      ...(initContainers && { initContainers: initContainers.map(given) }),
    },
  };
}

function containersOfSpec({ spec }: Pod): Container[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

function differs(a: Pod, b: Pod): boolean {
  const others = new Map(containersOfSpec(b).map((container) => [container.name, container]));
  return containersOfSpec(a).some(
    ({ name, resources }) => !sameResources(resources, others.get(name)?.resources),
  );
}

/** What the pod has when the agent first sees it: what its status says of running containers, else what it asks for. */
export function initialAllocation(pod: Pod): Pod {
  const { containerStatuses, initContainerStatuses } = pod.status ?? {};
  return withResources(pod, (container) => {
    const reported =
      findContainerStatus(containerStatuses, container.name) ??
      findContainerStatus(initContainerStatuses, container.name);
    const known = reported?.state?.running ? reported.resources : undefined;
    return known && !sameResources(known, container.resources) ? known : container.resources;
  });
}

/** Takes in a newer version of the pod. `given` is what it has now, `others` what the other pods of the node have. */
export function allocate(
  pod: Pod,
  given: Pod,
  others: readonly Pod[],
  allocatable: ResourceList,
): Allocation {
  if (!differs(pod, given)) return { pod, pending: undefined };
  const pending = obstacle(pod, others, allocatable);
  if (!pending) return { pod, pending: undefined };
  const kept = new Map(containersOfSpec(given).map((container) => [container.name, container.resources]));
  return {
    pod: withResources(pod, ({ name, resources }) => (kept.has(name) ? kept.get(name) : resources)),
    pending,
  };
}

function obstacle(pod: Pod, others: readonly Pod[], allocatable: ResourceList): PendingResize | undefined {
  const wanted = podRequests(pod);
  for (const name of RESIZABLE) {
    const requested = wanted.get(name) ?? 0;
    const capacity = amount(name, allocatable[name]);
    if (requested > capacity)
      return {
        reason: 'Infeasible',
        message: `Node didn't have enough capacity: ${name}, requested: ${requested}, capacity: ${capacity}`,
      };
    const used = others.reduce((sum, other) => sum + (podRequests(other).get(name) ?? 0), 0);
    if (used + requested > capacity)
      return {
        reason: 'Deferred',
        message: `Node didn't have enough resource: ${name}, requested: ${requested}, used: ${used}, capacity: ${capacity}`,
      };
  }
  return undefined;
}

/** Which of a running container's limits are not yet what the pod was given; empty: all are. */
export function outdatedResources(
  pod: Pod,
  container: Container,
  record: ContainerRecord,
  memoryCapacity: number,
): readonly ('cpu' | 'memory')[] {
  const actual = record.status.resources;
  // Runtimes that do not report limits are not asked to change them.
  if (!actual) return [];
  const wanted = containerResources(pod, container, memoryCapacity);
  const outdated: ('cpu' | 'memory')[] = [];
  const quota = (value: number | undefined): number => (value === undefined || value <= 0 ? 0 : value);
  if (actual.cpuShares !== wanted.cpuShares || quota(actual.cpuQuota) !== quota(wanted.cpuQuota))
    outdated.push('cpu');
  if (quota(actual.memoryLimitBytes) !== quota(wanted.memoryLimitBytes)) outdated.push('memory');
  return outdated;
}

/** Whether the container asked to be restarted when one of these changes. */
export function needsRestart(container: Container, changed: readonly string[]): boolean {
  return (container.resizePolicy ?? []).some(
    ({ resourceName, restartPolicy }) =>
      restartPolicy === 'RestartContainer' && changed.includes(resourceName),
  );
}
