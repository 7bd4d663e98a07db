import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatusError } from '../errors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { applyMergePatch } from './merge-patch.ts';

test('the examples of RFC 7386 come out as the RFC says', () => {
  const cases: readonly (readonly [JsonObject, JsonObject, JsonObject])[] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [{ a: 'foo' }, { a: { b: null, c: 1 } }, { a: { c: 1 } }],
  ];
  for (const [document, patch, result] of cases)
    assert.deepEqual(applyMergePatch(document, patch), result, JSON.stringify(patch));
});

test('a patch that is not an object is refused', () => {
  const refused = (patch: unknown, why: string) =>
    assert.throws(
      () => applyMergePatch({}, patch),
      (error) => error instanceof StatusError && error.code === 400 && error.message.includes(why),
    );
  refused([1], 'cannot unmarshal array');
  refused('x', 'cannot unmarshal string');
  refused(null, 'Invalid JSON Patch');
  refused(true, 'cannot unmarshal bool');
});

test('a patch nested without end is refused, not followed', () => {
  let patch: Json = {};
  for (let i = 0; i < 20_000; i++) patch = { a: patch };
  assert.throws(() => applyMergePatch({}, patch), /nested more than/);
  assert.throws(() => applyMergePatch(patch as JsonObject, patch), /nested more than/);
});

let state = 9;
const next = (below: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};

function value(depth: number, nulls: boolean): Json {
  const kind = next(depth > 3 ? 3 : 5);
  if (kind === 0) return next(3);
  if (kind === 1) return `s${next(3)}`;
  if (kind === 2) return nulls ? null : true;
  if (kind === 3) return Array.from({ length: next(3) }, () => value(4, false));
  return object(depth + 1, nulls);
}

function object(depth: number, nulls: boolean): JsonObject {
  const keys = ['a', 'b', 'c', '__proto__'];
  const text = keys
    .filter(() => next(2) === 0)
    .map((key) => `${JSON.stringify(key)}:${JSON.stringify(value(depth, nulls))}`);
  return JSON.parse(`{${text.join(',')}}`) as JsonObject;
}

/** The patch that makes `to` of `from`: RFC 7386's inverse. */
function difference(from: JsonObject, to: JsonObject): JsonObject {
  const entries: [string, Json][] = [];
  for (const key of Object.keys(from)) if (!Object.hasOwn(to, key)) entries.push([key, null]);
  for (const key of Object.keys(to)) {
    const after = to[key] as Json;
    const before = Object.hasOwn(from, key) ? (from[key] as Json) : undefined;
    if (isObject(before) && isObject(after)) entries.push([key, difference(before, after)]);
    else entries.push([key, after]);
  }
  return Object.fromEntries(entries) as JsonObject;
}

const text = (json: unknown): string =>
  JSON.stringify(json, (_, inner: unknown) =>
    isObject(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

test('property: merging is idempotent, {} changes nothing, a difference leads to its target', () => {
  for (let i = 0; i < 3_000; i++) {
    const document = object(0, false);
    const patch = object(0, true);
    const before = text(document);
    const patchBefore = text(patch);
    const once = applyMergePatch(document, patch);
    assert.equal(text(applyMergePatch(once, patch)), text(once));
    assert.equal(text(applyMergePatch(document, {})), before);
    const target = object(0, false);
    assert.equal(text(applyMergePatch(document, difference(document, target))), text(target));
    assert.equal(text(document), before);
    assert.equal(text(patch), patchBefore);
  }
});
