import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Node, Pod } from '../../api/types/core-v1.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { samplePod as pod, specOf } from '../testing/sample-pod.ts';
import { defaultIngressClassPlugin, defaultStorageClassPlugin } from './default-classes.ts';
import { podTopologyLabelsPlugin } from './pod-topology-labels.ts';
import { priorityPlugin } from './priority.ts';
import { runtimeClassPlugin } from './runtime-class.ts';
import { defaultTolerationSecondsPlugin, taintNodesByConditionPlugin } from './tolerations.ts';

describe('defaults of nodes and pods', () => {
  test('a new node is tainted until it was seen ready', async () => {
    const run = async (object: object) =>
      (await admitted(taintNodesByConditionPlugin, { resource: 'nodes', namespaced: false, object }))
        .object as Node;
    const taint = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };
    assert.deepEqual((await run({ metadata: { name: 'n' } })).spec.taints, [taint]);
    assert.deepEqual((await run({ metadata: { name: 'n' }, spec: { taints: [taint] } })).spec.taints, [
      taint,
    ]);
  });

  test('pods leave a failed node after five minutes unless they say otherwise', async () => {
    const run = async (tolerations: object[]) =>
      specOf(
        (await admitted(defaultTolerationSecondsPlugin, { resource: 'pods', object: pod({ tolerations }) }))
          .object,
      ).tolerations;
    assert.deepEqual(
      (await run([]))?.map(({ key, tolerationSeconds }) => [key, tolerationSeconds]),
      [
        ['node.kubernetes.io/not-ready', 300],
        ['node.kubernetes.io/unreachable', 300],
      ],
    );
    assert.equal((await run([{ operator: 'Exists' }]))?.length, 1);
    assert.equal(
      (await run([{ key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoSchedule' }]))
        ?.length,
      3,
    );
  });

  test('a pod that gets a node gets its zone and region, and keeps its own', async () => {
    const objects = new FakeObjects();
    const zone = 'topology.kubernetes.io/zone';
    const region = 'topology.kubernetes.io/region';
    objects.put('', 'nodes', {
      metadata: { name: 'n1', labels: { [zone]: 'z1', [region]: 'r1', other: 'x' } },
    });
    const plugin = podTopologyLabelsPlugin(objects);
    const labelsOf = async (request: Parameters<typeof admitted>[1]) =>
      ((await admitted(plugin, request)).object as Pod).metadata.labels;
    const bound = { metadata: { name: 'web' }, target: { kind: 'Node', name: 'n1' } };
    assert.deepEqual(await labelsOf({ resource: 'pods', subresource: 'binding', object: bound }), {
      [zone]: 'z1',
      [region]: 'r1',
    });
    const placed = pod({ nodeName: 'n1' }, { labels: { [zone]: 'mine' } });
    assert.deepEqual(await labelsOf({ resource: 'pods', object: placed }), {
      [zone]: 'mine',
      [region]: 'r1',
    });
    assert.equal(await labelsOf({ resource: 'pods', object: pod() }), undefined);
    assert.equal(await labelsOf({ resource: 'pods', object: pod({ nodeName: 'gone' }) }), undefined);
  });

  test('priority comes from the class, the default class, or is 0', async () => {
    const objects = new FakeObjects();
    const plugin = priorityPlugin(objects);
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    assert.equal((await run({})).priority, 0);
    objects.put('scheduling.k8s.io', 'priorityclasses', {
      metadata: { name: 'high' },
      value: 1000,
      preemptionPolicy: 'Never',
    });
    const high = await run({ priorityClassName: 'high' });
    assert.deepEqual([high.priority, high.preemptionPolicy], [1000, 'Never']);
    objects.put('scheduling.k8s.io', 'priorityclasses', {
      metadata: { name: 'usual' },
      value: 10,
      globalDefault: true,
    });
    assert.deepEqual([(await run({})).priority, (await run({})).priorityClassName], [10, 'usual']);
    await assert.rejects(
      run({ priorityClassName: 'x' }),
      statusError(403, /no PriorityClass with name x was found/),
    );
    await assert.rejects(run({ priority: 5 }), statusError(403, /priority admission controller computed 10/));
    await assert.rejects(
      admitted(plugin, {
        group: 'scheduling.k8s.io',
        resource: 'priorityclasses',
        namespaced: false,
        object: { metadata: { name: 'second' }, value: 1, globalDefault: true },
      }),
      statusError(403, /PriorityClass usual is already marked as default/),
    );
    await admitted(plugin, {
      group: 'scheduling.k8s.io',
      resource: 'priorityclasses',
      namespaced: false,
      object: { metadata: { name: 'usual' }, value: 11, globalDefault: true },
      old: { metadata: { name: 'usual' } },
    });
  });

  test('the newest default class wins, and an empty class is a choice', async () => {
    const objects = new FakeObjects();
    const add = (name: string, creationTimestamp: string) =>
      objects.put('storage.k8s.io', 'storageclasses', {
        metadata: {
          name,
          creationTimestamp,
          annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' },
        },
      });
    const plugin = defaultStorageClassPlugin(objects);
    const run = async (spec: object) =>
      (
        (
          await admitted(plugin, {
            resource: 'persistentvolumeclaims',
            object: { metadata: { name: 'c' }, spec },
          })
        ).object as { spec: { storageClassName?: string } }
      ).spec.storageClassName;
    assert.equal(await run({}), undefined);
    add('old', '2026-01-01T00:00:00Z');
    add('new-b', '2026-02-01T00:00:00Z');
    add('new-a', '2026-02-01T00:00:00Z');
    assert.equal(await run({}), 'new-a');
    assert.equal(await run({ storageClassName: '' }), '');
    objects.put('networking.k8s.io', 'ingressclasses', {
      metadata: { name: 'web', annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } },
    });
    const ingress = await admitted(defaultIngressClassPlugin(objects), {
      group: 'networking.k8s.io',
      resource: 'ingresses',
      object: { metadata: { name: 'i' }, spec: {} },
    });
    assert.equal((ingress.object as { spec: { ingressClassName: string } }).spec.ingressClassName, 'web');
  });

  test('a runtime class brings overhead, selector and tolerations', async () => {
    const objects = new FakeObjects();
    const plugin = runtimeClassPlugin(objects);
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    objects.put('node.k8s.io', 'runtimeclasses', {
      metadata: { name: 'sandbox' },
      handler: 'sandbox',
      overhead: { podFixed: { memory: '64Mi' } },
      scheduling: { nodeSelector: { sandbox: 'yes' }, tolerations: [{ key: 's', operator: 'Exists' }] },
    });
    const spec = await run({ runtimeClassName: 'sandbox', nodeSelector: { a: 'b' } });
    assert.deepEqual(spec.overhead, { memory: '64Mi' });
    assert.deepEqual(spec.nodeSelector, { a: 'b', sandbox: 'yes' });
    assert.deepEqual(spec.tolerations, [{ key: 's', operator: 'Exists' }]);
    await run({ runtimeClassName: 'sandbox', overhead: { memory: '67108864' } });
    await assert.rejects(run({ runtimeClassName: 'x' }), statusError(403, /RuntimeClass "x" not found/));
    await assert.rejects(run({ overhead: { cpu: '1' } }), statusError(403, /Overhead set without/));
    await assert.rejects(
      run({ runtimeClassName: 'sandbox', overhead: { cpu: '1' } }),
      statusError(403, /doesn't match/),
    );
    await assert.rejects(
      run({ runtimeClassName: 'sandbox', nodeSelector: { sandbox: 'no' } }),
      statusError(403, /conflict/),
    );
  });
});
