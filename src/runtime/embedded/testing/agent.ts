// A node agent to be killed: makes pods and containers in the directories that its argument names, without end, and
// says on standard output what it has.

import { randomUUID } from 'node:crypto';
import { createCgroupManager } from '../cgroups.ts';
import { startEmbeddedRuntime } from '../runtime.ts';
import { BusyboxImages } from './busybox-image.ts';
import { NoNetwork, type RuntimeFixture } from './fixture.ts';

interface Order {
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly cgroup: string;
  readonly images: string;
  readonly pod: ReturnType<RuntimeFixture['podConfig']>;
  readonly container: ReturnType<RuntimeFixture['containerConfig']>;
  /** One pod and container, and then nothing; else one after the other. */
  readonly once: boolean;
}

const order = JSON.parse(process.argv[2] ?? '') as Order;
const images = new BusyboxImages(order.images);
await images.add('busybox');
const cgroups = await createCgroupManager();
const runtime = await startEmbeddedRuntime({ ...order, images, network: new NoNetwork(), cgroups });
do {
  const uid = randomUUID();
  const config = {
    ...order.pod,
    metadata: { ...order.pod.metadata, uid },
    cgroupParent: `${order.pod.cgroupParent}-${uid}`,
  };
  await cgroups.create(config.cgroupParent);
  const pod = await runtime.runPodSandbox(config, '');
  const container = await runtime.createContainer(pod, order.container, config);
  await runtime.startContainer(container);
  console.log(JSON.stringify({ pod, container, pid: (await runtime.containerStatus(container)).pid }));
  if (!order.once) await runtime.removePodSandbox(pod);
} while (!order.once);
setInterval(() => {}, 1 << 30);
