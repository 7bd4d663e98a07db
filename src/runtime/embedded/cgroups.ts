// Control groups on hosts of all three kinds: version 1 (one hierarchy a controller), version 2 (one for all) and
// hybrid (controllers in version 1, an almost bare version 2 beside them). The node agent builds the kubepods tree
// with it, the runtime its containers' ends and statistics. Paths are relative to the hierarchies' roots and start
// with '/'. What differs between the versions is in cgroups-v1.ts and cgroups-v2.ts.

import { readFile } from 'node:fs/promises';
import { type Clock, type Logger, silentLogger, systemClock } from '../../component/index.ts';
import { type LinuxResources, RuntimeError } from '../cri.ts';
import { CgroupV1 } from './cgroups-v1.ts';
import { CgroupV2 } from './cgroups-v2.ts';

export type CgroupMode = 'v1' | 'hybrid' | 'v2';

export interface CgroupStat {
  readonly cpuUsageNanoseconds: number;
  readonly memory: {
    readonly usageBytes: number;
    /** Usage without the file cache that the kernel could drop at once. */
    readonly workingSetBytes: number;
    readonly rssBytes: number;
    /** Undefined: no limit. */
    readonly limitBytes: number | undefined;
    readonly pageFaults: number;
    readonly majorPageFaults: number;
  };
  readonly pids: number;
  /** How many processes the kernel has killed in it for want of memory. */
  readonly oomKills: number;
}

export interface CgroupManager {
  readonly mode: CgroupMode;
  /** The controllers that can be used: cpu, memory, pids, cpuset, hugetlb, … */
  readonly controllers: ReadonlySet<string>;
  /** Whether swap is accounted, so that a limit on it can be set. */
  readonly swapAccounting: boolean;
  /** The directory in each hierarchy, whether it exists or not. */
  directories(path: string): string[];
  /** Makes it and what it stands in, with its controllers enabled; succeeds when it exists, applying the resources. */
  create(path: string, resources?: LinuxResources): Promise<void>;
  /** Sets what is given and leaves the rest. */
  update(path: string, resources: LinuxResources): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Removes it and all below it; succeeds when there is none, rejects with FailedPrecondition while processes live. */
  remove(path: string): Promise<void>;
  /** Kills every process in it and below it; resolves when none is left, or rejects with DeadlineExceeded. */
  kill(path: string, timeoutMs?: number): Promise<void>;
  freeze(path: string): Promise<void>;
  thaw(path: string): Promise<void>;
  /** The processes in it and below it. */
  pids(path: string): Promise<number[]>;
  /** Rejects with NotFound when there is none. */
  stat(path: string): Promise<CgroupStat>;
  /** As in stat; 0 when there is none. */
  oomKills(path: string): Promise<number>;
  /** The paths of the cgroups right below it. */
  children(path: string): Promise<string[]>;
}

export interface CgroupMount {
  readonly version: 1 | 2;
  readonly directory: string;
  /** Version 1: the controllers (and name=… for a named hierarchy) it carries. */
  readonly controllers: readonly string[];
}

export interface CgroupManagerOptions {
  readonly logger?: Logger;
  readonly clock?: Clock;
  /** The text of /proc/self/mountinfo. */
  readonly mountinfo?: string;
}

const OPTION_WORDS = new Set([
  ...['rw', 'ro', 'seclabel', 'xattr', 'clone_children', 'cpuset_v2_mode', 'noprefix', 'all', 'none'],
  ...['nsdelegate', 'memory_recursiveprot', 'memory_localevents', 'favordynmods', 'nofavordynmods'],
  'memory_hugetlb_accounting',
]);

/** The cgroup file systems of a mountinfo (proc_pid_mountinfo(5)), each hierarchy once. */
export function parseCgroupMounts(mountinfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  const known = new Set<string>();
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    if (!before || !after) continue;
    const directory = before
      .split(' ')[4]!
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    const [type, , options = ''] = after.split(' ');
    if (type === 'cgroup2') {
      if (!known.has('2')) mounts.push({ version: 2, directory, controllers: [] });
      known.add('2');
    } else if (type === 'cgroup') {
      const controllers = options
        .split(',')
        .filter((word) => !OPTION_WORDS.has(word) && !word.startsWith('release_agent='));
      const key = controllers.join(',');
      if (controllers.length > 0 && !known.has(key)) mounts.push({ version: 1, directory, controllers });
      known.add(key);
    }
  }
  return mounts;
}

export function cgroupMode(mounts: readonly CgroupMount[]): CgroupMode | undefined {
  const unified = mounts.some((mount) => mount.version === 2);
  const separate = mounts.some((mount) => mount.version === 1);
  if (separate) return unified ? 'hybrid' : 'v1';
  return unified ? 'v2' : undefined;
}

/** The manager for this host; rejects with FailedPrecondition when no cgroup file system is mounted. */
export async function createCgroupManager(options: CgroupManagerOptions = {}): Promise<CgroupManager> {
  const mounts = parseCgroupMounts(options.mountinfo ?? (await readFile('/proc/self/mountinfo', 'utf8')));
  const mode = cgroupMode(mounts);
  if (!mode)
    throw new RuntimeError(
      'FailedPrecondition',
      'no cgroup file system is mounted; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup',
    );
  const common = { logger: options.logger ?? silentLogger, clock: options.clock ?? systemClock };
  if (mode === 'v2')
    return CgroupV2.open({ ...common, root: mounts.find((m) => m.version === 2)!.directory });
  return CgroupV1.open({ ...common, mode, mounts });
}
