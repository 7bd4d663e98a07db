// VolumeRestrictions: a claim that only one pod may use (ReadWriteOncePod) is not used by another, anywhere; and disks
// that only one pod may write are not mounted by two on one node.

import type { Pod, Volume } from '../../api/types/core-v1.ts';
import { type Plugin, type Snapshot, unresolvable, unschedulable } from '../framework.ts';
import { notFoundMessage } from '../volumes/pod-volumes.ts';
import { claimKey, type VolumeState } from '../volumes/volume-state.ts';

const NAME = 'VolumeRestrictions';
const DISK_CONFLICT = 'node(s) had no available disk';
const CLAIM_CONFLICT =
  'node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode';

const readOnlyTogether = (a: { readonly readOnly?: boolean }, b: { readonly readOnly?: boolean }): boolean =>
  a.readOnly === true && b.readOnly === true;

/** Whether the disk of both volumes is the same and must not be used by both. */
function disksConflict(a: Volume, b: Volume): boolean {
  if (a.gcePersistentDisk && b.gcePersistentDisk)
    return (
      a.gcePersistentDisk.pdName === b.gcePersistentDisk.pdName &&
      !readOnlyTogether(a.gcePersistentDisk, b.gcePersistentDisk)
    );
  if (a.awsElasticBlockStore && b.awsElasticBlockStore)
    return a.awsElasticBlockStore.volumeID === b.awsElasticBlockStore.volumeID;
  if (a.iscsi && b.iscsi) return a.iscsi.iqn === b.iscsi.iqn && !readOnlyTogether(a.iscsi, b.iscsi);
  const [x, y] = [a.rbd, b.rbd];
  if (!x || !y) return false;
  return (
    x.monitors.some((monitor) => y.monitors.includes(monitor)) &&
    (x.pool ?? 'rbd') === (y.pool ?? 'rbd') &&
    x.image === y.image &&
    !readOnlyTogether(x, y)
  );
}

const isDisk = (volume: Volume): boolean =>
  (volume.gcePersistentDisk ?? volume.awsElasticBlockStore ?? volume.iscsi ?? volume.rbd) !== undefined;

interface Restrictions {
  readonly disks: readonly Volume[];
  readonly claimTaken: boolean;
}

export function volumeRestrictions(volumes: VolumeState): Plugin {
  const namedClaims = (pod: Pod): string[] =>
    (pod.spec.volumes ?? [])
      .map(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName)
      .filter((name) => name !== undefined);

  return {
    name: NAME,
    preFilter(state, pod, snapshot: Snapshot) {
      const own = pod.spec.volumes;
      if (!own || own.length === 0) return { skip: true };
      let claimTaken = false;
      for (const name of namedClaims(pod)) {
        const claim = volumes.claim(pod.metadata.namespace, name);
        if (!claim) return { rejected: unresolvable(notFoundMessage(name)) };
        if (!claim.spec.accessModes?.includes('ReadWriteOncePod')) continue;
        if (snapshot.podsUsingClaim(claimKey(pod.metadata.namespace, name)) > 0) claimTaken = true;
      }
      const disks = own.filter(isDisk);
      if (!claimTaken && disks.length === 0) return { skip: true };
      state.write<Restrictions>(NAME, { disks, claimTaken });
      return {};
    },
    filter(state, _pod, node) {
      const { disks = [], claimTaken = false } = state.read<Restrictions>(NAME) ?? {};
      if (disks.length > 0)
        for (const { pod } of node.pods.values())
          for (const other of pod.spec.volumes ?? [])
            if (disks.some((disk) => disksConflict(disk, other))) return unschedulable(DISK_CONFLICT);
      return claimTaken ? unschedulable(CLAIM_CONFLICT) : undefined;
    },
    mayHelp(pod, event) {
      switch (event.type) {
        case 'AssignedPodDeleted': {
          const gone = event.pod.spec.volumes ?? [];
          const shares =
            event.pod.metadata.namespace === pod.metadata.namespace &&
            namedClaims(event.pod).some((name) => namedClaims(pod).includes(name));
          return (
            shares ||
            (pod.spec.volumes ?? []).some((mine) => gone.some((other) => disksConflict(mine, other)))
          );
        }
        case 'ClaimChanged':
          return (
            !event.old &&
            event.claim.metadata.namespace === pod.metadata.namespace &&
            namedClaims(pod).includes(event.claim.metadata.name)
          );
        case 'NodeAdded':
          return (pod.spec.volumes ?? []).some(isDisk);
        default:
          return false;
      }
    },
  };
}
