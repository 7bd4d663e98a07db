// Index functions that several controllers share; the same function means the same index in a shared informer.

import { controllerOf, type KubeObject } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Index } from '../../client/index.ts';

/** The uid of the controller, or `orphans/<namespace>` for those without one. */
export function byController(object: KubeObject): readonly string[] {
  return [controllerOf(object)?.uid ?? `orphans/${object.metadata.namespace ?? ''}`];
}

/** Those that `owner` controls, and the orphans of its namespace, which it may adopt. */
export function podsOf<T extends KubeObject>(index: Index<T>, owner: KubeObject): T[] {
  return [...index.get(owner.metadata.uid), ...index.get(`orphans/${owner.metadata.namespace ?? ''}`)];
}

export function byNode(pod: Pod): readonly string[] {
  return pod.spec.nodeName ? [pod.spec.nodeName] : [];
}
