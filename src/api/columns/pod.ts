// The row of a pod: how its phase, conditions and container states become the one word under STATUS.

import { findCondition, isConditionTrue, isSidecar, timestampMs } from '../meta.ts';
import { isPodTerminal } from '../node-selection.ts';
import type { KubeObject } from '../object.ts';
import type { ContainerStateTerminated, ContainerStatus, Pod } from '../types/core-v1.ts';
import { humanDuration, since } from './age.ts';
import { name, table } from './table.ts';

interface Summary {
  status: string;
  ready: number;
  total: number;
  restarts: number;
  /** When a container last ended before it was started again, in ms; 0 when none was. */
  lastRestart: number;
}

function terminatedReason(terminated: ContainerStateTerminated): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

function lastEnd(status: ContainerStatus): number {
  return timestampMs(status.lastState?.terminated?.finishedAt) ?? 0;
}

function summarise(pod: Pod): Summary {
  const status = pod.status ?? {};
  const initContainers = pod.spec.initContainers ?? [];
  const sidecars = new Set(initContainers.filter(isSidecar).map((container) => container.name));
  const summary: Summary = {
    status: status.reason || status.phase || '',
    ready: 0,
    total: pod.spec.containers.length + sidecars.size,
    restarts: 0,
    lastRestart: 0,
  };
  if (findCondition(status.conditions, 'PodScheduled')?.reason === 'SchedulingGated')
    summary.status = 'SchedulingGated';

  let sidecarRestarts = 0;
  let sidecarLastRestart = 0;
  let initializing = false;
  for (const [i, container] of (status.initContainerStatuses ?? []).entries()) {
    const sidecar = sidecars.has(container.name);
    summary.restarts += container.restartCount;
    summary.lastRestart = Math.max(summary.lastRestart, lastEnd(container));
    if (sidecar) {
      sidecarRestarts += container.restartCount;
      sidecarLastRestart = Math.max(sidecarLastRestart, lastEnd(container));
    }
    const { terminated, waiting } = container.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (sidecar && container.started === true) {
      if (container.ready) summary.ready++;
      continue;
    }
    if (terminated !== undefined) summary.status = `Init:${terminatedReason(terminated)}`;
    else if (waiting?.reason && waiting.reason !== 'PodInitializing')
      summary.status = `Init:${waiting.reason}`;
    else summary.status = `Init:${i}/${initContainers.length}`;
    initializing = true;
    break;
  }

  if (!initializing || isConditionTrue(status.conditions, 'Initialized')) {
    summary.restarts = sidecarRestarts;
    summary.lastRestart = sidecarLastRestart;
    let running = false;
    for (const container of (status.containerStatuses ?? []).toReversed()) {
      summary.restarts += container.restartCount;
      summary.lastRestart = Math.max(summary.lastRestart, lastEnd(container));
      const { terminated, waiting } = container.state ?? {};
      if (waiting?.reason) {
        summary.status = waiting.reason;
      } else if (terminated !== undefined) {
        summary.status = terminatedReason(terminated);
      } else if (container.ready && container.state?.running !== undefined) {
        running = true;
        summary.ready++;
      }
    }
    // One container has completed while another still runs.
    if (summary.status === 'Completed' && running)
      summary.status = isConditionTrue(status.conditions, 'Ready') ? 'Running' : 'NotReady';
  }

  if (pod.metadata.deletionTimestamp !== undefined) {
    if (status.reason === 'NodeLost') summary.status = 'Unknown';
    else if (!isPodTerminal(pod)) summary.status = 'Terminating';
  }
  return summary;
}

/** `Running`, `Init:0/1`, `CrashLoopBackOff`, `Completed`, `Terminating`, …: what `kubectl get pods` shows. */
export function podStatusText(pod: Pod): string {
  return summarise(pod).status;
}

export const podTable = table<Pod>(
  [name, 'Ready', 'Status', 'Restarts', 'Age', '+IP', '+Node', '+Nominated Node', '+Readiness Gates'],
  (pod, now) => {
    const { status, ready, total, restarts, lastRestart } = summarise(pod);
    const gates = pod.spec.readinessGates ?? [];
    const passed = gates.filter((gate) => isConditionTrue(pod.status?.conditions, gate.conditionType));
    return [
      pod.metadata.name,
      `${ready}/${total}`,
      status,
      restarts !== 0 && lastRestart !== 0
        ? `${restarts} (${humanDuration(now - lastRestart)} ago)`
        : String(restarts),
      since(pod.metadata.creationTimestamp, now),
      pod.status?.podIPs?.[0]?.ip || '<none>',
      pod.spec.nodeName || '<none>',
      pod.status?.nominatedNodeName || '<none>',
      gates.length === 0 ? '<none>' : `${passed.length}/${gates.length}`,
    ];
  },
);

/** A row's conditions: that a pod has ended, so that a client can show it apart. */
export function podRowConditions(object: KubeObject): object[] {
  const phase = (object as unknown as Pod).status?.phase;
  if (phase !== 'Succeeded' && phase !== 'Failed') return [];
  return [
    {
      type: 'Completed',
      status: 'True',
      reason: phase,
      message: phase === 'Succeeded' ? 'The pod has completed successfully.' : 'The pod failed.',
    },
  ];
}
