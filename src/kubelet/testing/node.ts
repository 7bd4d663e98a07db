// A node for tests: the agent over the simulated runtime and an API in memory, on a clock that the test may hold.

import type { Pod, PodSpec } from '../../api/types/core-v1.ts';
import { type Client, createClient, resources } from '../../client/index.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { type Clock, systemClock } from '../../component/index.ts';
import { type Simulation, startSimulatedRuntime } from '../../runtime/simulated/index.ts';
import {
  createSimulatedHost,
  type Kubelet,
  type KubeletOptions,
  type SimulatedHost,
  startKubelet,
} from '../index.ts';

export const NODE = 'node-1';

export interface TestNode extends AsyncDisposable {
  readonly api: FakeApi;
  readonly client: Client;
  readonly runtime: Simulation;
  readonly host: SimulatedHost;
  readonly kubelet: Kubelet;
  createPod(pod: TestPod): Promise<Pod>;
  getPod(name: string): Promise<Pod>;
  /** The messages of events about the pod, as `reason: message`. */
  events(pod: string): Promise<string[]>;
  /** Stops the agent and starts another on the same runtime. */
  restart(): Promise<void>;
}

export interface TestPod {
  readonly name: string;
  readonly annotations?: Record<string, string>;
  readonly labels?: Record<string, string>;
  readonly spec?: Partial<PodSpec>;
}

export async function startTestNode(
  options: Partial<KubeletOptions> & { readonly clock?: Clock } = {},
): Promise<TestNode> {
  const clock = options.clock ?? systemClock;
  const api = new FakeApi({ clock });
  const client = createClient(api, { clock });
  const runtime = startSimulatedRuntime({ clock, podCidrs: ['10.88.0.0/16'] });
  const host = createSimulatedHost({ isReady: (id) => runtime.isReady(id), clock });
  const start = (): Promise<Kubelet> =>
    startKubelet({
      client,
      nodeName: NODE,
      nodeIPs: ['192.0.2.10'],
      runtime,
      images: runtime,
      host,
      random: () => 0,
      ...options,
      clock,
    });
  let kubelet = await start();
  await kubelet.ready;
  return {
    api,
    client,
    runtime,
    host,
    get kubelet() {
      return kubelet;
    },
    async createPod({ name, annotations, labels, spec }) {
      const pods = client.resource(resources.pods, 'default');
      return pods.create({
        metadata: {
          name,
          namespace: 'default',
          ...(annotations && { annotations }),
          ...(labels && { labels }),
        },
        spec: {
          nodeName: NODE,
          restartPolicy: 'Always',
          terminationGracePeriodSeconds: 30,
          containers: [{ name: 'web', image: 'nginx:1.29', imagePullPolicy: 'IfNotPresent' }],
          ...spec,
        },
      });
    },
    getPod: (name) => client.resource(resources.pods, 'default').get(name),
    async events(pod) {
      const { items } = await client.resource(resources.events, 'default').list();
      return items
        .filter(({ involvedObject }) => involvedObject.name === pod)
        .map(({ reason, message }) => `${reason}: ${message}`);
    },
    async restart() {
      await kubelet[Symbol.asyncDispose]();
      kubelet = await start();
      await kubelet.ready;
    },
    async [Symbol.asyncDispose]() {
      await kubelet[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await runtime[Symbol.asyncDispose]();
    },
  };
}

/** Resolves when `check` stops throwing; rejects with its last failure when the deadline passes. */
export async function eventually(check: () => Promise<void> | void, deadlineMs = 5000): Promise<void> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() >= end) throw error;
    }
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
  }
}
