// Topology aware hints (KEP-2433; the annotation service.kubernetes.io/topology-mode: Auto): each ready endpoint of a
// Service is hinted to one zone, so that every zone gets endpoints in proportion to its share of the nodes' CPUs and
// none is loaded by more than a fifth over that. Where that cannot be there are no hints at all. The steps and the
// events are those of upstream's topologycache; where it takes zones in Go's random order they are in order here.

import { findCondition, quantityToMilli } from '../../api/index.ts';
import type { Node, Service } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import type { AddressFamily } from './backends.ts';
import type { SliceDraft, SlicePlan } from './slice-plan.ts';

const OVERLOAD = 0.2;
const ZONE = 'topology.kubernetes.io/zone';
const EXCLUDED = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'];

export interface HintEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: 'TopologyAwareHintsEnabled' | 'TopologyAwareHintsDisabled';
  readonly message: string;
}

interface Allocation {
  readonly minimum: number;
  readonly maximum: number;
  readonly desired: number;
}

type ByZone = Map<string, number>;

/** The annotation's older name wins where both are set. */
export function wantsTopologyHints({ metadata }: Service): boolean {
  const annotations = metadata.annotations ?? {};
  const mode =
    annotations['service.kubernetes.io/topology-aware-hints'] ??
    annotations['service.kubernetes.io/topology-mode'];
  return mode === 'Auto' || mode === 'auto';
}

/** True when the change matters to how CPUs are spread over zones. */
export function capacityChanged(node: Node, old: Node): boolean {
  return (
    node.metadata.labels?.[ZONE] !== old.metadata.labels?.[ZONE] ||
    node.status?.allocatable?.['cpu'] !== old.status?.allocatable?.['cpu'] ||
    isNodeReady(node) !== isNodeReady(old) ||
    isExcluded(node) !== isExcluded(old)
  );
}

export class TopologyHints {
  /** Each zone's share of the CPUs; undefined: there is no telling. */
  #shares: ReadonlyMap<string, number> | undefined;
  /** By Service key and family: how many endpoints are hinted to each zone. */
  readonly #hinted = new Map<string, Map<AddressFamily, ByZone>>();
  readonly #enabled = new Set<string>();

  setNodes(nodes: Iterable<Node>): void {
    this.#shares = sharesOf(nodes);
  }

  /** The Services of which some zone has too few endpoints by now. */
  overloaded(): string[] {
    return [...this.#hinted]
      .filter(([, families]) => [...families.values()].some((zones) => this.#isOverloaded(zones)))
      .map(([key]) => key);
  }

  /** Takes the Service out of the books; true when it had hints. */
  forget(key: string, family: AddressFamily): boolean {
    const families = this.#hinted.get(key);
    families?.delete(family);
    if (families?.size === 0) this.#hinted.delete(key);
    return this.#enabled.delete(key);
  }

  forgetService(key: string): void {
    this.#hinted.delete(key);
    this.#enabled.delete(key);
  }

  /**
   * Gives hints to the endpoints of a plan that was made without regard to hints. `unchanged`: the slices that it leaves
   * as they are; those whose hints cannot stay come into it.
   */
  apply(
    key: string,
    family: AddressFamily,
    plan: SlicePlan,
    unchanged: readonly EndpointSlice[],
  ): readonly HintEvent[] {
    const disabled = (why: string): readonly HintEvent[] => {
      this.forget(key, family);
      removeHints(plan, unchanged);
      return [event('Warning', why, family)];
    };
    const total = count([...plan.create, ...plan.update, ...unchanged]);
    const allocations = this.#allocate(total);
    if (typeof allocations === 'string') return disabled(allocations);
    const hinted: ByZone = new Map();
    for (const slice of unchanged) {
      const zones = hintsOf(slice.endpoints ?? [], hinted, allocations);
      if (zones === undefined) plan.update.push(copyOf(slice));
      else for (const [zone, number] of zones) add(hinted, zone, number);
    }
    const open: SliceDraft[] = [...plan.create, ...plan.update];
    // First each endpoint serves its own zone.
    for (const { endpoints } of open)
      for (const { conditions, zone } of endpoints) {
        if (conditions?.ready !== true) continue;
        if (!zone) return disabled('One or more endpoints do not have a zone specified');
        add(hinted, zone, 1);
      }
    const moves = movesBetween(allocations, hinted);
    for (const draft of open)
      draft.endpoints = draft.endpoints.map((endpoint) => {
        const { hints: _hints, ...bare } = endpoint;
        if (endpoint.conditions?.ready !== true) return bare;
        const own = endpoint.zone!;
        const zone = moves.next(own) ?? own;
        if (zone !== own) {
          add(hinted, own, -1);
          add(hinted, zone, 1);
        }
        return { ...bare, hints: { forZones: [{ name: zone }] } };
      });
    if (hinted.size === 0) return disabled('No hints allocated for zones');
    const isNew = !this.#enabled.has(key);
    this.#enabled.add(key);
    const families = this.#hinted.get(key) ?? new Map<AddressFamily, ByZone>();
    this.#hinted.set(key, families.set(family, hinted));
    return isNew ? [event('Normal', 'Topology Aware Hints has been enabled', family)] : [];
  }

  /** What each zone must and may have of so many endpoints; otherwise why that cannot be. */
  #allocate(total: number): ReadonlyMap<string, Allocation> | string {
    const shares = this.#shares;
    if (shares === undefined)
      return 'Insufficient Node information: allocatable CPU or zone not specified on one or more nodes';
    const numbers = `(${total} endpoints, ${shares.size} zones)`;
    if (shares.size > total) return `Insufficient number of endpoints ${numbers}`;
    const wanted = [...shares].map(([zone, share]) => {
      const minimum = Math.ceil((share * total) / (1 + OVERLOAD));
      return { zone, minimum, desired: Math.max(share * total, minimum) };
    });
    const least = wanted.reduce((sum, { minimum }) => sum + minimum, 0);
    if (least > total)
      return `Unable to allocate minimum required endpoints to each zone without exceeding overload threshold ${numbers}`;
    return new Map(
      wanted.map(({ zone, minimum, desired }) => [
        zone,
        { minimum, desired, maximum: minimum + total - least },
      ]),
    );
  }

  #isOverloaded(zones: ByZone): boolean {
    if (zones.size === 0) return false;
    if (this.#shares === undefined) return true;
    const total = [...zones.values()].reduce((sum, number) => sum + number, 0);
    return [...this.#shares].some(
      ([zone, share]) => (zones.get(zone) ?? -1) < Math.ceil((total * share) / (1 + OVERLOAD)),
    );
  }
}

/** Takes hints away everywhere; what is said when somebody switched them off. */
export const HINTS_DISABLED = 'Topology Aware Hints has been disabled';

export function disabledEvent(family: AddressFamily): HintEvent {
  return event('Warning', HINTS_DISABLED, family);
}

function event(type: HintEvent['type'], message: string, family: AddressFamily): HintEvent {
  const reason = type === 'Normal' ? 'TopologyAwareHintsEnabled' : 'TopologyAwareHintsDisabled';
  return { type, reason, message: `${message}, addressType: ${family}` };
}

function removeHints(plan: SlicePlan, unchanged: readonly EndpointSlice[]): void {
  for (const slice of unchanged)
    if (slice.endpoints?.some(({ hints }) => hints !== undefined)) plan.update.push(copyOf(slice));
  for (const draft of [...plan.create, ...plan.update])
    draft.endpoints = draft.endpoints.map(({ hints: _hints, ...bare }) => bare);
}

function copyOf(slice: EndpointSlice): SlicePlan['update'][number] {
  return { slice, ports: slice.ports ?? [], endpoints: slice.endpoints ?? [] };
}

function sharesOf(nodes: Iterable<Node>): ReadonlyMap<string, number> | undefined {
  const byZone: ByZone = new Map();
  let total = 0;
  for (const node of nodes) {
    if (isExcluded(node) || !isNodeReady(node)) continue;
    const zone = node.metadata.labels?.[ZONE];
    const cpu = quantityToMilli(node.status?.allocatable?.['cpu'] ?? '0');
    if (!zone || cpu <= 0) return undefined;
    add(byZone, zone, cpu);
    total += cpu;
  }
  if (byZone.size < 2) return undefined;
  return new Map(
    [...byZone].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([zone, cpu]) => [zone, cpu / total]),
  );
}

function isNodeReady({ status }: Node): boolean {
  return findCondition(status?.conditions, 'Ready')?.status === 'True';
}

function isExcluded({ metadata }: Node): boolean {
  return EXCLUDED.some((label) => metadata.labels?.[label] !== undefined);
}

/** The hints of a slice that stays as it is; undefined when it cannot. */
function hintsOf(
  endpoints: readonly Endpoint[],
  before: ByZone,
  allocations: ReadonlyMap<string, Allocation>,
): ByZone | undefined {
  const zones: ByZone = new Map();
  for (const { conditions, hints } of endpoints) {
    if (conditions?.ready !== true) continue;
    if (!hints?.forZones?.length) return undefined;
    for (const { name } of hints.forZones) add(zones, name, 1);
  }
  for (const [zone, number] of zones) {
    const allocation = allocations.get(zone);
    if (allocation === undefined || number + (before.get(zone) ?? 0) > allocation.maximum) return undefined;
  }
  return zones;
}

/** Which zones give endpoints to which, as long as there are whole ones to give. */
function movesBetween(allocations: ReadonlyMap<string, Allocation>, hinted: ByZone): Moves {
  const surplus: ByZone = new Map();
  const lack: ByZone = new Map();
  for (const [zone, { desired }] of allocations) {
    const difference = (hinted.get(zone) ?? 0) - desired;
    if (difference > 0) surplus.set(zone, difference);
    else if (difference < 0) lack.set(zone, -difference);
  }
  const giving: ByZone = new Map();
  const receiving: ByZone = new Map();
  for (;;) {
    const [from, gives] = most(surplus);
    const [to, takes] = most(lack);
    if (from === '' || to === '' || (gives < 1 && takes < 1) || gives < 0.5 || takes < 0.5) break;
    add(giving, from, 1);
    add(surplus, from, -1);
    add(receiving, to, 1);
    add(lack, to, -1);
  }
  return new Moves(giving, receiving);
}

class Moves {
  readonly #giving: ByZone;
  readonly #receiving: ByZone;

  constructor(giving: ByZone, receiving: ByZone) {
    this.#giving = giving;
    this.#receiving = receiving;
  }

  /** The zone that the next endpoint of this zone is given to; undefined: it stays. */
  next(zone: string): string | undefined {
    if ((this.#giving.get(zone) ?? 0) <= 0) return undefined;
    for (const [to, left] of this.#receiving) {
      if (left <= 0) continue;
      add(this.#giving, zone, -1);
      add(this.#receiving, to, -1);
      return to;
    }
    return undefined;
  }
}

function most(zones: ByZone): readonly [zone: string, number: number] {
  let best: readonly [string, number] = ['', 0];
  for (const [zone, number] of zones) if (number > best[1]) best = [zone, number];
  return best;
}

function add(zones: ByZone, zone: string, number: number): void {
  zones.set(zone, (zones.get(zone) ?? 0) + number);
}

function count(slices: readonly { readonly endpoints?: readonly Endpoint[] }[]): number {
  return slices.reduce(
    (sum, { endpoints = [] }) =>
      sum + endpoints.filter(({ conditions }) => conditions?.ready === true).length,
    0,
  );
}
