// JSON values as patches handle them: own properties only (a document may hold "__proto__" or "constructor"), a
// bound on nesting, and the way upstream prints values in its errors.

import { badRequest, StatusError } from '../errors.ts';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}
export type MutableJsonObject = { [key: string]: Json };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isList(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

/** The field's value; undefined when the object has no such field of its own. */
export function field(object: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** Sets an own field, whatever its name. */
export function setField(object: MutableJsonObject, key: string, value: Json): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  else object[key] = value;
}

/** Deeper documents are refused: no API type comes near it, and recursion must end before the stack does. */
const greatestDepth = 500;

export function checkDepth(depth: number): void {
  if (depth > greatestDepth) throw badRequest(`the patch is nested more than ${greatestDepth} levels deep`);
}

/** What a patch is, in the words of Go's decoder. */
function goKind(value: unknown): string {
  if (isList(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  return typeof value;
}

/** The patch as an object; 400 for anything else, as upstream's decoder answers. */
export function patchObject(patch: unknown): JsonObject {
  if (isObject(patch)) return patch;
  if (patch === null || patch === undefined) throw badRequest('Invalid JSON Patch');
  throw badRequest(
    `error decoding patch: json: cannot unmarshal ${goKind(patch)} into Go value of type map[string]interface {}`,
  );
}

/** The patch as a list of operations. */
export function patchList(patch: unknown): readonly Json[] {
  if (isList(patch)) return patch;
  if (patch === null || patch === undefined) return [];
  throw badRequest(
    `error decoding patch: json: cannot unmarshal ${goKind(patch)} into Go value of type []handlers.jsonPatchOp`,
  );
}

/** 422 with the text that upstream has for every patch that does not apply; the cause says why. */
export function doesNotApply(why: string): StatusError {
  return new StatusError({
    code: 422,
    reason: 'Invalid',
    message: 'the server rejected our request due to an error in our request',
    details: { causes: [{ reason: 'FieldValueInvalid', message: why, field: 'patch' }] },
  });
}

/** A value as Go's %v prints it: map[name:web ports:[1 2]]. */
export function goText(value: Json | undefined): string {
  if (value === null || value === undefined) return '<nil>';
  if (isList(value)) return `[${value.map(goText).join(' ')}]`;
  if (isObject(value))
    return `map[${Object.keys(value)
      .toSorted()
      .map((key) => `${key}:${goText(value[key])}`)
      .join(' ')}]`;
  return String(value);
}

/** Equality of documents: fields in any order, list items in theirs. */
export function sameJson(a: Json | undefined, b: Json | undefined, depth = 0): boolean {
  if (a === b) return true;
  checkDepth(depth);
  if (isList(a))
    return isList(b) && a.length === b.length && a.every((item, i) => sameJson(item, b[i], depth + 1));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key], depth + 1))
  );
}
