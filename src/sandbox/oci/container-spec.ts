// What the Sentry is told of a container: its configuration in the control protocol's words, and the Gofer's roots that
// go with it.

import { lstatSync, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import type { ContainerSpec, MountSpec, ProcessSpec } from '../control/protocol.ts';
import type { GoferRoot } from '../jail/start.ts';
import type { Config, Mount, Process } from './config.ts';
import { CommandError, messageOf } from './errors.ts';
import { assembleSeccomp, type SeccompProfile } from './seccomp.ts';

export interface Prepared {
  readonly spec: ContainerSpec;
  readonly roots: readonly GoferRoot[];
}

export interface Surroundings {
  readonly bundle: string;
  readonly hostname: string;
  readonly sharedNamespaces: ContainerSpec['sharedNamespaces'];
  readonly terminal: ProcessSpec['terminal'];
  readonly extraFds: number;
  /** Makes device files in its rootfs possible, and others' trusted attributes: for root only. */
  readonly privileged: boolean;
}

export function prepareContainer(config: Config, surroundings: Surroundings): Prepared {
  // Mount points may have to be made in it, so the Sentry makes a read-only root read-only when all is mounted.
  const roots: GoferRoot[] = [{ path: realDirectory(config.root.path) }];
  const mounts: MountSpec[] = [];
  for (const mount of config.mounts) {
    if (mount.type === 'bind') mounts.push(bindMount(mount, surroundings.bundle, roots));
    else if (mount.type === 'cgroup' || mount.type === 'cgroup2') mounts.push(cgroupMount(mount));
    else
      mounts.push({
        destination: mount.destination,
        type: mount.type,
        source: mount.source,
        options: mount.options,
      });
  }
  const { memory, cpu, pids } = config.resources;
  return {
    roots,
    spec: {
      hostname: surroundings.hostname,
      domainname: config.domainname,
      process: prepareProcess(config.process, config.seccomp, surroundings),
      root: { readonly: config.root.readonly, overlay: 'none' },
      mounts,
      maskedPaths: config.maskedPaths,
      readonlyPaths: config.readonlyPaths,
      sysctl: config.sysctl,
      sharedNamespaces: surroundings.sharedNamespaces,
      devices: config.devices,
      memoryLimit: memory.limit !== undefined && memory.limit > 0 ? memory.limit : 0,
      pidsLimit: pids !== undefined && pids > 0 ? pids : 0,
      cpu: {
        quota: cpu.quota !== undefined && cpu.quota > 0 ? cpu.quota : undefined,
        period: cpu.period,
        shares: cpu.shares,
      },
      cgroup: '/',
    },
  };
}

function realDirectory(path: string): string {
  try {
    if (statSync(path).isDirectory()) return path;
  } catch (error) {
    throw new CommandError(`root.path: ${messageOf(error)}`);
  }
  throw new CommandError(`root.path: ${path} is not a directory`);
}

function bindMount(mount: Mount, bundle: string, roots: GoferRoot[]): MountSpec {
  const source = isAbsolute(mount.source) ? mount.source : join(bundle, mount.source);
  try {
    lstatSync(source);
    statSync(source);
  } catch (error) {
    throw new CommandError(
      `mounting "${mount.source}" to rootfs at "${mount.destination}": ${messageOf(error)}`,
    );
  }
  const readOnly = mount.options.some((option) => option === 'ro' || option === 'rro');
  roots.push({ path: source, readOnly });
  return {
    destination: mount.destination,
    type: 'gofer',
    source,
    options: mount.options,
    goferRoot: roots.length - 1,
    shared: true,
  };
}

/** A program sees its cgroup as version 2 shows it, whatever the host has. */
function cgroupMount(mount: Mount): MountSpec {
  return {
    destination: mount.destination,
    type: 'cgroup2',
    source: 'cgroup',
    options: mount.options.filter((option) =>
      ['ro', 'nosuid', 'nodev', 'noexec', 'relatime'].includes(option),
    ),
  };
}

export function prepareProcess(
  process: Process,
  seccomp: SeccompProfile | undefined,
  { terminal, extraFds }: Pick<Surroundings, 'terminal' | 'extraFds'>,
): ProcessSpec {
  const { uid, gid, additionalGids, umask } = process.user;
  const filter = seccomp && assembleSeccomp(seccomp);
  if (seccomp && !filter)
    throw new CommandError('linux.seccomp.syscalls: the filter would have more than 4096 instructions');
  return {
    args: process.args,
    env: process.env,
    cwd: process.cwd,
    user: { uid, gid, additionalGids, ...(umask === undefined ? {} : { umask }) },
    capabilities: process.capabilities,
    rlimits: process.rlimits,
    noNewPrivileges: process.noNewPrivileges,
    ...(process.oomScoreAdj === undefined ? {} : { oomScoreAdj: process.oomScoreAdj }),
    ...(filter && seccomp
      ? { seccomp: { filter: Buffer.from(filter).toString('base64'), flags: seccomp.flags } }
      : {}),
    ...(terminal ? { terminal } : {}),
    extraFds,
  };
}
