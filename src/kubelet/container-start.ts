// Starts one container: image, configuration, create, start, postStart hook, each with upstream's reasons and events
// (kuberuntime's startContainer). Records of older attempts are removed as newer ones come: one dead one is kept.

import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { findContainerStatus } from '../api/index.ts';
import type { Pod } from '../api/types/core-v1.ts';
import type { Image, PodSandboxStatus } from '../runtime/cri.ts';
import { containerConfig, containerLogPath } from './container-config.ts';
import { ConfigError, makeEnvironment } from './environment.ts';
import type { Keyring } from './images/keyring.ts';
import { StartError } from './images/pull.ts';
import { GracePeriod } from './kill.ts';
import { podPaths } from './paths.ts';
import { gracePeriod, type PodContainer, targetOf } from './pod.ts';
import { newestContainer, type PodRuntimeState } from './runtime-state.ts';
import { sandboxConfig } from './sandbox-config.ts';
import type { SyncOptions } from './sync.ts';
import { messageOf } from './text.ts';
import { containerDevices, containerMounts } from './volumes/container-mounts.ts';
import { isErrno } from './volumes/errno.ts';
import type { MountedVolumes } from './volumes/manager.ts';
import { readInside } from './volumes/subpath.ts';

export interface StartJob {
  readonly pod: Pod;
  readonly member: PodContainer;
  readonly state: PodRuntimeState;
  readonly sandbox: PodSandboxStatus;
  readonly volumes: MountedVolumes;
  readonly keyring: Keyring;
  readonly signal: AbortSignal;
  /** Ids of containers that do not count as running yet. */
  readonly starting: Set<string>;
  /** Where counting goes on for containers without a record. */
  readonly restartCounts: ReadonlyMap<string, number>;
  readonly publish: () => void;
}

export class ContainerStarter {
  readonly #options: SyncOptions;

  constructor(options: SyncOptions) {
    this.#options = options;
  }

  /** Rejects with a StartError that says why the container waits, or with the signal's reason. */
  async start(job: StartJob): Promise<void> {
    const { pod, member, signal } = job;
    const { runtime, events, puller } = this.#options;
    let image: Image;
    try {
      image = await puller.ensure(pod, member, job.keyring, signal);
    } catch (error) {
      if (error instanceof StartError)
        events.container(pod, member, 'Warning', 'Failed', `Error: ${error.reason}`);
      throw error;
    }
    const restartCount = this.#restartCount(job);
    await this.#removeOldAttempts(job, restartCount);
    const config = await this.#configure(job, image, restartCount);
    const environment = await this.#sandboxEnvironment(pod);
    const sandbox = sandboxConfig(pod, job.sandbox.metadata.attempt, environment, () => {});
    let id: string;
    try {
      id = await runtime.createContainer(job.sandbox.id, config, sandbox);
    } catch (error) {
      throw this.#failed(job, 'CreateContainerError', error);
    }
    events.container(pod, member, 'Normal', 'Created', 'Container created');
    const postStart = member.container.lifecycle?.postStart;
    if (postStart) job.starting.add(id);
    try {
      try {
        await runtime.startContainer(id);
      } catch (error) {
        throw this.#failed(job, 'RunContainerError', error);
      }
      events.container(pod, member, 'Normal', 'Started', 'Container started');
      await this.#linkLog(pod, member, id, restartCount);
      if (postStart) await this.#runPostStart(job, id);
    } finally {
      if (job.starting.delete(id)) job.publish();
    }
  }

  async #configure(job: StartJob, image: Image, restartCount: number) {
    const { pod, member, signal, sandbox, volumes, state } = job;
    const { host, references, services, allocatable, nodeIPs } = this.#options;
    try {
      const podIPs = pod.spec.hostNetwork ? nodeIPs.slice(0, 2) : sandbox.ips;
      const environment = await makeEnvironment(
        pod,
        member.container,
        { podIPs, hostIPs: nodeIPs.slice(0, 2) },
        {
          references,
          services,
          allocatable,
          readFile: (_pod, volume, path) => readVolumeFile(volumes, volume, path),
        },
        signal,
      );
      const dns = await this.#options.dns();
      const mounts = host.storage
        ? await containerMounts({
            pod,
            member,
            storage: host.storage,
            volumes,
            environment,
            podIPs,
            dns,
            attempt: restartCount,
          })
        : [];
      const target = targetOf(member.container);
      const targetId = target ? newestContainer(state, target) : undefined;
      if (target && targetId?.state !== 'RUNNING')
        throw new ConfigError(`unable to find target container ${target}`);
      return containerConfig({
        pod,
        member,
        restartCount,
        image,
        environment,
        mounts,
        devices: host.storage ? containerDevices(pod, member, volumes) : [],
        memoryCapacity: host.machine.memoryBytes,
        security: {
          seccompDirectory: host.storage && `${host.storage.rootDirectory}/seccomp`,
          targetId: targetId?.id,
          volumeGroups: this.#options.volumes.groupsOf(pod.metadata.uid),
        },
      });
    } catch (error) {
      signal.throwIfAborted();
      throw this.#failed(job, 'CreateContainerConfigError', error);
    }
  }

  async #sandboxEnvironment(pod: Pod) {
    const { host, cgroupRoot } = this.#options;
    return {
      dns: await this.#options.dns(),
      cgroupRoot,
      logDirectory: host.storage ? podPaths(host.storage, pod).logs : '',
      seccompDirectory: host.storage && `${host.storage.rootDirectory}/seccomp`,
    };
  }

  #failed({ pod, member }: StartJob, reason: string, error: unknown): StartError {
    const message = messageOf(error);
    this.#options.events.container(pod, member, 'Warning', 'Failed', `Error: ${message}`);
    return new StartError(reason, message);
  }

  /** Goes on counting where the records of the runtime, or else the API, left off. */
  #restartCount({ pod, member: { container, kind }, state, restartCounts }: StartJob): number {
    const record = newestContainer(state, container.name);
    if (record) return record.restartCount + 1;
    if (kind === 'ephemeral') return 0;
    const known = restartCounts.get(container.name);
    if (known !== undefined) return known;
    const { initContainerStatuses, containerStatuses } = pod.status ?? {};
    const reported =
      findContainerStatus(containerStatuses, container.name) ??
      findContainerStatus(initContainerStatuses, container.name);
    return reported?.containerID ? reported.restartCount + 1 : 0;
  }

  async #removeOldAttempts({ pod, member, state }: StartJob, restartCount: number): Promise<void> {
    const { runtime, host } = this.#options;
    const { name } = member.container;
    const dead = state.containers.filter((record) => record.name === name && record.state !== 'RUNNING');
    for (const record of dead) {
      // The newest dead one is the "previous" of the one that starts now; those that never ran are of no use.
      if (record === dead[0] && record.state === 'EXITED') continue;
      await runtime.removeContainer(record.id);
      if (host.storage) {
        const log = join(podPaths(host.storage, pod).logs, containerLogPath(name, record.restartCount));
        await rm(log, { force: true });
        await this.#unlinkLog(pod, name, record.id);
      }
    }
    const emptied = state.sandboxes
      .slice(1)
      .filter(
        ({ id, state: s }) =>
          s !== 'READY' &&
          !state.containers.some((record) => record.sandboxId === id && !dead.slice(1).includes(record)),
      );
    for (const { id } of emptied) await runtime.removePodSandbox(id);
    if (host.storage && restartCount >= 2)
      await rm(join(podPaths(host.storage, pod).containers, name, String(restartCount - 2)), { force: true });
  }

  async #runPostStart(job: StartJob, containerId: string): Promise<void> {
    const { pod, member, signal } = job;
    const { hooks, events, killer, clock, states } = this.#options;
    const podIP = job.sandbox.ips[0] ?? this.#options.nodeIPs[0] ?? '127.0.0.1';
    try {
      const target = { pod, container: member.container, containerId, podIP };
      await hooks.run(target, member.container.lifecycle!.postStart!, signal);
    } catch (error) {
      signal.throwIfAborted();
      const message = `PostStartHook failed`;
      events.container(pod, member, 'Warning', 'FailedPostStartHook', `${message}: ${messageOf(error)}`);
      states.invalidate(pod.metadata.uid);
      const state = await states.get(pod.metadata.uid);
      const record = state.containers.find(({ id }) => id === containerId);
      if (record)
        await killer.kill(pod, record, new GracePeriod(clock, gracePeriod(pod)), 'FailedPostStartHook');
      throw new StartError('PostStartHookError', message);
    }
  }

  /** The name under which log collectors look: <pod>_<namespace>_<container>-<id>.log */
  async #linkLog(pod: Pod, { container }: PodContainer, id: string, restartCount: number): Promise<void> {
    const { storage } = this.#options.host;
    if (!storage?.containerLogsDirectory) return;
    const link = join(storage.containerLogsDirectory, logLinkName(pod, container.name, id));
    const log = join(podPaths(storage, pod).logs, containerLogPath(container.name, restartCount));
    await symlink(log, link).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST'))
        this.#options.logger.warn(
          { err: error, link },
          'the log could not be linked under its collectors name',
        );
    });
  }

  async #unlinkLog(pod: Pod, container: string, id: string): Promise<void> {
    const directory = this.#options.host.storage?.containerLogsDirectory;
    if (directory) await rm(join(directory, logLinkName(pod, container, id)), { force: true });
  }
}

export function logLinkName(pod: Pod, container: string, id: string): string {
  return `${pod.metadata.name}_${pod.metadata.namespace}_${container}-${id}.log`;
}

async function readVolumeFile(
  volumes: MountedVolumes,
  volume: string,
  path: string,
): Promise<string | undefined> {
  const root = volumes.get(volume);
  return root === undefined ? undefined : readInside(root, path);
}
