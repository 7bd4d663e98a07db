// The shared libraries that a program needs, found as the dynamic loader would find them in its default directories:
// so that a jail holds these files and no others. Reads ELF64 (elf(5)): PT_INTERP, and DT_NEEDED of PT_DYNAMIC.

import { closeSync, existsSync, openSync, readSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

/** A file of the host's and where the jail has it. */
export interface JailFile {
  readonly source: string;
  readonly target: string;
}

const directories = [
  ...['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/lib64', '/usr/lib64', '/lib', '/usr/lib'],
] as const;

/** The interpreter and all libraries, at the places where the loader looks for them. Throws if one is not there. */
export function sharedLibraries(program: string): JailFile[] {
  const found = new Map<string, string>();
  const { interpreter, needed } = dynamicNeeds(program);
  if (interpreter !== undefined) found.set(interpreter, realpathSync(interpreter));
  const pending = [...needed];
  const seen = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    const directory = directories.find((candidate) => existsSync(join(candidate, name)));
    if (directory === undefined)
      throw new Error(`${program} needs the library ${name}, which is in no directory`);
    const target = join(directory, name);
    // The loader is its own library, too.
    if (interpreter !== undefined && realpathSync(target) === found.get(interpreter)) continue;
    found.set(target, realpathSync(target));
    pending.push(...dynamicNeeds(target).needed);
  }
  return [...found].map(([target, source]) => ({ source, target }));
}

interface Needs {
  readonly interpreter: string | undefined;
  readonly needed: readonly string[];
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

const segmentType = { load: 1, dynamic: 2, interpreter: 3 } as const;
const tag = { needed: 1, stringTable: 5, stringSize: 10 } as const;

function dynamicNeeds(file: string): Needs {
  const fd = openSync(file, 'r');
  try {
    const read = (offset: number, size: number): Buffer => {
      const bytes = Buffer.alloc(size);
      if (readSync(fd, bytes, 0, size, offset) !== size) throw new Error(`${file} is cut off`);
      return bytes;
    };
    const header = read(0, 64);
    if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2)
      throw new Error(`${file} is not an ELF64 file`);
    const entrySize = header.readUInt16LE(54);
    const table = read(Number(header.readBigUInt64LE(32)), entrySize * header.readUInt16LE(56));
    const segments: Segment[] = [];
    for (let at = 0; at < table.length; at += entrySize) {
      const field = (offset: number): number => Number(table.readBigUInt64LE(at + offset));
      segments.push({ type: table.readUInt32LE(at), offset: field(8), address: field(16), size: field(32) });
    }
    const interpreter = segments.find(({ type }) => type === segmentType.interpreter);
    const dynamic = segments.find(({ type }) => type === segmentType.dynamic);
    return {
      interpreter: interpreter && read(interpreter.offset, interpreter.size - 1).toString('latin1'),
      needed: dynamic ? neededNames(read(dynamic.offset, dynamic.size), segments, read) : [],
    };
  } finally {
    closeSync(fd);
  }
}

function neededNames(
  dynamic: Buffer,
  segments: readonly Segment[],
  read: (offset: number, size: number) => Buffer,
): string[] {
  const names: number[] = [];
  let address = 0;
  let size = 0;
  for (let at = 0; at + 16 <= dynamic.length; at += 16) {
    const value = Number(dynamic.readBigUInt64LE(at + 8));
    const kind = Number(dynamic.readBigInt64LE(at));
    if (kind === tag.needed) names.push(value);
    else if (kind === tag.stringTable) address = value;
    else if (kind === tag.stringSize) size = value;
  }
  const within = ({ type, address: start, size: length }: Segment): boolean =>
    type === segmentType.load && address >= start && address < start + length;
  const segment = segments.find(within);
  if (!segment) return [];
  const strings = read(segment.offset + address - segment.address, size);
  return names.map((name) => strings.toString('latin1', name, strings.indexOf(0, name)));
}
