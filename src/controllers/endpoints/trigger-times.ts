// When the change happened that made us write endpoints: proxies measure from there how long a change takes to arrive.
// Written into an annotation beside the endpoints, as upstream's TriggerTimeTracker computes it.

import { findCondition, timestamp, timestampMs } from '../../api/index.ts';
import type { Pod, Service } from '../../api/types/core-v1.ts';

export const LAST_CHANGE = 'endpoints.kubernetes.io/last-change-trigger-time';

export class TriggerTimes {
  /** By Service key: by pod, when its readiness last changed as far as we had seen. */
  readonly #seen = new Map<string, ReadonlyMap<string, number>>();

  forget(service: string): void {
    this.#seen.delete(service);
  }

  /** The earliest of the changes since the last call for this Service; undefined when none of them has a time. */
  lastChange(key: string, service: Service, pods: Iterable<Pod>): string | undefined {
    const before = this.#seen.get(key);
    const now = new Map<string, number>();
    let earliest: number | undefined;
    for (const pod of pods) {
      const changed = timestampMs(findCondition(pod.status?.conditions, 'Ready')?.lastTransitionTime);
      if (changed === undefined) continue;
      const { name } = pod.metadata;
      now.set(name, changed);
      if (changed > (before?.get(name) ?? 0)) earliest = Math.min(changed, earliest ?? changed);
    }
    this.#seen.set(key, now);
    if (!before) return service.metadata.creationTimestamp;
    return earliest === undefined ? undefined : timestamp(earliest);
  }
}
