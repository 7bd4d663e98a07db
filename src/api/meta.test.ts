import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  controllerOf,
  controllerReference,
  isPodAvailable,
  isPodReady,
  microTimestamp,
  podQos,
  sameOwner,
  timestamp,
  withCondition,
  withoutCondition,
} from './meta.ts';

test('times are written as metav1.Time and MicroTime', () => {
  assert.equal(timestamp(Date.UTC(2026, 0, 2, 3, 4, 5, 999)), '2026-01-02T03:04:05Z');
  assert.equal(microTimestamp(Date.UTC(2026, 0, 2, 3, 4, 5, 7)), '2026-01-02T03:04:05.007000Z');
});

test('a condition moves its transition time only when its status changes', () => {
  const now = Date.UTC(2026, 0, 1);
  const first = withCondition(undefined, { type: 'Ready', status: 'False', reason: 'A' }, now);
  assert.equal(first[0]?.lastTransitionTime, timestamp(now));
  const same = withCondition(first, { type: 'Ready', status: 'False', reason: 'A' }, now + 5_000);
  assert.equal(same, first);
  const reworded = withCondition(first, { type: 'Ready', status: 'False', reason: 'B' }, now + 5_000);
  assert.equal(reworded[0]?.lastTransitionTime, timestamp(now));
  assert.equal(reworded[0]?.reason, 'B');
  const turned = withCondition(reworded, { type: 'Ready', status: 'True' }, now + 5_000);
  assert.equal(turned[0]?.lastTransitionTime, timestamp(now + 5_000));
  assert.equal(first[0]?.status, 'False');
  assert.deepEqual(withoutCondition(turned, 'Ready'), []);
  assert.equal(withoutCondition(turned, 'Other'), turned);
});

test('a pod is available once it has been ready long enough', () => {
  const now = Date.UTC(2026, 0, 1);
  const pod = {
    status: { conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: timestamp(now - 10_000) }] },
  };
  assert.equal(isPodReady(pod), true);
  assert.equal(isPodAvailable(pod, 0, now), true);
  assert.equal(isPodAvailable(pod, 10, now), true);
  assert.equal(isPodAvailable(pod, 11, now), false);
  assert.equal(isPodAvailable({ status: {} }, 0, now), false);
});

test('the controller is the owner that is marked as such', () => {
  const owner = { metadata: { name: 'web', uid: 'u1' } };
  const reference = controllerReference(owner, { apiVersion: 'apps/v1', kind: 'ReplicaSet' });
  const plain = { apiVersion: 'v1', kind: 'Node', name: 'n', uid: 'u2' };
  assert.equal(controllerOf({ metadata: { ownerReferences: [plain, reference] } }), reference);
  assert.equal(controllerOf({ metadata: { ownerReferences: [plain] } }), undefined);
  assert.equal(sameOwner(reference, { ...reference, apiVersion: 'apps/v1beta1' }), true);
  assert.equal(sameOwner(reference, { ...reference, uid: 'u3' }), false);
});

test('quality of service follows requests and limits', () => {
  const pod = (...resources: object[]) =>
    podQos({ containers: resources.map((one, i) => ({ name: `c${i}`, image: 'i', resources: one })) });
  const full = { requests: { cpu: '100m', memory: '1Gi' }, limits: { cpu: '0.1', memory: '1024Mi' } };
  assert.equal(pod({}), 'BestEffort');
  assert.equal(pod({ requests: { cpu: '0' } }), 'BestEffort');
  assert.equal(pod({ requests: { 'example.com/gpu': '1' } }), 'BestEffort');
  assert.equal(pod(full), 'Guaranteed');
  assert.equal(pod(full, full), 'Guaranteed');
  assert.equal(pod(full, {}), 'Burstable');
  assert.equal(pod({ requests: { cpu: '1' } }), 'Burstable');
  assert.equal(pod({ limits: { cpu: '1' } }), 'Burstable');
  assert.equal(pod({ ...full, requests: { cpu: '50m', memory: '1Gi' } }), 'Burstable');
  assert.equal(
    podQos({ containers: [{ name: 'c', image: 'i', resources: {} }], resources: full }),
    'Guaranteed',
  );
});
