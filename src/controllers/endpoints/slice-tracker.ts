// What a controller has written of EndpointSlices and its cache does not show yet. Whoever decides on a stale cache
// makes slices twice, or fills one that is full.

import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import type { Informer } from '../../client/index.ts';

export class SliceTracker {
  /** By the key of the Service: slice uid → the generation that was written. */
  readonly #written = new Map<string, Map<string, number>>();
  /** By the key of the Service: slice uid → the version that was found right, or made so. */
  readonly #settled = new Map<string, Map<string, string>>();
  readonly #cached: (slice: EndpointSlice) => EndpointSlice | undefined;

  /** `cached`: the slice of this name as the cache has it. */
  constructor(cached: (slice: EndpointSlice) => EndpointSlice | undefined) {
    this.#cached = cached;
  }

  /** Calls `changed` with the keys of Services whose slices change; `serviceOf`: those that a slice is ours for. */
  follow(
    slices: Informer<EndpointSlice>,
    serviceOf: (slice: EndpointSlice) => readonly string[],
    changed: (service: string) => void,
  ): void {
    const tell = (slice: EndpointSlice): void => {
      for (const key of serviceOf(slice)) changed(key);
    };
    slices.addHandler({
      added: tell,
      updated(slice, old) {
        tell(slice);
        // One that was taken from us, or given to us.
        if (serviceOf(old)[0] !== serviceOf(slice)[0]) tell(old);
      },
      deleted: (slice) => {
        for (const key of serviceOf(slice)) this.gone(key, slice);
        tell(slice);
      },
    });
  }

  /** To be called with what the server answered to a create or an update. */
  wrote(service: string, slice: EndpointSlice): void {
    this.#settled.get(service)?.set(slice.metadata.uid, slice.metadata.resourceVersion);
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

  /** A slice is gone. */
  gone(service: string, slice: EndpointSlice): void {
    this.#written.get(service)?.delete(slice.metadata.uid);
  }

  /** A slice is about to be deleted by us. */
  removes(service: string, slice: EndpointSlice): void {
    this.gone(service, slice);
    this.#settled.get(service)?.delete(slice.metadata.uid);
  }

  /** These are all slices of the Service; what is then written or gone is kept account of. */
  begin(service: string, slices: readonly EndpointSlice[]): void {
    const versions = slices.map(({ metadata }) => [metadata.uid, metadata.resourceVersion] as const);
    this.#settled.set(service, new Map(versions));
  }

  /** True when the slices are as they were left: the events of one's own writes need no second look. */
  isSettled(service: string, slices: readonly EndpointSlice[]): boolean {
    const settled = this.#settled.get(service);
    return (
      settled?.size === slices.length &&
      slices.every(({ metadata }) => settled.get(metadata.uid) === metadata.resourceVersion)
    );
  }

  /** The Service is gone. */
  forget(service: string): void {
    this.#written.delete(service);
    this.#settled.delete(service);
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
