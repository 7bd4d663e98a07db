// One decision: which node for this pod, in this snapshot. Pure and synchronous.

import type { Pod } from '../api/types/core-v1.ts';
import { CycleState, type Plugin, type Rejection, type Snapshot, type WeightedPlugin } from './framework.ts';
import type { NodeInfo } from './node-info.ts';

export type Decision =
  | { readonly fits: true; readonly nodeName: string; readonly state: CycleState }
  | {
      readonly fits: false;
      /** As users see it in the pod's condition and event. */
      readonly message: string;
      readonly rejectedBy: ReadonlySet<string>;
    };

/** Below this many nodes all are looked at; above, a share that falls from 50 % to 5 % (kube-scheduler's rule). */
const MIN_FEASIBLE_NODES = 100;

export function nodesToFind(total: number): number {
  if (total < MIN_FEASIBLE_NODES) return total;
  const percentage = Math.max(5, 50 - Math.floor(total / 125));
  return Math.max(MIN_FEASIBLE_NODES, Math.floor((total * percentage) / 100));
}

export class Algorithm {
  readonly #plugins: readonly WeightedPlugin[];
  readonly #random: () => number;
  /** Where the last search stopped: the next one goes on from there, so that all nodes get their turn. */
  #next = 0;

  constructor(plugins: readonly WeightedPlugin[], random: () => number) {
    this.#plugins = plugins;
    this.#random = random;
  }

  decide(pod: Pod, snapshot: Snapshot): Decision {
    const state = new CycleState();
    const total = snapshot.nodes.length;
    if (total === 0)
      return { fits: false, message: 'no nodes available to schedule pods', rejectedBy: new Set(ANY) };

    const filters: Plugin[] = [];
    let allowed: ReadonlySet<string> | undefined;
    let likely: ReadonlySet<string> | undefined;
    for (const { plugin } of this.#plugins) {
      const result = plugin.preFilter?.(state, pod, snapshot);
      if (result?.rejected) {
        const why = result.rejected.reasons.join(', ');
        return {
          fits: false,
          message: `0/${total} nodes are available: ${why}.`,
          rejectedBy: new Set([plugin.name]),
        };
      }
      if (result?.nodes) allowed = allowed ? allowed.intersection(result.nodes) : result.nodes;
      if (result?.likely) likely = likely ? likely.intersection(result.likely) : result.likely;
      if (plugin.filter && !result?.skip) filters.push(plugin);
    }

    if (likely && likely.size > 0) {
      const nodes = nodesNamed(allowed ? likely.intersection(allowed) : likely, snapshot);
      const { feasible } = filterNodes(state, pod, filters, nodes, 0, nodes.length);
      if (feasible.length > 0) return { fits: true, nodeName: this.#best(state, pod, feasible).name, state };
    }

    const candidates = allowed && nodesNamed(allowed, snapshot);
    const nodes = candidates ?? snapshot.nodes;
    const found = candidates
      ? filterNodes(state, pod, filters, nodes, 0, nodes.length)
      : filterNodes(state, pod, filters, nodes, this.#next, nodesToFind(total));
    const { feasible, rejections, rejectedBy } = found;
    if (!candidates) this.#next = (this.#next + found.looked) % total;
    if (candidates && feasible.length === 0) {
      const left = total - candidates.length;
      if (left > 0) count(rejections, "node(s) didn't satisfy plugin(s) [NodeAffinity]", left);
      rejectedBy.add('NodeAffinity');
    }
    if (feasible.length === 0) return { fits: false, message: failureMessage(total, rejections), rejectedBy };
    return { fits: true, nodeName: this.#best(state, pod, feasible).name, state };
  }

  #best(state: CycleState, pod: Pod, nodes: readonly NodeInfo[]): NodeInfo {
    if (nodes.length === 1) return nodes[0]!;
    const totals = new Array<number>(nodes.length).fill(0);
    for (const { plugin, weight } of this.#plugins) {
      if (!plugin.score || plugin.preScore?.(state, pod, nodes) === false) continue;
      const scores = nodes.map((node) => plugin.score!(state, pod, node));
      plugin.normalize?.(scores);
      for (let i = 0; i < scores.length; i++) totals[i]! += scores[i]! * weight;
    }
    // Among equals one is drawn, each with the same chance (reservoir sampling).
    let best = 0;
    let equals = 1;
    for (let i = 1; i < totals.length; i++) {
      if (totals[i]! > totals[best]!) {
        best = i;
        equals = 1;
      } else if (totals[i] === totals[best] && this.#random() < 1 / ++equals) {
        best = i;
      }
    }
    return nodes[best]!;
  }
}

function nodesNamed(names: Iterable<string>, snapshot: Snapshot): NodeInfo[] {
  return Array.from(names, (name) => snapshot.get(name)).filter((node) => node !== undefined);
}

/** Stands for every plugin: without nodes, any new node helps. */
const ANY = ['NoNodes'];

interface Found {
  readonly feasible: NodeInfo[];
  /** How many nodes were looked at, in their order from `start`. */
  readonly looked: number;
  /** How many nodes were refused for each reason. */
  readonly rejections: Map<string, number>;
  readonly rejectedBy: Set<string>;
}

function filterNodes(
  state: CycleState,
  pod: Pod,
  filters: readonly Plugin[],
  nodes: readonly NodeInfo[],
  start: number,
  enough: number,
): Found {
  const feasible: NodeInfo[] = [];
  const rejections = new Map<string, number>();
  const rejectedBy = new Set<string>();
  let looked = 0;
  for (; looked < nodes.length && feasible.length < enough; looked++) {
    const node = nodes[(start + looked) % nodes.length]!;
    const rejection = firstRejection(state, pod, filters, node);
    if (!rejection) {
      feasible.push(node);
      continue;
    }
    rejectedBy.add(rejection.plugin);
    for (const reason of rejection.rejection.reasons) count(rejections, reason, 1);
  }
  return { feasible, looked, rejections, rejectedBy };
}

function firstRejection(
  state: CycleState,
  pod: Pod,
  filters: readonly Plugin[],
  node: NodeInfo,
): { plugin: string; rejection: Rejection } | undefined {
  for (const plugin of filters) {
    const rejection = plugin.filter?.(state, pod, node);
    if (rejection) return { plugin: plugin.name, rejection };
  }
  return undefined;
}

function count(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

/** kube-scheduler's FitError: reasons with how many nodes each, sorted as text. */
function failureMessage(total: number, rejections: ReadonlyMap<string, number>): string {
  const reasons = [...rejections].map(([reason, nodes]) => `${nodes} ${reason}`).sort();
  return `0/${total} nodes are available: ${reasons.join(', ')}.`;
}
