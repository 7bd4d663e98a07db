// The pod status that the API shows, computed from the spec, the runtime's state and the probes' results: phase,
// addresses, and what container-statuses.ts and conditions.ts find. A pure function with upstream's rules (kubelet's
// generateAPIPodStatus): clients read phases, reasons and messages of it.

import { findContainerStatus as findStatus, isSidecar, timestamp } from '../api/index.ts';
import type { ContainerState, ContainerStatus, Pod, PodStatus } from '../api/types/core-v1.ts';
import { hasInitialized } from './actions.ts';
import {
  containersReadyCondition,
  initializedCondition,
  readyCondition,
  sandboxCondition,
  settleCondition,
} from './conditions.ts';
import { containerStatuses, markReady } from './container-statuses.ts';
import { containersOf, isTerminalPhase, restartsAfter } from './pod.ts';
import { qosClass } from './resources.ts';
import { OWN_CONDITIONS, STATUS_UNKNOWN, type StatusInput } from './status-input.ts';

export function generateStatus(input: StatusInput): PodStatus {
  const { pod, previous, failure } = input;
  const initContainerStatuses = containerStatuses(input, pod.spec.initContainers ?? [], true);
  const statuses = containerStatuses(input, pod.spec.containers, false);
  const ephemeral = containerStatuses(input, pod.spec.ephemeralContainers ?? [], false);
  for (const { kind, container } of containersOf(pod)) {
    if (kind === 'ephemeral') continue;
    const list = kind === 'container' ? statuses : initContainerStatuses;
    markReady(input, list.find(({ name }) => name === container.name)!, container, kind === 'container');
  }
  let phase = computePhase(input, [...statuses, ...initContainerStatuses]);
  if (!isTerminalPhase(phase)) {
    if (isTerminalPhase(previous.phase)) phase = previous.phase!;
    else if (isTerminalPhase(pod.status?.phase)) phase = pod.status.phase!;
  }
  let reason: string | undefined;
  let message: string | undefined;
  if (phase === previous.phase) {
    reason = previous.reason || pod.status?.reason;
    message = previous.message || pod.status?.message;
  }
  if (failure) {
    phase = 'Failed';
    ({ reason, message } = failure);
  }
  // No way leads out of a terminal phase that the API has seen.
  if (isTerminalPhase(pod.status?.phase)) phase = pod.status.phase!;

  const base = {
    pod,
    previous,
    phase,
    now: input.now,
    all: [...initContainerStatuses, ...statuses],
  };
  const foreign = (pod.status?.conditions ?? []).filter(({ type }) => !OWN_CONDITIONS.has(type));
  const disruption = input.disruption ?? previous.conditions?.find(({ type }) => type === 'DisruptionTarget');
  const kept = disruption
    ? [...foreign.filter(({ type }) => type !== 'DisruptionTarget'), disruption]
    : foreign;
  const containersReady = containersReadyCondition(base);
  const conditions = [
    ...kept,
    ...(input.resize && !input.terminal ? [{ ...input.resize, status: 'True' }] : []),
    sandboxCondition(input),
    initializedCondition(base),
    readyCondition(base, containersReady, kept),
    containersReady,
    { type: 'PodScheduled', status: 'True' },
  ].map((condition) => settleCondition(condition, pod, previous, input.now));

  const ips = podIPs(input);
  return {
    ...(pod.metadata.generation !== undefined && { observedGeneration: pod.metadata.generation }),
    phase: phase as NonNullable<PodStatus['phase']>,
    conditions,
    ...(message && { message }),
    ...(reason && { reason }),
    ...(input.hostIPs[0] !== undefined && {
      hostIP: input.hostIPs[0],
      hostIPs: input.hostIPs.slice(0, 2).map((ip) => ({ ip })),
    }),
    ...(ips[0] !== undefined && { podIP: ips[0], podIPs: ips.map((ip) => ({ ip })) }),
    startTime: previous.startTime ?? pod.status?.startTime ?? timestamp(input.now),
    ...(initContainerStatuses.length > 0 && { initContainerStatuses }),
    containerStatuses: statuses,
    ...(ephemeral.length > 0 && { ephemeralContainerStatuses: ephemeral }),
    qosClass: qosClass(pod),
  };
}

/**
 * The last status of a pod whose containers have all ended: every container has a terminated state, and the phase is
 * Succeeded or Failed, whatever is not known counting as failure.
 */
export function finalStatus(pod: Pod, status: PodStatus): PodStatus {
  const lost: ContainerState = {
    terminated: {
      exitCode: 137,
      reason: STATUS_UNKNOWN,
      message: 'The container could not be located when the pod was terminated',
    },
  };
  const ended = (container: ContainerStatus): ContainerStatus =>
    container.state?.terminated ? container : { ...container, state: lost, ready: false, started: false };
  const init = status.initContainerStatuses ?? [];
  const lastBegun = init.findLastIndex(({ state, lastState }) => !state?.waiting || lastState?.terminated);
  const initialized = (pod.spec.initContainers ?? []).every((container, i) =>
    isSidecar(container)
      ? init[i]?.state?.running || init[i]?.state?.terminated
      : init[i]?.state?.terminated?.exitCode === 0,
  );
  return {
    ...status,
    phase: isTerminalPhase(status.phase) ? status.phase! : 'Failed',
    ...(initialized && { containerStatuses: (status.containerStatuses ?? []).map(ended) }),
    ...(init.length > 0 && {
      initContainerStatuses: init.map((container, i) => (i <= lastBegun ? ended(container) : container)),
    }),
  };
}

/** The status of a pod that was refused: it never ran here. */
export function rejectedStatus(
  pod: Pod,
  reason: string,
  message: string,
  hostIPs: readonly string[],
  now: number,
): PodStatus {
  const generation = pod.metadata.generation;
  return {
    ...(generation !== undefined && { observedGeneration: generation }),
    phase: 'Failed',
    reason,
    message,
    qosClass: qosClass(pod),
    conditions: pod.status?.conditions ?? [],
    ...(hostIPs[0] !== undefined && {
      hostIP: hostIPs[0],
      hostIPs: hostIPs.slice(0, 2).map((ip) => ({ ip })),
    }),
    startTime: pod.status?.startTime ?? timestamp(now),
  };
}

/** The pod's addresses, of the node's primary family first, one of each family. */
function podIPs({ pod, state, hostIPs, previous }: StatusInput): string[] {
  if (pod.spec.hostNetwork) {
    const kept = (previous.podIPs ?? []).map(({ ip }) => ip!);
    const own = kept.length > 0 ? kept : hostIPs.slice(0, 1);
    const second = hostIPs[1];
    return second !== undefined && own.length === 1 && isV6(own[0]!) !== isV6(second)
      ? [...own, second]
      : own;
  }
  const sandbox = state.sandboxes[0];
  if (!sandbox) return [];
  const wantsV6 = hostIPs[0] !== undefined && isV6(hostIPs[0]);
  const primary = sandbox.ips.find((ip) => isV6(ip) === wantsV6);
  const secondary = sandbox.ips.find((ip) => isV6(ip) !== wantsV6);
  return [primary, secondary].filter((ip) => ip !== undefined);
}

function isV6(ip: string): boolean {
  return ip.includes(':');
}

function computePhase({ pod, state, terminal }: StatusInput, statuses: readonly ContainerStatus[]): string {
  const count = { pendingInit: 0, pendingSidecars: 0, failedInit: 0, unknown: 0, running: 0, waiting: 0 };
  let stopped = 0;
  let stoppedForGood = 0;
  let succeeded = 0;
  for (const container of pod.spec.initContainers ?? []) {
    const current = findStatus(statuses, container.name)?.state;
    const last = findStatus(statuses, container.name)?.lastState?.terminated;
    if (isSidecar(container)) {
      if (!current) count.unknown++;
      else if (current.running) {
        if (!findStatus(statuses, container.name)?.started) count.pendingSidecars++;
        count.running++;
      } else if (current.waiting && !last) {
        count.pendingSidecars++;
        count.waiting++;
      }
      continue;
    }
    const ended = current?.terminated ?? (current?.waiting ? last : undefined);
    if (!ended) count.pendingInit++;
    else if (ended.exitCode !== 0 && !restartsAfter(container, pod, ended.exitCode)) count.failedInit++;
  }
  for (const container of pod.spec.containers) {
    const status = findStatus(statuses, container.name);
    const ended =
      status?.state?.terminated ?? (status?.state?.waiting ? status.lastState?.terminated : undefined);
    if (status?.state?.running) count.running++;
    else if (ended) {
      stopped++;
      if (!restartsAfter(container, pod, ended.exitCode)) stoppedForGood++;
      if (status?.state?.terminated?.exitCode === 0) succeeded++;
    } else if (status?.state?.waiting) count.waiting++;
    else count.unknown++;
  }
  if (count.failedInit > 0) return 'Failed';
  const initializing = count.pendingInit > 0 || (count.pendingSidecars > 0 && !hasInitialized(pod, state));
  if (initializing || count.waiting > 0) return 'Pending';
  if (count.running > 0 && count.unknown === 0) return 'Running';
  if (count.running === 0 && stopped > 0 && count.unknown === 0) {
    if (terminal) return stopped === succeeded ? 'Succeeded' : 'Failed';
    if (stopped !== stoppedForGood) return 'Running';
    return stopped === succeeded ? 'Succeeded' : 'Failed';
  }
  return 'Pending';
}
