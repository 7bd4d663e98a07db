// Carries out what actions.ts decides for one pod: cgroup, volumes, sandbox, then its containers in order. Called by the
// pod's worker, one call at a time for each pod; every call starts from the runtime's state and can be repeated.

import { mkdir } from 'node:fs/promises';
import { isNotFound } from '../api/index.ts';
import type { Container, Pod, Service } from '../api/types/core-v1.ts';
import type { RuntimeClass } from '../api/types/node-v1.ts';
import { type Client, type Lister, resources } from '../client/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import type { PodSandboxStatus, RuntimeService } from '../runtime/cri.ts';
import { computeActions, type PodActions, type ProbeResults } from './actions.ts';
import { Backoff } from './backoff.ts';
import { ContainerStarter } from './container-start.ts';
import type { DnsSettings } from './dns.ts';
import type { NodeEvents } from './events.ts';
import type { HookRunner } from './hooks.ts';
import type { KubeletHost } from './host/host.ts';
import { Keyring } from './images/keyring.ts';
import { type ImagePuller, StartError } from './images/pull.ts';
import type { ContainerKiller, GracePeriod } from './kill.ts';
import { podPaths } from './paths.ts';
import { containersOf, findContainer, gracePeriod, type PodContainer, podFormat } from './pod.ts';
import type { PodCgroups } from './pod-cgroups.ts';
import type { References } from './references.ts';
import { containerResources, type ResourceList } from './resources.ts';
import {
  type ContainerRecord,
  newestContainer,
  type PodRuntimeState,
  type RuntimeStateCache,
} from './runtime-state.ts';
import { sandboxConfig } from './sandbox-config.ts';
import type { WaitingReason } from './status-input.ts';
import { formatDuration, messageOf } from './text.ts';
import { SetUpError } from './volumes/claims.ts';
import type { MountedVolumes, VolumeManager } from './volumes/manager.ts';

const CRASH_BACKOFF_MS = 10_000;
const LONGEST_CRASH_BACKOFF_MS = 300_000;

/** What a worker remembers of its pod between syncs. */
export interface PodMemory {
  /** Why containers could not be started, by name. */
  readonly waiting: Map<string, WaitingReason>;
  /** Containers whose postStart hook runs. */
  readonly starting: Set<string>;
  /** The pod's directory was made. */
  prepared: boolean;
  /** Where counting goes on for containers whose records were removed. */
  readonly restartCounts: Map<string, number>;
  /** Why the last change of a running container's limits failed. */
  resizeError: string | undefined;
}

/** Waits for all, also when one fails; then rejects with the first failure. */
async function allOf<T extends readonly unknown[]>(
  work: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  const results = await Promise.allSettled(work);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as unknown as T;
}

export interface SyncJob {
  readonly pod: Pod;
  readonly memory: PodMemory;
  /** Aborts when the pod is to be ended. */
  readonly signal: AbortSignal;
  /** Grants the containers that a sync ends their time; less, once the pod as a whole is to be ended sooner. */
  readonly grace: (seconds: number) => GracePeriod;
  /** Something that the status shows has changed. */
  readonly publish: () => void;
}

export interface SyncOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly runtime: RuntimeService;
  readonly host: KubeletHost;
  readonly states: RuntimeStateCache;
  readonly references: References;
  readonly volumes: VolumeManager;
  readonly puller: ImagePuller;
  readonly killer: ContainerKiller;
  readonly hooks: HookRunner;
  readonly probes: ProbeResults;
  readonly services: Lister<Service>;
  readonly allocatable: ResourceList;
  readonly nodeIPs: readonly string[];
  readonly cgroupRoot: string;
  readonly cgroups: PodCgroups;
  /** The text of the host's resolv.conf is read anew for each sandbox. */
  readonly dns: () => Promise<DnsSettings>;
  /** '' when the network is ready, else what is wrong. */
  readonly networkProblem: () => string;
}

/** The pod as a whole cannot be brought up now; an event has said why. */
export class SyncError extends Error {
  override readonly name = 'SyncError';
}

export class PodSyncer {
  readonly #options: SyncOptions;
  readonly #crashes: Backoff;
  readonly #starter: ContainerStarter;

  constructor(options: SyncOptions) {
    this.#options = options;
    this.#crashes = new Backoff(options.clock, CRASH_BACKOFF_MS, LONGEST_CRASH_BACKOFF_MS);
    this.#starter = new ContainerStarter(options);
  }

  /**
   * One step towards the spec. Resolves with the ms after which it is worth trying again (undefined: when something
   * happens); rejects with SyncError when the pod as a whole could not be brought up.
   */
  async sync(job: SyncJob): Promise<number | undefined> {
    const { pod, signal, memory } = job;
    const { states, events, host } = this.#options;
    const problem = this.#options.networkProblem();
    if (problem !== '' && !pod.spec.hostNetwork) {
      const message = `network is not ready: ${problem}`;
      events.pod(pod, 'Warning', 'NetworkNotReady', message);
      throw new SyncError(message);
    }
    if (host.storage && !memory.prepared)
      await mkdir(podPaths(host.storage, pod).pod, { recursive: true, mode: 0o750 });
    memory.prepared = true;
    const [volumes, state] = await allOf([
      this.#mountVolumes(pod, signal),
      states.get(pod.metadata.uid),
      this.#ensureCgroup(pod),
    ]);
    const actions = computeActions(pod, state, this.#options.probes, host.machine.memoryBytes);
    this.#forgetReasons(memory, actions);
    if (actions.killPod && !(await this.#endPresent(job, state, actions))) return undefined;
    if (actions.restartAll) {
      await this.#startOver(job, state);
      return 0;
    }
    if (!actions.killPod) {
      await this.#killContainers(job, actions);
      await this.#resizeContainers(job, actions);
    }
    signal.throwIfAborted();
    const sandbox = actions.createSandbox
      ? await this.#createSandbox(pod, actions, signal)
      : state.sandboxes.find(({ id }) => id === actions.sandboxId);
    if (!sandbox) return undefined;
    return this.#startContainers(job, actions, sandbox, volumes);
  }

  forget(podUid: string): void {
    this.#crashes.resetPrefix(`${podUid}_`);
    this.#options.puller.forget(podUid);
  }

  async #ensureCgroup(pod: Pod): Promise<void> {
    const { cgroups, events } = this.#options;
    try {
      await cgroups.ensure(pod);
    } catch (error) {
      const message = `unable to ensure pod container exists: ${messageOf(error)}`;
      events.pod(pod, 'Warning', 'FailedToCreatePodContainer', message);
      throw new SyncError(message, { cause: error });
    }
  }

  async #mountVolumes(pod: Pod, signal: AbortSignal): Promise<MountedVolumes> {
    const { volumes, events } = this.#options;
    try {
      return await volumes.mount(pod, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const message = messageOf(error);
      const reason = error instanceof SetUpError ? error.reason : 'FailedMount';
      events.pod(pod, 'Warning', reason, message);
      throw new SyncError(message, { cause: error });
    }
  }

  #forgetReasons({ waiting }: PodMemory, actions: PodActions): void {
    if (waiting.size === 0) return;
    const starting = [
      ...actions.initContainersToStart,
      ...actions.containersToStart,
      ...actions.ephemeralContainersToStart,
    ];
    for (const name of waiting.keys())
      if (!starting.some((container) => container.name === name)) waiting.delete(name);
  }

  /** Ends what runs in a sandbox that no longer serves, or the whole pod. Resolves whether to go on. */
  async #endPresent(job: SyncJob, state: PodRuntimeState, actions: PodActions): Promise<boolean> {
    const { runtime, killer, events, states } = this.#options;
    const { pod } = job;
    if (actions.createSandbox && actions.sandboxId !== undefined)
      events.pod(pod, 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    await killer.killAll(pod, state, job.grace(gracePeriod(pod)));
    for (const { id, state: sandboxState } of state.sandboxes)
      if (sandboxState === 'READY') await runtime.stopPodSandbox(id);
    // A new sandbox means that initialization starts over: the old init containers must not be taken for its own.
    if (actions.createSandbox) {
      const init = new Set((pod.spec.initContainers ?? []).map(({ name }) => name));
      for (const record of state.containers)
        if (init.has(record.name)) await runtime.removeContainer(record.id);
    }
    states.invalidate(pod.metadata.uid);
    return actions.createSandbox;
  }

  /** Ends and forgets all containers but keeps the sandbox; the next sync starts with initialization. */
  async #startOver({ pod, memory, grace }: SyncJob, state: PodRuntimeState): Promise<void> {
    const { killer, runtime, states } = this.#options;
    await killer.killAll(pod, state, grace(gracePeriod(pod)));
    for (const record of state.containers.toReversed())
      memory.restartCounts.set(record.name, record.restartCount + 1);
    for (const { id } of state.containers) await runtime.removeContainer(id);
    states.invalidate(pod.metadata.uid);
  }

  async #killContainers({ pod, grace }: SyncJob, actions: PodActions): Promise<void> {
    const { killer, states } = this.#options;
    await Promise.all(
      actions.containersToKill.map(({ record, message, cause }) => {
        const container = findContainer(pod, record.name)?.container;
        const probe =
          cause === 'liveness'
            ? container?.livenessProbe
            : cause === 'startup'
              ? container?.startupProbe
              : undefined;
        const seconds = probe?.terminationGracePeriodSeconds ?? gracePeriod(pod);
        return killer.kill(pod, record, grace(seconds), message);
      }),
    );
    if (actions.containersToKill.length > 0) states.invalidate(pod.metadata.uid);
  }

  async #resizeContainers({ pod, memory }: SyncJob, actions: PodActions): Promise<void> {
    const { runtime, host, states, logger } = this.#options;
    memory.resizeError = undefined;
    for (const { record, container } of actions.containersToResize) {
      try {
        const { oomScoreAdj: _, ...limits } = containerResources(pod, container, host.machine.memoryBytes);
        // A limit that is gone has to be taken away, not left out.
        await runtime.updateContainerResources(record.id, { cpuQuota: -1, memoryLimitBytes: -1, ...limits });
        logger.info({ pod: podFormat(pod), container: container.name, ...limits }, 'a container was resized');
      } catch (error) {
        memory.resizeError = `Error resizing container ${container.name}: ${messageOf(error)}`;
        throw new SyncError(memory.resizeError, { cause: error });
      } finally {
        states.invalidate(pod.metadata.uid);
      }
    }
  }

  async #createSandbox(pod: Pod, actions: PodActions, signal: AbortSignal): Promise<PodSandboxStatus> {
    const { runtime, events, host, cgroupRoot, states } = this.#options;
    try {
      const handler = await this.#runtimeHandler(pod, signal);
      const paths = host.storage && podPaths(host.storage, pod);
      if (paths) await mkdir(paths.logs, { recursive: true, mode: 0o755 });
      const config = sandboxConfig(
        pod,
        actions.attempt,
        {
          dns: await this.#options.dns(),
          cgroupRoot,
          logDirectory: paths?.logs ?? '',
          seccompDirectory: host.storage && `${host.storage.rootDirectory}/seccomp`,
        },
        (reason, message, ofNode) => {
          events.pod(pod, 'Warning', reason, message);
          if (ofNode !== undefined) events.node('Warning', reason, ofNode);
        },
      );
      const id = await runtime.runPodSandbox(config, handler);
      states.invalidate(pod.metadata.uid);
      return await runtime.podSandboxStatus(id);
    } catch (error) {
      if (signal.aborted) throw error;
      const message = `Failed to create pod sandbox: ${messageOf(error)}`;
      events.pod(pod, 'Warning', 'FailedCreatePodSandBox', message);
      throw new SyncError(message, { cause: error });
    }
  }

  async #runtimeHandler(pod: Pod, signal: AbortSignal): Promise<string> {
    const name = pod.spec.runtimeClassName;
    if (!name) return '';
    try {
      const found: RuntimeClass = await this.#options.client
        .resource(resources.runtimeClasses)
        .get(name, { signal });
      return found.handler;
    } catch (error) {
      if (isNotFound(error)) throw new Error(`RuntimeClass "${name}" not found`, { cause: error });
      throw error;
    }
  }

  async #startContainers(
    job: SyncJob,
    actions: PodActions,
    sandbox: PodSandboxStatus,
    volumes: MountedVolumes,
  ): Promise<number | undefined> {
    const { pod, signal } = job;
    const wanted = [
      ...actions.ephemeralContainersToStart,
      ...actions.initContainersToStart,
      ...actions.containersToStart,
    ];
    if (wanted.length === 0) return undefined;
    const members = new Map(containersOf(pod).map((member) => [member.container.name, member]));
    const keyring = await this.#keyring(pod, signal);
    const state = await this.#options.states.get(pod.metadata.uid);
    let retryAfter: number | undefined;
    for (const container of wanted) {
      const member = members.get(container.name)!;
      const wait = await this.#start(job, member, state, sandbox, volumes, keyring);
      if (wait === undefined) continue;
      retryAfter = Math.min(retryAfter ?? Number.POSITIVE_INFINITY, wait);
      // Nothing follows an init container that did not start.
      if (member.kind === 'init') break;
    }
    return retryAfter;
  }

  /** Undefined when the container was started; else the ms after which to try again (Infinity: when something happens). */
  async #start(
    job: SyncJob,
    member: PodContainer,
    state: PodRuntimeState,
    sandbox: PodSandboxStatus,
    volumes: MountedVolumes,
    keyring: Keyring,
  ): Promise<number | undefined> {
    const { pod, memory, signal, publish } = job;
    const { name } = member.container;
    try {
      if (member.kind !== 'ephemeral') this.#checkCrashes(pod, member, state);
      await this.#starter.start({
        pod,
        member,
        state,
        sandbox,
        volumes,
        keyring,
        signal,
        starting: memory.starting,
        restartCounts: memory.restartCounts,
        publish,
      });
      memory.waiting.delete(name);
      return undefined;
    } catch (error) {
      if (signal.aborted || !(error instanceof StartError)) throw error;
      memory.waiting.set(name, { reason: error.reason, message: error.message });
      this.#options.logger.info(
        { pod: podFormat(pod), container: name, reason: error.reason, message: error.message },
        'a container was not started',
      );
      return error.retryAfterMs ?? DEFAULT_RETRY_MS;
    }
  }

  #checkCrashes(pod: Pod, member: PodContainer, state: PodRuntimeState): void {
    const { container } = member;
    const ended: ContainerRecord | undefined = state.containers.find(
      (record) => record.name === container.name && record.state === 'EXITED',
    );
    if (!ended || newestContainer(state, container.name) !== ended) return;
    const key = `${pod.metadata.uid}_${crashKey(container)}`;
    const wait = this.#crashes.remaining(key, ended.finishedAt);
    if (wait > 0) {
      this.#options.events.container(
        pod,
        member,
        'Warning',
        'BackOff',
        `Back-off restarting failed container ${container.name} in pod ${podFormat(pod)}`,
      );
      const delay = formatDuration(this.#crashes.delay(key));
      throw new StartError(
        'CrashLoopBackOff',
        `back-off ${delay} restarting failed container=${container.name} pod=${podFormat(pod)}`,
        wait,
      );
    }
    this.#crashes.next(key, ended.finishedAt);
  }

  async #keyring(pod: Pod, signal: AbortSignal): Promise<Keyring> {
    const { references, logger, events } = this.#options;
    const keyring = new Keyring();
    const missing: string[] = [];
    for (const { name } of pod.spec.imagePullSecrets ?? []) {
      if (!name) continue;
      const secret = await references.secret(pod.metadata.namespace ?? '', name, signal);
      if (secret) keyring.add(secret, (message) => logger.warn({ pod: podFormat(pod) }, message));
      else missing.push(name);
    }
    if (missing.length > 0)
      events.pod(
        pod,
        'Warning',
        'FailedToRetrieveImagePullSecret',
        `Unable to retrieve some image pull secrets (${missing.join(', ')}); attempting to pull the image may not succeed.`,
      );
    return keyring;
  }
}

/** For failures that nothing will announce the end of. */
const DEFAULT_RETRY_MS = 10_000;

/** A container of another image is another container: its crashes are counted anew. */
function crashKey(container: Container): string {
  return `${container.name}_${container.image ?? ''}`;
}
