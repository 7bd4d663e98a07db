// Which of a container's lives a request for logs means, and the words for when there is none: kubectl shows them as
// they are (kubelet's validateContainerLogStatus).

import { findContainerStatus } from '../../api/index.ts';
import type { PodStatus } from '../../api/types/core-v1.ts';

export class LogTargetError extends Error {
  override readonly name = 'LogTargetError';
}

function idOf(containerID: string): string {
  return containerID.slice(containerID.indexOf('://') + 3);
}

/** The runtime's id of the container whose log is meant. Throws LogTargetError that says why there is none. */
export function logTarget(pod: string, status: PodStatus, container: string, previous: boolean): string {
  const found =
    findContainerStatus(status.containerStatuses, container) ??
    findContainerStatus(status.initContainerStatuses, container) ??
    findContainerStatus(status.ephemeralContainerStatuses, container);
  if (!found) throw new LogTargetError(`container "${container}" in pod "${pod}" is not available`);
  const { state = {}, lastState = {} } = found;
  const last = lastState.terminated?.containerID;
  if (previous) {
    if (!last)
      throw new LogTargetError(`previous terminated container "${container}" in pod "${pod}" not found`);
    return idOf(last);
  }
  if (state.running && found.containerID) return idOf(found.containerID);
  if (state.terminated || lastState.terminated) {
    const id = state.terminated?.containerID || last;
    if (!id) throw new LogTargetError(`container "${container}" in pod "${pod}" is terminated`);
    return idOf(id);
  }
  const start = `container "${container}" in pod "${pod}" is waiting to start`;
  switch (state.waiting?.reason) {
    case undefined:
      throw new LogTargetError(`${start} - no logs yet`);
    case 'ErrImagePull':
      throw new LogTargetError(`${start}: image can't be pulled`);
    case 'ImagePullBackOff':
      throw new LogTargetError(`${start}: trying and failing to pull image`);
    default:
      throw new LogTargetError(`${start}: ${state.waiting?.reason}`);
  }
}
