// The names by which the provisioner is known in the API, and how the things it makes are called.

import type { PersistentVolumeClaim } from '../api/types/core-v1.ts';

/** The provisioner of classes whose volumes are directories on a node's disk. */
export const LOCAL_PATH_PROVISIONER = 'bulkhead.dev/local-path';

/** As whom it comes to the API server; bound to the role of the same name (apiserver/bootstrap). */
export const LOCAL_PATH_PROVISIONER_USER = 'system:bulkhead:local-path-provisioner';

/** Holds a volume in the API until what it stands for is deleted; the name that all external provisioners use. */
export const FINALIZER = 'external-provisioner.volume.kubernetes.io/finalizer';

export const HOSTNAME_LABEL = 'kubernetes.io/hostname';

/** Longest name of a directory entry, in bytes. */
const NAME_MAX = 255;

/** The same claim always gives the same volume, so that two tries never make two. */
export function volumeNameFor(claim: PersistentVolumeClaim): string {
  return `pvc-${claim.metadata.uid}`;
}

/**
 * The directory of a claim's volume: the volume's name, which makes it unique, and for people the claim's. One path
 * component of harmless characters, whatever the claim is called.
 */
export function directoryNameFor(claim: PersistentVolumeClaim): string {
  const { namespace = '', name } = claim.metadata;
  const volumeName = volumeNameFor(claim);
  if (!/^pvc-[A-Za-z0-9-]+$/.test(volumeName)) throw new Error(`claim ${name} has a uid that is none`);
  const plain = (text: string): string => text.replace(/[^A-Za-z0-9.-]/g, '-');
  return `${volumeName}_${plain(namespace)}_${plain(name)}`.slice(0, NAME_MAX);
}

/** Whether a directory is that of the volume with this name. */
export function isDirectoryOf(directoryName: string, volumeName: string): boolean {
  return /^pvc-[A-Za-z0-9-]+$/.test(volumeName) && directoryName.startsWith(`${volumeName}_`);
}

/** The name of the volume that a directory belongs to; undefined for what we did not make. */
export function volumeNameOf(directoryName: string): string | undefined {
  return /^(pvc-[A-Za-z0-9-]+)_/.exec(directoryName)?.[1];
}
