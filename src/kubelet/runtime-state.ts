// What the runtime knows about one pod, read through the CRI contract and kept until an event says that it changed.
// The states of containers that have ended never change, so they are read once (with the termination message, which
// may have to come from the end of the container's log).

import type {
  ContainerEvent,
  ContainerState,
  PodSandboxStatus,
  ContainerStatus as RuntimeContainerStatus,
  RuntimeService,
} from '../runtime/cri.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { annotations } from './pod.ts';

/** One container, in the agent's words. Times in ms since the epoch, 0: not yet. */
export interface ContainerRecord {
  readonly id: string;
  readonly name: string;
  readonly sandboxId: string;
  readonly state: ContainerState;
  readonly restartCount: number;
  readonly hash: string;
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly image: string;
  readonly imageId: string;
  readonly status: RuntimeContainerStatus;
}

export interface PodRuntimeState {
  /** Newest first. */
  readonly sandboxes: readonly PodSandboxStatus[];
  /** Newest first. */
  readonly containers: readonly ContainerRecord[];
}

export const EMPTY_STATE: PodRuntimeState = { sandboxes: [], containers: [] };

export function newestContainer(state: PodRuntimeState, name: string): ContainerRecord | undefined {
  return state.containers.find((container) => container.name === name);
}

export function readySandbox(state: PodRuntimeState): PodSandboxStatus | undefined {
  const newest = state.sandboxes[0];
  return newest?.state === 'READY' ? newest : undefined;
}

/** Reads the message a container left behind; '' when there is none. */
export type TerminationMessageReader = (status: RuntimeContainerStatus) => Promise<string>;

function notFound(error: unknown): boolean {
  return error instanceof RuntimeError && error.code === 'NotFound';
}

export class RuntimeStateCache {
  readonly #runtime: RuntimeService;
  readonly #readMessage: TerminationMessageReader;
  readonly #states = new Map<string, Promise<PodRuntimeState>>();
  /** Per pod: containers that have ended, by id. */
  readonly #ended = new Map<string, Map<string, ContainerRecord>>();

  constructor(runtime: RuntimeService, readMessage: TerminationMessageReader) {
    this.#runtime = runtime;
    this.#readMessage = readMessage;
  }

  /** The pod's state as of the last event; reads it from the runtime when something happened since. */
  async get(podUid: string): Promise<PodRuntimeState> {
    for (;;) {
      const reading = this.#states.get(podUid) ?? this.#read(podUid);
      this.#states.set(podUid, reading);
      try {
        const state = await reading;
        // Something happened while it was read: an older state must not come out after a newer one.
        if (this.#states.get(podUid) === reading) return state;
      } catch (error) {
        if (this.#states.get(podUid) !== reading) continue;
        this.#states.delete(podUid);
        throw error;
      }
    }
  }

  invalidate(podUid: string): void {
    this.#states.delete(podUid);
  }

  invalidateAll(): void {
    this.#states.clear();
  }

  /** Called for every event of the runtime, before anybody acts on it. */
  onEvent(event: ContainerEvent): void {
    this.#states.delete(event.podUid);
    if (event.type === 'CONTAINER_DELETED') this.#ended.get(event.podUid)?.delete(event.containerId);
  }

  forget(podUid: string): void {
    this.#states.delete(podUid);
    this.#ended.delete(podUid);
  }

  async #read(podUid: string): Promise<PodRuntimeState> {
    const listed = await this.#runtime.listPodSandboxes({ podUid });
    const sandboxes: PodSandboxStatus[] = [];
    const containers: ContainerRecord[] = [];
    await Promise.all(
      listed.map(async ({ id }) => {
        const [status, members] = await Promise.all([
          this.#unlessGone(this.#runtime.podSandboxStatus(id)),
          this.#runtime.listContainers({ podSandboxId: id }),
        ]);
        if (status) sandboxes.push(status);
        const records = await Promise.all(
          members.map((member) => this.#container(podUid, member.id, member.state)),
        );
        for (const record of records) if (record) containers.push(record);
      }),
    );
    sandboxes.sort((a, b) => b.createdAt - a.createdAt || b.metadata.attempt - a.metadata.attempt);
    containers.sort((a, b) => b.createdAt - a.createdAt || b.restartCount - a.restartCount);
    return { sandboxes, containers };
  }

  async #container(podUid: string, id: string, state: ContainerState): Promise<ContainerRecord | undefined> {
    const ended = this.#ended.get(podUid)?.get(id);
    if (ended && state === 'EXITED') return ended;
    const status = await this.#unlessGone(this.#runtime.containerStatus(id));
    if (!status) return undefined;
    const hasEnded = status.state === 'EXITED';
    const record: ContainerRecord = {
      id,
      name: status.metadata.name,
      sandboxId: status.podSandboxId,
      state: status.state,
      restartCount: Number(status.annotations[annotations.restartCount] ?? status.metadata.attempt),
      hash: status.annotations[annotations.hash] ?? '',
      createdAt: status.createdAt,
      startedAt: status.startedAt,
      finishedAt: status.finishedAt,
      exitCode: status.exitCode,
      reason: status.reason,
      message: hasEnded ? (await this.#readMessage(status)) || status.message : status.message,
      image: status.image,
      imageId: status.imageId,
      status,
    };
    if (hasEnded) {
      const ofPod = this.#ended.get(podUid) ?? new Map<string, ContainerRecord>();
      this.#ended.set(podUid, ofPod.set(id, record));
    }
    return record;
  }

  async #unlessGone<T>(reading: Promise<T>): Promise<T | undefined> {
    try {
      return await reading;
    } catch (error) {
      if (notFound(error)) return undefined;
      throw error;
    }
  }
}
