// The host's cgroups of a container, in hierarchies of version 1 and of version 2: made, limited, counted, removed.
//
// The Sentry and its stubs live in the cgroup of the sandbox's first container, or of its pod (placement.ts decides).
// Limits hold for everything that works for the program: so what the Sentry itself needs is added to them.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CommandError, errorCode, messageOf } from './errors.ts';
import type { Resources } from './resources.ts';

/** What a Sentry and its Gofer take before a program has any memory. */
const sentryMemory = 128 << 20;
/** Their threads and processes, and stubs that are kept ready. */
const sentryTasks = 64;

interface Hierarchy {
  readonly mountPoint: string;
  /** Version 1: its controllers, or name=…; version 2: undefined. */
  readonly controllers: readonly string[] | undefined;
}

function hierarchies(): Hierarchy[] {
  const found: Hierarchy[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const mountPoint = before.split(' ')[4];
    const [type, , options = ''] = after.split(' ');
    if (mountPoint === undefined) continue;
    if (type === 'cgroup2') found.push({ mountPoint, controllers: undefined });
    if (type === 'cgroup')
      found.push({
        mountPoint,
        controllers: options
          .split(',')
          .filter((one) => !['rw', 'ro', 'xattr', 'clone_children'].includes(one)),
      });
  }
  const first = found.filter(({ controllers }) => controllers !== undefined);
  // Beside version 1 the version 2 hierarchy has no controllers left.
  return first.some(({ controllers }) => controllers?.some((one) => !one.startsWith('name=')))
    ? first
    : found;
}

/** A path in every hierarchy. */
export class Cgroup {
  readonly path: string;
  readonly #hierarchies: readonly Hierarchy[];

  constructor(path: string) {
    this.path = path;
    this.#hierarchies = hierarchies();
  }

  /** The files through which a process joins. */
  get members(): string[] {
    return this.#hierarchies.map((one) => join(one.mountPoint, this.path, 'cgroup.procs'));
  }

  /** Makes what is not there. False: this user may not. */
  make(): boolean {
    try {
      for (const one of this.#hierarchies) this.#makeIn(one);
      return true;
    } catch (error) {
      if (['EACCES', 'EPERM', 'EROFS'].includes(errorCode(error) ?? '')) return false;
      throw new CommandError(`the cgroup ${this.path} cannot be made: ${messageOf(error)}`, { cause: error });
    }
  }

  #makeIn({ mountPoint, controllers }: Hierarchy): void {
    const names = this.path.split('/').filter((name) => name !== '');
    let parent = mountPoint;
    for (const name of names) {
      const child = join(parent, name);
      if (controllers === undefined) delegate(parent);
      if (!existsSync(child)) {
        mkdirSync(child, { recursive: true, mode: 0o755 });
        if (controllers?.includes('cpuset'))
          for (const file of ['cpuset.cpus', 'cpuset.mems']) inherit(parent, child, file);
      }
      parent = child;
    }
  }

  /** Moves processes of this host into it. */
  add(pid: number): void {
    for (const file of this.members) {
      try {
        writeFileSync(file, String(pid));
      } catch (error) {
        if (errorCode(error) !== 'ESRCH') throw error;
      }
    }
  }

  processes(): number[] {
    const pids = new Set<number>();
    for (const file of this.members)
      for (const line of readText(file)?.split('\n') ?? []) if (line !== '') pids.add(Number(line));
    return [...pids];
  }

  /** `holdsSentry`: what the Sentry needs comes on top. Throws with the file that refuses. */
  limit(resources: Resources, holdsSentry: boolean): void {
    const memory = holdsSentry ? sentryMemory : 0;
    const tasks = holdsSentry ? sentryTasks : 0;
    for (const { mountPoint, controllers } of this.#hierarchies) {
      const directory = join(mountPoint, this.path);
      const files =
        controllers === undefined
          ? version2(resources, memory, tasks)
          : version1(resources, controllers, memory, tasks);
      for (const [file, value] of files) {
        try {
          writeFileSync(join(directory, file), value);
        } catch (error) {
          // A larger memory limit goes above the one of memory and swap only when that has been raised before.
          if (file === 'memory.limit_in_bytes' && errorCode(error) === 'EINVAL') continue;
          throw new CommandError(`cgroup: setting ${file} to ${value}: ${messageOf(error)}`, {
            cause: error,
          });
        }
      }
      if (files.some(([file]) => file === 'memory.memsw.limit_in_bytes'))
        for (const [file, value] of files)
          if (file === 'memory.limit_in_bytes') writeFileSync(join(directory, file), value);
    }
  }

  /** The text of a file in whichever hierarchy has it. */
  read(file: string): string | undefined {
    for (const { mountPoint } of this.#hierarchies) {
      const text = readText(join(mountPoint, this.path, file));
      if (text !== undefined) return text.trim();
    }
    return undefined;
  }

  /** Nothing lives in it any more. Its own children go first. */
  remove(): void {
    for (const { mountPoint } of this.#hierarchies) removeTree(join(mountPoint, this.path));
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (['ENOENT', 'ENODEV', 'EOPNOTSUPP'].includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}

function inherit(parent: string, child: string, file: string): void {
  if (readText(join(child, file))?.trim() !== '') return;
  const value = readText(join(parent, file))?.trim();
  if (value) writeFileSync(join(child, file), value);
}

/** Version 2: the parent gives its controllers on. */
function delegate(parent: string): void {
  const available = readText(join(parent, 'cgroup.controllers'))?.trim().split(' ') ?? [];
  const given = new Set(readText(join(parent, 'cgroup.subtree_control'))?.trim().split(' '));
  for (const controller of available) {
    if (controller === '' || given.has(controller)) continue;
    try {
      writeFileSync(join(parent, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      // A cgroup that has processes gives nothing on; a limit that would need it says so itself.
      if (!['EBUSY', 'ENOENT', 'EOPNOTSUPP'].includes(errorCode(error) ?? '')) throw error;
    }
  }
}

function removeTree(directory: string): void {
  let entries: string[];
  try {
    entries = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  for (const name of entries) removeTree(join(directory, name));
  try {
    rmdirSync(directory);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

type Written = readonly [file: string, value: string];

const above = (value: number, extra: number): string => (value < 0 ? '-1' : String(value + extra));

function version1(
  { memory, cpu, pids, blockWeight, hugepages }: Resources,
  controllers: readonly string[],
  extra: number,
  tasks: number,
): Written[] {
  const files: Written[] = [];
  const put = (file: string, value: number | string | undefined): void => {
    if (value !== undefined) files.push([file, String(value)]);
  };
  for (const controller of controllers) {
    switch (controller) {
      case 'memory':
        if (memory.limit !== undefined) put('memory.limit_in_bytes', above(memory.limit, extra));
        if (memory.swap !== undefined) put('memory.memsw.limit_in_bytes', above(memory.swap, extra));
        if (memory.reservation !== undefined)
          put('memory.soft_limit_in_bytes', above(memory.reservation, extra));
        put('memory.swappiness', memory.swappiness);
        if (memory.disableOomKiller) put('memory.oom_control', 1);
        break;
      case 'cpu':
        put('cpu.shares', cpu.shares);
        put('cpu.cfs_period_us', cpu.period);
        put('cpu.cfs_quota_us', cpu.quota);
        put('cpu.idle', cpu.idle);
        break;
      case 'cpuset':
        put('cpuset.cpus', cpu.cpus);
        put('cpuset.mems', cpu.mems);
        break;
      case 'pids':
        if (pids !== undefined) put('pids.max', pids < 0 ? 'max' : pids + tasks);
        break;
      case 'blkio':
        put('blkio.weight', blockWeight);
        break;
      case 'hugetlb':
        for (const { size, limit } of hugepages) put(`hugetlb.${size}.limit_in_bytes`, limit);
        break;
      default:
    }
  }
  return files;
}

/** From shares (2 to 262144) to weights (1 to 10000), as the specification maps them. */
export const weightOf = (shares: number): number => 1 + Math.floor(((shares - 2) * 9999) / 262_142);

function version2(
  { memory, cpu, pids, blockWeight, hugepages, unified }: Resources,
  extra: number,
  tasks: number,
): Written[] {
  const files: Written[] = [];
  const put = (file: string, value: number | string | undefined): void => {
    if (value !== undefined) files.push([file, String(value)]);
  };
  const bytes = (value: number | undefined): string | undefined =>
    value === undefined ? undefined : value < 0 ? 'max' : String(value + extra);
  put('memory.max', bytes(memory.limit));
  put('memory.low', bytes(memory.reservation));
  if (memory.swap !== undefined)
    put('memory.swap.max', memory.swap < 0 ? 'max' : Math.max(memory.swap - (memory.limit ?? 0), 0));
  if (cpu.shares !== undefined) put('cpu.weight', weightOf(cpu.shares));
  put('cpu.idle', cpu.idle);
  if (cpu.quota !== undefined || cpu.period !== undefined)
    put(
      'cpu.max',
      `${cpu.quota === undefined || cpu.quota < 0 ? 'max' : cpu.quota} ${cpu.period ?? 100_000}`,
    );
  put('cpuset.cpus', cpu.cpus);
  put('cpuset.mems', cpu.mems);
  if (pids !== undefined) put('pids.max', pids < 0 ? 'max' : pids + tasks);
  put('io.bfq.weight', blockWeight);
  for (const { size, limit } of hugepages) put(`hugetlb.${size}.max`, limit);
  for (const [file, value] of Object.entries(unified)) put(file, value);
  return files;
}

/** Where a container belongs when its configuration does not say. */
export function cgroupPath(configured: string | undefined, id: string): string {
  if (configured === undefined || configured === '') return `/bulkhead-sandbox/${id}`;
  if (/^[^/]*:[^/]*:[^/]*$/.test(configured))
    throw new CommandError(
      `linux.cgroupsPath: "${configured}" names a systemd unit; cgroups are managed by their paths here`,
    );
  const path = `/${configured}`.replace(/\/+/g, '/');
  if (path === '/' || path.split('/').includes('..'))
    throw new CommandError(`linux.cgroupsPath: "${configured}" is not the path of a cgroup of its own`);
  return path;
}

export const parentOf = (path: string): string => dirname(path);
