// The upstreams that one domain's names are asked of, and in which order. Those that were there before the set is
// changed keep what is known of their health.

import type { Clock, Logger } from '../../component/index.ts';
import type { DnsMetrics } from '../metrics.ts';
import { formatUpstream, Upstream, type UpstreamAddress } from './upstream.ts';

/** CoreDNS takes no more. */
export const MAX_UPSTREAMS = 15;

export type UpstreamPolicy = 'random' | 'sequential';

export interface UpstreamSetOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: DnsMetrics;
  readonly random: () => number;
  readonly policy: UpstreamPolicy;
  /** An upstream went down: perhaps it leads back here. */
  readonly wentDown?: (set: UpstreamSet, upstream: Upstream) => void;
}

export class UpstreamSet implements Disposable {
  readonly #options: UpstreamSetOptions;
  #upstreams: Upstream[] = [];
  /** Upstreams that lead back to this server: asking them would go in a circle. */
  readonly #loops = new Set<string>();

  constructor(options: UpstreamSetOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#upstreams.filter(({ label }) => !this.#loops.has(label)).length;
  }

  get upstreams(): readonly Upstream[] {
    return this.#upstreams;
  }

  /** Answers whether anything changed. */
  replace(addresses: readonly UpstreamAddress[]): boolean {
    const wanted = new Map(addresses.map((address) => [formatUpstream(address), address]));
    const before = this.#upstreams;
    const after = [...wanted].slice(0, MAX_UPSTREAMS);
    if (before.length === after.length && before.every(({ label }, i) => label === after[i]![0]))
      return false;
    const known = new Map(before.map((upstream) => [upstream.label, upstream]));
    this.#upstreams = after.map(([label, address]) => known.get(label) ?? this.#make(address));
    for (const upstream of before) if (!this.#upstreams.includes(upstream)) upstream[Symbol.dispose]();
    this.#loops.clear();
    return true;
  }

  /** Answers whether that is news. */
  exclude(label: string): boolean {
    if (this.#loops.has(label)) return false;
    this.#loops.add(label);
    return true;
  }

  /** Answers whether it was excluded. */
  include(label: string): boolean {
    return this.#loops.delete(label);
  }

  /** The healthy ones in the order in which they are to be tried; one at random when there is none. */
  order(): Upstream[] {
    const { random, policy, metrics } = this.#options;
    const usable = this.#upstreams.filter(({ label }) => !this.#loops.has(label));
    const healthy = usable.filter((upstream) => upstream.healthy);
    if (healthy.length === 0 && usable.length > 0) {
      metrics.healthcheckBroken++;
      return [usable[Math.floor(random() * usable.length)]!];
    }
    if (policy === 'random')
      for (let i = healthy.length - 1; i > 0; i--) {
        const j = Math.floor(random() * (i + 1));
        [healthy[i], healthy[j]] = [healthy[j]!, healthy[i]!];
      }
    return healthy;
  }

  [Symbol.dispose](): void {
    for (const upstream of this.#upstreams) upstream[Symbol.dispose]();
    this.#upstreams = [];
  }

  #make(address: UpstreamAddress): Upstream {
    const { clock, logger, metrics } = this.#options;
    const label = formatUpstream(address);
    const upstream: Upstream = new Upstream({
      ...address,
      clock,
      changed: (up) => {
        if (up) logger.info({ upstream: label }, 'the upstream resolver answers again');
        else {
          logger.warn(
            { upstream: label },
            'the upstream resolver does not answer; others are asked until it does',
          );
          this.#options.wentDown?.(this, upstream);
        }
      },
      probeFailed: () => metrics.probeFailed(label),
    });
    return upstream;
  }
}
