// What a cgroup's files say of the container: its processes, limits and use. Everything belongs to one cgroup, which the
// container sees as the root of every hierarchy (cgroup_namespaces(7)), but with the files of a cgroup below the root.
// Limits are enforced by the host; only what they are is told here.

import { Errno } from '../../abi/errno.ts';
import { userHz } from '../../abi/time.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Container } from '../../kernel/task/container.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import { type Entry, text } from '../kernfs/tree.ts';

const pageBytes = 4096;
/** PAGE_COUNTER_MAX in bytes: no limit, for version 1. */
const unlimited = '9223372036854771712';

/** Stores that only a manager outside of the container may do: the cgroup is delegated (nsdelegate). */
const notDelegated = (): number => -Errno.EPERM;

/** A text whose file could be written by whoever manages the cgroup. */
export function managed(show: () => string): Entry {
  return { show, store: notDelegated };
}

/** Limits count whole pages. */
const wholePages = (bytes: number): number => Math.floor(bytes / pageBytes) * pageBytes;

export const limitText = (value: number): string =>
  value === Number.POSITIVE_INFINITY ? 'max' : String(value);

/** Bytes that its programs hold, each address space once. */
export function memoryUse(container: Container): number {
  const seen = new Set<object>();
  let bytes = 0;
  for (const thread of container.threads()) {
    if (thread.exiting || thread.dead || seen.has(thread.mm)) continue;
    seen.add(thread.mm);
    bytes += thread.mm.usage().resident;
  }
  return bytes;
}

const rows = (values: readonly (readonly [name: string, value: number])[]): string =>
  values.map(([name, value]) => `${name} ${Math.floor(value)}\n`).join('');

const zeroRows = (names: string): string =>
  names
    .split(' ')
    .map((name) => `${name} 0\n`)
    .join('');

/** cgroup.procs: the processes as whoever opened the file sees them; 0 for those that he does not see. */
function processes(container: Container): Entry {
  return {
    show: (reader) =>
      [...container.processes]
        .filter((process) => process.tasks.some((thread) => !thread.dead))
        .map((process) => `${process.pidIn((reader as Thread).process.pidNamespace)}\n`)
        .join(''),
    store: (written, writer) => attach(container, written, writer, false),
  };
}

/** tasks, cgroup.threads */
function threads(container: Container): Entry {
  return {
    show: (reader) =>
      [...container.threads()]
        .map((thread) => `${thread.tidIn((reader as Thread).process.pidNamespace)}\n`)
        .join(''),
    store: (written, writer) => attach(container, written, writer, true),
  };
}

/** Moving a process into the only cgroup there is: it is there already, unless it is another container's. */
function attach(container: Container, written: string, writer: Task, thread: boolean): number {
  const trimmed = written.trim();
  if (!/^[+-]?\d{1,10}$/.test(trimmed)) return -Errno.EINVAL;
  const number = Number(trimmed);
  if (number < 0) return -Errno.EINVAL;
  const namespace = writer.process.pidNamespace;
  const process =
    number === 0
      ? writer.process
      : thread
        ? namespace.findTask(number)?.process
        : namespace.findProcess(number);
  if (!process) return -Errno.ESRCH;
  for (const member of container.processes) if (member === process) return 0;
  return -Errno.EACCES;
}

export function cpuFiles(container: Container): Readonly<Record<string, Entry>> {
  const { limits } = container;
  return {
    'cpu.idle': managed(() => '0\n'),
    'cpu.max': managed(() => `${limitText(limits.cpuQuota)} ${limits.cpuPeriod}\n`),
    'cpu.max.burst': managed(() => '0\n'),
    'cpu.weight': managed(() => `${limits.cpuShares === undefined ? 100 : weightOf(limits.cpuShares)}\n`),
    'cpu.weight.nice': managed(() => '0\n'),
  };
}

/** From 2–262144 shares to 1–10000, as runtimes map them. */
export function weightOf(shares: number): number {
  const bounded = Math.min(262_144, Math.max(2, shares));
  return 1 + Math.floor(((bounded - 2) * 9999) / 262_142);
}

function cpuStatistics(container: Container): string {
  const { user, system } = container.cpuTime();
  return (
    rows([
      ['usage_usec', (user + system) / 1000],
      ['user_usec', user / 1000],
      ['system_usec', system / 1000],
    ]) + zeroRows('nice_usec nr_periods nr_throttled throttled_usec nr_bursts burst_usec')
  );
}

/** The files of version 2 (Documentation/admin-guide/cgroup-v2.rst). */
export function unifiedFiles(container: Container): Readonly<Record<string, Entry>> {
  const { limits } = container;
  /** Controllers that are passed on to children, of which there are none. */
  const passed = new Set<string>();
  return {
    'cgroup.controllers': text(() => 'cpuset cpu memory pids\n'),
    'cgroup.events': text(
      () => `populated ${container.tasks > 0 ? 1 : 0}\nfrozen ${container.frozen ? 1 : 0}\n`,
    ),
    'cgroup.freeze': managed(() => `${container.frozen ? 1 : 0}\n`),
    'cgroup.kill': { show: () => -Errno.EINVAL, store: notDelegated, permissions: 0o200 },
    // No cgroup can be made below: mkdir fails as this says.
    'cgroup.max.depth': managed(() => '0\n'),
    'cgroup.max.descendants': managed(() => '0\n'),
    'cgroup.procs': processes(container),
    'cgroup.stat': text(() => zeroRows('nr_descendants nr_dying_descendants')),
    'cgroup.subtree_control': {
      show: () => `${unifiedControllers.filter((name) => passed.has(name)).join(' ')}\n`,
      store: (written) => passOn(passed, written),
    },
    'cgroup.threads': threads(container),
    'cgroup.type': managed(() => 'domain\n'),
    'cpu.stat': text(() => cpuStatistics(container)),
    ...cpuFiles(container),
    'cpuset.cpus': managed(() => '\n'),
    'cpuset.cpus.effective': text(() => `${processorList(container)}\n`),
    'cpuset.mems': managed(() => '\n'),
    'cpuset.mems.effective': text(() => '0\n'),
    'memory.current': text(() => `${memoryUse(container)}\n`),
    'memory.events': text(() => zeroRows('low high max oom oom_kill oom_group_kill')),
    'memory.events.local': text(() => zeroRows('low high max oom oom_kill oom_group_kill')),
    'memory.high': managed(() => 'max\n'),
    'memory.low': managed(() => '0\n'),
    'memory.max': managed(() => `${limitText(wholePages(limits.memory))}\n`),
    'memory.min': managed(() => '0\n'),
    'memory.oom.group': managed(() => '0\n'),
    'memory.stat': text(() => memoryStatistics(memoryUse(container))),
    'memory.swap.current': text(() => '0\n'),
    'memory.swap.max': managed(() => '0\n'),
    'pids.current': text(() => `${container.tasks}\n`),
    'pids.events': text(() => 'max 0\n'),
    'pids.max': managed(() => `${limitText(container.taskLimit)}\n`),
  };
}

const unifiedControllers = ['cpuset', 'cpu', 'memory', 'pids'];

/** "+cpu -pids": what counts for whole processes cannot be passed on by a cgroup that has processes itself. */
function passOn(passed: Set<string>, written: string): number {
  const changes: (readonly [name: string, on: boolean])[] = [];
  for (const word of written.split(/\s+/)) {
    if (word === '') continue;
    const name = word.slice(1);
    if (!unifiedControllers.includes(name) || (word[0] !== '+' && word[0] !== '-')) return -Errno.EINVAL;
    changes.push([name, word[0] === '+']);
  }
  if (changes.some(([name, on]) => on && name === 'memory')) return -Errno.EBUSY;
  for (const [name, on] of changes) {
    if (on) passed.add(name);
    else passed.delete(name);
  }
  return 0;
}

function processorList(container: Container): string {
  const { cpus } = container.kernel;
  return cpus === 1 ? '0' : `0-${cpus - 1}`;
}

function memoryStatistics(used: number): string {
  return (
    rows([['anon', used]]) +
    zeroRows(
      'file kernel kernel_stack pagetables sec_pagetables percpu sock vmalloc shmem file_mapped file_dirty ' +
        'file_writeback swapcached anon_thp file_thp shmem_thp inactive_anon',
    ) +
    rows([['active_anon', used]]) +
    zeroRows(
      'inactive_file active_file unevictable slab_reclaimable slab_unreclaimable slab workingset_refault_anon ' +
        'workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon ' +
        'workingset_restore_file workingset_nodereclaim pgscan pgsteal pgscan_kswapd pgscan_direct pgsteal_kswapd ' +
        'pgsteal_direct pgfault pgmajfault pgrefill pgactivate pgdeactivate pglazyfree pglazyfreed ' +
        'thp_fault_alloc thp_collapse_alloc',
    )
  );
}

/** The files that each hierarchy of version 1 has. */
function commonFiles(container: Container): Readonly<Record<string, Entry>> {
  return {
    'cgroup.clone_children': managed(() => '0\n'),
    'cgroup.procs': processes(container),
    notify_on_release: managed(() => '0\n'),
    tasks: threads(container),
  };
}

const bytesText = (limit: number): string =>
  limit === Number.POSITIVE_INFINITY ? unlimited : String(wholePages(limit));

/** The files of a controller of version 1 (Documentation/admin-guide/cgroup-v1); undefined: there is none. */
export function controllerFiles(
  container: Container,
  controller: string,
): Readonly<Record<string, Entry>> | undefined {
  const { limits } = container;
  const { cpus } = container.kernel;
  const time = (): { user: number; system: number } => container.cpuTime();
  switch (controller) {
    case 'cpu':
      return {
        'cpu.cfs_burst_us': managed(() => '0\n'),
        'cpu.cfs_period_us': managed(() => `${limits.cpuPeriod}\n`),
        'cpu.cfs_quota_us': managed(
          () => `${limits.cpuQuota === Number.POSITIVE_INFINITY ? -1 : limits.cpuQuota}\n`,
        ),
        'cpu.idle': managed(() => '0\n'),
        'cpu.shares': managed(() => `${limits.cpuShares ?? 1024}\n`),
        'cpu.stat': text(() => zeroRows('nr_periods nr_throttled throttled_time nr_bursts burst_time')),
      };
    case 'cpuacct':
      return {
        'cpuacct.stat': text(() => {
          const { user, system } = time();
          const ticks = (nanoseconds: number): number => (nanoseconds * userHz) / 1e9;
          return rows([
            ['user', ticks(user)],
            ['system', ticks(system)],
          ]);
        }),
        'cpuacct.usage': managed(() => `${Math.floor(time().user + time().system)}\n`),
        // Which processor it was is not known: each has its part.
        'cpuacct.usage_percpu': text(
          () => `${`${Math.floor((time().user + time().system) / cpus)} `.repeat(cpus)}\n`,
        ),
        'cpuacct.usage_sys': text(() => `${Math.floor(time().system)}\n`),
        'cpuacct.usage_user': text(() => `${Math.floor(time().user)}\n`),
      };
    case 'cpuset':
      return {
        'cpuset.cpu_exclusive': managed(() => '0\n'),
        'cpuset.cpus': managed(() => `${processorList(container)}\n`),
        'cpuset.effective_cpus': text(() => `${processorList(container)}\n`),
        'cpuset.effective_mems': text(() => '0\n'),
        'cpuset.mem_exclusive': managed(() => '0\n'),
        'cpuset.mems': managed(() => '0\n'),
        'cpuset.sched_load_balance': managed(() => '1\n'),
      };
    case 'freezer':
      return {
        'freezer.parent_freezing': text(() => '0\n'),
        'freezer.self_freezing': text(() => `${container.frozen ? 1 : 0}\n`),
        'freezer.state': managed(() => `${container.frozen ? 'FROZEN' : 'THAWED'}\n`),
      };
    case 'memory':
      return {
        'memory.failcnt': managed(() => '0\n'),
        'memory.limit_in_bytes': managed(() => `${bytesText(limits.memory)}\n`),
        'memory.oom_control': managed(() => zeroRows('oom_kill_disable under_oom oom_kill')),
        'memory.soft_limit_in_bytes': managed(() => `${unlimited}\n`),
        'memory.stat': text(() => oldMemoryStatistics(memoryUse(container), limits.memory)),
        'memory.swappiness': managed(() => '60\n'),
        'memory.usage_in_bytes': text(() => `${memoryUse(container)}\n`),
        'memory.use_hierarchy': managed(() => '1\n'),
      };
    case 'pids':
      return {
        'pids.current': text(() => `${container.tasks}\n`),
        'pids.events': text(() => 'max 0\n'),
        'pids.max': managed(() => `${limitText(container.taskLimit)}\n`),
      };
    default:
      return undefined;
  }
}

/** In the order in which /proc/cgroups has them. */
export const oldControllers = ['cpuset', 'cpu', 'cpuacct', 'memory', 'freezer', 'pids'] as const;

function oldMemoryStatistics(used: number, limit: number): string {
  const part = (prefix: string): string =>
    zeroRows(`${prefix}cache`) +
    rows([[`${prefix}rss`, used]]) +
    zeroRows(
      ['rss_huge', 'shmem', 'mapped_file', 'dirty', 'writeback', 'swap', 'pgpgin', 'pgpgout', 'pgfault']
        .concat(['pgmajfault', 'inactive_anon'])
        .map((name) => prefix + name)
        .join(' '),
    ) +
    rows([[`${prefix}active_anon`, used]]) +
    zeroRows(['inactive_file', 'active_file', 'unevictable'].map((name) => prefix + name).join(' '));
  return `${part('')}hierarchical_memory_limit ${bytesText(limit)}\n${part('total_')}`;
}

/** The tree of one hierarchy of version 1. */
export function hierarchy(
  container: Container,
  controllers: readonly string[],
): Readonly<Record<string, Entry>> {
  const files: Record<string, Entry> = { ...commonFiles(container) };
  for (const controller of controllers) Object.assign(files, controllerFiles(container, controller));
  return files;
}
