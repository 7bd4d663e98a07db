// The node agent: registers its node, runs the pods that are bound to it, reports what becomes of them.

import { type Kubelet, NodeAgent } from './kubelet.ts';
import type { KubeletOptions } from './options.ts';

export type {
  CgroupManager,
  CgroupUsage,
  HostStorage,
  KubeletHost,
  MachineInfo,
  MachineUsage,
  MountOperations,
} from './host/host.ts';
export { createLinuxHost, type HostCgroups, type LinuxHostOptions } from './host/linux.ts';
export { createSimulatedHost, type SimulatedHost, type SimulatedHostOptions } from './host/simulated.ts';
export type { Kubelet } from './kubelet.ts';
export { KUBELET_VERSION, type KubeletOptions, type KubeletServerOptions } from './options.ts';
export type { CgroupResources } from './resources.ts';

/** Starts the agent. Resolves at once; `ready` of the answer resolves when the node is registered. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  return new NodeAgent(options);
}
