// JSON merge patch (RFC 7386): objects are merged field by field, null takes a field away, everything else
// replaces what was there.

import {
  checkDepth,
  field,
  isList,
  isObject,
  type Json,
  type JsonObject,
  type MutableJsonObject,
  patchObject,
  setField,
} from './json.ts';

/**
 * The document with the patch applied. Neither is changed; the result shares what did not change with both.
 * Throws a StatusError (400) when the patch is not an object.
 */
export function applyMergePatch(document: JsonObject, patch: unknown): JsonObject {
  return mergeObject(document, patchObject(patch), 0);
}

function mergeObject(document: JsonObject, patch: JsonObject, depth: number): JsonObject {
  checkDepth(depth);
  const result: MutableJsonObject = { ...document };
  for (const key of Object.keys(patch)) {
    const value = patch[key] as Json;
    if (value === null) {
      delete result[key];
      continue;
    }
    const current = field(document, key);
    const merged =
      isObject(value) && isObject(current)
        ? mergeObject(current, value, depth + 1)
        : withoutNulls(value, depth + 1);
    setField(result, key, merged);
  }
  return result;
}

/** What a patch adds holds no nulls: they would ask to take away what is not there. Items of lists stay. */
export function withoutNulls(value: Json, depth: number): Json {
  checkDepth(depth);
  if (isList(value)) return value.map((item) => withoutNulls(item, depth + 1));
  if (!isObject(value)) return value;
  const result: MutableJsonObject = {};
  for (const key of Object.keys(value)) {
    const inner = value[key] as Json;
    if (inner !== null) setField(result, key, withoutNulls(inner, depth + 1));
  }
  return result;
}
