// What a pod's life begins with (phase, quality of service, scheduling gates), what its status may not change, and
// how much time it gets to end. Selectors that name label keys (matchLabelKeys) are completed here with the pod's own
// labels, as upstream's pod strategy does (KEP-3243, KEP-3633).

import type { MutableObject } from '../definition.ts';
import { podQos } from '../meta.ts';
import { isPodTerminal } from '../node-selection.ts';
import type { KubeObject } from '../object.ts';
import type { Pod, PodAffinityTerm, PodCondition, PodSpec, PodStatus } from '../types/core-v1.ts';
import type { LabelSelector } from '../types/meta-v1.ts';
import type { StrategyRow } from './strategy.ts';

/** Adds a requirement to the selector for each of these keys that the pod has a label of. */
function withKeys(
  selector: LabelSelector | undefined,
  keys: readonly string[] | undefined,
  labels: Readonly<Record<string, string>> | undefined,
  operator: 'In' | 'NotIn',
): LabelSelector | undefined {
  if (selector === undefined || keys === undefined || labels === undefined) return selector;
  const added = keys
    .filter((key) => Object.hasOwn(labels, key))
    .map((key) => ({ key, operator, values: [labels[key]!] }));
  if (added.length === 0) return selector;
  return { ...selector, matchExpressions: [...(selector.matchExpressions ?? []), ...added] };
}

function completeTerm(term: PodAffinityTerm, labels: Readonly<Record<string, string>> | undefined): void {
  const matching = withKeys(term.labelSelector, term.matchLabelKeys, labels, 'In');
  const complete = withKeys(matching, term.mismatchLabelKeys, labels, 'NotIn');
  if (complete !== undefined) term.labelSelector = complete;
}

function completeSelectors(spec: PodSpec, labels: Readonly<Record<string, string>> | undefined): void {
  for (const affinity of [spec.affinity?.podAffinity, spec.affinity?.podAntiAffinity]) {
    for (const term of affinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
      completeTerm(term, labels);
    for (const { podAffinityTerm } of affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
      completeTerm(podAffinityTerm, labels);
  }
  for (const constraint of spec.topologySpreadConstraints ?? []) {
    const complete = withKeys(constraint.labelSelector, constraint.matchLabelKeys, labels, 'In');
    if (complete !== undefined) constraint.labelSelector = complete;
  }
}

function create(object: MutableObject): void {
  const spec = object['spec'] as PodSpec;
  const status: PodStatus = { phase: 'Pending', qosClass: podQos(spec) };
  if ((spec.schedulingGates ?? []).length > 0)
    status.conditions = [
      {
        type: 'PodScheduled',
        ...(object.metadata.generation !== undefined && { observedGeneration: object.metadata.generation }),
        status: 'False',
        reason: 'SchedulingGated',
        message: 'Scheduling is blocked due to non-empty scheduling gates',
      },
    ];
  object['status'] = status;
  completeSelectors(spec, object.metadata.labels);
}

function statusUpdate(object: MutableObject, old: KubeObject): void {
  const before = (old as unknown as Pod).status ?? {};
  const status = (object['status'] ?? {}) as PodStatus;
  object['status'] = status;
  // Old node agents are known to garble owner references, and with them garbage collection.
  const owners = old.metadata.ownerReferences;
  if (owners === undefined) delete object.metadata.ownerReferences;
  else object.metadata.ownerReferences = [...owners];
  if (status.qosClass === undefined && before.qosClass !== undefined) status.qosClass = before.qosClass;
  keepObservedGenerations(status, before);
}

/** A client that does not know the field yet must not take it away. */
function keepObservedGenerations(status: PodStatus, before: PodStatus): void {
  if (status.observedGeneration === undefined && before.observedGeneration !== undefined)
    status.observedGeneration = before.observedGeneration;
  if (status.conditions === undefined || before.conditions === undefined) return;
  const observed = new Map(before.conditions.map((condition) => [condition.type, condition]));
  status.conditions = status.conditions.map((condition): PodCondition => {
    const generation = observed.get(condition.type)?.observedGeneration;
    return condition.observedGeneration === undefined && generation !== undefined
      ? { ...condition, observedGeneration: generation }
      : condition;
  });
}

/** The seconds that a pod gets to end: none when it never started or has ended already. */
function gracePeriodSeconds(object: KubeObject, requested: number | undefined): number {
  const pod = object as unknown as Pod;
  if (!pod.spec.nodeName || isPodTerminal(pod)) return 0;
  const period = requested ?? pod.spec.terminationGracePeriodSeconds ?? 0;
  return period < 0 ? 1 : period;
}

export const podRow: StrategyRow = {
  generation: true,
  fields: [
    'spec.nodeName',
    'spec.host',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.podIPs',
    'status.nominatedNodeName',
  ],
  create,
  statusUpdate,
  gracePeriodSeconds,
};
