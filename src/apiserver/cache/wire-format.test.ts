import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCatalog } from '../../api/catalog.ts';
import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { encodeForStorage } from '../../api/schema/encode.ts';
import { Change } from './event-ring.ts';
import { StoredObject, storageForm, storageKey } from './stored-object.ts';
import { WireFormat } from './wire-format.ts';

const catalog = createCatalog();

function stored(
  definition: ResourceDefinition,
  name: string,
  revision: number,
  rest: object = {},
): StoredObject {
  const form = storageForm(definition);
  const object = {
    kind: definition.kind,
    apiVersion: form.apiVersion,
    metadata: { name, namespace: 'n', uid: 'u' },
    ...rest,
  } as MutableObject;
  return new StoredObject(form, storageKey(form, 'n', name), encodeForStorage(definition, object), revision);
}

function formatOf(group: string, version: string, resource: string): WireFormat {
  const definition = catalog.byResource(group, version, resource)!;
  return new WireFormat(definition, storageForm(definition));
}

const text = (pieces: readonly Uint8Array[]): string => Buffer.concat(pieces).toString();

test('an object goes out with its kind, its version and its revision', () => {
  const format = formatOf('apps', 'v1', 'deployments');
  const object = stored(format.definition, 'web', 42, { spec: { replicas: 3 } });
  assert.equal(
    format.encode(object).toString(),
    '{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"resourceVersion":"42","name":"web","namespace":"n","uid":"u"},"spec":{"replicas":3}}',
  );
});

test('lists of any length are exactly their items, joined', () => {
  const format = formatOf('', 'v1', 'configmaps');
  let state = 5;
  const random = (): number => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  for (const length of [0, 1, 2, 3, 50]) {
    const objects = Array.from({ length }, (_, i) =>
      stored(format.definition, `m${i}`, 1 + Math.floor(random() * 10 ** Math.floor(random() * 12)), {
        data: { text: 'ü'.repeat(Math.floor(random() * 30)) },
      }),
    );
    const meta = { resourceVersion: '77', continue: 'c"', remainingItemCount: 3 };
    const list = JSON.parse(text(format.encodeList(objects, meta))) as { items: unknown[] };
    assert.deepEqual(list, {
      kind: 'ConfigMapList',
      apiVersion: 'v1',
      metadata: meta,
      items: objects.map((object) => {
        const { kind: _kind, apiVersion: _apiVersion, ...item } = object.object;
        return item;
      }),
    });
  }
});

test('the same array of objects is encoded once', () => {
  const format = formatOf('', 'v1', 'configmaps');
  const objects = [stored(format.definition, 'a', 1)];
  const [, first] = format.encodeList(objects, { resourceVersion: '1' });
  const [head, second] = format.encodeList(objects, { resourceVersion: '2' });
  assert.equal(first, second);
  assert.match(head.toString(), /"resourceVersion":"2"/);
});

test('an object in a version of another shape is converted, as an object, in lists and in events', () => {
  const v2 = formatOf('autoscaling', 'v2', 'horizontalpodautoscalers');
  const v1 = formatOf('autoscaling', 'v1', 'horizontalpodautoscalers');
  const object = stored(v2.definition, 'h', 9, {
    spec: {
      maxReplicas: 2,
      scaleTargetRef: { kind: 'Deployment', name: 'web' },
      metrics: [
        {
          type: 'Resource',
          resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } },
        },
      ],
    },
    status: {},
  });
  const converted = JSON.parse(v1.encode(object).toString()) as Record<string, Record<string, unknown>>;
  assert.equal(converted['apiVersion'], 'autoscaling/v1');
  assert.equal(converted['spec']!['targetCPUUtilizationPercentage'], 50);
  assert.equal(converted['metadata']!['resourceVersion'], '9');
  const list = JSON.parse(text(v1.encodeList([object], { resourceVersion: '9' }))) as {
    items: (typeof converted)[];
  };
  assert.equal(list.items[0]!['spec']!['targetCPUUtilizationPercentage'], 50);
  const event = JSON.parse(v1.encodeEvent('ADDED', object, undefined).toString()) as {
    object: typeof converted;
  };
  assert.equal(event.object['spec']!['targetCPUUtilizationPercentage'], 50);
  // What is stored stays as it is.
  assert.equal(object.object.apiVersion, 'autoscaling/v2');
});

test('the bytes of an event are made once for all watchers of a change', () => {
  const format = formatOf('', 'v1', 'configmaps');
  const before = stored(format.definition, 'a', 3, { data: { k: '1' } });
  const after = stored(format.definition, 'a', 4, { data: { k: '2' } });
  const change = new Change('MODIFIED', 4, 0, after, before);
  const one = format.encodeEvent('MODIFIED', after, change);
  assert.equal(format.encodeEvent('MODIFIED', after, change), one);
  assert.equal(one.at(-1), 0x0a);
  const gone = JSON.parse(format.encodeEvent('DELETED', change.gone!, change).toString()) as {
    type: string;
    object: { metadata: { resourceVersion: string }; data: object };
  };
  assert.equal(gone.type, 'DELETED');
  assert.equal(gone.object.metadata.resourceVersion, '4');
  assert.deepEqual(gone.object.data, { k: '1' });
});
