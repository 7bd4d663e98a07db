// Control groups version 1 (kernel: Documentation/admin-guide/cgroup-v1): a directory in the hierarchy of every
// controller. On a hybrid host the bare version 2 hierarchy gets a directory too, because runtimes make one there.

import { dirname, join } from 'node:path';
import type { Clock, Logger } from '../../component/index.ts';
import { type LinuxResources, RuntimeError } from '../cri.ts';
import {
  checkCgroupPath,
  directoryExists,
  flatNumbers,
  killAll,
  limitOf,
  makeDirectory,
  pause,
  processesBelow,
  readCgroupFile,
  removeCgroupTree,
  subdirectories,
  writeCgroupFile,
} from './cgroup-files.ts';
import type { CgroupManager, CgroupMount, CgroupStat } from './cgroups.ts';

interface Options {
  readonly mode: 'v1' | 'hybrid';
  readonly mounts: readonly CgroupMount[];
  readonly logger: Logger;
  readonly clock: Clock;
}

type Setting = readonly [controller: string, file: string, value: string];

/** What is to be written where, in the order in which the kernel accepts it. */
export function settingsV1(resources: LinuxResources): Setting[] {
  const settings: Setting[] = [];
  const set = (controller: string, file: string, value: string | number | undefined): void => {
    if (value !== undefined && value !== '') settings.push([controller, file, String(value)]);
  };
  set('cpu', 'cpu.shares', resources.cpuShares === undefined ? undefined : Math.max(2, resources.cpuShares));
  set('cpu', 'cpu.cfs_period_us', resources.cpuPeriod || undefined);
  set('cpu', 'cpu.cfs_quota_us', resources.cpuQuota || undefined);
  set('cpuset', 'cpuset.cpus', resources.cpusetCpus);
  set('cpuset', 'cpuset.mems', resources.cpusetMems);
  set('memory', 'memory.limit_in_bytes', resources.memoryLimitBytes || undefined);
  if (resources.pidsLimit) set('pids', 'pids.max', resources.pidsLimit > 0 ? resources.pidsLimit : 'max');
  for (const { pageSize, limit } of resources.hugepageLimits ?? [])
    set('hugetlb', `hugetlb.${pageSize}.limit_in_bytes`, limit);
  return settings;
}

export class CgroupV1 implements CgroupManager {
  readonly mode: 'v1' | 'hybrid';
  readonly controllers: ReadonlySet<string>;
  readonly swapAccounting: boolean;
  readonly #mounts: readonly CgroupMount[];
  readonly #roots = new Map<string, string>();
  readonly #logger: Logger;
  readonly #clock: Clock;

  private constructor(options: Options, swapAccounting: boolean) {
    this.mode = options.mode;
    this.#mounts = options.mounts;
    this.#logger = options.logger;
    this.#clock = options.clock;
    for (const mount of options.mounts)
      for (const controller of mount.controllers) this.#roots.set(controller, mount.directory);
    this.controllers = new Set([...this.#roots.keys()].filter((name) => !name.startsWith('name=')));
    this.swapAccounting = swapAccounting;
  }

  static async open(options: Options): Promise<CgroupV1> {
    const memory = options.mounts.find((mount) => mount.controllers.includes('memory'));
    const swap = memory && (await readCgroupFile(memory.directory, 'memory.memsw.limit_in_bytes'));
    return new CgroupV1(options, swap !== undefined);
  }

  /** The directory in one controller's hierarchy; undefined when that is not mounted. */
  #directory(controller: string, path: string): string | undefined {
    const root = this.#roots.get(controller);
    return root === undefined ? undefined : join(root, path);
  }

  /** The hierarchy that is asked which processes there are. */
  #processDirectory(path: string): string {
    for (const controller of ['freezer', 'pids', 'memory', 'name=systemd']) {
      const directory = this.#directory(controller, path);
      if (directory) return directory;
    }
    return join(this.#mounts[0]!.directory, path);
  }

  directories(path: string): string[] {
    return this.#mounts.map((mount) => join(mount.directory, path));
  }

  async create(path: string, resources: LinuxResources = {}): Promise<void> {
    const checked = checkCgroupPath(path);
    const parts = checked.slice(1).split('/');
    await Promise.all(
      this.#mounts.map(async (mount) => {
        let directory = mount.directory;
        for (const part of parts) {
          directory = join(directory, part);
          const made = await makeDirectory(directory);
          if (made && mount.controllers.includes('cpuset')) await this.#inheritCpuset(directory);
        }
      }),
    );
    await this.update(checked, resources);
  }

  /** A new cpuset is empty, and a process cannot enter it until it has processors and memory nodes. */
  async #inheritCpuset(directory: string): Promise<void> {
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const value = (await readCgroupFile(dirname(directory), file))?.trim();
      if (value) await writeCgroupFile(directory, file, value);
    }
  }

  async update(path: string, resources: LinuxResources): Promise<void> {
    const checked = checkCgroupPath(path);
    for (const [controller, file, value] of settingsV1(resources)) {
      const directory = this.#directory(controller, checked);
      if (!directory) {
        this.#logger.warn(
          { cgroup: checked, file, value },
          'the host lacks the controller; the limit is not set',
        );
        continue;
      }
      await writeCgroupFile(directory, file, value);
    }
  }

  exists(path: string): Promise<boolean> {
    return directoryExists(this.#processDirectory(checkCgroupPath(path)));
  }

  async remove(path: string): Promise<void> {
    const checked = checkCgroupPath(path);
    await Promise.all(this.directories(checked).map((directory) => removeCgroupTree(directory, this.#clock)));
  }

  pids(path: string): Promise<number[]> {
    return processesBelow(this.#processDirectory(checkCgroupPath(path)));
  }

  async kill(path: string, timeoutMs = 10_000): Promise<void> {
    const checked = checkCgroupPath(path);
    const deadline = this.#clock.monotonic() + timeoutMs;
    // Version 1 tells nobody when a cgroup gets empty: after the signals the list is read until it is.
    for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
      if ((await this.pids(checked)).length === 0) return;
      // Frozen, none can fork away from the list that is being killed, and no number can be given to another.
      await this.#freezer(checked, 'FROZEN');
      try {
        killAll(await this.pids(checked));
      } finally {
        await this.#freezer(checked, 'THAWED');
      }
      if ((await this.pids(checked)).length === 0) return;
      if (this.#clock.monotonic() >= deadline)
        throw new RuntimeError(
          'DeadlineExceeded',
          `processes ${(await this.pids(checked)).join(', ')} in cgroup ${checked} do not end after SIGKILL`,
        );
      await pause(this.#clock, wait);
    }
  }

  async #freezer(path: string, state: 'FROZEN' | 'THAWED'): Promise<void> {
    const directory = this.#directory('freezer', path);
    if (!directory || !(await directoryExists(directory))) return;
    await writeCgroupFile(directory, 'freezer.state', state).catch((error: unknown) => {
      if (error instanceof RuntimeError && error.code === 'NotFound') return;
      throw error;
    });
  }

  async #freeze(path: string, state: 'FROZEN' | 'THAWED'): Promise<void> {
    const checked = checkCgroupPath(path);
    const directory = this.#directory('freezer', checked);
    if (!directory) throw new RuntimeError('FailedPrecondition', 'the freezer controller is not mounted');
    const deadline = this.#clock.monotonic() + 10_000;
    // FREEZING is reported until the last task has stopped; there is no event for that either.
    for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
      await writeCgroupFile(directory, 'freezer.state', state);
      if ((await readCgroupFile(directory, 'freezer.state'))?.trim() === state) return;
      if (this.#clock.monotonic() >= deadline)
        throw new RuntimeError('DeadlineExceeded', `cgroup ${checked} does not become ${state}`);
      await pause(this.#clock, wait);
    }
  }

  freeze(path: string): Promise<void> {
    return this.#freeze(path, 'FROZEN');
  }

  thaw(path: string): Promise<void> {
    return this.#freeze(path, 'THAWED');
  }

  async stat(path: string): Promise<CgroupStat> {
    const checked = checkCgroupPath(path);
    const read = async (controller: string, file: string): Promise<string | undefined> => {
      const directory = this.#directory(controller, checked);
      return directory ? readCgroupFile(directory, file) : undefined;
    };
    if (!(await this.exists(checked))) throw new RuntimeError('NotFound', `cgroup ${checked} does not exist`);
    const [cpu, usage, details, limit, pids, oomKills] = await Promise.all([
      read('cpuacct', 'cpuacct.usage'),
      read('memory', 'memory.usage_in_bytes'),
      read('memory', 'memory.stat').then(flatNumbers),
      read('memory', 'memory.limit_in_bytes'),
      read('pids', 'pids.current'),
      this.oomKills(checked),
    ]);
    const usageBytes = Number(usage ?? 0);
    return {
      cpuUsageNanoseconds: Number(cpu ?? 0),
      memory: {
        usageBytes,
        workingSetBytes: Math.max(0, usageBytes - (details.get('total_inactive_file') ?? 0)),
        rssBytes: details.get('total_rss') ?? 0,
        limitBytes: limitOf(limit),
        pageFaults: details.get('total_pgfault') ?? 0,
        majorPageFaults: details.get('total_pgmajfault') ?? 0,
      },
      pids: Number(pids ?? 0),
      oomKills,
    };
  }

  async oomKills(path: string): Promise<number> {
    const directory = this.#directory('memory', checkCgroupPath(path));
    if (!directory) return 0;
    return flatNumbers(await readCgroupFile(directory, 'memory.oom_control')).get('oom_kill') ?? 0;
  }

  async children(path: string): Promise<string[]> {
    const directory = this.#processDirectory(path);
    const prefix = path === '/' ? '' : path;
    return (await subdirectories(directory)).map(
      (child) => `${prefix}${child.slice(directory.replace(/\/$/, '').length)}`,
    );
  }
}
