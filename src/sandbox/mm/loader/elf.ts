// Reads ELF files and maps their segments (fs/binfmt_elf.c). Everything in a file is hostile until it has been compared:
// numbers beyond 2^53 lose their last digits but stay larger than any address.

import {
  decodeElfHeader,
  decodeProgramHeaders,
  type ElfHeader,
  ElfType,
  machineX86_64,
  type ProgramHeader,
  programHeaderSize,
  SegmentFlag,
  SegmentType,
} from '../../abi/elf.ts';
import { Errno } from '../../abi/errno.ts';
import { MapFlag, Prot, pageSize } from '../../abi/memory.ts';
import type { Task } from '../../kernel/contract.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import { BufferIo } from '../../vfs/io.ts';
import { alignDown, alignUp, choosePlace, randomBelow } from '../placement.ts';
import type { ProgramMemory } from '../program-memory.ts';

/** ELF_ET_DYN_BASE: two thirds of 47 bits, where programs with an interpreter go. */
const dynamicBase = 0x5555_5555_4000;
const maximumPath = 4096;
/** Program headers of a file take at most so much. */
const maximumHeaders = 65_536;

export interface ElfFile {
  readonly file: FileDescription;
  readonly header: ElfHeader;
  readonly segments: readonly ProgramHeader[];
  /** PT_INTERP. */
  readonly interpreter: string | undefined;
  /** PT_GNU_STACK asks for it. */
  readonly executableStack: boolean;
}

/** Reads up to `length` bytes at `position`; fewer at the file's end; or a negative errno. */
export function readAt(
  task: Task,
  file: FileDescription,
  position: number,
  length: number,
): Uint8Array | number {
  const io = new BufferIo(task.kernel.host, new Uint8Array(length));
  while (io.left > 0) {
    const count = file.read(task, io, position + io.position);
    if (count < 0) return count;
    if (count === 0) break;
  }
  return io.bytes.subarray(0, io.position);
}

/** As readAt, but -EIO if there are fewer (elf_read). */
function readAll(task: Task, file: FileDescription, position: number, length: number): Uint8Array | number {
  if (position > Number.MAX_SAFE_INTEGER) return -Errno.EINVAL;
  const bytes = readAt(task, file, position, length);
  if (typeof bytes === 'number') return bytes;
  return bytes.length < length ? -Errno.EIO : bytes;
}

/** The headers of a program; -ENOEXEC if it is none for this machine. `prefix`: the file's first bytes. */
export function readElf(task: Task, file: FileDescription, prefix: Uint8Array): ElfFile | number {
  const header = decodeElfHeader(prefix);
  if (!header) return -Errno.ENOEXEC;
  if (header.type !== ElfType.executable && header.type !== ElfType.dynamic) return -Errno.ENOEXEC;
  if (header.machine !== machineX86_64) return -Errno.ENOEXEC;
  if (header.programHeaderSize !== programHeaderSize) return -Errno.ENOEXEC;
  const size = header.programHeaderCount * programHeaderSize;
  if (size === 0 || size > maximumHeaders) return -Errno.ENOEXEC;
  const bytes = readAll(task, file, header.programHeaderOffset, size);
  if (typeof bytes === 'number') return -Errno.ENOEXEC;
  const segments = decodeProgramHeaders(bytes);
  const interpreter = readInterpreter(task, file, segments);
  if (typeof interpreter === 'number') return interpreter;
  let executableStack = false;
  for (const segment of segments)
    if (segment.type === SegmentType.gnuStack) executableStack = (segment.flags & SegmentFlag.execute) !== 0;
  return { file, header, segments, interpreter, executableStack };
}

function readInterpreter(
  task: Task,
  file: FileDescription,
  segments: readonly ProgramHeader[],
): string | number | undefined {
  const segment = segments.find(({ type }) => type === SegmentType.interpreter);
  if (!segment) return undefined;
  if (segment.fileSize > maximumPath || segment.fileSize < 2) return -Errno.ENOEXEC;
  const bytes = readAll(task, file, segment.offset, segment.fileSize);
  if (typeof bytes === 'number') return bytes;
  if (bytes[bytes.length - 1] !== 0) return -Errno.ENOEXEC;
  const text = Buffer.from(bytes).toString('latin1');
  return text.slice(0, text.indexOf('\0'));
}

export interface LoadedElf {
  /** What was added to the addresses in the file. */
  readonly bias: number;
  /** Where its first segment was meant to lie, moved: AT_BASE of an interpreter. */
  readonly entry: number;
  readonly programHeaders: number;
  readonly codeStart: number;
  readonly codeEnd: number;
  readonly dataStart: number;
  readonly dataEnd: number;
  /** End of the highest segment, zeroes included. */
  readonly end: number;
}

/** Where a program is loaded. */
export type Place =
  /** A program: ET_EXEC where it says, ET_DYN with an interpreter at the base for programs, else among mappings. */
  | 'program'
  /** A program's interpreter: among mappings. */
  | 'interpreter';

/** Maps the segments; or a negative errno, with some of them mapped. */
export function loadElf(memory: ProgramMemory, task: Task, elf: ElfFile, place: Place): LoadedElf | number {
  const loads = elf.segments.filter(({ type }) => type === SegmentType.load);
  const first = loads[0];
  const last = loads.at(-1);
  if (!first || !last) return place === 'program' ? -Errno.EINVAL : -Errno.EINVAL;
  const limit = memory.range.end;
  for (const { address, fileSize, memorySize } of loads)
    if (address >= limit || fileSize > memorySize || memorySize > limit || limit - memorySize < address)
      return place === 'program' ? -Errno.EINVAL : -Errno.ENOMEM;
  const bias = chooseBias(memory, task, elf, place, first, loads);
  if (bias < 0 && -bias < 4096) return bias;
  let codeStart = Number.POSITIVE_INFINITY;
  let codeEnd = 0;
  let dataStart = 0;
  let dataEnd = 0;
  let end = 0;
  for (const segment of loads) {
    const address = segment.address + bias;
    if (address < 0 || address >= limit || limit - segment.memorySize < address) return -Errno.EINVAL;
    const result = loadSegment(memory, task, elf.file, segment, address, segment === first);
    if (result < 0) return result;
    codeStart = Math.min(codeStart, address);
    dataStart = Math.max(dataStart, address);
    const fileEnd = address + segment.fileSize;
    if (segment.flags & SegmentFlag.execute) codeEnd = Math.max(codeEnd, fileEnd);
    dataEnd = Math.max(dataEnd, fileEnd);
    end = Math.max(end, address + segment.memorySize);
  }
  const entry = elf.header.entry + bias;
  if (entry < 0 || entry >= limit) return -Errno.EINVAL;
  return {
    bias,
    entry,
    programHeaders: bias + addressOfProgramHeaders(elf),
    codeStart,
    codeEnd,
    dataStart,
    dataEnd,
    end,
  };
}

/** The address of the program headers in memory, before moving; 0 if no segment holds them. */
function addressOfProgramHeaders({ header, segments }: ElfFile): number {
  const offset = header.programHeaderOffset;
  const holder = segments.find(
    (segment) =>
      segment.type === SegmentType.load &&
      segment.offset <= offset &&
      offset < segment.offset + segment.fileSize,
  );
  return holder ? offset - holder.offset + holder.address : 0;
}

/** The bias, which may be negative by whole addresses; a negative errno is above -4096. */
function chooseBias(
  memory: ProgramMemory,
  task: Task,
  elf: ElfFile,
  place: Place,
  first: ProgramHeader,
  loads: readonly ProgramHeader[],
): number {
  if (elf.header.type === ElfType.executable) return 0;
  let alignment = pageSize;
  for (const { align } of loads)
    if (align > alignment && align < 2 ** 47 && Number.isInteger(Math.log2(align))) alignment = align;
  const low = alignDown(first.address);
  if (place === 'program' && elf.interpreter !== undefined) {
    const moved = memory.bases.randomized ? randomBelow(task.kernel, 2 ** 28) * pageSize : 0;
    const base = dynamicBase + moved;
    return base - (base % alignment) - low;
  }
  // All segments together need room, from the first address to the highest end.
  let high = 0;
  for (const { address, memorySize } of loads) high = Math.max(high, address + memorySize);
  const total = alignUp(high - low);
  if (total <= 0) return -Errno.EINVAL;
  const slack = place === 'program' ? alignment - pageSize : 0;
  const found = choosePlace(memory.set, memory.range, memory.bases, 0, total + slack, 0, false, task.kernel);
  if (found < 0) return found;
  const base = slack > 0 ? Math.ceil(found / alignment) * alignment : found;
  return base - low;
}

function loadSegment(
  memory: ProgramMemory,
  task: Task,
  file: FileDescription,
  segment: ProgramHeader,
  address: number,
  first: boolean,
): number {
  const { flags, fileSize, memorySize } = segment;
  const protection =
    (flags & SegmentFlag.read ? Prot.read : 0) |
    (flags & SegmentFlag.write ? Prot.write : 0) |
    (flags & SegmentFlag.execute ? Prot.exec : 0);
  const within = address % pageSize;
  const start = address - within;
  let zeroes = start;
  if (fileSize > 0) {
    const offset = segment.offset - within;
    if (offset < 0 || offset % pageSize !== 0) return -Errno.EINVAL;
    const mapped = memory.map(task, {
      address: start,
      length: fileSize + within,
      protection,
      flags: MapFlag.private | (first ? MapFlag.fixedNoReplace : MapFlag.fixed),
      file,
      offset,
    });
    if (mapped < 0) return mapped;
    if (memorySize <= fileSize) return 0;
    zeroes = address + fileSize;
    // The rest of the last page holds the file's next bytes; what cannot be written stays as it is.
    const rest = alignUp(zeroes) - zeroes;
    if (rest > 0 && flags & SegmentFlag.write) {
      const cleared = memory.memoryOf(memory.through(task)).clear(zeroes, rest);
      if (cleared < 0) return cleared;
    }
  }
  const from = alignUp(zeroes);
  const to = alignUp(address + memorySize);
  if (to <= from) return 0;
  const mapped = memory.map(task, {
    address: from,
    length: to - from,
    protection: Prot.read | Prot.write | (protection & Prot.exec),
    flags: MapFlag.private | MapFlag.anonymous | MapFlag.fixed,
    file: undefined,
    offset: 0,
  });
  return Math.min(0, mapped);
}
