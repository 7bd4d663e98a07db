import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timestamp } from '../api/index.ts';
import { createClient, resources } from '../client/index.ts';
import { FakeApi } from '../client/testing/fake-api.ts';
import { startControllers } from './controllers.ts';
import { startTestCluster } from './testing/cluster.ts';

test('a finished Job is deleted when its time to live has passed, and not before', async () => {
  await using cluster = await startTestCluster(['ttl-after-finished-controller']);
  const jobs = cluster.client.resource(resources.jobs, 'default');
  const job = await jobs.create({
    metadata: { name: 'j' },
    spec: { ttlSecondsAfterFinished: 60, template: {} },
  });
  await cluster.advance(120_000);
  const time = timestamp(cluster.clock.now());
  await jobs.updateStatus({
    ...job,
    status: { conditions: [{ type: 'Complete', status: 'True', lastTransitionTime: time }] },
  });
  await cluster.advance(59_000);
  assert.equal((await jobs.get('j')).metadata.deletionTimestamp, undefined);
  await cluster.advance(2000);
  const after = await jobs.get('j');
  assert.notEqual(after.metadata.deletionTimestamp, undefined);
  assert.deepEqual(after.metadata.finalizers, ['foregroundDeletion']);
});

test('an aggregated ClusterRole gathers the rules of those that its selectors match', async () => {
  await using cluster = await startTestCluster(['clusterrole-aggregation-controller']);
  const roles = cluster.client.resource(resources.clusterRoles);
  const rule = (resource: string) => ({ verbs: ['get'], apiGroups: [''], resources: [resource] });
  await roles.create({
    metadata: { name: 'view' },
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { 'aggregate-to-view': 'true' } }] },
  });
  const add = (name: string, resource: string) =>
    roles.create({ metadata: { name, labels: { 'aggregate-to-view': 'true' } }, rules: [rule(resource)] });
  await add('b', 'pods');
  await add('a', 'services');
  await add('c', 'pods');
  await roles.create({ metadata: { name: 'other' }, rules: [rule('secrets')] });
  await cluster.settle();
  assert.deepEqual((await roles.get('view')).rules, [rule('services'), rule('pods')]);
  await roles.delete('a');
  await cluster.settle();
  assert.deepEqual((await roles.get('view')).rules, [rule('pods')]);
});

test('controllers are chosen by name, and a name that does not exist is refused', async () => {
  await using client = createClient(new FakeApi());
  await using some = await startControllers({ client, enable: ['*', '-job-controller'] });
  assert.ok(!some.names.includes('job-controller'));
  assert.ok(some.names.includes('deployment-controller'));
  await some.ready;
  await assert.rejects(
    startControllers({ client, enable: ['no-such'] }),
    /no controller "no-such"; the controllers are/,
  );
});

test('controllers that are stopped leave no watch behind', async () => {
  const api = new FakeApi();
  await using client = createClient(api);
  const controllers = await startControllers({ client, settings: { rootCa: 'PEM' } });
  await controllers.ready;
  assert.ok(api.openWatches > 20);
  await controllers[Symbol.asyncDispose]();
  assert.equal(api.openWatches, 0);
});
