// Long computations in small pieces: the event loop belongs to the whole cluster.

import type { Clock } from '../component/index.ts';

const SLICE_MS = 4;

export class TimeSlice {
  readonly #clock: Clock;
  #end: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#end = clock.monotonic() + SLICE_MS;
  }

  /** True when others should have their turn: await pause() then. */
  get over(): boolean {
    return this.#clock.monotonic() >= this.#end;
  }

  async pause(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#end = this.#clock.monotonic() + SLICE_MS;
  }
}
