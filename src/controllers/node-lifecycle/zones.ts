// How fast nodes may be declared lost. When many nodes of a zone fall silent at once it is more likely the network, or
// this controller, than the nodes; so evictions slow down, or stop when everything seems lost. States and rates are
// upstream's (node_lifecycle_controller.go).

import { TokenBucket } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import type { ControllerSettings } from '../context.ts';

export type ZoneState = 'Normal' | 'PartialDisruption' | 'FullDisruption';

export function zoneState(readiness: readonly boolean[], threshold: number): ZoneState {
  const ready = readiness.filter(Boolean).length;
  const notReady = readiness.length - ready;
  if (ready === 0 && notReady > 0) return 'FullDisruption';
  if (notReady > 2 && notReady / readiness.length >= threshold) return 'PartialDisruption';
  return 'Normal';
}

/** Evictions a second in a zone of this state and size, when not all zones are lost. */
export function evictionRate(state: ZoneState, size: number, settings: ControllerSettings): number {
  if (state !== 'PartialDisruption') return settings.nodeEvictionRate;
  return size > settings.largeClusterSize ? settings.secondaryNodeEvictionRate : 0;
}

/** Nodes of one zone that wait to be tainted, in the order they came. */
export class EvictionQueue {
  readonly #clock: Clock;
  readonly #nodes = new Set<string>();
  #rate: number;
  #bucket: TokenBucket;

  constructor(rate: number, clock: Clock) {
    this.#clock = clock;
    this.#rate = rate;
    this.#bucket = new TokenBucket(rate, 1, clock);
  }

  add(node: string): void {
    this.#nodes.add(node);
  }

  delete(node: string): void {
    this.#nodes.delete(node);
  }

  setRate(rate: number): void {
    if (rate === this.#rate) return;
    this.#rate = rate;
    this.#bucket = new TokenBucket(rate, 1, this.#clock);
  }

  /** The next node, if the rate allows one now. */
  take(): string | undefined {
    const [first] = this.#nodes;
    if (first === undefined || this.#rate === 0 || !this.#bucket.tryTake()) return undefined;
    this.#nodes.delete(first);
    return first;
  }

  /** Milliseconds until a node may be taken; undefined when none waits or none may. */
  untilNext(): number | undefined {
    if (this.#nodes.size === 0 || this.#rate === 0) return undefined;
    return this.#bucket.untilNext();
  }
}
