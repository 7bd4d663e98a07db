// The probes of all running containers of the node. A container's probes live as long as the container runs: first the
// startup probe alone, then liveness and readiness side by side. Rules, thresholds and events are upstream's
// (pkg/kubelet/prober): a failing liveness or startup probe is not run again until the container was restarted.

import type { Container, Pod, Probe } from '../../api/types/core-v1.ts';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import type { ProbeOutcome, ProbeResults } from '../actions.ts';
import type { NodeEvents } from '../events.ts';
import type { ProbeAnswer, Prober } from '../host/host.ts';
import { type ContainerKind, containersOf, type PodContainer } from '../pod.ts';
import { newestContainer, type PodRuntimeState } from '../runtime-state.ts';
import type { ProbeView } from '../status-input.ts';
import { messageOf } from '../text.ts';

export type ProbeType = 'Liveness' | 'Readiness' | 'Startup';

/** Tries of a probe that could not be run at all. */
const TRIES = 3;

/**
 * A container that has just been started seldom listens yet when it is first asked whether it is ready. Upstream asks
 * again when its next look at the runtime, a second later, finds the container running; the period begins at the first.
 */
const SECOND_LOOK_MS = 1000;

export interface ProbeManagerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly prober: Pick<Prober, 'probe'> & Partial<Pick<Prober, 'impliedReadiness'>>;
  /** A result of this pod's changed. */
  readonly onChange: (podUid: string) => void;
}

interface Subject {
  pod: Pod;
  readonly member: PodContainer;
  readonly containerId: string;
  podIP: string;
}

/** One probe of one running container. */
class ProbeWorker {
  readonly type: ProbeType;
  readonly #probe: Probe;
  readonly #subject: Subject;
  readonly #options: ProbeManagerOptions;
  readonly #onResult: () => void;
  #timer: Timer | undefined;
  #stopped = false;
  #last: 'success' | 'failure' | undefined;
  #run = 0;
  /** What the last wait was shorter than the period by, in ms. Undefined: this is the first attempt. */
  #early: number | undefined;
  result: ProbeOutcome;

  constructor(
    type: ProbeType,
    probe: Probe,
    subject: Subject,
    options: ProbeManagerOptions,
    initial: ProbeOutcome,
    onResult: () => void,
  ) {
    this.type = type;
    this.#probe = probe;
    this.#subject = subject;
    this.#options = options;
    this.result = initial;
    this.#onResult = onResult;
  }

  start(containerStartedAt: number): void {
    const due = containerStartedAt + (this.#probe.initialDelaySeconds ?? 0) * 1000;
    this.#schedule(Math.max(0, due - this.#options.clock.now()));
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #schedule(delay: number): void {
    this.#timer = this.#options.clock.setTimer(delay, () => void this.#tick());
  }

  async #tick(): Promise<void> {
    const { clock, logger } = this.#options;
    const began = clock.monotonic();
    let goOn = true;
    try {
      goOn = await this.#attempt();
    } catch (error) {
      logger.error({ err: error, pod: this.#subject.pod.metadata.name }, 'a probe failed unexpectedly');
    }
    if (this.#stopped || !goOn) return;
    this.#schedule(Math.max(0, this.#wait() - (clock.monotonic() - began)));
  }

  /** From the beginning of one attempt to the next, in ms. */
  #wait(): number {
    const period = (this.#probe.periodSeconds ?? 10) * 1000;
    const first = this.#early === undefined;
    const wait = period - (this.#early ?? 0);
    this.#early = 0;
    const hasDelay = (this.#probe.initialDelaySeconds ?? 0) > 0;
    if (!first || this.type !== 'Readiness' || this.result === 'success' || hasDelay) return wait;
    if (wait <= SECOND_LOOK_MS) return wait;
    this.#early = SECOND_LOOK_MS;
    return SECOND_LOOK_MS;
  }

  /** Whether the probe is to be run again. */
  async #attempt(): Promise<boolean> {
    const { pod, member } = this.#subject;
    const answer = await this.#ask();
    if (this.#stopped || !answer) return true;
    const { verdict, output } = answer;
    if (verdict === 'failure')
      this.#options.events.container(
        pod,
        member,
        'Warning',
        'Unhealthy',
        `${this.type} probe failed: ${output}`,
      );
    if (verdict === this.#last) this.#run++;
    else {
      this.#last = verdict;
      this.#run = 1;
    }
    const threshold =
      verdict === 'failure' ? (this.#probe.failureThreshold ?? 3) : (this.#probe.successThreshold ?? 1);
    if (this.#run < threshold) return true;
    const changed = this.result !== verdict;
    this.result = verdict;
    if (changed) this.#onResult();
    if (verdict === 'failure') return this.type === 'Readiness';
    return this.type !== 'Startup' && answer.settled !== true;
  }

  /** Undefined: the probe could not be run, which says nothing about the container. */
  async #ask(): Promise<ProbeAnswer | undefined> {
    const { pod, member, containerId, podIP } = this.#subject;
    const { events, prober } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await prober.probe({ pod, container: member.container, containerId, podIP }, this.#probe);
      } catch (error) {
        if (this.#stopped) return undefined;
        if (attempt < TRIES) continue;
        const message = `${this.type} probe errored and resulted in unknown state: ${messageOf(error)}`;
        events.container(pod, member, 'Warning', 'Unhealthy', message);
        return undefined;
      }
    }
  }
}

class ContainerProbes {
  readonly subject: Subject;
  readonly #options: ProbeManagerOptions;
  readonly #startedAt: number;
  readonly #workers = new Map<ProbeType, ProbeWorker>();

  constructor(subject: Subject, startedAt: number, options: ProbeManagerOptions, before: BeforeRestart) {
    this.subject = subject;
    this.#options = options;
    this.#startedAt = startedAt;
    const { container } = subject.member;
    const readiness = container.readinessProbe ?? options.prober.impliedReadiness?.(subject.pod, container);
    if (container.livenessProbe) this.#add('Liveness', container.livenessProbe, 'success');
    if (readiness) this.#add('Readiness', readiness, before.ready ? 'success' : 'failure');
    if (container.startupProbe)
      this.#add('Startup', container.startupProbe, before.started ? 'success' : 'unknown');
    const startup = this.#workers.get('Startup');
    if (startup && startup.result !== 'success') startup.start(startedAt);
    else this.#startOthers();
  }

  get empty(): boolean {
    return this.#workers.size === 0;
  }

  result(type: ProbeType): ProbeOutcome | undefined {
    return this.#workers.get(type)?.result;
  }

  stop(type?: ProbeType): void {
    for (const worker of this.#workers.values())
      if (type === undefined || worker.type === type) worker.stop();
  }

  #add(type: ProbeType, probe: Probe, initial: ProbeOutcome): void {
    const onResult = (): void => {
      if (type === 'Startup' && this.#workers.get('Startup')?.result === 'success') this.#startOthers();
      this.#options.onChange(this.subject.pod.metadata.uid);
    };
    this.#workers.set(type, new ProbeWorker(type, probe, this.subject, this.#options, initial, onResult));
  }

  #startOthers(): void {
    for (const worker of this.#workers.values()) if (worker.type !== 'Startup') worker.start(this.#startedAt);
  }
}

/** What the API last said of a container that was already running when the agent started. */
export interface BeforeRestart {
  readonly ready: boolean;
  readonly started: boolean;
}

const FRESH: BeforeRestart = { ready: false, started: false };

const PROBED: ReadonlySet<ContainerKind> = new Set(['container', 'sidecar']);

export class ProbeManager implements ProbeView, ProbeResults {
  readonly #options: ProbeManagerOptions;
  /** By container id. */
  readonly #containers = new Map<string, ContainerProbes>();
  readonly #byPod = new Map<string, Set<string>>();

  constructor(options: ProbeManagerOptions) {
    this.#options = options;
  }

  /** Starts the probes of containers that run and ends those of containers that do not. */
  follow(pod: Pod, state: PodRuntimeState, runtimeName: string, hostIP: string): void {
    const { uid } = pod.metadata;
    const podIP = pod.spec.hostNetwork ? hostIP : (state.sandboxes[0]?.ips[0] ?? '');
    const running = new Set<string>();
    for (const member of containersOf(pod)) {
      if (!PROBED.has(member.kind)) continue;
      const record = newestContainer(state, member.container.name);
      if (record?.state !== 'RUNNING') continue;
      running.add(record.id);
      const known = this.#containers.get(record.id);
      if (known) {
        known.subject.pod = pod;
        known.subject.podIP = podIP;
        continue;
      }
      const reported = [
        ...(pod.status?.containerStatuses ?? []),
        ...(pod.status?.initContainerStatuses ?? []),
      ].find(({ containerID }) => containerID === `${runtimeName}://${record.id}`);
      const before = reported ? { ready: reported.ready, started: reported.started === true } : FRESH;
      const subject = { pod, member, containerId: record.id, podIP };
      const probes = new ContainerProbes(subject, record.startedAt, this.#options, before);
      this.#containers.set(record.id, probes);
      const ofPod = this.#byPod.get(uid);
      if (ofPod) ofPod.add(record.id);
      else this.#byPod.set(uid, new Set([record.id]));
    }
    for (const id of this.#byPod.get(uid) ?? []) if (!running.has(id)) this.#remove(uid, id);
  }

  /** A pod that ends is not judged any more, but still leaves its services: readiness goes on. */
  stopJudging(podUid: string): void {
    for (const id of this.#byPod.get(podUid) ?? []) {
      this.#containers.get(id)?.stop('Liveness');
      this.#containers.get(id)?.stop('Startup');
    }
  }

  forget(podUid: string): void {
    for (const id of [...(this.#byPod.get(podUid) ?? [])]) this.#remove(podUid, id);
  }

  liveness(containerId: string): ProbeOutcome | undefined {
    return this.#containers.get(containerId)?.result('Liveness');
  }

  startup(containerId: string): ProbeOutcome | undefined {
    return this.#containers.get(containerId)?.result('Startup');
  }

  started(container: Container, containerId: string): boolean | undefined {
    if (!container.startupProbe) return undefined;
    return this.#containers.get(containerId)?.result('Startup') === 'success';
  }

  ready(container: Container, containerId: string): boolean | undefined {
    const probes = this.#containers.get(containerId);
    if (!container.readinessProbe && probes?.result('Readiness') === undefined) return undefined;
    return probes?.result('Readiness') === 'success';
  }

  stop(): void {
    for (const probes of this.#containers.values()) probes.stop();
    this.#containers.clear();
    this.#byPod.clear();
  }

  #remove(podUid: string, containerId: string): void {
    this.#containers.get(containerId)?.stop();
    this.#containers.delete(containerId);
    const ofPod = this.#byPod.get(podUid);
    ofPod?.delete(containerId);
    if (ofPod?.size === 0) this.#byPod.delete(podUid);
  }
}
