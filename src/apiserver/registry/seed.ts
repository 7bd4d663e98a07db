// Objects that the server makes for itself from its own tables. They are known to be right and in their normal form
// (a test holds them against what a create would have made), so nothing is decoded, admitted or validated: at a start
// on an empty store there are some 150 of them, and the server is not ready before they stand.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { alreadyExists } from '../../api/errors.ts';
import { groupVersion, type KubeObject } from '../../api/object.ts';
import type { SeedObject } from '../chain.ts';
import { type RegistryContext, storageDefinition } from './context.ts';
import { prepare } from './create.ts';
import { orderMetadata } from './object-meta.ts';

/** The object's parts are shared from then on and must not be changed. Rejects with AlreadyExists. */
export async function seed(
  context: RegistryContext,
  definition: ResourceDefinition,
  object: SeedObject,
): Promise<KubeObject> {
  const stored = storageDefinition(context, definition);
  const whole: MutableObject = {
    kind: stored.kind,
    apiVersion: groupVersion(stored),
    ...object,
    metadata: { ...object.metadata } as MutableObject['metadata'],
  };
  prepare(context, stored, whole);
  orderMetadata(whole);
  const written = await context.objects.write(stored, whole, undefined);
  if (written.done) return written.object.object;
  throw alreadyExists({ group: definition.group, name: definition.resource }, whole.metadata.name ?? '');
}
