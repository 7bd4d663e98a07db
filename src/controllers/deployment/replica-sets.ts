// What a Deployment's ReplicaSets say: which is the new one, sizes, revisions, annotations, order. Pure.

import { createHash } from 'node:crypto';
import { timestampMs } from '../../api/index.ts';
import type { Deployment, ReplicaSet } from '../../api/types/apps-v1.ts';
import type { PodTemplateSpec } from '../../api/types/core-v1.ts';
import { sameValue } from '../same-value.ts';

export const TEMPLATE_HASH = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
export const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history';
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';
export const ROLLBACK_TO = 'deprecated.deployment.rollback.to';

/** Annotations of the Deployment that its ReplicaSets do not get. */
const OWN_ANNOTATIONS = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  REVISION_HISTORY,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  ROLLBACK_TO,
]);
/** How long the list of earlier revisions of one ReplicaSet may become. */
const HISTORY_CHARACTERS = 2000;

export function replicasOf(object: { readonly spec: { readonly replicas?: number } }): number {
  return object.spec.replicas ?? 1;
}

export function totalReplicas(sets: readonly ReplicaSet[]): number {
  return sets.reduce((sum, set) => sum + replicasOf(set), 0);
}

/** Sums a count of the status over the sets. */
export function totalStatus(
  sets: readonly ReplicaSet[],
  count: 'replicas' | 'readyReplicas' | 'availableReplicas',
): number {
  return sets.reduce((sum, set) => sum + (set.status?.[count] ?? 0), 0);
}

export function activeSets(sets: readonly ReplicaSet[]): ReplicaSet[] {
  return sets.filter((set) => replicasOf(set) > 0);
}

/** Oldest first; by name where they were made in the same second. */
export function byCreation(a: ReplicaSet, b: ReplicaSet): number {
  const age =
    (timestampMs(a.metadata.creationTimestamp) ?? 0) - (timestampMs(b.metadata.creationTimestamp) ?? 0);
  if (age !== 0) return age;
  return a.metadata.name < b.metadata.name ? -1 : 1;
}

/** Largest first; of equals the newer. */
export function bySizeNewer(a: ReplicaSet, b: ReplicaSet): number {
  return replicasOf(b) - replicasOf(a) || byCreation(b, a);
}

/** Largest first; of equals the older. */
export function bySizeOlder(a: ReplicaSet, b: ReplicaSet): number {
  return replicasOf(b) - replicasOf(a) || byCreation(a, b);
}

export function byRevision(a: ReplicaSet, b: ReplicaSet): number {
  const [first, second] = [revisionOf(a), revisionOf(b)];
  return first === second ? byCreation(a, b) : first < second ? -1 : 1;
}

/** A revision as annotations hold it: up to 64 bits; 0 for text that is none. */
export function parseRevision(text: string | undefined): bigint {
  if (text === undefined || !/^\d{1,19}$/.test(text)) return 0n;
  const revision = BigInt(text);
  return revision === BigInt.asIntN(64, revision) ? revision : 0n;
}

/** 0 where none is set, or none that can be read. */
export function revisionOf(object: ReplicaSet | Deployment): bigint {
  return parseRevision(object.metadata.annotations?.[REVISION]);
}

/** The highest revision of these sets; 0 where there is none. */
export function highestRevision(sets: readonly ReplicaSet[]): bigint {
  return sets.map(revisionOf).reduce((highest, one) => (one > highest ? one : highest), 0n);
}

/** The set made from the Deployment's template as it is now. Of several (a bug of the past) the oldest. */
export function findNewSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  return sets
    .toSorted(byCreation)
    .find((set) => sameTemplate(set.spec.template ?? {}, deployment.spec.template));
}

/** Equal but for the hash label that the controller adds. */
export function sameTemplate(a: PodTemplateSpec, b: PodTemplateSpec): boolean {
  return sameValue(withoutHash(a), withoutHash(b));
}

export function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const labels = template.metadata?.labels;
  if (labels?.[TEMPLATE_HASH] === undefined) return template;
  const { [TEMPLATE_HASH]: _, ...rest } = labels;
  return { ...template, metadata: { ...template.metadata, labels: rest } };
}

export function integerAnnotation(set: ReplicaSet, name: string): number | undefined {
  const text = set.metadata.annotations?.[name];
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
}

export function replicaAnnotations(desired: number, max: number): Record<string, string> {
  return { [DESIRED_REPLICAS]: String(desired), [MAX_REPLICAS]: String(max) };
}

/** The annotations that the new set should have; undefined when it has them already. */
export function annotationsOfNewSet(
  deployment: Deployment,
  existing: Readonly<Record<string, string>> | undefined,
  revision: bigint,
): Record<string, string> | undefined {
  const annotations: Record<string, string> = { ...existing };
  let changed = false;
  for (const [key, value] of Object.entries(deployment.metadata.annotations ?? {})) {
    if (OWN_ANNOTATIONS.has(key) || annotations[key] === value) continue;
    annotations[key] = value;
    changed = true;
  }
  const old = existing?.[REVISION];
  // One that cannot be read is somebody else's: it stays.
  const readable = old === undefined || /^[+-]?\d{1,19}$/.test(old);
  if (readable && parseRevision(old) < revision) {
    annotations[REVISION] = String(revision);
    changed = true;
    // A set that had a revision and gets a new one is being rolled back to: the old one is remembered.
    if (old !== undefined) annotations[REVISION_HISTORY] = historyWith(existing?.[REVISION_HISTORY], old);
  }
  return changed ? annotations : undefined;
}

function historyWith(history: string | undefined, revision: string): string {
  if (!history) return revision;
  const revisions = [...history.split(','), revision];
  while (revisions.length > 1 && revisions.join(',').length > HISTORY_CHARACTERS) revisions.shift();
  return revisions.join(',');
}

/** The annotations of a Deployment that is rolled back to this set. */
export function annotationsOfRollback(deployment: Deployment, set: ReplicaSet): Record<string, string> {
  const own = Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) =>
    OWN_ANNOTATIONS.has(key),
  );
  const theirs = Object.entries(set.metadata.annotations ?? {}).filter(([key]) => !OWN_ANNOTATIONS.has(key));
  return Object.fromEntries([...own, ...theirs]);
}

/** `<deployment>-<hash>`, shortened (with a digest of the whole) where it would be too long for a name. */
export function replicaSetName(deployment: string, hash: string): string {
  const longest = 253 - 1 - hash.length;
  if (deployment.length <= longest) return `${deployment}-${hash}`;
  const digest = createHash('sha256').update(deployment).digest('hex').slice(0, 8);
  return `${deployment.slice(0, longest - 9)}-${digest}-${hash}`;
}
