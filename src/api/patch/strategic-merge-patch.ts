// Strategic merge patch, upstream's own format: like a merge patch, but lists that the schema marks with the patch
// strategy `merge` are merged too, item by item along their merge key (or as sets of scalars), and directives in the
// patch say what a plain merge cannot:
//
//   $patch: replace | delete            on an object, or as an item of a merged list
//   $retainKeys: [a, b]                 fields of this object that may stay
//   $deleteFromPrimitiveList/x: [..]    values to take out of the list x
//   $setElementOrder/x: [..]            the order of x's items, of which the patch may name only some
//
// After apimachinery's strategicpatch and design-proposals/cli/preserve-order-in-strategic-merge-patch.md. Nothing is
// changed in place: results share what did not change with the document and the patch.

import { badRequest, StatusError } from '../errors.ts';
import type { TypeSchema } from '../schema/type-schema.ts';
import {
  checkDepth,
  doesNotApply,
  field,
  goText,
  isList,
  isObject,
  type Json,
  type JsonObject,
  type MutableJsonObject,
  patchObject,
  sameJson,
  setField,
} from './json.ts';

const directive = '$patch';
const retainKeys = '$retainKeys';
const deleteFromList = '$deleteFromPrimitiveList';
const setElementOrder = '$setElementOrder';

/**
 * The document with the patch applied, following the schema of the document's kind.
 * Throws a StatusError: 400 for malformed directives, 422 for lists of lists, and as upstream 500 for a patch that
 * lacks a merge key or names an unknown directive.
 */
export function applyStrategicMergePatch(
  document: JsonObject,
  patch: unknown,
  schema: TypeSchema,
): JsonObject {
  return mergeObjects(document, patchObject(patch), schema, 0);
}

/** Upstream answers these with a bare 500 and the message. */
function mergeFailure(message: string): StatusError {
  return new StatusError({ code: 500, message });
}

function noMergeKey(item: JsonObject, key: string): StatusError {
  return mergeFailure(`map: ${goText(item)} does not contain declared merge key: ${key}`);
}

/** How the schema says that one field is merged. */
interface FieldRule {
  readonly schema: TypeSchema | undefined;
  readonly strategy: 'merge' | 'replace' | undefined;
  readonly mergeKey: string | undefined;
}

function ruleOf(schema: TypeSchema | undefined, key: string): FieldRule {
  if (schema?.type === 'object') {
    const known = schema.fields.get(key);
    if (known !== undefined)
      return {
        schema: known.schema,
        strategy: known.patchStrategy.find((one) => one !== 'retainKeys'),
        mergeKey: known.patchMergeKey,
      };
  } else if (schema?.type === 'map') {
    return { schema: schema.values, strategy: undefined, mergeKey: undefined };
  }
  return { schema: undefined, strategy: undefined, mergeKey: undefined };
}

function itemSchema(schema: TypeSchema | undefined): TypeSchema | undefined {
  return schema?.type === 'list' ? schema.items : undefined;
}

function mergeObjects(
  document: JsonObject,
  patch: JsonObject,
  schema: TypeSchema | undefined,
  depth: number,
): JsonObject {
  checkDepth(depth);
  const order = field(patch, directive);
  if (order !== undefined) {
    if (order === 'replace') return withoutDirectives(omit(patch, directive), depth) as JsonObject;
    if (order === 'delete') return {};
    throw mergeFailure(`unknown patch type: ${goText(order)} in map: ${goText(patch)}`);
  }

  const result: MutableJsonObject = retained(document, patch);
  const ordered = new Set<string>();
  for (const key of Object.keys(patch)) {
    if (!key.startsWith(setElementOrder)) continue;
    const name = directiveTarget(key, setElementOrder, 'invalid patch format of setElementOrder list');
    if (field(patch, name) === null) continue;
    ordered.add(name);
    const merged = mergeOrdered(result, patch, name, patch[key] as Json, ruleOf(schema, name), depth);
    if (merged !== undefined) setField(result, name, merged);
  }

  for (const key of Object.keys(patch)) {
    if (key === retainKeys || isDirective(key) || ordered.has(key)) continue;
    const value = patch[key] as Json;
    if (value === null) {
      delete result[key];
      continue;
    }
    const current = field(result, key);
    const rule = ruleOf(schema, key);
    let merged: Json | undefined;
    if (isObject(current) && isObject(value))
      merged =
        rule.strategy === 'replace'
          ? withoutDirectives(value, depth + 1)
          : mergeObjects(current, value, rule.schema, depth + 1);
    else if (isList(current) && isList(value)) merged = mergeLists(current, value, rule, depth + 1);
    else merged = withoutDirectives(value, depth + 1);
    if (merged === undefined) delete result[key];
    else setField(result, key, merged);
  }

  for (const key of Object.keys(patch)) {
    if (!key.startsWith(deleteFromList)) continue;
    const name = directiveTarget(key, deleteFromList, 'invalid patch format of primitive list');
    const unwanted = patch[key] as Json;
    const current = field(result, name);
    if (current === undefined || !isList(current)) continue;
    if (!isList(unwanted) || unwanted.some((item) => typeof item === 'object'))
      throw badRequest('invalid patch format of primitive list');
    const gone = new Set<Json>(unwanted);
    setField(
      result,
      name,
      current.filter((item) => !gone.has(item)),
    );
  }
  return result;
}

function isDirective(key: string): boolean {
  return key.startsWith(setElementOrder) || key.startsWith(deleteFromList);
}

function directiveTarget(key: string, prefix: string, complaint: string): string {
  if (key[prefix.length] !== '/') throw badRequest(complaint);
  return key.slice(prefix.length + 1);
}

function omit(object: JsonObject, key: string): JsonObject {
  const copy: MutableJsonObject = { ...object };
  delete copy[key];
  return copy;
}

/** A copy of the document with only the fields that $retainKeys admits. */
function retained(document: JsonObject, patch: JsonObject): MutableJsonObject {
  const list = field(patch, retainKeys);
  if (list === undefined) return { ...document };
  if (!isList(list)) throw badRequest('invalid patch format of retainKeys');
  const keep = new Set<Json>(list);
  for (const key of Object.keys(patch))
    if (patch[key] !== null && key !== retainKeys && !isDirective(key) && !keep.has(key))
      throw badRequest('invalid patch format of retainKeys');
  const result: MutableJsonObject = {};
  for (const key of Object.keys(document)) if (keep.has(key)) setField(result, key, document[key] as Json);
  return result;
}

/** A value that the patch brings in whole: no directives, no nulls; undefined when it is itself a directive. */
function withoutDirectives(value: Json, depth: number): Json | undefined {
  checkDepth(depth);
  if (isList(value)) {
    const kept: Json[] = [];
    for (const item of value) {
      const clean = withoutDirectives(item, depth + 1);
      if (clean !== undefined) kept.push(clean);
    }
    return kept;
  }
  if (!isObject(value)) return value;
  if (Object.hasOwn(value, directive)) return undefined;
  const result: MutableJsonObject = {};
  for (const key of Object.keys(value)) {
    if (key === retainKeys || isDirective(key)) continue;
    const inner = value[key] as Json;
    if (inner === null) continue;
    const clean = withoutDirectives(inner, depth + 1);
    if (clean !== undefined) setField(result, key, clean);
  }
  return result;
}

type ItemKind = 'object' | 'scalar';

/** What the lists hold; undefined when they are empty. Mixed lists and lists of lists cannot be merged. */
function itemKind(...lists: readonly (readonly Json[])[]): ItemKind | undefined {
  let kind: ItemKind | undefined;
  for (const list of lists)
    for (const item of list) {
      if (isList(item)) throw doesNotApply('lists of lists are not supported');
      const one = isObject(item) ? 'object' : 'scalar';
      if (kind !== undefined && kind !== one)
        throw mergeFailure(`list element types are not identical: ${goText(lists)}`);
      kind = one;
    }
  return kind;
}

function mergeLists(
  current: readonly Json[],
  patch: readonly Json[],
  rule: FieldRule,
  depth: number,
): readonly Json[] {
  checkDepth(depth);
  if (rule.strategy !== 'merge') return withoutDirectives(patch, depth) as readonly Json[];
  const kind = itemKind(current, patch);
  if (kind === undefined) return current;
  if (kind === 'scalar') {
    const merged = [...new Set([...current, ...patch])];
    return inOrder(merged, patch, current, identity);
  }
  const { mergeKey } = rule;
  if (mergeKey === undefined)
    throw mergeFailure(`cannot merge lists without merge key for ${rule.schema?.goType ?? 'the list'}`);
  const { base, items } = applyItemDirectives(
    current as readonly JsonObject[],
    patch as readonly JsonObject[],
    mergeKey,
  );
  const merged = [...base];
  const places = new Map<Json, number>();
  merged.forEach((item, i) => {
    const key = field(item, mergeKey);
    if (key !== undefined && !places.has(key)) places.set(key, i);
  });
  const schema = itemSchema(rule.schema);
  for (const item of items) {
    const key = keyOf(item, mergeKey);
    const at = places.get(key);
    if (at !== undefined) {
      merged[at] = mergeObjects(merged[at]!, item, schema, depth + 1);
    } else {
      places.set(key, merged.length);
      merged.push(withoutDirectives(item, depth + 1) as JsonObject);
    }
  }
  return inOrder(merged, items, base, (item) => keyOf(item as JsonObject, mergeKey));
}

/** Items that are directives: `{$patch: delete, <key>}` takes an item away, `{$patch: replace}` all that were there. */
function applyItemDirectives(
  current: readonly JsonObject[],
  patch: readonly JsonObject[],
  mergeKey: string,
): { base: readonly JsonObject[]; items: readonly JsonObject[] } {
  let replace = false;
  const gone = new Set<Json>();
  const items: JsonObject[] = [];
  for (const item of patch) {
    const order = field(item, directive);
    switch (order) {
      case undefined:
        items.push(item);
        break;
      case 'delete':
        gone.add(keyOf(item, mergeKey));
        break;
      case 'replace':
        replace = true;
        break;
      case 'merge':
        throw mergeFailure('merging lists cannot yet be specified in the patch');
      default:
        throw mergeFailure(`unknown patch type: ${goText(order)} in map: ${goText(item)}`);
    }
  }
  // As they are: two of one key (addresses of a node) both stay.
  if (replace) return { base: items, items: [] };
  const base =
    gone.size === 0
      ? current
      : current.filter((item) => {
          const key = field(item, mergeKey);
          return key === undefined || !gone.has(key);
        });
  return { base, items };
}

function keyOf(item: JsonObject, mergeKey: string): Json {
  const key = field(item, mergeKey);
  if (key === undefined) throw noMergeKey(item, mergeKey);
  return key;
}

const identity = (item: Json): Json => item;

/** The list that `$setElementOrder/name` speaks of, merged and put into that order; undefined when there is none. */
function mergeOrdered(
  document: JsonObject,
  patch: JsonObject,
  name: string,
  order: Json,
  rule: FieldRule,
  depth: number,
): readonly Json[] | undefined {
  if (!isList(order)) throw badRequest('invalid patch format of setElementOrder list');
  const current = field(document, name);
  const change = field(patch, name);
  if (current !== undefined && !isList(current)) throw wrongType(current);
  if (change !== undefined && !isList(change)) throw wrongType(change);
  checkAgainstOrder(change ?? [], order, rule.mergeKey);
  if (change === undefined && current === undefined) return undefined;
  const merged =
    change === undefined
      ? current!
      : current === undefined
        ? (withoutDirectives(change, depth + 1) as readonly Json[])
        : mergeLists(current, change, rule, depth + 1);
  if (itemKind(merged) === undefined) return merged;
  const { mergeKey } = rule;
  const key = mergeKey === undefined ? identity : (item: Json) => keyOf(item as JsonObject, mergeKey);
  if (mergeKey !== undefined)
    for (const item of [...merged, ...order]) if (!isObject(item)) throw wrongType(item);
  return inOrder(merged, order, current ?? [], key);
}

function wrongType(value: Json): StatusError {
  const kind = isObject(value) ? 'map[string]interface {}' : isList(value) ? '[]interface {}' : typeof value;
  return mergeFailure(`expected a []interface {}, but received a ${kind}`);
}

/** Items of the patch must stand in the order list, and in the same order. */
function checkAgainstOrder(
  patch: readonly Json[],
  order: readonly Json[],
  mergeKey: string | undefined,
): void {
  if (patch.length === 0 || order.length === 0) return;
  let at = 0;
  for (const item of patch) {
    if (isObject(item) && Object.hasOwn(item, directive)) continue;
    const same = (other: Json): boolean =>
      mergeKey === undefined
        ? sameJson(item, other)
        : isObject(item) && isObject(other) && keyOf(item, mergeKey) === keyOf(other, mergeKey);
    while (at < order.length && !same(order[at]!)) at++;
    if (at === order.length)
      throw mergeFailure(
        `The order in patch list:\n${goText(patch)}\n doesn't match ${setElementOrder} list:\n${goText(order)}\n`,
      );
    at++;
  }
}

/**
 * Puts a merged list into order: items named by `wanted` as they stand there, the others as they stand in `current`,
 * and the two woven together so that an unnamed item comes before the first named one that it preceded.
 */
function inOrder<T extends Json>(
  merged: readonly T[],
  wanted: readonly Json[],
  current: readonly Json[],
  keyOfItem: (item: Json) => Json,
): readonly T[] {
  const wantedAt = positions(wanted, keyOfItem);
  const currentAt = positions(current, keyOfItem);
  const named: T[] = [];
  const others: T[] = [];
  for (const item of merged) (wantedAt.has(keyOfItem(item)) ? named : others).push(item);
  const byPlace = (places: ReadonlyMap<Json, number>) => (a: T, b: T) =>
    (places.get(keyOfItem(a)) ?? places.size) - (places.get(keyOfItem(b)) ?? places.size);
  named.sort(byPlace(wantedAt));
  others.sort(byPlace(currentAt));
  const result: T[] = [];
  let i = 0;
  for (const item of named) {
    const place = currentAt.get(keyOfItem(item));
    while (i < others.length && place !== undefined) {
      const other = currentAt.get(keyOfItem(others[i]!));
      if (other === undefined || other >= place) break;
      result.push(others[i]!);
      i++;
    }
    result.push(item);
  }
  return [...result, ...others.slice(i)];
}

/** The first place of each key. */
function positions(list: readonly Json[], keyOfItem: (item: Json) => Json): ReadonlyMap<Json, number> {
  const places = new Map<Json, number>();
  list.forEach((item, i) => {
    const key = keyOfItem(item);
    if (!places.has(key)) places.set(key, i);
  });
  return places;
}
