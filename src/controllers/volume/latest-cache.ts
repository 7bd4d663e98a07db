// What is known of one resource, our own writes included: an informer's cache with the answers to our writes laid over
// it until the informer has caught up. The binder writes an object several times in a row and must not take its own
// half of a binding for somebody else's. Relies on resource versions that grow (KEP-5504).

import type { KubeObject } from '../../api/index.ts';
import { type Informer, keyOf } from '../../client/index.ts';

export class LatestCache<T extends KubeObject> {
  readonly #informer: Informer<T>;
  readonly #written = new Map<string, T>();

  /** The informer belongs to the caller; the cache hears of events through a handler of its own. */
  constructor(informer: Informer<T>) {
    this.#informer = informer;
    const seen = (object: T): void => {
      const key = keyOf(object);
      const written = this.#written.get(key);
      if (written && !isNewer(written, object)) this.#written.delete(key);
    };
    informer.addHandler({
      added: seen,
      updated: seen,
      deleted: (object) => void this.#written.delete(keyOf(object)),
    });
  }

  get(key: string): T | undefined {
    const seen = this.#informer.lister.get(key);
    // What the informer does not hold was deleted: we only write objects that we had from it.
    return seen && this.latest(seen);
  }

  /** The newest version known of an object from the informer or one of its indexes. */
  latest(seen: T): T {
    const written = this.#written.get(keyOf(seen));
    return written && isNewer(written, seen) ? written : seen;
  }

  /** Remembers the server's answer to a write, and returns it. */
  wrote(object: T): T {
    const key = keyOf(object);
    const seen = this.#informer.lister.get(key);
    if (seen && isNewer(object, seen)) this.#written.set(key, object);
    return object;
  }
}

/** `a` is a newer version of the same object as `b`. */
function isNewer(a: KubeObject, b: KubeObject): boolean {
  return (
    a.metadata.uid === b.metadata.uid &&
    Number(a.metadata.resourceVersion) > Number(b.metadata.resourceVersion)
  );
}
