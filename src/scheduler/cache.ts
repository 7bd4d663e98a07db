// The scheduler's picture of the cluster: every node with its pods, plus the pods that it has placed itself and
// whose binding the API server has not shown yet ("assumed"). A pod counts on its node from the moment of the
// decision, so that the next pod does not take the same room.
//
// Nodes and pods come in any order: a pod may be seen before its node and outlive it.

import type { Node, Pod } from '../api/types/core-v1.ts';
import type { Snapshot } from './framework.ts';
import { NodeInfo, type PodInfo, podInfo } from './node-info.ts';
import { HOSTNAME } from './volumes/volume-hosts.ts';

interface PlacedPod {
  readonly info: PodInfo;
  readonly nodeName: string;
  readonly assumed: boolean;
}

export class SchedulerCache implements Snapshot {
  readonly #nodes = new Map<string, NodeInfo>();
  /** Every node, zones interleaved as they come; rebuilt when nodes come or go. */
  #list: NodeInfo[] | undefined;
  readonly #pods = new Map<string, PlacedPod>();
  /** Pods whose node is not (or no longer) known, by node name. */
  readonly #homeless = new Map<string, Map<string, PodInfo>>();
  /** Names of nodes by their hostname label. */
  readonly #hosts = new Map<string, Set<string>>();
  /** How many placed pods name each claim. */
  readonly #claims = new Map<string, number>();

  get nodes(): readonly NodeInfo[] {
    this.#list ??= interleaveZones([...this.#nodes.values()]);
    return this.#list;
  }

  get(nodeName: string): NodeInfo | undefined {
    return this.#nodes.get(nodeName);
  }

  nodesOfHost(hostname: string): ReadonlySet<string> {
    return this.#hosts.get(hostname) ?? NO_NODES;
  }

  podsUsingClaim(key: string): number {
    return this.#claims.get(key) ?? 0;
  }

  setNode(node: Node): void {
    const known = this.#nodes.get(node.metadata.name);
    const hostname = node.metadata.labels?.[HOSTNAME];
    if (hostname !== known?.node.metadata.labels?.[HOSTNAME] || !known) {
      if (known) this.#leaveHost(known.node);
      if (hostname !== undefined)
        this.#hosts.set(hostname, (this.#hosts.get(hostname) ?? new Set()).add(node.metadata.name));
    }
    if (known) {
      if (zoneOf(known.node) !== zoneOf(node)) this.#list = undefined;
      known.setNode(node);
      return;
    }
    const info = new NodeInfo(node);
    this.#nodes.set(node.metadata.name, info);
    this.#list = undefined;
    for (const pod of this.#homeless.get(node.metadata.name)?.values() ?? []) info.addPod(pod);
    this.#homeless.delete(node.metadata.name);
  }

  removeNode(nodeName: string): void {
    const info = this.#nodes.get(nodeName);
    if (!info) return;
    this.#nodes.delete(nodeName);
    this.#leaveHost(info.node);
    this.#list = undefined;
    if (info.pods.size > 0) this.#homeless.set(nodeName, new Map(info.pods));
  }

  isAssumed(uid: string): boolean {
    return this.#pods.get(uid)?.assumed === true;
  }

  /** The pod is to run there: counts it at once. */
  assume(pod: Pod, nodeName: string): void {
    this.#place(pod, nodeName, true);
  }

  /** The binding failed: the room is free again. A pod that the API server has shown meanwhile stays. */
  forget(pod: Pod): void {
    if (this.isAssumed(pod.metadata.uid)) this.removePod(pod.metadata.uid);
  }

  /** The API server shows the pod on this node. */
  setPod(pod: Pod): void {
    this.#place(pod, pod.spec.nodeName ?? '', false);
  }

  removePod(uid: string): void {
    const placed = this.#pods.get(uid);
    if (!placed) return;
    this.#pods.delete(uid);
    for (const key of placed.info.claims) {
      const left = this.podsUsingClaim(key) - 1;
      if (left > 0) this.#claims.set(key, left);
      else this.#claims.delete(key);
    }
    const node = this.#nodes.get(placed.nodeName);
    if (node) {
      node.removePod(uid);
      return;
    }
    const waiting = this.#homeless.get(placed.nodeName);
    waiting?.delete(uid);
    if (waiting?.size === 0) this.#homeless.delete(placed.nodeName);
  }

  #leaveHost(node: Node): void {
    const hostname = node.metadata.labels?.[HOSTNAME];
    const names = hostname === undefined ? undefined : this.#hosts.get(hostname);
    names?.delete(node.metadata.name);
    if (names?.size === 0) this.#hosts.delete(hostname!);
  }

  #place(pod: Pod, nodeName: string, assumed: boolean): void {
    this.removePod(pod.metadata.uid);
    const info = podInfo(pod);
    this.#pods.set(pod.metadata.uid, { info, nodeName, assumed });
    for (const key of info.claims) this.#claims.set(key, this.podsUsingClaim(key) + 1);
    const node = this.#nodes.get(nodeName);
    if (node) {
      node.addPod(info);
      return;
    }
    const waiting = this.#homeless.get(nodeName) ?? new Map<string, PodInfo>();
    this.#homeless.set(nodeName, waiting.set(pod.metadata.uid, info));
  }
}

const NO_NODES: ReadonlySet<string> = new Set();

function zoneOf(node: Node): string {
  const labels = node.metadata.labels ?? {};
  return `${labels['topology.kubernetes.io/region'] ?? ''}\0${labels['topology.kubernetes.io/zone'] ?? ''}`;
}

/** One node of each zone in turn, so that looking at the first few sees all zones. */
function interleaveZones(nodes: readonly NodeInfo[]): NodeInfo[] {
  const zones = new Map<string, NodeInfo[]>();
  for (const info of nodes) {
    const zone = zoneOf(info.node);
    const members = zones.get(zone);
    if (members) members.push(info);
    else zones.set(zone, [info]);
  }
  if (zones.size <= 1) return [...nodes];
  const result: NodeInfo[] = [];
  for (let i = 0; result.length < nodes.length; i++) {
    for (const members of zones.values()) {
      const info = members[i];
      if (info) result.push(info);
    }
  }
  return result;
}
