// What is left of pods that the API does not know any more: deleted while the agent was away, or half cleared away when
// it was killed. Their containers are ended as gracefully as others, then records, volumes, cgroups, logs and directories
// go.

import type { Clock, Logger } from '../component/index.ts';
import type { RuntimeService } from '../runtime/cri.ts';
import type { KubeletHost } from './host/host.ts';
import { type ContainerKiller, GracePeriod } from './kill.ts';
import { removeOrphanedLogs, removePodDirectories } from './paths.ts';
import { annotations, labels } from './pod.ts';
import type { PodCgroups } from './pod-cgroups.ts';
import type { RuntimeStateCache } from './runtime-state.ts';
import type { VolumeManager } from './volumes/manager.ts';

export interface OrphanCollectorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly host: KubeletHost;
  readonly runtime: RuntimeService;
  readonly states: RuntimeStateCache;
  readonly volumes: VolumeManager;
  readonly cgroups: PodCgroups;
  readonly killer: ContainerKiller;
  /** Whether somebody takes care of the pod. */
  readonly isKnown: (podUid: string) => boolean;
}

export class OrphanCollector {
  readonly #options: OrphanCollectorOptions;
  readonly #ending = new Map<string, Promise<void>>();
  readonly #graces = new Set<GracePeriod>();

  constructor(options: OrphanCollectorOptions) {
    this.#options = options;
  }

  /** Finds what is left and begins to clear it away; the pods of the API must be known by now. */
  async collect(): Promise<void> {
    const { volumes, cgroups, runtime, logger, isKnown, host } = this.#options;
    const uids = await volumes.podsOnDisk();
    for (const uid of await cgroups.uids()) uids.add(uid);
    for (const sandbox of await runtime.listPodSandboxes()) uids.add(sandbox.metadata.uid);
    for (const uid of uids) {
      if (isKnown(uid) || this.#ending.has(uid)) continue;
      const ending = this.#end(uid)
        .catch((error: unknown) =>
          logger.error({ err: error, podUid: uid }, 'what is left of a pod could not be cleared away'),
        )
        .finally(() => this.#ending.delete(uid));
      this.#ending.set(uid, ending);
    }
    if (host.storage) await removeOrphanedLogs(host.storage, (uid) => isKnown(uid) || uids.has(uid));
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#ending.values());
  }

  /** Gives what is ending no more than that. Resolves when nothing is under way. */
  async hasten(seconds: number): Promise<void> {
    for (const grace of this.#graces) grace.shorten(seconds);
    await this.settled();
  }

  async #end(uid: string): Promise<void> {
    const { runtime, host, states, killer, clock, logger, volumes, cgroups } = this.#options;
    const state = await states.get(uid);
    logger.info(
      { podUid: uid, containers: state.containers.length },
      'a pod that the API does not know is being ended',
    );
    const [newest] = state.containers;
    const seconds = Number(newest?.status.annotations[annotations.grace] ?? 30);
    const grace = new GracePeriod(clock, Math.max(1, seconds));
    this.#graces.add(grace);
    try {
      await killer.killAll(undefined, state, grace);
    } finally {
      this.#graces.delete(grace);
    }
    for (const { id } of state.sandboxes) {
      await runtime.stopPodSandbox(id);
      await runtime.removePodSandbox(id);
    }
    await volumes.removeOrphan(uid);
    await cgroups.removeUid(uid);
    const [sandbox] = state.sandboxes;
    const name = sandbox && {
      name: sandbox.labels[labels.podName] ?? sandbox.metadata.name,
      namespace: sandbox.labels[labels.podNamespace] ?? sandbox.metadata.namespace,
    };
    if (host.storage) await removePodDirectories(host.storage, uid, name);
    states.forget(uid);
  }
}
