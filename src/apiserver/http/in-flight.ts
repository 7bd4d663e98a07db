// Requests under way: how many of each kind there may be, and the time that each may take. One timer looks after all
// of them, for nearly all requests are over long before it would matter.

import type { Clock, Timer } from '../../component/index.ts';

export interface InFlightLimits {
  readonly readOnly: number;
  readonly mutating: number;
  readonly requestTimeoutMs: number;
}

export interface InFlightRequest {
  readonly mutating: boolean;
  readonly deadline: number;
  /** Called once, when the time is up before `leave`. */
  readonly onTimeout: () => void;
}

/** How late a request may be noticed to be over its time, in ms. */
const SWEEP_MS = 500;

export class InFlight {
  readonly #limits: InFlightLimits;
  readonly #clock: Clock;
  readonly #requests = new Set<InFlightRequest>();
  readonly #idle = new Set<() => void>();
  #mutating = 0;
  #timer: Timer | undefined;

  constructor(limits: InFlightLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  get mutating(): number {
    return this.#mutating;
  }

  get readOnly(): number {
    return this.#requests.size - this.#mutating;
  }

  /**
   * Undefined: there are too many already, and this one is not exempt. `timeoutMs`: less than the limit, when the
   * client said so.
   */
  enter(
    mutating: boolean,
    onTimeout: () => void,
    { exempt, timeoutMs }: { readonly exempt: boolean; readonly timeoutMs: number | undefined },
  ): InFlightRequest | undefined {
    const { readOnly, mutating: mostMutating, requestTimeoutMs } = this.#limits;
    const full = mutating ? this.#mutating >= mostMutating : this.readOnly >= readOnly;
    if (full && !exempt) return undefined;
    const allowed = Math.min(timeoutMs ?? requestTimeoutMs, requestTimeoutMs);
    const request: InFlightRequest = { mutating, deadline: this.#clock.monotonic() + allowed, onTimeout };
    this.#requests.add(request);
    if (mutating) this.#mutating++;
    this.#timer ??= this.#clock.setTimer(SWEEP_MS, () => this.#sweep(), { unref: true });
    return request;
  }

  leave(request: InFlightRequest): void {
    if (!this.#requests.delete(request)) return;
    if (request.mutating) this.#mutating--;
    if (this.#requests.size === 0) for (const callback of this.#idle) callback();
  }

  /** Resolves when no request is under way. */
  async drained(): Promise<void> {
    if (this.#requests.size === 0) return;
    await new Promise<void>((resolve) => {
      const callback = (): void => {
        this.#idle.delete(callback);
        resolve();
      };
      this.#idle.add(callback);
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #sweep(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const request of [...this.#requests])
      if (request.deadline <= now) {
        this.leave(request);
        request.onTimeout();
      }
    if (this.#requests.size > 0)
      this.#timer = this.#clock.setTimer(SWEEP_MS, () => this.#sweep(), { unref: true });
  }
}
