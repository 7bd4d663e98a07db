// The texts of /proc/pid that say what a task is and does: stat, statm, status, limits, io, sched, syscall and the like
// (proc_pid_stat(5), proc_pid_status(5) …). Formats are those of fs/proc/array.c and base.c, field by field.

import { Rlimit } from '../../abi/resource.ts';
import { userHz } from '../../abi/time.ts';
import type { PidNamespace, ResourceLimit, Task } from '../../kernel/contract.ts';
import { formatSet, type SignalSet } from '../../kernel/signal/signal-set.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { ThreadGroup } from '../../kernel/task/thread-group.ts';
import type { MemoryManager } from '../../mm/contract.ts';
import { Reg } from '../../platform/contract.ts';
import { escapeName } from './escape.ts';

const pageSize = 4096;

const ticks = (nanoseconds: number): number => Math.floor((nanoseconds * userHz) / 1e9);
const kib = (bytes: number): number => Math.floor(bytes / 1024);

const stateNames: Readonly<Record<string, string>> = {
  R: 'running',
  S: 'sleeping',
  D: 'disk sleep',
  T: 'stopped',
  t: 'tracing stop',
  X: 'dead',
  Z: 'zombie',
};

/** Who it is as seen from a PID namespace; 0 if it is not visible there. */
export function tidIn(thread: Thread, namespace: PidNamespace): number {
  return thread.id.in(namespace);
}

/** The task's memory, unless it has ended. */
export function memoryOf(thread: Thread): MemoryManager | undefined {
  return thread.exiting || thread.dead ? undefined : thread.mm;
}

function parentIn(process: ThreadGroup, namespace: PidNamespace): number {
  return process.parent?.id.in(namespace) ?? 0;
}

interface SignalSums {
  readonly ignored: SignalSet;
  readonly caught: SignalSet;
}

function dispositions(thread: Thread): SignalSums {
  let [ignoredLow, ignoredHigh, caughtLow, caughtHigh] = [0, 0, 0, 0];
  if (!thread.dead) {
    const { handlers } = thread.process.signals;
    for (let signal = 1; signal <= 64; signal++) {
      const { handler } = handlers.get(signal);
      if (handler === 0) continue;
      const bit = 1 << ((signal - 1) & 31);
      if (handler === 1 && signal <= 32) ignoredLow |= bit;
      else if (handler === 1) ignoredHigh |= bit;
      else if (signal <= 32) caughtLow |= bit;
      else caughtHigh |= bit;
    }
  }
  return { ignored: { low: ignoredLow, high: ignoredHigh }, caught: { low: caughtLow, high: caughtHigh } };
}

const lowMask = (set: SignalSet): number => set.low & 0x7fff_ffff;

/** As tty_nr: major and minor of the controlling terminal, 0: none. */
function terminalOf(process: ThreadGroup, namespace: PidNamespace): readonly [device: number, group: number] {
  const { terminal } = process.session;
  if (!terminal) return [0, -1];
  const foreground = terminal.foreground as
    | { readonly id: { in(namespace: PidNamespace): number } }
    | undefined;
  return [terminal.device, foreground?.id.in(namespace) ?? -1];
}

/** CLOCK_BOOTTIME at which it was born, in clock ticks. */
function startTicks(thread: Thread): number {
  const { clock } = thread.kernel;
  return ticks(Math.max(0, thread.startTime + clock.boot() - clock.monotonic()));
}

function unsigned(limit: number): string {
  return limit === Number.POSITIVE_INFINITY ? '18446744073709551615' : String(limit);
}

/** whole: of the process (/proc/pid/stat), else of this thread. permitted: addresses are shown. */
export function statText(
  thread: Thread,
  whole: boolean,
  permitted: boolean,
  namespace: PidNamespace,
): string {
  const { process, scheduling } = thread;
  const mm = memoryOf(thread);
  const usage = mm?.usage();
  const layout = permitted ? mm?.layout : undefined;
  const time = whole ? process.cpuTime() : thread.cpuTime();
  const children = whole ? process.childrenUsage : undefined;
  const sums = whole ? process.usage() : undefined;
  const [terminal, foreground] = terminalOf(process, namespace);
  const { ignored, caught } = dispositions(thread);
  const realTime = scheduling.priority > 0;
  const waits = permitted && (!whole || process.tasks.length < 2) && thread.state !== 'R' && !thread.dead;
  const fields = [
    tidIn(thread, namespace),
    `(${escapeName(thread.name)})`,
    thread.state,
    parentIn(process, namespace),
    process.group.id.in(namespace),
    process.session.id.in(namespace),
    terminal,
    foreground,
    0x40_0000 | (process.executed ? 0 : 0x40) | (thread.exiting ? 0x4 : 0),
    sums?.minorFaults ?? 0,
    children?.minorFaults ?? 0,
    sums?.majorFaults ?? 0,
    children?.majorFaults ?? 0,
    ticks(time.user),
    ticks(time.system),
    ticks(children?.user ?? 0),
    ticks(children?.system ?? 0),
    realTime ? -1 - scheduling.priority : 20 + scheduling.nice,
    scheduling.nice,
    process.tasks.length,
    0,
    startTicks(thread),
    usage?.total ?? 0,
    Math.floor((usage?.resident ?? 0) / pageSize),
    unsigned(process.limit(Rlimit.rss).soft),
    layout ? layout.codeStart : mm ? 1 : 0,
    layout ? layout.codeEnd : mm ? 1 : 0,
    layout?.stackStart ?? 0,
    0,
    0,
    lowMask(thread.dead ? { low: 0, high: 0 } : thread.signals.threadPending),
    lowMask(thread.dead ? { low: 0, high: 0 } : thread.signals.mask),
    lowMask(ignored),
    lowMask(caught),
    waits ? 1 : 0,
    0,
    0,
    thread.leader ? process.exitSignal : -1,
    0,
    scheduling.priority,
    scheduling.policy,
    0,
    0,
    0,
    layout?.dataStart ?? 0,
    layout?.dataEnd ?? 0,
    layout?.brkStart ?? 0,
    layout?.argumentsStart ?? 0,
    layout?.argumentsEnd ?? 0,
    layout?.environmentStart ?? 0,
    layout?.environmentEnd ?? 0,
    permitted ? (thread.exitStatus ?? 0) : 0,
  ];
  return `${fields.join(' ')}\n`;
}

/** Pages: size, resident, shared, text, lib, data, dt. */
export function statmText(thread: Thread): string {
  const mm = memoryOf(thread);
  if (!mm) return '0 0 0 0 0 0 0\n';
  const usage = mm.usage();
  const pages = (bytes: number): number => Math.floor(bytes / pageSize);
  const { codeStart, codeEnd } = mm.layout;
  const text = Math.ceil(codeEnd / pageSize) - Math.floor(codeStart / pageSize);
  return `${pages(usage.total)} ${pages(usage.resident)} 0 ${text} 0 ${pages(usage.data + usage.stack)} 0\n`;
}

function idLine(name: string, ids: readonly number[], from: (id: number) => number): string {
  const seen = ids.map((id) => {
    const value = from(id);
    return value < 0 ? 65_534 : value;
  });
  return `${name}:\t${seen.join('\t')}\n`;
}

/** Numbers of something in all namespaces from the reader's down to its own. */
function numbersFrom(numbers: readonly number[], namespace: PidNamespace): string {
  return numbers.slice(namespace.level).join('\t');
}

const hex16 = (value: bigint): string => value.toString(16).padStart(16, '0');

function memoryLines(mm: MemoryManager): string {
  const usage = mm.usage();
  const { codeStart, codeEnd } = mm.layout;
  const text = Math.ceil(codeEnd / pageSize) * pageSize - Math.floor(codeStart / pageSize) * pageSize;
  const line = (name: string, bytes: number): string => `${name}:\t${String(kib(bytes)).padStart(8)} kB\n`;
  // Page tables: a page for each 2 MiB that has resident pages, and the three levels above.
  const tables = (Math.ceil(usage.resident / (512 * pageSize)) + 3) * pageSize;
  return (
    line('VmPeak', Math.max(usage.peakTotal, usage.total)) +
    line('VmSize', usage.total) +
    line('VmLck', usage.locked) +
    line('VmPin', 0) +
    line('VmHWM', usage.resident) +
    line('VmRSS', usage.resident) +
    line('RssAnon', usage.resident) +
    line('RssFile', 0) +
    line('RssShmem', 0) +
    line('VmData', usage.data) +
    line('VmStk', usage.stack) +
    line('VmExe', Math.max(0, text)) +
    line('VmLib', Math.max(0, usage.executable - text)) +
    line('VmPTE', tables) +
    line('VmSwap', 0) +
    line('HugetlbPages', 0)
  );
}

/** The list form of a set of processors: "0-3,5". */
export function processorList(allowed: (processor: number) => boolean, count: number): string {
  const ranges: string[] = [];
  for (let i = 0; i < count; i++) {
    if (!allowed(i)) continue;
    let end = i;
    while (end + 1 < count && allowed(end + 1)) end++;
    ranges.push(i === end ? `${i}` : `${i}-${end}`);
    i = end;
  }
  return ranges.join(',');
}

export function processorMask(allowed: (processor: number) => boolean, count: number): string {
  const words: string[] = [];
  for (let word = 0; word * 32 < count; word++) {
    let bits = 0;
    const width = Math.min(32, count - word * 32);
    for (let i = 0; i < width; i++) if (allowed(word * 32 + i)) bits |= 1 << i;
    words.unshift((bits >>> 0).toString(16).padStart(Math.ceil(width / 4), '0'));
  }
  return words.join(',');
}

export function statusText(thread: Thread, namespace: PidNamespace, reader: Task): string {
  const { process, credentials, scheduling, kernel } = thread;
  const { userNamespace } = reader.credentials;
  const user = (id: number): number => userNamespace.fromKernelUid(id);
  const group = (id: number): number => userNamespace.fromKernelGid(id);
  const mm = memoryOf(thread);
  const alive = mm !== undefined;
  const tracer = thread.trace.tracer as Thread | undefined;
  const { ignored, caught } = dispositions(thread);
  const none: SignalSet = { low: 0, high: 0 };
  let slots = 64;
  if (alive) for (const [fd] of thread.files.entries()) while (slots <= fd) slots *= 2;
  const { uid, euid, suid, fsuid, gid, egid, sgid, fsgid } = credentials;
  const allowed = (processor: number): boolean =>
    scheduling.affinity === undefined ||
    (((scheduling.affinity[processor >> 5] ?? 0) >> (processor & 31)) & 1) !== 0;
  const groups = credentials.groups.map((id) => (group(id) < 0 ? 65_534 : group(id)));
  return (
    `Name:\t${escapeName(thread.name)}\n` +
    (alive ? `Umask:\t${thread.fs.umask.toString(8).padStart(4, '0')}\n` : '') +
    `State:\t${thread.state} (${stateNames[thread.state]})\n` +
    `Tgid:\t${process.id.in(namespace)}\n` +
    'Ngid:\t0\n' +
    `Pid:\t${tidIn(thread, namespace)}\n` +
    `PPid:\t${parentIn(process, namespace)}\n` +
    `TracerPid:\t${tracer ? tidIn(tracer, namespace) : 0}\n` +
    idLine('Uid', [uid, euid, suid, fsuid], user) +
    idLine('Gid', [gid, egid, sgid, fsgid], group) +
    `FDSize:\t${alive ? slots : 0}\n` +
    `Groups:\t${groups.map((id) => `${id} `).join('') || ' '}\n` +
    `NStgid:\t${numbersFrom(process.id.numbers, namespace)}\n` +
    `NSpid:\t${numbersFrom(thread.id.numbers, namespace)}\n` +
    `NSpgid:\t${numbersFrom(process.group.id.numbers, namespace)}\n` +
    `NSsid:\t${numbersFrom(process.session.id.numbers, namespace)}\n` +
    'Kthread:\t0\n' +
    (mm ? memoryLines(mm) : '') +
    (mm ? 'CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n' : '') +
    `Threads:\t${Math.max(1, process.tasks.length)}\n` +
    `SigQ:\t${process.dead ? 0 : process.signals.queued}/${unsigned(process.limit(Rlimit.sigpending).soft)}\n` +
    `SigPnd:\t${formatSet(alive ? thread.signals.threadPending : none)}\n` +
    `ShdPnd:\t${formatSet(alive ? process.signals.pending : none)}\n` +
    `SigBlk:\t${formatSet(alive ? thread.signals.mask : none)}\n` +
    `SigIgn:\t${formatSet(ignored)}\n` +
    `SigCgt:\t${formatSet(caught)}\n` +
    `CapInh:\t${hex16(credentials.inheritable)}\n` +
    `CapPrm:\t${hex16(credentials.permitted)}\n` +
    `CapEff:\t${hex16(credentials.effective)}\n` +
    `CapBnd:\t${hex16(credentials.bounding)}\n` +
    `CapAmb:\t${hex16(credentials.ambient)}\n` +
    `NoNewPrivs:\t${thread.noNewPrivileges ? 1 : 0}\n` +
    `Seccomp:\t${thread.seccomp.mode}\n` +
    `Seccomp_filters:\t${thread.seccomp.filters}\n` +
    'Speculation_Store_Bypass:\tvulnerable\n' +
    'SpeculationIndirectBranch:\talways enabled\n' +
    `Cpus_allowed:\t${processorMask(allowed, kernel.cpus)}\n` +
    `Cpus_allowed_list:\t${processorList(allowed, kernel.cpus)}\n` +
    'Mems_allowed:\t1\n' +
    'Mems_allowed_list:\t0\n' +
    `voluntary_ctxt_switches:\t${thread.voluntarySwitches}\n` +
    `nonvoluntary_ctxt_switches:\t${thread.involuntarySwitches}\n`
  );
}

const limitRows: readonly (readonly [number, string, string])[] = [
  [Rlimit.cpu, 'Max cpu time', 'seconds'],
  [Rlimit.fsize, 'Max file size', 'bytes'],
  [Rlimit.data, 'Max data size', 'bytes'],
  [Rlimit.stack, 'Max stack size', 'bytes'],
  [Rlimit.core, 'Max core file size', 'bytes'],
  [Rlimit.rss, 'Max resident set', 'bytes'],
  [Rlimit.nproc, 'Max processes', 'processes'],
  [Rlimit.nofile, 'Max open files', 'files'],
  [Rlimit.memlock, 'Max locked memory', 'bytes'],
  [Rlimit.as, 'Max address space', 'bytes'],
  [Rlimit.locks, 'Max file locks', 'locks'],
  [Rlimit.sigpending, 'Max pending signals', 'signals'],
  [Rlimit.msgqueue, 'Max msgqueue size', 'bytes'],
  [Rlimit.nice, 'Max nice priority', ''],
  [Rlimit.rtprio, 'Max realtime priority', ''],
  [Rlimit.rttime, 'Max realtime timeout', 'us'],
];

export function limitsText(limit: (resource: number) => ResourceLimit): string {
  const value = (number: number): string =>
    (number === Number.POSITIVE_INFINITY ? 'unlimited' : String(number)).padEnd(20);
  let text = `${'Limit'.padEnd(25)} ${'Soft Limit'.padEnd(20)} ${'Hard Limit'.padEnd(20)} ${'Units'.padEnd(10)}\n`;
  for (const [resource, name, unit] of limitRows) {
    const { soft, hard } = limit(resource);
    text += `${name.padEnd(25)} ${value(soft)} ${value(hard)} ${unit === '' ? '' : unit.padEnd(10)}\n`;
  }
  return text;
}

export function ioText(process: ThreadGroup): string {
  const { readBytes, writtenBytes, reads, writes } = process.io;
  return (
    `rchar: ${readBytes}\nwchar: ${writtenBytes}\nsyscr: ${reads}\nsyscw: ${writes}\n` +
    'read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n'
  );
}

/** Nanoseconds on a processor, waiting for one (unknown here), and how often it was put on one. */
export function schedStatText(thread: Thread): string {
  const { user, system } = thread.cpuTime();
  return `${Math.round(user + system)} 0 ${thread.voluntarySwitches + thread.involuntarySwitches}\n`;
}

export function schedText(thread: Thread, namespace: PidNamespace): string {
  const { scheduling, process } = thread;
  const { user, system } = thread.cpuTime();
  const milliseconds = (nanoseconds: number): string => (nanoseconds / 1e6).toFixed(6);
  const row = (name: string, value: string | number): string =>
    `${name.padEnd(45)}:${String(value).padStart(21)}\n`;
  const head = `${thread.name} (${tidIn(thread, namespace)}, #threads: ${process.tasks.length})\n`;
  return (
    head +
    `${'-'.repeat(67)}\n` +
    row('se.exec_start', milliseconds(thread.kernel.clock.monotonic())) +
    row('se.sum_exec_runtime', milliseconds(user + system)) +
    row('nr_switches', thread.voluntarySwitches + thread.involuntarySwitches) +
    row('nr_voluntary_switches', thread.voluntarySwitches) +
    row('nr_involuntary_switches', thread.involuntarySwitches) +
    row('policy', scheduling.policy) +
    row('prio', scheduling.priority > 0 ? 99 - scheduling.priority : 120 + scheduling.nice)
  );
}

/** The system call that it waits in: number, arguments, stack pointer, instruction pointer; "running". */
export function syscallText(thread: Thread): string {
  if (!thread.blocked) return 'running\n';
  const { context } = thread;
  const registers = context.registers();
  const hex = (value: bigint | undefined): string => `0x${(value ?? 0n).toString(16)}`;
  const values = [0, 1, 2, 3, 4, 5].map((index) => hex(context.args.big(index)));
  return `${context.number} ${values.join(' ')} ${hex(registers[Reg.rsp])} ${hex(registers[Reg.rip])}\n`;
}
