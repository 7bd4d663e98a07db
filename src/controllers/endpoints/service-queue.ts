// From pods to the Services whose selectors they match, for the controllers of endpoints: which Services are to be
// looked at when a pod comes, goes or changes.

import { type LabelMatcher, labelSetMatcher } from '../../api/index.ts';
import type { Pod, Service } from '../../api/types/core-v1.ts';
import { type Informer, keyOf } from '../../client/index.ts';
import { backendChanged, hasBackends } from './backends.ts';

/** Calls `enqueue` with the keys of Services that must be looked at. */
export function followServices(
  services: Informer<Service>,
  pods: Informer<Pod>,
  enqueue: (key: string) => void,
): void {
  /** Selectors made ready once for each version of a Service. */
  const matchers = new WeakMap<Service, LabelMatcher>();
  const matcherOf = (service: Service): LabelMatcher => {
    let matcher = matchers.get(service);
    if (!matcher) {
      matcher = labelSetMatcher(service.spec?.selector);
      matchers.set(service, matcher);
    }
    return matcher;
  };
  const enqueueFor = (...versions: readonly Pod[]): void => {
    for (const service of services.lister.values(versions[0]?.metadata.namespace)) {
      if (!hasBackends(service)) continue;
      const matcher = matcherOf(service);
      if (versions.some((pod) => matcher.matches(pod.metadata.labels))) enqueue(keyOf(service));
    }
  };
  services.addHandler({
    added: (service) => enqueue(keyOf(service)),
    updated: (service) => enqueue(keyOf(service)),
    deleted: (service) => enqueue(keyOf(service)),
  });
  pods.addHandler({
    added: (pod) => enqueueFor(pod),
    updated(pod, old) {
      if (backendChanged(pod, old)) enqueueFor(pod, old);
    },
    deleted: (pod) => enqueueFor(pod),
  });
}

/** The pods that the Service selects. */
export function* selectedPods(service: Service, pods: Iterable<Pod>): Iterable<Pod> {
  const matcher = labelSetMatcher(service.spec?.selector);
  for (const pod of pods) if (matcher.matches(pod.metadata.labels)) yield pod;
}
