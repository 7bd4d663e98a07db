import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StatusError } from '../../api/index.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { samplePod as pod } from '../testing/sample-pod.ts';
import { namespaceLifecyclePlugin } from './namespace-lifecycle.ts';

describe('NamespaceLifecycle', () => {
  const objects = new FakeObjects();
  const plugin = namespaceLifecyclePlugin(objects);
  objects.put('', 'namespaces', { metadata: { name: 'shop' }, status: { phase: 'Active' } });
  objects.put('', 'namespaces', { metadata: { name: 'gone' }, status: { phase: 'Terminating' } });

  test('nothing is made where there is no namespace, or one that ends', async () => {
    await admitted(plugin, { resource: 'pods', object: pod() });
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod(), namespace: 'none' }),
      statusError(404, 'namespaces "none" not found'),
    );
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod(), namespace: 'gone' }),
      (error) => {
        assert.ok(error instanceof StatusError);
        assert.equal(
          error.message,
          'pods "web" is forbidden: unable to create new content in namespace gone because it is being terminated',
        );
        assert.deepEqual(error.status.details?.causes, [
          {
            reason: 'NamespaceTerminating',
            message: 'namespace gone is being terminated',
            field: 'metadata.namespace',
          },
        ]);
        return true;
      },
    );
    await admitted(plugin, { resource: 'pods', object: pod(), old: pod(), namespace: 'gone' });
    await admitted(plugin, { resource: 'pods', operation: 'DELETE', name: 'web', namespace: 'gone' });
  });

  test('a namespace that only the store knows yet counts', async () => {
    objects.putFreshOnly('', 'namespaces', { metadata: { name: 'new' } });
    await admitted(plugin, { resource: 'pods', object: pod(), namespace: 'new' });
  });

  test('the system namespaces stay', async () => {
    for (const name of ['default', 'kube-system', 'kube-public'])
      await assert.rejects(
        admitted(plugin, { resource: 'namespaces', namespaced: false, operation: 'DELETE', name }),
        statusError(403, `namespaces "${name}" is forbidden: this namespace may not be deleted`),
      );
    await admitted(plugin, { resource: 'namespaces', namespaced: false, operation: 'DELETE', name: 'shop' });
  });
});
