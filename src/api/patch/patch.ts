// One entry for all kinds of patch, by the content type of the request.

import { StatusError } from '../errors.ts';
import type { TypeSchema } from '../schema/type-schema.ts';
import type { PatchType } from '../transport.ts';
import type { JsonObject } from './json.ts';
import { applyJsonPatch } from './json-patch.ts';
import { applyMergePatch } from './merge-patch.ts';
import { applyStrategicMergePatch } from './strategic-merge-patch.ts';

/** The content types of PATCH that are served, in the order that an error lists them. */
export const patchTypes: readonly PatchType[] = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
];

/**
 * The object with the patch applied. `object` is in the version of the request and is not changed, nor is `patch`
 * (parsed JSON); the result shares parts with both and still has to be decoded, defaulted and validated.
 * Throws a StatusError when the patch is malformed or does not apply.
 */
export function applyPatch(type: PatchType, object: object, patch: unknown, schema: TypeSchema): object {
  const document = object as JsonObject;
  switch (type) {
    case 'application/json-patch+json':
      return applyJsonPatch(document, patch);
    case 'application/merge-patch+json':
      return applyMergePatch(document, patch);
    case 'application/strategic-merge-patch+json':
      return applyStrategicMergePatch(document, patch, schema);
    case 'application/apply-patch+yaml':
      throw applyNotServed();
  }
}

export function applyNotServed(): StatusError {
  return new StatusError({
    code: 415,
    reason: 'UnsupportedMediaType',
    message: `server-side apply is not served yet - accepted media types include: ${patchTypes.join(', ')}`,
  });
}
