// DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the default one, which is
// the newest of those that carry the annotation.

import { findDefaultClass, findDefaultStorageClass } from '../../api/index.ts';
import type { PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { Ingress } from '../../api/types/networking-v1.ts';
import type { AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs } from './refusal.ts';

const STORAGE_CLASS_BETA = 'volume.beta.kubernetes.io/storage-class';
const INGRESS_DEFAULT = 'ingressclass.kubernetes.io/is-default-class';
const INGRESS_CLASS_BETA = 'kubernetes.io/ingress.class';

export function defaultStorageClassPlugin(reader: ObjectReader): AdmissionPlugin {
  return {
    name: 'DefaultStorageClass',
    handles: (operation) => operation === 'CREATE',
    admit(attributes) {
      if (!isFor(attributes, '', 'persistentvolumeclaims')) return;
      const claim = objectAs<PersistentVolumeClaim>(attributes);
      // The empty string means: no class, on purpose.
      if (claim.spec.storageClassName !== undefined) return;
      if (claim.metadata.annotations?.[STORAGE_CLASS_BETA] !== undefined) return;
      const found = findDefaultStorageClass(reader.list('storage.k8s.io', 'storageclasses'));
      if (found) claim.spec.storageClassName = found.metadata.name;
    },
  };
}

export function defaultIngressClassPlugin(reader: ObjectReader): AdmissionPlugin {
  return {
    name: 'DefaultIngressClass',
    handles: (operation) => operation === 'CREATE',
    admit(attributes) {
      if (!isFor(attributes, 'networking.k8s.io', 'ingresses')) return;
      const ingress = objectAs<Ingress>(attributes);
      if (ingress.spec?.ingressClassName !== undefined) return;
      if (ingress.metadata.annotations?.[INGRESS_CLASS_BETA] !== undefined) return;
      const found = findDefaultClass(reader.list('networking.k8s.io', 'ingressclasses'), [INGRESS_DEFAULT]);
      if (found) ingress.spec = { ...ingress.spec, ingressClassName: found.metadata.name };
    },
  };
}
