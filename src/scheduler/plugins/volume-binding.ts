// VolumeBinding: the node can use the volumes that the pod's claims have, and for claims that wait for their first
// consumer there is one to be had there. Chooses volume and node together and has both written before the pod is bound.

import { claimClass, volumeClass } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { StorageClass } from '../../api/types/storage-v1.ts';
import { type ClusterEvent, type Plugin, unresolvable } from '../framework.ts';
import {
  capacityLimit,
  claimNames,
  claimProblem,
  decide,
  likelyNodes,
  type PodVolumes,
  podVolumes,
  usesClaims,
} from '../volumes/pod-volumes.ts';
import type { Reservation, VolumeBinder } from '../volumes/volume-binder.ts';
import type { VolumeState } from '../volumes/volume-state.ts';

const NAME = 'VolumeBinding';
const RESERVED = 'VolumeBinding/reserved';

/** Kind `unresolvable` throughout: no pod that is taken away brings a volume. */
export function volumeBinding(binder: VolumeBinder): Plugin {
  const { state: volumes } = binder;
  return {
    name: NAME,
    preFilter(state, pod, snapshot) {
      if (!usesClaims(pod)) return { skip: true };
      const problem = claimProblem(pod, volumes);
      if (problem !== undefined) return { rejected: unresolvable(problem) };
      const own = podVolumes(pod, volumes);
      if ('rejected' in own) return { rejected: unresolvable(own.rejected) };
      state.write<PodVolumes>(NAME, own);
      const likely = likelyNodes(own, snapshot);
      return likely ? { likely } : {};
    },
    filter(state, _pod, { node }) {
      const own = state.read<PodVolumes>(NAME);
      const judgement = own && decide(own, node, volumes);
      return judgement && 'rejected' in judgement ? unresolvable(...judgement.rejected) : undefined;
    },
    reserve(state, _pod, nodeName) {
      const own = state.read<PodVolumes>(NAME);
      if (!own || own.delayed.length === 0) return undefined;
      const node = binder.node(nodeName);
      // Nothing has happened since Filter looked at this node: deciding again is cheaper than keeping all decisions.
      const judgement = node && decide(own, node, volumes);
      if (!judgement || 'rejected' in judgement)
        return unresolvable(...(judgement?.rejected ?? [`node "${nodeName}" not found`]));
      state.write<Reservation>(RESERVED, binder.reserve(judgement, nodeName));
      return undefined;
    },
    unreserve(state) {
      const reservation = state.read<Reservation>(RESERVED);
      if (reservation) binder.release(reservation);
    },
    needsPreBind: (state) => state.read<Reservation>(RESERVED) !== undefined,
    async preBind(state, _pod, nodeName, signal) {
      const reservation = state.read<Reservation>(RESERVED);
      if (reservation) await binder.bind(reservation, nodeName, signal);
    },
    mayHelp: (pod, event) => mayHelp(pod, event, volumes),
  };
}

function mayHelp(pod: Pod, event: ClusterEvent, volumes: VolumeState): boolean {
  const { namespace } = pod.metadata;
  switch (event.type) {
    case 'NodeAdded':
      return true;
    case 'NodeUpdated':
      return JSON.stringify(event.node.metadata.labels) !== JSON.stringify(event.old.metadata.labels);
    case 'PodUpdated':
      return event.pod.metadata.uid === pod.metadata.uid;
    case 'ClaimChanged':
      return (
        event.claim.metadata.namespace === namespace && claimNames(pod).includes(event.claim.metadata.name)
      );
    case 'VolumeChanged': {
      const { name } = event.volume.metadata;
      return claimNames(pod).some((claimName) => {
        const claim = volumes.claim(namespace, claimName);
        if (!claim) return false;
        if (claim.spec.volumeName) return claim.spec.volumeName === name;
        const { claimRef } = event.volume.spec;
        if (claimRef) return claimRef.namespace === namespace && claimRef.name === claimName;
        return claimClass(claim) === volumeClass(event.volume);
      });
    }
    case 'StorageClassChanged': {
      const { storageClass, old } = event;
      if (old && !topologiesDiffer(storageClass, old)) return false;
      return usesClass(pod, storageClass.metadata.name, volumes);
    }
    case 'StorageCapacityChanged': {
      const { capacity, old } = event;
      const now = capacityLimit(capacity);
      const before = old && capacityLimit(old);
      if (old && (now === undefined || (before !== undefined && now <= before))) return false;
      return usesClass(pod, capacity.storageClassName, volumes);
    }
    case 'CsiDriverChanged':
      return event.old?.spec.storageCapacity === true && event.driver.spec.storageCapacity !== true;
    default:
      return false;
  }
}

function topologiesDiffer(a: StorageClass, b: StorageClass): boolean {
  return JSON.stringify(a.allowedTopologies) !== JSON.stringify(b.allowedTopologies);
}

function usesClass(pod: Pod, className: string, volumes: VolumeState): boolean {
  return claimNames(pod).some((name) => {
    const claim = volumes.claim(pod.metadata.namespace, name);
    return claim !== undefined && claimClass(claim) === className;
  });
}
