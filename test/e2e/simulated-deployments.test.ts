// Deployments and ReplicaSets at work, with time moved by hand and pods that behave as their annotations say.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Deployment, ReplicaSet } from '../../src/api/types/apps-v1.ts';
import type { Pod } from '../../src/api/types/core-v1.ts';
import { ManualClock, resources } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { pass, passUntil } from './support/time.ts';

const namespace = 'default';
const clock = new ManualClock(Date.parse('2030-01-01T00:00:00Z'));
let sim: SimulatedCluster;

before(async () => {
  sim = await startSimulated({ clock });
});
after(() => sim[Symbol.asyncDispose]());

const deployments = () => sim.cluster.client.resource(resources.deployments, namespace);
const replicaSets = () => sim.cluster.client.resource(resources.replicaSets, namespace);
const pods = () => sim.cluster.client.resource(resources.pods, namespace);

const NEVER_READY = { 'simulation.bulkhead.dev/ready-delay': '100h' };
const template = (name: string, image: string, annotations: Record<string, string> = {}) => ({
  metadata: { labels: { app: name }, annotations },
  spec: { containers: [{ name: 'c', image }] },
});
async function deploy(
  name: string,
  replicas: number,
  spec: Partial<Deployment['spec']> = {},
  annotations = {},
): Promise<Deployment> {
  const created = await deployments().create({
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: template(name, 'i:1', annotations),
      ...spec,
    },
  });
  if (annotations === NEVER_READY) return created;
  return passUntil(clock, 60, () => complete(name));
}
/** Fails until the rollout is through. */
async function complete(name: string): Promise<Deployment> {
  const found = await deployments().get(name);
  const { spec, status, metadata } = found;
  assert.equal(status?.observedGeneration, metadata.generation);
  const want = spec.replicas;
  assert.deepEqual(
    [status?.replicas ?? 0, status?.updatedReplicas ?? 0, status?.availableReplicas ?? 0],
    [want, want, want],
  );
  return found;
}
const change = (name: string, spec: unknown): Promise<Deployment> =>
  deployments().patch(name, { type: 'strategic', patch: { spec } });
const setImage = (name: string, image: string, annotations = {}): Promise<Deployment> =>
  change(name, { template: template(name, image, annotations) });
const podsOf = async (name: string): Promise<Pod[]> =>
  (await pods().list({ labelSelector: `app=${name}` })).items.filter(
    ({ metadata }) => !metadata.deletionTimestamp,
  );
const isReady = (pod: Pod): boolean =>
  pod.status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
/** `image: replicas` of all ReplicaSets with pods. */
async function sizes(name: string): Promise<Record<string, number>> {
  const { items } = await replicaSets().list({ labelSelector: `app=${name}` });
  return Object.fromEntries(
    items
      .filter(({ spec }) => spec.replicas)
      .map((set: ReplicaSet) => [set.spec.template?.spec?.containers[0]?.image, set.spec.replicas]),
  );
}
const condition = async (name: string, type: string) => {
  const { status } = await deployments().get(name);
  const found = status?.conditions?.find((one) => one.type === type);
  return found && `${found.status} ${found.reason}`;
};

describe('a rolling update', () => {
  it('never has too few pods ready nor too many pods', async () => {
    const slow = { 'simulation.bulkhead.dev/ready-delay': '5s' };
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } as const;
    await deploy('steady', 4, { strategy }, slow);
    let most = 0;
    let fewest = Number.POSITIVE_INFINITY;
    const living = new Map<string, Pod>();
    await using informer = sim.cluster.client.informers.informer(resources.pods, { namespace });
    await informer.synced;
    const count = (pod: Pod): void => {
      if (pod.metadata.labels?.['app'] !== 'steady') return;
      if (pod.metadata.deletionTimestamp) living.delete(pod.metadata.uid);
      else living.set(pod.metadata.uid, pod);
    };
    const judge = (): void => {
      most = Math.max(most, living.size);
      fewest = Math.min(fewest, [...living.values()].filter(isReady).length);
    };
    for (const pod of informer.lister.values()) count(pod);
    using _handler = informer.addHandler({
      added: (pod) => [count(pod), judge()],
      updated: (pod) => [count(pod), judge()],
      deleted: (pod) => [living.delete(pod.metadata.uid), judge()],
    });
    await setImage('steady', 'i:2', slow);
    await passUntil(clock, 60, () => complete('steady'));
    assert.deepEqual([most, fewest], [5, 4]);
    assert.deepEqual(await sizes('steady'), { 'i:2': 4 });
  });

  it('stops when the new pods never become ready, says so after its deadline, and goes back', async () => {
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } } as const;
    await deploy('stuck', 4, { strategy, progressDeadlineSeconds: 30 });
    await setImage('stuck', 'i:bad', NEVER_READY);
    await passUntil(clock, 10, async () => assert.deepEqual(await sizes('stuck'), { 'i:1': 3, 'i:bad': 2 }));
    await pass(clock, 20);
    assert.equal(await condition('stuck', 'Progressing'), 'True ReplicaSetUpdated');
    await passUntil(clock, 20, async () =>
      assert.equal(await condition('stuck', 'Progressing'), 'False ProgressDeadlineExceeded'),
    );
    assert.equal(await condition('stuck', 'Available'), 'True MinimumReplicasAvailable');
    assert.match(
      (await sim.kubectl.run(['rollout', 'status', 'deployment/stuck'])).stderr,
      /exceeded its progress deadline/,
    );
    assert.deepEqual(await sizes('stuck'), { 'i:1': 3, 'i:bad': 2 });
    await sim.kubectl('rollout', 'undo', 'deployment/stuck');
    await passUntil(clock, 30, () => complete('stuck'));
    assert.deepEqual(await sizes('stuck'), { 'i:1': 4 });
    assert.equal(await condition('stuck', 'Progressing'), 'True NewReplicaSetAvailable');
  });

  it('that is scaled on the way shares the new pods out', async () => {
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } as const;
    await deploy('shared', 10, { strategy });
    await setImage('shared', 'i:bad', NEVER_READY);
    await passUntil(clock, 20, async () => assert.deepEqual(await sizes('shared'), { 'i:1': 8, 'i:bad': 5 }));
    await change('shared', { replicas: 15 });
    // The example of upstream's documentation.
    await passUntil(clock, 20, async () =>
      assert.deepEqual(await sizes('shared'), { 'i:1': 11, 'i:bad': 7 }),
    );
    await deployments().delete('shared');
  });

  it('waits while it is paused, also with scaling', async () => {
    await deploy('held', 2);
    await change('held', { paused: true });
    await setImage('held', 'i:2');
    await change('held', { replicas: 3 });
    await passUntil(clock, 20, async () => assert.deepEqual(await sizes('held'), { 'i:1': 3 }));
    assert.equal(await condition('held', 'Progressing'), 'Unknown DeploymentPaused');
    await change('held', { paused: false });
    await passUntil(clock, 30, () => complete('held'));
    assert.deepEqual(await sizes('held'), { 'i:2': 3 });
  });

  it('counts a pod as available only after minReadySeconds', async () => {
    await deployments().create({
      metadata: { name: 'late' },
      spec: {
        replicas: 2,
        minReadySeconds: 10,
        selector: { matchLabels: { app: 'late' } },
        template: template('late', 'i:1'),
      },
    });
    await eventually('ready', async () =>
      assert.equal((await deployments().get('late')).status?.readyReplicas, 2),
    );
    await pass(clock, 8);
    assert.equal((await deployments().get('late')).status?.availableReplicas ?? 0, 0);
    await passUntil(clock, 5, async () =>
      assert.equal((await deployments().get('late')).status?.availableReplicas, 2),
    );
  });
});

describe('a deployment', () => {
  it('of the kind Recreate ends all old pods before it starts new ones', async () => {
    await deploy(
      'again',
      3,
      { strategy: { type: 'Recreate' } },
      { 'simulation.bulkhead.dev/stop-delay': '5s' },
    );
    const seen: string[] = [];
    await using informer = sim.cluster.client.informers.informer(resources.pods, { namespace });
    await informer.synced;
    using _handler = informer.addHandler({
      added: (pod) => pod.spec.containers[0]?.image === 'i:2' && seen.push('new'),
      deleted: (pod) =>
        pod.spec.containers[0]?.image === 'i:1' &&
        pod.metadata.labels?.['app'] === 'again' &&
        seen.push('old gone'),
    });
    seen.length = 0;
    await setImage('again', 'i:2');
    await passUntil(clock, 60, () => complete('again'));
    const mine = seen.slice(seen.indexOf('old gone'));
    assert.deepEqual(mine, ['old gone', 'old gone', 'old gone', 'new', 'new', 'new']);
  });

  it('keeps as many old ReplicaSets as it is told', async () => {
    await deploy('tidy', 1, { revisionHistoryLimit: 1 });
    for (const image of ['i:2', 'i:3', 'i:4']) {
      await setImage('tidy', image);
      await passUntil(clock, 30, () => complete('tidy'));
    }
    await passUntil(clock, 10, async () => {
      const { items } = await replicaSets().list({ labelSelector: 'app=tidy' });
      assert.deepEqual(items.map(({ spec }) => spec.template?.spec?.containers[0]?.image).toSorted(), [
        'i:3',
        'i:4',
      ]);
    });
  });

  it('may not change what it selects', async () => {
    await assert.rejects(change('tidy', { selector: { matchLabels: { app: 'other' } } }), {
      message: /spec.selector: Invalid value: .*field is immutable/,
    });
    await assert.rejects(
      deployments().create({
        metadata: { name: 'wrong' },
        spec: { selector: { matchLabels: { app: 'a' } }, template: template('b', 'i') },
      }),
      {
        message:
          /spec.template.metadata.labels: Invalid value: .*`selector` does not match template `labels`/,
      },
    );
  });

  it('takes over an orphaned ReplicaSet that has its template', async () => {
    await deploy('clash', 1);
    const { items } = await replicaSets().list({ labelSelector: 'app=clash' });
    const hash = items[0]!.metadata.labels!['pod-template-hash']!;
    await deployments().delete('clash', { propagationPolicy: 'Orphan' });
    await passUntil(clock, 10, () => assert.rejects(deployments().get('clash')));
    await deploy('clash', 1);
    const adopted = (await replicaSets().list({ labelSelector: 'app=clash' })).items;
    assert.deepEqual(
      adopted.map(({ metadata }) => [
        metadata.labels?.['pod-template-hash'],
        metadata.ownerReferences?.[0]?.kind,
      ]),
      [[hash, 'Deployment']],
    );
  });
});

describe('a ReplicaSet', () => {
  const make = (name: string, replicas: number) =>
    replicaSets().create({
      metadata: { name },
      spec: { replicas, selector: { matchLabels: { app: name } }, template: template(name, 'i') },
    });
  const settled = (name: string, replicas: number) =>
    passUntil(clock, 20, async () => {
      assert.equal((await podsOf(name)).filter(isReady).length, replicas);
      assert.equal((await replicaSets().get(name)).status?.readyReplicas ?? 0, replicas);
    });

  it('replaces pods that are deleted or fail', async () => {
    await make('heal', 2);
    await settled('heal', 2);
    const [first, second] = await podsOf('heal');
    await pods().delete(first!.metadata.name);
    await pods().patch(
      second!.metadata.name,
      { type: 'merge', patch: { status: { phase: 'Failed' } } },
      { subresource: 'status' },
    );
    await settled('heal', 2);
    const uids = (await podsOf('heal')).filter(isReady).map(({ metadata }) => metadata.uid);
    assert.ok(!uids.includes(first!.metadata.uid) && !uids.includes(second!.metadata.uid));
  });

  it('adopts pods that fit, releases those that do not, and deletes the least useful first', async () => {
    const orphan = await pods().create({
      metadata: { name: 'orphan', labels: { app: 'family' } },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    });
    await make('family', 2);
    await settled('family', 2);
    const owner = async (name: string) => (await pods().get(name)).metadata.ownerReferences?.[0]?.name;
    assert.equal(await owner('orphan'), 'family');
    assert.equal((await podsOf('family')).length, 2);
    await pods().patch('orphan', { type: 'merge', patch: { metadata: { labels: { app: 'alone' } } } });
    await settled('family', 2);
    assert.deepEqual(
      [await owner('orphan'), (await pods().get('orphan')).metadata.uid],
      [undefined, orphan.metadata.uid],
    );
    const unready = await pods().create({
      metadata: { name: 'unready', labels: { app: 'family' }, annotations: NEVER_READY },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    });
    // One too many: the one that is not ready goes.
    await passUntil(clock, 40, () => assert.rejects(pods().get(unready.metadata.name)));
    assert.equal((await podsOf('family')).length, 2);
    await pods().delete('orphan');
  });

  it('makes a hundred pods, and says in its status what it cannot make', async () => {
    await make('many', 100);
    await settled('many', 100);
    await replicaSets().delete('many');
    await passUntil(clock, 60, async () => assert.equal((await podsOf('many')).length, 0));
    await replicaSets().create({
      metadata: { name: 'refused' },
      spec: {
        replicas: 1,
        selector: { matchLabels: { app: 'refused' } },
        template: {
          metadata: { labels: { app: 'refused' } },
          spec: { serviceAccountName: 'nobody', containers: [{ name: 'c', image: 'i' }] },
        },
      },
    });
    // The API server waits a second, in real time, for an account that may be about to come.
    await eventually('the failure', async () => {
      const failure = (await replicaSets().get('refused')).status?.conditions?.find(
        ({ type }) => type === 'ReplicaFailure',
      );
      assert.deepEqual([failure?.status, failure?.reason], ['True', 'FailedCreate']);
      assert.match(failure?.message ?? '', /serviceaccount "nobody" not found/);
    });
  });
});
