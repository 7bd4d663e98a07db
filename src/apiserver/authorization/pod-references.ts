// The objects that a pod cannot run without, as keys `<resource>/<namespace>/<name>`: what its node may read.

import type { Container, EphemeralContainer, Pod, Volume } from '../../api/types/core-v1.ts';

function* containerReferences(
  container: Container | EphemeralContainer,
): Generator<[resource: string, name: string | undefined]> {
  for (const source of container.envFrom ?? []) {
    yield ['configmaps', source.configMapRef?.name];
    yield ['secrets', source.secretRef?.name];
  }
  for (const { valueFrom } of container.env ?? []) {
    yield ['configmaps', valueFrom?.configMapKeyRef?.name];
    yield ['secrets', valueFrom?.secretKeyRef?.name];
  }
}

function* volumeReferences(
  pod: Pod,
  volume: Volume,
): Generator<[resource: string, name: string | undefined]> {
  yield ['secrets', volume.secret?.secretName];
  yield ['configmaps', volume.configMap?.name];
  yield ['persistentvolumeclaims', volume.persistentVolumeClaim?.claimName];
  if (volume.ephemeral) yield ['persistentvolumeclaims', `${pod.metadata.name}-${volume.name}`];
  for (const source of volume.projected?.sources ?? []) {
    yield ['secrets', source.secret?.name];
    yield ['configmaps', source.configMap?.name];
  }
  yield ['secrets', volume.csi?.nodePublishSecretRef?.name];
  yield ['secrets', volume.iscsi?.secretRef?.name];
  yield ['secrets', volume.rbd?.secretRef?.name];
  yield ['secrets', volume.cephfs?.secretRef?.name];
  yield ['secrets', volume.cinder?.secretRef?.name];
  yield ['secrets', volume.flexVolume?.secretRef?.name];
  yield ['secrets', volume.scaleIO?.secretRef?.name];
  yield ['secrets', volume.storageos?.secretRef?.name];
  yield ['secrets', volume.azureFile?.secretName];
}

/** Distinct keys of everything that the pod refers to by name. */
export function podReferences(pod: Pod): Set<string> {
  const namespace = pod.metadata.namespace ?? '';
  const keys = new Set<string>();
  const add = (resource: string, name: string | undefined): void => {
    if (name) keys.add(`${resource}/${namespace}/${name}`);
  };
  add('serviceaccounts', pod.spec.serviceAccountName);
  for (const { name } of pod.spec.imagePullSecrets ?? []) add('secrets', name);
  for (const list of [pod.spec.initContainers, pod.spec.containers, pod.spec.ephemeralContainers])
    for (const container of list ?? [])
      for (const [resource, name] of containerReferences(container)) add(resource, name);
  for (const volume of pod.spec.volumes ?? [])
    for (const [resource, name] of volumeReferences(pod, volume)) add(resource, name);
  for (const claim of pod.spec.resourceClaims ?? []) add('resourceclaims', claim.resourceClaimName);
  for (const claim of pod.status?.resourceClaimStatuses ?? []) add('resourceclaims', claim.resourceClaimName);
  return keys;
}
