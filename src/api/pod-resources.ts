// What a pod asks for and may use, summed over its containers as the scheduler, the node agent and quota count it:
// KEP-753 (sidecars), KEP-688 (overhead), KEP-2837 (pod-level resources).
//
// An ordinary init container runs alone before the others; a restartable one (a sidecar) keeps running beside
// everything that starts after it. The pod needs the larger of "all that runs in the end" and each moment of the start.

import { quantityToMilli, quantityToNumber } from './quantity.ts';
import type { Container, Pod, PodSpec } from './types/core-v1.ts';

/** Amounts by resource name: cpu in thousandths of a core, all others in whole units (bytes, devices). */
export type ResourceAmounts = Map<string, number>;

/** The amount of one quantity in the unit of {@link ResourceAmounts}. */
export function resourceAmount(name: string, quantity: string): number {
  return name === 'cpu' ? quantityToMilli(quantity) : quantityToNumber(quantity);
}

export function resourceAmounts(list: Readonly<Record<string, string>> | undefined): ResourceAmounts {
  const amounts: ResourceAmounts = new Map();
  for (const [name, quantity] of Object.entries(list ?? {}))
    amounts.set(name, resourceAmount(name, quantity));
  return amounts;
}

function add(into: ResourceAmounts, more: ResourceAmounts): void {
  for (const [name, amount] of more) into.set(name, (into.get(name) ?? 0) + amount);
}

function raise(into: ResourceAmounts, other: ResourceAmounts): void {
  for (const [name, amount] of other) if (amount > (into.get(name) ?? 0)) into.set(name, amount);
}

function sum(a: ResourceAmounts, b: ResourceAmounts): ResourceAmounts {
  const result = new Map(a);
  add(result, b);
  return result;
}

export const isRestartableInit = (container: Container): boolean => container.restartPolicy === 'Always';

function aggregate(spec: PodSpec, of: (container: Container) => ResourceAmounts): ResourceAmounts {
  const total: ResourceAmounts = new Map();
  for (const container of spec.containers) add(total, of(container));
  const sidecars: ResourceAmounts = new Map();
  const starting: ResourceAmounts = new Map();
  for (const container of spec.initContainers ?? []) {
    const amounts = of(container);
    if (isRestartableInit(container)) {
      add(sidecars, amounts);
      raise(starting, sidecars);
    } else {
      raise(starting, sum(sidecars, amounts));
    }
  }
  add(total, sidecars);
  raise(total, starting);
  return total;
}

/** What the scheduler must set aside for the pod, overhead included; `pods` itself is not counted. */
export function podRequests(pod: Pick<Pod, 'spec'>): ResourceAmounts {
  const { spec } = pod;
  const total = aggregate(spec, (container) => resourceAmounts(container.resources?.requests));
  for (const [name, quantity] of Object.entries(spec.resources?.requests ?? {})) {
    total.set(name, resourceAmount(name, quantity));
  }
  add(total, resourceAmounts(spec.overhead));
  return total;
}

/**
 * The most that the pod may use. A resource that some container may use without limit is absent. Overhead is added
 * to the limits that are there.
 */
export function podLimits(pod: Pick<Pod, 'spec'>): ResourceAmounts {
  const { spec } = pod;
  const total = aggregate(spec, (container) => resourceAmounts(container.resources?.limits));
  for (const name of total.keys()) {
    const lasting = [...spec.containers, ...(spec.initContainers ?? []).filter(isRestartableInit)];
    if (lasting.some((container) => container.resources?.limits?.[name] === undefined)) total.delete(name);
  }
  for (const [name, quantity] of Object.entries(spec.resources?.limits ?? {})) {
    total.set(name, resourceAmount(name, quantity));
  }
  for (const [name, quantity] of Object.entries(spec.overhead ?? {})) {
    const limit = total.get(name);
    if (limit !== undefined) total.set(name, limit + resourceAmount(name, quantity));
  }
  return total;
}
