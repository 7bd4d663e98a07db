// The conditions of a pod that the agent judges, with upstream's reasons and messages (pkg/kubelet/status/generate.go).
// Pure.

import { findContainerStatus as findStatus, isSidecar, timestamp } from '../api/index.ts';
import type { ContainerStatus, Pod, PodCondition, PodStatus } from '../api/types/core-v1.ts';
import { containersOf } from './pod.ts';
import { readySandbox } from './runtime-state.ts';
import { OWN_CONDITIONS, type StatusInput } from './status-input.ts';
import { formatList as names } from './text.ts';

export interface ConditionInput {
  readonly pod: Pod;
  readonly phase: string | undefined;
  /** Init containers first. */
  readonly all: readonly ContainerStatus[];
}

type Verdict = Pick<PodCondition, 'type' | 'status' | 'reason' | 'message'>;

export function sandboxCondition({ pod, state, terminal }: StatusInput): Verdict {
  const sandbox = readySandbox(state);
  const usable = !terminal && sandbox && (pod.spec.hostNetwork || sandbox.ips.length > 0);
  return { type: 'PodReadyToStartContainers', status: usable ? 'True' : 'False' };
}

export function initializedCondition({ pod, phase, all }: ConditionInput): Verdict {
  const type = 'Initialized';
  const unknown: string[] = [];
  const incomplete: string[] = [];
  // Once a regular container has started, the pod was initialized, whatever became of the init containers since.
  const anyStarted = pod.spec.containers.some((container) => {
    const status = findStatus(all, container.name);
    return (
      status?.started || status?.state?.running || status?.state?.terminated || status?.lastState?.terminated
    );
  });
  for (const container of pod.spec.initContainers ?? []) {
    const status = findStatus(all, container.name);
    if (!status) unknown.push(container.name);
    else if (isSidecar(container) ? !status.started && !anyStarted : !status.ready)
      incomplete.push(container.name);
  }
  if (phase === 'Succeeded' && unknown.length === 0) return { type, status: 'True', reason: 'PodCompleted' };
  if (anyStarted || unknown.length + incomplete.length === 0) return { type, status: 'True' };
  const parts = [
    unknown.length > 0 && `containers with unknown status: ${names(unknown)}`,
    incomplete.length > 0 && `containers with incomplete status: ${names(incomplete)}`,
  ].filter((part) => part !== false);
  return { type, status: 'False', reason: 'ContainersNotInitialized', message: parts.join(', ') };
}

export function containersReadyCondition({ pod, phase, all }: ConditionInput): Verdict {
  const type = 'ContainersReady';
  const unknown: string[] = [];
  const unready: string[] = [];
  for (const { kind, container } of containersOf(pod)) {
    if (kind !== 'container' && kind !== 'sidecar') continue;
    const status = findStatus(all, container.name);
    if (!status) unknown.push(container.name);
    else if (!status.ready) unready.push(container.name);
  }
  if (phase === 'Succeeded' && unknown.length === 0) return { type, status: 'False', reason: 'PodCompleted' };
  if (phase === 'Failed') return { type, status: 'False', reason: 'PodFailed' };
  if (unknown.length + unready.length === 0) return { type, status: 'True' };
  const parts = [
    unknown.length > 0 && `containers with unknown status: ${names(unknown)}`,
    unready.length > 0 && `containers with unready status: ${names(unready)}`,
  ].filter((part) => part !== false);
  return { type, status: 'False', reason: 'ContainersNotReady', message: parts.join(', ') };
}

export function readyCondition(
  { pod }: ConditionInput,
  containersReady: Verdict,
  others: readonly PodCondition[],
): Verdict {
  if (containersReady.status !== 'True') return { ...containersReady, type: 'Ready' };
  const missing: string[] = [];
  for (const { conditionType } of pod.spec.readinessGates ?? []) {
    const condition = others.find(({ type }) => type === conditionType);
    if (!condition)
      missing.push(`corresponding condition of pod readiness gate "${conditionType}" does not exist.`);
    else if (condition.status !== 'True')
      missing.push(
        `the status of pod readiness gate "${conditionType}" is not "True", but ${condition.status}`,
      );
  }
  if (missing.length === 0) return { type: 'Ready', status: 'True' };
  return { type: 'Ready', status: 'False', reason: 'ReadinessGatesNotReady', message: missing.join(', ') };
}

/** Keeps the time of the last transition while the status stays; a condition of others is passed on as it is. */
export function settleCondition(
  verdict: PodCondition,
  pod: Pod,
  previous: PodStatus,
  now: number,
): PodCondition {
  if (!OWN_CONDITIONS.has(verdict.type)) return verdict;
  const old = previous.conditions?.find(({ type }) => type === verdict.type);
  const unchanged = old?.status === verdict.status && old.lastTransitionTime !== undefined;
  const { type, status, reason, message } = verdict;
  return {
    type,
    ...(pod.metadata.generation !== undefined && { observedGeneration: pod.metadata.generation }),
    status,
    lastTransitionTime: unchanged ? old.lastTransitionTime! : timestamp(now),
    ...(reason && { reason }),
    ...(message && { message }),
  };
}
