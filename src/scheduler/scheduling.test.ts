// Decisions and the queue by themselves; how they act on a live API is tested in scheduler.test.ts.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Node, Pod, PodSpec } from '../api/types/core-v1.ts';
import { ManualClock } from '../component/index.ts';
import { Algorithm, nodesToFind } from './algorithm.ts';
import { SchedulerCache } from './cache.ts';
import { defaultPlugins } from './plugins/index.ts';
import { type QueuedPod, SchedulingQueue } from './queue.ts';
import { TestVolumes } from './testing/volumes.ts';

function node(
  name: string,
  options: { cpu?: string; labels?: Record<string, string>; spec?: Node['spec'] } = {},
): Node {
  return {
    metadata: { name, uid: name, resourceVersion: '1', creationTimestamp: '', labels: options.labels },
    spec: options.spec ?? {},
    status: { allocatable: { cpu: options.cpu ?? '4', memory: '8Gi', pods: '10' } },
  };
}

let serial = 0;
function pod(spec: Partial<PodSpec> = {}, cpu = '1'): Pod {
  const uid = `pod-${++serial}`;
  return {
    metadata: { name: uid, namespace: 'default', uid, resourceVersion: '1', creationTimestamp: '' },
    spec: { containers: [{ name: 'c', image: 'web', resources: { requests: { cpu } } }], ...spec },
    status: {},
  };
}

function cluster(...nodes: Node[]): SchedulerCache {
  const cache = new SchedulerCache();
  for (const n of nodes) cache.setNode(n);
  return cache;
}

const algorithm = (): Algorithm => new Algorithm(defaultPlugins(new TestVolumes().binder()), () => 0.5);

function chosen(cache: SchedulerCache, p: Pod): string {
  const decision = algorithm().decide(p, cache);
  assert.ok(decision.fits, decision.fits ? '' : decision.message);
  return decision.nodeName;
}

function refusal(cache: SchedulerCache, p: Pod): string {
  const decision = algorithm().decide(p, cache);
  assert.ok(!decision.fits);
  return decision.message;
}

describe('a scheduling decision', () => {
  it('goes to the emptier node and counts assumed pods at once', () => {
    const cache = cluster(node('a'), node('b'));
    const first = pod();
    cache.assume(first, 'a');
    assert.equal(chosen(cache, pod()), 'b');
    cache.forget(first);
    cache.assume(pod({}, '2'), 'b');
    assert.equal(chosen(cache, pod()), 'a');
  });

  it('names each reason with its number of nodes, as kube-scheduler does', () => {
    const cache = cluster(
      node('small', { cpu: '500m' }),
      node('tiny', { cpu: '100m' }),
      node('cordoned', { spec: { unschedulable: true } }),
      node('tainted', { spec: { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] } }),
    );
    assert.equal(
      refusal(cache, pod()),
      '0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu.',
    );
    assert.equal(refusal(cluster(), pod()), 'no nodes available to schedule pods');
    assert.equal(
      refusal(cluster(node('a')), pod({ nodeSelector: { disk: 'ssd' } })),
      "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    );
  });

  it('keeps to host ports, pod counts and preferences', () => {
    const port = { containers: [{ name: 'c', ports: [{ containerPort: 80, hostPort: 80 }] }] };
    const cache = cluster(node('a'), node('b'));
    cache.assume(pod(port), 'a');
    assert.equal(chosen(cache, pod(port)), 'b');
    cache.assume(pod(port), 'b');
    assert.match(refusal(cache, pod(port)), /2 node\(s\) didn't have free ports for the requested pod ports/);

    const full = cluster(node('a'));
    for (let i = 0; i < 10; i++) full.assume(pod({}, '0'), 'a');
    assert.equal(refusal(full, pod({}, '0')), '0/1 nodes are available: 1 Too many pods.');

    const labelled = cluster(node('plain'), node('fast', { labels: { disk: 'ssd' } }));
    const preferring: Partial<PodSpec> = {
      affinity: {
        nodeAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            {
              weight: 10,
              preference: { matchExpressions: [{ key: 'disk', operator: 'In', values: ['ssd'] }] },
            },
          ],
        },
      },
    };
    assert.equal(chosen(labelled, pod(preferring)), 'fast');
  });

  it('is not led astray by a pod that names a node that is not there', () => {
    const cache = cluster(node('a'), node('b'));
    const decisions = algorithm();
    const terms = [{ matchFields: [{ key: 'metadata.name', operator: 'In' as const, values: ['gone'] }] }];
    const nodeAffinity = {
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms },
    };
    assert.ok(!decisions.decide(pod({ affinity: { nodeAffinity } }), cache).fits);
    assert.ok(decisions.decide(pod(), cache).fits);
  });

  it('looks only at the nodes that the pod names', () => {
    const named = (name: string): Partial<PodSpec> => ({
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [name] }] }],
          },
        },
      },
    });
    const cache = cluster(...Array.from({ length: 300 }, (_, i) => node(`n${i}`)));
    assert.equal(chosen(cache, pod(named('n299'))), 'n299');
    assert.match(
      refusal(cache, pod(named('gone'))),
      /^0\/300 nodes are available: 300 node\(s\) didn't satisfy/,
    );
  });

  it('refuses a pod whose hard constraints it cannot judge, naming the field', () => {
    const constraint = { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule' as const };
    assert.match(
      refusal(cluster(node('a')), pod({ topologySpreadConstraints: [constraint] })),
      /does not handle spec\.topologySpreadConstraints/,
    );
  });

  it('finds room for every pod that fits, whatever the order of pods and nodes (random clusters against a model)', () => {
    let seed = 7;
    const random = (n: number): number => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * n);
    };
    for (let round = 0; round < 50; round++) {
      const cache = new SchedulerCache();
      const room = new Map<string, number>();
      for (let i = 0; i < 5; i++) {
        const cores = 1 + random(6);
        room.set(`n${i}`, Math.min(cores * 1000, 10_000));
        cache.setNode(node(`n${i}`, { cpu: String(cores) }));
      }
      const placed: { pod: Pod; nodeName: string; milli: number }[] = [];
      for (let step = 0; step < 60; step++) {
        if (random(3) === 0 && placed.length > 0) {
          const [gone] = placed.splice(random(placed.length), 1);
          cache.removePod(gone!.pod.metadata.uid);
          room.set(gone!.nodeName, room.get(gone!.nodeName)! + gone!.milli);
          continue;
        }
        const milli = 100 * (1 + random(20));
        const candidate = pod({}, `${milli}m`);
        const fitsSomewhere = [...room].some(
          ([name, left]) => left >= milli && placed.filter((p) => p.nodeName === name).length < 10,
        );
        const decision = algorithm().decide(candidate, cache);
        assert.equal(decision.fits, fitsSomewhere);
        if (!decision.fits) continue;
        assert.ok(room.get(decision.nodeName)! >= milli);
        cache.assume(candidate, decision.nodeName);
        if (random(2) === 0)
          cache.setPod({ ...candidate, spec: { ...candidate.spec, nodeName: decision.nodeName } });
        room.set(decision.nodeName, room.get(decision.nodeName)! - milli);
        placed.push({ pod: candidate, nodeName: decision.nodeName, milli });
      }
    }
  });

  it('keeps the pods of a node that goes away and counts them when it comes back', () => {
    const cache = cluster(node('a', { cpu: '1' }));
    const p = pod();
    cache.setPod({ ...p, spec: { ...p.spec, nodeName: 'a' } });
    cache.removeNode('a');
    cache.setNode(node('a', { cpu: '1' }));
    assert.match(refusal(cache, pod()), /Insufficient cpu/);
    cache.removePod(p.metadata.uid);
    assert.equal(chosen(cache, pod()), 'a');
  });

  it('searches all of a small cluster and a shrinking share of a large one', () => {
    assert.deepEqual([1, 99, 100, 1000, 5000, 10_000].map(nodesToFind), [1, 99, 100, 420, 500, 500]);
  });
});

describe('the scheduling queue', () => {
  function queue(clock = new ManualClock(0)): {
    queue: SchedulingQueue;
    clock: ManualClock;
    woken: () => number;
  } {
    let woken = 0;
    const made = new SchedulingQueue({
      clock,
      initialBackoffMs: 1000,
      maxBackoffMs: 10_000,
      wake: () => woken++,
      gate: (p) => (p.spec.schedulingGates?.length ? 'gated' : undefined),
    });
    return { queue: made, clock, woken: () => woken };
  }
  const names = (q: SchedulingQueue): string[] => {
    const result: string[] = [];
    for (let e = q.pop(); e; e = q.pop()) result.push(e.pod.metadata.name);
    return result;
  };

  it('gives pods out by priority, then by age', async () => {
    const { queue: q, clock } = queue();
    const [old, young, urgent] = [pod(), pod(), pod({ priority: 1000 })];
    q.add(old);
    await clock.advance(1);
    q.add(young);
    q.add(urgent);
    assert.deepEqual(
      names(q),
      [urgent, old, young].map((p) => p.metadata.name),
    );
  });

  it('holds a rejected pod until an event helps it, and then until its back-off is over', async () => {
    const { queue: q, clock, woken } = queue();
    const p = pod();
    q.add(p);
    const fail = (): QueuedPod => {
      const entry = q.pop();
      assert.ok(entry);
      q.failed(entry, new Set(['NodeResourcesFit']));
      return entry;
    };
    fail();
    await clock.advance(60_000);
    assert.equal(q.pop(), undefined, 'time alone helps nobody');
    q.wakeUnschedulable(() => false);
    assert.equal(q.pop(), undefined);
    q.wakeUnschedulable((e) => e.rejectedBy.has('NodeResourcesFit'));
    fail();
    q.wakeUnschedulable(() => true);
    assert.equal(q.pop(), undefined, 'the second back-off is 2 s');
    await clock.advance(2000);
    assert.equal(woken(), 3);
    assert.equal(q.pop()?.pod, p);
  });

  it('retries after an error by time alone, forgets deleted pods, and lets gated ones in when the gate falls', async () => {
    const { queue: q, clock } = queue();
    const p = pod();
    q.add(p);
    q.failed(q.pop()!, new Set());
    await clock.advance(1000);
    const entry = q.pop();
    assert.equal(entry?.pod, p);
    q.remove(p.metadata.uid);
    q.failed(entry!, new Set());
    await clock.advance(60_000);
    assert.equal(q.pop(), undefined, 'deleted while in flight');

    const gated = pod({ schedulingGates: [{ name: 'quota' }] });
    q.add(gated);
    assert.equal(q.pop(), undefined);
    const { schedulingGates: _gone, ...open } = gated.spec;
    q.update({ ...gated, spec: open }, true);
    assert.equal(q.pop()?.pod.metadata.uid, gated.metadata.uid);
  });
});
