// Request bodies in the protobuf encoding of the Kubernetes API → the JSON value that they stand for, which decoding
// then takes like any other. Typed clients (kubectl create, client-go's clientsets) send it without asking.
//
// A body is the four bytes `k8s\0` and a runtime.Unknown message, which names the kind and holds the object's own
// message. Field numbers come from the schema. Wire format: protobuf.dev/programming-guides/encoding.

import { typeSchema } from './builtin.ts';
import type { FieldSchema, ListSchema, ObjectSchema, TypeSchema } from './type-schema.ts';

export const PROTOBUF = 'application/vnd.kubernetes.protobuf';

/** The bytes are not what they should be. */
export class ProtobufSyntaxError extends Error {
  override readonly name = 'ProtobufSyntaxError';
}

const MAGIC = Buffer.from('k8s\0');
const GREATEST_DEPTH = 100;

/** The body's value, with apiVersion and kind as the envelope has them. Throws ProtobufSyntaxError. */
export function parseProtobuf(schema: ObjectSchema, body: Uint8Array): Record<string, unknown> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes.length < MAGIC.length || bytes.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0)
    throw new ProtobufSyntaxError(
      'provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]',
    );
  let raw: Buffer = Buffer.alloc(0);
  const value: Record<string, unknown> = {};
  const envelope = new Reader(bytes.subarray(MAGIC.length));
  for (let tag = envelope.tag(); tag !== undefined; tag = envelope.tag()) {
    if (tag.field === 1) readTypeMeta(new Reader(envelope.bytes(tag)), value);
    else if (tag.field === 2) raw = envelope.bytes(tag);
    else if (tag.field === 3 && envelope.bytes(tag).length > 0)
      throw new ProtobufSyntaxError('the object is encoded once more within its envelope');
    else if (tag.field !== 3) envelope.skip(tag);
  }
  readMessage(new Reader(raw), fieldsByNumber(schema), value, 0);
  return value;
}

function readTypeMeta(reader: Reader, value: Record<string, unknown>): void {
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === 1) value['apiVersion'] = reader.text(tag);
    else if (tag.field === 2) value['kind'] = reader.text(tag);
    else reader.skip(tag);
  }
}

/** A message's fields: those of its own, and those of Go structs that are embedded in it, in messages of their own. */
type NumberedFields = Map<number, FieldSchema | NumberedFields>;

const numbered = new WeakMap<ObjectSchema, NumberedFields>();

function fieldsByNumber(schema: ObjectSchema): NumberedFields {
  const known = numbered.get(schema);
  if (known !== undefined) return known;
  const fields: NumberedFields = new Map();
  for (const field of schema.fields.values()) {
    const { protobuf } = field;
    if (protobuf === undefined) continue;
    const path = typeof protobuf === 'number' ? [protobuf] : [...protobuf];
    const last = path.pop()!;
    let level = fields;
    for (const number of path) {
      const known = level.get(number);
      const embedded: NumberedFields = known instanceof Map ? known : new Map();
      level.set(number, embedded);
      level = embedded;
    }
    level.set(last, field);
  }
  numbered.set(schema, fields);
  return fields;
}

function readMessage(
  reader: Reader,
  fields: NumberedFields,
  into: Record<string, unknown>,
  depth: number,
): void {
  if (depth > GREATEST_DEPTH) throw new ProtobufSyntaxError('exceeded max depth');
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    const field = fields.get(tag.field);
    if (field === undefined) reader.skip(tag);
    else if (field instanceof Map) readMessage(new Reader(reader.bytes(tag)), field, into, depth + 1);
    else readField(reader, tag, field as FieldSchema, into, depth);
  }
}

function readField(
  reader: Reader,
  tag: Tag,
  { name, schema }: FieldSchema,
  into: Record<string, unknown>,
  depth: number,
): void {
  switch (schema.type) {
    case 'list': {
      into[name] ??= [];
      readItem(reader, tag, schema, into[name] as unknown[], depth);
      return;
    }
    case 'map': {
      into[name] ??= {};
      const [key, value] = readEntry(new Reader(reader.bytes(tag)), schema.values, depth);
      Object.defineProperty(into[name] as object, key, {
        value,
        writable: true,
        enumerable: true,
        configurable: true,
      });
      return;
    }
    default: {
      const value = readValue(reader, tag, schema, depth);
      if (value !== undefined) into[name] = value;
    }
  }
}

/** One item, or several numbers packed into one field. */
function readItem(reader: Reader, tag: Tag, schema: ListSchema, list: unknown[], depth: number): void {
  const { items } = schema;
  const packable = items.type === 'integer' || items.type === 'boolean' || items.type === 'number';
  if (packable && tag.wire === BYTES) {
    const packed = new Reader(reader.bytes(tag));
    const wire = items.type === 'number' ? (items.goType === 'float32' ? FIXED32 : FIXED64) : VARINT;
    while (!packed.done) list.push(readValue(packed, { field: tag.field, wire }, items, depth));
    return;
  }
  list.push(readValue(reader, tag, items, depth));
}

function readEntry(reader: Reader, values: TypeSchema, depth: number): [key: string, value: unknown] {
  let key = '';
  let value: unknown;
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === 1) key = reader.text(tag);
    else if (tag.field !== 2) reader.skip(tag);
    else if (values.type === 'list') value = readListMessage(new Reader(reader.bytes(tag)), values, depth);
    else value = readValue(reader, tag, values, depth);
  }
  return [key, value ?? emptyValue(values)];
}

/** A list as a map's value is a message of its own with the items as field 1. */
function readListMessage(reader: Reader, schema: ListSchema, depth: number): unknown[] {
  const list: unknown[] = [];
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === 1) readItem(reader, tag, schema, list, depth + 1);
    else reader.skip(tag);
  }
  return list;
}

/** What stands for a map's value that the message leaves out. */
function emptyValue(schema: TypeSchema): unknown {
  switch (schema.type) {
    case 'object':
    case 'map':
      return {};
    case 'list':
      return [];
    case 'boolean':
      return false;
    case 'integer':
    case 'number':
    case 'intOrString':
      return 0;
    case 'any':
      return null;
    default:
      return '';
  }
}

/** Undefined: the value is null (a zero time, an empty raw extension). */
function readValue(reader: Reader, tag: Tag, schema: TypeSchema, depth: number): unknown {
  switch (schema.type) {
    case 'string':
      return reader.text(tag);
    case 'bytes':
      return reader.bytes(tag).toString('base64');
    case 'boolean':
      return reader.varint(tag) !== 0n;
    case 'integer':
      return reader.integer(tag);
    case 'number':
      return reader.float(tag);
    case 'object': {
      const value: Record<string, unknown> = {};
      readMessage(new Reader(reader.bytes(tag)), fieldsByNumber(schema), value, depth + 1);
      return value;
    }
    case 'quantity':
      return firstText(new Reader(reader.bytes(tag)), 1);
    case 'time':
    case 'microTime':
      return readTime(new Reader(reader.bytes(tag)), schema.type === 'microTime');
    case 'duration':
      return goDuration(firstInteger(new Reader(reader.bytes(tag)), 1));
    case 'intOrString':
      return readIntOrString(new Reader(reader.bytes(tag)));
    case 'any':
      return readAny(new Reader(reader.bytes(tag)), schema.goType, depth + 1);
    case 'list':
      return readListMessage(new Reader(reader.bytes(tag)), schema, depth);
    case 'map':
      throw new ProtobufSyntaxError('a map within a list or a map has no protobuf form');
  }
}

function firstText(reader: Reader, field: number): string {
  let text = '';
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === field) text = reader.text(tag);
    else reader.skip(tag);
  }
  return text;
}

function firstInteger(reader: Reader, field: number): bigint {
  let value = 0n;
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === field) value = reader.varint(tag);
    else reader.skip(tag);
  }
  return value;
}

function readTime(reader: Reader, micro: boolean): string | undefined {
  let seconds = 0;
  let nanos = 0;
  let given = false;
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    given = true;
    if (tag.field === 1) seconds = reader.integer(tag);
    else if (tag.field === 2) nanos = reader.integer(tag);
    else reader.skip(tag);
  }
  // The zero time is an empty message, and null in JSON.
  if (!given) return undefined;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() < 0 || date.getUTCFullYear() > 9999)
    throw new ProtobufSyntaxError(`${seconds} seconds after 1970 is not a time that can be written`);
  const text = date.toISOString().slice(0, 19);
  return micro ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${text}Z`;
}

/** Go's text of a duration in nanoseconds, in whole hours, minutes and the rest in seconds. */
function goDuration(nanoseconds: bigint): string {
  const negative = nanoseconds < 0n;
  const left = negative ? -nanoseconds : nanoseconds;
  const hours = left / 3_600_000_000_000n;
  const minutes = (left / 60_000_000_000n) % 60n;
  const seconds = Number(left % 60_000_000_000n) / 1e9;
  const text =
    hours > 0n ? `${hours}h${minutes}m${seconds}s` : minutes > 0n ? `${minutes}m${seconds}s` : `${seconds}s`;
  return negative ? `-${text}` : text;
}

function readIntOrString(reader: Reader): number | string {
  let isText = false;
  let number = 0;
  let text = '';
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (tag.field === 1) isText = reader.varint(tag) === 1n;
    else if (tag.field === 2) number = reader.integer(tag);
    else if (tag.field === 3) text = reader.text(tag);
    else reader.skip(tag);
  }
  return isText ? text : number;
}

const JSON_SCHEMA = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';

/** JSON text as bytes, or one of the unions of a CustomResourceDefinition's schema. */
function readAny(reader: Reader, goType: string, depth: number): unknown {
  const union = goType.slice(goType.lastIndexOf('.') + 1);
  if (!union.startsWith('JSONSchemaPropsOr')) {
    const text = firstText(reader, 1);
    if (text === '') return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new ProtobufSyntaxError(`a field of type ${goType} does not hold JSON`);
    }
  }
  let flag = false;
  let schema: Record<string, unknown> | undefined;
  const list: unknown[] = [];
  const readSchema = (tag: Tag): Record<string, unknown> => {
    const value: Record<string, unknown> = {};
    readMessage(new Reader(reader.bytes(tag)), fieldsByNumber(typeSchema(JSON_SCHEMA)), value, depth + 1);
    return value;
  };
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    if (union === 'JSONSchemaPropsOrBool' && tag.field === 1) flag = reader.varint(tag) !== 0n;
    else if (tag.field === 1 || (union === 'JSONSchemaPropsOrBool' && tag.field === 2))
      schema = readSchema(tag);
    else if (tag.field === 2)
      list.push(union === 'JSONSchemaPropsOrStringArray' ? reader.text(tag) : readSchema(tag));
    else reader.skip(tag);
  }
  if (schema !== undefined) return schema;
  return union === 'JSONSchemaPropsOrBool' ? flag : list;
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

interface Tag {
  readonly field: number;
  readonly wire: number;
}

/** Walks one message. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The next field's number and wire type; undefined at the end. */
  tag(): Tag | undefined {
    if (this.done) return undefined;
    const key = this.#varint();
    const field = Number(key >> 3n);
    if (field < 1 || field > 0x1fff_ffff) throw new ProtobufSyntaxError(`illegal tag ${field}`);
    return { field, wire: Number(key & 7n) };
  }

  varint({ field, wire }: Tag): bigint {
    if (wire !== VARINT) throw wrongWire(field, wire);
    return BigInt.asIntN(64, this.#varint());
  }

  integer(tag: Tag): number {
    const value = this.varint(tag);
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw new ProtobufSyntaxError(`the number ${value} is too large`);
    return number;
  }

  float({ field, wire }: Tag): number {
    const length = wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : 0;
    if (length === 0) throw wrongWire(field, wire);
    const at = this.#take(length);
    const value = length === 8 ? this.#bytes.readDoubleLE(at) : this.#bytes.readFloatLE(at);
    if (!Number.isFinite(value)) throw new ProtobufSyntaxError(`the number ${value} has no JSON form`);
    return value;
  }

  bytes({ field, wire }: Tag): Buffer {
    if (wire !== BYTES) throw wrongWire(field, wire);
    const length = this.#varint();
    if (length > BigInt(this.#bytes.length - this.#at)) throw new ProtobufSyntaxError('unexpected EOF');
    const at = this.#take(Number(length));
    return this.#bytes.subarray(at, this.#at);
  }

  text(tag: Tag): string {
    return this.bytes(tag).toString('utf8');
  }

  skip({ field, wire }: Tag): void {
    switch (wire) {
      case VARINT:
        this.#varint();
        return;
      case FIXED64:
        this.#take(8);
        return;
      case BYTES:
        this.bytes({ field, wire });
        return;
      case FIXED32:
        this.#take(4);
        return;
      default:
        throw wrongWire(field, wire);
    }
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new ProtobufSyntaxError('unexpected EOF');
    this.#at = at + length;
    return at;
  }

  #varint(): bigint {
    let low = 0;
    // Seven bytes fit into a number; longer ones are rare (negative numbers) and go through BigInt.
    for (let i = 0; i < 7; i++) {
      const byte = this.#bytes[this.#take(1)]!;
      low += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#take(1)]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new ProtobufSyntaxError('integer overflow');
  }
}

function wrongWire(field: number, wire: number): ProtobufSyntaxError {
  return new ProtobufSyntaxError(`wrong wireType = ${wire} for field ${field}`);
}
