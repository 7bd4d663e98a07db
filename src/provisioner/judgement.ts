// What may be asked of a directory on a node's disk, and the volume that answers it. Pure. Whatever a claim or a class
// asks that such a directory cannot give is refused by name; nothing is silently left out.

import { claimClass, type Draft, topologyAllows, volumeAnnotations } from '../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '../api/types/core-v1.ts';
import type { StorageClass } from '../api/types/storage-v1.ts';
import { FINALIZER, HOSTNAME_LABEL, volumeNameFor } from './names.ts';

/** Why the claim cannot be served; undefined when it can. */
export function refusalOf(claim: PersistentVolumeClaim, storageClass: StorageClass): string | undefined {
  const { accessModes = [], selector, volumeMode, dataSource, dataSourceRef } = claim.spec;
  const { volumeAttributesClassName } = claim.spec;
  if (volumeMode === 'Block')
    return `${storageClass.provisioner} does not support block volume provisioning: the claim's volumeMode must be Filesystem`;
  const modes = accessModes.filter((mode) => mode !== 'ReadWriteOnce' && mode !== 'ReadWriteOncePod');
  if (modes.length > 0)
    return failed(
      claim,
      `a directory on one node's disk supports the access modes ReadWriteOnce and ReadWriteOncePod only, not ${modes.join(', ')}`,
    );
  if (selector) return failed(claim, 'claim.Spec.Selector is not supported');
  const source = dataSourceRef ?? dataSource;
  if (source)
    return failed(claim, `volumes cannot be made from a data source (${source.kind} ${source.name})`);
  if (volumeAttributesClassName)
    return failed(claim, `volumeAttributesClassName "${volumeAttributesClassName}" is not supported`);
  if (storageClass.mountOptions?.length)
    return failed(
      claim,
      `mountOptions are not supported for directories, but the class has ${storageClass.mountOptions.join(', ')}`,
    );
  const unknown = Object.keys(storageClass.parameters ?? {}).toSorted();
  if (unknown.length > 0)
    return failed(
      claim,
      `the class has parameters that ${storageClass.provisioner} does not know: ${unknown.join(', ')}`,
    );
  return undefined;
}

/** The words of an event about a claim that was not served. */
export function failed(claim: PersistentVolumeClaim, why: string): string {
  return `failed to provision volume with StorageClass "${claimClass(claim)}": ${why}`;
}

/** The nodes on whose disks the class allows volumes. */
export function candidateNodes(storageClass: StorageClass, nodes: Iterable<Node>): Node[] {
  return [...nodes].filter((node) => topologyAllows(storageClass.allowedTopologies, node.metadata.labels));
}

/** The volume for a claim, in this directory of a node with this hostname label. */
export function volumeFor(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  place: { readonly path: string; readonly hostname: string },
): Draft<PersistentVolume> & { readonly metadata: { readonly name: string } } {
  const { namespace, name, uid, resourceVersion } = claim.metadata;
  const storage = claim.spec.resources?.requests?.['storage'] ?? '0';
  const policy = storageClass.reclaimPolicy ?? 'Delete';
  return {
    metadata: {
      name: volumeNameFor(claim),
      annotations: { [volumeAnnotations.provisionedBy]: storageClass.provisioner },
      // With another policy nothing is to be done when the volume is deleted.
      ...(policy === 'Delete' ? { finalizers: [FINALIZER] } : {}),
    },
    spec: {
      capacity: { storage },
      ...(claim.spec.accessModes ? { accessModes: claim.spec.accessModes } : {}),
      volumeMode: 'Filesystem',
      persistentVolumeReclaimPolicy: policy,
      storageClassName: claimClass(claim),
      claimRef: {
        kind: 'PersistentVolumeClaim',
        apiVersion: 'v1',
        namespace,
        name,
        uid,
        resourceVersion,
      },
      local: { path: place.path },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: HOSTNAME_LABEL, operator: 'In', values: [place.hostname] }] },
          ],
        },
      },
    },
  };
}
