// Reads tar archives (ustar, pax, GNU long names) as they stream by, entry after entry, with bounds on everything
// that the archive could make large. Layers come from strangers: nothing here allocates by what a header claims.
//
// Push-driven and synchronous: push(bytes) calls the sink; a violation throws TarError and ends the reading.

export type TarEntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo';

export interface TarEntry {
  /** As it stands in the archive: relative or absolute, with whatever it holds. The sink decides what it may mean. */
  readonly path: string;
  readonly type: TarEntryType;
  readonly linkPath: string;
  /** Bytes of content that follow; 0 for all but files. */
  readonly size: number;
  /** The twelve permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch, with a fraction. */
  readonly mtime: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Extended attributes (SCHILY.xattr.*), values as bytes. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface TarSink {
  entry(entry: TarEntry): void;
  data(chunk: Uint8Array): void;
  /** All of the entry's data was given. */
  entryEnd(): void;
}

export class TarError extends Error {
  override readonly name = 'TarError';
}

export interface TarLimits {
  /** Bytes of one pax or long-name header. */
  readonly header: number;
  readonly entries: number;
  /** Bytes of all contents together. */
  readonly total: number;
}

export const defaultTarLimits: TarLimits = { header: 1024 * 1024, entries: 2_000_000, total: 64 * 1024 ** 3 };

const BLOCK = 512;
const MAX_PATH = 4096;
const decoder = new TextDecoder('utf-8', { fatal: false });
const types: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** Header blocks that describe the next entry instead of being one. */
type Special = 'x' | 'g' | 'L' | 'K';

export class TarReader {
  readonly #sink: TarSink;
  readonly #limits: TarLimits;
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  #state: 'header' | 'data' | 'special' | 'padding' | 'end' = 'header';
  #left = 0;
  #padding = 0;
  #zeroBlocks = 0;
  #entries = 0;
  #total = 0;
  #special: { readonly type: Special; readonly chunks: Uint8Array[] } | undefined;
  #pax: ReadonlyMap<string, Uint8Array> = new Map();
  readonly #globalPax = new Map<string, Uint8Array>();
  #longName: string | undefined;
  #longLink: string | undefined;

  constructor(sink: TarSink, limits: TarLimits = defaultTarLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      switch (this.#state) {
        case 'header': {
          const taken = Math.min(BLOCK - this.#filled, chunk.length - at);
          this.#block.set(chunk.subarray(at, at + taken), this.#filled);
          this.#filled += taken;
          at += taken;
          if (this.#filled === BLOCK) {
            this.#filled = 0;
            this.#header();
          }
          break;
        }
        case 'data':
        case 'special': {
          const taken = Math.min(this.#left, chunk.length - at);
          const part = chunk.subarray(at, at + taken);
          if (this.#state === 'data') this.#sink.data(part);
          else this.#special?.chunks.push(part.slice());
          this.#left -= taken;
          at += taken;
          if (this.#left === 0) this.#contentEnd();
          break;
        }
        case 'padding': {
          const taken = Math.min(this.#padding, chunk.length - at);
          this.#padding -= taken;
          at += taken;
          if (this.#padding === 0) this.#state = 'header';
          break;
        }
        case 'end':
          return; // what follows the end marker means nothing
      }
    }
  }

  /** The stream has ended: throws when it ended inside an entry. */
  end(): void {
    if (this.#state === 'end') return;
    if (this.#state === 'header' && this.#filled === 0 && this.#special === undefined) return;
    throw new TarError('the archive is cut off');
  }

  #header(): void {
    const block = this.#block;
    if (block.every((byte) => byte === 0)) {
      if (++this.#zeroBlocks === 2) this.#state = 'end';
      return;
    }
    this.#zeroBlocks = 0;
    checkSum(block);
    if (++this.#entries > this.#limits.entries) {
      throw new TarError(`the archive has more than ${this.#limits.entries} entries`);
    }
    const flag = String.fromCharCode(block[156]!);
    const size = number(block, 124, 12, 'size');
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      if (size > this.#limits.header) throw new TarError(`a header of ${size} bytes is more than is allowed`);
      this.#special = { type: flag, chunks: [] };
      this.#begin('special', size);
      return;
    }
    const entry = this.#entry(flag, size);
    this.#pax = new Map();
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#total += entry.size;
    if (this.#total > this.#limits.total)
      throw new TarError(`the archive holds more than ${this.#limits.total} bytes`);
    this.#sink.entry(entry);
    this.#begin('data', entry.size);
  }

  #begin(state: 'data' | 'special', size: number): void {
    this.#state = state;
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
    if (size === 0) this.#contentEnd();
  }

  #contentEnd(): void {
    if (this.#state === 'special') this.#applySpecial();
    else this.#sink.entryEnd();
    this.#state = this.#padding > 0 ? 'padding' : 'header';
  }

  #applySpecial(): void {
    const { type, chunks } = this.#special!;
    this.#special = undefined;
    const bytes = Buffer.concat(chunks);
    if (type === 'L') this.#longName = untilNul(bytes);
    else if (type === 'K') this.#longLink = untilNul(bytes);
    else if (type === 'g') for (const [key, value] of parsePax(bytes)) this.#globalPax.set(key, value);
    else this.#pax = parsePax(bytes);
  }

  #entry(flag: string, headerSize: number): TarEntry {
    const block = this.#block;
    const pax = (key: string): string | undefined => {
      const value = this.#pax.get(key) ?? this.#globalPax.get(key);
      return value === undefined ? undefined : decoder.decode(value);
    };
    if (flag === 'S' || [...this.#pax.keys()].some((key) => key.startsWith('GNU.sparse.'))) {
      throw new TarError('sparse files are not supported in image layers');
    }
    const type = types[flag];
    if (type === undefined)
      throw new TarError(`entry type ${JSON.stringify(flag)} is not supported in image layers`);
    const ustar = block.toString('latin1', 257, 262) === 'ustar';
    const gnu = block.toString('latin1', 257, 265) === 'ustar  \0';
    const prefix = ustar && !gnu ? untilNul(block.subarray(345, 500)) : '';
    const name = untilNul(block.subarray(0, 100));
    const path = pax('path') ?? this.#longName ?? (prefix === '' ? name : `${prefix}/${name}`);
    const linkPath = pax('linkpath') ?? this.#longLink ?? untilNul(block.subarray(157, 257));
    for (const text of [path, linkPath]) {
      if (text.includes('\0')) throw new TarError('a name holds a NUL byte');
      if (Buffer.byteLength(text) > MAX_PATH) throw new TarError(`a name is longer than ${MAX_PATH} bytes`);
    }
    const size = type === 'file' ? (paxNumber(pax('size'), 'size') ?? headerSize) : 0;
    const xattrs = new Map<string, Uint8Array>();
    for (const [key, value] of this.#pax) {
      if (key.startsWith('SCHILY.xattr.')) xattrs.set(key.slice('SCHILY.xattr.'.length), value);
    }
    return {
      // An old ustar way to say directory: a file whose name ends in a slash.
      type: type === 'file' && path.endsWith('/') ? 'directory' : type,
      path,
      linkPath,
      size,
      mode: number(block, 100, 8, 'mode') & 0o7777,
      uid: paxNumber(pax('uid'), 'uid') ?? number(block, 108, 8, 'uid'),
      gid: paxNumber(pax('gid'), 'gid') ?? number(block, 116, 8, 'gid'),
      mtime: paxTime(pax('mtime')) ?? number(block, 136, 12, 'mtime', true),
      deviceMajor: number(block, 329, 8, 'device'),
      deviceMinor: number(block, 337, 8, 'device'),
      xattrs,
    };
  }
}

function untilNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** The sum of all bytes with the checksum field as spaces; some old programs summed signed bytes. */
function checkSum(block: Buffer): void {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 32 : block[i]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const field = Number.parseInt(/^ *([0-7]+)/.exec(block.toString('latin1', 148, 156))?.[1] ?? '', 8);
  if (field !== unsigned && field !== signed)
    throw new TarError('a header has a wrong checksum: this is no tar archive, or a damaged one');
}

/** Octal text, or GNU's base-256 form for what does not fit. */
function number(block: Buffer, offset: number, length: number, what: string, signed = false): number {
  const first = block[offset]!;
  if (first & 0x80) {
    if (first === 0xff) {
      if (signed) return 0; // before 1970
      throw new TarError(`a header has a negative ${what}`);
    }
    let value = first & 0x7f;
    for (let i = 1; i < length; i++) {
      value = value * 256 + block[offset + i]!;
      if (value > Number.MAX_SAFE_INTEGER) throw new TarError(`a header has a ${what} that is too large`);
    }
    return value;
  }
  const text = block
    .toString('latin1', offset, offset + length)
    .replace(/\0.*$/s, '')
    .trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError(`a header has a ${what} that is no number`);
  return Number.parseInt(text, 8);
}

function paxNumber(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value))
    throw new TarError(`a pax header has a wrong ${what}`);
  return value;
}

function paxTime(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^-?\d{1,12}(\.\d{1,20})?$/.test(text)) throw new TarError('a pax header has a wrong time');
  return Math.max(0, Number(text));
}

/** Records of the form `<length> <key>=<value>\n`, where the length counts itself. */
function parsePax(bytes: Buffer): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  let at = 0;
  while (at < bytes.length && bytes[at] !== 0) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 || space - at > 10 ? '' : bytes.toString('latin1', at, space);
    const length = /^\d+$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(0x3d, space);
    if (length < 5 || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw new TarError('a pax header is malformed');
    }
    const key = bytes.toString('utf8', space + 1, equals);
    const value = bytes.subarray(equals + 1, end - 1);
    // An empty value takes back what an earlier header said.
    if (value.length === 0 && !key.startsWith('SCHILY.xattr.')) records.delete(key);
    else records.set(key, value);
    at = end;
  }
  return records;
}
