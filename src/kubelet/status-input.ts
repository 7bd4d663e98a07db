// What a pod's status is computed from.

import type { Container, Pod, PodCondition, PodStatus } from '../api/types/core-v1.ts';
import type { PodRuntimeState } from './runtime-state.ts';

/** Why a container could not be started, as the last sync saw it. */
export interface WaitingReason {
  readonly reason: string;
  readonly message: string;
}

/** What the status needs to know of probes, by container. */
export interface ProbeView {
  /** Undefined: the container has no startup probe. */
  started(container: Container, containerId: string): boolean | undefined;
  /** Undefined: the container has no readiness probe. */
  ready(container: Container, containerId: string): boolean | undefined;
}

export interface StatusInput {
  readonly pod: Pod;
  readonly state: PodRuntimeState;
  /** What was last reported; the API's own status after a restart of the agent. */
  readonly previous: PodStatus;
  /** Nothing of the pod will run again. */
  readonly terminal: boolean;
  readonly waiting: ReadonlyMap<string, WaitingReason>;
  /** Containers whose postStart hook has not ended: they do not count as running yet. */
  readonly starting: ReadonlySet<string>;
  readonly probes: ProbeView;
  readonly hostIPs: readonly string[];
  readonly runtimeName: string;
  /** The agent ended the pod itself: evicted, deadline exceeded. */
  readonly failure: { readonly reason: string; readonly message: string } | undefined;
  /** A condition that says why the pod is being ended (DisruptionTarget). */
  readonly disruption?: PodCondition;
  /** A resize that waits, or one that failed. */
  readonly resize?: {
    readonly type: 'PodResizePending' | 'PodResizeInProgress';
    readonly reason: string;
    readonly message: string;
  };
  readonly now: number;
}

/** Conditions that the agent sets; all others belong to others and are left alone. */
export const OWN_CONDITIONS: ReadonlySet<string> = new Set([
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
  'PodResizePending',
  'PodResizeInProgress',
]);

/** Why a container counts as failed whose end nobody saw. */
export const STATUS_UNKNOWN = 'ContainerStatusUnknown';
