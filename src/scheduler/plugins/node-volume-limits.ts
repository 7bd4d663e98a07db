// NodeVolumeLimits: no more volumes of a CSI driver on a node than its CSINode says it can hold. A volume that several
// pods use counts once.

import { claimClass, claimNameOf, isClaimOfPod } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { type Plugin, unresolvable, unschedulable } from '../framework.ts';
import { claimNames, foreignClaimMessage, notFoundMessage, usesClaims } from '../volumes/pod-volumes.ts';
import type { VolumeState } from '../volumes/volume-state.ts';

const NAME = 'NodeVolumeLimits';
const TOO_MANY = 'node(s) exceed max volume count';

/** Driver by volume handle: the volumes that pods need attached. */
type Attachments = Map<string, string>;

export function nodeVolumeLimits(volumes: VolumeState): Plugin {
  const { sources } = volumes;

  /** Claims that are not there count nothing: for the pod itself PreFilter has seen to it. */
  function add(pod: Pod, to: Attachments): void {
    const { namespace } = pod.metadata;
    for (const name of claimNames(pod)) {
      const claim = volumes.claim(namespace, name);
      if (!claim) continue;
      const volume = claim.spec.volumeName ? volumes.volume(claim.spec.volumeName) : undefined;
      if (volume) {
        const { csi } = volume.spec;
        if (csi) to.set(`${csi.driver}/${csi.volumeHandle}`, csi.driver);
        continue;
      }
      // Not made yet: it will be one more volume of its class's driver.
      const driver = sources.storageClasses.get(claimClass(claim))?.provisioner;
      if (driver && sources.csiDrivers.get(driver)) to.set(`${driver}/${namespace}/${name}`, driver);
    }
  }

  return {
    name: NAME,
    preFilter(state, pod) {
      if (!usesClaims(pod)) return { skip: true };
      for (const volume of pod.spec.volumes ?? []) {
        const name = claimNameOf(pod, volume);
        if (name === undefined) continue;
        const claim = volumes.claim(pod.metadata.namespace, name);
        if (volume.ephemeral && claim && !isClaimOfPod(claim, pod))
          return { rejected: unresolvable(foreignClaimMessage(pod, name)) };
        // VolumeBinding has better words for ephemeral volumes whose claim is still to come.
        if (!claim && !volume.ephemeral) return { rejected: unresolvable(notFoundMessage(name)) };
      }
      if (sources.csiNodes.size === 0) return { skip: true };
      const wanted: Attachments = new Map();
      add(pod, wanted);
      if (wanted.size === 0) return { skip: true };
      state.write<Attachments>(NAME, wanted);
      return {};
    },
    filter(state, _pod, node) {
      const wanted = state.read<Attachments>(NAME);
      const limits = new Map<string, number>();
      for (const { name, allocatable } of sources.csiNodes.get(node.name)?.spec.drivers ?? [])
        if (allocatable?.count !== undefined) limits.set(name, allocatable.count);
      if (!wanted || limits.size === 0) return undefined;
      const all: Attachments = new Map();
      for (const { pod } of node.pods.values()) if (usesClaims(pod)) add(pod, all);
      const drivers = new Set<string>();
      for (const [handle, driver] of wanted) {
        if (all.has(handle)) continue;
        all.set(handle, driver);
        drivers.add(driver);
      }
      for (const driver of drivers) {
        const limit = limits.get(driver);
        if (limit === undefined) continue;
        let count = 0;
        for (const one of all.values()) if (one === driver) count++;
        if (count > limit) return unschedulable(TOO_MANY);
      }
      return undefined;
    },
    mayHelp(pod, event) {
      switch (event.type) {
        case 'NodeAdded':
        case 'CsiNodeChanged':
          return true;
        case 'AssignedPodDeleted':
          return usesClaims(event.pod);
        case 'ClaimChanged':
          return (
            event.claim.metadata.namespace === pod.metadata.namespace &&
            claimNames(pod).includes(event.claim.metadata.name)
          );
        case 'VolumeChanged':
          return claimNames(pod).some(
            (name) =>
              volumes.claim(pod.metadata.namespace, name)?.spec.volumeName === event.volume.metadata.name,
          );
        default:
          return false;
      }
    },
  };
}
