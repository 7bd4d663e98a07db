import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Pod } from '../../api/types/core-v1.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { samplePod as pod, specOf } from '../testing/sample-pod.ts';
import { limitRangerPlugin } from './limit-ranger.ts';

describe('LimitRanger', () => {
  const setup = (...limits: object[]) => {
    const objects = new FakeObjects();
    objects.put('', 'limitranges', { metadata: { name: 'l', namespace: 'shop' }, spec: { limits } });
    const plugin = limitRangerPlugin(objects);
    return (resources: object, more: object = {}) =>
      admitted(plugin, {
        resource: 'pods',
        object: pod({ containers: [{ name: 'app', resources }], ...more }),
      });
  };

  test('defaults are filled in and noted', async () => {
    const run = setup({
      type: 'Container',
      default: { cpu: '1', memory: '1Gi' },
      defaultRequest: { cpu: '100m' },
    });
    const { object } = await run({ limits: { memory: '2Gi' } });
    assert.deepEqual(specOf(object).containers[0]?.resources, {
      limits: { memory: '2Gi', cpu: '1' },
      requests: { cpu: '100m' },
    });
    assert.equal(
      (object as Pod).metadata.annotations?.['kubernetes.io/limit-ranger'],
      'LimitRanger plugin set: cpu request for container app; cpu limit for container app',
    );
  });

  test('minimum, maximum and ratio of containers and pods', async () => {
    const run = setup(
      { type: 'Container', min: { cpu: '100m' }, max: { cpu: '1' }, maxLimitRequestRatio: { cpu: '4' } },
      { type: 'Pod', max: { cpu: '1500m' } },
    );
    await run({ requests: { cpu: '250m' }, limits: { cpu: '1' } });
    await assert.rejects(
      run({ requests: { cpu: '50m' }, limits: { cpu: '100m' } }),
      statusError(
        403,
        'pods "web" is forbidden: minimum cpu usage per Container is 100m, but request is 50m',
      ),
    );
    await assert.rejects(
      run({ requests: { cpu: '1' }, limits: { cpu: '2' } }),
      statusError(
        403,
        'pods "web" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1500m, but limit is 2]',
      ),
    );
    await assert.rejects(
      run({ requests: { cpu: '100m' }, limits: { cpu: '500m' } }),
      statusError(403, /cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000/),
    );
    await assert.rejects(
      run({}),
      statusError(403, /minimum cpu usage per Container is 100m\. {2}No request is specified/),
    );
  });

  test('claims are held to their size', async () => {
    const objects = new FakeObjects();
    objects.put('', 'limitranges', {
      metadata: { name: 'l', namespace: 'shop' },
      spec: {
        limits: [{ type: 'PersistentVolumeClaim', min: { storage: '1Gi' }, max: { storage: '10Gi' } }],
      },
    });
    const run = (storage: string) =>
      admitted(limitRangerPlugin(objects), {
        resource: 'persistentvolumeclaims',
        object: { metadata: { name: 'c' }, spec: { resources: { requests: { storage } } } },
      });
    await run('5Gi');
    await assert.rejects(
      run('20Gi'),
      statusError(403, /maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi/),
    );
    await assert.rejects(run('1Mi'), statusError(403, /minimum storage usage/));
  });
});
