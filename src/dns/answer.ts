// Answers as bytes that are kept: all that follows the question, encoded once, with the places that change from one
// reply to the next. A reply is the query's own header and question (so the client's spelling of the name is kept, and
// every record of that name points to it), these bytes, and an OPT record if the query had one.

import { DO_BIT, FLAG, HEADER_BYTES, MAX_MESSAGE, RCODE, TYPE, UDP_BYTES } from './message/constants.ts';
import { decodeMessage, type Query } from './message/decode.ts';
import { MessageWriter } from './message/encode.ts';
import type { Message } from './message/message.ts';
import type { WireName } from './message/name.ts';
import type { ResourceRecord } from './message/record.ts';

export interface AnswerContent {
  /** Below 16. */
  readonly rcode: number;
  /** AA, RA, AD of FLAG. */
  readonly flags: number;
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}

export interface EncodedAnswer {
  readonly rcode: number;
  readonly flags: number;
  /** What follows the question. */
  readonly body: Buffer;
  /** How many records, all sections together, and how many of them a reply cannot do without. */
  readonly counts: readonly [answers: number, authority: number, additional: number];
  /** Where each record ends, in the body. */
  readonly ends: readonly number[];
  /** Where TTLs stand, in the body; only looked at when time has passed. */
  readonly ttls: readonly number[];
  /** Where the serial of our SOA stands, in the body; -1 without. */
  readonly serialAt: number;
  /** Address records of one name, all of one size, that take turns at being the first. */
  readonly run: { readonly start: number; readonly size: number; readonly count: number } | undefined;
  /** Which of them is the first in the next reply. */
  turn: number;
}

/** `key`: see {@link Query.key}. Records beyond what a message holds are cut off, with the TC bit. */
export function encodeAnswer(key: string, content: AnswerContent, ownSoa = false): EncodedAnswer {
  const writer = new MessageWriter();
  const split = key.length - 4;
  const field = (at: number): number => (key.charCodeAt(at) << 8) | key.charCodeAt(at + 1);
  writer.question({
    name: key.slice(0, split) as WireName,
    type: field(split),
    class: field(split + 2),
  });
  const start = writer.length;
  const ends: number[] = [];
  const ttls: number[] = [];
  let serialAt = -1;
  // Room for the OPT record must be left.
  const limit = MAX_MESSAGE - 11;
  let truncated = false;
  const section = (records: readonly ResourceRecord[], needed: boolean): number => {
    let count = 0;
    for (const record of records) {
      if (truncated) break;
      const before = writer.length;
      const ttlAt = writer.record(record);
      if (writer.length > limit) {
        writer.truncate(before);
        truncated = needed;
        break;
      }
      // In a SOA the serial is the first of the five numbers at the end.
      if (ownSoa && record.type === TYPE.SOA) serialAt = writer.length - 20 - start;
      ends.push(writer.length - start);
      ttls.push(ttlAt - start);
      count++;
    }
    return count;
  };
  const answers = section(content.answers, true);
  const authority = section(content.authority, true);
  const additional = section(content.additional, false);
  return {
    rcode: content.rcode,
    flags: content.flags | (truncated ? FLAG.TC : 0),
    body: writer.finish(start),
    counts: [answers, authority, additional],
    ends,
    ttls,
    serialAt,
    run: addressRun(content.answers, answers, ends),
    turn: 0,
  };
}

/** The addresses at the end of the answer section, when there are several and each is only a pointer and an address. */
function addressRun(
  records: readonly ResourceRecord[],
  count: number,
  ends: readonly number[],
): EncodedAnswer['run'] {
  const type = records[count - 1]?.type;
  if (type !== TYPE.A && type !== TYPE.AAAA) return undefined;
  const size = type === TYPE.A ? 16 : 28;
  let first = count;
  while (first > 0 && records[first - 1]!.type === type && recordSize(ends, first - 1) === size) first--;
  return count - first < 2
    ? undefined
    : { start: first === 0 ? 0 : ends[first - 1]!, size, count: count - first };
}

function recordSize(ends: readonly number[], index: number): number {
  return ends[index]! - (index === 0 ? 0 : ends[index - 1]!);
}

export interface ReplyOptions {
  readonly udp: boolean;
  /** Whole seconds since the answer was encoded. */
  readonly age: number;
  readonly serial: number;
}

/** The reply's bytes are the caller's own. */
export function writeReply(query: Query, answer: EncodedAnswer, options: ReplyOptions): Buffer {
  const { body } = answer;
  const { questionEnd } = query;
  const optSize = query.edns ? 11 : 0;
  const size = questionEnd + body.length + optSize;
  const limit = options.udp ? Math.min(query.udpBytes, UDP_BYTES) : MAX_MESSAGE;
  const reply = Buffer.allocUnsafe(size);
  query.packet.copy(reply, 0, 0, questionEnd);
  copyTurned(answer, reply, questionEnd);
  if (answer.serialAt >= 0) reply.writeUInt32BE(options.serial >>> 0, questionEnd + answer.serialAt);
  if (options.age > 0)
    for (const at of answer.ttls) {
      const ttl = reply.readUInt32BE(questionEnd + at);
      reply.writeUInt32BE(Math.max(0, ttl - options.age), questionEnd + at);
    }
  let { flags } = answer;
  let [answers, authority, additional] = answer.counts;
  let end = size - optSize;
  if (size > limit) {
    const needed = answers + authority;
    let kept = answer.ends.length;
    while (kept > 0 && questionEnd + answer.ends[kept - 1]! + optSize > limit) kept--;
    if (kept < needed) flags |= FLAG.TC;
    end = questionEnd + (kept === 0 ? 0 : answer.ends[kept - 1]!);
    answers = Math.min(answers, kept);
    authority = Math.min(authority, kept - answers);
    additional = kept - answers - authority;
  }
  // Who does not ask about authentication is not told (RFC 6840 §5.8).
  if ((flags & FLAG.AD) !== 0 && !query.dnssecOk && (query.flags & FLAG.AD) === 0) flags &= ~FLAG.AD;
  writeHeader(reply, query.flags, flags, answer.rcode, answers, authority, additional + (query.edns ? 1 : 0));
  if (query.edns) writeOpt(reply, end, query.dnssecOk, 0);
  return size > limit ? reply.subarray(0, end + optSize) : reply;
}

function copyTurned(answer: EncodedAnswer, reply: Buffer, at: number): void {
  const { body, run } = answer;
  if (run === undefined || answer.turn === 0) {
    body.copy(reply, at);
    if (run !== undefined) answer.turn = 1;
    return;
  }
  const { start, size, count } = run;
  const end = start + size * count;
  const split = start + size * answer.turn;
  answer.turn = (answer.turn + 1) % count;
  body.copy(reply, at, 0, start);
  body.copy(reply, at + start, split, end);
  body.copy(reply, at + start + end - split, start, split);
  body.copy(reply, at + end, end);
}

/** An answer of no records. `rcode` may be extended, which only a client with EDNS sees whole. */
export function writeError(query: Query, rcode: number, flags = 0): Buffer {
  const reply = Buffer.allocUnsafe(query.questionEnd + (query.edns ? 11 : 0));
  query.packet.copy(reply, 0, 0, query.questionEnd);
  writeHeader(reply, query.flags, flags, rcode & 0xf, 0, 0, query.edns ? 1 : 0);
  if (query.edns) writeOpt(reply, query.questionEnd, query.dnssecOk, rcode >> 4);
  return reply;
}

/** To a packet of which no more than the header could be read. */
export function writeHeaderError(packet: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(HEADER_BYTES);
  packet.copy(reply, 0, 0, 4);
  const word = packet.readUInt16BE(2);
  // Identification, opcode and RD come back as they came.
  reply.writeUInt16BE(FLAG.QR | (word & 0x7900) | rcode, 2);
  return reply;
}

function writeHeader(
  reply: Buffer,
  asked: number,
  flags: number,
  rcode: number,
  answers: number,
  authority: number,
  additional: number,
): void {
  const word = FLAG.QR | flags | (asked & (FLAG.RD | FLAG.CD)) | rcode;
  reply[2] = word >> 8;
  reply[3] = word & 0xff;
  reply.writeUInt16BE(answers, 6);
  reply.writeUInt16BE(authority, 8);
  reply.writeUInt16BE(additional, 10);
}

function writeOpt(reply: Buffer, at: number, dnssecOk: boolean, extended: number): void {
  reply[at] = 0;
  reply.writeUInt16BE(TYPE.OPT, at + 1);
  reply.writeUInt16BE(UDP_BYTES, at + 3);
  reply[at + 5] = extended;
  reply[at + 6] = 0;
  reply.writeUInt16BE(dnssecOk ? DO_BIT : 0, at + 7);
  reply.writeUInt16BE(0, at + 9);
}

/** The records again, for what goes into another answer. */
export function decodeAnswer(key: string, answer: EncodedAnswer): Message {
  const header = Buffer.alloc(HEADER_BYTES);
  const [answers, authority, additional] = answer.counts;
  header.writeUInt16BE(FLAG.QR | answer.flags | answer.rcode, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(answers, 6);
  header.writeUInt16BE(authority, 8);
  header.writeUInt16BE(additional, 10);
  return decodeMessage(Buffer.concat([header, Buffer.from(key, 'latin1'), answer.body]));
}

/** What is asked, as it stands in {@link Query.key}. */
export function questionKey(name: WireName, type: number, kind = 1): string {
  return name + String.fromCharCode(type >> 8, type & 0xff, kind >> 8, kind & 0xff);
}

/** Whether the answer says that something is not there. */
export function isDenial(answer: EncodedAnswer): boolean {
  return answer.rcode === RCODE.NXDOMAIN || (answer.rcode === RCODE.NOERROR && answer.counts[0] === 0);
}
