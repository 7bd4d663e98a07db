// Where new mappings go: the layout of an address space and the choice of addresses (arch/x86/mm/mmap.c,
// arch/x86/kernel/sys_x86_64.c, mm/mmap.c).

import { Errno } from '../abi/errno.ts';
import { MapFlag, Personality, pageSize, pmdSize } from '../abi/memory.ts';
import { type HoleRange, startWithGap, type VmaSet } from './vma-set.ts';

/**
 * Addresses that the platform uses for what patched call sites jump through. It does without where a program maps them
 * itself (a large one that is linked there); so they are never chosen, but can be asked for.
 */
export const platformHoles: readonly HoleRange[] = [{ start: 0x050f_0000, end: 0x0510_0000 }];

/** vm.max_map_count. */
export const maximumMappings = 65_530;

/** stack_guard_gap: 256 pages. */
export const stackGuardGap = 256 * pageSize;

/** How far the stack's top and with it the mappings below may be moved by randomness: 22 bits of pages. */
const stackRandomPages = 0x40_0000;

export interface UserRange {
  readonly start: number;
  readonly end: number;
}

/** Where searches begin; set by exec, kept by fork. */
export interface Bases {
  /** mmap_base: searches go down from here. */
  readonly top: number;
  /** TASK_UNMAPPED_BASE: searches go up from here, with MAP_32BIT, with the compatible layout, or as a last resort. */
  readonly bottom: number;
  readonly fromBelow: boolean;
  readonly randomized: boolean;
}

export const alignDown = (value: number): number => value - (value % pageSize);
/** PAGE_ALIGN of an unsigned long; wraps as it does. */
export function alignUp(value: number): number {
  const aligned = Math.ceil(value / pageSize) * pageSize;
  return aligned >= 2 ** 64 ? aligned - 2 ** 64 : aligned;
}

/** A random number below `limit` (at most 2^48). */
export function randomBelow(source: { random(target: Uint8Array): void }, limit: number): number {
  const bytes = new Uint8Array(6);
  source.random(bytes);
  let value = 0;
  for (const byte of bytes) value = value * 256 + byte;
  return value % limit;
}

/** Chooses the bases as arch_pick_mmap_layout does. stackLimit: RLIMIT_STACK, may be Infinity. */
export function chooseBases(
  range: UserRange,
  stackLimit: number,
  personality: number,
  source: { random(target: Uint8Array): void },
): Bases {
  const randomized = (personality & Personality.addrNoRandomize) === 0;
  const shift = randomized ? randomBelow(source, 2 ** 28) * pageSize : 0;
  const padding = stackRandomPages * pageSize + stackGuardGap;
  const largest = Math.floor(range.end / 6) * 5;
  const gap = Math.min(Math.max(stackLimit + padding, 128 * 2 ** 20), largest);
  return {
    top: Math.max(alignUp(range.end - gap - shift), range.start),
    bottom: alignUp(range.end / 3) + shift,
    fromBelow: (personality & Personality.addrCompatLayout) !== 0,
    randomized,
  };
}

/** The stack's top, page-aligned. */
export function stackTop(
  range: UserRange,
  randomized: boolean,
  source: { random(target: Uint8Array): void },
): number {
  return range.end - (randomized ? randomBelow(source, stackRandomPages) * pageSize : 0);
}

export function overlapsHole(start: number, end: number): boolean {
  return platformHoles.some((hole) => start < hole.end && end > hole.start);
}

/**
 * get_unmapped_area: the address for a mapping of `length` bytes (whole pages), or a negative errno. flags: MAP_*.
 * huge: anonymous memory that huge pages may serve.
 */
export function choosePlace(
  set: VmaSet,
  range: UserRange,
  bases: Bases,
  address: number,
  length: number,
  flags: number,
  huge: boolean,
  source: { random(target: Uint8Array): void },
): number {
  if (length > range.end) return -Errno.ENOMEM;
  if (flags & (MapFlag.fixed | MapFlag.fixedNoReplace)) {
    if (address > range.end - length) return -Errno.ENOMEM;
    if (address % pageSize !== 0) return -Errno.EINVAL;
    if (address < range.start) return -Errno.EPERM;
    return address;
  }
  // round_hint_to_min.
  const hint = address === 0 ? 0 : Math.max(alignDown(address), range.start);
  if (hint !== 0 && hint + length <= range.end && !overlapsHole(hint, hint + length)) {
    const next = set.at(set.indexAbove(hint));
    if (!next || hint + length <= startWithGap(next, stackGuardGap)) return hint;
  }
  if (flags & MapFlag.low32) {
    const low = 0x4000_0000 + (bases.randomized ? alignDown(randomBelow(source, 0x200_0000)) : 0);
    const found = set.roomFromBelow(length, { low, high: 0x8000_0000 }, stackGuardGap, platformHoles);
    return found ?? -Errno.ENOMEM;
  }
  if (!bases.fromBelow) {
    const room = { low: range.start, high: bases.top };
    if (huge && hint === 0 && length % pmdSize === 0) {
      // Room for any alignment, then the aligned part of it (__thp_get_unmapped_area).
      const padded = set.roomFromAbove(length + pmdSize, room, stackGuardGap, platformHoles);
      if (padded !== undefined) {
        const rest = padded % pmdSize;
        return rest === 0 ? padded + pmdSize : padded + pmdSize - rest;
      }
    }
    const found = set.roomFromAbove(length, room, stackGuardGap, platformHoles);
    if (found !== undefined) return found;
  }
  const room = { low: Math.max(bases.bottom, range.start), high: range.end };
  return set.roomFromBelow(length, room, stackGuardGap, platformHoles) ?? -Errno.ENOMEM;
}
