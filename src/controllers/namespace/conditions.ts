// What a namespace's status says of its deletion: five conditions, each True while something is in the way, with
// upstream's reasons and messages. Pure.

import { findCondition, timestamp } from '../../api/index.ts';
import type { NamespaceCondition } from '../../api/types/core-v1.ts';

export interface DeletionFindings {
  /** Discovery failed, wholly or for some groups. */
  readonly discoveryErrors: readonly unknown[];
  /** Content that could not be deleted. */
  readonly contentErrors: readonly unknown[];
  /** `resource.group` → how many are left. */
  readonly remaining: ReadonlyMap<string, number>;
  /** Finalizer → how many objects it holds. */
  readonly finalizers: ReadonlyMap<string, number>;
}

const SUCCESS = [
  ['NamespaceDeletionDiscoveryFailure', 'ResourcesDiscovered', 'All resources successfully discovered'],
  [
    'NamespaceDeletionGroupVersionParsingFailure',
    'ParsedGroupVersions',
    'All legacy kube types successfully parsed',
  ],
  [
    'NamespaceDeletionContentFailure',
    'ContentDeleted',
    'All content successfully deleted, may be waiting on finalization',
  ],
  ['NamespaceContentRemaining', 'ContentRemoved', 'All content successfully removed'],
  ['NamespaceFinalizersRemaining', 'ContentHasNoFinalizers', 'All content-preserving finalizers finished'],
] as const;

type ConditionType = (typeof SUCCESS)[number][0];

/** The conditions as they should be; the same array when nothing changes. */
export function deletionConditions(
  old: readonly NamespaceCondition[] | undefined,
  findings: DeletionFindings,
  now: number,
): readonly NamespaceCondition[] {
  const problems = new Map<ConditionType, { readonly reason: string; readonly message: string }>();
  const { discoveryErrors, contentErrors, remaining, finalizers } = findings;
  if (discoveryErrors.length > 0)
    problems.set('NamespaceDeletionDiscoveryFailure', {
      reason: 'DiscoveryFailed',
      message: `Discovery failed for some groups, ${discoveryErrors.length} failing: unable to retrieve the complete list of server APIs: ${text(discoveryErrors)}`,
    });
  if (contentErrors.length > 0)
    problems.set('NamespaceDeletionContentFailure', {
      reason: 'ContentDeletionFailed',
      message: `Failed to delete all resource types, ${contentErrors.length} remaining: ${text(contentErrors)}`,
    });
  if (remaining.size > 0)
    problems.set('NamespaceContentRemaining', {
      reason: 'SomeResourcesRemain',
      message: `Some resources are remaining: ${counts(remaining, (what, n) => `${what} has ${n} resource instances`)}`,
    });
  if (finalizers.size > 0)
    problems.set('NamespaceFinalizersRemaining', {
      reason: 'SomeFinalizersRemain',
      message: `Some content in the namespace has finalizers remaining: ${counts(finalizers, (name, n) => `${name} in ${n} resource instances`)}`,
    });
  let conditions = old ?? [];
  for (const [type, reason, message] of SUCCESS) {
    const problem = problems.get(type);
    conditions = withDeletionCondition(
      conditions,
      problem ? { type, status: 'True', ...problem } : { type, status: 'False', reason, message },
      now,
    );
  }
  return conditions;
}

function withDeletionCondition(
  conditions: readonly NamespaceCondition[],
  next: NamespaceCondition,
  now: number,
): readonly NamespaceCondition[] {
  const current = findCondition(conditions, next.type);
  if (current?.status === next.status && current.reason === next.reason && current.message === next.message)
    return conditions;
  const changed = { ...next, lastTransitionTime: timestamp(now) };
  return current ? conditions.map((one) => (one === current ? changed : one)) : [...conditions, changed];
}

function counts(of: ReadonlyMap<string, number>, say: (what: string, count: number) => string): string {
  return [...of]
    .map(([what, count]) => say(what, count))
    .toSorted()
    .join(', ');
}

function text(errors: readonly unknown[]): string {
  return errors
    .map((error) => (error instanceof Error ? error.message : String(error)))
    .toSorted()
    .join(', ');
}
