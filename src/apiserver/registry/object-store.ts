// Reads and writes of single objects: keys, bytes and revisions on one side, StoredObjects on the other. A write is
// a transaction that holds only while the object is still what the caller saw; what the caller saw comes from the
// watch cache, and from the transaction's own answer when the cache was behind.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { internalError, notFound, type StatusError, serviceUnavailable, timeout } from '../../api/errors.ts';
import { encodeForStorage } from '../../api/schema/encode.ts';
import type { Clock } from '../../component/index.ts';
import {
  type Compare,
  type KeyValue,
  type Operation,
  type Store,
  StoreUnavailableError,
  type TransactionResult,
} from '../../store/store.ts';
import type { ResourceCache } from '../cache/resource-cache.ts';
import { type StorageForm, StoredObject, storageForm, storageKey } from '../cache/stored-object.ts';
import type { WatchCache } from '../cache/watch-cache.ts';
import { WireFormat } from '../cache/wire-format.ts';
import { ExpiryLeases } from './leases.ts';

/** Another object that is written in the same transaction, or keeps it from being done. */
export interface JoinedWrite {
  readonly key: string;
  /** The revision that it must still have; 0: it must not be there. */
  readonly revision: number;
  /** What it becomes; absent: it is removed. `object` is the parsed form of `bytes`, no longer to be changed. */
  readonly put?: { readonly bytes: Uint8Array; readonly object: MutableObject };
}

interface Lost {
  readonly done: false;
  /** What is there now. */
  readonly current: StoredObject | undefined;
  /** Not the object itself but these have changed meanwhile. */
  readonly joined?: readonly JoinedWrite[];
}

export type WriteResult =
  | { readonly done: true; readonly object: StoredObject }
  /** Somebody else was faster. */
  | Lost;

export type RemoveResult = { readonly done: true; readonly revision: number } | Lost;

/** How long Events are kept, in ms: upstream's --event-ttl. */
const EVENT_TTL_MS = 3_600_000;

export class ObjectStore {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly #eventLeases: ExpiryLeases;
  readonly #forms = new Map<string, StorageForm>();
  readonly #formats = new WeakMap<ResourceDefinition, WireFormat>();

  constructor(store: Store, cache: WatchCache, clock: Clock) {
    this.store = store;
    this.cache = cache;
    this.#eventLeases = new ExpiryLeases(store, EVENT_TTL_MS, clock);
  }

  form(definition: ResourceDefinition): StorageForm {
    const { keyPrefix } = definition.storage;
    let form = this.#forms.get(keyPrefix);
    if (form === undefined) {
      form = storageForm(definition);
      this.#forms.set(keyPrefix, form);
    }
    return form;
  }

  format(definition: ResourceDefinition): WireFormat {
    let format = this.#formats.get(definition);
    if (format === undefined) {
      format = new WireFormat(definition, this.form(definition));
      this.#formats.set(definition, format);
    }
    return format;
  }

  resource(definition: ResourceDefinition): ResourceCache | Promise<ResourceCache> {
    return this.cache.known(definition.storage.keyPrefix) ?? this.cache.resource(this.form(definition));
  }

  /** The object as it was when this was called, or newer. */
  async newest(
    definition: ResourceDefinition,
    namespace: string,
    name: string,
  ): Promise<StoredObject | undefined> {
    const cache = this.resource(definition);
    const resource = cache instanceof Promise ? await cache : cache;
    const wait = this.cache.waitForStore();
    if (wait !== undefined && !(await wait)) {
      // The cache has lost touch with the store: ask the store itself.
      const key = storageKey(resource.form, namespace, name);
      const { kv } = await this.#guard(() => this.store.get(key));
      return kv && this.#stored(resource.form, kv);
    }
    return resource.get(namespace, name);
  }

  /** The same, or 404. */
  async find(definition: ResourceDefinition, namespace: string, name: string): Promise<StoredObject> {
    const object = await this.newest(definition, namespace, name);
    if (object === undefined) throw notFound({ group: definition.group, name: definition.resource }, name);
    return object;
  }

  /**
   * Writes `object` (in the storage version, no longer to be changed) where `previous` was; undefined: where nothing
   * was. `joined` are written before it, at the same revision.
   */
  async write(
    definition: ResourceDefinition,
    object: MutableObject,
    previous: StoredObject | undefined,
    bytes: Uint8Array = this.encode(definition, object),
    joined: readonly JoinedWrite[] = [],
  ): Promise<WriteResult> {
    const form = this.form(definition);
    const key = storageKey(form, object.metadata.namespace ?? '', object.metadata.name!);
    this.cache.announce(bytes, object);
    for (const { put } of joined) if (put !== undefined) this.cache.announce(put.bytes, put.object);
    try {
      const compare = [{ key, modRevision: previous?.revision ?? 0 }, ...comparisons(joined)];
      const result = await this.#guard(() =>
        form.resource === 'events' && form.group === ''
          ? this.#putEvent(compare, key, bytes)
          : this.store.txn({
              compare,
              operations: [...operations(joined), { type: 'put', key, value: bytes }],
            }),
      );
      if (!result.succeeded) return this.#lost(form, previous, joined, result.current);
      const stored =
        this.cache.known(form.keyPrefix)?.getByKeyAt(key, result.revision) ??
        new StoredObject(form, key, bytes, result.revision);
      return { done: true, object: stored };
    } finally {
      this.cache.withdraw(bytes);
      for (const { put } of joined) if (put !== undefined) this.cache.withdraw(put.bytes);
    }
  }

  /** Removes the object; `joined` are written after it, at the same revision. */
  async remove(object: StoredObject, joined: readonly JoinedWrite[] = []): Promise<RemoveResult> {
    const { key, form } = object;
    const result = await this.#guard(() =>
      this.store.txn({
        compare: [{ key, modRevision: object.revision }, ...comparisons(joined)],
        operations: [{ type: 'delete', key }, ...operations(joined)],
      }),
    );
    if (!result.succeeded) return this.#lost(form, object, joined, result.current);
    return { done: true, revision: result.revision };
  }

  encode(definition: ResourceDefinition, object: MutableObject): Uint8Array {
    return encodeForStorage(definition, object);
  }

  /** An Event lives on for its full time with each write. */
  async #putEvent(compare: readonly Compare[], key: string, value: Uint8Array): Promise<TransactionResult> {
    for (let attempt = 1; ; attempt++) {
      const lease = await this.#eventLeases.lease();
      try {
        return await this.store.txn({ compare, operations: [{ type: 'put', key, value, lease }] });
      } catch (error) {
        if (!this.#eventLeases.forget(error) || attempt > 1) throw error;
      }
    }
  }

  #lost(
    form: StorageForm,
    previous: StoredObject | undefined,
    joined: readonly JoinedWrite[],
    [own, ...others]: readonly (KeyValue | undefined)[],
  ): Lost {
    const current = own && this.#stored(form, own);
    if ((own?.modRevision ?? 0) !== (previous?.revision ?? 0)) return { done: false, current };
    return {
      done: false,
      current,
      joined: joined.filter((write, i) => write.revision !== (others[i]?.modRevision ?? 0)),
    };
  }

  #stored(form: StorageForm, kv: KeyValue): StoredObject {
    return (
      this.cache.known(form.keyPrefix)?.getByKeyAt(kv.key, kv.modRevision) ??
      new StoredObject(form, kv.key, kv.value, kv.modRevision)
    );
  }

  async #guard<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      throw storeFailure(error);
    }
  }
}

function comparisons(joined: readonly JoinedWrite[]): Compare[] {
  return joined.map(({ key, revision }) => ({ key, modRevision: revision }));
}

function operations(joined: readonly JoinedWrite[]): Operation[] {
  return joined.map(({ key, put }) =>
    put === undefined ? { type: 'delete', key } : { type: 'put', key, value: put.bytes },
  );
}

/** What a client is told when the store fails. */
export function storeFailure(error: unknown): StatusError {
  if (error instanceof StoreUnavailableError)
    return error.uncertain
      ? timeout(`the store could not tell whether the write was done: ${error.message}`, 1)
      : serviceUnavailable(`the store does not take writes: ${error.message}`);
  return internalError(error);
}
