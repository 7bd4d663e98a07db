// DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the default one, which is
// the newest of those that carry the annotation.

import type { KubeObject } from '../../api/index.ts';
import type { PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { Ingress } from '../../api/types/networking-v1.ts';
import type { AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs } from './refusal.ts';

const STORAGE_DEFAULT = 'storageclass.kubernetes.io/is-default-class';
const STORAGE_DEFAULT_BETA = 'storageclass.beta.kubernetes.io/is-default-class';
const STORAGE_CLASS_BETA = 'volume.beta.kubernetes.io/storage-class';
const INGRESS_DEFAULT = 'ingressclass.kubernetes.io/is-default-class';
const INGRESS_CLASS_BETA = 'kubernetes.io/ingress.class';

/** The newest class that one of the annotations marks; by name when two are of the same second. */
function defaultClass(classes: Iterable<KubeObject>, annotations: readonly string[]): string | undefined {
  let best: KubeObject | undefined;
  for (const candidate of classes) {
    if (!annotations.some((key) => candidate.metadata.annotations?.[key] === 'true')) continue;
    const age = best
      ? Date.parse(candidate.metadata.creationTimestamp) - Date.parse(best.metadata.creationTimestamp)
      : 1;
    if (!best || age > 0 || (age === 0 && candidate.metadata.name < best.metadata.name)) best = candidate;
  }
  return best?.metadata.name;
}

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
      const name = defaultClass(reader.list('storage.k8s.io', 'storageclasses'), [
        STORAGE_DEFAULT,
        STORAGE_DEFAULT_BETA,
      ]);
      if (name !== undefined) claim.spec.storageClassName = name;
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
      const name = defaultClass(reader.list('networking.k8s.io', 'ingressclasses'), [INGRESS_DEFAULT]);
      if (name !== undefined) ingress.spec = { ...ingress.spec, ingressClassName: name };
    },
  };
}
