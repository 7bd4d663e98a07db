import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCatalog } from '../catalog.ts';
import { encodeForStorage } from './encode.ts';

const configMaps = createCatalog().byKind('', 'v1', 'ConfigMap')!;

test('what could be taken for HTML is escaped as Go escapes it, and reads back as it was', () => {
  const data = { script: 'a && b <in >out', lines: 'one\u2028two\u2029three', plain: 'é "quoted" \\u003c' };
  const object = { kind: 'ConfigMap', apiVersion: 'v1', metadata: { name: 'a' }, data };
  const expected =
    '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{' +
    '"script":"a \\u0026\\u0026 b \\u003cin \\u003eout","lines":"one\\u2028two\\u2029three",' +
    '"plain":"é \\"quoted\\" \\\\u003c"}}';
  for (const metadata of [object.metadata, { resourceVersion: '7', name: 'a' }]) {
    const text = Buffer.from(encodeForStorage(configMaps, { ...object, metadata })).toString();
    assert.equal(text, expected);
    assert.deepEqual(JSON.parse(text), object);
  }
});
