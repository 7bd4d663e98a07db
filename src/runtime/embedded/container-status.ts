// What the CRI says of a container, from its record.

import type { Container, ContainerState, ContainerStatus } from '../cri.ts';
import type { ContainerPhase, ContainerRecord } from './records.ts';
import { signalName } from './stop-signal.ts';

const STATES: Readonly<Record<ContainerPhase, ContainerState>> = {
  created: 'CREATED',
  starting: 'CREATED',
  running: 'RUNNING',
  exited: 'EXITED',
};

export function stateOf({ phase }: ContainerRecord): ContainerState {
  return STATES[phase];
}

export function describe(record: ContainerRecord): Container {
  const { id, sandboxId, config, repoDigest, createdAt } = record;
  return {
    id,
    podSandboxId: sandboxId,
    metadata: config.metadata,
    image: config.imageReference,
    imageId: repoDigest ?? config.image,
    state: stateOf(record),
    createdAt,
    labels: config.labels,
    annotations: config.annotations,
  };
}

export function statusOf(record: ContainerRecord): ContainerStatus {
  const { config, user, process, phase } = record;
  const running = phase === 'running';
  return {
    ...describe(record),
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    exitCode: record.exitCode,
    reason: record.reason,
    message: record.message,
    mounts: config.mounts,
    logPath: record.logPath,
    resources: config.resources,
    ...(running && { user: { uid: user.uid, gid: user.gid, supplementalGroups: user.additionalGids } }),
    stopSignal: signalName(record.stopSignal),
    pid: running ? (process?.pid ?? 0) : 0,
  };
}
