// An ObjectReader over objects that a test puts there by hand, for testing one link of the chain without a server.

import type { KubeObject } from '../../api/object.ts';
import type { ObjectReader, ReaderEvent } from '../chain.ts';

type Handler = (event: ReaderEvent) => void;

let nextUid = 1;

/** An object of no particular kind with the metadata that a test cares about. */
export type Loose = { metadata: Record<string, unknown> & { name: string } } & Record<string, unknown>;

export class FakeObjects implements ObjectReader {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #handlers = new Map<string, Set<Handler>>();
  /** Objects that only getFresh sees: written, but not yet in the watch cache. */
  readonly #fresh = new Map<string, KubeObject>();

  put<T extends Loose>(group: string, resource: string, object: T): T & KubeObject {
    const complete = {
      ...object,
      metadata: {
        uid: `uid-${nextUid++}`,
        resourceVersion: '1',
        creationTimestamp: '2026-01-01T00:00:00Z',
        ...object.metadata,
      },
    } as unknown as T & KubeObject;
    const kind = this.#of(group, resource);
    const key = keyOf(complete);
    const old = kind.get(key);
    kind.set(key, complete);
    this.#tell(group, resource, { type: old ? 'MODIFIED' : 'ADDED', object: complete, ...(old && { old }) });
    return complete;
  }

  putFreshOnly(group: string, resource: string, object: Loose): void {
    this.#fresh.set(
      `${group}/${resource}/${keyOf(object as unknown as KubeObject)}`,
      object as unknown as KubeObject,
    );
  }

  remove(group: string, resource: string, namespace: string, name: string): void {
    const old = this.#of(group, resource).get(`${namespace}/${name}`);
    if (!old) return;
    this.#of(group, resource).delete(`${namespace}/${name}`);
    this.#tell(group, resource, { type: 'DELETED', object: old });
  }

  get<T extends KubeObject>(group: string, resource: string, namespace: string, name: string): T | undefined {
    return this.#of(group, resource).get(`${namespace}/${name}`) as T | undefined;
  }

  *list<T extends KubeObject>(group: string, resource: string, namespace?: string): Iterable<T> {
    for (const object of this.#of(group, resource).values()) {
      if (namespace === undefined || object.metadata.namespace === namespace) yield object as T;
    }
  }

  follow<T extends KubeObject>(
    group: string,
    resource: string,
    handler: (event: ReaderEvent<T>) => void,
  ): () => void {
    const key = `${group}/${resource}`;
    const handlers = this.#handlers.get(key) ?? new Set();
    this.#handlers.set(key, handlers);
    const typed = handler as Handler;
    handlers.add(typed);
    for (const object of this.#of(group, resource).values()) typed({ type: 'ADDED', object });
    return () => handlers.delete(typed);
  }

  async getFresh<T extends KubeObject>(
    group: string,
    resource: string,
    namespace: string,
    name: string,
  ): Promise<T | undefined> {
    const fresh = this.#fresh.get(`${group}/${resource}/${namespace}/${name}`);
    return (fresh as T | undefined) ?? this.get<T>(group, resource, namespace, name);
  }

  /** How many followers there are: a link that was disposed must leave none. */
  get followers(): number {
    let count = 0;
    for (const handlers of this.#handlers.values()) count += handlers.size;
    return count;
  }

  #of(group: string, resource: string): Map<string, KubeObject> {
    const key = `${group}/${resource}`;
    let kind = this.#objects.get(key);
    if (!kind) {
      kind = new Map();
      this.#objects.set(key, kind);
    }
    return kind;
  }

  #tell(group: string, resource: string, event: ReaderEvent): void {
    for (const handler of this.#handlers.get(`${group}/${resource}`) ?? []) handler(event);
  }
}

const keyOf = (object: KubeObject): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
