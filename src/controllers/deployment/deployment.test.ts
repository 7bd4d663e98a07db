import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Draft, findCondition } from '../../api/index.ts';
import type { Deployment, ReplicaSet } from '../../api/types/apps-v1.ts';
import { resources } from '../../client/index.ts';
import { templateHash } from '../pods/template-hash.ts';
import { startTestCluster } from '../testing/cluster.ts';
import { byRevision, replicasOf, revisionOf } from './replica-sets.ts';

const web = (replicas: number, more: Partial<Deployment['spec']> = {}): Draft<Deployment> => ({
  metadata: { name: 'web', annotations: { note: 'mine' } },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'c', image: 'v1' }] },
    },
    strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' } },
    revisionHistoryLimit: 10,
    progressDeadlineSeconds: 600,
    ...more,
  },
});

async function setup(draft: Draft<Deployment>) {
  const cluster = await startTestCluster(['replicaset-controller', 'deployment-controller']);
  const deployments = cluster.client.resource(resources.deployments, 'default');
  await deployments.create(draft);
  await cluster.settle();
  const get = () => deployments.get('web');
  const change = async (edit: (spec: Deployment['spec']) => Deployment['spec']) => {
    const current = await get();
    await deployments.update({ ...current, spec: edit(current.spec) });
    await cluster.settle();
  };
  const image = (name: string) =>
    change((spec) => ({
      ...spec,
      template: { ...spec.template, spec: { containers: [{ name: 'c', image: name }] } },
    }));
  const sets = async (): Promise<ReplicaSet[]> =>
    (await cluster.client.resource(resources.replicaSets, 'default').list()).items.toSorted(byRevision);
  const sizes = async () =>
    Object.fromEntries(
      (await sets()).map((set) => [set.spec.template?.spec?.containers[0]?.image, replicasOf(set)]),
    );
  const condition = async (type: string) => {
    const { status, reason, message } = findCondition((await get()).status?.conditions, type) ?? {};
    return status && `${status} ${reason}: ${message}`;
  };
  return { cluster, deployments, get, change, image, sets, sizes, condition };
}

test('a Deployment makes a ReplicaSet and reports it available', async () => {
  const { cluster, get, sets, condition } = await setup(web(3));
  await using _ = cluster;
  const [set] = await sets();
  const { template } = (await get()).spec;
  const hash = templateHash(template, undefined);
  assert.equal(set?.metadata.name, `web-${hash}`);
  assert.deepEqual(set?.spec.selector.matchLabels, { app: 'web', 'pod-template-hash': hash });
  assert.deepEqual(set?.metadata.annotations, {
    note: 'mine',
    'deployment.kubernetes.io/revision': '1',
    'deployment.kubernetes.io/desired-replicas': '3',
    'deployment.kubernetes.io/max-replicas': '4',
  });
  const deployment = await get();
  assert.equal(deployment.metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
  const { conditions, ...counts } = deployment.status ?? {};
  assert.deepEqual(counts, {
    observedGeneration: 1,
    replicas: 3,
    updatedReplicas: 3,
    readyReplicas: 3,
    availableReplicas: 3,
    unavailableReplicas: 0,
    terminatingReplicas: 0,
  });
  assert.equal(conditions?.length, 2);
  assert.equal(
    await condition('Available'),
    'True MinimumReplicasAvailable: Deployment has minimum availability.',
  );
  assert.equal(
    await condition('Progressing'),
    `True NewReplicaSetAvailable: ReplicaSet "web-${hash}" has successfully progressed.`,
  );
  assert.deepEqual(await cluster.events('web'), [
    `ScalingReplicaSet: Scaled up replica set web-${hash} from 0 to 3`,
  ]);
});

test('a new template rolls out within surge and unavailability', async () => {
  const { cluster, image, sizes, get } = await setup(web(4));
  await using _ = cluster;
  let most = 0;
  let least = Number.POSITIVE_INFINITY;
  const { informers } = cluster.client;
  await using sets = informers.informer(resources.replicaSets);
  await using pods = informers.informer(resources.pods);
  // What the Deployment asks for at once; a ReplicaSet that is to shrink still has its pods for a moment.
  const measureSets = () => {
    most = Math.max(
      most,
      sets.lister.list().reduce((sum, set) => sum + (set.spec.replicas ?? 0), 0),
    );
  };
  const measurePods = () => {
    const ready = pods.lister.list().filter((p) => p.status?.conditions?.[0]?.status === 'True');
    least = Math.min(least, ready.length);
  };
  sets.addHandler({ added: measureSets, updated: measureSets, deleted: measureSets });
  pods.addHandler({ added: measurePods, updated: measurePods, deleted: measurePods });
  await Promise.all([sets.synced, pods.synced]);
  least = Number.POSITIVE_INFINITY;
  await image('v2');
  await cluster.advance(5000);
  assert.deepEqual(await sizes(), { v1: 0, v2: 4 });
  assert.equal((await get()).status?.updatedReplicas, 4);
  assert.ok(most <= 5, `${most} pods at once`);
  assert.ok(least >= 3, `only ${least} pods ready`);
});

test('a rollout that never becomes ready stands still, misses its deadline, and can be rolled back', async () => {
  const { cluster, image, sizes, condition, change } = await setup(web(4, { progressDeadlineSeconds: 60 }));
  await using _ = cluster;
  cluster.podsBecome = (pod) => (pod.spec.containers[0]?.image === 'broken' ? 'running' : 'ready');
  await image('broken');
  await cluster.advance(5000);
  assert.deepEqual(await sizes(), { v1: 3, broken: 2 });
  assert.match(
    (await condition('Progressing')) ?? '',
    /^True ReplicaSetUpdated: ReplicaSet "web-\w+" is progressing\.$/,
  );
  await cluster.advance(70_000);
  assert.match(
    (await condition('Progressing')) ?? '',
    /^False ProgressDeadlineExceeded: ReplicaSet "web-\w+" has timed out progressing\.$/,
  );
  // As `kubectl rollout undo` does it: the old template again.
  await change((spec) => ({
    ...spec,
    template: { ...spec.template, spec: { containers: [{ name: 'c', image: 'v1' }] } },
  }));
  await cluster.advance(5000);
  assert.deepEqual(await sizes(), { v1: 4, broken: 0 });
  assert.match((await condition('Progressing')) ?? '', /^True NewReplicaSetAvailable/);
});

test('going back to an earlier template raises the revision of its ReplicaSet and keeps its history', async () => {
  const { cluster, image, sets, get } = await setup(web(1));
  await using _ = cluster;
  await image('v2');
  await cluster.advance(2000);
  await image('v1');
  await cluster.advance(2000);
  const all = await sets();
  assert.equal(all.length, 2);
  assert.deepEqual(all.map(revisionOf), [2n, 3n]);
  assert.equal(all[1]?.metadata.annotations?.['deployment.kubernetes.io/revision-history'], '1');
  assert.equal((await get()).metadata.annotations?.['deployment.kubernetes.io/revision'], '3');
});

test('a revision of 64 bits is counted on without loss', async () => {
  const { cluster, image, sets, get } = await setup(web(1));
  await using _ = cluster;
  const [first] = await sets();
  const { metadata } = first!;
  const annotations = { ...metadata.annotations, 'deployment.kubernetes.io/revision': '3546343826724305832' };
  await cluster.client
    .resource(resources.replicaSets, 'default')
    .update({ ...first!, metadata: { ...metadata, annotations } });
  await image('v2');
  await cluster.advance(2000);
  assert.deepEqual((await sets()).map(revisionOf), [3546343826724305832n, 3546343826724305833n]);
  assert.equal(
    (await get()).metadata.annotations?.['deployment.kubernetes.io/revision'],
    '3546343826724305833',
  );
});

test('the rollback annotation brings an earlier revision back', async () => {
  const { cluster, image, deployments, get } = await setup(web(1));
  await using _ = cluster;
  await image('v2');
  await cluster.advance(2000);
  const current = await get();
  const annotations = { ...current.metadata.annotations, 'deprecated.deployment.rollback.to': '1' };
  await deployments.update({ ...current, metadata: { ...current.metadata, annotations } });
  await cluster.advance(2000);
  const after = await get();
  assert.equal(after.spec.template.spec?.containers[0]?.image, 'v1');
  assert.equal(after.metadata.annotations?.['deprecated.deployment.rollback.to'], undefined);
  assert.ok(
    (await cluster.events('web')).includes('DeploymentRollback: Rolled back deployment "web" to revision 1'),
  );
});

test('Recreate starts nothing new before the last old pod is gone', async () => {
  const { cluster, image, sizes } = await setup(web(2, { strategy: { type: 'Recreate' } }));
  await using _ = cluster;
  cluster.podsEnd = false;
  const pods = cluster.client.resource(resources.pods, 'default');
  for (const pod of await cluster.pods()) await pods.update({ ...pod, spec: { ...pod.spec, nodeName: 'n' } });
  await cluster.settle();
  await image('v2');
  await cluster.advance(5000);
  assert.deepEqual(await sizes(), { v1: 0 });
  assert.equal((await cluster.pods()).length, 2);
  for (const pod of await cluster.pods()) await pods.delete(pod.metadata.name, { gracePeriodSeconds: 0 });
  await cluster.advance(2000);
  assert.deepEqual(await sizes(), { v1: 0, v2: 2 });
});

test('while paused nothing is rolled out, but sizes follow; resuming goes on', async () => {
  const { cluster, image, sizes, change, condition } = await setup(web(2));
  await using _ = cluster;
  await change((spec) => ({ ...spec, paused: true }));
  await image('v2');
  await cluster.advance(2000);
  assert.equal(await condition('Progressing'), 'Unknown DeploymentPaused: Deployment is paused');
  assert.deepEqual(await sizes(), { v1: 2 });
  await change((spec) => ({ ...spec, replicas: 3 }));
  assert.deepEqual(await sizes(), { v1: 3 });
  await change((spec) => ({ ...spec, paused: false }));
  await cluster.advance(2000);
  assert.deepEqual(await sizes(), { v1: 0, v2: 3 });
  assert.match((await condition('Progressing')) ?? '', /^True NewReplicaSetAvailable/);
});

test('scaling in the middle of a rollout is spread over old and new in proportion', async () => {
  const { cluster, image, sizes, change } = await setup(
    web(10, { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } }),
  );
  await using _ = cluster;
  cluster.podsBecome = (pod) => (pod.spec.containers[0]?.image === 'v2' ? 'running' : 'ready');
  await image('v2');
  await cluster.advance(2000);
  assert.deepEqual(await sizes(), { v1: 8, v2: 5 });
  await change((spec) => ({ ...spec, replicas: 15 }));
  await cluster.advance(2000);
  // 8 and 5 of 13 become 11 and 7 of 18, as upstream's documentation has it.
  assert.deepEqual(await sizes(), { v1: 11, v2: 7 });
});

test('old ReplicaSets beyond the history limit are deleted, the oldest first', async () => {
  const { cluster, image, sets } = await setup(web(1, { revisionHistoryLimit: 1 }));
  await using _ = cluster;
  for (const name of ['v2', 'v3', 'v4']) {
    await image(name);
    await cluster.advance(3000);
  }
  assert.deepEqual(
    (await sets()).map((set) => set.spec.template?.spec?.containers[0]?.image),
    ['v3', 'v4'],
  );
});

test('a name taken by another template is a collision: counted, and another name is made', async () => {
  const { cluster, deployments, sets, get } = await setup(web(0));
  await using _ = cluster;
  const current = await get();
  const template = { ...current.spec.template, spec: { containers: [{ name: 'c', image: 'v2' }] } };
  const squatter = `web-${templateHash(template, undefined)}`;
  await cluster.client
    .resource(resources.replicaSets, 'default')
    .create({ metadata: { name: squatter }, spec: { replicas: 0, selector: { matchLabels: { x: 'y' } } } });
  await deployments.update({ ...current, spec: { ...current.spec, template } });
  await cluster.advance(2000);
  assert.equal((await get()).status?.collisionCount, 1);
  const ours = (await sets()).filter((set) => set.metadata.ownerReferences);
  assert.deepEqual(
    ours.map((set) => set.metadata.name).toSorted(),
    [`web-${templateHash(current.spec.template, undefined)}`, `web-${templateHash(template, 1)}`].toSorted(),
  );
});

test('a selector that matches everything is refused with an event', async () => {
  const { cluster, sets, get } = await setup(web(1, { selector: {} }));
  await using _ = cluster;
  assert.deepEqual(await sets(), []);
  assert.deepEqual(await cluster.events('web'), [
    'SelectingAll: This deployment is selecting all pods. A non-empty selector is required.',
  ]);
  assert.equal((await get()).status?.observedGeneration, 1);
});

test('once all is done nothing is written any more', async () => {
  const { cluster } = await setup(web(3));
  await using _ = cluster;
  const writes = () => cluster.api.calls.filter((c) => /^(create|update|patch|delete)/.test(c)).length;
  const before = writes();
  await cluster.advance(20_000);
  assert.equal(writes(), before);
});
