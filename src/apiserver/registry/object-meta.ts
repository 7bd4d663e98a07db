// What the server itself keeps in metadata, and what may never change in it. How metadata has to look is a rule of
// each kind's validation. After k8s.io/apimachinery's api/validation.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { badRequest, type FieldError, fieldError } from '../../api/errors.ts';
import { timestamp } from '../../api/meta.ts';
import type { KubeObject } from '../../api/object.ts';

type Metadata = MutableObject['metadata'];

export const FINALIZER_ORPHAN = 'orphan';
export const FINALIZER_FOREGROUND = 'foregroundDeletion';

/** Go's order, so that an object that goes out and comes back unchanged has the same bytes again. */
const ORDER = [
  'name',
  'generateName',
  'namespace',
  'uid',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'ownerReferences',
  'finalizers',
] as const;
const ORDERED: ReadonlySet<string> = new Set(ORDER);

/** Puts the fields of metadata in their order and drops what is not stored. */
export function orderMetadata(object: MutableObject): void {
  const old = object.metadata;
  const metadata: Metadata = {};
  for (const name of ORDER) {
    const value = old[name];
    if (value !== undefined) (metadata as Record<string, unknown>)[name] = value;
  }
  for (const name in old)
    if (!ORDERED.has(name) && name !== 'resourceVersion' && name !== 'selfLink' && name !== 'managedFields')
      metadata[name] = old[name];
  object.metadata = metadata;
}

/** The namespace of the URL becomes the object's; another one in the object is an error. */
export function matchNamespace(
  definition: ResourceDefinition,
  object: MutableObject,
  namespace: string,
): void {
  const { metadata } = object;
  if (!definition.namespaced) {
    delete metadata.namespace;
    return;
  }
  if (metadata.namespace === undefined || metadata.namespace === '') metadata.namespace = namespace;
  else if (metadata.namespace !== namespace)
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
}

/** For an update: the object must be the one of the URL. */
export function matchName(
  definition: ResourceDefinition,
  object: MutableObject,
  namespace: string,
  name: string,
): void {
  const { metadata } = object;
  if (metadata.name === undefined || metadata.name === '') {
    throw badRequest(
      `the name of the object (${name} based on URL) was undeterminable: name must be provided`,
    );
  }
  if (metadata.name !== name)
    throw badRequest(
      `the name of the object (${metadata.name}) does not match the name on the URL (${name})`,
    );
  if (!definition.namespaced) {
    delete metadata.namespace;
    return;
  }
  if (metadata.namespace === undefined || metadata.namespace === '') metadata.namespace = namespace;
  else if (metadata.namespace !== namespace)
    throw badRequest(
      `the namespace of the object (${metadata.namespace}) does not match the namespace on the request (${namespace})`,
    );
}

/** What every new object gets, and loses. */
export function setSystemFields(object: MutableObject, uid: string, now: number): void {
  const { metadata } = object;
  metadata.uid = uid;
  metadata.creationTimestamp = timestamp(now);
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.resourceVersion;
  delete metadata.generation;
  delete metadata['selfLink'];
  delete metadata['managedFields'];
}

/** What a client may not change by an update, however it fills it in, is taken over from the old object. */
export function keepSystemFields(object: MutableObject, old: KubeObject): void {
  const { metadata } = object;
  const before = old.metadata;
  if (metadata.uid === undefined || metadata.uid === '') metadata.uid = before.uid;
  metadata.creationTimestamp = before.creationTimestamp;
  keep(metadata, 'generation', before.generation);
  if (before.deletionTimestamp !== undefined) metadata.deletionTimestamp = before.deletionTimestamp;
  if (before.deletionGracePeriodSeconds !== undefined && metadata.deletionGracePeriodSeconds === undefined)
    metadata.deletionGracePeriodSeconds = before.deletionGracePeriodSeconds;
  if (metadata.generateName === undefined) keep(metadata, 'generateName', before.generateName);
  delete metadata['selfLink'];
  delete metadata['managedFields'];
}

function keep(metadata: Metadata, field: 'generation' | 'generateName', value: unknown): void {
  if (value === undefined) delete metadata[field];
  else (metadata as Record<string, unknown>)[field] = value;
}

const IMMUTABLE = 'field is immutable';

/** What may not change in metadata; after keepSystemFields. */
export function metadataUpdateErrors(object: KubeObject, old: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const now = object.metadata;
  const before = old.metadata;
  for (const field of ['name', 'namespace', 'uid'] as const)
    if ((now[field] ?? '') !== (before[field] ?? ''))
      errors.push(fieldError.invalid(`metadata.${field}`, now[field] ?? '', IMMUTABLE));
  if ((now.deletionTimestamp ?? '') !== (before.deletionTimestamp ?? ''))
    errors.push(
      fieldError.invalid(
        'metadata.deletionTimestamp',
        now.deletionTimestamp,
        `${IMMUTABLE}; may only be changed via deletion`,
      ),
    );
  if (now.deletionGracePeriodSeconds !== before.deletionGracePeriodSeconds)
    errors.push(
      fieldError.invalid(
        'metadata.deletionGracePeriodSeconds',
        now.deletionGracePeriodSeconds,
        `${IMMUTABLE}; may only be changed via deletion`,
      ),
    );
  if (before.deletionTimestamp !== undefined) {
    const known = new Set(before.finalizers ?? []);
    const added = (now.finalizers ?? []).filter((finalizer) => !known.has(finalizer));
    if (added.length > 0)
      errors.push(
        fieldError.forbidden(
          'metadata.finalizers',
          `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added
            .toSorted()
            .map((one) => JSON.stringify(one))
            .join(', ')}}`,
        ),
      );
  }
  return errors;
}
