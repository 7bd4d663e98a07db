// From pods to the Services whose selectors they match, and back, for the controllers of endpoints. Both ways lead
// through indexes by a single label, so that ten thousand Services in one namespace cost a pod's change nothing.

import { type LabelMatcher, labelSetMatcher } from '../../api/index.ts';
import type { Pod, Service } from '../../api/types/core-v1.ts';
import { type Index, type Informer, keyOf } from '../../client/index.ts';
import { backendChanged, hasBackends } from './backends.ts';

/** Index of pods: `<namespace>/<label>=<value>` for each of its labels. */
function byLabel({ metadata }: Pod): readonly string[] {
  return Object.entries(metadata.labels ?? {}).map(([key, value]) => `${metadata.namespace}/${key}=${value}`);
}

/** Index of Services that have backends: under one label of the selector, any pod that it matches has that one. */
function byOneLabel(service: Service): readonly string[] {
  if (!hasBackends(service)) return [];
  const { namespace } = service.metadata;
  const [first] = Object.entries(service.spec?.selector ?? {});
  return first === undefined ? [] : [`${namespace}/${first[0]}=${first[1]}`];
}

export class Backends {
  readonly #services: Index<Service>;
  readonly #pods: Index<Pod>;
  /** Selectors made ready once for each version of a Service. */
  readonly #matchers = new WeakMap<Service, LabelMatcher>();

  constructor(services: Informer<Service>, pods: Informer<Pod>) {
    this.#services = services.index(byOneLabel);
    this.#pods = pods.index(byLabel);
  }

  /** The Services that select the pod. */
  *servicesOf(pod: Pod): Iterable<Service> {
    const { labels } = pod.metadata;
    for (const value of byLabel(pod))
      for (const service of this.#services.get(value))
        if (this.#matcher(service).matches(labels)) yield service;
  }

  /** The pods that the Service selects. */
  podsOf(service: Service): Pod[] {
    if (!hasBackends(service)) return [];
    const { namespace } = service.metadata;
    let fewest = Number.POSITIVE_INFINITY;
    let chosen = '';
    for (const [key, value] of Object.entries(service.spec?.selector ?? {})) {
      const name = `${namespace}/${key}=${value}`;
      const count = this.#pods.count(name);
      if (count < fewest) [fewest, chosen] = [count, name];
    }
    const matcher = this.#matcher(service);
    const found: Pod[] = [];
    for (const pod of this.#pods.get(chosen)) if (matcher.matches(pod.metadata.labels)) found.push(pod);
    return found;
  }

  #matcher(service: Service): LabelMatcher {
    let matcher = this.#matchers.get(service);
    if (!matcher) {
      matcher = labelSetMatcher(service.spec?.selector);
      this.#matchers.set(service, matcher);
    }
    return matcher;
  }
}

/** Calls `enqueue` with the keys of Services that must be looked at. */
export function followServices(
  services: Informer<Service>,
  pods: Informer<Pod>,
  enqueue: (key: string) => void,
): Backends {
  const backends = new Backends(services, pods);
  const enqueueFor = (...versions: readonly Pod[]): void => {
    for (const pod of versions) for (const service of backends.servicesOf(pod)) enqueue(keyOf(service));
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
  return backends;
}
