import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { created, createErrors, type Manifest, updateErrors } from './testing/objects.ts';

const text = readFileSync(new URL('testing/well-formed.yaml', import.meta.url), 'utf8');
const manifests = parseAllDocuments(text).map((document) => document.toJS() as Manifest);

test('nothing is found wrong with well-formed objects of every group', () => {
  for (const manifest of manifests) assert.deepEqual(createErrors(manifest), [], JSON.stringify(manifest));
  assert.ok(new Set(manifests.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`)).size > 55);
});

test('an object may be updated to what it is', () => {
  for (const manifest of manifests)
    assert.deepEqual(
      updateErrors(manifest, created(manifest) as unknown as Manifest),
      [],
      JSON.stringify(manifest),
    );
});
