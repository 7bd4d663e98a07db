// Messages into bytes, with names compressed where RFC 1035 §4.1.4 and RFC 3597 §4 allow it. A message that would be
// longer than its limit loses whole records: additional ones silently, answers and authority with the TC bit.

import { CLASS, DO_BIT, FLAG, HEADER_BYTES, MAX_MESSAGE, TYPE } from './constants.ts';
import type { Edns, Message } from './message.ts';
import type { WireName } from './name.ts';
import { dataLayout, type Question, type ResourceRecord } from './record.ts';

/** Pointers have 14 bits. */
const POINTER_LIMIT = 0x4000;

export class MessageWriter {
  #bytes: Buffer;
  #length = HEADER_BYTES;
  /** Where each name and each of its endings stands. */
  readonly #places = new Map<string, number>();

  constructor(capacity = 512) {
    this.#bytes = Buffer.alloc(Math.max(HEADER_BYTES, capacity));
  }

  get length(): number {
    return this.#length;
  }

  question(question: Question): void {
    this.#name(question.name, true);
    this.#reserve(4);
    this.#bytes.writeUInt16BE(question.type, this.#length);
    this.#bytes.writeUInt16BE(question.class, this.#length + 2);
    this.#length += 4;
  }

  /** Answers where its TTL stands. */
  record(record: ResourceRecord): number {
    this.#name(record.name, true);
    this.#reserve(10);
    const fixed = this.#length;
    this.#bytes.writeUInt16BE(record.type, fixed);
    this.#bytes.writeUInt16BE(record.class, fixed + 2);
    this.#bytes.writeUInt32BE(record.ttl, fixed + 4);
    this.#length += 10;
    const layout = dataLayout(record.type);
    record.data.forEach((part, i) => {
      if (typeof part === 'string') this.#name(part, layout[i] === 'name');
      else {
        this.#reserve(part.length);
        this.#bytes.set(part, this.#length);
        this.#length += part.length;
      }
    });
    const size = this.#length - fixed - 10;
    if (size > MAX_MESSAGE) throw new RangeError('the data of a record are longer than 65,535 bytes');
    this.#bytes.writeUInt16BE(size, fixed + 8);
    return fixed + 4;
  }

  /** `extended`: the upper 8 bits of the rcode. */
  opt(edns: Edns, extended: number): void {
    const size = edns.options.length;
    this.#reserve(11 + size);
    const at = this.#length;
    this.#bytes[at] = 0;
    this.#bytes.writeUInt16BE(TYPE.OPT, at + 1);
    this.#bytes.writeUInt16BE(edns.udpBytes, at + 3);
    this.#bytes[at + 5] = extended;
    this.#bytes[at + 6] = edns.version;
    this.#bytes.writeUInt16BE(edns.flags, at + 7);
    this.#bytes.writeUInt16BE(size, at + 9);
    this.#bytes.set(edns.options, at + 11);
    this.#length += 11 + size;
  }

  /** Takes back what was written from there on. */
  truncate(length: number): void {
    this.#length = length;
    for (const [suffix, place] of this.#places) if (place >= length) this.#places.delete(suffix);
  }

  /** The bytes from `start` on; they are the caller's own. */
  finish(start = 0): Buffer {
    return Buffer.from(this.#bytes.subarray(start, this.#length));
  }

  header(id: number, word: number, counts: readonly [number, number, number, number]): void {
    this.#bytes.writeUInt16BE(id, 0);
    this.#bytes.writeUInt16BE(word, 2);
    counts.forEach((count, i) => {
      this.#bytes.writeUInt16BE(count, 4 + 2 * i);
    });
  }

  #name(name: WireName, compress: boolean): void {
    this.#reserve(name.length);
    let at = 0;
    for (;;) {
      const length = name.charCodeAt(at);
      if (length === 0) break;
      const suffix = name.slice(at);
      const known = this.#places.get(suffix);
      if (known !== undefined && compress) {
        this.#bytes.write(name, this.#length, at, 'latin1');
        this.#bytes.writeUInt16BE(0xc000 | known, this.#length + at);
        this.#length += at + 2;
        return;
      }
      if (known === undefined && this.#length + at < POINTER_LIMIT)
        this.#places.set(suffix, this.#length + at);
      at += 1 + length;
    }
    this.#bytes.write(name, this.#length, name.length, 'latin1');
    this.#length += name.length;
  }

  #reserve(count: number): void {
    // Two more than asked for: a pointer may follow the labels of a name.
    const needed = this.#length + count + 2;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.alloc(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** `limit`: the longest message that is wanted, in bytes. */
export function encodeMessage(message: Message, limit = MAX_MESSAGE): Buffer {
  const writer = new MessageWriter();
  for (const question of message.questions) writer.question(question);
  const room = limit - (message.edns ? 11 + message.edns.options.length : 0);
  let truncated = false;
  const write = (records: readonly ResourceRecord[], needed: boolean): number => {
    if (truncated) return 0;
    let count = 0;
    for (const record of records) {
      const before = writer.length;
      writer.record(record);
      if (writer.length > room) {
        writer.truncate(before);
        if (needed) truncated = true;
        break;
      }
      count++;
    }
    return count;
  };
  const answers = write(message.answers, true);
  const authority = write(message.authority, true);
  const additional = write(message.additional, false);
  if (message.edns) writer.opt(message.edns, message.rcode >> 4);
  const flags = message.flags | (truncated ? FLAG.TC : 0);
  writer.header(message.id, flags | ((message.opcode & 0xf) << 11) | (message.rcode & 0xf), [
    message.questions.length,
    answers,
    authority,
    additional + (message.edns ? 1 : 0),
  ]);
  return writer.finish();
}

export interface QueryOptions {
  readonly recursionDesired?: boolean;
  readonly checkingDisabled?: boolean;
  /** Absent: no EDNS. */
  readonly edns?: { readonly udpBytes: number; readonly dnssecOk?: boolean };
}

/** A query of one question in class IN. */
export function encodeQuery(id: number, name: WireName, type: number, options: QueryOptions = {}): Buffer {
  const { recursionDesired = true, checkingDisabled = false, edns } = options;
  return encodeMessage({
    id,
    flags: (recursionDesired ? FLAG.RD : 0) | (checkingDisabled ? FLAG.CD : 0),
    opcode: 0,
    rcode: 0,
    questions: [{ name, type, class: CLASS.IN }],
    answers: [],
    authority: [],
    additional: [],
    ...(edns && {
      edns: {
        udpBytes: edns.udpBytes,
        version: 0,
        flags: edns.dnssecOk ? DO_BIT : 0,
        options: new Uint8Array(0),
      },
    }),
  });
}
