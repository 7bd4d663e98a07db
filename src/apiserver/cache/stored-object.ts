// One revision of one object, as the store keeps it and as the watch cache hands it out. The bytes are the store's
// own array, never copied; the parsed object is made when somebody first asks for it, frozen, and then shared by
// everyone in the process. Relies on the stored form of src/api: the bytes begin with a constant prefix
// `{"kind":…,"apiVersion":…,"metadata":{` for all objects of a resource and carry no resourceVersion.

import type { ResourceDefinition } from '../../api/definition.ts';
import { groupVersion, type KubeObject } from '../../api/object.ts';

/** How the objects of one resource stand in the store; shared by all served versions of the resource. */
export interface StorageForm {
  readonly group: string;
  readonly resource: string;
  readonly kind: string;
  readonly apiVersion: string;
  readonly namespaced: boolean;
  /** `/registry/apps/deployments/` */
  readonly keyPrefix: string;
  /** `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{` */
  readonly head: Buffer;
}

export function storageForm(definition: ResourceDefinition): StorageForm {
  const { group, resource, version, keyPrefix } = definition.storage;
  const apiVersion = groupVersion({ group, version });
  return {
    group,
    resource,
    kind: definition.kind,
    apiVersion,
    namespaced: definition.namespaced,
    keyPrefix: keyPrefix.endsWith('/') ? keyPrefix : `${keyPrefix}/`,
    head: Buffer.from(objectHead(definition.kind, apiVersion)),
  };
}

/** The text with which an encoded object begins, up to and including the opening brace of its metadata. */
export function objectHead(kind: string, apiVersion: string): string {
  return `{"kind":${JSON.stringify(kind)},"apiVersion":${JSON.stringify(apiVersion)},"metadata":{`;
}

export function storageKey(form: StorageForm, namespace: string, name: string): string {
  return form.namespaced ? `${form.keyPrefix}${namespace}/${name}` : form.keyPrefix + name;
}

/** The stored bytes are not an encoded object of this resource: a damaged store, or one written by something else. */
export class CorruptObjectError extends Error {
  override readonly name = 'CorruptObjectError';
  constructor(key: string, why: string, cause?: unknown) {
    super(`the stored object ${key} cannot be read: ${why}`, { cause });
  }
}

type Parsed = KubeObject & { metadata: { resourceVersion: string } };

const EMPTY: Readonly<Record<string, string>> = Object.freeze({});

export class StoredObject {
  readonly form: StorageForm;
  readonly key: string;
  readonly bytes: Uint8Array;
  /** The revision at which the object became this: its resourceVersion. */
  readonly revision: number;
  #object: Parsed | undefined;
  #frozen = false;

  /** `object`: the parsed form of `bytes`, when the caller has it; it belongs to the StoredObject from now on. */
  constructor(form: StorageForm, key: string, bytes: Uint8Array, revision: number, object?: object) {
    this.form = form;
    this.key = key;
    this.bytes = bytes;
    this.revision = revision;
    if (object !== undefined) {
      this.#object = object as Parsed;
      this.#object.metadata.resourceVersion = String(revision);
    }
  }

  get name(): string {
    return this.key.slice(this.key.lastIndexOf('/') + 1);
  }

  /** '' for cluster-scoped resources. */
  get namespace(): string {
    return this.form.namespaced ? this.key.slice(this.form.keyPrefix.length, this.key.lastIndexOf('/')) : '';
  }

  get labels(): Readonly<Record<string, string>> {
    return this.#parse().metadata.labels ?? EMPTY;
  }

  get uid(): string {
    return this.#parse().metadata.uid;
  }

  /** The object in its storage version, with its resourceVersion, frozen to the last leaf. */
  get object(): KubeObject {
    const object = this.#parse();
    if (!this.#frozen) {
      deepFreeze(object);
      this.#frozen = true;
    }
    return object;
  }

  /** The same object for a look only: not yet frozen, so never to be handed on. */
  peek(): KubeObject {
    return this.#parse();
  }

  /**
   * The same content under another revision: what a watcher is told of an object that is gone. The parsed form is
   * shared but for the resourceVersion.
   */
  at(revision: number): StoredObject {
    if (this.#object === undefined) return new StoredObject(this.form, this.key, this.bytes, revision);
    const object = this.object;
    return new StoredObject(this.form, this.key, this.bytes, revision, {
      ...object,
      metadata: { ...object.metadata },
    });
  }

  #parse(): Parsed {
    if (this.#object !== undefined) return this.#object;
    const { bytes } = this;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
    let object: Parsed;
    try {
      object = JSON.parse(text) as Parsed;
    } catch (error) {
      throw new CorruptObjectError(this.key, error instanceof Error ? error.message : String(error), error);
    }
    if (typeof object?.metadata !== 'object' || object.metadata === null)
      throw new CorruptObjectError(this.key, 'it has no metadata');
    object.metadata.resourceVersion = String(this.revision);
    this.#object = object;
    return object;
  }
}

export function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  if (Array.isArray(value)) {
    for (const item of value) deepFreeze(item);
    return;
  }
  for (const key in value) deepFreeze((value as Record<string, unknown>)[key]);
}
