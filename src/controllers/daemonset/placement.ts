// Where a DaemonSet's pods belong, and what makes a pod its pod on a node. Pure.

import { findUntoleratedTaint, matchesRequiredNodeAffinity } from '../../api/index.ts';
import type { DaemonSet } from '../../api/types/apps-v1.ts';
import type {
  Affinity,
  Node,
  NodeSelectorTerm,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Toleration,
} from '../../api/types/core-v1.ts';
import { REVISION_HASH } from '../history/controller-revisions.ts';

/** Set by the server for the generations of extensions/v1beta1, copied to the pods as a label. */
const TEMPLATE_GENERATION = 'deprecated.daemonset.template.generation';

/** A daemon belongs on a node also while the node is in trouble. */
const DAEMON_TOLERATIONS: readonly Toleration[] = [
  ['not-ready', 'NoExecute'],
  ['unreachable', 'NoExecute'],
  ['disk-pressure', 'NoSchedule'],
  ['memory-pressure', 'NoSchedule'],
  ['pid-pressure', 'NoSchedule'],
  ['unschedulable', 'NoSchedule'],
].map(([what, effect]) => ({
  key: `node.kubernetes.io/${what}`,
  operator: 'Exists',
  effect: effect as Toleration['effect'],
}));
const HOST_NETWORK_TOLERATION: Toleration = {
  key: 'node.kubernetes.io/network-unavailable',
  operator: 'Exists',
  effect: 'NoSchedule',
};

export function daemonTolerations(spec: PodSpec): Toleration[] {
  const tolerations = [...(spec.tolerations ?? [])];
  const wanted = spec.hostNetwork ? [...DAEMON_TOLERATIONS, HOST_NETWORK_TOLERATION] : DAEMON_TOLERATIONS;
  for (const toleration of wanted) {
    const same = (other: Toleration): boolean =>
      other.key === toleration.key && other.effect === toleration.effect && other.operator === 'Exists';
    if (!tolerations.some(same)) tolerations.push(toleration);
  }
  return tolerations;
}

/** Whether a pod should be started on the node, and whether one that runs there may stay. */
export function belongs(set: DaemonSet, node: Node): { readonly run: boolean; readonly stay: boolean } {
  const spec = set.spec.template.spec;
  if (!spec) return { run: false, stay: false };
  if (spec.nodeName && spec.nodeName !== node.metadata.name) return { run: false, stay: false };
  if (!matchesRequiredNodeAffinity(spec, node)) return { run: false, stay: false };
  const tolerations = daemonTolerations(spec);
  const taints = node.spec?.taints;
  if (!findUntoleratedTaint(taints, tolerations, ['NoExecute', 'NoSchedule']))
    return { run: true, stay: true };
  return { run: false, stay: !findUntoleratedTaint(taints, tolerations, ['NoExecute']) };
}

/** The template with which a pod for this node is made. */
export function templateFor(set: DaemonSet, node: string, hash: string): PodTemplateSpec {
  const { metadata, spec = { containers: [] } } = set.spec.template;
  const generation = set.metadata.annotations?.[TEMPLATE_GENERATION];
  return {
    metadata: {
      ...metadata,
      labels: {
        ...metadata?.labels,
        [REVISION_HASH]: hash,
        ...(generation === undefined ? {} : { 'pod-template-generation': generation }),
      },
    },
    spec: { ...spec, tolerations: daemonTolerations(spec), affinity: pinned(spec.affinity, node) },
  };
}

function pinned(affinity: Affinity | undefined, node: string): Affinity {
  const nodeSelectorTerms: NodeSelectorTerm[] = [
    { matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }] },
  ];
  return {
    ...affinity,
    nodeAffinity: {
      ...affinity?.nodeAffinity,
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
    },
  };
}

/** The node that the pod runs on, or is made for; '' when neither is said. */
export function targetNode(pod: Pod): string {
  if (pod.spec.nodeName) return pod.spec.nodeName;
  const terms =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  for (const term of terms)
    for (const { key, operator, values } of term.matchFields ?? [])
      if (key === 'metadata.name' && operator === 'In' && values?.length === 1) return values[0]!;
  return '';
}
