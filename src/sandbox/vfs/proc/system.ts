// The texts of /proc that describe the machine that programs see (proc(5)): processors, memory, time, load, devices,
// file systems. Figures that the sandbox does not have (interrupts, disks, swap) are those of a machine without them.

import { deviceMajor, deviceMinor } from '../../abi/open.ts';
import { userHz } from '../../abi/time.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { SandboxKernel } from '../../kernel/kernel.ts';
import { SystemIdentity } from '../../kernel/system-identity.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import { DeviceRegistry } from '../dev/registry.ts';
import { LockTable } from '../locks/lock-table.ts';
import { Vfs } from '../vfs.ts';

const pageSize = 4096;
const ticks = (nanoseconds: number): number => Math.floor((nanoseconds * userHz) / 1e9);

interface TaskSums {
  user: number;
  system: number;
  resident: number;
  switches: number;
  running: number;
  waiting: number;
  threads: number;
}

/** What all tasks of the sandbox have used and do. */
export function sumsOf(kernel: Kernel): TaskSums {
  const sums = { user: 0, system: 0, resident: 0, switches: 0, running: 0, waiting: 0, threads: 0 };
  const memories = new Set<object>();
  for (const [, process] of kernel.rootPidNamespace.processes()) {
    const time = process.cpuTime();
    sums.user += time.user;
    sums.system += time.system;
    for (const task of process.tasks as readonly Thread[]) {
      sums.threads++;
      sums.switches += task.voluntarySwitches + task.involuntarySwitches;
      if (task.state === 'R') sums.running++;
      else if (task.state === 'D') sums.waiting++;
      if (task.exiting || task.dead || memories.has(task.mm)) continue;
      memories.add(task.mm);
      sums.resident += task.mm.usage().resident;
    }
  }
  // The kernel's own work is done in the Sentry's process.
  sums.system += kernel.host.cpuTime();
  return sums;
}

export function statText(kernel: Kernel): string {
  const sums = sumsOf(kernel);
  const { cpus, clock } = kernel;
  const boot = clock.boot();
  const user = ticks(sums.user);
  const system = ticks(sums.system);
  const idle = Math.max(0, ticks(boot) * cpus - user - system);
  const line = (name: string, share: number): string => {
    const part = (value: number): number => Math.floor(value / share);
    return `${name} ${part(user)} 0 ${part(system)} ${part(idle)} 0 0 0 0 0 0\n`;
  };
  let text = line('cpu ', 1);
  for (let i = 0; i < cpus; i++) text += line(`cpu${i}`, cpus);
  const { sec, nsec } = clock.realtime();
  const bootTime = Math.floor(sec + nsec / 1e9 - boot / 1e9);
  return (
    `${text}intr 0\nctxt ${sums.switches}\nbtime ${bootTime}\nprocesses ${(kernel as SandboxKernel).forks}\n` +
    `procs_running ${Math.max(1, sums.running)}\nprocs_blocked ${sums.waiting}\n` +
    'softirq 0 0 0 0 0 0 0 0 0 0 0\n'
  );
}

export function uptimeText(kernel: Kernel): string {
  const sums = sumsOf(kernel);
  const boot = kernel.clock.boot();
  const idle = Math.max(0, boot * kernel.cpus - sums.user - sums.system);
  const seconds = (nanoseconds: number): string => (Math.floor(nanoseconds / 1e7) / 100).toFixed(2);
  return `${seconds(boot)} ${seconds(idle)}\n`;
}

/** Averages of the number of tasks that run or wait for a device, looked at when somebody asks. */
export class LoadAverages {
  readonly #kernel: Kernel;
  readonly #averages = [0, 0, 0];
  #looked: number;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#looked = kernel.clock.monotonic();
  }

  /** Over 1, 5 and 15 minutes; with what the tasks do now. */
  look(): { readonly averages: readonly number[]; readonly running: number; readonly threads: number } {
    const now = this.#kernel.clock.monotonic();
    const { running, waiting, threads } = sumsOf(this.#kernel);
    const seconds = (now - this.#looked) / 1e9;
    this.#looked = now;
    for (const [index, minutes] of [1, 5, 15].entries()) {
      const kept = Math.exp(-seconds / (60 * minutes));
      this.#averages[index] = (this.#averages[index] ?? 0) * kept + (running + waiting) * (1 - kept);
    }
    return { averages: this.#averages, running: Math.max(1, running), threads };
  }
}

export function loadText(kernel: Kernel, lastPid: number): string {
  const { averages, running, threads } = kernel.part(LoadAverages).look();
  return `${averages.map((value) => value.toFixed(2)).join(' ')} ${running}/${threads} ${lastPid}\n`;
}

export function memoryText(kernel: Kernel): string {
  const { resident } = sumsOf(kernel);
  const total = kernel.memoryTotal;
  const free = Math.max(0, total - resident);
  const row = (name: string, bytes: number): string =>
    `${`${name}:`.padEnd(16)}${String(Math.floor(bytes / 1024)).padStart(8)} kB\n`;
  const rows: readonly (readonly [string, number])[] = [
    ['MemTotal', total],
    ['MemFree', free],
    ['MemAvailable', free],
    ['Buffers', 0],
    ['Cached', 0],
    ['SwapCached', 0],
    ['Active', resident],
    ['Inactive', 0],
    ['Active(anon)', resident],
    ['Inactive(anon)', 0],
    ['Active(file)', 0],
    ['Inactive(file)', 0],
    ['Unevictable', 0],
    ['Mlocked', 0],
    ['SwapTotal', 0],
    ['SwapFree', 0],
    ['Zswap', 0],
    ['Zswapped', 0],
    ['Dirty', 0],
    ['Writeback', 0],
    ['AnonPages', resident],
    ['Mapped', 0],
    ['Shmem', 0],
    ['KReclaimable', 0],
    ['Slab', 0],
    ['SReclaimable', 0],
    ['SUnreclaim', 0],
    ['KernelStack', 0],
    ['PageTables', 0],
    ['SecPageTables', 0],
    ['NFS_Unstable', 0],
    ['Bounce', 0],
    ['WritebackTmp', 0],
    ['CommitLimit', total / 2],
    ['Committed_AS', resident],
    ['VmallocTotal', 34_359_738_367 * 1024],
    ['VmallocUsed', 0],
    ['VmallocChunk', 0],
    ['Percpu', 0],
    ['AnonHugePages', 0],
    ['ShmemHugePages', 0],
    ['ShmemPmdMapped', 0],
    ['FileHugePages', 0],
    ['FilePmdMapped', 0],
    ['Unaccepted', 0],
  ];
  const huge = ['HugePages_Total', 'HugePages_Free', 'HugePages_Rsvd', 'HugePages_Surp']
    .map((name) => `${`${name}:`.padEnd(16)}${'0'.padStart(8)}\n`)
    .join('');
  return (
    rows.map(([name, bytes]) => row(name, bytes)).join('') +
    huge +
    row('Hugepagesize', 2048 * 1024) +
    row('Hugetlb', 0) +
    row('DirectMap4k', total)
  );
}

const zeroStatistics =
  'nr_inactive_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable nr_slab_unreclaimable ' +
  'nr_isolated_anon nr_isolated_file nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem nr_dirtied nr_written ' +
  'nr_mlock nr_page_table_pages nr_kernel_stack pgpgin pgpgout pswpin pswpout pgfault pgmajfault pgfree pgactivate ' +
  'pgdeactivate pgsteal_kswapd pgsteal_direct pgscan_kswapd pgscan_direct oom_kill';

export function virtualMemoryText(kernel: Kernel): string {
  const { resident } = sumsOf(kernel);
  const pages = (bytes: number): number => Math.floor(bytes / pageSize);
  return (
    `nr_free_pages ${pages(Math.max(0, kernel.memoryTotal - resident))}\n` +
    `nr_active_anon ${pages(resident)}\nnr_anon_pages ${pages(resident)}\n` +
    zeroStatistics
      .split(' ')
      .map((name) => `${name} 0\n`)
      .join('')
  );
}

/** What every x86-64 processor has. */
const baselineProcessor =
  'processor\t: 0\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: unknown\nstepping\t: unknown\n' +
  'fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 1\nwp\t\t: yes\n' +
  'flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ' +
  'syscall nx lm constant_tsc rep_good nopl\n' +
  'bogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n' +
  'address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n';

export function processorText(kernel: Kernel): string {
  const given = kernel.part(SystemIdentity).processorInformation.trimEnd();
  const first = `${(given === '' ? baselineProcessor : given).split('\n\n')[0]?.trimEnd() ?? ''}\n`;
  let text = '';
  for (let i = 0; i < kernel.cpus; i++) {
    const values: Readonly<Record<string, number>> = {
      processor: i,
      siblings: kernel.cpus,
      'core id': i,
      'cpu cores': kernel.cpus,
      apicid: i,
      'initial apicid': i,
      'physical id': 0,
    };
    const block = first.replace(/^([a-z ]+?)(\t+: )\d+$/gm, (line, name: string, gap: string) =>
      values[name] === undefined ? line : `${name}${gap}${values[name]}`,
    );
    text += `${block}\n`;
  }
  return text;
}

export function versionText(kernel: Kernel): string {
  const { sysname, release, builder, version } = kernel.part(SystemIdentity);
  return `${sysname} version ${release} ${builder} ${version}\n`;
}

export function fileSystemsText(kernel: Kernel): string {
  const names = kernel
    .part(Vfs)
    .types()
    .map((type) => type.name);
  return [...names, 'sockfs', 'pipefs'].map((name) => `nodev\t${name}\n`).join('');
}

export function devicesText(kernel: Kernel): string {
  let text = 'Character devices:\n';
  for (const [major, name] of kernel.part(DeviceRegistry).characterMajors())
    text += `${String(major).padStart(3)} ${name}\n`;
  return `${text}\nBlock devices:\n`;
}

/** Names of terminal drivers by which ps finds /dev/pts/N from a device number. */
const terminalDrivers: readonly (readonly [major: number, line: string])[] = [
  [5, '/dev/tty             /dev/tty        5       0 system:/dev/tty'],
  [5, '/dev/ptmx            /dev/ptmx       5       2 system'],
  [136, 'pty_slave            /dev/pts      136 0-1048575 pty:slave'],
  [128, 'pty_master           /dev/ptm      128 0-1048575 pty:master'],
];

export function terminalDriversText(kernel: Kernel): string {
  const majors = new Set(
    kernel
      .part(DeviceRegistry)
      .characterMajors()
      .map(([major]) => major),
  );
  // The masters are behind /dev/ptmx and have no nodes of their own.
  const present = (major: number): boolean => majors.has(major === 128 ? 136 : major);
  return terminalDrivers
    .filter(([major]) => present(major))
    .map(([, line]) => `${line}\n`)
    .join('');
}

export function locksText(kernel: Kernel, reader: Task): string {
  let text = '';
  let number = 0;
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  for (const lock of kernel.part(LockTable).entries()) {
    const holder = kernel.rootPidNamespace.findProcess(lock.pid);
    const pid = lock.pid < 0 ? lock.pid : (holder?.pidIn(reader.process.pidNamespace) ?? 0);
    // Locks of processes that the reader cannot see are left out (locks_show).
    if (lock.pid > 0 && pid === 0) continue;
    number++;
    const device = `${hex(deviceMajor(lock.device))}:${hex(deviceMinor(lock.device))}:${lock.ino}`;
    const end = lock.end === Number.POSITIVE_INFINITY ? 'EOF' : lock.end;
    text += `${number}: ${lock.kind.padEnd(6)} ADVISORY  ${lock.type.padEnd(5)} ${pid} ${device} ${lock.start} ${end}\n`;
  }
  return text;
}

export function interruptsText(kernel: Kernel): string {
  let head = '           ';
  for (let i = 0; i < kernel.cpus; i++) head += `CPU${i}`.padEnd(11);
  const zeroes = ' '.concat('0'.padStart(10)).repeat(kernel.cpus);
  return `${head}\nERR:${'0'.padStart(11)}\nMIS:${'0'.padStart(11)}\nLOC:${zeroes}   Local timer interrupts\n`;
}
