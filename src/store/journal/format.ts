// The form of the journal engine's files, version 1. All numbers are little-endian; u64 holds whole numbers below
// 2^53.
//
// A directory holds
//   LOCK                          locked by the process that has the store open; its pid for error messages
//   journal-<sequence>.log        segments of the journal, their sequence numbers without a gap
//   snapshot-<sequence>.snap      all that the segments before <sequence> said; they and older snapshots are then
//                                 of no use and are removed
//   *.tmp                         a file that was not finished; removed at the next start
//
// Every file starts with a header of 64 bytes and goes on with frames.
//
//   file header   0  magic, 8 bytes: BLKHDJNL or BLKHDSNP
//                 8  u32 version of the format
//                12  u32 0
//                16  u64 sequence
//                24  salt, 8 random bytes
//                32  u64 revision: journal: the store's before the first frame; snapshot: the one it was taken at
//                40  u64 journal: how many bytes of the previous segment count, 0 in the very first one
//                        snapshot: the compacted revision
//                48  12 bytes 0
//                60  u32 CRC-32 of the 60 bytes before
//
//   frame         0  salt of the file
//                 8  u32 length of the payload
//                12  u32 how many pieces of the payload are all zeros, see below
//                16  u64 revision of the store before this frame
//                24  u32 CRC-32 of the payload
//                28  u32 CRC-32 of the 28 bytes before, started with the low 32 bits of the frame's offset
//                32  payload: records (record.ts), then zeros up to a multiple of 32
//
// In a journal one frame is one group commit: it is written in one piece and known to be on disk before the next one
// is begun. So only the last frame of the last segment can be torn, and nothing valid can follow it. (The salt is
// secret, so no value that a client stores can look like a frame.) A segment may end in zeros, which are space
// written in advance: overwriting it needs no change of the file's metadata and makes a durable write half as long.
//
// A segment says in its header how much of the previous one counts. What stands behind that was never acknowledged:
// a torn tail, or a write that the disk refused. This is what makes cutting it off durable.
//
// A torn frame is told from a damaged one by what a power cut leaves behind: sectors that were not written are
// missing, so they are zeros or lie behind the end of the file. The payload is looked at in pieces, cut where the
// file's 512-byte sectors are; the header says how many of them are zeros in the intact frame. When more are, the
// write was torn; when not, all of it had been written, and the disk has lost it since.

import { crc32 } from 'node:zlib';

export const FORMAT_VERSION = 1;
export const FILE_HEADER_SIZE = 64;
export const FRAME_HEADER_SIZE = 32;
export const SECTOR_SIZE = 512;

export type FileKind = 'journal' | 'snapshot';

export interface FileHeader {
  readonly kind: FileKind;
  readonly sequence: number;
  readonly salt: Buffer;
  readonly revision: number;
  /** The previous segment's length, or the compacted revision. */
  readonly detail: number;
}

const MAGIC = { journal: Buffer.from('BLKHDJNL'), snapshot: Buffer.from('BLKHDSNP') } as const;

export function fileName(kind: FileKind, sequence: number): string {
  const number = String(sequence).padStart(12, '0');
  return kind === 'journal' ? `journal-${number}.log` : `snapshot-${number}.snap`;
}

/** Undefined for a file that is not one of ours. */
export function parseFileName(name: string): { kind: FileKind; sequence: number } | undefined {
  const match = /^(?:(journal)-(\d{12,})\.log|(snapshot)-(\d{12,})\.snap)$/.exec(name);
  if (match === null) return undefined;
  const kind = match[1] === undefined ? 'snapshot' : 'journal';
  return { kind, sequence: Number(match[2] ?? match[4]) };
}

export function encodeFileHeader(header: FileHeader): Buffer {
  const bytes = Buffer.alloc(FILE_HEADER_SIZE);
  MAGIC[header.kind].copy(bytes, 0);
  bytes.writeUInt32LE(FORMAT_VERSION, 8);
  writeU64(bytes, 16, header.sequence);
  header.salt.copy(bytes, 24);
  writeU64(bytes, 32, header.revision);
  writeU64(bytes, 40, header.detail);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** The header, or what is wrong with it. */
export function decodeFileHeader(kind: FileKind, bytes: Buffer): FileHeader | string {
  if (bytes.length < FILE_HEADER_SIZE) return 'the file is shorter than its header';
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60))
    return 'the checksum of the file header does not match';
  if (!bytes.subarray(0, 8).equals(MAGIC[kind])) return `the file is not a ${kind}`;
  const version = bytes.readUInt32LE(8);
  if (version !== FORMAT_VERSION)
    return `the file has format ${version}, this program knows format ${FORMAT_VERSION}; start it with the version that wrote the file`;
  return {
    kind,
    sequence: readU64(bytes, 16),
    salt: Buffer.from(bytes.subarray(24, 32)),
    revision: readU64(bytes, 32),
    detail: readU64(bytes, 40),
  };
}

export interface FrameHeader {
  readonly length: number;
  readonly zeroPieces: number;
  readonly revision: number;
  readonly crc: number;
}

/** Bytes that a frame with such a payload takes in the file. */
export function frameSize(payloadLength: number): number {
  return Math.ceil((FRAME_HEADER_SIZE + payloadLength) / FRAME_HEADER_SIZE) * FRAME_HEADER_SIZE;
}

/** Fills in the header of a frame whose payload stands in `frame` from FRAME_HEADER_SIZE on. */
export function encodeFrameHeader(
  frame: Buffer,
  payloadLength: number,
  place: { readonly salt: Buffer; readonly offset: number; readonly revision: number },
): void {
  const payload = frame.subarray(FRAME_HEADER_SIZE, FRAME_HEADER_SIZE + payloadLength);
  place.salt.copy(frame, 0);
  frame.writeUInt32LE(payloadLength, 8);
  frame.writeUInt32LE(countZeroPieces(payload, place.offset + FRAME_HEADER_SIZE), 12);
  writeU64(frame, 16, place.revision);
  frame.writeUInt32LE(crc32(payload), 24);
  frame.writeUInt32LE(crc32(frame.subarray(0, 28), place.offset % 2 ** 32), 28);
}

/** The header of the frame at `offset` in the file; undefined when there is no valid one. */
export function decodeFrameHeader(bytes: Buffer, salt: Buffer, offset: number): FrameHeader | undefined {
  if (bytes.length < FRAME_HEADER_SIZE) return undefined;
  if (bytes.compare(salt, 0, 8, 0, 8) !== 0) return undefined;
  if (crc32(bytes.subarray(0, 28), offset % 2 ** 32) !== bytes.readUInt32LE(28)) return undefined;
  return {
    length: bytes.readUInt32LE(8),
    zeroPieces: bytes.readUInt32LE(12),
    revision: readU64(bytes, 16),
    crc: bytes.readUInt32LE(24),
  };
}

/** How many pieces of a payload that begins at `offset` in the file are all zeros, cut at the file's sectors. */
export function countZeroPieces(payload: Uint8Array, offset: number): number {
  let count = 0;
  for (let from = 0; from < payload.length; ) {
    const to = Math.min(payload.length, from + SECTOR_SIZE - ((offset + from) % SECTOR_SIZE));
    if (isZero(payload, from, to)) count++;
    from = to;
  }
  return count;
}

export function isZero(bytes: Uint8Array, from = 0, to = bytes.length): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

export function writeU64(bytes: Buffer, offset: number, value: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, offset);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}

export function readU64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * 2 ** 32 + bytes.readUInt32LE(offset);
}
