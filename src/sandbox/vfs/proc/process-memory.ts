// /proc/pid/maps, smaps, cmdline, environ, auxv and mem: a process's memory and what lies in it.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import { deviceMajor, deviceMinor } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { MemoryManager, Vma } from '../../mm/contract.ts';
import { flagText, lockedMask, VmFlag } from '../../mm/vma.ts';
import { Protection } from '../../platform/contract.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import { describePath } from '../path.ts';
import { escapePath } from './escape.ts';
import { memoryOf } from './process-status.ts';

const chunkBytes = 65_536;
/** The column at which names begin in maps. */
const nameColumn = 73;

function addressText(address: number): string {
  return address.toString(16).padStart(8, '0');
}

/** One line of maps without its newline (show_map_vma). */
function mapLine(vma: Vma, root: Path): string {
  const { protection, file } = vma;
  let [device, ino, offset, name] = [0, 0, 0, vma.label];
  if (file) {
    const stat = file.stat();
    if (typeof stat !== 'number') {
      device = stat.dev;
      ino = stat.ino;
    }
    offset = vma.fileOffset;
    if (name === '') name = file.path ? describePath(file.path, root) : file.describe();
  }
  const rights =
    (protection & Protection.read ? 'r' : '-') +
    (protection & Protection.write ? 'w' : '-') +
    (protection & Protection.execute ? 'x' : '-') +
    (vma.shared ? 's' : 'p');
  const hex2 = (value: number): string => value.toString(16).padStart(2, '0');
  const line =
    `${addressText(vma.start)}-${addressText(vma.end)} ${rights} ${addressText(offset)} ` +
    `${hex2(deviceMajor(device))}:${hex2(deviceMinor(device))} ${ino} `;
  return name === '' ? line : `${line.padEnd(nameColumn)}${escapePath(name)}`;
}

export function mapsText(thread: Thread, reader: Task): string {
  const mm = memoryOf(thread);
  if (!mm) return '';
  const lines: string[] = [];
  for (const vma of mm.vmas()) lines.push(`${mapLine(vma, reader.fs.root)}\n`);
  return lines.join('');
}

const kib = (name: string, bytes: number): string =>
  `${`${name}:`.padEnd(16)}${String(Math.floor(bytes / 1024)).padStart(8)} kB\n`;

/** The rows that smaps and smaps_rollup have in common, after Rss. */
function residentRows(resident: number, anonymous: boolean): string {
  return (
    kib('Shared_Clean', 0) +
    kib('Shared_Dirty', 0) +
    kib('Private_Clean', anonymous ? 0 : resident) +
    kib('Private_Dirty', anonymous ? resident : 0) +
    kib('Referenced', resident) +
    kib('Anonymous', anonymous ? resident : 0) +
    kib('KSM', 0) +
    kib('LazyFree', 0) +
    kib('AnonHugePages', 0) +
    kib('ShmemPmdMapped', 0) +
    kib('FilePmdMapped', 0) +
    kib('Shared_Hugetlb', 0) +
    kib('Private_Hugetlb', 0) +
    kib('Swap', 0) +
    kib('SwapPss', 0)
  );
}

/**
 * Which pages of a mapping are resident only the host knows. As in MemoryManager.usage() all that can be accessed counts
 * that was not reserved without backing, so that the mappings of smaps add up to smaps_rollup and VmRSS.
 */
function residentBound(vma: Vma): number {
  const reserved = (vma.flags & (VmFlag.noReserve | VmFlag.special)) !== 0;
  return vma.protection === 0 || reserved ? 0 : vma.end - vma.start;
}

export function smapsText(thread: Thread, reader: Task): string {
  const mm = memoryOf(thread);
  if (!mm) return '';
  const parts: string[] = [];
  for (const vma of mm.vmas()) {
    const resident = residentBound(vma);
    parts.push(
      `${mapLine(vma, reader.fs.root)}\n`,
      kib('Size', vma.end - vma.start),
      kib('KernelPageSize', 4096),
      kib('MMUPageSize', 4096),
      kib('Rss', resident),
      kib('Pss', resident),
      kib('Pss_Dirty', vma.file ? 0 : resident),
      residentRows(resident, vma.file === undefined),
      kib('Locked', vma.flags & lockedMask ? resident : 0),
      `THPeligible:           0\nVmFlags: ${flagText(vma.flags)} \n`,
    );
  }
  return parts.join('');
}

export function smapsRollupText(thread: Thread): string | number {
  const mm = memoryOf(thread);
  if (!mm) return -Errno.ESRCH;
  let first: number | undefined;
  let last = 0;
  for (const vma of mm.vmas()) {
    first ??= vma.start;
    last = vma.end;
  }
  const { resident, locked } = mm.usage();
  const range = `${addressText(first ?? 0)}-${addressText(last)} ---p 00000000 00:00 0 `;
  return (
    `${range.padEnd(nameColumn)}[rollup]\n` +
    kib('Rss', resident) +
    kib('Pss', resident) +
    kib('Pss_Dirty', resident) +
    kib('Pss_Anon', resident) +
    kib('Pss_File', 0) +
    kib('Pss_Shmem', 0) +
    residentRows(resident, true) +
    kib('Locked', locked)
  );
}

/** Bytes of a program's memory, whatever their protection; shorter where it is not mapped. */
function peek(thread: Thread, mm: MemoryManager, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const memory = mm.memoryOf(thread.context);
  let done = 0;
  while (done < length) {
    // By pages, so that what comes before a hole is still seen.
    const count = Math.min(length - done, 4096 - ((start + done) % 4096));
    if (memory.peek(start + done, bytes, done, count) < 0) break;
    done += count;
  }
  return done === length ? bytes : bytes.subarray(0, done);
}

/**
 * The arguments as they are in memory now. A program that has written over the end of its arguments (setproctitle)
 * shows what it wrote, up to the first NUL (get_mm_cmdline).
 */
export function commandLine(thread: Thread): Uint8Array {
  const mm = memoryOf(thread);
  if (!mm) return new Uint8Array(0);
  const { argumentsStart, argumentsEnd, environmentStart, environmentEnd } = mm.layout;
  if (argumentsStart >= argumentsEnd) return new Uint8Array(0);
  const bytes = peek(thread, mm, argumentsStart, argumentsEnd - argumentsStart);
  if (bytes.length < argumentsEnd - argumentsStart || bytes.at(-1) === 0) return bytes;
  const continued = environmentStart === argumentsEnd && environmentEnd > environmentStart;
  const rest = continued ? peek(thread, mm, argumentsStart, environmentEnd - argumentsStart) : bytes;
  const end = rest.indexOf(0);
  return end < 0 ? rest : rest.subarray(0, end + 1);
}

export function environment(thread: Thread): Uint8Array {
  const mm = memoryOf(thread);
  if (!mm) return new Uint8Array(0);
  const { environmentStart, environmentEnd } = mm.layout;
  return peek(thread, mm, environmentStart, Math.max(0, environmentEnd - environmentStart));
}

export function auxiliaryVector(thread: Thread): Uint8Array {
  return memoryOf(thread)?.layout.auxiliaryVector ?? new Uint8Array(0);
}

/** /proc/pid/mem: positions are addresses; protection does not count (mem_rw). */
export class MemoryFile extends FileDescription {
  readonly #thread: Thread;
  readonly #mm: MemoryManager;

  constructor(path: Path, flags: number, thread: Thread, mm: MemoryManager) {
    super(flags, path);
    this.#thread = thread;
    this.#mm = mm;
  }

  /** The memory that was opened, if somebody still lives in it. */
  get #alive(): boolean {
    return memoryOf(this.#thread) === this.#mm;
  }

  #transfer(io: Io, position: number | undefined, move: (address: number, length: number) => number): number {
    if (!this.#alive) return 0;
    let at = position ?? this.position;
    let done = 0;
    while (io.left > 0) {
      const moved = move(at, Math.min(io.left, chunkBytes - (at % 4096)));
      if (moved <= 0) {
        if (done === 0) return moved;
        break;
      }
      done += moved;
      at += moved;
    }
    if (position === undefined) this.position = at;
    return done;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    return this.#transfer(io, position, (address, length) => {
      const bytes = peek(this.#thread, this.#mm, address, length);
      return bytes.length === 0 ? -Errno.EIO : io.put(bytes, 0, bytes.length);
    });
  }

  override write(_task: Task, io: Io, position: number | undefined): number {
    const memory = this.#mm.memoryOf(this.#thread.context);
    return this.#transfer(io, position, (address, length) => {
      const bytes = new Uint8Array(Math.min(length, 4096 - (address % 4096)));
      const taken = io.take(bytes, 0, bytes.length);
      if (taken <= 0) return taken;
      return memory.poke(address, bytes, 0, taken) < 0 ? -Errno.EIO : taken;
    });
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (whence !== Seek.set && whence !== Seek.current) return -Errno.EINVAL;
    this.position = whence === Seek.set ? offset : this.position + offset;
    return this.position;
  }
}
