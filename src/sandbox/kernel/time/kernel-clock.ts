// The clocks that programs see. CLOCK_MONOTONIC and CLOCK_REALTIME are the host's, since the vDSO reads those without
// asking the kernel; CLOCK_BOOTTIME counts from the sandbox's own start.

import type { Host } from '../../host/contract.ts';
import type { Clock } from '../contract.ts';

export class KernelClock implements Clock {
  readonly #host: Pick<Host, 'monotonic' | 'realtime'>;
  readonly #start: number;

  /** start: the sandbox's boot in host.monotonic nanoseconds. */
  constructor(host: Pick<Host, 'monotonic' | 'realtime'>, start: number = host.monotonic()) {
    this.#host = host;
    this.#start = start;
  }

  monotonic(): number {
    return this.#host.monotonic();
  }

  boot(): number {
    return this.#host.monotonic() - this.#start;
  }

  realtime(): { readonly sec: number; readonly nsec: number } {
    const { sec, nsec } = this.#host.realtime();
    return { sec, nsec };
  }
}
