// The statuses of a pod's containers: their states, the states before, restart counts and readiness, from the runtime's
// records where there are some and from what was last reported where there are none (kubelet's
// convertToAPIContainerStatuses). Pure.

import { findContainerStatus as findStatus, isSidecar, timestamp } from '../api/index.ts';
import type {
  Container,
  ContainerState,
  ContainerStatus,
  Pod,
  VolumeMountStatus,
} from '../api/types/core-v1.ts';
import { shouldStart } from './actions.ts';
import { type ContainerRecord, newestContainer, type PodRuntimeState } from './runtime-state.ts';
import { STATUS_UNKNOWN, type StatusInput } from './status-input.ts';

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

export function containerStatuses(
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
    state: notStarted(pod),
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

/** What a container shows that nothing is known to keep from starting. */
function notStarted(pod: Pod): ContainerState {
  return { waiting: { reason: pod.spec.initContainers?.length ? 'PodInitializing' : 'ContainerCreating' } };
}

function stateOf(
  input: StatusInput,
  record: ContainerRecord,
  old: ContainerStatus | undefined,
): ContainerState {
  const containerID = `${input.runtimeName}://${record.id}`;
  switch (record.state) {
    case 'RUNNING':
      if (input.starting.has(record.id)) return notStarted(input.pod);
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
      return notStarted(input.pod);
    default:
      return notStarted(input.pod);
  }
}

/** Sets what the probes say of a container. */
export function markReady(
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
