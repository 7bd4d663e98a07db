// A node with what already runs on it, kept up to date pod by pod, so that asking whether another fits costs a few
// comparisons. What a pod asks for is computed once, when the scheduler first sees it.

import { podRequests, type ResourceAmounts, resourceAmounts } from '../api/pod-resources.ts';
import type { Node, Pod } from '../api/types/core-v1.ts';

/** What a pod without requests counts as when nodes are scored, so that such pods spread too (milli-CPU, bytes). */
export const DEFAULT_MILLI_CPU = 100;
export const DEFAULT_MEMORY = 200 * 1024 * 1024;

export interface HostPort {
  readonly ip: string;
  readonly protocol: string;
  readonly port: number;
}

/** A pod and what the scheduler needs of it, computed once. */
export interface PodInfo {
  readonly pod: Pod;
  readonly requests: ResourceAmounts;
  /** For scoring: as `requests`, with a stand-in for containers that ask for nothing. */
  readonly scoredMilliCpu: number;
  readonly scoredMemory: number;
  readonly hostPorts: readonly HostPort[];
  /** The claims that its volumes name, as `namespace/name`. */
  readonly claims: readonly string[];
}

export function podInfo(pod: Pod): PodInfo {
  const requests = podRequests(pod);
  let milliCpu = 0;
  let memory = 0;
  for (const container of pod.spec.containers) {
    if (container.resources?.requests?.['cpu'] === undefined) milliCpu += DEFAULT_MILLI_CPU;
    if (container.resources?.requests?.['memory'] === undefined) memory += DEFAULT_MEMORY;
  }
  const hostPorts: HostPort[] = [];
  for (const container of [...pod.spec.containers, ...(pod.spec.initContainers ?? [])]) {
    if (container.restartPolicy !== 'Always' && pod.spec.initContainers?.includes(container)) continue;
    for (const port of container.ports ?? []) {
      if (!port.hostPort) continue;
      hostPorts.push({ ip: port.hostIP || '0.0.0.0', protocol: port.protocol ?? 'TCP', port: port.hostPort });
    }
  }
  const claims: string[] = [];
  for (const { persistentVolumeClaim } of pod.spec.volumes ?? [])
    if (persistentVolumeClaim)
      claims.push(`${pod.metadata.namespace ?? ''}/${persistentVolumeClaim.claimName}`);
  return {
    pod,
    requests,
    scoredMilliCpu: (requests.get('cpu') ?? 0) + milliCpu,
    scoredMemory: (requests.get('memory') ?? 0) + memory,
    hostPorts,
    claims,
  };
}

const isWildcard = (ip: string): boolean => ip === '' || ip === '0.0.0.0' || ip === '::';

export function portsConflict(a: HostPort, b: HostPort): boolean {
  return (
    a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || isWildcard(a.ip) || isWildcard(b.ip))
  );
}

export class NodeInfo {
  node: Node;
  allocatable: ResourceAmounts;
  readonly requested: ResourceAmounts = new Map();
  scoredMilliCpu = 0;
  scoredMemory = 0;
  readonly pods = new Map<string, PodInfo>();
  readonly hostPorts: HostPort[] = [];
  /** Bytes by image name, of images that are on the node. */
  images: ReadonlyMap<string, number> = new Map();

  constructor(node: Node) {
    this.node = node;
    this.allocatable = new Map();
    this.setNode(node);
  }

  get name(): string {
    return this.node.metadata.name;
  }

  setNode(node: Node): void {
    this.node = node;
    this.allocatable = resourceAmounts(node.status.allocatable);
    const images = new Map<string, number>();
    for (const image of node.status.images ?? []) {
      for (const name of image.names ?? []) images.set(name, image.sizeBytes ?? 0);
    }
    this.images = images;
  }

  addPod(info: PodInfo): void {
    this.pods.set(info.pod.metadata.uid, info);
    for (const [name, amount] of info.requests)
      this.requested.set(name, (this.requested.get(name) ?? 0) + amount);
    this.scoredMilliCpu += info.scoredMilliCpu;
    this.scoredMemory += info.scoredMemory;
    this.hostPorts.push(...info.hostPorts);
  }

  removePod(uid: string): PodInfo | undefined {
    const info = this.pods.get(uid);
    if (!info) return undefined;
    this.pods.delete(uid);
    for (const [name, amount] of info.requests)
      this.requested.set(name, (this.requested.get(name) ?? 0) - amount);
    this.scoredMilliCpu -= info.scoredMilliCpu;
    this.scoredMemory -= info.scoredMemory;
    for (const port of info.hostPorts) this.hostPorts.splice(this.hostPorts.indexOf(port), 1);
    return info;
  }
}
