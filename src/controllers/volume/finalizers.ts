// The finalizers that protect storage objects: admission adds them, the protection controllers take them away, and add
// them to objects from before admission did.

import { isNotFound, type KubeObject } from '../../api/index.ts';
import type { Client, ResourceType } from '../../client/index.ts';

/** Somebody wants it gone and our finalizer still holds it. */
export function isDeletionCandidate({ metadata }: KubeObject, finalizer: string): boolean {
  return metadata.deletionTimestamp !== undefined && metadata.finalizers?.includes(finalizer) === true;
}

export function needsFinalizer({ metadata }: KubeObject, finalizer: string): boolean {
  return metadata.deletionTimestamp === undefined && metadata.finalizers?.includes(finalizer) !== true;
}

export async function addFinalizer<T extends KubeObject>(
  client: Client,
  type: ResourceType<T>,
  object: T,
  finalizer: string,
): Promise<void> {
  await write(client, type, object, [...(object.metadata.finalizers ?? []), finalizer]);
}

export async function removeFinalizer<T extends KubeObject>(
  client: Client,
  type: ResourceType<T>,
  object: T,
  finalizer: string,
): Promise<void> {
  const left = (object.metadata.finalizers ?? []).filter((name) => name !== finalizer);
  await write(client, type, object, left);
}

/** Conditional on the version looked at: the decision was about that one. */
async function write<T extends KubeObject>(
  client: Client,
  type: ResourceType<T>,
  object: T,
  finalizers: readonly string[],
): Promise<void> {
  const { namespace, name, uid, resourceVersion } = object.metadata;
  try {
    await client.resource(type, namespace).patch(name, {
      type: 'merge',
      patch: { metadata: { uid, resourceVersion, finalizers: finalizers.length > 0 ? finalizers : null } },
    });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
