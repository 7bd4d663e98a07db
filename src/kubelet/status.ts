// The pod status that the API shows, computed from the spec, the runtime's state and the probes' results. A pure
// function with upstream's rules (kubelet's generateAPIPodStatus): clients read phases, reasons and messages of it.

import { findContainerStatus as findStatus, isSidecar, timestamp } from '../api/index.ts';
import type {
  Container,
  ContainerState,
  ContainerStatus,
  Pod,
  PodCondition,
  PodStatus,
  VolumeMountStatus,
} from '../api/types/core-v1.ts';
import { hasInitialized, shouldStart } from './actions.ts';
import { containersOf, isTerminalPhase, restartsAfter } from './pod.ts';
import { qosClass } from './resources.ts';
import {
  type ContainerRecord,
  newestContainer,
  type PodRuntimeState,
  readySandbox,
} from './runtime-state.ts';

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

const STATUS_UNKNOWN = 'ContainerStatusUnknown';

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

// ---- addresses -----------------------------------------------------------------------------------------------------

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

// ---- containers ----------------------------------------------------------------------------------------------------

function volumeMountStatuses(container: Container): VolumeMountStatus[] | undefined {
  return container.volumeMounts?.map(({ name, mountPath, readOnly, recursiveReadOnly }) => ({
    name,
    mountPath,
    ...(readOnly && {
      readOnly,
      recursiveReadOnly:
        recursiveReadOnly === 'Enabled' || recursiveReadOnly === 'IfPossible'
          ? recursiveReadOnly
          : 'Disabled',
    }),
  }));
}

function containerStatuses(
  input: StatusInput,
  containers: readonly Container[],
  isInit: boolean,
): ContainerStatus[] {
  const statuses = containers.map((container) => containerStatus(input, container, isInit));
  return isInit ? statuses : statuses.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function containerStatus(input: StatusInput, container: Container, isInit: boolean): ContainerStatus {
  const { pod, state, previous } = input;
  const lists = [
    previous.containerStatuses,
    previous.initContainerStatuses,
    previous.ephemeralContainerStatuses,
  ];
  const old = lists.map((list) => findStatus(list, container.name)).find((found) => found !== undefined);
  const records = state.containers.filter((record) => record.name === container.name);
  const [current, before] = records;
  let status: ContainerStatus;
  if (current) {
    status = fromRecord(input, container, current, old);
    if (before) status = { ...status, lastState: stateOf(input, before, undefined) };
  } else {
    status = withoutRecord(pod, container, old);
  }

  if (isInit) {
    if (succeededRecord(current)) return status;
    // Its record was collected, but the regular containers could not have been created before it succeeded.
    if (!current && !isSidecar(container) && status.state?.waiting && anyRegularCreated(pod, state))
      return {
        ...status,
        state: {
          terminated: {
            exitCode: 0,
            reason: 'Completed',
            message:
              'Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally',
          },
        },
      };
  }
  const waiting = input.waiting.get(container.name);
  if (waiting && !input.terminal && shouldStart(container, pod, state)) {
    status = {
      ...status,
      ...(status.state?.terminated && { lastState: status.state }),
      state: {
        waiting: { reason: waiting.reason, ...(waiting.message && { message: waiting.message }) },
      },
    };
  }
  return status;
}

function succeededRecord(record: ContainerRecord | undefined): boolean {
  return record?.state === 'EXITED' && record.exitCode === 0;
}

function anyRegularCreated(pod: Pod, state: PodRuntimeState): boolean {
  return pod.spec.containers.some(({ name }) => newestContainer(state, name) !== undefined);
}

function withoutRecord(pod: Pod, container: Container, old: ContainerStatus | undefined): ContainerStatus {
  if (old?.state?.terminated) return { ...old };
  const mounts = volumeMountStatuses(container);
  const status: ContainerStatus = {
    name: container.name,
    image: container.image ?? '',
    imageID: '',
    ready: false,
    restartCount: old?.restartCount ?? 0,
    state: { waiting: { reason: pod.spec.initContainers?.length ? 'PodInitializing' : 'ContainerCreating' } },
    lastState: old?.lastState ?? {},
    ...(mounts && { volumeMounts: mounts }),
  };
  // It was seen running and its record is gone: it must have ended, though nobody knows how.
  if (!old?.state?.running || status.lastState?.terminated) return status;
  return {
    ...status,
    restartCount: status.restartCount + (pod.metadata.deletionTimestamp ? 0 : 1),
    lastState: {
      terminated: {
        exitCode: 137,
        reason: STATUS_UNKNOWN,
        message:
          'The container could not be located when the pod was deleted.  The container used to be Running',
      },
    },
  };
}

function fromRecord(
  input: StatusInput,
  container: Container,
  record: ContainerRecord,
  old: ContainerStatus | undefined,
): ContainerStatus {
  const mounts = volumeMountStatuses(container);
  const lost = record.state === 'UNKNOWN' && old?.state?.running !== undefined;
  const { user, stopSignal } = record.status;
  const requests = container.resources?.requests;
  return {
    name: record.name,
    image: record.image,
    imageID: record.imageId,
    containerID: `${input.runtimeName}://${record.id}`,
    restartCount: lost ? old.restartCount + 1 : record.restartCount,
    ready: false,
    state: stateOf(input, record, old),
    lastState: old && record.restartCount > 0 ? inheritedLastState(input, record, old) : {},
    ...(requests && { allocatedResources: requests }),
    resources: container.resources ?? {},
    ...(mounts && { volumeMounts: mounts }),
    ...(user && {
      user: {
        linux: {
          uid: user.uid,
          gid: user.gid,
          ...(user.supplementalGroups.length > 0 && { supplementalGroups: [...user.supplementalGroups] }),
        },
      },
    }),
    ...(stopSignal &&
      container.lifecycle?.stopSignal && {
        stopSignal: stopSignal as NonNullable<ContainerStatus['stopSignal']>,
      }),
  };
}

/** The record before this one may have been removed: what was last reported still tells how it ended. */
function inheritedLastState(
  input: StatusInput,
  record: ContainerRecord,
  old: ContainerStatus,
): ContainerState {
  const id = `${input.runtimeName}://${record.id}`;
  if (old.containerID !== id && old.state?.terminated) return { terminated: old.state.terminated };
  return old.lastState ?? {};
}

function stateOf(
  input: StatusInput,
  record: ContainerRecord,
  old: ContainerStatus | undefined,
): ContainerState {
  const containerID = `${input.runtimeName}://${record.id}`;
  switch (record.state) {
    case 'RUNNING':
      if (input.starting.has(record.id))
        return {
          waiting: {
            reason: input.pod.spec.initContainers?.length ? 'PodInitializing' : 'ContainerCreating',
          },
        };
      return { running: { startedAt: timestamp(record.startedAt) } };
    case 'EXITED':
      return {
        terminated: {
          exitCode: record.exitCode,
          ...(record.reason && { reason: record.reason }),
          ...(record.message && { message: record.message }),
          ...(record.startedAt > 0 && { startedAt: timestamp(record.startedAt) }),
          ...(record.finishedAt > 0 && { finishedAt: timestamp(record.finishedAt) }),
          containerID,
        },
      };
    case 'UNKNOWN':
      if (old?.state?.running)
        return {
          terminated: {
            exitCode: 137,
            reason: STATUS_UNKNOWN,
            message: 'The container could not be located when the pod was terminated',
          },
        };
      return { waiting: {} };
    default:
      return { waiting: {} };
  }
}

function markReady(
  input: StatusInput,
  status: ContainerStatus,
  container: Container,
  isRegular: boolean,
): void {
  const id = status.containerID?.slice(input.runtimeName.length + 3) ?? '';
  const running = status.state?.running !== undefined;
  const started = running && (input.probes.started(container, id) ?? true);
  status.started = started;
  if (!isRegular && !isSidecar(container)) status.ready = status.state?.terminated?.exitCode === 0;
  else status.ready = started && (input.probes.ready(container, id) ?? true);
}

// ---- phase ---------------------------------------------------------------------------------------------------------

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

// ---- conditions ----------------------------------------------------------------------------------------------------

interface ConditionInput {
  readonly pod: Pod;
  readonly phase: string | undefined;
  /** Init containers first. */
  readonly all: readonly ContainerStatus[];
}

type Verdict = Pick<PodCondition, 'type' | 'status' | 'reason' | 'message'>;

function names(items: readonly string[]): string {
  return `[${items.join(' ')}]`;
}

function sandboxCondition({ pod, state, terminal }: StatusInput): Verdict {
  const sandbox = readySandbox(state);
  const usable = !terminal && sandbox && (pod.spec.hostNetwork || sandbox.ips.length > 0);
  return { type: 'PodReadyToStartContainers', status: usable ? 'True' : 'False' };
}

function initializedCondition({ pod, phase, all }: ConditionInput): Verdict {
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

function containersReadyCondition({ pod, phase, all }: ConditionInput): Verdict {
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

function readyCondition(
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
function settleCondition(verdict: PodCondition, pod: Pod, previous: PodStatus, now: number): PodCondition {
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
