// Arguments and environment of execve: taken from the old program's memory, held against the limits, and laid out on the
// new stack (fs/exec.c, create_elf_tables in fs/binfmt_elf.c).

import { AuxType, encodeAuxiliaryVector } from '../../abi/elf.ts';
import { Errno } from '../../abi/errno.ts';
import { pageSize } from '../../abi/memory.ts';
import type { UserMemory } from '../../platform/contract.ts';
import { alignDown, randomBelow } from '../placement.ts';

/** MAX_ARG_STRLEN: with its NUL. */
const maximumString = 32 * pageSize;
/** MAX_ARG_STRINGS. */
const maximumStrings = 0x7fff_ffff;
/** Three quarters of _STK_LIM. */
const largestTotal = 6 * 2 ** 20;
/** ARG_MAX: so much is always granted. */
const smallestTotal = 128 * 1024;

/**
 * The strings of a null-terminated array of pointers in a program's memory, as latin1; -EFAULT, or -E2BIG. An address of
 * 0 is an empty array. `budget`: bytes that all strings may take, see argumentSpace.
 */
export function readStringArray(memory: UserMemory, address: number, budget: number): string[] | number {
  const strings: string[] = [];
  if (address === 0) return strings;
  let left = budget;
  for (;;) {
    const pointer = memory.readU64(address + strings.length * 8);
    if (pointer < 0) return pointer;
    if (pointer === 0) return strings;
    if (strings.length >= maximumStrings) return -Errno.E2BIG;
    const text = memory.readString(pointer, maximumString);
    if (typeof text === 'number') return text === -Errno.ENAMETOOLONG ? -Errno.E2BIG : text;
    left -= text.length + 1 + 8;
    if (left < 0) return -Errno.E2BIG;
    strings.push(text);
  }
}

/** Bytes for strings and their pointers: a quarter of RLIMIT_STACK within bounds (bprm_stack_limits). */
export function argumentSpace(stackLimit: number): number {
  return Math.max(Math.min(largestTotal, Math.floor(stackLimit / 4)), smallestTotal);
}

/** -E2BIG if they don't fit. Pointers count as those of the call did; a script's additions only by their bytes. */
export function checkSpace(strings: readonly string[], pointers: number, stackLimit: number): number {
  let left = argumentSpace(stackLimit) - pointers * 8;
  if (left <= 0) return -Errno.E2BIG;
  for (const text of strings) {
    if (text.length + 1 > maximumString) return -Errno.E2BIG;
    left -= text.length + 1;
    if (left < 0) return -Errno.E2BIG;
  }
  return 0;
}

export interface StackContents {
  /** What is written, from `pointer` to the stack's top. */
  readonly bytes: Uint8Array;
  /** Initial stack pointer: argc. */
  readonly pointer: number;
  readonly argumentsStart: number;
  readonly argumentsEnd: number;
  readonly environmentStart: number;
  readonly environmentEnd: number;
  readonly auxiliaryVector: Uint8Array;
}

export interface StackInput {
  /** Page-aligned end of the stack. */
  readonly top: number;
  readonly argv: readonly string[];
  readonly envp: readonly string[];
  /** AT_EXECFN. */
  readonly path: string;
  readonly platform: string;
  readonly randomized: boolean;
  /** In order; AT_RANDOM, AT_EXECFN and AT_PLATFORM have any value, it is filled in. */
  readonly auxiliary: readonly (readonly [type: number, value: number])[];
}

/** The stack as a new program finds it, from the top: a null word, path, environment, arguments, …, argc. */
export function layOutStack(input: StackInput, source: { random(target: Uint8Array): void }): StackContents {
  const { top, argv, envp, path } = input;
  const length = (strings: readonly string[]): number =>
    strings.reduce((sum, text) => sum + text.length + 1, 0);
  const pathAt = top - 8 - (path.length + 1);
  const environmentStart = pathAt - length(envp);
  const argumentsStart = environmentStart - length(argv);
  // arch_align_stack: away from what other programs' stacks share in caches.
  let at = argumentsStart - (input.randomized ? randomBelow(source, 8192) : 0);
  at -= at % 16;
  const platformAt = at - (input.platform.length + 1);
  const randomAt = platformAt - 16;
  const known = new Map<number, number>([
    [AuxType.random, randomAt],
    [AuxType.execFn, pathAt],
    [AuxType.platform, platformAt],
  ]);
  const auxiliaryVector = encodeAuxiliaryVector(
    input.auxiliary.map(([type, value]) => [type, known.get(type) ?? value] as const),
  );
  const words = argv.length + 1 + envp.length + 1 + 1;
  let pointer = randomAt - auxiliaryVector.length - words * 8;
  pointer -= pointer % 16;

  const bytes = new Uint8Array(top - pointer);
  const view = new DataView(bytes.buffer);
  const buffer = Buffer.from(bytes.buffer);
  let word = 0;
  const push = (value: number): void => {
    view.setBigUint64(word, BigInt(value), true);
    word += 8;
  };
  push(argv.length);
  let string = argumentsStart;
  for (const strings of [argv, envp]) {
    for (const text of strings) {
      push(string);
      buffer.write(text, string - pointer, 'latin1');
      string += text.length + 1;
    }
    push(0);
  }
  bytes.set(auxiliaryVector, word);
  buffer.write(path, pathAt - pointer, 'latin1');
  buffer.write(input.platform, platformAt - pointer, 'latin1');
  source.random(bytes.subarray(randomAt - pointer, randomAt - pointer + 16));
  return {
    bytes,
    pointer,
    argumentsStart,
    argumentsEnd: environmentStart,
    environmentStart,
    environmentEnd: pathAt,
    auxiliaryVector,
  };
}

/** How far below its contents a new stack reaches: 128 KiB, within the limit (setup_arg_pages). */
export function stackBottom(contents: StackContents, top: number, stackLimit: number): number {
  const wanted = alignDown(contents.argumentsStart) - 128 * 1024;
  const limited = Math.max(wanted, top - alignDown(Math.min(stackLimit, top)));
  return Math.min(limited, alignDown(contents.pointer));
}
