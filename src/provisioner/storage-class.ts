// The storage class that a cluster has from its first start, so that a claim that names none gets a volume.

import { type Draft, findDefaultStorageClass, isAlreadyExists } from '../api/index.ts';
import type { StorageClass } from '../api/types/storage-v1.ts';
import { type Client, resources } from '../client/index.ts';
import { LOCAL_PATH_PROVISIONER } from './names.ts';

const CLASS_NAME = 'local-path';
const IS_DEFAULT = 'storageclass.kubernetes.io/is-default-class';
/** On the namespace kube-system: the class was made once, whatever became of it. */
const MADE = 'bulkhead.dev/default-storage-class';
const NAMESPACE = 'kube-system';

const defaultClass = (isDefault: boolean): Draft<StorageClass> => ({
  metadata: {
    name: CLASS_NAME,
    annotations: {
      ...(isDefault ? { [IS_DEFAULT]: 'true' } : {}),
      'kubernetes.io/description':
        'Directories on the disk of the node that runs the pod. They are as fast as that disk, stay on that node, and share its space: the size of a claim is not enforced.',
    },
  },
  provisioner: LOCAL_PATH_PROVISIONER,
  reclaimPolicy: 'Delete',
  volumeBindingMode: 'WaitForFirstConsumer',
  allowVolumeExpansion: true,
});

/**
 * Makes the class local-path, once in the life of a cluster: to be called at every start, it remembers in the cluster
 * that it has been made, and neither makes it again when a user has deleted it nor changes what a user has changed.
 * It is the default class unless there is another already. Needs to read and patch the namespace kube-system.
 */
export async function ensureDefaultStorageClass(client: Client): Promise<void> {
  const namespaces = client.resource(resources.namespaces);
  const system = await namespaces.get(NAMESPACE);
  if (system.metadata.annotations?.[MADE] !== undefined) return;
  const classes = client.resource(resources.storageClasses);
  const { items } = await classes.list();
  try {
    await classes.create(defaultClass(findDefaultStorageClass(items) === undefined));
  } catch (error) {
    // Made before a crash that came before the note of it.
    if (!isAlreadyExists(error)) throw error;
  }
  await namespaces.patch(NAMESPACE, {
    type: 'merge',
    patch: { metadata: { annotations: { [MADE]: CLASS_NAME } } },
  });
}
