// Defaults of resource lists: quantities finer than a thousandth are rounded up, and pod-level resources are filled in
// from what the containers ask for (KEP-2837).

import {
  addQuantities,
  compareQuantities,
  formatQuantity,
  parseQuantity,
  type Quantity,
} from '../quantity.ts';
import type { Container, PodSpec, ResourceRequirements } from '../types/core-v1.ts';

export type ResourceList = { [name: string]: string };

const NANOS_PER_MILLI = 1_000_000n;

/** Rounds up to thousandths, in place. Canonical text says by its suffix whether there is anything to round. */
export function roundResourceList(list: ResourceList | undefined): void {
  if (list === undefined) return;
  for (const name in list) {
    const text = list[name]!;
    const last = text.charCodeAt(text.length - 1);
    const mayBeFine = last === 0x6e || last === 0x75 || text.includes('e-') || text.includes('.');
    if (!mayBeFine) continue;
    const quantity = parseQuantity(text);
    const rest = quantity.nanos % NANOS_PER_MILLI;
    if (rest === 0n) continue;
    const nanos = quantity.nanos - rest + (rest > 0n ? NANOS_PER_MILLI : -NANOS_PER_MILLI);
    list[name] = formatQuantity({ nanos, format: quantity.format });
  }
}

/** Limits stand in for requests that are missing. Only in pods, never in templates. */
export function requestsFromLimits(resources: ResourceRequirements | undefined): void {
  if (resources?.limits === undefined) return;
  resources.requests ??= {};
  for (const [name, quantity] of Object.entries(resources.limits)) resources.requests[name] ??= quantity;
}

type Amounts = Map<string, Quantity>;

function add(to: Amounts, list: ResourceList | undefined): void {
  for (const [name, quantity] of Object.entries(list ?? {})) {
    const sum = to.get(name);
    to.set(name, sum === undefined ? parseQuantity(quantity) : addQuantities(sum, quantity));
  }
}

/** What all containers need at the most demanding moment: sidecars beside the main ones, init containers one by one. */
function aggregate(spec: PodSpec, which: 'requests' | 'limits'): Amounts {
  const of = (container: Container): ResourceList | undefined => container.resources?.[which];
  const total: Amounts = new Map();
  for (const container of spec.containers) add(total, of(container));
  const sidecars: Amounts = new Map();
  const starting: Amounts = new Map();
  for (const container of spec.initContainers ?? []) {
    const now: Amounts = new Map(sidecars);
    add(now, of(container));
    if (container.restartPolicy === 'Always') {
      add(total, of(container));
      add(sidecars, of(container));
    }
    for (const [name, quantity] of now) {
      const greatest = starting.get(name);
      if (greatest === undefined || compareQuantities(quantity, greatest) > 0) starting.set(name, quantity);
    }
  }
  for (const [name, quantity] of starting) {
    const sum = total.get(name);
    if (sum === undefined || compareQuantities(quantity, sum) > 0) total.set(name, quantity);
  }
  return total;
}

const isHugePage = (name: string): boolean => name.startsWith('hugepages-');
const isOvercommittable = (name: string): boolean => name === 'cpu' || name === 'memory';

/** Fills in pod-level limits of huge pages and pod-level requests, when pod-level resources are given in part. */
export function defaultPodLevelResources(spec: PodSpec): void {
  const { resources } = spec;
  if (resources === undefined) return;
  const hasSome = (list: ResourceList | undefined): boolean => Object.keys(list ?? {}).length > 0;

  if (hasSome(resources.limits) || hasSome(resources.requests)) {
    const limits: ResourceList = { ...resources.limits };
    for (const [name, quantity] of aggregate(spec, 'limits'))
      if (isHugePage(name) && resources.requests?.[name] === undefined)
        limits[name] ??= formatQuantity(quantity);
    if (hasSome(limits)) resources.limits = limits;
  }

  if (!hasSome(resources.limits)) return;
  const requests: ResourceList = { ...resources.requests };
  for (const [name, quantity] of aggregate(spec, 'requests'))
    if (isOvercommittable(name)) requests[name] ??= formatQuantity(quantity);
  for (const [name, quantity] of Object.entries(resources.limits ?? {}))
    if (isOvercommittable(name) || isHugePage(name)) requests[name] ??= quantity;
  if (hasSome(requests)) resources.requests = requests;
}
