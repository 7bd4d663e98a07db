// Which of several classes is the default one: the newest that carries the annotation, the first by name when two are of
// the same second. Admission, the volume binder and the scheduler must agree on it.

import type { KubeObject } from './object.ts';

const STORAGE_ANNOTATIONS = [
  'storageclass.kubernetes.io/is-default-class',
  'storageclass.beta.kubernetes.io/is-default-class',
] as const;

/** The newest class that one of the annotations marks with "true". */
export function findDefaultClass<T extends KubeObject>(
  classes: Iterable<T>,
  annotations: readonly string[],
): T | undefined {
  let best: T | undefined;
  for (const candidate of classes) {
    if (!annotations.some((key) => candidate.metadata.annotations?.[key] === 'true')) continue;
    const age = best
      ? Date.parse(candidate.metadata.creationTimestamp) - Date.parse(best.metadata.creationTimestamp)
      : 1;
    if (!best || age > 0 || (age === 0 && candidate.metadata.name < best.metadata.name)) best = candidate;
  }
  return best;
}

export function findDefaultStorageClass<T extends KubeObject>(classes: Iterable<T>): T | undefined {
  return findDefaultClass(classes, STORAGE_ANNOTATIONS);
}
