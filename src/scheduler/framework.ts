// The scheduling framework (KEP-624): what a plugin may implement and what it may assume. One attempt to place one
// pod runs PreFilter → Filter → PreScore → Score → Reserve → PreBind → Bind; the first four are synchronous and see
// one unchanging snapshot, so nothing that happens in the cluster can slip between looking and deciding.

import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../api/types/core-v1.ts';
import type { CSIDriver, CSINode, CSIStorageCapacity, StorageClass } from '../api/types/storage-v1.ts';
import type { NodeInfo } from './node-info.ts';

/** Why a pod does not fit. Unresolvable: no change to other pods on that node could help (preemption is pointless). */
export type Rejection = {
  readonly kind: 'unschedulable' | 'unresolvable';
  readonly reasons: readonly string[];
};

/** Scratch memory of one attempt: a plugin's PreFilter leaves there what its Filter and Score read. */
export class CycleState {
  readonly #values = new Map<string, unknown>();
  write<T>(plugin: string, value: T): void {
    this.#values.set(plugin, value);
  }
  read<T>(plugin: string): T | undefined {
    return this.#values.get(plugin) as T | undefined;
  }
}

/** All nodes as they were when the attempt began. */
export interface Snapshot {
  readonly nodes: readonly NodeInfo[];
  get(nodeName: string): NodeInfo | undefined;
  /** The nodes whose label kubernetes.io/hostname has this value: mostly one, and not always of the same name. */
  nodesOfHost(hostname: string): ReadonlySet<string>;
  /** How many placed pods name the claim (`namespace/name`) in their spec. */
  podsUsingClaim(key: string): number;
}

/** What can happen in the cluster that makes an unschedulable pod worth another try. */
export type ClusterEvent =
  | { readonly type: 'NodeAdded'; readonly node: Node }
  | { readonly type: 'NodeUpdated'; readonly node: Node; readonly old: Node }
  | { readonly type: 'AssignedPodDeleted'; readonly pod: Pod }
  | { readonly type: 'AssignedPodUpdated'; readonly pod: Pod; readonly old: Pod }
  | { readonly type: 'AssignedPodAdded'; readonly pod: Pod }
  | { readonly type: 'PodUpdated'; readonly pod: Pod; readonly old: Pod }
  // `old` is absent for what is new.
  | {
      readonly type: 'ClaimChanged';
      readonly claim: PersistentVolumeClaim;
      readonly old?: PersistentVolumeClaim;
    }
  | { readonly type: 'VolumeChanged'; readonly volume: PersistentVolume; readonly old?: PersistentVolume }
  | { readonly type: 'StorageClassChanged'; readonly storageClass: StorageClass; readonly old?: StorageClass }
  | {
      readonly type: 'StorageCapacityChanged';
      readonly capacity: CSIStorageCapacity;
      readonly old?: CSIStorageCapacity;
    }
  | { readonly type: 'CsiDriverChanged'; readonly driver: CSIDriver; readonly old?: CSIDriver }
  | { readonly type: 'CsiNodeChanged'; readonly csiNode: CSINode; readonly old?: CSINode };

export type PreFilterResult =
  | { readonly rejected: Rejection }
  | {
      readonly rejected?: undefined;
      /** Only these nodes need to be looked at; absent: all. */
      readonly nodes?: ReadonlySet<string>;
      /**
       * This plugin's Filter refuses all nodes but these: they are looked at first. When none of them will do, all are,
       * so that the user is told of each node what its first obstacle is.
       */
      readonly likely?: ReadonlySet<string>;
      /** This plugin's Filter has nothing to say for this pod. */
      readonly skip?: boolean;
    };

export interface Plugin {
  readonly name: string;

  /** Undefined lets the pod into the queue; a text keeps it out and says why. */
  preEnqueue?(pod: Pod): string | undefined;

  preFilter?(state: CycleState, pod: Pod, snapshot: Snapshot): PreFilterResult;
  filter?(state: CycleState, pod: Pod, node: NodeInfo): Rejection | undefined;

  /** False: this plugin's Score has nothing to say for this pod. */
  preScore?(state: CycleState, pod: Pod, nodes: readonly NodeInfo[]): boolean;
  /** From 0 to 100, or any number when `normalize` brings it there. */
  score?(state: CycleState, pod: Pod, node: NodeInfo): number;
  /** Brings raw scores into 0 to 100, in place. */
  normalize?(scores: number[]): void;

  /** Sets something aside; undone by `unreserve` when a later step fails. Must not fail halfway. */
  reserve?(state: CycleState, pod: Pod, nodeName: string): Rejection | undefined;
  unreserve?(state: CycleState, pod: Pod, nodeName: string): void;

  /** Whether `preBind` has anything to do for this pod; absent: always. */
  needsPreBind?(state: CycleState, pod: Pod, nodeName: string): boolean;
  /**
   * Work that must be done before the binding is written; rejects to give up this attempt. `signal` aborts when the
   * scheduler stops and when the pod is deleted.
   */
  preBind?(state: CycleState, pod: Pod, nodeName: string, signal: AbortSignal): Promise<void>;
  /** Writes the binding. The first plugin that has `bind` does it. */
  bind?(state: CycleState, pod: Pod, nodeName: string, signal: AbortSignal): Promise<void>;

  /**
   * The queueing hint: could this event make a pod fit that this plugin rejected? Absent: no event can. Asked only
   * for pods that this plugin rejected.
   */
  mayHelp?(pod: Pod, event: ClusterEvent): boolean;
}

export interface WeightedPlugin {
  readonly plugin: Plugin;
  /** Multiplies the plugin's score; 0 for plugins that do not score. */
  readonly weight: number;
}

export const MAX_SCORE = 100;

/** Scales so that the highest becomes MAX_SCORE; `reverse` turns "more is worse" around. */
export function normalizeByHighest(scores: number[], reverse: boolean): void {
  let highest = 0;
  for (const score of scores) if (score > highest) highest = score;
  for (let i = 0; i < scores.length; i++) {
    const scaled = highest === 0 ? 0 : Math.floor((MAX_SCORE * scores[i]!) / highest);
    scores[i] = reverse ? MAX_SCORE - scaled : scaled;
  }
}

export const unschedulable = (...reasons: string[]): Rejection => ({ kind: 'unschedulable', reasons });
export const unresolvable = (...reasons: string[]): Rejection => ({ kind: 'unresolvable', reasons });
