// The plugins that look at one field each: NodeName, NodeUnschedulable, NodePorts, SchedulingGates, ImageLocality.

import { tolerates } from '../../api/node-selection.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { MAX_SCORE, type Plugin, unresolvable, unschedulable } from '../framework.ts';
import { type HostPort, podInfo, portsConflict } from '../node-info.ts';

/** Only for pods that come with a node already named but not yet accepted; the queue never holds bound ones. */
export const nodeName: Plugin = {
  name: 'NodeName',
  filter(_state, pod, node) {
    if (!pod.spec.nodeName || pod.spec.nodeName === node.name) return undefined;
    return unresolvable("node(s) didn't match the requested node name");
  },
  mayHelp: (pod, event) => event.type === 'NodeAdded' && event.node.metadata.name === pod.spec.nodeName,
};

const UNSCHEDULABLE_TAINT = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const;
const toleratesUnschedulable = (pod: Pod): boolean => tolerates(pod.spec.tolerations, UNSCHEDULABLE_TAINT);

export const nodeUnschedulable: Plugin = {
  name: 'NodeUnschedulable',
  filter(_state, pod, node) {
    if (!node.node.spec.unschedulable || toleratesUnschedulable(pod)) return undefined;
    return unresolvable('node(s) were unschedulable');
  },
  mayHelp(pod, event) {
    switch (event.type) {
      case 'NodeAdded':
        return !event.node.spec.unschedulable;
      case 'NodeUpdated':
        return event.old.spec.unschedulable === true && !event.node.spec.unschedulable;
      case 'PodUpdated':
        return event.pod.metadata.uid === pod.metadata.uid && toleratesUnschedulable(event.pod);
      default:
        return false;
    }
  },
};

const PORTS = 'NodePorts';

export const nodePorts: Plugin = {
  name: PORTS,
  preFilter(state, pod) {
    const { hostPorts } = podInfo(pod);
    if (hostPorts.length === 0) return { skip: true };
    state.write<readonly HostPort[]>(PORTS, hostPorts);
    return {};
  },
  filter(state, pod, node) {
    const wanted = state.read<readonly HostPort[]>(PORTS) ?? podInfo(pod).hostPorts;
    const taken = wanted.some((port) => node.hostPorts.some((other) => portsConflict(port, other)));
    return taken ? unschedulable("node(s) didn't have free ports for the requested pod ports") : undefined;
  },
  mayHelp(pod, event) {
    if (event.type === 'NodeAdded') return true;
    if (event.type !== 'AssignedPodDeleted') return false;
    const freed = podInfo(event.pod).hostPorts;
    return podInfo(pod).hostPorts.some((port) => freed.some((other) => portsConflict(port, other)));
  },
};

export const schedulingGates: Plugin = {
  name: 'SchedulingGates',
  preEnqueue(pod) {
    const gates = pod.spec.schedulingGates ?? [];
    if (gates.length === 0) return undefined;
    return `waiting for scheduling gates: [${gates.map((g) => g.name).join(' ')}]`;
  },
};

const MEBIBYTE = 1024 * 1024;
const IMAGES_LEAST = 23 * MEBIBYTE;
const IMAGES_MOST_PER_CONTAINER = 1000 * MEBIBYTE;

function normalizedImageName(name: string): string {
  return name.lastIndexOf(':') <= name.lastIndexOf('/') ? `${name}:latest` : name;
}

/** Prefers nodes that already have the pod's images, the more bytes the better. */
export const imageLocality: Plugin = {
  name: 'ImageLocality',
  score(_state, pod, node) {
    const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
    let bytes = 0;
    for (const container of containers)
      bytes += node.images.get(normalizedImageName(container.image ?? '')) ?? 0;
    const most = IMAGES_MOST_PER_CONTAINER * containers.length;
    const bounded = Math.min(Math.max(bytes, IMAGES_LEAST), most);
    return Math.floor((MAX_SCORE * (bounded - IMAGES_LEAST)) / (most - IMAGES_LEAST));
  },
};
