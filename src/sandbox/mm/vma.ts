// One mapping in a program's books, and what decides whether two neighbours are one (include/linux/mm.h, mm/vma.c).
//
// A mapping never changes: whoever changes it puts others in its place. So a mapping that was found stays what it was,
// and the books can be rolled back by putting old ones in again. Each mapping that is in the books holds one reference
// to its file.

import type { FileDescription } from '../vfs/file-description.ts';
import type { Vma } from './contract.ts';

/**
 * VM_*. Values are Linux's where they fit; the last six stand where Linux has bits that don't exist here or beyond 31.
 */
export const VmFlag = {
  read: 0x1,
  write: 0x2,
  exec: 0x4,
  access: 0x7,
  /** A shared mapping that may be written; see mayShare. */
  shared: 0x8,
  mayRead: 0x10,
  mayWrite: 0x20,
  mayExec: 0x40,
  /** MAP_SHARED, as /proc/pid/maps shows it. */
  mayShare: 0x80,
  growsDown: 0x100,
  locked: 0x2000,
  sequential: 0x8000,
  random: 0x1_0000,
  dontCopy: 0x2_0000,
  dontExpand: 0x4_0000,
  lockOnFault: 0x8_0000,
  account: 0x10_0000,
  noReserve: 0x20_0000,
  wipeOnFork: 0x200_0000,
  dontDump: 0x400_0000,
  hugePage: 0x2000_0000,
  noHugePage: 0x4000_0000,
  mergeable: 0x4000,
  sealed: 0x40_0000,
  droppable: 0x1000_0000,
  /** The platform's own (vDSO): seen, never changed. */
  special: 0x400,
  /** /dev/zero, mapped privately: anonymous memory that has a file's name. */
  zeroFile: 0x800,
} as const;

/** Flags that are not inherited by fork. */
export const lockedMask = VmFlag.locked | VmFlag.lockOnFault;

/** The order and names in the VmFlags line of /proc/pid/smaps. */
const flagNames: readonly (readonly [number, string])[] = [
  [VmFlag.read, 'rd'],
  [VmFlag.write, 'wr'],
  [VmFlag.exec, 'ex'],
  [VmFlag.shared, 'sh'],
  [VmFlag.mayRead, 'mr'],
  [VmFlag.mayWrite, 'mw'],
  [VmFlag.mayExec, 'me'],
  [VmFlag.mayShare, 'ms'],
  [VmFlag.growsDown, 'gd'],
  [VmFlag.locked, 'lo'],
  [VmFlag.sequential, 'sr'],
  [VmFlag.random, 'rr'],
  [VmFlag.dontCopy, 'dc'],
  [VmFlag.dontExpand, 'de'],
  [VmFlag.lockOnFault, 'lf'],
  [VmFlag.account, 'ac'],
  [VmFlag.noReserve, 'nr'],
  [VmFlag.wipeOnFork, 'wf'],
  [VmFlag.dontDump, 'dd'],
  [VmFlag.hugePage, 'hg'],
  [VmFlag.noHugePage, 'nh'],
  [VmFlag.mergeable, 'mg'],
  [VmFlag.sealed, 'sl'],
  [VmFlag.droppable, 'dp'],
];

/** The VmFlags line of /proc/pid/smaps without its title: "rd wr mr mw me ac". */
export function flagText(flags: number): string {
  return flagNames
    .filter(([flag]) => flags & flag)
    .map(([, name]) => name)
    .join(' ');
}

/** What mbind(2) set for a range; compared by content. */
export interface MemoryPolicy {
  readonly mode: number;
  readonly nodes: number;
}

export class Mapping implements Vma {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
  readonly file: FileDescription | undefined;
  /** Bytes from the file's start; of anonymous memory: the address at which it was first mapped. */
  readonly offset: number;
  /** PR_SET_VMA_ANON_NAME, or of special mappings, as /proc/pid/maps shows it. */
  readonly label: string;
  readonly policy: MemoryPolicy | undefined;

  constructor(
    start: number,
    end: number,
    flags: number,
    file: FileDescription | undefined,
    offset: number,
    label: string,
    policy: MemoryPolicy | undefined,
  ) {
    this.start = start;
    this.end = end;
    this.flags = flags;
    this.file = file;
    this.offset = offset;
    this.label = label;
    this.policy = policy;
  }

  get protection(): number {
    return this.flags & VmFlag.access;
  }

  get shared(): boolean {
    return (this.flags & VmFlag.mayShare) !== 0;
  }

  get fileOffset(): number {
    return this.file ? this.offset : 0;
  }

  /** Private memory without a file behind it (vma_is_anonymous). */
  get anonymous(): boolean {
    return this.file === undefined || (this.flags & VmFlag.zeroFile) !== 0;
  }

  get length(): number {
    return this.end - this.start;
  }

  /** The part [start, end). */
  part(start: number, end: number): Mapping {
    return new Mapping(
      start,
      end,
      this.flags,
      this.file,
      this.offset + (start - this.start),
      this.label,
      this.policy,
    );
  }

  withFlags(flags: number): Mapping {
    return new Mapping(this.start, this.end, flags, this.file, this.offset, this.label, this.policy);
  }

  labelled(label: string): Mapping {
    return new Mapping(this.start, this.end, this.flags, this.file, this.offset, label, this.policy);
  }

  withPolicy(policy: MemoryPolicy | undefined): Mapping {
    return new Mapping(this.start, this.end, this.flags, this.file, this.offset, this.label, policy);
  }
}

function samePolicy(a: MemoryPolicy | undefined, b: MemoryPolicy | undefined): boolean {
  return a === b || (a?.mode === b?.mode && a?.nodes === b?.nodes);
}

/**
 * Whether `after`, which follows `before`, is shown as one with it. Linux also keeps anonymous memory apart that was
 * written in two places before it came together (two anon_vmas); which pages were written only the host knows.
 */
export function mergeable(before: Mapping, after: Mapping): boolean {
  return (
    before.end === after.start &&
    before.flags === after.flags &&
    before.file === after.file &&
    before.offset + (before.end - before.start) === after.offset &&
    before.label === after.label &&
    (before.flags & (VmFlag.special | VmFlag.dontExpand)) === 0 &&
    samePolicy(before.policy, after.policy)
  );
}

/** Which of the sums a mapping counts in, besides the total (vm_stat_account). */
export function countedAs(flags: number): 'executable' | 'stack' | 'data' | undefined {
  if ((flags & (VmFlag.exec | VmFlag.write | VmFlag.growsDown)) === VmFlag.exec) return 'executable';
  if (flags & VmFlag.growsDown) return 'stack';
  if ((flags & (VmFlag.write | VmFlag.shared)) === VmFlag.write) return 'data';
  return undefined;
}
