// Which nodes a pod may or would rather run on, as far as one node alone decides it: node selectors, node affinity,
// taints and tolerations. The scheduler filters and scores with it, the node agent admits with it, the DaemonSet
// controller and taint eviction ask it.

import type {
  Node,
  NodeSelector,
  NodeSelectorRequirement,
  NodeSelectorTerm,
  Pod,
  PodSpec,
  Taint,
  Toleration,
} from './types/core-v1.ts';

/** Gt and Lt compare whole numbers of up to 64 bits; anything else does not match. */
function compareIntegers(actual: string | undefined, wanted: string | undefined): number | undefined {
  if (actual === undefined || wanted === undefined) return undefined;
  if (!/^[+-]?\d{1,19}$/.test(actual) || !/^[+-]?\d{1,19}$/.test(wanted)) return undefined;
  const [a, b] = [BigInt(actual), BigInt(wanted)];
  return a < b ? -1 : a > b ? 1 : 0;
}

function matchesRequirement(requirement: NodeSelectorRequirement, value: string | undefined): boolean {
  const values = requirement.values ?? [];
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return compareIntegers(value, values[0]) === 1;
    case 'Lt':
      return compareIntegers(value, values[0]) === -1;
    default:
      return false;
  }
}

/** All requirements of a term must hold; a term without any matches no node. */
export function matchesNodeSelectorTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const labels = node.metadata.labels ?? {};
  return (
    expressions.every((r) =>
      matchesRequirement(r, Object.hasOwn(labels, r.key) ? labels[r.key] : undefined),
    ) && fields.every((r) => r.key === 'metadata.name' && matchesRequirement(r, node.metadata.name))
  );
}

/** One of the terms must match. */
export function matchesNodeSelector(selector: NodeSelector, node: Node): boolean {
  return selector.nodeSelectorTerms.some((term) => matchesNodeSelectorTerm(term, node));
}

/** spec.nodeSelector and the required part of spec.affinity.nodeAffinity. */
export function matchesRequiredNodeAffinity(spec: PodSpec, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {})) {
    if (!Object.hasOwn(labels, key) || labels[key] !== value) return false;
  }
  const required = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || matchesNodeSelector(required, node);
}

export function toleratesTaint(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  switch (toleration.operator || 'Equal') {
    case 'Equal':
      // An empty key is only valid with Exists; with Equal it matches no taint.
      return (
        toleration.key !== undefined &&
        toleration.key !== '' &&
        (toleration.value ?? '') === (taint.value ?? '')
      );
    case 'Exists':
      return true;
    case 'Gt':
      return compareIntegers(taint.value, toleration.value) === 1;
    case 'Lt':
      return compareIntegers(taint.value, toleration.value) === -1;
    default:
      return false;
  }
}

export function tolerates(tolerations: readonly Toleration[] | undefined, taint: Taint): boolean {
  return (tolerations ?? []).some((toleration) => toleratesTaint(toleration, taint));
}

/** The first taint with one of these effects that the pod does not tolerate. */
export function findUntoleratedTaint(
  taints: readonly Taint[] | undefined,
  tolerations: readonly Toleration[] | undefined,
  effects: readonly string[],
): Taint | undefined {
  return (taints ?? []).find((taint) => effects.includes(taint.effect) && !tolerates(tolerations, taint));
}

/** True when the pod has ended and will not run again. */
export function isPodTerminal(pod: Pick<Pod, 'status'>): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}
