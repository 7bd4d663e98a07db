// Writes system calls down as strace(1) does: name(arguments) = result, one line a call, when it has its answer.
// What each parameter is comes from the table (Syscall.signature). Parameters that a program fills in are read when the
// call is entered, those that the kernel fills in when it is answered.

import { errnoName } from '../abi/errno.ts';
import { syscallNames } from '../abi/syscall-numbers.ts';
import type { Task } from '../kernel/contract.ts';
import type { Arguments } from '../platform/contract.ts';
import type { Syscall } from './contract.ts';
import { enumerations, flagNames, signalName } from './flag-sets.ts';

export interface StraceOptions {
  /** Names of the calls to show; undefined: all. A leading "!" on each turns it into a list of those not to show. */
  readonly filter?: readonly string[] | undefined;
  /** Bytes of strings and buffers shown at most. */
  readonly stringLimit?: number;
  write(line: string): void;
}

interface Parameter {
  readonly name: string;
  readonly kind: string;
  /** Filled in by the kernel: printed after the answer. */
  readonly out: boolean;
}

interface Format {
  readonly parameters: readonly Parameter[];
  readonly result: string;
}

/** What was read at entry, kept until the answer. */
export interface Entered {
  readonly number: number;
  readonly texts: readonly (string | undefined)[];
  readonly args: Arguments;
}

const escapes: Readonly<Record<number, string>> = { 9: '\\t', 10: '\\n', 13: '\\r', 34: '\\"', 92: '\\\\' };

/** Bytes in double quotes, C-escaped, with "..." when they were cut. */
export function quote(bytes: Uint8Array, cut: boolean): string {
  let text = '"';
  for (const byte of bytes)
    text += escapes[byte] ?? (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\${byte.toString(8)}`);
  return `${text}"${cut ? '...' : ''}`;
}

/** Compiles "fd:fd buffer:out-buffer count:size -> size". */
export function parseSignature(signature: string): Format {
  const [parameters = '', result = 'int'] = signature.split('->').map((part) => part.trim());
  return {
    parameters: parameters
      .split(/\s+/)
      .filter((word) => word !== '')
      .map((word) => {
        const at = word.indexOf(':');
        const kind = at < 0 ? 'hex' : word.slice(at + 1);
        return {
          name: at < 0 ? word : word.slice(0, at),
          kind: kind.startsWith('out-') ? kind.slice(4) : kind,
          out: kind.startsWith('out-'),
        };
      }),
    result,
  };
}

export class Strace {
  readonly #formats = new Map<number, Format>();
  readonly #options: StraceOptions;
  readonly #only: ReadonlySet<string> | undefined;
  readonly #except: ReadonlySet<string>;
  readonly #limit: number;

  constructor(table: readonly (Syscall | undefined)[], options: StraceOptions) {
    this.#options = options;
    this.#limit = options.stringLimit ?? 64;
    for (const [number, call] of table.entries())
      if (call) this.#formats.set(number, parseSignature(call.signature));
    const names = options.filter ?? [];
    const wanted = names.filter((name) => !name.startsWith('!'));
    this.#only = wanted.length > 0 ? new Set(wanted) : undefined;
    this.#except = new Set(names.filter((name) => name.startsWith('!')).map((name) => name.slice(1)));
  }

  #shows(number: number): boolean {
    const name = syscallNames[number] ?? `syscall_${number}`;
    return (this.#only === undefined || this.#only.has(name)) && !this.#except.has(name);
  }

  /** At the entry of a call; undefined if the filter leaves it out. */
  enter(task: Task, number: number, args: Arguments): Entered | undefined {
    if (!this.#shows(number)) return undefined;
    const format = this.#formats.get(number);
    const texts =
      format?.parameters.map((parameter, index) =>
        parameter.out ? undefined : this.#argument(task, format, index, args, undefined),
      ) ?? [0, 1, 2, 3, 4, 5].map((index) => `0x${args.big(index).toString(16)}`);
    // The context's arguments are overwritten by its next call.
    const values = [0, 1, 2, 3, 4, 5].map((index) => args.big(index));
    return { number, texts, args: copiedArguments(values) };
  }

  /** At its answer. result undefined: the call does not return (exit, execve, rt_sigreturn). */
  leave(task: Task, entered: Entered, result: number | undefined): void {
    const format = this.#formats.get(entered.number);
    const texts = entered.texts.map(
      (text, index) => text ?? (format ? this.#argument(task, format, index, entered.args, result) : '?'),
    );
    const name = syscallNames[entered.number] ?? `syscall_${entered.number}`;
    this.#options.write(
      `[${task.tid}] ${task.name}: ${name}(${texts.join(', ')}) = ${this.#result(format?.result ?? 'int', result)}`,
    );
  }

  /** A line of its own between the calls: signals, exits. */
  note(task: Task, text: string): void {
    this.#options.write(`[${task.tid}] ${task.name}: ${text}`);
  }

  #result(kind: string, result: number | undefined): string {
    if (result === undefined) return '?';
    if (result < 0 && result >= -4095) return `-1 ${errnoName(result)}`;
    return kind === 'address' || kind === 'hex' ? `0x${result.toString(16)}` : String(result);
  }

  #bytes(task: Task, address: number, length: number): string {
    if (address === 0) return 'NULL';
    const shown = Math.min(length, this.#limit);
    const bytes = new Uint8Array(shown);
    return task.memory.read(address, bytes, 0, shown) < 0 && shown > 0
      ? `0x${address.toString(16)}`
      : quote(bytes, shown < length);
  }

  #string(task: Task, address: number): string {
    if (address === 0) return 'NULL';
    const text = task.memory.readString(address, 4096);
    if (typeof text === 'number') return `0x${address.toString(16)}`;
    return quote(Buffer.from(text.slice(0, 256), 'latin1'), text.length > 256);
  }

  #timespec(task: Task, address: number): string {
    if (address === 0) return 'NULL';
    const seconds = task.memory.readU64(address);
    const rest = task.memory.readU64(address + 8);
    return seconds < 0 || rest < 0 ? `0x${address.toString(16)}` : `{${seconds}, ${rest}}`;
  }

  #strings(task: Task, address: number): string {
    if (address === 0) return 'NULL';
    const texts: string[] = [];
    for (let at = address; texts.length < 32; at += 8) {
      const pointer = task.memory.readU64(at);
      if (pointer <= 0) return `[${texts.join(', ')}]`;
      texts.push(this.#string(task, pointer));
    }
    return `[${texts.join(', ')}, ...]`;
  }

  #argument(task: Task, format: Format, index: number, args: Arguments, result: number | undefined): string {
    const parameter = format.parameters[index];
    if (!parameter) return '?';
    const kind = parameter.kind;
    // Nothing was filled in by a call that failed.
    if (parameter.out && result !== undefined && result < 0) return `0x${args.address(index).toString(16)}`;
    if (kind.startsWith('flags.')) return flagNames(kind.slice(6), args.address(index));
    if (kind.startsWith('enum.'))
      return enumerations[kind.slice(5)]?.(args.u32(index)) ?? String(args.i32(index));
    switch (kind) {
      case 'fd':
      case 'int':
      case 'pid':
        return String(args.i32(index));
      case 'dirfd':
        return args.i32(index) === -100 ? 'AT_FDCWD' : String(args.i32(index));
      case 'uint':
        return String(args.u32(index));
      case 'long':
      case 'offset':
        return String(args.i64(index));
      case 'size':
        return String(args.size(index));
      case 'mode':
        return `0${args.u32(index).toString(8)}`;
      case 'signal':
        return args.i32(index) === 0 ? '0' : signalName(args.i32(index));
      case 'path':
      case 'string':
        return this.#string(task, args.address(index));
      case 'strings':
        return this.#strings(task, args.address(index));
      case 'timespec':
      case 'timeval':
        return this.#timespec(task, args.address(index));
      case 'sigset':
      case 'ulong':
        return this.#word(task, args.address(index));
      case 'buffer':
        return this.#bytes(
          task,
          args.address(index),
          parameter.out && result !== undefined ? result : args.size(index + 1),
        );
      default: {
        const value = args.big(index);
        return value === 0n && kind !== 'hex' ? 'NULL' : `0x${value.toString(16)}`;
      }
    }
  }

  #word(task: Task, address: number): string {
    if (address === 0) return 'NULL';
    const bytes = new Uint8Array(8);
    if (task.memory.read(address, bytes, 0, 8) < 0) return `0x${address.toString(16)}`;
    return `[0x${new DataView(bytes.buffer).getBigUint64(0, true).toString(16)}]`;
  }
}

function copiedArguments(values: readonly bigint[]): Arguments {
  const big = (index: number): bigint => values[index] ?? 0n;
  return {
    i32: (index) => Number(BigInt.asIntN(32, big(index))),
    u32: (index) => Number(BigInt.asUintN(32, big(index))),
    address: (index) => Number(big(index)),
    size: (index) => Number(big(index)),
    i64: (index) => Number(BigInt.asIntN(64, big(index))),
    big,
  };
}
