// Stored objects → what goes over the wire in one served version. For versions of the same shape as the stored one
// that is a splice of bytes: another head, the resourceVersion, and the stored bytes from there on. Other versions are
// converted and encoded. The bytes of a watch event are made once and shared by all watchers of the version.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { groupVersion, type KubeObject } from '../../api/object.ts';
import type { Change } from './event-ring.ts';
import { deepFreeze, objectHead, type StorageForm, type StoredObject } from './stored-object.ts';

export type EventType = Change['type'] | 'BOOKMARK' | 'ERROR';

/** metadata of a list. */
export interface ListMeta {
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
}

const COMMA = 0x2c;
const BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const BRACKET = 0x5d;
const NEWLINE = 0x0a;

export class WireFormat {
  readonly definition: ResourceDefinition;
  readonly apiVersion: string;
  /** How many of the stored bytes the head stands for. */
  readonly #skip: number;
  readonly #objectHead: string;
  readonly #itemHead: string;
  readonly #listHead: string;
  readonly #events: Readonly<Record<Change['type'], string>>;
  readonly #sameVersion: boolean;
  readonly #lists = new WeakMap<readonly StoredObject[], WeakRef<Buffer>>();

  constructor(definition: ResourceDefinition, form: StorageForm) {
    this.definition = definition;
    this.apiVersion = groupVersion(definition);
    this.#sameVersion = this.apiVersion === form.apiVersion;
    this.#skip = form.head.length;
    const head = `${objectHead(definition.kind, this.apiVersion)}"resourceVersion":"`;
    this.#objectHead = head;
    // Items of a list carry no kind and apiVersion of their own, as upstream's for all built-in kinds.
    this.#itemHead = '{"metadata":{"resourceVersion":"';
    this.#listHead = `{"kind":${JSON.stringify(definition.listKind)},"apiVersion":${JSON.stringify(this.apiVersion)},"metadata":`;
    const event = (type: string): string => `{"type":"${type}","object":`;
    this.#events = { ADDED: event('ADDED'), MODIFIED: event('MODIFIED'), DELETED: event('DELETED') };
  }

  /** The object in this version, frozen. */
  object(stored: StoredObject): KubeObject {
    const { object } = stored;
    if (this.#sameVersion) return object;
    const { conversion } = this.definition;
    if (conversion === undefined) return Object.freeze({ ...object, apiVersion: this.apiVersion });
    const converted = this.#converted(stored);
    deepFreeze(converted);
    return converted;
  }

  /** The encoded object. */
  encode(stored: StoredObject): Buffer {
    if (this.definition.conversion !== undefined) return Buffer.from(JSON.stringify(this.#converted(stored)));
    const head = `${this.#objectHead}${stored.revision}",`;
    const out = Buffer.allocUnsafe(head.length + stored.bytes.length - this.#skip);
    out.write(head, 0, 'latin1');
    out.set(this.#rest(stored), head.length);
    return out;
  }

  /** One line of a watch stream. */
  encodeEvent(type: Change['type'], stored: StoredObject, change: Change | undefined): Buffer {
    const memo = change?.encoded;
    const found = memo?.get(this)?.[type];
    if (found !== undefined) return found;
    const line = this.#eventLine(type, stored);
    if (memo !== undefined) {
      const lines = memo.get(this);
      if (lines === undefined) memo.set(this, { [type]: line });
      else lines[type] = line;
    }
    return line;
  }

  #eventLine(type: Change['type'], stored: StoredObject): Buffer {
    if (this.definition.conversion !== undefined)
      return Buffer.from(`${this.#events[type]}${JSON.stringify(this.#converted(stored))}}\n`);
    const head = `${this.#events[type]}${this.#objectHead}${stored.revision}",`;
    const length = head.length + stored.bytes.length - this.#skip + 2;
    const out = Buffer.allocUnsafe(length);
    out.write(head, 0, 'latin1');
    out.set(this.#rest(stored), head.length);
    out[length - 2] = BRACE;
    out[length - 1] = NEWLINE;
    return out;
  }

  /**
   * The encoded list: what is said of the list, then its items. The items of the same array of objects are encoded
   * once for as long as the outcome is still in use somewhere.
   */
  encodeList(objects: readonly StoredObject[], meta: ListMeta): readonly [head: Buffer, items: Buffer] {
    const head = Buffer.from(`${this.#listHead}${JSON.stringify(meta)},"items":`);
    let items = this.#lists.get(objects)?.deref();
    if (items === undefined) {
      items =
        this.definition.conversion === undefined ? this.#joinItems(objects) : this.#convertItems(objects);
      this.#lists.set(objects, new WeakRef(items));
    }
    return [head, items];
  }

  /** `[…]}` from bytes. */
  #joinItems(objects: readonly StoredObject[]): Buffer {
    const itemHead = this.#itemHead;
    const skip = this.#skip;
    let length = 3 + Math.max(0, objects.length - 1);
    for (const stored of objects)
      length += itemHead.length + digits(stored.revision) + 2 + stored.bytes.length - skip;
    const out = Buffer.allocUnsafeSlow(length);
    let at = length;
    out[--at] = BRACE;
    out[--at] = BRACKET;
    // From the end to the start: each item is copied with its stored head, which lands where the item's own head and
    // the end of the one before it are then written. So nothing but bytes is moved and nothing is allocated.
    for (let i = objects.length - 1; i >= 0; i--) {
      const { bytes, revision } = objects[i]!;
      const head = `${itemHead}${revision}",`;
      at -= bytes.length - skip;
      if (at >= skip) out.set(bytes, at - skip);
      else out.set(bytes.subarray(skip), at);
      at -= head.length;
      out.write(head, at, 'latin1');
      if (i > 0) out[--at] = COMMA;
    }
    out[0] = OPEN_BRACKET;
    return out;
  }

  #convertItems(objects: readonly StoredObject[]): Buffer {
    const items = objects.map((stored) => {
      const { kind: _kind, apiVersion: _apiVersion, ...item } = this.#converted(stored);
      return JSON.stringify(item);
    });
    return Buffer.from(`[${items.join(',')}]}`);
  }

  #rest(stored: StoredObject): Uint8Array {
    return stored.bytes.subarray(this.#skip);
  }

  #converted(stored: StoredObject): KubeObject {
    const { conversion } = this.definition;
    if (conversion === undefined) return stored.object;
    const object = conversion.fromStorage(structuredClone(stored.object) as unknown as MutableObject);
    object.apiVersion = this.apiVersion;
    object.kind = this.definition.kind;
    return object as unknown as KubeObject;
  }
}

function digits(revision: number): number {
  let count = 1;
  for (let bound = 10; revision >= bound; bound *= 10) count++;
  return count;
}
