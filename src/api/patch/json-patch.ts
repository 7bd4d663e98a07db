// JSON patch (RFC 6902) with the habits of the library that upstream uses (evanphx/json-patch v4): negative indices
// count from the end, `replace` of an absent field of an object sets it, `test` of an absent field equals null.
//
// Containers are copied the first time an operation changes them and then changed in place, so a patch of many
// operations on one large list stays linear in the list.

import { badRequest, goQuote, requestEntityTooLarge } from '../errors.ts';
import {
  doesNotApply,
  field,
  isList,
  isObject,
  type Json,
  type JsonObject,
  type MutableJsonObject,
  patchList,
  sameJson,
  setField,
} from './json.ts';

const greatestCount = 10_000;
/** Bytes that `copy` may add: without a bound, thirty copies make a gigabyte. */
const greatestCopies = 3 * 1024 * 1024;

/** An operation could not be done; becomes the 422's cause. */
class PatchFailure extends Error {}

/**
 * The document with the operations applied in order, all or none. Neither argument is changed.
 * Throws a StatusError: 400 for a malformed patch, 413 for too many operations, 422 for one that does not apply
 * (a failing test among them).
 */
export function applyJsonPatch(document: JsonObject, patch: unknown): JsonObject {
  const operations = patchList(patch);
  if (operations.length > greatestCount)
    throw requestEntityTooLarge(
      `The allowed maximum operations in a JSON patch is ${greatestCount}, got ${operations.length}`,
    );
  const run = new JsonPatchRun(document);
  try {
    for (const operation of operations) {
      if (!isObject(operation))
        throw badRequest(
          'error decoding patch: json: cannot unmarshal a value that is not an object into Go value of type handlers.jsonPatchOp',
        );
      run.apply(operation);
    }
  } catch (error) {
    if (error instanceof PatchFailure) throw doesNotApply(error.message);
    throw error;
  }
  if (!isObject(run.root)) throw doesNotApply('the patched document is not an object');
  return run.root;
}

/** Where a pointer leads: the container and the last token. */
interface Place {
  readonly container: MutableJsonObject | Json[];
  readonly key: string;
}

class JsonPatchRun {
  root: Json;
  /** Containers made by this run: nobody else holds them. */
  readonly #own = new Set<object>();
  #copied = 0;

  constructor(root: JsonObject) {
    this.root = root;
  }

  apply(operation: JsonObject): void {
    const kind = text(operation, 'op');
    switch (kind) {
      case 'add':
        this.#add(operation);
        break;
      case 'remove':
        this.#remove(operation);
        break;
      case 'replace':
        this.#replace(operation);
        break;
      case 'move':
        this.#move(operation);
        break;
      case 'copy':
        this.#copy(operation);
        break;
      case 'test':
        this.#test(operation);
        break;
      default:
        throw new PatchFailure(`Unexpected kind: ${kind ?? 'unknown'}`);
    }
  }

  #add(operation: JsonObject): void {
    const path = pathOf(operation, 'add');
    const place = this.#find(path, true);
    if (place === undefined)
      throw new PatchFailure(
        `add operation does not apply: doc is missing path: ${goQuote(path)}: missing value`,
      );
    insert(place, operand(operation), `error in add for path: '${path}'`);
  }

  #remove(operation: JsonObject): void {
    const path = pathOf(operation, 'remove');
    const place = this.#find(path, true);
    if (place === undefined)
      throw new PatchFailure(
        `remove operation does not apply: doc is missing path: ${goQuote(path)}: missing value`,
      );
    take(place, `error in remove for path: '${path}'`);
  }

  #replace(operation: JsonObject): void {
    const path = pathOf(operation, 'replace');
    const value = operand(operation);
    if (path === '') {
      if (!isObject(value)) throw new PatchFailure('replace operation value must be object or array');
      this.root = value;
      return;
    }
    const place = this.#find(path, true);
    if (place === undefined)
      throw new PatchFailure(`replace operation does not apply: doc is missing path: ${path}: missing value`);
    if (Array.isArray(place.container)) {
      const at = existingIndex(place.container, place.key);
      if (typeof at === 'string')
        throw new PatchFailure(
          `replace operation does not apply: doc is missing key: ${path}: missing value`,
        );
      place.container[at] = value;
    } else {
      setField(place.container, place.key, value);
    }
  }

  #move(operation: JsonObject): void {
    const from = text(operation, 'from');
    if (from === undefined) throw new PatchFailure('move operation failed to decode from: missing value');
    const source = this.#find(from, true);
    if (source === undefined)
      throw new PatchFailure(
        `move operation does not apply: doc is missing from path: ${from}: missing value`,
      );
    const value = read(source, `error in move for path: '${source.key}'`) ?? null;
    take(source, `error in move for path: '${source.key}'`);
    const path = pathOf(operation, 'move');
    const target = this.#find(path, true);
    if (target === undefined)
      throw new PatchFailure(
        `move operation does not apply: doc is missing destination path: ${path}: missing value`,
      );
    insert(target, value, `error in move for path: '${path}'`);
  }

  #copy(operation: JsonObject): void {
    const from = text(operation, 'from');
    if (from === undefined) throw new PatchFailure('copy operation failed to decode from: missing value');
    const source = this.#find(from, false);
    if (source === undefined)
      throw new PatchFailure(
        `copy operation does not apply: doc is missing from path: ${from}: missing value`,
      );
    const value = read(source, `error in copy for from: '${from}'`) ?? null;
    const path = pathOf(operation, 'copy');
    const target = this.#find(path, true);
    if (target === undefined)
      throw new PatchFailure(
        `copy operation does not apply: doc is missing destination path: ${path}: missing value`,
      );
    const encoded = JSON.stringify(value);
    this.#copied += encoded.length;
    if (this.#copied > greatestCopies)
      throw new PatchFailure(
        `Unable to complete the copy, the accumulated size increase of copy is ${this.#copied}, exceeding the limit ${greatestCopies}`,
      );
    // A copy of its own: the original may be changed in place later.
    insert(target, JSON.parse(encoded) as Json, 'error while adding value during copy');
  }

  #test(operation: JsonObject): void {
    const path = pathOf(operation, 'test');
    const wanted = operand(operation);
    if (path === '') {
      if (sameJson(this.root, wanted)) return;
      throw new PatchFailure('testing value  failed: test failed');
    }
    const place = this.#find(path, false);
    if (place === undefined)
      throw new PatchFailure(`test operation does not apply: is missing path: ${path}: missing value`);
    const value = read(place, `error in test for path: '${path}'`) ?? null;
    if (!sameJson(value, wanted)) throw new PatchFailure(`testing value ${path} failed: test failed`);
  }

  /**
   * Follows a JSON pointer to the container of its last token; undefined when something on the way is missing.
   * `change`: the containers on the way become this run's own.
   */
  #find(path: string, change: boolean): Place | undefined {
    const tokens = path.split('/');
    if (tokens.length < 2) return undefined;
    if (change) this.root = this.#owned(this.root);
    let container = this.root as MutableJsonObject | Json[];
    for (let i = 1; i < tokens.length - 1; i++) {
      const token = decodeToken(tokens[i]!);
      let next: Json | undefined;
      if (Array.isArray(container)) {
        const at = existingIndex(container, token);
        if (typeof at === 'string') return undefined;
        next = container[at];
        if (change && typeof next === 'object' && next !== null) container[at] = next = this.#owned(next);
      } else {
        next = field(container, token);
        if (change && typeof next === 'object' && next !== null) {
          next = this.#owned(next);
          setField(container, token, next);
        }
      }
      if (typeof next !== 'object' || next === null) return undefined;
      container = next as MutableJsonObject | Json[];
    }
    return { container, key: decodeToken(tokens.at(-1)!) };
  }

  #owned(value: Json): Json {
    if (typeof value !== 'object' || value === null || this.#own.has(value)) return value;
    const copy = isList(value) ? [...value] : { ...value };
    this.#own.add(copy);
    return copy;
  }
}

/** RFC 6901 §4: `~1` is a slash, `~0` a tilde. */
function decodeToken(token: string): string {
  return token.includes('~') ? token.replaceAll('~1', '/').replaceAll('~0', '~') : token;
}

function text(operation: JsonObject, name: string): string | undefined {
  const value = field(operation, name);
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string')
    throw badRequest(
      `error decoding patch: json: cannot unmarshal ${typeof value} into Go struct field jsonPatchOp.${name} of type string`,
    );
  return value;
}

function pathOf(operation: JsonObject, kind: string): string {
  const path = text(operation, 'path');
  if (path === undefined) throw new PatchFailure(`${kind} operation failed to decode path: missing value`);
  return path;
}

function operand(operation: JsonObject): Json {
  return field(operation, 'value') ?? null;
}

/** A list index in decimal; negative ones count from the end. A text says what is wrong with it. */
function existingIndex(list: readonly Json[], token: string): number | string {
  if (!/^[-+]?[0-9]{1,9}$/.test(token)) return `strconv.Atoi: parsing ${goQuote(token)}: invalid syntax`;
  let at = Number(token);
  if (at < 0) at += list.length;
  return at < 0 || at >= list.length
    ? `Unable to access invalid index: ${token}: invalid index referenced`
    : at;
}

function read({ container, key }: Place, context: string): Json | undefined {
  if (!Array.isArray(container)) return field(container, key);
  const at = existingIndex(container, key);
  if (typeof at === 'string') throw new PatchFailure(`${context}: ${at}`);
  return container[at];
}

function insert({ container, key }: Place, value: Json, context: string): void {
  if (!Array.isArray(container)) {
    setField(container, key, value);
    return;
  }
  if (key === '-') {
    container.push(value);
    return;
  }
  if (!/^[-+]?[0-9]{1,9}$/.test(key))
    throw new PatchFailure(`${context}: value was not a proper array index: '${key}'`);
  let at = Number(key);
  const size = container.length + 1;
  if (at < 0) at += size;
  if (at < 0 || at >= size)
    throw new PatchFailure(`${context}: Unable to access invalid index: ${key}: invalid index referenced`);
  container.splice(at, 0, value);
}

function take({ container, key }: Place, context: string): void {
  if (Array.isArray(container)) {
    const at = existingIndex(container, key);
    if (typeof at === 'string') throw new PatchFailure(`${context}: ${at}`);
    container.splice(at, 1);
  } else {
    if (!Object.hasOwn(container, key))
      throw new PatchFailure(`${context}: Unable to remove nonexistent key: ${key}: missing value`);
    delete container[key];
  }
}
