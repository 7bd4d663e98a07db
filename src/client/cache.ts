// The indexed store behind an informer: objects by key, by namespace and by whatever a caller computes from them.
// It holds references only. Objects are frozen and shared with every reader; nobody gets a copy.

import type { KubeObject } from '../api/index.ts';

/** `namespace/name`, or `name` for cluster-scoped objects. */
export function keyOf(object: {
  readonly metadata: { readonly namespace?: string; readonly name?: string };
}): string {
  const { namespace, name = '' } = object.metadata;
  return namespace ? `${namespace}/${name}` : name;
}

export function makeKey(namespace: string | undefined, name: string): string {
  return namespace ? `${namespace}/${name}` : name;
}

export function splitKey(key: string): { readonly namespace: string | undefined; readonly name: string } {
  const slash = key.indexOf('/');
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** What a reader sees of an informer's store. Answers are of this moment; objects are shared and frozen. */
export interface Lister<T extends KubeObject> {
  readonly size: number;
  has(key: string): boolean;
  /** By key (`namespace/name`, `name`). */
  get(key: string): T | undefined;
  find(namespace: string | undefined, name: string): T | undefined;
  /** All objects, or one namespace's; do not await while iterating. */
  values(namespace?: string): Iterable<T>;
  /** The same as an array, which is the caller's own. */
  list(namespace?: string): T[];
}

/** Objects by a value computed from them. */
export interface Index<T extends KubeObject> {
  /** The objects for which the index function gave `value`; do not await while iterating. */
  get(value: string): Iterable<T>;
  list(value: string): T[];
  count(value: string): number;
  /** All values that some object has. */
  values(): Iterable<string>;
}

/** Pure: the same object always gives the same values. */
export type IndexFunction<T extends KubeObject> = (object: T) => readonly string[];

class ComputedIndex<T extends KubeObject> implements Index<T> {
  readonly #compute: IndexFunction<T>;
  readonly #buckets = new Map<string, Map<string, T>>();

  constructor(compute: IndexFunction<T>) {
    this.#compute = compute;
  }

  get(value: string): Iterable<T> {
    return this.#buckets.get(value)?.values() ?? [];
  }

  list(value: string): T[] {
    return [...this.get(value)];
  }

  count(value: string): number {
    return this.#buckets.get(value)?.size ?? 0;
  }

  values(): Iterable<string> {
    return this.#buckets.keys();
  }

  insert(key: string, object: T): void {
    for (const value of this.#compute(object)) {
      const bucket = this.#buckets.get(value);
      if (bucket) bucket.set(key, object);
      else this.#buckets.set(value, new Map([[key, object]]));
    }
  }

  remove(key: string, object: T): void {
    for (const value of this.#compute(object)) {
      const bucket = this.#buckets.get(value);
      if (bucket?.delete(key) && bucket.size === 0) this.#buckets.delete(value);
    }
  }

  clear(): void {
    this.#buckets.clear();
  }
}

export class ObjectCache<T extends KubeObject> implements Lister<T> {
  readonly #objects = new Map<string, T>();
  readonly #namespaces = new ComputedIndex<T>((object) =>
    object.metadata.namespace ? [object.metadata.namespace] : [],
  );
  readonly #indexes = new Map<IndexFunction<T>, ComputedIndex<T>>();

  get size(): number {
    return this.#objects.size;
  }

  has(key: string): boolean {
    return this.#objects.has(key);
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  find(namespace: string | undefined, name: string): T | undefined {
    return this.#objects.get(makeKey(namespace, name));
  }

  values(namespace?: string): Iterable<T> {
    return namespace === undefined ? this.#objects.values() : this.#namespaces.get(namespace);
  }

  list(namespace?: string): T[] {
    return [...this.values(namespace)];
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** The index for this function, made (over what is there already) when it is new. */
  index(compute: IndexFunction<T>): Index<T> {
    const known = this.#indexes.get(compute);
    if (known) return known;
    const index = new ComputedIndex(compute);
    for (const [key, object] of this.#objects) index.insert(key, object);
    this.#indexes.set(compute, index);
    return index;
  }

  /** Returns what stood there before. */
  set(key: string, object: T): T | undefined {
    const old = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const index of this.#every()) {
      if (old) index.remove(key, old);
      index.insert(key, object);
    }
    return old;
  }

  delete(key: string): T | undefined {
    const old = this.#objects.get(key);
    if (!old) return undefined;
    this.#objects.delete(key);
    for (const index of this.#every()) index.remove(key, old);
    return old;
  }

  clear(): void {
    this.#objects.clear();
    for (const index of this.#every()) index.clear();
  }

  *#every(): Iterable<ComputedIndex<T>> {
    yield this.#namespaces;
    yield* this.#indexes.values();
  }
}

/** Freezes an object and all that hangs on it. An object frozen at its top is taken to be frozen throughout. */
export function deepFreeze<V>(value: V): V {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const part of Object.values(value)) deepFreeze(part);
  return value;
}
