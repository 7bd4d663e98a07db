import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { samplePod as pod } from '../testing/sample-pod.ts';
import { nodeRestrictionPlugin } from './node-restriction.ts';

describe('NodeRestriction', () => {
  const node = { name: 'system:node:n1', groups: ['system:nodes'] };
  const setup = () => {
    const objects = new FakeObjects();
    const plugin = nodeRestrictionPlugin(objects);
    const on = (name: string, nodeName: string) =>
      objects.put('', 'pods', {
        metadata: { name, namespace: 'shop', uid: `uid-${name}` },
        spec: { nodeName },
      });
    return { plugin, on };
  };
  const mirror = { annotations: { 'kubernetes.io/config.mirror': 'x' } };

  test('a node makes only mirror pods on itself, and deletes only its own', async () => {
    const { plugin, on } = setup();
    const create = (object: object) => admitted(plugin, { resource: 'pods', object, user: node });
    await create(pod({ nodeName: 'n1' }, mirror));
    await assert.rejects(create(pod({ nodeName: 'n1' })), statusError(403, /can only create mirror pods/));
    await assert.rejects(
      create(pod({ nodeName: 'n2' }, mirror)),
      statusError(403, /spec.nodeName set to itself/),
    );
    await assert.rejects(
      create(pod({ nodeName: 'n1', volumes: [{ name: 'a', secret: { secretName: 's' } }] }, mirror)),
      statusError(403, /can not create pods that reference secrets/),
    );
    on('mine', 'n1');
    on('other', 'n2');
    const remove = (name: string) =>
      admitted(plugin, { resource: 'pods', operation: 'DELETE', name, user: node });
    await remove('mine');
    await assert.rejects(
      remove('other'),
      statusError(403, /can only delete pods with spec.nodeName set to itself/),
    );
    await admitted(plugin, { resource: 'pods', object: pod() });
  });

  test('a node reports the status of its pods and leaves their labels alone', async () => {
    const { plugin } = setup();
    const status = (nodeName: string, labels: object) =>
      admitted(plugin, {
        resource: 'pods',
        subresource: 'status',
        user: node,
        object: pod({ nodeName }, { labels }),
        old: pod({ nodeName }, { labels: { a: 'b' } }),
      });
    await status('n1', { a: 'b' });
    await assert.rejects(status('n2', { a: 'b' }), statusError(403, /can only update pod status/));
    await assert.rejects(
      status('n1', { a: 'c' }),
      statusError(403, /cannot update labels through pod status/),
    );
  });

  test('a node changes itself, but not its taints and not the labels that others steer by', async () => {
    const { plugin } = setup();
    const write = (metadata: object, old?: object, spec: object = {}) =>
      admitted(plugin, {
        resource: 'nodes',
        namespaced: false,
        user: node,
        object: { metadata: { name: 'n1', ...metadata }, spec },
        ...(old && { old }),
      });
    const old = { metadata: { name: 'n1', labels: {} }, spec: {} };
    await write({ labels: { 'kubernetes.io/hostname': 'n1', 'kubelet.kubernetes.io/x': 'y', mine: 'z' } });
    await assert.rejects(write({ name: 'n2' }), statusError(403, /not allowed to modify node "n2"/));
    await assert.rejects(
      write({ labels: { 'node-restriction.kubernetes.io/team': 'a' } }, old),
      statusError(403, /not allowed to modify labels: node-restriction.kubernetes.io\/team/),
    );
    await assert.rejects(
      write({ labels: { 'node-role.kubernetes.io/master': '' } }),
      statusError(403, /not allowed to set the following labels/),
    );
    await assert.rejects(
      write({}, old, { taints: [{ key: 'a', effect: 'NoSchedule' }] }),
      statusError(403, /not allowed to modify taints/),
    );
  });

  test('leases and tokens: its own, and for the pods it runs', async () => {
    const { plugin, on } = setup();
    const lease = (name: string, namespace = 'kube-node-lease') =>
      admitted(plugin, {
        group: 'coordination.k8s.io',
        resource: 'leases',
        namespace,
        object: { metadata: { name } },
        user: node,
      });
    await lease('n1');
    await assert.rejects(lease('n2'), statusError(403, /same name as the requesting node/));
    await assert.rejects(lease('n1', 'shop'), statusError(403, /"kube-node-lease" system namespace/));
    on('mine', 'n1');
    on('other', 'n2');
    const token = (ref: object | undefined) =>
      admitted(plugin, {
        resource: 'serviceaccounts',
        subresource: 'token',
        name: 'robot',
        user: node,
        object: { metadata: {}, spec: { ...(ref && { boundObjectRef: ref }) } },
      });
    const bound = (name: string, uid: string) => ({ kind: 'Pod', apiVersion: 'v1', name, uid });
    await token(bound('mine', 'uid-mine'));
    await assert.rejects(token(undefined), statusError(403, /token not bound to a pod/));
    await assert.rejects(token(bound('other', 'uid-other')), statusError(403, /different node/));
    await assert.rejects(token(bound('mine', 'uid-x')), statusError(403, /deleted and then recreated/));
    await assert.rejects(token(bound('mine', '')), statusError(403, /without a uid/));
  });
});
