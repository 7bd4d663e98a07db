import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../component/index.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { samplePod as pod, specOf } from '../testing/sample-pod.ts';
import { serviceAccountPlugin } from './service-account.ts';

describe('ServiceAccount', () => {
  const setup = () => {
    const objects = new FakeObjects();
    const patience = new ManualClock();
    const plugin = serviceAccountPlugin({ reader: objects, patience, random: () => 0.5 });
    const account = (name: string, more: object = {}) =>
      objects.put('', 'serviceaccounts', { metadata: { name, namespace: 'shop' }, ...more });
    return { objects, patience, plugin, account };
  };

  test('a pod gets the default account, its token volume and its pull secrets', async () => {
    const { plugin, account } = setup();
    account('default', { imagePullSecrets: [{ name: 'hub' }] });
    const { object } = await admitted(plugin, {
      resource: 'pods',
      object: pod({ initContainers: [{ name: 'init' }] }),
    });
    const spec = specOf(object);
    assert.equal(spec.serviceAccountName, 'default');
    assert.equal(spec.serviceAccount, 'default');
    assert.deepEqual(spec.imagePullSecrets, [{ name: 'hub' }]);
    const name = spec.volumes?.[0]?.name ?? '';
    assert.match(name, /^kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.deepEqual(spec.volumes, [
      {
        name,
        projected: {
          defaultMode: 420,
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
            { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
            {
              downwardAPI: {
                items: [
                  { path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } },
                ],
              },
            },
          ],
        },
      },
    ]);
    const mount = { name, readOnly: true, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' };
    assert.deepEqual(spec.containers[0]?.volumeMounts, [mount]);
    assert.deepEqual(spec.initContainers?.[0]?.volumeMounts, [mount]);
    const again = await admitted(plugin, { resource: 'pods', object: object as object });
    assert.deepEqual(again.object, object, 'once is enough');
  });

  test('the pod, then the account, may do without the token', async () => {
    const { plugin, account } = setup();
    account('default', { automountServiceAccountToken: false });
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    assert.equal((await run({})).volumes, undefined);
    assert.equal((await run({ automountServiceAccountToken: true })).volumes?.length, 1);
    account('default');
    assert.equal((await run({ automountServiceAccountToken: false })).volumes, undefined);
    const own = [{ name: 'mine', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }];
    const kept = await run({ containers: [{ name: 'app', volumeMounts: own }] });
    assert.deepEqual(kept.containers[0]?.volumeMounts, own);
    assert.equal(kept.volumes, undefined);
  });

  test('an account that comes a moment later is waited for, a missing one is not for ever', async () => {
    const { objects, patience, plugin, account } = setup();
    const waiting = admitted(plugin, { resource: 'pods', object: pod() });
    while (objects.followers === 0) await new Promise((resolve) => setImmediate(resolve));
    account('default');
    assert.equal(specOf((await waiting).object).serviceAccountName, 'default');

    const refused = assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod({ serviceAccountName: 'nobody' }) }),
      statusError(
        403,
        'pods "web" is forbidden: error looking up service account shop/nobody: serviceaccount "nobody" not found',
      ),
    );
    while (patience.nextDue() === undefined) await new Promise((resolve) => setImmediate(resolve));
    await patience.advance(1001);
    await refused;
    plugin[Symbol.dispose]();
    assert.equal(objects.followers, 0);
  });

  test('mirror pods get nothing and may refer to nothing', async () => {
    const { plugin } = setup();
    const mirror = { annotations: { 'kubernetes.io/config.mirror': 'x' } };
    const { object } = await admitted(plugin, { resource: 'pods', object: pod({}, mirror) });
    assert.equal(specOf(object).serviceAccountName, undefined);
    await assert.rejects(
      admitted(plugin, {
        resource: 'pods',
        object: pod({ volumes: [{ name: 'a', secret: { secretName: 's' } }] }, mirror),
      }),
      statusError(403, /a mirror pod may not reference secrets/),
    );
  });

  test('an account may limit its pods to the secrets that it lists', async () => {
    const { plugin, account } = setup();
    account('default', {
      metadata: {
        name: 'default',
        namespace: 'shop',
        annotations: { 'kubernetes.io/enforce-mountable-secrets': 'true' },
      },
      secrets: [{ name: 'good' }],
    });
    const withSecret = (secretName: string) => pod({ volumes: [{ name: 'a', secret: { secretName } }] });
    await admitted(plugin, { resource: 'pods', object: withSecret('good') });
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: withSecret('bad') }),
      statusError(403, /volume with secret.secretName="bad" is not allowed/),
    );
  });
});
