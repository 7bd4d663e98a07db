// The first line of a script: "#! interpreter argument" (fs/binfmt_script.c).

import { Errno } from '../../abi/errno.ts';

/** How much of a file says what it is (BINPRM_BUF_SIZE). */
export const prefixSize = 256;

export interface ScriptLine {
  readonly interpreter: string;
  readonly argument: string | undefined;
}

const space = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09;
const newline = 0x0a;

export function isScript(prefix: Uint8Array): boolean {
  return prefix[0] === 0x23 && prefix[1] === 0x21;
}

/**
 * The line, or -ENOEXEC: empty, or an interpreter's name that does not end within the prefix. `prefix`: the file's first
 * 256 bytes, filled up with zeroes. A line that is cut off in the argument is taken as it is.
 */
export function parseScriptLine(prefix: Uint8Array): ScriptLine | number {
  const last = prefixSize - 1;
  const skipSpaces = (from: number, to: number): number | undefined => {
    for (let i = from; i <= to; i++) if (!space(prefix[i])) return i;
    return undefined;
  };
  const terminator = (from: number, to: number): number | undefined => {
    for (let i = from; i <= to; i++) if (space(prefix[i]) || prefix[i] === 0) return i;
    return undefined;
  };
  // strnchr: the search ends at a NUL.
  let end = 2;
  while (end < prefixSize && prefix[end] !== newline && prefix[end] !== 0) end++;
  if (end >= prefixSize || prefix[end] !== newline) {
    const name = skipSpaces(2, last);
    if (name === undefined || terminator(name, last) === undefined) return -Errno.ENOEXEC;
    end = last;
  }
  while (space(prefix[end - 1])) end--;
  const name = skipSpaces(2, end);
  if (name === undefined || name === end) return -Errno.ENOEXEC;
  const separator = terminator(name, end);
  const argument =
    separator !== undefined && prefix[separator] !== 0 ? skipSpaces(separator, end) : undefined;
  const text = (from: number, to: number): string => {
    let stop = from;
    while (stop < to && prefix[stop] !== 0) stop++;
    return String.fromCharCode(...prefix.subarray(from, stop));
  };
  const interpreter = text(name, separator ?? end);
  if (argument === undefined || argument >= end) return { interpreter, argument: undefined };
  return { interpreter, argument: text(argument, end) };
}
