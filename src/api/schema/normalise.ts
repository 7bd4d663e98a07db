// One walk along a value and its schema that makes the normal form of an API object: a fresh tree that shares nothing
// with its input, holds known fields only, has every scalar in its canonical spelling, leaves out what Go's omitempty
// leaves out, and has zero values and declared defaults where Go would have them. The rules are those of
// encoding/json into the upstream structs, type errors included.
//
// Custom resources go through the same walk with a schema whose goType is '': there a value of the wrong type is kept
// as it is, for the schema's own validation to judge, and null stays where the schema says nullable.

import { canonicalQuantity } from '../quantity.ts';
import { canonicalMicroTime, canonicalTime, formatDuration, parseDuration } from './time.ts';
import type {
  Alternative,
  AnySchema,
  FieldSchema,
  ListSchema,
  MapSchema,
  ObjectSchema,
  ScalarSchema,
  TypeSchema,
} from './type-schema.ts';

/** The value does not fit its schema. The message is the one that Go's decoder gives. */
export class TypeMismatchError extends Error {
  override readonly name = 'TypeMismatchError';
}

/** Deeper values are refused: whoever handles them later may recurse. (Upstream stops at 10,000.) */
export const GREATEST_DEPTH = 1000;

/** At most this many unknown or duplicate fields are told. */
export const GREATEST_COMPLAINTS = 100;

export interface Normalised {
  /** Members of all objects in the input, to find out whether the text had some twice. */
  readonly members: number;
  /** Paths of fields that the schema does not know, in the input's order. */
  readonly unknown: readonly string[];
}

/** Go's time.Time{}: a time that is not there. */
const ZERO_TIME = '0001-01-01T00:00:00Z';
const ZERO_MICRO_TIME = '0001-01-01T00:00:00.000000Z';

class Walk implements Normalised {
  members = 0;
  readonly unknown: string[] = [];
  /** Field names, list indices and, marked by a leading NUL, map keys. */
  readonly path: (string | number)[] = [];
  /** The struct that the walk is in. */
  owner: ObjectSchema | undefined;
  /** Unknown fields are reported, and all members counted. */
  strict: boolean;

  constructor(strict: boolean) {
    this.strict = strict;
  }

  mismatch(value: unknown, goType: string, numberText?: string): TypeMismatchError {
    const what = Array.isArray(value)
      ? 'array'
      : typeof value === 'boolean'
        ? 'bool'
        : typeof value === 'number' && numberText !== undefined
          ? `number ${numberText}`
          : typeof value;
    return new TypeMismatchError(`json: cannot unmarshal ${what} into ${this.place()} of type ${goType}`);
  }

  place(): string {
    const names = this.path.filter((p): p is string => typeof p === 'string' && !p.startsWith('\0'));
    if (!this.owner || names.length === 0) return 'Go value';
    const struct = this.owner.goType.slice(this.owner.goType.lastIndexOf('.') + 1);
    return `Go struct field ${struct}.${names.join('.')}`;
  }

  pathText(last: string): string {
    let text = '';
    for (const p of this.path)
      text +=
        typeof p === 'number' ? `[${p}]` : `${text === '' ? '' : '.'}${p.startsWith('\0') ? p.slice(1) : p}`;
    return text === '' ? last : `${text}.${last}`;
  }

  complain(field: string): void {
    if (this.unknown.length < GREATEST_COMPLAINTS) this.unknown.push(this.pathText(field));
  }
}

function tooDeep(): TypeMismatchError {
  return new TypeMismatchError('exceeded max depth');
}

/** `__proto__` is a map key like any other; plain assignment would not make it one. */
export function setMember(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  else object[key] = value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A copy of any JSON value. */
function copyAny(value: unknown, walk: Walk, depth: number): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) ? value : null;
    case 'object':
      break;
    default:
      throw new TypeMismatchError(`${walk.place()}: a ${typeof value} is not a JSON value`);
  }
  if (value === null) return null;
  if (depth > GREATEST_DEPTH) throw tooDeep();
  if (Array.isArray(value)) return value.map((item) => copyAny(item, walk, depth + 1));
  const out: Record<string, unknown> = {};
  for (const key in value) {
    walk.members++;
    const child = (value as Record<string, unknown>)[key];
    if (child !== undefined) setMember(out, key, copyAny(child, walk, depth + 1));
  }
  return out;
}

function countMembers(value: unknown, walk: Walk, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth > GREATEST_DEPTH) throw tooDeep();
  if (Array.isArray(value)) {
    for (const item of value) countMembers(item, walk, depth + 1);
    return;
  }
  for (const key in value) {
    walk.members++;
    countMembers((value as Record<string, unknown>)[key], walk, depth + 1);
  }
}

/** A copy of a JSON value that is known to be sane: a default from a schema. */
export function copyDefault(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? structuredClone(value) : value;
}

/** What stands for a value that Go has and the client did not give. */
export function zeroValue(schema: TypeSchema): unknown {
  switch (schema.type) {
    case 'object': {
      const out: Record<string, unknown> = {};
      complete(schema, out);
      return out;
    }
    case 'map':
    case 'any':
      return {};
    case 'list':
      return [];
    case 'integer':
    case 'number':
    case 'intOrString':
      return 0;
    case 'boolean':
      return false;
    case 'quantity':
      return '0';
    case 'duration':
      return '0s';
    case 'time':
    case 'microTime':
      return null;
    case 'string':
    case 'bytes':
      return '';
  }
}

function complete(schema: ObjectSchema, out: Record<string, unknown>): void {
  for (const field of schema.always)
    if (out[field.name] === undefined)
      out[field.name] = field.default === undefined ? zeroValue(field.schema) : copyDefault(field.default);
  for (const field of schema.defaulted)
    if (out[field.name] === undefined) out[field.name] = copyDefault(field.default);
}

function isEmpty(value: unknown, schema: TypeSchema): boolean {
  switch (schema.type) {
    case 'list':
      return (value as unknown[]).length === 0;
    case 'map':
      for (const _ in value as object) return false;
      return true;
    default:
      return value === '' || value === 0 || value === false;
  }
}

function walkObject(
  schema: ObjectSchema,
  value: unknown,
  walk: Walk,
  depth: number,
  out: Record<string, unknown>,
): Record<string, unknown> {
  if (!isObject(value)) throw walk.mismatch(value, schema.goType);
  if (depth > GREATEST_DEPTH) throw tooDeep();
  const owner = walk.owner;
  walk.owner = schema;
  for (const key in value) {
    walk.members++;
    const child = value[key];
    const field = schema.fields.get(key);
    if (field === undefined) {
      if (schema.preserveUnknown) {
        if (child !== undefined) setMember(out, key, copyAny(child, walk, depth + 1));
      } else if (walk.strict) {
        walk.complain(key);
        countMembers(child, walk, depth + 1);
      }
      continue;
    }
    if (child === undefined || (child === null && absentWhenNull(field))) continue;
    walk.path.push(key);
    const made = walkValue(field.schema, child, walk, depth + 1);
    walk.path.pop();
    if (made === undefined || (field.presence === 'nonEmpty' && isEmpty(made, field.schema))) continue;
    out[key] = made;
  }
  complete(schema, out);
  walk.owner = owner;
  return out;
}

/** For a custom resource null is a value, unless the schema forbids it and has a default to put there. */
function absentWhenNull(field: FieldSchema): boolean {
  const schema = field.schema;
  return schema.goType !== '' || (!schema.nullable && field.default !== undefined);
}

function walkMap(schema: MapSchema, value: unknown, walk: Walk, depth: number): unknown {
  if (!isObject(value)) throw walk.mismatch(value, schema.goType);
  if (depth > GREATEST_DEPTH) throw tooDeep();
  const out: Record<string, unknown> = {};
  // Labels, annotations, data: most maps are of text, and need no path.
  const texts = schema.values.type === 'string';
  for (const key in value) {
    walk.members++;
    const child = value[key];
    if (child === undefined) continue;
    if (texts && typeof child === 'string') {
      setMember(out, key, child);
      continue;
    }
    walk.path.push(`\0${key}`);
    setMember(out, key, walkElement(schema.values, child, walk, depth));
    walk.path.pop();
  }
  return out;
}

function walkList(schema: ListSchema, value: unknown, walk: Walk, depth: number): unknown {
  if (!Array.isArray(value)) throw walk.mismatch(value, schema.goType);
  if (depth > GREATEST_DEPTH) throw tooDeep();
  const out: unknown[] = [];
  const length = value.length;
  for (let i = 0; i < length; i++) {
    walk.path.push(i);
    out.push(walkElement(schema.items, value[i], walk, depth));
    walk.path.pop();
  }
  return out;
}

/** A list's item or a map's value: it keeps its place also when it is null. */
function walkElement(schema: TypeSchema, value: unknown, walk: Walk, depth: number): unknown {
  if (value === null || value === undefined) {
    if (schema.goType !== '') return schema.type === 'any' ? null : zeroValue(schema);
    return schema.nullable || schema.default === undefined ? null : copyDefault(schema.default);
  }
  const made = walkValue(schema, value, walk, depth + 1);
  return made === undefined ? zeroValue(schema) : made;
}

function walkValue(schema: TypeSchema, value: unknown, walk: Walk, depth: number): unknown {
  if (schema.goType === '' && !fits(schema, value)) return copyAny(value, walk, depth);
  switch (schema.type) {
    case 'object':
      return walkObject(schema, value, walk, depth, {});
    case 'map':
      return walkMap(schema, value, walk, depth);
    case 'list':
      return walkList(schema, value, walk, depth);
    case 'any':
      if (schema.alternative) return walkAlternative(schema, schema.alternative, value, walk, depth);
      if (schema.objectOnly && !isObject(value)) throw walk.mismatch(value, schema.goType);
      return copyAny(value, walk, depth);
    default:
      return scalar(schema, value, walk);
  }
}

/**
 * A schema within a CustomResourceDefinition's schema, or what else may stand there. Upstream reads it apart from the
 * rest, so unknown fields below are dropped and not told.
 */
function walkAlternative(
  schema: AnySchema,
  { object, list, boolean }: Alternative,
  value: unknown,
  walk: Walk,
  depth: number,
): unknown {
  const strict = walk.strict;
  walk.strict = false;
  try {
    if (isObject(value)) return walkObject(object, value, walk, depth, {});
    if (boolean && typeof value === 'boolean') return value;
    if (boolean) throw new TypeMismatchError('boolean or JSON schema expected');
    if (!list || !Array.isArray(value)) throw walk.mismatch(value, schema.goType);
    return value.map((item: unknown) => {
      if (list === 'objects') return walkObject(object, item ?? {}, walk, depth + 1, {});
      if (typeof item !== 'string') throw walk.mismatch(item, 'string');
      return item;
    });
  } finally {
    walk.strict = strict;
  }
}

/** Whether a custom resource's value has the JSON type of its schema; of scalars nothing is asked here. */
function fits(schema: TypeSchema, value: unknown): boolean {
  switch (schema.type) {
    case 'object':
    case 'map':
      return isObject(value);
    case 'list':
      return Array.isArray(value);
    case 'any':
      return true;
    default:
      return false;
  }
}

/** The usual spellings, which are canonical already: fewer digits than any shorter spelling would save. */
export const CANONICAL_QUANTITY = /^[1-9]\d{0,2}(?:[KMGTP]i|[mkMGTP])?$/;

const INT32_MAX = 2 ** 31 - 1;
const INT32_MIN = -(2 ** 31);

function scalar(schema: ScalarSchema, value: unknown, walk: Walk): unknown {
  switch (schema.type) {
    case 'string':
      if (typeof value === 'string') return value;
      throw walk.mismatch(value, schema.goType);
    case 'boolean':
      if (typeof value === 'boolean') return value;
      throw walk.mismatch(value, schema.goType);
    case 'integer':
      return integer(value, schema.bits ?? 64, schema.goType, walk);
    case 'number':
      if (typeof value === 'number' && Number.isFinite(value)) return value;
      throw walk.mismatch(value, schema.goType);
    case 'intOrString':
      // The type unmarshals itself: the error names the integer inside.
      return typeof value === 'string' ? value : integer(value, 32, 'int32', walk);
    case 'bytes':
      return bytes(value, schema, walk);
    case 'quantity':
      if (typeof value === 'string') return CANONICAL_QUANTITY.test(value) ? value : canonicalQuantity(value);
      if (typeof value === 'number') return canonicalQuantity(String(value));
      return canonicalQuantity(JSON.stringify(value) ?? '');
    case 'duration':
      if (typeof value !== 'string') throw walk.mismatch(value, 'string');
      return formatDuration(parseDuration(value));
    case 'time': {
      if (typeof value !== 'string') throw walk.mismatch(value, 'string');
      const time = canonicalTime(value);
      return time === ZERO_TIME ? undefined : time;
    }
    case 'microTime': {
      if (typeof value !== 'string') throw walk.mismatch(value, 'string');
      const time = canonicalMicroTime(value);
      return time === ZERO_MICRO_TIME ? undefined : time;
    }
  }
}

/** Whole numbers that a double cannot hold exactly are refused rather than changed. */
function integer(value: unknown, bits: 32 | 64, goType: string, walk: Walk): number {
  if (typeof value !== 'number') throw walk.mismatch(value, goType);
  if (!Number.isSafeInteger(value) || (bits === 32 && (value > INT32_MAX || value < INT32_MIN)))
    throw walk.mismatch(value, goType, String(value));
  return value === 0 ? 0 : value;
}

const NOT_BASE64 = /[^A-Za-z0-9+/]/;

function bytes(value: unknown, schema: ScalarSchema, walk: Walk): string {
  if (typeof value !== 'string') throw walk.mismatch(value, schema.goType);
  // Go's decoder skips line breaks.
  const text = value.includes('\n') || value.includes('\r') ? value.replace(/[\r\n]/g, '') : value;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const body = padding === 0 ? text : text.slice(0, -padding);
  const wrong = body.search(NOT_BASE64);
  if (wrong >= 0) throw new TypeMismatchError(`illegal base64 data at input byte ${wrong}`);
  if (text.length % 4 !== 0)
    throw new TypeMismatchError(`illegal base64 data at input byte ${text.length - (text.length % 4)}`);
  return text;
}

/**
 * The normal form of an API object. `out` is filled and returned; what it holds already comes first in the encoded
 * form. Throws TypeMismatchError, QuantityError or TimeFormatError.
 */
export function normalise(
  schema: ObjectSchema,
  value: unknown,
  out: Record<string, unknown>,
  options: { readonly strict: boolean },
): Normalised {
  const walk = new Walk(options.strict);
  walkObject(schema, value, walk, 1, out);
  return walk;
}
