// Records: what stands in the frames of the journal engine's files (format.ts). A record is a run of operations that
// happened as one, closed by END_OF_RECORD. One that puts or deletes keys is a revision of its own.
//
// Each operation is a byte and its fields; a string or value is a u32 of its length in bytes and the bytes:
//
//    1 put           key, value                       |  16 lease granted   u64 id, f64 time to live (ms),
//    2 put on lease  u64 lease, key, value            |                     f64 deadline (ms since the epoch)
//    3 delete        key                              |  17 lease kept      u64 id, f64 deadline
//   32 compact       u64 revision                     |  18 lease revoked   u64 id
//   48 state         u64 createRevision, u64 modRevision, u64 version, u64 lease or 0, key, value
//   49 complete      u64 number of states, u64 number of puts and deletes
//    0 end of record
//
// A snapshot is: one record with its leases; records with the states that were current at the compacted revision, in
// the order of their keys; the changes since then, as the journal had them; one record that says it is complete.

import type { LeaseChange } from '../mvcc/leases.ts';
import type { KeyValue } from '../store.ts';
import { encodeFrameHeader, FRAME_HEADER_SIZE, frameSize, readU64, writeU64 } from './format.ts';

const END_OF_RECORD = 0;
const PUT = 1;
const PUT_ON_LEASE = 2;
const DELETE = 3;
const LEASE_GRANTED = 16;
const LEASE_KEPT = 17;
const LEASE_REVOKED = 18;
const COMPACT = 32;
const STATE = 48;
const COMPLETE = 49;

/** Room for the fixed fields of any operation. */
const OPERATION_MAX = 64;
const FIRST_CAPACITY = 64 * 1024;

/** Builds one frame after another in the same memory. */
export class FrameBuilder {
  #buffer = Buffer.allocUnsafeSlow(FIRST_CAPACITY);
  #end = FRAME_HEADER_SIZE;

  get payloadLength(): number {
    return this.#end - FRAME_HEADER_SIZE;
  }

  get capacity(): number {
    return this.#buffer.length;
  }

  put(key: string, value: Uint8Array, lease: number | undefined): void {
    this.#reserve(OPERATION_MAX + key.length * 3 + value.length);
    if (lease === undefined) this.#byte(PUT);
    else {
      this.#byte(PUT_ON_LEASE);
      this.#u64(lease);
    }
    this.#string(key);
    this.#value(value);
  }

  delete(key: string): void {
    this.#reserve(OPERATION_MAX + key.length * 3);
    this.#byte(DELETE);
    this.#string(key);
  }

  lease(change: LeaseChange): void {
    this.#reserve(OPERATION_MAX);
    this.#byte({ grant: LEASE_GRANTED, keep: LEASE_KEPT, revoke: LEASE_REVOKED }[change.type]);
    this.#u64(change.id);
    if (change.type === 'grant') this.#f64(change.ttlMs);
    if (change.type !== 'revoke') this.#f64(change.deadline);
  }

  compact(revision: number): void {
    this.#reserve(OPERATION_MAX);
    this.#byte(COMPACT);
    this.#u64(revision);
  }

  state(kv: KeyValue): void {
    this.#reserve(OPERATION_MAX + kv.key.length * 3 + kv.value.length);
    this.#byte(STATE);
    this.#u64(kv.createRevision);
    this.#u64(kv.modRevision);
    this.#u64(kv.version);
    this.#u64(kv.lease ?? 0);
    this.#string(kv.key);
    this.#value(kv.value);
  }

  complete(states: number, changes: number): void {
    this.#reserve(OPERATION_MAX);
    this.#byte(COMPLETE);
    this.#u64(states);
    this.#u64(changes);
  }

  endRecord(): void {
    this.#reserve(1);
    this.#byte(END_OF_RECORD);
  }

  /** The finished frame for its place in the file. It stays valid until the next call of a method. */
  finish(place: { readonly salt: Buffer; readonly offset: number; readonly revision: number }): Buffer {
    const size = frameSize(this.payloadLength);
    this.#reserve(size - this.#end);
    this.#buffer.fill(0, this.#end, size);
    encodeFrameHeader(this.#buffer, this.payloadLength, place);
    return this.#buffer.subarray(0, size);
  }

  /** Empties it; memory beyond `keep` bytes is given back. */
  reset(keep = Number.POSITIVE_INFINITY): void {
    this.#end = FRAME_HEADER_SIZE;
    if (this.#buffer.length > keep) this.#buffer = Buffer.allocUnsafeSlow(FIRST_CAPACITY);
  }

  #reserve(bytes: number): void {
    const needed = this.#end + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#end);
    this.#buffer = larger;
  }

  #byte(value: number): void {
    this.#buffer[this.#end++] = value;
  }

  #u64(value: number): void {
    writeU64(this.#buffer, this.#end, value);
    this.#end += 8;
  }

  #f64(value: number): void {
    this.#buffer.writeDoubleLE(value, this.#end);
    this.#end += 8;
  }

  #string(text: string): void {
    const length = this.#buffer.write(text, this.#end + 4);
    this.#buffer.writeUInt32LE(length, this.#end);
    this.#end += 4 + length;
  }

  #value(value: Uint8Array): void {
    this.#buffer.writeUInt32LE(value.length, this.#end);
    this.#buffer.set(value, this.#end + 4);
    this.#end += 4 + value.length;
  }
}

/** Gets the operations of a payload in order. Values are views into the payload: copy what is to stay. */
export interface RecordVisitor {
  put(key: string, value: Uint8Array, lease: number | undefined): void;
  delete(key: string): void;
  lease(change: LeaseChange): void;
  compact(revision: number): void;
  state(kv: KeyValue): void;
  complete(states: number, changes: number): void;
  endRecord(): void;
}

/** Throws an Error that says what is wrong when the payload is not made of whole records. */
export function visitRecords(payload: Buffer, visitor: RecordVisitor): void {
  let at = 0;
  let open = false;
  const skip = (bytes: number): number => {
    const from = at;
    at += bytes;
    if (at > payload.length) throw new Error('a record is longer than its frame');
    return from;
  };
  const u64 = (): number => readU64(payload, skip(8));
  const f64 = (): number => payload.readDoubleLE(skip(8));
  const length = (): number => payload.readUInt32LE(skip(4));
  const string = (): string => {
    const bytes = length();
    const from = skip(bytes);
    return payload.toString('utf8', from, from + bytes);
  };
  const value = (): Uint8Array => {
    const bytes = length();
    const from = skip(bytes);
    return payload.subarray(from, from + bytes);
  };
  while (at < payload.length) {
    const type = payload[at++];
    open = type !== END_OF_RECORD;
    switch (type) {
      case END_OF_RECORD:
        visitor.endRecord();
        break;
      case PUT:
        visitor.put(string(), value(), undefined);
        break;
      case PUT_ON_LEASE: {
        const lease = u64();
        visitor.put(string(), value(), lease);
        break;
      }
      case DELETE:
        visitor.delete(string());
        break;
      case LEASE_GRANTED:
        visitor.lease({ type: 'grant', id: u64(), ttlMs: f64(), deadline: f64() });
        break;
      case LEASE_KEPT:
        visitor.lease({ type: 'keep', id: u64(), deadline: f64() });
        break;
      case LEASE_REVOKED:
        visitor.lease({ type: 'revoke', id: u64() });
        break;
      case COMPACT:
        visitor.compact(u64());
        break;
      case STATE: {
        const [createRevision, modRevision, version, lease] = [u64(), u64(), u64(), u64()];
        const kv = { key: string(), value: value(), createRevision, modRevision, version };
        visitor.state(lease === 0 ? kv : { ...kv, lease });
        break;
      }
      case COMPLETE:
        visitor.complete(u64(), u64());
        break;
      default:
        throw new Error(`unknown operation ${type} in a record`);
    }
  }
  if (open) throw new Error('the last record of the frame is not closed');
}
