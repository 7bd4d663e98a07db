// Lets a few through at a time, the rest in the order they came. Starting a container is work for the processors:
// twenty at once all finish last, while a few at a time finish one after the other, and sooner on average. One that
// takes very long (a mount that hangs, say) gives its place up after a while and holds up nobody.

import type { Clock } from '../../component/index.ts';

export class Gate {
  readonly #clock: Clock;
  readonly #holdMs: number;
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(options: { readonly clock: Clock; readonly width: number; readonly holdMs: number }) {
    this.#clock = options.clock;
    this.#free = options.width;
    this.#holdMs = options.holdMs;
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let held = true;
    const leave = (): void => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    };
    const timer = this.#clock.setTimer(this.#holdMs, leave, { unref: true });
    try {
      return await work();
    } finally {
      timer.cancel();
      leave();
    }
  }
}
