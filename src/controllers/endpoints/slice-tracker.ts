// What a controller has written of EndpointSlices and its cache does not show yet. Whoever decides on a stale cache
// makes slices twice, or fills one that is full.

import type { EndpointSlice } from '../../api/types/discovery-v1.ts';

export class SliceTracker {
  /** By the key of the Service: slice uid → the generation that was written. */
  readonly #written = new Map<string, Map<string, number>>();
  readonly #cached: (slice: EndpointSlice) => EndpointSlice | undefined;

  /** `cached`: the slice of this name as the cache has it. */
  constructor(cached: (slice: EndpointSlice) => EndpointSlice | undefined) {
    this.#cached = cached;
  }

  /** To be called with what the server answered to a create or an update. */
  wrote(service: string, slice: EndpointSlice): void {
    // Already in the cache when the transport is in process.
    const cached = this.#cached(slice);
    if (cached?.metadata.uid === slice.metadata.uid && generationOf(cached) >= generationOf(slice)) return;
    let written = this.#written.get(service);
    if (written === undefined) {
      written = new Map();
      this.#written.set(service, written);
    }
    written.set(slice.metadata.uid, generationOf(slice));
  }

  /** A slice is gone, or about to be. */
  gone(service: string, slice: EndpointSlice): void {
    this.#written.get(service)?.delete(slice.metadata.uid);
  }

  /** The Service is gone. */
  forget(service: string): void {
    this.#written.delete(service);
  }

  /** True while `slices`, all that the cache has of the Service, lack something that was written. */
  isStale(service: string, slices: readonly EndpointSlice[]): boolean {
    const written = this.#written.get(service);
    if (written === undefined) return false;
    for (const [uid, generation] of written) {
      const slice = slices.find((one) => one.metadata.uid === uid);
      if (slice === undefined || generationOf(slice) < generation) return true;
      written.delete(uid);
    }
    this.#written.delete(service);
    return false;
  }
}

function generationOf(slice: EndpointSlice): number {
  return slice.metadata.generation ?? 0;
}
