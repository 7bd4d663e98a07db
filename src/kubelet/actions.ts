// What has to be done so that the runtime's state of a pod becomes what its spec asks: which sandbox, which containers
// to kill, which to start. A pure function of the two and of the probes' results, in the manner of upstream's
// computePodActions (pkg/kubelet/kuberuntime), sidecars after KEP-753. sync.ts carries it out.

import { isSidecar } from '../api/index.ts';
import type { Container, Pod } from '../api/types/core-v1.ts';
import { needsRestart, outdatedResources } from './allocation.ts';
import { containerHash, containersOf, findContainer, restartsAfter, restartsWholePod } from './pod.ts';
import { type ContainerRecord, newestContainer, type PodRuntimeState } from './runtime-state.ts';

export type ProbeOutcome = 'success' | 'failure' | 'unknown';

/** What the probes of running containers have found, by container id; undefined: no result yet. */
export interface ProbeResults {
  liveness(containerId: string): ProbeOutcome | undefined;
  startup(containerId: string): ProbeOutcome | undefined;
}

export interface KillOrder {
  readonly record: ContainerRecord;
  readonly message: string;
  /** A liveness or startup probe's own grace period takes the place of the pod's (KEP-2238). */
  readonly cause: 'changed' | 'liveness' | 'startup' | 'unknown';
}

/** Limits that a running container is to get without a restart. */
export interface ResizeOrder {
  readonly record: ContainerRecord;
  readonly container: Container;
}

export interface PodActions {
  /** End everything: nothing of this pod will run again. */
  readonly killPod: boolean;
  /** A container asked for all to start over: everything that ran is ended and forgotten, the sandbox stays. */
  readonly restartAll: boolean;
  /** The present sandbox, when there is one, no longer serves. */
  readonly sandboxChanged: boolean;
  readonly createSandbox: boolean;
  readonly sandboxId: string | undefined;
  /** The attempt number of the sandbox to create. */
  readonly attempt: number;
  readonly initContainersToStart: readonly Container[];
  readonly containersToStart: readonly Container[];
  readonly ephemeralContainersToStart: readonly Container[];
  readonly containersToKill: readonly KillOrder[];
  readonly containersToResize: readonly ResizeOrder[];
}

interface Draft {
  killPod: boolean;
  initContainersToStart: Container[];
  containersToStart: Container[];
  ephemeralContainersToStart: Container[];
  containersToKill: KillOrder[];
  containersToResize: ResizeOrder[];
}

function succeeded(record: ContainerRecord | undefined): boolean {
  return record?.state === 'EXITED' && record.exitCode === 0;
}

/** Whether the container is to be started in the next sync, seen from its own history. */
export function shouldStart(container: Container, pod: Pod, state: PodRuntimeState): boolean {
  if (pod.metadata.deletionTimestamp) return false;
  const record = newestContainer(state, container.name);
  if (!record) return true;
  if (record.state === 'RUNNING') return false;
  if (record.state === 'EXITED') return restartsAfter(container, pod, record.exitCode);
  return true;
}

/** Whether a regular container has been started in the present sandbox: from then on the pod counts as initialized. */
export function hasInitialized(pod: Pod, state: PodRuntimeState): boolean {
  const sandbox = state.sandboxes[0]?.id;
  return state.containers.some(
    (record) =>
      record.sandboxId === sandbox &&
      (record.state === 'RUNNING' || record.state === 'EXITED') &&
      pod.spec.containers.some((container) => container.name === record.name),
  );
}

/** The container whose end is to start the whole pod over. */
function restartRequest(pod: Pod, state: PodRuntimeState): Container | undefined {
  return containersOf(pod).find(({ container }) => {
    const record = newestContainer(state, container.name);
    return record?.state === 'EXITED' && restartsWholePod(container, record.exitCode);
  })?.container;
}

function sandboxChange(pod: Pod, state: PodRuntimeState): { changed: boolean; id?: string; attempt: number } {
  const newest = state.sandboxes[0];
  if (!newest) return { changed: true, attempt: 0 };
  const ready = state.sandboxes.filter((sandbox) => sandbox.state === 'READY').length;
  const wantsNodeNetwork = pod.spec.hostNetwork === true;
  const changed =
    ready > 1 ||
    newest.state !== 'READY' ||
    (newest.namespaces.network === 'NODE') !== wantsNodeNetwork ||
    (!wantsNodeNetwork && newest.ips.length === 0);
  return { changed, id: newest.id, attempt: changed ? newest.metadata.attempt + 1 : newest.metadata.attempt };
}

/** `memoryCapacity` is the machine's, from which OOM scores follow. */
export function computeActions(
  pod: Pod,
  state: PodRuntimeState,
  probes: ProbeResults,
  memoryCapacity: number,
): PodActions {
  const { changed, id, attempt } = sandboxChange(pod, state);
  const restart = changed ? undefined : restartRequest(pod, state);
  const draft: Draft = {
    killPod: changed,
    initContainersToStart: [],
    containersToStart: [],
    ephemeralContainersToStart: [],
    containersToKill: [],
    containersToResize: [],
  };
  const finish = (createSandbox: boolean): PodActions => ({
    ...draft,
    restartAll: restart !== undefined,
    sandboxChanged: changed,
    createSandbox,
    sandboxId: id,
    attempt,
  });
  const initContainers = pod.spec.initContainers ?? [];

  if (changed) {
    // A pod that never restarts does not get a second sandbox once something of it has run.
    const restartsAnything =
      pod.spec.restartPolicy !== 'Never' ||
      pod.spec.containers.some((container) => container.restartPolicy !== undefined);
    if (!restartsAnything && attempt > 0 && state.containers.length > 0) return finish(false);
    const wanted = pod.spec.containers.filter((container) => {
      const record = newestContainer(state, container.name);
      return record?.state !== 'EXITED' || restartsAfter(container, pod, record.exitCode);
    });
    if (wanted.length === 0) return finish(false);
    const first = initContainers[0];
    if (first) draft.initContainersToStart.push(first);
    else draft.containersToStart.push(...wanted);
    return finish(true);
  }

  if (restart) return finish(false);
  for (const container of pod.spec.ephemeralContainers ?? [])
    if (!newestContainer(state, container.name)) draft.ephemeralContainersToStart.push(container);

  planResizes(pod, state, memoryCapacity, draft);
  const initialized = planInitContainers(pod, state, probes, draft);
  if (draft.killPod || !initialized) return finish(false);

  let kept = 0;
  for (const container of pod.spec.containers) {
    const record = newestContainer(state, container.name);
    if (record?.state !== 'RUNNING') {
      if (!shouldStart(container, pod, state)) continue;
      draft.containersToStart.push(container);
      if (record?.state === 'UNKNOWN')
        draft.containersToKill.push({
          record,
          message: 'Container is in unknown state, try killing it before starting it again',
          cause: 'unknown',
        });
      continue;
    }
    if (draft.containersToKill.some((order) => order.record === record)) {
      draft.containersToStart.push(container);
      continue;
    }
    const order = reasonToKill(container, record, probes);
    if (!order) {
      kept++;
      continue;
    }
    const restart = order.cause === 'changed' || restartsAfter(container, pod, 137);
    if (restart) draft.containersToStart.push(container);
    draft.containersToKill.push(
      restart ? { ...order, message: `${order.message}, will be restarted` } : order,
    );
  }
  if (kept === 0 && draft.containersToStart.length === 0 && draft.containersToKill.length === 0) {
    draft.killPod = true;
    // Sidecars do not keep a pod alive.
    draft.initContainersToStart = [];
  }
  return finish(false);
}

/** Running containers whose limits are not what the pod was given: changed in place, or restarted where they ask for it. */
function planResizes(pod: Pod, state: PodRuntimeState, memoryCapacity: number, draft: Draft): void {
  for (const { container, kind } of containersOf(pod)) {
    if (kind !== 'container' && kind !== 'sidecar') continue;
    const record = newestContainer(state, container.name);
    if (record?.state !== 'RUNNING') continue;
    const changed = outdatedResources(pod, container, record, memoryCapacity);
    if (changed.length === 0) continue;
    if (!needsRestart(container, changed)) draft.containersToResize.push({ record, container });
    else {
      const message = `Container ${container.name} resize requires restart`;
      draft.containersToKill.push({ record, message, cause: 'changed' });
      if (kind === 'sidecar') draft.initContainersToStart.push(container);
    }
  }
}

function reasonToKill(
  container: Container,
  record: ContainerRecord,
  probes: ProbeResults,
): KillOrder | undefined {
  if (record.hash !== '' && record.hash !== containerHash(container))
    return { record, message: `Container ${container.name} definition changed`, cause: 'changed' };
  if (probes.liveness(record.id) === 'failure')
    return { record, message: `Container ${container.name} failed liveness probe`, cause: 'liveness' };
  if (probes.startup(record.id) === 'failure')
    return { record, message: `Container ${container.name} failed startup probe`, cause: 'startup' };
  return undefined;
}

/**
 * Plans the next step of initialization: at most one regular init container at a time, sidecars kept running.
 * Returns whether the regular containers may start.
 */
function planInitContainers(pod: Pod, state: PodRuntimeState, probes: ProbeResults, draft: Draft): boolean {
  const containers = pod.spec.initContainers ?? [];
  const initialized = hasInitialized(pod, state);
  // Records of finished init containers may have been collected: a later one's record proves that they succeeded.
  const latestSeen = containers.findLastIndex(
    (container) => newestContainer(state, container.name) !== undefined,
  );
  for (const [index, container] of containers.entries()) {
    const record = newestContainer(state, container.name);
    const passed = initialized || index < latestSeen;
    const proceed = isSidecar(container)
      ? planSidecar(container, record, passed, initialized, probes, draft)
      : planInitContainer(pod, container, record, passed, draft);
    if (!proceed) return initialized;
  }
  return true;
}

function planInitContainer(
  pod: Pod,
  container: Container,
  record: ContainerRecord | undefined,
  passed: boolean,
  draft: Draft,
): boolean {
  if (passed && (record === undefined || succeeded(record))) return true;
  if (passed && record?.state !== 'EXITED') return true;
  switch (record?.state) {
    case 'RUNNING':
      return false;
    case 'EXITED':
      if (record.exitCode === 0) return true;
      if (restartsAfter(container, pod, record.exitCode)) draft.initContainersToStart.push(container);
      else draft.killPod = true;
      return false;
    case 'UNKNOWN':
      draft.containersToKill.push({
        record,
        message: 'Init container is in unknown state, try killing it before starting it again',
        cause: 'unknown',
      });
      draft.initContainersToStart.push(container);
      return false;
    default:
      draft.initContainersToStart.push(container);
      return false;
  }
}

function planSidecar(
  container: Container,
  record: ContainerRecord | undefined,
  passed: boolean,
  initialized: boolean,
  probes: ProbeResults,
  draft: Draft,
): boolean {
  if (record?.state !== 'RUNNING') {
    if (record?.state === 'UNKNOWN')
      draft.containersToKill.push({
        record,
        message: 'Init container is in unknown state, try killing it before starting it again',
        cause: 'unknown',
      });
    draft.initContainersToStart.push(container);
    return passed;
  }
  if (draft.containersToKill.some((order) => order.record === record)) return passed;
  const order = reasonToKill(container, record, probes);
  if (order) {
    draft.containersToKill.push({ ...order, message: `${order.message}, will be restarted` });
    draft.initContainersToStart.push(container);
    return passed || order.cause === 'liveness';
  }
  // The next container waits until this one has started.
  if (container.startupProbe && !initialized && probes.startup(record.id) !== 'success') return passed;
  return true;
}

/** The pod's container of that record, whatever list it stands in. */
export function specOf(pod: Pod, record: ContainerRecord): Container | undefined {
  return findContainer(pod, record.name)?.container;
}
