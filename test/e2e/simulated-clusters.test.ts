// The cluster as a thing that a test holds: how fast it starts, that several live side by side, that nothing is left
// when it is gone, and what `bulkhead/testing` lets a test do with it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ManualClock, resources, startCluster, type TestCluster } from '../../src/cluster/testing.ts';
import { eventually } from './support/eventually.ts';

const SOURCE = fileURLToPath(new URL('../../src/cluster/testing.ts', import.meta.url));

/** What still keeps the process alive, or would if nobody else did. */
const held = (): string[] =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => !/^(Immediate|PipeWrap|Timeout|FSReqCallback|TTYWrap|CloseReq)$/.test(kind));
const run = (cluster: TestCluster, name: string) =>
  cluster.client
    .resource(resources.pods, 'default')
    .create({ metadata: { name }, spec: { containers: [{ name: 'c', image: 'i' }] } });
const runs = (cluster: TestCluster, name: string) =>
  eventually(`${name} runs`, async () =>
    assert.equal(
      (await cluster.client.resource(resources.pods, 'default').get(name)).status.phase,
      'Running',
    ),
  );

/** Runs a program of its own and resolves with what it printed. */
function program(text: string, timeout: number): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--input-type=module-typescript', '-e', text],
      { timeout },
      (error, stdout, stderr) =>
        resolve({ code: error?.killed ? -1 : Number(error?.code ?? 0), output: stdout + stderr }),
    );
  });
}

describe('a test cluster', () => {
  it('warns of nothing when an ordinary pod runs', async () => {
    await using cluster = await startCluster();
    await run(cluster, 'web');
    await runs(cluster, 'web');
    const events = cluster.client.resource(resources.events);
    await eventually('the start is told', async () =>
      assert.ok((await events.list()).items.some(({ reason }) => reason === 'Started')),
    );
    const warnings = (await events.list()).items.filter(({ type }) => type === 'Warning');
    assert.deepEqual(
      warnings.map(({ reason }) => reason),
      [],
    );
  });

  it('starts fast once the code is loaded', async (t) => {
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const begun = performance.now();
      await using _cluster = await startCluster({ nodes: 2 });
      times.push(performance.now() - begun);
    }
    const best = Math.min(...times.slice(1));
    t.diagnostic(
      `startCluster: first ${times[0]?.toFixed(0)} ms, then ${times
        .slice(1)
        .map((ms) => ms.toFixed(0))
        .join(', ')} ms`,
    );
    t.diagnostic(`resident memory after five clusters: ${(process.memoryUsage.rss() / 1e6).toFixed(0)} MB`);
    assert.ok(best <= 1500, `${best} ms`);
  });

  it('leaves nothing in the process when it is gone', async () => {
    await eventually('what came before is gone', () => assert.deepEqual(held(), []));
    for (let i = 0; i < 3; i++) {
      const cluster = await startCluster();
      await run(cluster, 'p');
      await runs(cluster, 'p');
      // Requests that nobody will answer any more end with the cluster.
      const watch = fetchForever(cluster);
      await cluster[Symbol.asyncDispose]();
      await watch;
    }
    await eventually('nothing is held', () => assert.deepEqual(held(), []));
  });

  it('lets a process that used it end by itself, also without waiting for its work', async () => {
    const { code, output } = await program(
      `import { startCluster, resources } from ${JSON.stringify(SOURCE)};
       await using cluster = await startCluster({ nodes: 2 });
       const pods = cluster.client.resource(resources.pods, 'default');
       for (let i = 0; i < 20; i++) await pods.create({ metadata: { name: 'p' + i, annotations: { 'simulation.bulkhead.dev/stop-delay': '1h' } }, spec: { containers: [{ name: 'c', image: 'i' }] } });
       const running = async () => (await pods.list()).items.every((pod) => pod.status.phase === 'Running');
       while (!(await running())) await new Promise((resolve) => setImmediate(resolve));
       await pods.deleteCollection({ gracePeriodSeconds: 3600 });
       console.log('done');`,
      30_000,
    );
    assert.deepEqual({ code, output: output.trim() }, { code: 0, output: 'done' });
  });

  it('fails to start on a port that is taken, and leaves nothing then either', async () => {
    await using cluster = await startCluster({ nodes: 0 });
    const before = held();
    const port = Number(new URL(cluster.url).port);
    await assert.rejects(startCluster({ port }), { code: 'EADDRINUSE' });
    await eventually('nothing is held', () => assert.deepEqual(held(), before));
  });

  it('is one of several that know nothing of one another', async () => {
    const clock = new ManualClock(Date.parse('2040-01-01T00:00:00Z'));
    const clusters = await Promise.all([
      startCluster(),
      startCluster({ nodes: ['only'] }),
      startCluster({ clock }),
    ]);
    try {
      await Promise.all(clusters.map((cluster, i) => run(cluster, `p-${i}`)));
      await Promise.all(clusters.map((cluster, i) => runs(cluster, `p-${i}`)));
      for (const [i, cluster] of clusters.entries()) {
        const { items } = await cluster.client.resource(resources.pods).list();
        assert.deepEqual(
          items.map(({ metadata }) => metadata.name),
          [`p-${i}`],
        );
      }
      assert.equal(new Set(clusters.map(({ url }) => url)).size, 3);
      const node = await clusters[1]!.client.resource(resources.nodes).get('only');
      assert.ok(Math.abs(Date.parse(node.metadata.creationTimestamp!) - Date.now()) < 60_000);
      const future = await clusters[2]!.client.resource(resources.pods, 'default').get('p-2');
      assert.equal(future.metadata.creationTimestamp, '2040-01-01T00:00:00Z');
      await clusters[0]![Symbol.asyncDispose]();
      await run(clusters[1]!, 'still');
      await runs(clusters[1]!, 'still');
    } finally {
      for (const cluster of clusters) await cluster[Symbol.asyncDispose]();
    }
  });

  it('can be disposed of twice, and refuses work afterwards', async () => {
    const cluster = await startCluster({ nodes: 1 });
    await Promise.all([cluster[Symbol.asyncDispose](), cluster[Symbol.asyncDispose]()]);
    await cluster[Symbol.asyncDispose]();
    await assert.rejects(run(cluster, 'late'));
  });
});

describe('a node of a test cluster', () => {
  it('comes when it is added, and its containers do as they are told', async () => {
    await using cluster = await startCluster({ nodes: 0 });
    const pod = await run(cluster, 'p');
    const pods = cluster.client.resource(resources.pods, 'default');
    assert.equal((await pods.get('p')).status.phase, 'Pending');
    const node = await cluster.addNode('late');
    assert.equal(cluster.nodes.get('late'), node);
    await runs(cluster, 'p');
    node.runtime.exit({ podUid: pod.metadata.uid, container: 'c' }, 1);
    await eventually('it was restarted', async () => {
      const [status] = (await pods.get('p')).status.containerStatuses ?? [];
      assert.deepEqual([status?.restartCount, status?.lastState?.terminated?.exitCode], [1, 1]);
    });
  });
});

/** A watch that ends only with its server. */
async function fetchForever(cluster: TestCluster): Promise<void> {
  const watch = await cluster.client.resource(resources.pods).watch();
  for await (const _event of watch) await pause(0);
}
