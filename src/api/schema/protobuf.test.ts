import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCatalog } from '../catalog.ts';
import { StatusError } from '../errors.ts';
import { decodeTarget, decodeValue } from './decode.ts';
import { ProtobufSyntaxError, parseProtobuf } from './protobuf.ts';
import { protobufBody } from './testing/protobuf.ts';
import { randomSource } from './testing/random.ts';

const options = { fieldValidation: 'Strict', now: () => 0 } as const;

/** Schemas of custom resource definitions hold unions that only make sense with schemas in them. */
const JSON_SCHEMA_HOLDER = 'CustomResourceDefinition';

test('every kind reads from protobuf as it reads from JSON', () => {
  const random = randomSource(8);
  for (const definition of createCatalog().all()) {
    if (definition.kind === JSON_SCHEMA_HOLDER) continue;
    for (let i = 0; i < 30; i++) {
      const value = random.objectOf(definition.schema, 1 + random.below(6));
      value['kind'] = definition.kind;
      delete value['apiVersion'];
      const object = decodeValue(definition, value, options).object;
      const read = parseProtobuf(definition.schema, protobufBody(definition.schema, object));
      assert.deepEqual(decodeValue(definition, read, options).object, object, `${definition.kind} ${i}`);
    }
  }
});

test('the unions of a schema read from protobuf', () => {
  const target = decodeTarget('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition');
  const { object } = decodeValue(
    target,
    {
      metadata: { name: 'widgets.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'widgets', kind: 'Widget' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: {
                  a: { type: 'array', items: { type: 'string', default: 'x' } },
                  b: { type: 'object', additionalProperties: { type: 'integer', minimum: -1.5 } },
                  c: { type: 'object', additionalProperties: false, enum: [1, 'two', null] },
                },
              },
            },
          },
        ],
      },
    },
    options,
  );
  const read = parseProtobuf(target.schema, protobufBody(target.schema, object));
  assert.deepEqual(decodeValue(target, read, options).object, object);
});

test('hostile bytes are refused with an error of their own kind, or read as something', () => {
  const random = randomSource(9);
  const definitions = createCatalog().all();
  for (let i = 0; i < 4000; i++) {
    const definition = random.pick(definitions);
    if (definition.kind === JSON_SCHEMA_HOLDER) continue;
    const value = { ...random.objectOf(definition.schema, 3), kind: '', apiVersion: '' };
    const { object } = decodeValue(definition, value, { fieldValidation: 'Ignore' });
    const body = protobufBody(definition.schema, object);
    for (let n = random.below(5); n >= 0; n--) body[4 + random.below(body.length - 4)] = random.below(256);
    const cut = random.chance(0.2) ? body.subarray(0, random.below(body.length)) : body;
    try {
      decodeValue(definition, parseProtobuf(definition.schema, cut), { fieldValidation: 'Ignore' });
    } catch (error) {
      assert.ok(
        error instanceof ProtobufSyntaxError || error instanceof StatusError,
        String((error as Error).stack),
      );
    }
  }
  assert.throws(
    () => parseProtobuf(definitions[0]!.schema, Buffer.from('{}')),
    /expected prefix \[107 56 115 0\]/,
  );
});
