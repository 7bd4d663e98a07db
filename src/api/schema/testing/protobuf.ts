// Writes objects in normal form as protobuf bodies, the way that Go clients do, for the tests of the reader: every
// field that Go has without a pointer is written, zero or not; a zero time is an empty message.

import { typeSchema } from '../builtin.ts';
import { parseDuration } from '../time.ts';
import type { FieldSchema, ObjectSchema, TypeSchema } from '../type-schema.ts';

function varint(value: bigint | number): Buffer {
  const out: number[] = [];
  let left = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(left & 0x7fn);
    left >>= 7n;
    out.push(left > 0n ? low | 0x80 : low);
  } while (left > 0n);
  return Buffer.from(out);
}

const number = (field: number, value: bigint | number): Buffer =>
  Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field: number, value: Uint8Array): Buffer =>
  Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);
const text = (field: number, value: string): Buffer => bytes(field, Buffer.from(value));

function double(field: number, value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeDoubleLE(value);
  return Buffer.concat([varint((field << 3) | 1), out]);
}

const JSON_SCHEMA = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';

/** The value as one field; several for a list or a map. */
function field(at: number, schema: TypeSchema, value: unknown): Buffer {
  switch (schema.type) {
    case 'object':
      return bytes(at, message(schema, value as Record<string, unknown>));
    case 'list':
      return Buffer.concat((value as unknown[]).map((item) => field(at, schema.items, item)));
    case 'map':
      return Buffer.concat(
        Object.entries(value as object).map(([key, member]) =>
          bytes(
            at,
            Buffer.concat([
              text(1, key),
              schema.values.type === 'list'
                ? bytes(2, field(1, schema.values, member))
                : field(2, schema.values, member),
            ]),
          ),
        ),
      );
    case 'string':
      return text(at, value as string);
    case 'bytes':
      return bytes(at, Buffer.from(value as string, 'base64'));
    case 'boolean':
      return number(at, value === true ? 1 : 0);
    case 'integer':
      return number(at, value as number);
    case 'number':
      return double(at, value as number);
    case 'quantity':
      return bytes(at, text(1, value as string));
    case 'duration':
      return bytes(at, number(1, parseDuration(value as string)));
    case 'time':
    case 'microTime': {
      if (value === null) return bytes(at, Buffer.alloc(0));
      const whole = Math.floor(Date.parse(value as string) / 1000);
      const micros = schema.type === 'microTime' ? Number((value as string).slice(20, 26)) : 0;
      return bytes(at, Buffer.concat([number(1, whole), number(2, micros * 1000)]));
    }
    case 'intOrString':
      return bytes(
        at,
        typeof value === 'string'
          ? Buffer.concat([number(1, 1), number(2, 0), text(3, value)])
          : Buffer.concat([number(1, 0), number(2, value as number), text(3, '')]),
      );
    case 'any':
      return bytes(at, any(schema.goType, value));
  }
}

function any(goType: string, value: unknown): Buffer {
  const schema = (at: number, of: unknown): Buffer => field(at, typeSchema(JSON_SCHEMA), of);
  if (goType.endsWith('OrBool'))
    return typeof value === 'boolean'
      ? number(1, value ? 1 : 0)
      : Buffer.concat([number(1, 1), schema(2, value)]);
  if (goType.endsWith('OrArray'))
    return Array.isArray(value) ? Buffer.concat(value.map((one) => schema(2, one))) : schema(1, value);
  if (goType.endsWith('OrStringArray'))
    return Array.isArray(value) ? Buffer.concat(value.map((one) => text(2, String(one)))) : schema(1, value);
  return text(1, JSON.stringify(value));
}

/** What is written under one number: a field, or an embedded message with fields of its own. */
type Level = Map<number, Buffer | Level>;

function message(schema: ObjectSchema, value: Record<string, unknown>): Buffer {
  const fields: Level = new Map();
  for (const one of schema.fields.values()) {
    if (one.protobuf === undefined) continue;
    const given = value[one.name] ?? absent(one);
    if (given === undefined) continue;
    const path = typeof one.protobuf === 'number' ? [one.protobuf] : [...one.protobuf];
    const last = path.pop()!;
    let level = fields;
    for (const at of path) {
      const inner = level.get(at);
      const next: Level = inner instanceof Map ? inner : new Map();
      level.set(at, next);
      level = next;
    }
    level.set(last, field(last, one.schema, given));
  }
  return joined(fields);
}

function joined(level: Level): Buffer {
  return Buffer.concat(
    [...level].map(([at, part]) => (part instanceof Map ? bytes(at, joined(part)) : part)),
  );
}

/** What Go writes for a field without pointer that is zero. */
function absent({ presence, schema }: FieldSchema): unknown {
  if (presence !== 'nonEmpty') return undefined;
  switch (schema.type) {
    case 'string':
      return '';
    case 'integer':
    case 'number':
      return 0;
    case 'boolean':
      return false;
    default:
      return undefined;
  }
}

export function protobufBody(schema: ObjectSchema, object: Record<string, unknown>): Buffer {
  const typeMeta = Buffer.concat([
    text(1, String(object['apiVersion'] ?? '')),
    text(2, String(object['kind'] ?? '')),
  ]);
  return Buffer.concat([
    Buffer.from('k8s\0'),
    bytes(1, typeMeta),
    bytes(2, message(schema, object)),
    text(3, ''),
    text(4, ''),
  ]);
}
