import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resources } from '../../client/index.ts';
import { startTestCluster } from '../testing/cluster.ts';

const VAC = 'kubernetes.io/vac-protection';

async function setup() {
  const cluster = await startTestCluster(['volumeattributesclass-protection-controller']);
  const { client } = cluster;
  const classes = client.resource(resources.volumeAttributesClasses);
  const claims = client.resource(resources.persistentVolumeClaims, 'default');
  const volumes = client.resource(resources.persistentVolumes);
  const makeClass = (name: string) =>
    classes.create({ metadata: { name, finalizers: [VAC] }, driverName: 'd', parameters: { a: 'b' } });
  const names = async () => {
    await cluster.settle();
    return (await classes.list()).items.map((object) => object.metadata.name).sort();
  };
  return { cluster, client, classes, claims, volumes, makeClass, names };
}

test('a VolumeAttributesClass that nobody uses goes when it is deleted', async () => {
  const { cluster, classes, makeClass, names } = await setup();
  await using _ = cluster;
  await makeClass('gold');
  await classes.delete('gold');
  assert.deepEqual(await names(), []);
});

test('it stays while a claim asks for it, has it or is on its way to it', async () => {
  const { cluster, classes, claims, makeClass, names } = await setup();
  await using _ = cluster;
  for (const name of ['wanted', 'current', 'target']) await makeClass(name);
  const claim = await claims.create({
    metadata: { name: 'c' },
    spec: { volumeAttributesClassName: 'wanted' },
  });
  const changing = await claims.updateStatus({
    ...claim,
    status: {
      phase: 'Bound',
      currentVolumeAttributesClassName: 'current',
      modifyVolumeStatus: { status: 'InProgress', targetVolumeAttributesClassName: 'target' },
    },
  });
  await cluster.settle();
  for (const name of ['wanted', 'current', 'target']) await classes.delete(name);
  assert.deepEqual(await names(), ['current', 'target', 'wanted']);
  await claims.updateStatus({
    ...changing,
    status: { phase: 'Bound', currentVolumeAttributesClassName: 'target' },
  });
  assert.deepEqual(await names(), ['target', 'wanted']);
  await claims.delete('c');
  assert.deepEqual(await names(), []);
});

test('it stays while a volume has it', async () => {
  const { cluster, classes, volumes, makeClass, names } = await setup();
  await using _ = cluster;
  await makeClass('gold');
  await volumes.create({ metadata: { name: 'v' }, spec: { volumeAttributesClassName: 'gold' } });
  await cluster.settle();
  await classes.delete('gold');
  assert.deepEqual(await names(), ['gold']);
  await volumes.delete('v');
  assert.deepEqual(await names(), []);
});

test('a claim that the cache does not know yet counts', async () => {
  const { cluster, classes, claims, makeClass, names } = await setup();
  await using _ = cluster;
  await makeClass('gold');
  await cluster.settle();
  // The watch of claims stands still: what is made now is seen by those who ask only.
  cluster.api.intercept = (call) => {
    if (call.verb === 'watch' && call.resource.resource === 'persistentvolumeclaims')
      throw new Error('unreachable');
  };
  cluster.api.dropWatches();
  await cluster.settle();
  await claims.create({ metadata: { name: 'c' }, spec: { volumeAttributesClassName: 'gold' } });
  await classes.delete('gold');
  await cluster.advance(5000);
  assert.deepEqual(await names(), ['gold']);
});

test('a class from before there was protection gets it', async () => {
  const { cluster, classes } = await setup();
  await using _ = cluster;
  await classes.create({ metadata: { name: 'old', finalizers: ['own'] }, driverName: 'd' });
  await cluster.settle();
  assert.deepEqual((await classes.get('old')).metadata.finalizers, ['own', VAC]);
});
