// Control groups version 2 (kernel: Documentation/admin-guide/cgroup-v2.rst): one hierarchy; a controller reaches a
// cgroup when every cgroup above enables it in its cgroup.subtree_control.

import { watch } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Logger } from '../../component/index.ts';
import { type LinuxResources, RuntimeError } from '../cri.ts';
import {
  checkCgroupPath,
  directoryExists,
  flatNumbers,
  isGone,
  killAll,
  limitOf,
  makeDirectory,
  processesBelow,
  readCgroupFile,
  removeCgroupTree,
  subdirectories,
  writeCgroupFile,
} from './cgroup-files.ts';
import type { CgroupManager, CgroupStat } from './cgroups.ts';

interface Options {
  readonly root: string;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Those that limits or statistics of pods need. */
const WANTED = ['cpu', 'cpuset', 'io', 'memory', 'pids', 'hugetlb'];

/**
 * cpu.weight for cpu.shares as the Open Container Initiative's cgroups library converts them since 2025: 2 becomes
 * 1, 1024 becomes 100, 262144 becomes 10000, and what lies between follows a curve through these points.
 */
export function weightOfShares(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

export function settingsV2(resources: LinuxResources): [file: string, value: string][] {
  const settings: [string, string][] = [];
  if (resources.cpuShares !== undefined)
    settings.push(['cpu.weight', String(weightOfShares(resources.cpuShares))]);
  if (resources.cpuQuota || resources.cpuPeriod) {
    const quota = resources.cpuQuota && resources.cpuQuota > 0 ? String(resources.cpuQuota) : 'max';
    settings.push(['cpu.max', `${quota} ${resources.cpuPeriod || 100_000}`]);
  }
  if (resources.cpusetCpus) settings.push(['cpuset.cpus', resources.cpusetCpus]);
  if (resources.cpusetMems) settings.push(['cpuset.mems', resources.cpusetMems]);
  if (resources.memoryLimitBytes)
    settings.push([
      'memory.max',
      resources.memoryLimitBytes > 0 ? String(resources.memoryLimitBytes) : 'max',
    ]);
  if (resources.pidsLimit)
    settings.push(['pids.max', resources.pidsLimit > 0 ? String(resources.pidsLimit) : 'max']);
  for (const { pageSize, limit } of resources.hugepageLimits ?? [])
    settings.push([`hugetlb.${pageSize}.max`, String(limit)]);
  for (const [file, value] of Object.entries(resources.unified ?? {})) {
    if (!/^[a-z0-9_]+\.[A-Za-z0-9_.]+$/.test(file))
      throw new RuntimeError('InvalidArgument', `"${file}" is no name of a cgroup file`);
    settings.push([file, value]);
  }
  return settings;
}

export class CgroupV2 implements CgroupManager {
  readonly mode = 'v2';
  readonly controllers: ReadonlySet<string>;
  readonly swapAccounting: boolean;
  readonly #root: string;
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** Directories whose subtree_control is as wanted. */
  readonly #enabled = new Set<string>();

  private constructor(options: Options, controllers: readonly string[], swapAccounting: boolean) {
    this.#root = options.root;
    this.#logger = options.logger;
    this.#clock = options.clock;
    this.controllers = new Set(controllers);
    this.swapAccounting = swapAccounting;
  }

  static async open(options: Options): Promise<CgroupV2> {
    const text = await readCgroupFile(options.root, 'cgroup.controllers');
    // The root has no memory.swap.max; the kernel says whether it accounts swap elsewhere.
    const swaps = (await readCgroupFile('/proc', 'swaps')) !== undefined;
    return new CgroupV2(options, (text ?? '').trim().split(' ').filter(Boolean), swaps);
  }

  directories(path: string): string[] {
    return [join(this.#root, path)];
  }

  async create(path: string, resources: LinuxResources = {}): Promise<void> {
    const checked = checkCgroupPath(path);
    let directory = this.#root;
    for (const part of checked.slice(1).split('/')) {
      await this.#enable(directory);
      directory = join(directory, part);
      // Made anew under the same name, it has nothing enabled yet.
      if (await makeDirectory(directory)) this.#enabled.delete(directory);
    }
    // Not in the last one: with controllers enabled for those below, it would take no processes itself.
    await this.update(checked, resources);
  }

  async #enable(directory: string): Promise<void> {
    if (this.#enabled.has(directory)) return;
    const available = ((await readCgroupFile(directory, 'cgroup.controllers')) ?? '').trim().split(' ');
    const enabled = ((await readCgroupFile(directory, 'cgroup.subtree_control')) ?? '').trim().split(' ');
    const missing = WANTED.filter((name) => available.includes(name) && !enabled.includes(name));
    for (const name of missing) {
      // One by one: cpu, say, is refused while real-time processes run, and the others shall work all the same.
      await writeCgroupFile(directory, 'cgroup.subtree_control', `+${name}`).catch((error: unknown) =>
        this.#logger.warn(
          { err: error, directory, controller: name },
          'a cgroup controller cannot be enabled',
        ),
      );
    }
    this.#enabled.add(directory);
  }

  async update(path: string, resources: LinuxResources): Promise<void> {
    const checked = checkCgroupPath(path);
    const directory = join(this.#root, checked);
    for (const [file, value] of settingsV2(resources)) {
      const controller = file.slice(0, file.indexOf('.'));
      if (!this.controllers.has(controller) && controller !== 'cgroup') {
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
    return directoryExists(join(this.#root, checkCgroupPath(path)));
  }

  async remove(path: string): Promise<void> {
    const directory = join(this.#root, checkCgroupPath(path));
    await removeCgroupTree(directory, this.#clock);
    for (const known of this.#enabled)
      if (known === directory || known.startsWith(`${directory}/`)) this.#enabled.delete(known);
  }

  pids(path: string): Promise<number[]> {
    return processesBelow(join(this.#root, checkCgroupPath(path)));
  }

  async kill(path: string, timeoutMs = 10_000): Promise<void> {
    const checked = checkCgroupPath(path);
    const directory = join(this.#root, checked);
    if (!(await directoryExists(directory))) return;
    if ((await readCgroupFile(directory, 'cgroup.kill').catch(() => '')) !== undefined) {
      await writeCgroupFile(directory, 'cgroup.kill', '1');
    } else {
      // Linux before 5.14. Frozen, none can fork away from the list; SIGKILL reaches frozen processes.
      await writeCgroupFile(directory, 'cgroup.freeze', '1');
      killAll(await this.pids(checked));
      await writeCgroupFile(directory, 'cgroup.freeze', '0');
    }
    await this.#event(
      directory,
      'populated',
      0,
      timeoutMs,
      `processes in cgroup ${checked} do not end after SIGKILL`,
    );
  }

  freeze(path: string): Promise<void> {
    return this.#freeze(path, 1);
  }

  thaw(path: string): Promise<void> {
    return this.#freeze(path, 0);
  }

  async #freeze(path: string, frozen: 0 | 1): Promise<void> {
    const checked = checkCgroupPath(path);
    const directory = join(this.#root, checked);
    await writeCgroupFile(directory, 'cgroup.freeze', String(frozen));
    await this.#event(
      directory,
      'frozen',
      frozen,
      10_000,
      `cgroup ${checked} does not reach frozen ${frozen}`,
    );
  }

  /** Until cgroup.events says so; the kernel notifies of its changes. */
  async #event(
    directory: string,
    key: string,
    value: number,
    timeoutMs: number,
    message: string,
  ): Promise<void> {
    const reached = async (): Promise<boolean> => {
      const events = await readCgroupFile(directory, 'cgroup.events');
      return events === undefined || flatNumbers(events).get(key) === value;
    };
    if (await reached()) return;
    await new Promise<void>((resolve, reject) => {
      let watcher: ReturnType<typeof watch> | undefined;
      const settle = (error?: unknown): void => {
        timer.cancel();
        watcher?.close();
        if (error === undefined || isGone(error)) resolve();
        else reject(error);
      };
      const look = (): void => {
        reached().then((done) => done && settle(), settle);
      };
      const timer = this.#clock.setTimer(timeoutMs, () =>
        settle(new RuntimeError('DeadlineExceeded', message)),
      );
      try {
        watcher = watch(join(directory, 'cgroup.events'), look).on('error', settle);
      } catch (error) {
        settle(error);
        return;
      }
      // It may have changed before the watch began.
      look();
    });
  }

  async stat(path: string): Promise<CgroupStat> {
    const checked = checkCgroupPath(path);
    const directory = join(this.#root, checked);
    if (!(await directoryExists(directory)))
      throw new RuntimeError('NotFound', `cgroup ${checked} does not exist`);
    const [cpu, usage, details, limit, pids, oomKills] = await Promise.all([
      readCgroupFile(directory, 'cpu.stat').then(flatNumbers),
      readCgroupFile(directory, 'memory.current'),
      readCgroupFile(directory, 'memory.stat').then(flatNumbers),
      readCgroupFile(directory, 'memory.max'),
      readCgroupFile(directory, 'pids.current'),
      this.oomKills(checked),
    ]);
    const usageBytes = Number(usage ?? 0);
    return {
      cpuUsageNanoseconds: (cpu.get('usage_usec') ?? 0) * 1000,
      memory: {
        usageBytes,
        workingSetBytes: Math.max(0, usageBytes - (details.get('inactive_file') ?? 0)),
        rssBytes: details.get('anon') ?? 0,
        limitBytes: limitOf(limit),
        pageFaults: details.get('pgfault') ?? 0,
        majorPageFaults: details.get('pgmajfault') ?? 0,
      },
      pids: Number(pids ?? 0),
      oomKills,
    };
  }

  async oomKills(path: string): Promise<number> {
    const directory = join(this.#root, checkCgroupPath(path));
    return flatNumbers(await readCgroupFile(directory, 'memory.events')).get('oom_kill') ?? 0;
  }

  async children(path: string): Promise<string[]> {
    const directory = join(this.#root, path);
    const prefix = path === '/' ? '' : path;
    return (await subdirectories(directory)).map(
      (child) => `${prefix}${child.slice(directory.replace(/\/$/, '').length)}`,
    );
  }
}
