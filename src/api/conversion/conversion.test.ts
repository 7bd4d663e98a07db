import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCatalog } from '../catalog.ts';
import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { decodeValue } from '../schema/decode.ts';
import { randomSource } from '../schema/testing/random.ts';

const catalog = createCatalog();
const eventsV1 = catalog.byResource('events.k8s.io', 'v1', 'events')!;
const coreEvents = catalog.byResource('', 'v1', 'events')!;
const hpaV1 = catalog.byResource('autoscaling', 'v1', 'horizontalpodautoscalers')!;
const hpaV2 = catalog.byResource('autoscaling', 'v2', 'horizontalpodautoscalers')!;

function normal(definition: ResourceDefinition, value: unknown): MutableObject {
  return decodeValue(definition, value, { fieldValidation: 'Strict' }).object;
}

test('an event of either group comes back as it went', () => {
  const random = randomSource(7);
  for (let i = 0; i < 300; i++) {
    for (const definition of [eventsV1, coreEvents]) {
      const value = random.objectOf(definition.schema, 4);
      const object = normal(definition, {
        ...value,
        kind: 'Event',
        apiVersion: undefined,
        metadata: { name: 'a' },
      });
      const stored = definition === eventsV1 ? eventsV1.conversion!.toStorage(object) : object;
      assert.deepEqual(normal(coreEvents, stored), stored);
      const served = eventsV1.conversion!.fromStorage(stored);
      assert.deepEqual(normal(eventsV1, served), served);
      if (definition === eventsV1) assert.deepEqual(served, object);
      else assert.deepEqual(eventsV1.conversion!.toStorage(served), object);
    }
  }
});

test('an autoscaler of version 1 becomes one of version 2 with a CPU target', () => {
  const stored = hpaV1.conversion!.toStorage(
    normal(hpaV1, {
      metadata: { name: 'a' },
      spec: {
        scaleTargetRef: { kind: 'Deployment', name: 'web', apiVersion: 'apps/v1' },
        maxReplicas: 5,
        targetCPUUtilizationPercentage: 60,
      },
    }),
  );
  assert.deepEqual(stored, {
    kind: 'HorizontalPodAutoscaler',
    apiVersion: 'autoscaling/v2',
    metadata: { name: 'a' },
    spec: {
      scaleTargetRef: { kind: 'Deployment', name: 'web', apiVersion: 'apps/v1' },
      minReplicas: 1,
      maxReplicas: 5,
      metrics: [
        {
          type: 'Resource',
          resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 60 } },
        },
      ],
    },
    status: { desiredReplicas: 0, currentMetrics: [] },
  });
});

test('an autoscaler without a target gets 80 % of the CPU, which version 1 shows too', () => {
  const stored = hpaV1.conversion!.toStorage(
    normal(hpaV1, {
      metadata: { name: 'a' },
      spec: { scaleTargetRef: { kind: 'D', name: 'w' }, maxReplicas: 2 },
    }),
  );
  const spec = hpaV1.conversion!.fromStorage(stored)['spec'] as Record<string, unknown>;
  assert.equal(spec['targetCPUUtilizationPercentage'], 80);
});

const QUANTITY = '100m';
const full = {
  metadata: { name: 'a', annotations: { mine: 'yes' } },
  spec: {
    scaleTargetRef: { kind: 'Deployment', name: 'web' },
    minReplicas: 2,
    maxReplicas: 9,
    metrics: [
      {
        type: 'Resource',
        resource: { name: 'memory', target: { type: 'AverageValue', averageValue: '1Gi' } },
      },
      {
        type: 'ContainerResource',
        containerResource: {
          name: 'cpu',
          container: 'c',
          target: { type: 'Utilization', averageUtilization: 50 },
        },
      },
      {
        type: 'Pods',
        pods: {
          metric: { name: 'qps', selector: { matchLabels: { a: 'b' } } },
          target: { type: 'AverageValue', averageValue: QUANTITY },
        },
      },
      {
        type: 'Object',
        object: {
          describedObject: { kind: 'Ingress', name: 'i' },
          metric: { name: 'rps' },
          target: { type: 'Value', value: '3' },
        },
      },
      {
        type: 'External',
        external: { metric: { name: 'queue' }, target: { type: 'AverageValue', averageValue: '7' } },
      },
      {
        type: 'Resource',
        resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } },
      },
    ],
    behavior: { scaleDown: { stabilizationWindowSeconds: 60 } },
  },
  status: {
    desiredReplicas: 3,
    currentReplicas: 3,
    currentMetrics: [
      {
        type: 'Resource',
        resource: { name: 'cpu', current: { averageValue: QUANTITY, averageUtilization: 20 } },
      },
      { type: 'External', external: { metric: { name: 'queue' }, current: { value: '5' } } },
    ],
    conditions: [{ type: 'AbleToScale', status: 'True', lastTransitionTime: '2024-01-01T00:00:00Z' }],
  },
};

test('a version 1 client that writes back what it read loses nothing of version 2', () => {
  const stored = normal(hpaV2, full);
  const v1 = hpaV1.conversion!.fromStorage(structuredClone(stored));
  assert.deepEqual(normal(hpaV1, v1), v1);
  assert.equal((v1['spec'] as Record<string, unknown>)['targetCPUUtilizationPercentage'], 70);
  assert.equal((v1['status'] as Record<string, unknown>)['currentCPUUtilizationPercentage'], 20);
  assert.equal(v1.metadata.annotations?.['mine'], 'yes');
  const metrics = JSON.parse(v1.metadata.annotations!['autoscaling.alpha.kubernetes.io/metrics']!);
  assert.deepEqual(metrics[0], { type: 'Resource', resource: { name: 'memory', targetAverageValue: '1Gi' } });
  assert.deepEqual(hpaV1.conversion!.toStorage(v1), stored);
});

test('annotations that do not fit are ignored, as upstream ignores them', () => {
  for (const text of ['{', '[1]', '[{"type":5}]', '[{"type":"Resource","resource":{"name":7}}]', '"x"']) {
    const stored = hpaV1.conversion!.toStorage(
      normal(hpaV1, {
        metadata: {
          name: 'a',
          annotations: Object.fromEntries(
            ['metrics', 'current-metrics', 'conditions', 'behavior'].map((n) => [
              `autoscaling.alpha.kubernetes.io/${n}`,
              text,
            ]),
          ),
        },
        spec: {
          scaleTargetRef: { kind: 'D', name: 'w' },
          maxReplicas: 2,
          targetCPUUtilizationPercentage: 10,
        },
      }),
    );
    assert.deepEqual(normal(hpaV2, stored), stored, text);
    assert.equal(stored.metadata.annotations, undefined, text);
  }
});
