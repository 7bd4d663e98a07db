// When the change happened that made us write endpoints: proxies measure from there how long a change takes to arrive.
// Written into an annotation beside the endpoints, as upstream's TriggerTimeTracker computes it.

import { findCondition, timestamp, timestampMs } from '../../api/index.ts';
import type { Pod, Service } from '../../api/types/core-v1.ts';

export const LAST_CHANGE = 'endpoints.kubernetes.io/last-change-trigger-time';

export class TriggerTimes {
  /** Times read once for each version of a pod. */
  readonly #changed = new WeakMap<Pod, number>();
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
      const changed = this.#changedAt(pod);
      if (changed === 0) continue;
      const { name } = pod.metadata;
      now.set(name, changed);
      if (changed > (before?.get(name) ?? 0)) earliest = Math.min(changed, earliest ?? changed);
    }
    this.#seen.set(key, now);
    if (!before) return service.metadata.creationTimestamp;
    return earliest === undefined ? undefined : timestamp(earliest);
  }

  /** When the pod's readiness last changed; 0 when that is not known. */
  #changedAt(pod: Pod): number {
    let changed = this.#changed.get(pod);
    if (changed === undefined) {
      changed = timestampMs(findCondition(pod.status?.conditions, 'Ready')?.lastTransitionTime) ?? 0;
      this.#changed.set(pod, changed);
    }
    return changed;
  }
}
