// What goes when something else goes: dependents, namespaces with their contents, and what controllers make again.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ConfigMap } from '../../src/api/types/core-v1.ts';
import type { OwnerReference } from '../../src/api/types/meta-v1.ts';
import { resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

const namespace = 'default';
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated();
});
after(() => sim[Symbol.asyncDispose]());

const configMaps = (where = namespace) => sim.cluster.client.resource(resources.configMaps, where);
const namespaces = () => sim.cluster.client.resource(resources.namespaces);
const owned = (owner: ConfigMap, extra: Partial<OwnerReference> = {}): OwnerReference => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  name: owner.metadata.name,
  uid: owner.metadata.uid,
  ...extra,
});
const make = (name: string, owners: readonly OwnerReference[] = [], finalizers: readonly string[] = []) =>
  configMaps().create({ metadata: { name, ownerReferences: [...owners], finalizers: [...finalizers] } });
const exists = async (name: string): Promise<boolean> =>
  (await configMaps().list({ fieldSelector: `metadata.name=${name}` })).items.length === 1;
const gone = (...names: string[]) =>
  eventually(`${names.join(', ')} gone`, async () => {
    for (const name of names) assert.equal(await exists(name), false, name);
  });
const release = (name: string) =>
  configMaps().patch(name, { type: 'merge', patch: { metadata: { finalizers: null } } });

describe('dependents', () => {
  it('go in the background, level by level', async () => {
    const top = await make('bg-top');
    const middle = await make('bg-middle', [owned(top)]);
    await make('bg-leaf', [owned(middle)]);
    await configMaps().delete('bg-top', { propagationPolicy: 'Background' });
    assert.equal(await exists('bg-top'), false);
    await gone('bg-middle', 'bg-leaf');
  });

  it('go before their owner in the foreground, when they block it', async () => {
    const top = await make('fg-top');
    await make('fg-blocking', [owned(top, { blockOwnerDeletion: true })], ['example.com/hold']);
    await make('fg-other', [owned(top)], ['example.com/hold']);
    await configMaps().delete('fg-top', { propagationPolicy: 'Foreground' });
    await eventually('both are being deleted', async () => {
      for (const name of ['fg-blocking', 'fg-other'])
        assert.ok((await configMaps().get(name)).metadata.deletionTimestamp, name);
    });
    assert.deepEqual((await configMaps().get('fg-top')).metadata.finalizers, ['foregroundDeletion']);
    await release('fg-blocking');
    await gone('fg-blocking', 'fg-top');
    assert.equal(await exists('fg-other'), true);
    await release('fg-other');
    await gone('fg-other');
  });

  it('stay, without their owner, when they are orphaned', async () => {
    const top = await make('or-top');
    const other = await make('or-other');
    await make('or-leaf', [owned(top), owned(other)]);
    await configMaps().delete('or-top', { propagationPolicy: 'Orphan' });
    await gone('or-top');
    assert.deepEqual(
      (await configMaps().get('or-leaf')).metadata.ownerReferences?.map(({ name }) => name),
      ['or-other'],
    );
  });

  it('stay as long as one owner is left', async () => {
    const one = await make('two-one');
    const two = await make('two-two');
    await make('two-leaf', [owned(one), owned(two)]);
    await configMaps().delete('two-one');
    await eventually('one owner', async () =>
      assert.deepEqual(
        (await configMaps().get('two-leaf')).metadata.ownerReferences?.map(({ name }) => name),
        ['two-two'],
      ),
    );
    await configMaps().delete('two-two');
    await gone('two-leaf');
  });

  it('of an owner that never was, or is another by now, go too', async () => {
    const made = await make('same-name');
    await configMaps().delete('same-name', { propagationPolicy: 'Orphan' });
    await gone('same-name');
    await make('same-name');
    await make('of-the-old', [owned(made)]);
    await gone('of-the-old');
    assert.equal(await exists('same-name'), true);
    await sim.cluster.client.resource(resources.namespaces).create({ metadata: { name: 'elsewhere' } });
    await configMaps('elsewhere').create({
      metadata: { name: 'far', ownerReferences: [owned(await configMaps().get('same-name'))] },
    });
    await eventually('an owner in another namespace is none', async () =>
      assert.deepEqual(
        (await configMaps('elsewhere').list({ fieldSelector: 'metadata.name=far' })).items,
        [],
      ),
    );
  });

  it('in a circle go together', async () => {
    const a = await make('circle-a');
    const b = await make('circle-b', [owned(a)]);
    await configMaps().patch('circle-a', {
      type: 'merge',
      patch: { metadata: { ownerReferences: [owned(b, { blockOwnerDeletion: true })] } },
    });
    await configMaps().delete('circle-a', { propagationPolicy: 'Foreground' });
    await gone('circle-a', 'circle-b');
  });
});

describe('a namespace', () => {
  it('takes all its contents along, of every kind', async () => {
    await namespaces().create({ metadata: { name: 'full' } });
    for (const command of [
      'create deployment web --image=nginx --replicas=3',
      'create secret generic s --from-literal=a=b',
      'create role r --verb=get --resource=pods',
      'create rolebinding rb --role=r --user=jane',
      'create service clusterip svc --tcp=80',
      'create job once --image=busybox',
    ])
      await sim.kubectl('-n', 'full', ...command.split(' '));
    await sim.kubectl('-n', 'full', 'rollout', 'status', 'deployment/web', '--timeout=20s');
    await sim.kubectl('delete', 'namespace', 'full', '--timeout=30s');
    for (const path of [
      '/api/v1/pods',
      '/api/v1/services',
      '/apis/apps/v1/replicasets',
      '/apis/batch/v1/jobs',
      '/apis/rbac.authorization.k8s.io/v1/rolebindings',
      '/api/v1/events',
    ]) {
      const { items } = (await sim.http.call({ path })).json<{
        items: { metadata: { namespace: string } }[];
      }>();
      assert.deepEqual(
        items.filter(({ metadata }) => metadata.namespace === 'full'),
        [],
        path,
      );
    }
  });

  it('waits for finalizers of its contents, takes nothing new, and says what it waits for', async () => {
    await namespaces().create({ metadata: { name: 'held' } });
    await configMaps('held').create({ metadata: { name: 'keep', finalizers: ['example.com/hold'] } });
    await namespaces().delete('held');
    await eventually('the condition', async () => {
      const { status } = await namespaces().get('held');
      assert.equal(status?.phase, 'Terminating');
      const remaining = status?.conditions?.find(({ type }) => type === 'NamespaceFinalizersRemaining');
      assert.equal(remaining?.status, 'True');
      assert.equal(
        remaining?.message,
        'Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances',
      );
    });
    await assert.rejects(configMaps('held').create({ metadata: { name: 'more' } }), {
      message:
        /configmaps "more" is forbidden: unable to create new content in namespace held because it is being terminated/,
    });
    await configMaps('held').patch('keep', { type: 'merge', patch: { metadata: { finalizers: null } } });
    await eventually('it is gone', () =>
      assert.rejects(namespaces().get('held'), { message: /namespaces "held" not found/ }),
    );
    await namespaces().create({ metadata: { name: 'held' } });
  });

  it('of the system cannot be deleted', async () => {
    for (const name of ['default', 'kube-system', 'kube-public'])
      await assert.rejects(namespaces().delete(name), {
        message: new RegExp(`namespaces "${name}" is forbidden: this namespace may not be deleted`),
      });
  });

  it('has a service account and the certificate authority, again and again', async () => {
    await namespaces().create({ metadata: { name: 'fresh' } });
    const accounts = sim.cluster.client.resource(resources.serviceAccounts, 'fresh');
    const both = () =>
      eventually('both', async () => {
        const account = await accounts.get('default');
        const authority = await configMaps('fresh').get('kube-root-ca.crt');
        assert.match(authority.data?.['ca.crt'] ?? '', /^-----BEGIN CERTIFICATE-----/);
        return account.metadata.uid;
      });
    const first = await both();
    await accounts.delete('default');
    await configMaps('fresh').delete('kube-root-ca.crt');
    assert.notEqual(await both(), first);
    await configMaps('fresh').patch('kube-root-ca.crt', {
      type: 'merge',
      patch: { data: { 'ca.crt': 'mine' } },
    });
    await both();
  });
});
