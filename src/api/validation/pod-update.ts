// What may change in a pod that exists: images, the deadline, more tolerations, fewer scheduling gates, and, while it
// is gated, where it may go. And what its status may not say.

import { dns1123Subdomain, inclusiveRange, qualifiedName } from '../names.ts';
import type {
  Affinity,
  Container,
  ContainerStatus,
  NodeAffinity,
  NodeSelectorTerm,
  Pod,
  PodSpec,
} from '../types/core-v1.ts';
import { familyOf, validateAddress } from './addresses.ts';
import { difference } from './difference.ts';
import { equal, type Findings } from './findings.ts';

const MOST_INT32 = 2 ** 31 - 1;
const changeable = [
  '`spec.containers[*].image`',
  '`spec.initContainers[*].image`',
  '`spec.activeDeadlineSeconds`',
  '`spec.tolerations` (only additions to existing tolerations)',
  '`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
].join(',');

/** False when the lists cannot be compared any further. */
function sameContainers(
  findings: Findings,
  field: string,
  now: readonly Container[] = [],
  before: readonly Container[] = [],
): boolean {
  if (now.length === before.length) return true;
  findings.forbidden(field, 'pod updates may not add or remove containers');
  return false;
}

/** A deadline may be set once and then only come nearer. False when it is no deadline at all. */
function validateDeadline(findings: Findings, pod: Pod, old: Pod): boolean {
  const field = 'spec.activeDeadlineSeconds';
  const now = pod.spec.activeDeadlineSeconds;
  const before = old.spec.activeDeadlineSeconds;
  if (now === undefined) {
    if (before !== undefined)
      findings.invalid(field, null, 'must not update from a positive integer to nil value');
    return true;
  }
  if (now < 0 || now > MOST_INT32) {
    findings.invalid(field, now, inclusiveRange(0, MOST_INT32));
    return false;
  }
  if (before !== undefined && before < now) {
    findings.invalid(field, now, 'must be less than or equal to previous value');
    return false;
  }
  return true;
}

function validateAddedTolerations(findings: Findings, pod: Pod, old: Pod): void {
  for (const before of old.spec.tolerations ?? []) {
    const kept = (pod.spec.tolerations ?? []).some((now) =>
      equal({ ...now, tolerationSeconds: 0 }, { ...before, tolerationSeconds: 0 }),
    );
    if (kept) continue;
    findings.forbidden(
      'spec.tolerations',
      'existing toleration can not be modified except its tolerationSeconds',
    );
    return;
  }
}

function validateRemovedGates(findings: Findings, pod: Pod, old: Pod): void {
  const known = new Set((old.spec.schedulingGates ?? []).map((gate) => gate.name));
  for (const [i, gate] of (pod.spec.schedulingGates ?? []).entries())
    if (!known.has(gate.name))
      findings.forbidden(
        `spec.schedulingGates[${i}].name`,
        `only deletion is allowed, but found new scheduling gate '${gate.name}'`,
      );
}

const REQUIRED = 'requiredDuringSchedulingIgnoredDuringExecution';

function onlyAdds<T>(now: readonly T[] | undefined, before: readonly T[] | undefined): boolean {
  const list = now ?? [];
  return (before ?? []).length <= list.length && (before ?? []).every((one, i) => equal(one, list[i]));
}

/** A gated pod may be told more narrowly where to go (KEP-3838): requirements may be added, none dropped. */
function validateNarrowedAffinity(
  findings: Findings,
  now: NodeAffinity | undefined,
  before: NodeAffinity | undefined,
): void {
  const field = 'spec.affinity.nodeAffinity';
  const oldTerms = before?.[REQUIRED]?.nodeSelectorTerms ?? [];
  if (oldTerms.length === 0) return;
  const terms = now?.[REQUIRED]?.nodeSelectorTerms ?? [];
  const at = `${field}.${REQUIRED}`;
  if (terms.length !== oldTerms.length) {
    findings.invalid(
      `${at}.nodeSelectorTerms`,
      terms,
      'no additions/deletions to non-empty NodeSelectorTerms list are allowed',
    );
    return;
  }
  const narrower = (term: NodeSelectorTerm, old: NodeSelectorTerm) => {
    const empty = (old.matchExpressions ?? []).length + (old.matchFields ?? []).length === 0;
    if (empty) return equal(term, old);
    return (
      onlyAdds(term.matchExpressions, old.matchExpressions) && onlyAdds(term.matchFields, old.matchFields)
    );
  };
  for (const [i, term] of terms.entries())
    if (!narrower(term, oldTerms[i]!))
      findings.invalid(
        `${at}.nodeSelectorTerms[${i}]`,
        term,
        'only additions are allowed (no mutations or deletions)',
      );
}

function validateGatedPod(findings: Findings, pod: Pod, old: Pod): void {
  const now = pod.spec.nodeSelector ?? {};
  for (const [key, value] of Object.entries(old.spec.nodeSelector ?? {}))
    if (now[key] !== value) {
      findings.invalid(
        'spec.nodeSelector',
        now,
        `only additions to spec.nodeSelector are allowed (no mutations or deletions)`,
      );
      break;
    }
  validateNarrowedAffinity(findings, pod.spec.affinity?.nodeAffinity, old.spec.affinity?.nodeAffinity);
}

/** The new spec with everything that may change as it was. */
function withoutChangeable(now: PodSpec, old: PodSpec): PodSpec {
  const images = (list: readonly Container[] | undefined, before: readonly Container[] | undefined) =>
    list?.map((container, i) => ({ ...container, image: before?.[i]?.image }));
  const gated = (old.schedulingGates ?? []).length > 0;
  const affinity: Affinity | undefined =
    gated && (now.affinity !== undefined || old.affinity !== undefined)
      ? { ...now.affinity, nodeAffinity: old.affinity?.nodeAffinity }
      : now.affinity;
  const graceRepaired =
    (old.terminationGracePeriodSeconds ?? 0) < 0 && now.terminationGracePeriodSeconds === 1;
  return {
    ...now,
    containers: images(now.containers, old.containers) ?? [],
    initContainers: images(now.initContainers, old.initContainers),
    activeDeadlineSeconds: old.activeDeadlineSeconds,
    schedulingGates: old.schedulingGates,
    tolerations: old.tolerations,
    affinity,
    nodeSelector: gated ? old.nodeSelector : now.nodeSelector,
    terminationGracePeriodSeconds: graceRepaired
      ? old.terminationGracePeriodSeconds
      : now.terminationGracePeriodSeconds,
  };
}

export function validatePodUpdate(pod: Pod, old: Pod, findings: Findings): void {
  if (!sameContainers(findings, 'spec.containers', pod.spec.containers, old.spec.containers)) return;
  if (!sameContainers(findings, 'spec.initContainers', pod.spec.initContainers, old.spec.initContainers))
    return;
  if (!validateDeadline(findings, pod, old)) return;
  validateAddedTolerations(findings, pod, old);
  validateRemovedGates(findings, pod, old);
  if (equal(pod.spec, old.spec)) return;
  if ((old.spec.schedulingGates ?? []).length > 0) validateGatedPod(findings, pod, old);
  const rest = withoutChangeable(pod.spec, old.spec);
  if (!equal(rest, old.spec))
    findings.forbidden(
      'spec',
      `pod updates may not change fields other than ${changeable}\n${difference(old.spec, rest, 'spec')}`,
    );
}

/** A container that has ended for good does not run again. */
function validateTransitions(
  findings: Findings,
  field: string,
  now: readonly ContainerStatus[] = [],
  before: readonly ContainerStatus[] = [],
  restarts: (status: ContainerStatus) => boolean,
): void {
  for (const [i, old] of before.entries()) {
    if (old.state?.terminated === undefined || restarts(old)) continue;
    if (now.some((status) => status.name === old.name && status.state?.terminated === undefined))
      findings.forbidden(`${field}[${i}].state`, 'may not be transitioned to non-terminated state');
  }
}

/** Whether the container may start again, by its own policy and rules or by the pod's (KEP-5307). */
function mayRestart(
  spec: PodSpec,
  containers: readonly Container[] = [],
): (status: ContainerStatus) => boolean {
  return (status) => {
    const own = containers.find((container) => container.name === status.name);
    const code = status.state?.terminated?.exitCode ?? 0;
    if ((own?.restartPolicyRules ?? []).length > 0) return true;
    const policy = own?.restartPolicy ?? spec.restartPolicy;
    return policy === 'Always' || (policy === 'OnFailure' && code !== 0);
  };
}

function validateAddresses(
  findings: Findings,
  field: string,
  addresses: readonly { readonly ip?: string }[] | undefined,
): void {
  const list = (addresses ?? []).map(({ ip = '' }) => ip);
  for (const [i, address] of list.entries()) validateAddress(findings, `${field}[${i}]`, address);
  if (list.length <= 1) return;
  const families = new Set(list.map(familyOf));
  if (list.length > 2 || families.size !== 2)
    findings.invalid(field, addresses, 'may specify no more than one IP for each IP family');
  for (const [i, address] of list.entries())
    if (list.indexOf(address) < i) findings.duplicate(`${field}[${i}]`, addresses![i]);
}

const systemConditions = new Set(['PodScheduled', 'Ready', 'Initialized']);

export function validatePodStatusUpdate(pod: Pod, old: Pod, findings: Findings): void {
  const status = pod.status ?? {};
  const before = old.status ?? {};
  for (const [i, condition] of (status.conditions ?? []).entries())
    if (!systemConditions.has(condition.type))
      findings.text(`metadata.conditions[${i}].Type`, condition.type, qualifiedName);
  if (status.nominatedNodeName && status.nominatedNodeName !== before.nominatedNodeName)
    findings.text('status.nominatedNodeName', status.nominatedNodeName, dns1123Subdomain);
  validateTransitions(
    findings,
    'status.containerStatuses',
    status.containerStatuses,
    before.containerStatuses,
    mayRestart(old.spec, old.spec.containers),
  );
  validateTransitions(
    findings,
    'status.initContainerStatuses',
    status.initContainerStatuses,
    before.initContainerStatuses,
    mayRestart(old.spec, old.spec.initContainers),
  );
  validateTransitions(
    findings,
    'status.ephemeralContainerStatuses',
    status.ephemeralContainerStatuses,
    before.ephemeralContainerStatuses,
    () => false,
  );
  const claims = new Set((old.spec.resourceClaims ?? []).map((claim) => claim.name));
  for (const [i, claim] of (status.resourceClaimStatuses ?? []).entries())
    if (!claims.has(claim.name))
      findings.invalid(
        `status.resourceClaimStatuses[${i}].name`,
        claim.name,
        'must match the name of an entry in `spec.resourceClaims`',
      );
  validateAddresses(findings, 'status.podIPs', status.podIPs);
  if (status.hostIPs !== undefined && status.hostIPs.length > 0) {
    const [first] = status.hostIPs;
    if (status.hostIP !== first?.ip)
      findings.invalid('status.hostIPs[0].ip', first?.ip, 'must be equal to `hostIP`');
    validateAddresses(findings, 'status.hostIPs', status.hostIPs);
  }
}
