// One worker for each pod of the node: it decides, one step at a time, whether the pod is brought up, ended or cleaned
// away. Steps never overlap; whatever happens meanwhile (a change in the API, an exit, a probe's result, a timer) wakes
// the worker, which then looks at everything again. The status is published beside the steps, so that a slow pull does
// not hide an exit.
//
//   syncing ──(deleted, evicted, deadline, finished)──▶ terminating ──(all containers ended)──▶ terminated
//   terminated ──(volumes and cgroup gone; deleted in the API)──▶ gone
//
// When the node is stopped, a worker is halted: its containers end, and the pod stays what it was for the next agent.

import type { Pod, PodCondition, PodStatus } from '../api/types/core-v1.ts';
import { delay } from '../client/index.ts';
import type { Clock, Logger, Timer } from '../component/index.ts';
import type { RuntimeService } from '../runtime/cri.ts';
import { type Allocation, initialAllocation, type PendingResize } from './allocation.ts';
import type { NodeEvents } from './events.ts';
import type { KubeletHost } from './host/host.ts';
import { type ContainerKiller, GracePeriod } from './kill.ts';
import { podPaths } from './paths.ts';
import { gracePeriod, isTerminalPhase, podKey } from './pod.ts';
import type { PodCgroups } from './pod-cgroups.ts';
import type { ProbeManager } from './probes/manager.ts';
import { abortable, type References } from './references.ts';
import type { PodRuntimeState, RuntimeStateCache } from './runtime-state.ts';
import { finalStatus, generateStatus, rejectedStatus } from './status.ts';
import type { StatusInput } from './status-input.ts';
import type { StatusManager } from './status-manager.ts';
import { type PodMemory, type PodSyncer, SyncError } from './sync.ts';
import type { VolumeManager } from './volumes/manager.ts';

const RETRY_MS = 500;
const LONGEST_RETRY_MS = 122_000;

export interface Rejection {
  readonly reason: string;
  readonly message: string;
}

/** Why the agent ends a pod that the API wants to run. */
export interface Eviction extends Rejection {
  /** Absent: the pod's own. */
  readonly graceSeconds?: number;
  readonly condition?: PodCondition;
}

export interface WorkerContext {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly runtime: RuntimeService;
  readonly host: KubeletHost;
  readonly states: RuntimeStateCache;
  readonly statuses: StatusManager;
  readonly references: References;
  readonly volumes: VolumeManager;
  readonly probes: ProbeManager;
  readonly killer: ContainerKiller;
  readonly syncer: PodSyncer;
  readonly nodeIPs: readonly string[];
  readonly cgroups: PodCgroups;
  readonly runtimeName: () => string;
  /** Takes in newer resources of a pod that has others now. */
  readonly allocate: (pod: Pod, given: Pod) => Allocation;
  /** Undefined: the pod may run here. Called once, before anything is started for it. */
  readonly admit: (pod: Pod) => Rejection | undefined;
  /** The worker has nothing left to do. */
  readonly onGone: (worker: PodWorker) => void;
}

type Phase = 'syncing' | 'terminating' | 'terminated' | 'gone';

export class PodWorker {
  readonly uid: string;
  readonly #context: WorkerContext;
  readonly #memory: PodMemory = {
    waiting: new Map(),
    starting: new Set(),
    restartCounts: new Map(),
    prepared: false,
    resizeError: undefined,
  };
  /** As the API last showed it. */
  #object: Pod;
  /** The same with the resources that the pod was given. */
  #pod: Pod;
  #pendingResize: PendingResize | undefined;
  #phase: Phase = 'syncing';
  #admitted = false;
  #rejected = false;
  /** The pod is gone from the API. */
  #removed = false;
  #eviction: Eviction | undefined;
  #grace: GracePeriod | undefined;
  /** The grace periods of single containers that the present sync ends. */
  readonly #kills = new Set<GracePeriod>();
  /** Set once the node is stopped: nothing is started, and what ends is not reported. */
  #halted: Promise<void> | undefined;
  readonly #ended = Promise.withResolvers<void>();
  /** Aborts the present sync when the pod is to be ended. */
  #sync = new AbortController();
  #dirty = false;
  #running: Promise<void> | undefined;
  #publishing: Promise<void> | undefined;
  #publishAgain = false;
  #retry: Timer | undefined;
  #retryMs = RETRY_MS;
  #deadline: Timer | undefined;
  #stopped = false;

  constructor(pod: Pod, context: WorkerContext) {
    this.uid = pod.metadata.uid;
    this.#object = pod;
    this.#pod = initialAllocation(pod);
    this.#context = context;
    context.references.hold(pod);
    this.#noticeEnd();
    this.#armDeadline();
  }

  /** The pod as the API last showed it, with the resources that it was given. */
  get pod(): Pod {
    return this.#pod;
  }

  /** A resize waits for room. */
  get waitsForRoom(): boolean {
    return this.#pendingResize?.reason === 'Deferred';
  }

  /** Other pods left: perhaps there is room now. */
  retryResize(): void {
    this.#allocate(this.#object);
    this.notice();
  }

  /** Whether the pod was admitted and its containers are not known to have ended: its resources are taken. */
  get active(): boolean {
    return this.#admitted && !this.#rejected && (this.#phase === 'syncing' || this.#phase === 'terminating');
  }

  get terminating(): boolean {
    return this.#phase !== 'syncing' || this.#endRequested || this.#halted !== undefined;
  }

  /** Something happened that may concern the pod. */
  wake(): void {
    if (this.#stopped || this.#halted || this.#phase === 'gone') return;
    this.#dirty = true;
    this.#running ??= this.#run();
  }

  /** The runtime or a probe reported something. */
  notice(): void {
    this.publish();
    this.wake();
  }

  /** A newer version of the pod. */
  update(pod: Pod): void {
    const before = this.#object;
    this.#allocate(pod);
    this.#context.statuses.observe(pod);
    if (!concerns(before, pod)) return;
    this.#context.references.hold(pod);
    this.#context.volumes.observe(pod);
    this.#noticeEnd();
    this.#armDeadline();
    this.notice();
  }

  /** The pod is gone from the API: end what is left of it. */
  remove(pod: Pod): void {
    this.#allocate(pod);
    this.#removed = true;
    this.#noticeEnd();
    this.wake();
  }

  /** Ends the pod although the API wants it. Does nothing when it is ending already. */
  evict(eviction: Eviction): boolean {
    if (this.terminating) return false;
    this.#eviction = eviction;
    this.#noticeEnd();
    this.notice();
    return true;
  }

  /**
   * Ends the pod's containers because the node is stopped: as those of a deleted pod, within `seconds` or the pod's own
   * grace period, whichever is shorter. In the API the pod stays what it is, but is not ready; nothing of it is started
   * until another agent takes it up. A pod that is ending anyway goes on ending. Resolves when nothing of it runs;
   * rejects with the signal's reason.
   */
  halt(seconds: number, signal: AbortSignal): Promise<void> {
    if (this.#phase !== 'syncing' || this.#endRequested) {
      this.#grant(Math.min(seconds, gracePeriod(this.#pod)));
      return abortable(this.#ended.promise, signal);
    }
    if (!this.#halted) {
      this.publish();
      this.#halted = this.#halt(seconds, signal);
      this.#halted.catch(() => {});
    }
    return this.#halted;
  }

  /** Less time than was given to `halt`. */
  hasten(seconds: number): void {
    this.#grant(seconds);
  }

  async #halt(seconds: number, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#context;
    this.#retry?.cancel();
    this.#deadline?.cancel();
    this.#grant(Math.min(seconds, gracePeriod(this.#pod)));
    const grace = this.#grace!;
    this.#sync.abort(new Error('the node is stopped'));
    await abortable(Promise.all([this.#running, this.#publishing]), signal);
    this.#context.probes.forget(this.uid);
    for (;;) {
      try {
        await abortable(this.#endContainers(grace), signal);
        return;
      } catch (error) {
        signal.throwIfAborted();
        logger.warn(
          { err: error, pod: podKey(this.#pod), retryMs: RETRY_MS },
          'the containers of a pod could not be ended',
        );
      }
      await delay(clock, RETRY_MS, signal);
    }
  }

  /** Stops working on the pod and leaves its containers as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#deadline?.cancel();
    this.#sync.abort(new Error('the node agent stops'));
    await this.#running;
    await this.#publishing;
  }

  /** Brings the API's view of the pod up to date; calls that come while one is under way become one more. */
  publish(): void {
    if (this.#stopped || this.#halted || this.#phase === 'gone') return;
    if (!this.#admitted || this.#rejected) return;
    if (this.#publishing) {
      this.#publishAgain = true;
      return;
    }
    this.#publishing = (async () => {
      // Several events of one turn of the event loop become one status.
      await null;
      do {
        this.#publishAgain = false;
        try {
          await this.#publishNow();
        } catch (error) {
          this.#context.logger.warn(
            { err: error, pod: podKey(this.#pod) },
            'the status of a pod could not be computed',
          );
        }
      } while (this.#publishAgain && !this.#stopped);
      this.#publishing = undefined;
    })();
  }

  #allocate(pod: Pod): void {
    const { pod: given, pending } = this.#admitted
      ? this.#context.allocate(pod, this.#pod)
      : { pod: initialAllocation(pod), pending: undefined };
    this.#object = pod;
    this.#pod = given;
    this.#pendingResize = pending;
  }

  get #resize(): StatusInput['resize'] {
    if (this.#pendingResize) return { type: 'PodResizePending', ...this.#pendingResize };
    const message = this.#memory.resizeError;
    return message === undefined ? undefined : { type: 'PodResizeInProgress', reason: 'Error', message };
  }

  get #endRequested(): boolean {
    return (
      this.#removed || this.#eviction !== undefined || this.#pod.metadata.deletionTimestamp !== undefined
    );
  }

  /** Grants the grace period when the pod is to be ended, and shortens it when it is to be ended sooner. */
  #noticeEnd(): void {
    if (!this.#endRequested) return;
    this.#grant(Math.max(1, this.#graceSeconds()));
    this.#sync.abort(new Error('the pod is to be ended'));
  }

  /** The time until the pod has to have ended: from now on, and never more than was granted before. */
  #grant(seconds: number): void {
    if (this.#grace) this.#grace.shorten(seconds);
    else this.#grace = new GracePeriod(this.#context.clock, seconds);
    for (const kill of this.#kills) kill.shorten(seconds);
  }

  #graceSeconds(): number {
    const own = this.#pod.metadata.deletionGracePeriodSeconds;
    const wanted = own ?? gracePeriod(this.#pod);
    return Math.min(wanted, this.#eviction?.graceSeconds ?? wanted);
  }

  #armDeadline(): void {
    this.#deadline?.cancel();
    this.#deadline = undefined;
    const { activeDeadlineSeconds } = this.#pod.spec;
    if (activeDeadlineSeconds === undefined || this.terminating) return;
    const started = this.#context.statuses.get(this.uid)?.startTime ?? this.#pod.status?.startTime;
    const now = this.#context.clock.now();
    const due = (started ? Date.parse(started) : now) + activeDeadlineSeconds * 1000;
    this.#deadline = this.#context.clock.setTimer(Math.max(0, due - now), () => {
      const message = 'Pod was active on the node longer than the specified deadline';
      if (this.evict({ reason: 'DeadlineExceeded', message }))
        this.#context.events.pod(this.#pod, 'Normal', 'DeadlineExceeded', message);
    });
  }

  async #run(): Promise<void> {
    const { logger, clock } = this.#context;
    await null;
    while (this.#dirty && !this.#stopped && !this.#halted && this.#phase !== 'gone') {
      this.#dirty = false;
      this.#retry?.cancel();
      this.#retry = undefined;
      try {
        const again = await this.#step();
        this.#retryMs = RETRY_MS;
        if (again !== undefined && Number.isFinite(again))
          this.#retry = clock.setTimer(again, () => this.wake());
      } catch (error) {
        if (this.#stopped || this.#halted) break;
        if (this.#sync.signal.aborted && this.#phase === 'syncing') {
          this.#dirty = true;
          continue;
        }
        if (error instanceof SyncError)
          logger.info({ pod: podKey(this.#pod), retryMs: this.#retryMs }, error.message);
        else
          logger.error(
            { err: error, pod: podKey(this.#pod), retryMs: this.#retryMs },
            'a step of a pod failed',
          );
        this.publish();
        this.#retry = clock.setTimer(this.#retryMs, () => this.wake());
        this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
      }
    }
    this.#running = undefined;
  }

  /** Resolves with the ms after which to look again, undefined: when woken. */
  async #step(): Promise<number | undefined> {
    switch (this.#phase) {
      case 'syncing':
        return this.#stepSync();
      case 'terminating':
        await this.#terminate();
        return undefined;
      case 'terminated':
        await this.#finish();
        return undefined;
      default:
        return undefined;
    }
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#dirty = true;
    if (phase === 'terminated') this.#ended.resolve();
  }

  async #stepSync(): Promise<number | undefined> {
    const { states, statuses, events, clock, nodeIPs } = this.#context;
    if (!this.#admitted) {
      const state = await states.get(this.uid);
      const isNew =
        state.sandboxes.length === 0 && !isTerminalPhase(this.#pod.status?.phase) && !this.#endRequested;
      const rejection = isNew ? this.#context.admit(this.#pod) : undefined;
      this.#admitted = true;
      if (rejection) {
        this.#rejected = true;
        events.pod(this.#pod, 'Warning', rejection.reason, rejection.message);
        const { reason, message } = rejection;
        statuses.set(
          this.#pod,
          rejectedStatus(this.#pod, reason, `Pod was rejected: ${message}`, nodeIPs, clock.now()),
        );
        this.#enter('terminated');
        return undefined;
      }
    }
    const status = this.#endRequested ? undefined : await this.#publishNow();
    if (!status || isTerminalPhase(status.phase)) {
      this.#enter('terminating');
      return undefined;
    }
    if (this.#pod.spec.activeDeadlineSeconds !== undefined && !this.#deadline) this.#armDeadline();
    const { signal } = this.#sync;
    signal.throwIfAborted();
    this.#kills.clear();
    const again = await this.#context.syncer.sync({
      pod: this.#pod,
      memory: this.#memory,
      signal,
      grace: (seconds) => {
        const grace = new GracePeriod(clock, seconds);
        this.#kills.add(grace);
        return grace;
      },
      publish: () => this.publish(),
    });
    signal.throwIfAborted();
    const after = await this.#publishNow();
    if (isTerminalPhase(after.phase)) this.#enter('terminating');
    return again;
  }

  async #terminate(): Promise<void> {
    const { probes, clock } = this.#context;
    this.#deadline?.cancel();
    probes.stopJudging(this.uid);
    this.#grace ??= new GracePeriod(clock, Math.max(1, this.#graceSeconds()));
    const grace = this.#grace;
    this.publish();
    await this.#endContainers(grace);
    await this.#publishing;
    this.#enter('terminated');
    await this.#publishNow();
  }

  async #endContainers(grace: GracePeriod): Promise<void> {
    const { states, killer, runtime } = this.#context;
    let state = await states.get(this.uid);
    await killer.killAll(this.#pod, state, grace);
    for (const sandbox of state.sandboxes)
      if (sandbox.state === 'READY') await runtime.stopPodSandbox(sandbox.id);
    states.invalidate(this.uid);
    state = await states.get(this.uid);
    if (
      state.containers.some((record) => record.state === 'RUNNING') ||
      state.sandboxes.some((s) => s.state === 'READY')
    )
      throw new SyncError('containers of the pod still run after they were stopped');
  }

  /** Takes away what only a running pod needs, tells the API, and once the pod is gone there all the rest. */
  async #finish(): Promise<void> {
    const { volumes, cgroups, references, probes, statuses } = this.#context;
    probes.forget(this.uid);
    await volumes.unmount(this.#pod);
    references.release(this.uid);
    await cgroups.remove(this.#pod);
    if (!this.#rejected) await this.#publishNow();
    await statuses.flush(this.uid);
    if (!this.#removed && this.#pod.metadata.deletionTimestamp === undefined) return;
    if (!this.#removed) {
      await statuses.deletePod(this.#pod);
      // Finalizers may keep the object; the informer tells when it is really gone.
      return;
    }
    await this.#erase();
  }

  /** Nothing of the pod is left afterwards: records, logs, directories. */
  async #erase(): Promise<void> {
    const { runtime, states, statuses, host, syncer, onGone } = this.#context;
    const state = await states.get(this.uid);
    for (const record of state.containers) await runtime.removeContainer(record.id);
    for (const { id } of state.sandboxes) await runtime.removePodSandbox(id);
    if (host.storage) {
      const paths = podPaths(host.storage, this.#pod);
      await host.storage.removeTree(paths.pod);
      await host.storage.removeTree(paths.logs);
    }
    states.forget(this.uid);
    statuses.forget(this.uid);
    syncer.forget(this.uid);
    this.#phase = 'gone';
    onGone(this);
  }

  async #publishNow(): Promise<PodStatus> {
    const { states, statuses, probes, clock, nodeIPs, runtimeName } = this.#context;
    const state: PodRuntimeState = await states.get(this.uid);
    // Erased while its state was read: there is nothing left to report.
    if (this.#phase === 'gone') return this.#pod.status ?? {};
    const ended = this.#phase === 'terminated';
    if (!ended) probes.follow(this.#pod, state, runtimeName(), nodeIPs[0] ?? '127.0.0.1');
    const previous = statuses.get(this.uid) ?? this.#pod.status ?? {};
    const status = generateStatus({
      pod: this.#pod,
      state,
      previous,
      terminal: ended,
      waiting: this.#memory.waiting,
      starting: this.#memory.starting,
      // What leaves its services first is asked for nothing while it ends.
      probes: this.#halted ? { started: probes.started.bind(probes), ready: () => false } : probes,
      hostIPs: nodeIPs,
      runtimeName: runtimeName(),
      failure: this.#eviction,
      ...(this.#resize && { resize: this.#resize }),
      ...(this.#eviction?.condition && { disruption: this.#eviction.condition }),
      now: clock.now(),
    });
    const settled = ended ? finalStatus(this.#pod, status) : status;
    if (!this.#removed) statuses.set(this.#object, settled);
    return settled;
  }
}

/** Whether the change is one that the agent acts upon: its own status coming back is not. */
function concerns(before: Pod, after: Pod): boolean {
  const a = before.metadata;
  const b = after.metadata;
  if (a.generation !== b.generation || a.deletionTimestamp !== b.deletionTimestamp) return true;
  if (a.deletionGracePeriodSeconds !== b.deletionGracePeriodSeconds) return true;
  // The server counts changes of the spec in the generation; only where it does not are specs compared.
  const counted = a.generation !== undefined;
  if (!counted && JSON.stringify(before.spec) !== JSON.stringify(after.spec)) return true;
  const rest = (pod: Pod): string =>
    JSON.stringify([
      pod.metadata.labels,
      pod.metadata.annotations,
      isTerminalPhase(pod.status?.phase),
      gates(pod),
    ]);
  return rest(before) !== rest(after);
}

function gates(pod: Pod): unknown {
  const wanted = new Set((pod.spec.readinessGates ?? []).map(({ conditionType }) => conditionType));
  return (pod.status?.conditions ?? [])
    .filter(({ type }) => wanted.has(type))
    .map(({ type, status }) => [type, status]);
}
