import assert from 'node:assert/strict';
import { test } from 'node:test';
import { negotiate, parseAccept } from './negotiation.ts';

const plain = { watch: false, transforms: true, pretty: false };

test('the most wanted form that is served is chosen', () => {
  const cases: readonly (readonly [accept: string | undefined, mediaType: string, transform: string])[] = [
    [undefined, 'application/json', 'none'],
    ['', 'application/json', 'none'],
    ['*/*', 'application/json', 'none'],
    ['application/*', 'application/json', 'none'],
    ['application/yaml', 'application/yaml', 'none'],
    ['application/vnd.kubernetes.protobuf,application/json', 'application/json', 'none'],
    [
      'application/vnd.kubernetes.protobuf;q=1,application/yaml;q=0.5,application/json;q=0.2',
      'application/yaml',
      'none',
    ],
    ['application/json;as=Table;v=v1;g=meta.k8s.io,application/json', 'application/json', 'Table'],
    ['application/json;as=Table;v=v1beta1;g=meta.k8s.io', 'application/json', 'Table'],
    ['application/json;as=Table;v=v7;g=meta.k8s.io,application/json', 'application/json', 'none'],
    [
      'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
      'application/json',
      'PartialObjectMetadata',
    ],
    [
      'application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json',
      'application/json',
      'PartialObjectMetadata',
    ],
    ['application/json;q=0,*/*', 'application/json', 'none'],
    ['text/html, application/json;q=0.9', 'application/json', 'none'],
    ['application/json; charset="a,b;c"', 'application/json', 'none'],
  ];
  for (const [accept, mediaType, transform] of cases) {
    const form = negotiate(accept, plain);
    assert.deepEqual([form.mediaType, form.transform], [mediaType, transform], accept);
  }
});

test('nothing that is served is 406 with what is', () => {
  for (const accept of [
    'application/vnd.kubernetes.protobuf',
    'text/plain',
    'application/json;as=Chart;g=meta.k8s.io;v=v1',
  ])
    assert.throws(() => negotiate(accept, plain), { code: 406, reason: 'NotAcceptable' }, accept);
  assert.throws(
    () => negotiate('application/yaml', { ...plain, watch: true }),
    /only the following media types are accepted: application\/json$/,
  );
});

test('a long or odd header is read in one go', () => {
  const header = `${'application/x;q=0.1,'.repeat(20_000)}application/json`;
  const started = performance.now();
  assert.equal(parseAccept(header)[0]!.type, 'application/json');
  assert.equal(
    negotiate(`${'"'.repeat(10_000)},${';'.repeat(10_000)},*/*`, plain).mediaType,
    'application/json',
  );
  assert.ok(performance.now() - started < 2_000);
});
