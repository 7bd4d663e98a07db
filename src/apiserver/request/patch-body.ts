// The body of a PATCH: which kind of patch it is, and the patch itself.

import { badRequest, unsupportedMediaType } from '../../api/errors.ts';
import { applyNotServed, patchTypes } from '../../api/patch/patch.ts';
import type { FieldValidation } from '../../api/schema/decode.ts';
import { duplicateMembers, JsonSyntaxError, parseJson, textOf } from '../../api/schema/json.ts';
import { GREATEST_COMPLAINTS } from '../../api/schema/normalise.ts';
import type { PatchType } from '../../api/transport.ts';
import type { RequestBody } from '../registry/request.ts';

export interface ParsedPatch {
  readonly type: PatchType;
  readonly patch: unknown;
  /** For error messages. */
  readonly text: string;
  /** Paths of members that stand twice in the text: what applying the patch would hide. */
  duplicates(fieldValidation: FieldValidation): readonly string[];
}

const NO_DUPLICATES = (): readonly string[] => [];

const SERVER_SIDE_APPLY: PatchType = 'application/apply-patch+yaml';

/** Throws a StatusError: 415 for other content types, 400 for what is not JSON. */
export function parsePatch(body: RequestBody | undefined): ParsedPatch {
  const contentType = (body?.contentType ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (contentType === SERVER_SIDE_APPLY) throw applyNotServed();
  const type = patchTypes.find((one) => one === contentType);
  if (type === undefined) throw unsupportedMediaType(patchTypes);
  if (body?.type === 'value')
    return {
      type,
      patch: body.value,
      text: JSON.stringify(body.value) ?? '',
      duplicates: NO_DUPLICATES,
    };
  try {
    const text = textOf(body?.bytes ?? new Uint8Array());
    return {
      type,
      patch: parseJson(text),
      text,
      duplicates: (fieldValidation) =>
        fieldValidation === 'Ignore' ? [] : duplicateMembers(text, GREATEST_COMPLAINTS),
    };
  } catch (error) {
    if (error instanceof JsonSyntaxError) throw badRequest(`error decoding patch: ${error.message}`);
    throw error;
  }
}
