// The control groups above the containers: /kubepods holds all pods to what the node has for them, its classes share
// the processor by what their pods ask for, and each pod has a group of its own (upstream: pkg/kubelet/cm). A group is
// written only when its values change.

import { podRequests } from '../api/index.ts';
import type { Pod } from '../api/types/core-v1.ts';
import type { Logger } from '../component/index.ts';
import type { CgroupManager, MachineInfo } from './host/host.ts';
import {
  amount,
  type CgroupResources,
  cpuShares,
  podCgroup,
  podCgroupResources,
  qosClass,
  type ResourceList,
} from './resources.ts';

export interface PodCgroupsOptions {
  /** Absent: there are no groups, and nothing to do. */
  readonly cgroups: CgroupManager | undefined;
  readonly machine: MachineInfo;
  readonly root: string;
  readonly reserved: readonly ResourceList[];
  readonly podPidsLimit: number;
  readonly logger: Logger;
}

export class PodCgroups {
  readonly #options: PodCgroupsOptions;
  readonly #written = new Map<string, string>();
  /** CPU requests of running Burstable pods, milli-cores by pod. */
  readonly #burstable = new Map<string, number>();

  constructor(options: PodCgroupsOptions) {
    this.#options = options;
  }

  /** Makes the groups that all pods stand in. */
  async start(): Promise<void> {
    const { cgroups, machine, root, reserved } = this.#options;
    if (!cgroups) return;
    const held = (name: string): number => reserved.reduce((sum, list) => sum + amount(name, list[name]), 0);
    await this.#write(`${root}/kubepods`, {
      cpuShares: cpuShares(Math.max(0, machine.cpus * 1000 - held('cpu'))),
      memoryLimitBytes: Math.max(0, machine.memoryBytes - held('memory')),
    });
    await this.#write(`${root}/kubepods/besteffort`, { cpuShares: cpuShares(0) });
    await this.#write(`${root}/kubepods/burstable`, { cpuShares: cpuShares(0) });
  }

  /** Makes the pod's group, or gives it the values that its spec now asks for. */
  async ensure(pod: Pod): Promise<void> {
    const { root, podPidsLimit, cgroups } = this.#options;
    if (!cgroups) return;
    if (qosClass(pod) === 'Burstable') {
      this.#burstable.set(pod.metadata.uid, podRequests(pod).get('cpu') ?? 0);
      await this.#writeBurstable();
    }
    await this.#write(podCgroup(root, pod), podCgroupResources(pod, podPidsLimit));
  }

  /** Ends what still runs in the pod's group and removes it. */
  async remove(pod: Pod): Promise<void> {
    await this.#remove(podCgroup(this.#options.root, pod));
    if (!this.#burstable.delete(pod.metadata.uid)) return;
    await this.#writeBurstable();
  }

  /** The same for a pod of which only the uid is known. */
  async removeUid(uid: string): Promise<void> {
    for (const parent of ['', '/burstable', '/besteffort'])
      await this.#remove(`${this.#options.root}/kubepods${parent}/pod${uid}`);
  }

  /** Uids of pods that have a group. */
  async uids(): Promise<string[]> {
    const { cgroups, root } = this.#options;
    if (!cgroups) return [];
    const parents = ['', '/burstable', '/besteffort'].map((parent) => `${root}/kubepods${parent}`);
    const names = (await Promise.all(parents.map((parent) => cgroups.children(parent)))).flat();
    return names.filter((name) => name.startsWith('pod')).map((name) => name.slice(3));
  }

  async #writeBurstable(): Promise<void> {
    const milli = [...this.#burstable.values()].reduce((sum, value) => sum + value, 0);
    await this.#write(`${this.#options.root}/kubepods/burstable`, { cpuShares: cpuShares(milli) });
  }

  async #write(path: string, resources: CgroupResources): Promise<void> {
    const text = JSON.stringify(resources);
    if (this.#written.get(path) === text) return;
    await this.#options.cgroups?.ensure(path, resources);
    this.#written.set(path, text);
  }

  async #remove(path: string): Promise<void> {
    await this.#options.cgroups?.remove(path);
    this.#written.delete(path);
  }
}
