import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatusError } from '../errors.ts';
import type { Json, JsonObject } from './json.ts';
import { applyJsonPatch } from './json-patch.ts';

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}

const apply = (document: JsonObject, patch: unknown) => applyJsonPatch(frozen(document), frozen(patch));

function refused(document: JsonObject, patch: unknown, code: number, why: string): void {
  assert.throws(
    () => apply(document, patch),
    (error) =>
      error instanceof StatusError &&
      error.code === code &&
      [error.message, ...(error.status.details?.causes ?? []).map((cause) => cause.message)].some((text) =>
        text?.includes(why),
      ),
    `${JSON.stringify(patch)} must be refused with ${code} ${why}`,
  );
}

test('the operations of RFC 6902 do what they say', () => {
  const cases: readonly (readonly [JsonObject, Json, JsonObject])[] = [
    [{ a: 1 }, [{ op: 'add', path: '/b', value: 2 }], { a: 1, b: 2 }],
    [{ a: 1 }, [{ op: 'add', path: '/a', value: 2 }], { a: 2 }],
    [{ a: [1, 3] }, [{ op: 'add', path: '/a/1', value: 2 }], { a: [1, 2, 3] }],
    [{ a: [1] }, [{ op: 'add', path: '/a/-', value: [2] }], { a: [1, [2]] }],
    [{ a: [1] }, [{ op: 'add', path: '/a/-1', value: 2 }], { a: [1, 2] }],
    [{ a: { b: 1, c: 2 } }, [{ op: 'remove', path: '/a/b' }], { a: { c: 2 } }],
    [{ a: [1, 2, 3] }, [{ op: 'remove', path: '/a/-1' }], { a: [1, 2] }],
    [{ a: 1 }, [{ op: 'replace', path: '/a', value: null }], { a: null }],
    [{ a: {} }, [{ op: 'replace', path: '/a/new', value: 1 }], { a: { new: 1 } }],
    [{ a: 1 }, [{ op: 'replace', path: '', value: { b: 1 } }], { b: 1 }],
    [{ a: [1, 2] }, [{ op: 'move', from: '/a/0', path: '/a/1' }], { a: [2, 1] }],
    [{ a: { b: 1 }, c: {} }, [{ op: 'move', from: '/a/b', path: '/c/d' }], { a: {}, c: { d: 1 } }],
    [{ a: { b: 1 } }, [{ op: 'copy', from: '/a', path: '/c' }], { a: { b: 1 }, c: { b: 1 } }],
    [
      { 'a/b': 1, 'm~n': 2 },
      [
        { op: 'remove', path: '/a~1b' },
        { op: 'add', path: '/m~0n', value: 3 },
      ],
      { 'm~n': 3 },
    ],
    [{ a: [{ b: 1.0 }] }, [{ op: 'test', path: '/a', value: [{ b: 1 }] }], { a: [{ b: 1 }] }],
    [{ a: 1 }, [{ op: 'test', path: '/gone', value: null }], { a: 1 }],
    [{}, [], {}],
    [{}, null, {}],
  ];
  for (const [document, patch, result] of cases)
    assert.deepEqual(apply(document, patch), result, JSON.stringify(patch));
});

test('a copy does not change when its original does', () => {
  assert.deepEqual(
    apply({ a: { b: 1 } }, [
      { op: 'add', path: '/a/x', value: 1 },
      { op: 'copy', from: '/a', path: '/c' },
      { op: 'replace', path: '/a/b', value: 2 },
    ]),
    { a: { b: 2, x: 1 }, c: { b: 1, x: 1 } },
  );
});

test('what does not apply is a 422 that says why, and nothing is done', () => {
  refused({ a: 1 }, [{ op: 'test', path: '/a', value: 2 }], 422, 'testing value /a failed: test failed');
  refused({ a: 1 }, [{ op: 'remove', path: '/b' }], 422, 'Unable to remove nonexistent key: b');
  refused({ a: 1 }, [{ op: 'add', path: '/b/c', value: 1 }], 422, 'doc is missing path: "/b/c"');
  refused({ a: 1 }, [{ op: 'add', path: '/a/c', value: 1 }], 422, 'doc is missing path: "/a/c"');
  refused({ a: 1 }, [{ op: 'replace', path: '/b/c', value: 1 }], 422, 'doc is missing path: /b/c');
  refused({ a: [1] }, [{ op: 'replace', path: '/a/1', value: 1 }], 422, 'doc is missing key: /a/1');
  refused({ a: [1] }, [{ op: 'add', path: '/a/5', value: 1 }], 422, 'Unable to access invalid index: 5');
  refused(
    { a: [1] },
    [{ op: 'add', path: '/a/x', value: 1 }],
    422,
    "value was not a proper array index: 'x'",
  );
  refused({ a: [1] }, [{ op: 'move', from: '/a/3', path: '/b' }], 422, 'invalid index');
  refused({ a: 1 }, [{ op: 'move', from: '/x/y', path: '/b' }], 422, 'doc is missing from path: /x/y');
  refused({ a: 1 }, [{ op: 'frob', path: '/a' }], 422, 'Unexpected kind: frob');
  refused({ a: 1 }, [{ op: 'add', value: 1 }], 422, 'failed to decode path');
  refused({ a: 1 }, [{ op: 'replace', path: '', value: 1 }], 422, 'must be object or array');
});

test('malformed and oversized patches are refused before they cost anything', () => {
  refused({}, {}, 400, 'cannot unmarshal object');
  refused({}, 'x', 400, 'cannot unmarshal string');
  refused({}, [1], 400, 'cannot unmarshal');
  refused({}, [{ op: 1 }], 400, 'jsonPatchOp.op of type string');
  refused(
    {},
    Array(10_001).fill({ op: 'test', path: '/a', value: null }),
    413,
    'maximum operations in a JSON patch is 10000, got 10001',
  );
  const doubling = Array.from({ length: 40 }, (_, i) => ({ op: 'copy', from: '/a', path: `/a/x${i}` }));
  refused({ a: { text: 'x'.repeat(1000) } }, doubling, 422, 'accumulated size increase of copy');
});

test('names of the prototype are ordinary fields', () => {
  const document = JSON.parse('{"a":{}}') as JsonObject;
  const result = apply(document, JSON.parse('[{"op":"add","path":"/a/__proto__","value":{"x":1}}]'));
  assert.equal(JSON.stringify(result), '{"a":{"__proto__":{"x":1}}}');
  assert.equal(({} as Record<string, unknown>)['x'], undefined);
  refused({ a: 1 }, [{ op: 'remove', path: '/constructor' }], 422, 'nonexistent key');
});

test('property: adding and removing at any place leaves the document as it was', () => {
  let state = 3;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const value = (depth: number): Json => {
    const kind = next(depth > 3 ? 2 : 4);
    if (kind === 0) return next(10);
    if (kind === 1) return `s${next(10)}`;
    if (kind === 2) return Array.from({ length: next(4) }, () => value(depth + 1));
    return Object.fromEntries(Array.from({ length: next(4) }, () => [`k~/${next(5)}`, value(depth + 1)]));
  };
  const places = (node: Json, path: string, out: string[]): string[] => {
    if (Array.isArray(node)) {
      for (let i = 0; i <= node.length; i++) out.push(`${path}/${i}`);
      for (const [i, item] of node.entries()) places(item as Json, `${path}/${i}`, out);
    } else if (typeof node === 'object' && node !== null) {
      out.push(`${path}/fresh`);
      for (const [key, inner] of Object.entries(node))
        places(inner, `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, out);
    }
    return out;
  };
  for (let i = 0; i < 300; i++) {
    const document = { root: value(0), other: value(0) } as JsonObject;
    const before = JSON.stringify(document);
    for (const path of places(document, '', [])) {
      const patched = apply(document, [
        { op: 'add', path, value: { x: i } },
        { op: 'test', path, value: { x: i } },
        { op: 'remove', path },
      ]);
      assert.deepEqual(patched, JSON.parse(before), path);
    }
    assert.equal(JSON.stringify(document), before);
  }
});
