// Bytes into messages. Input is hostile: every length is checked, compression pointers only lead backwards and so end,
// names are bounded, and whatever is wrong is one FormatError. The cost is linear in the bytes, but for names, each of
// which costs at most 255 bytes and 128 steps.

import { DO_BIT, HEADER_BYTES, MAX_MESSAGE, OPCODE, TYPE } from './constants.ts';
import { type Edns, FormatError, type Message } from './message.ts';
import { lowerCase, MAX_NAME, type WireName } from './name.ts';
import { type DataField, dataLayout, type Question, type RecordPart, type ResourceRecord } from './record.ts';

const FLAG_BITS = 0x87b0;

/** Throws FormatError. The data of records are views of `bytes`, which must not change afterwards. */
export function decodeMessage(bytes: Buffer): Message {
  if (bytes.length < HEADER_BYTES) throw new FormatError(`${bytes.length} bytes are no header`);
  if (bytes.length > MAX_MESSAGE) throw new FormatError(`${bytes.length} bytes are no message`);
  const reader = new Reader(bytes);
  const word = bytes.readUInt16BE(2);
  const questions: Question[] = [];
  for (let i = bytes.readUInt16BE(4); i > 0; i--) questions.push(reader.question());
  let edns: Edns | undefined;
  let extended = 0;
  const section = (count: number, additional = false): ResourceRecord[] => {
    const records: ResourceRecord[] = [];
    for (let i = count; i > 0; i--) {
      const record = reader.record();
      if (record.type !== TYPE.OPT) {
        records.push(record);
        continue;
      }
      if (!additional) throw new FormatError('OPT outside the additional section');
      if (edns !== undefined) throw new FormatError('two OPT records');
      if (record.name.length !== 1) throw new FormatError('the OPT record is not of the root');
      extended = record.ttl >>> 24;
      const [options] = record.data;
      edns = {
        udpBytes: record.class,
        version: (record.ttl >>> 16) & 0xff,
        flags: record.ttl & 0xffff,
        options: typeof options === 'object' ? options : new Uint8Array(0),
      };
    }
    return records;
  };
  const answers = section(bytes.readUInt16BE(6));
  const authority = section(bytes.readUInt16BE(8));
  const additional = section(bytes.readUInt16BE(10), true);
  return {
    id: bytes.readUInt16BE(0),
    flags: word & FLAG_BITS,
    opcode: (word >> 11) & 0xf,
    rcode: (extended << 4) | (word & 0xf),
    questions,
    answers,
    authority,
    additional,
    ...(edns && { edns }),
  };
}

class Reader {
  readonly #bytes: Buffer;
  #at = HEADER_BYTES;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  question(): Question {
    const name = this.#name(this.#bytes.length);
    this.#need(4, this.#bytes.length);
    const type = this.#bytes.readUInt16BE(this.#at);
    const kind = this.#bytes.readUInt16BE(this.#at + 2);
    this.#at += 4;
    return { name, type, class: kind };
  }

  record(): ResourceRecord {
    const bytes = this.#bytes;
    const name = this.#name(bytes.length);
    this.#need(10, bytes.length);
    const type = bytes.readUInt16BE(this.#at);
    const kind = bytes.readUInt16BE(this.#at + 2);
    const ttl = bytes.readUInt32BE(this.#at + 4);
    const length = bytes.readUInt16BE(this.#at + 8);
    this.#at += 10;
    this.#need(length, bytes.length);
    const end = this.#at + length;
    // In updates (RFC 2136 §2.4) and by some servers' lights, data may be absent whatever the type is.
    const data = length === 0 ? [] : dataLayout(type).map((field) => this.#part(field, end));
    if (this.#at !== end) throw new FormatError(`${end - this.#at} bytes too many in the data of a record`);
    // A TTL with the top bit set counts as 0 (RFC 2181 §8). In OPT the field is no TTL.
    return { name, type, class: kind, ttl: type === TYPE.OPT || ttl < 0x80000000 ? ttl : 0, data };
  }

  #part(field: DataField, end: number): RecordPart {
    if (field === 'name' || field === 'plain') return this.#name(end);
    const start = this.#at;
    if (field === 'rest') this.#at = end;
    else if (field === 'string') {
      this.#need(1, end);
      this.#need(1 + this.#bytes[start]!, end);
      this.#at += 1 + this.#bytes[start]!;
    } else {
      this.#need(field, end);
      this.#at += field;
    }
    return this.#bytes.subarray(start, this.#at);
  }

  /** What stands at the current place up to `end`; pointers may lead before it. */
  #name(end: number): WireName {
    const bytes = this.#bytes;
    let name = '';
    let at = this.#at;
    let limit = end;
    // A pointer must lead before everything that was read of this name, so that reading ends.
    let earliest = at;
    let jumped = false;
    for (;;) {
      if (at >= limit) throw new FormatError('a name ends in the middle');
      const length = bytes[at]!;
      if (length === 0) {
        if (!jumped) this.#at = at + 1;
        return `${name}\0` as WireName;
      }
      if (length < 64) {
        if (at + 1 + length >= limit) throw new FormatError('a label ends in the middle');
        name += bytes.toString('latin1', at, at + 1 + length);
        if (name.length >= MAX_NAME) throw new FormatError(`a name of more than ${MAX_NAME} bytes`);
        at += 1 + length;
        continue;
      }
      if (length < 0xc0) throw new FormatError('a label of an unknown kind');
      if (at + 1 >= limit) throw new FormatError('a pointer ends in the middle');
      const target = ((length & 0x3f) << 8) | bytes[at + 1]!;
      if (target >= earliest || target < HEADER_BYTES)
        throw new FormatError('a pointer that does not lead back to a name');
      if (!jumped) this.#at = at + 2;
      jumped = true;
      earliest = target;
      at = target;
      limit = bytes.length;
    }
  }

  #need(count: number, end: number): void {
    if (this.#at + count > end) throw new FormatError('the message is cut short');
  }
}

/** A query as the server takes it: as little as is needed to answer, and the packet itself. */
export interface Query {
  readonly packet: Buffer;
  /** Where the question ends: name, type and class stand between the header and here. */
  readonly questionEnd: number;
  /** The question in lower case, as bytes in a string: name, type, class. */
  readonly key: string;
  readonly type: number;
  readonly class: number;
  /** The header's flags, see FLAG. */
  readonly flags: number;
  readonly edns: boolean;
  /** Of EDNS; 0 without. */
  readonly version: number;
  readonly dnssecOk: boolean;
  /** The largest answer over UDP that the sender takes, as it said; 512 without EDNS. */
  readonly udpBytes: number;
}

export type QueryFault =
  /** Not worth an answer: no header, or itself an answer. */
  | 'silence'
  /** FORMERR: a header, but no query behind it. */
  | 'format'
  /** NOTIMP: another kind of message. */
  | 'opcode';

/**
 * Reads one question without making a value of every part. Never throws. Trailing bytes are let through, as others
 * do; a query with several questions or with answers of its own is none (RFC 9619).
 */
export function decodeQuery(packet: Buffer): Query | QueryFault {
  const size = packet.length;
  if (size < HEADER_BYTES) return 'silence';
  const flags = (packet[2]! << 8) | packet[3]!;
  if ((flags & 0x8000) !== 0) return 'silence';
  if (((flags >> 11) & 0xf) !== OPCODE.QUERY) return 'opcode';
  if (packet[4] !== 0 || packet[5] !== 1 || size > MAX_MESSAGE) return 'format';
  let at = HEADER_BYTES;
  let upper = false;
  for (;;) {
    if (at >= size) return 'format';
    const length = packet[at]!;
    if (length === 0) break;
    if (length > 63) return 'format';
    const end = at + 1 + length;
    if (end - HEADER_BYTES >= MAX_NAME || end >= size) return 'format';
    for (at++; at < end; at++) {
      const byte = packet[at]!;
      if (byte >= 0x41 && byte <= 0x5a) upper = true;
    }
  }
  const questionEnd = at + 5;
  if (questionEnd > size) return 'format';
  const type = (packet[at + 1]! << 8) | packet[at + 2]!;
  const kind = (packet[at + 3]! << 8) | packet[at + 4]!;
  let key = packet.toString('latin1', HEADER_BYTES, questionEnd);
  if (upper) {
    // Type and class stay as they are: their bytes may be letters too.
    const split = key.length - 4;
    key = lowerCase(key.slice(0, split)) + key.slice(split);
  }
  let edns = false;
  let version = 0;
  let dnssecOk = false;
  let udpBytes = 512;
  const counts = packet.readUIntBE(6, 6);
  if (counts !== 0) {
    // One record for IXFR and NOTIFY, one more for TSIG or SIG(0): whoever sends more sends no query.
    const answers = packet.readUInt16BE(6);
    const authority = packet.readUInt16BE(8);
    const additional = packet.readUInt16BE(10);
    if (answers > 1 || authority > 1 || additional > 2) return 'format';
    let place = questionEnd;
    for (let i = 0; i < answers + authority + additional; i++) {
      const data = skipName(packet, place);
      if (data < 0 || data + 10 > size) return 'format';
      const end = data + 10 + packet.readUInt16BE(data + 8);
      if (end > size) return 'format';
      if (packet.readUInt16BE(data) === TYPE.OPT) {
        if (edns || i < answers + authority || data !== place + 1) return 'format';
        edns = true;
        udpBytes = Math.max(512, packet.readUInt16BE(data + 2));
        version = packet[data + 5]!;
        dnssecOk = (packet.readUInt16BE(data + 6) & DO_BIT) !== 0;
        if (!optionsFit(packet, data + 10, end)) return 'format';
      }
      place = end;
    }
  }
  return { packet, questionEnd, key, type, class: kind, flags, edns, version, dnssecOk, udpBytes };
}

/** Where the name at `at` ends, not following pointers; -1 when it does not. */
function skipName(packet: Buffer, at: number): number {
  const start = at;
  let place = at;
  while (place < packet.length) {
    const length = packet[place]!;
    if (length === 0) return place + 1;
    if (length >= 0xc0) return place + 2 <= packet.length ? place + 2 : -1;
    if (length > 63) return -1;
    place += 1 + length;
    if (place - start >= MAX_NAME) return -1;
  }
  return -1;
}

function optionsFit(packet: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    if (at + 4 > end) return false;
    at += 4 + packet.readUInt16BE(at + 2);
  }
  return at === end;
}
