// A cluster for controller tests: the API in memory, a clock that the test moves, chosen controllers, and a kubelet of
// sorts that makes pods Running and Ready (or does not) and lets them go when they are deleted.

import { findCondition, timestamp } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { type Client, createClient, resources } from '../../client/index.ts';
import { settle } from '../../client/testing/eventually.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { ManualClock } from '../../component/index.ts';
import type { ControllerSettings } from '../context.ts';
import { type ControllerName, startControllers } from '../controllers.ts';

export interface TestCluster extends AsyncDisposable {
  readonly api: FakeApi;
  readonly client: Client;
  readonly clock: ManualClock;
  /** What the kubelet makes of a pod (undefined: leaves it as it is); by default all become ready at once. */
  podsBecome: (pod: Pod) => 'ready' | 'running' | 'pending' | 'failed' | 'succeeded' | undefined;
  /** Whether pods that are deleted go away (true), or stay terminating. */
  podsEnd: boolean;
  /** Lets everything happen that happens without time passing. */
  settle(): Promise<void>;
  /** Moves the clock, in steps of at most a second unless told, and lets everything happen. */
  advance(ms: number, stepMs?: number): Promise<void>;
  pods(namespace?: string): Promise<readonly Pod[]>;
  /** `reason: message` of all events about the object, oldest first. */
  events(name: string): Promise<string[]>;
}

export async function startTestCluster(
  enable: readonly ControllerName[],
  settings: Partial<ControllerSettings> = {},
): Promise<TestCluster> {
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const controllers = await startControllers({ client, clock, enable, settings, random: () => 0.5 });
  await controllers.ready;
  const kubelet = client.informers.informer(resources.pods);
  const act = (pod: Pod): void => {
    void runPod(cluster, pod).catch(() => {
      // Another write came first; the next event tries again.
    });
  };
  const cluster: TestCluster = {
    api,
    client,
    clock,
    podsBecome: () => 'ready',
    podsEnd: true,
    settle: () => settle(60),
    async advance(ms, stepMs = 1000) {
      await settle(60);
      for (let left = ms; left > 0; left -= stepMs) {
        await clock.advance(Math.min(stepMs, left));
        await settle(30);
      }
      await settle(60);
    },
    pods: async (namespace = 'default') => (await client.resource(resources.pods, namespace).list()).items,
    async events(name) {
      await settle(60);
      const { items } = await client.resource(resources.events).list();
      return items.filter((e) => e.involvedObject.name === name).map((e) => `${e.reason}: ${e.message}`);
    },
    async [Symbol.asyncDispose]() {
      await kubelet[Symbol.asyncDispose]();
      await controllers[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
  kubelet.addHandler({ added: act, updated: act });
  await kubelet.synced;
  return cluster;
}

async function runPod(cluster: TestCluster, pod: Pod): Promise<void> {
  const { client, clock } = cluster;
  const pods = client.resource(resources.pods, pod.metadata.namespace);
  if (pod.metadata.deletionTimestamp !== undefined) {
    if (cluster.podsEnd) await pods.delete(pod.metadata.name, { gracePeriodSeconds: 0 });
    return;
  }
  const becomes = cluster.podsBecome(pod);
  if (!becomes) return;
  const phase = {
    ready: 'Running',
    running: 'Running',
    pending: 'Pending',
    failed: 'Failed',
    succeeded: 'Succeeded',
  } as const;
  const ready = becomes === 'ready' ? 'True' : 'False';
  if (pod.status?.phase === phase[becomes] && findCondition(pod.status.conditions, 'Ready')?.status === ready)
    return;
  await pods.updateStatus({
    ...pod,
    status: {
      ...pod.status,
      phase: phase[becomes],
      conditions: [{ type: 'Ready', status: ready, lastTransitionTime: timestamp(clock.now()) }],
    },
  });
}
