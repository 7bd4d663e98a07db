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
  type Store,
  StoreUnavailableError,
  type TransactionResult,
} from '../../store/store.ts';
import type { ResourceCache } from '../cache/resource-cache.ts';
import { type StorageForm, StoredObject, storageForm, storageKey } from '../cache/stored-object.ts';
import type { WatchCache } from '../cache/watch-cache.ts';
import { WireFormat } from '../cache/wire-format.ts';
import { ExpiryLeases } from './leases.ts';

export type WriteResult =
  | { readonly done: true; readonly object: StoredObject }
  /** Somebody else was faster; `current` is what is there now. */
  | { readonly done: false; readonly current: StoredObject | undefined };

export type RemoveResult =
  | { readonly done: true; readonly revision: number }
  | { readonly done: false; readonly current: StoredObject | undefined };

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
   * was.
   */
  async write(
    definition: ResourceDefinition,
    object: MutableObject,
    previous: StoredObject | undefined,
    bytes: Uint8Array = this.encode(definition, object),
  ): Promise<WriteResult> {
    const form = this.form(definition);
    const key = storageKey(form, object.metadata.namespace ?? '', object.metadata.name!);
    this.cache.announce(bytes, object);
    try {
      const compare = [{ key, modRevision: previous?.revision ?? 0 }];
      const result = await this.#guard(() =>
        form.resource === 'events' && form.group === ''
          ? this.#putEvent(compare, key, bytes)
          : this.store.txn({ compare, operations: [{ type: 'put', key, value: bytes }] }),
      );
      if (!result.succeeded) return { done: false, current: this.#current(form, result.current[0]) };
      const stored =
        this.cache.known(form.keyPrefix)?.getByKeyAt(key, result.revision) ??
        new StoredObject(form, key, bytes, result.revision);
      return { done: true, object: stored };
    } finally {
      this.cache.withdraw(bytes);
    }
  }

  async remove(object: StoredObject): Promise<RemoveResult> {
    const { key, form } = object;
    const result = await this.#guard(() =>
      this.store.txn({
        compare: [{ key, modRevision: object.revision }],
        operations: [{ type: 'delete', key }],
      }),
    );
    if (!result.succeeded) return { done: false, current: this.#current(form, result.current[0]) };
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

  #current(form: StorageForm, kv: KeyValue | undefined): StoredObject | undefined {
    return kv && this.#stored(form, kv);
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

/** What a client is told when the store fails. */
export function storeFailure(error: unknown): StatusError {
  if (error instanceof StoreUnavailableError)
    return error.uncertain
      ? timeout(`the store could not tell whether the write was done: ${error.message}`, 1)
      : serviceUnavailable(`the store does not take writes: ${error.message}`);
  return internalError(error);
}
