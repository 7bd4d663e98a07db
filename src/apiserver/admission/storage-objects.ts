// StorageObjectInUseProtection (finalizers that keep volumes and claims while somebody uses them) and
// PersistentVolumeClaimResize (only a bound claim of a class that allows it may grow).

import { compareQuantities } from '../../api/index.ts';
import type { PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { StorageClass } from '../../api/types/storage-v1.ts';
import type { AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs, oldObjectAs, refusal } from './refusal.ts';

const PROTECTED: readonly (readonly [group: string, resource: string, finalizer: string])[] = [
  ['', 'persistentvolumeclaims', 'kubernetes.io/pvc-protection'],
  ['', 'persistentvolumes', 'kubernetes.io/pv-protection'],
  ['storage.k8s.io', 'volumeattributesclasses', 'kubernetes.io/vac-protection'],
];

/** Needs the protection controllers, which take the finalizers away again. */
export const storageObjectInUseProtectionPlugin: AdmissionPlugin = {
  name: 'StorageObjectInUseProtection',
  handles: (operation) => operation === 'CREATE',
  admit(attributes) {
    const row = PROTECTED.find(([group, resource]) => isFor(attributes, group, resource));
    const metadata = attributes.object?.metadata;
    if (!row || !metadata || metadata.finalizers?.includes(row[2])) return;
    metadata.finalizers = [...(metadata.finalizers ?? []), row[2]];
  },
};

export function persistentVolumeClaimResizePlugin(reader: ObjectReader): AdmissionPlugin {
  return {
    name: 'PersistentVolumeClaimResize',
    handles: (operation) => operation === 'UPDATE',
    validate(attributes) {
      if (!isFor(attributes, '', 'persistentvolumeclaims')) return;
      const claim = objectAs<PersistentVolumeClaim>(attributes);
      const old = oldObjectAs<PersistentVolumeClaim>(attributes);
      const size = claim.spec.resources?.requests?.['storage'] ?? '0';
      const oldSize = old?.spec.resources?.requests?.['storage'] ?? '0';
      if (compareQuantities(size, oldSize) <= 0) return;
      if (old?.status?.phase !== 'Bound')
        throw refusal(attributes, 'Only bound persistent volume claims can be expanded');
      const className = claim.spec.storageClassName ?? '';
      const storageClass =
        className === ''
          ? undefined
          : reader.get<StorageClass>('storage.k8s.io', 'storageclasses', '', className);
      if (!storageClass?.allowVolumeExpansion)
        throw refusal(
          attributes,
          'only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize',
        );
    },
  };
}
