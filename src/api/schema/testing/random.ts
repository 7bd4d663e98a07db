// A seeded source of randomness for property tests, and values made from it: JSON of any shape, and objects that fit
// a type's schema.

import type { FieldSchema, ObjectSchema, TypeSchema } from '../type-schema.ts';

export interface RandomSource {
  /** 0 ≤ n < limit. */
  below(limit: number): number;
  pick<T>(from: readonly T[]): T;
  chance(probability: number): boolean;
  word(): string;
  json(depth: number): unknown;
  /** An object that fits the schema, with any of its fields; `depth` bounds its size. */
  objectOf(schema: ObjectSchema, depth: number): Record<string, unknown>;
}

/**
 * No key has a backslash: V8 13.6 takes the key "\"" for the key "\\" when it parsed an object with the latter before
 * (JSON.parse('{"\\\\":0}'), JSON.parse('{"\\"":0}')).
 */
const KEYS = ['a', 'name', 'spec', 'x-y', '', 'é', '"', 'a:b', '{', '__proto__', 'constructor', 'toString'];
const WORDS = [
  'web',
  'db-0',
  'a.b/c',
  '',
  '0',
  'true',
  'ünïcode',
  'line\nbreak',
  '{"a":1}',
  '::',
  'x'.repeat(70),
];
const QUANTITIES = ['1', '100m', '1.5', '1Gi', '0.5Mi', '12e6', '1000', '1e-3', '123n', '5u', '0'];
const TIMES = ['2024-02-29T12:00:00Z', '2020-01-01T00:00:00.123456789+02:00', '1999-12-31T23:59:59-11:30'];
const DURATIONS = ['1h', '90s', '1.5h', '100ms', '0', '-3m2s'];
const IMAGES = ['busybox', 'nginx:1.2', 'localhost:5000/a/b:latest', 'a@sha256:1234', 'UPPER', ''];

export function randomSource(seed: number): RandomSource {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number): number => Math.floor(next() * limit);
  const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
  const chance = (probability: number): boolean => next() < probability;
  const word = (): string => pick(WORDS);
  const many = <T>(make: () => T): T[] => Array.from({ length: below(3) }, make);
  const own = (entries: readonly (readonly [string, unknown])[]): Record<string, unknown> => {
    const out: Record<string, unknown> = {};
    for (const [key, value] of entries)
      Object.defineProperty(out, key, { value, enumerable: true, configurable: true, writable: true });
    return out;
  };

  const json = (depth: number): unknown => {
    switch (depth <= 0 ? below(4) : below(7)) {
      case 0:
        return word();
      case 1:
        return pick([0, 1, -1, 1.5, 1e21, 2 ** 53, -0.001]);
      case 2:
        return chance(0.5);
      case 3:
        return null;
      case 4:
        return many(() => json(depth - 1));
      default:
        return own(many(() => [pick(KEYS), json(depth - 1)] as const));
    }
  };

  const fitting = (schema: TypeSchema, depth: number, name: string): unknown => {
    switch (schema.type) {
      case 'object':
        return objectOf(schema, depth - 1);
      case 'map':
        return own(many(() => [pick(KEYS), fitting(schema.values, depth - 1, '')] as const));
      case 'list':
        return depth <= 0 ? [] : many(() => fitting(schema.items, depth - 1, ''));
      case 'any':
        return schema.objectOnly ? own(many(() => [pick(KEYS), json(2)] as const)) : json(2);
      case 'string':
        if (schema.enum && chance(0.8)) return pick(schema.enum);
        return name === 'image' ? pick(IMAGES) : word();
      case 'boolean':
        return chance(0.5);
      case 'integer':
        return pick([0, 1, 8080, -1, 2 ** 31 - 1]);
      case 'number':
        return pick([0, 0.5, -3]);
      case 'bytes':
        return pick(['', 'aGk=', 'AAECAw==', 'aGVs\nbG8=']);
      case 'quantity':
        return chance(0.2) ? pick([0, 1, 0.25, 1e9]) : pick(QUANTITIES);
      case 'intOrString':
        return pick<number | string>([0, 80, 'http', '', '25%']);
      case 'time':
      case 'microTime':
        return pick(TIMES);
      case 'duration':
        return pick(DURATIONS);
    }
  };

  const objectOf = (schema: ObjectSchema, depth: number): Record<string, unknown> => {
    const out: Record<string, unknown> = {};
    const fields: FieldSchema[] = [...schema.fields.values()];
    for (const field of fields) {
      if (depth <= 0 && !field.required) continue;
      if (!field.required && !chance(0.4)) continue;
      out[field.name] = chance(0.05) ? null : fitting(field.schema, depth, field.name);
    }
    return out;
  };

  return { below, pick, chance, word, json, objectOf };
}
