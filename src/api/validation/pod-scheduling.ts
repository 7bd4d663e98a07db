// Where a pod wants to run: node and pod affinity, tolerations, topology spread, scheduling gates.

import { dns1123Label, dns1123Subdomain, labelValue, qualifiedName } from '../names.ts';
import type {
  Affinity,
  NodeSelector,
  NodeSelectorTerm,
  PodAffinity,
  PodAffinityTerm,
  PodSpec,
  Toleration,
  TopologySpreadConstraint,
} from '../types/core-v1.ts';
import type { LabelSelector } from '../types/meta-v1.ts';
import { type Findings, POSITIVE } from './findings.ts';

export const taintEffects = ['NoSchedule', 'PreferNoSchedule', 'NoExecute'];
const NOT_AN_OPERATOR = 'not a valid selector operator';

export function validateNodeSelectorTerm(findings: Findings, field: string, term: NodeSelectorTerm): void {
  for (const [i, requirement] of (term.matchExpressions ?? []).entries()) {
    const at = `${field}.matchExpressions[${i}]`;
    const values = requirement.values ?? [];
    if (requirement.operator === 'Gt' || requirement.operator === 'Lt') {
      if (values.length !== 1)
        findings.required(`${at}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'");
    } else if (!findings.selectorValues(at, requirement.operator, values)) {
      findings.invalid(`${at}.operator`, requirement.operator, NOT_AN_OPERATOR);
    }
    findings.text(`${at}.key`, requirement.key, qualifiedName);
  }
  for (const [i, requirement] of (term.matchFields ?? []).entries()) {
    const at = `${field}.matchFields[${i}]`;
    const values = requirement.values ?? [];
    if (requirement.operator !== 'In' && requirement.operator !== 'NotIn')
      findings.invalid(`${at}.operator`, requirement.operator, NOT_AN_OPERATOR);
    else if (values.length !== 1)
      findings.required(
        `${at}.values`,
        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
      );
    if (requirement.key !== 'metadata.name')
      findings.invalid(`${at}.key`, requirement.key, 'not a valid field selector key');
    else
      for (const [j, value] of values.entries()) findings.text(`${at}.values[${j}]`, value, dns1123Subdomain);
  }
}

export function validateNodeSelector(findings: Findings, field: string, selector: NodeSelector): void {
  const terms = selector.nodeSelectorTerms;
  const at = `${field}.nodeSelectorTerms`;
  if (terms.length === 0) findings.required(at, 'must have at least one node selector term');
  for (const [i, term] of terms.entries()) validateNodeSelectorTerm(findings, `${at}[${i}]`, term);
}

const REQUIRED = 'requiredDuringSchedulingIgnoredDuringExecution';
const PREFERRED = 'preferredDuringSchedulingIgnoredDuringExecution';

function validateWeight(findings: Findings, field: string, weight: number): void {
  if (weight <= 0 || weight > 100) findings.invalid(field, weight, 'must be in the range 1-100');
}

/** Keys whose values are taken from the pod's own labels: they need a selector, and a key not in it twice over. */
function validateLabelKeys(
  findings: Findings,
  field: string,
  name: 'matchLabelKeys' | 'mismatchLabelKeys',
  keys: readonly string[] | undefined,
  selector: LabelSelector | undefined,
): void {
  if (keys === undefined || keys.length === 0) return;
  const at = `${field}.${name}`;
  if (selector === undefined) {
    findings.forbidden(at, 'must not be specified when labelSelector is not set');
    return;
  }
  for (const [i, key] of keys.entries()) findings.text(`${at}[${i}]`, key, qualifiedName);
}

function validateAffinityTerm(findings: Findings, field: string, term: PodAffinityTerm): void {
  findings.labelSelector(`${field}.labelSelector`, term.labelSelector);
  findings.labelSelector(`${field}.namespaceSelector`, term.namespaceSelector);
  for (const namespace of term.namespaces ?? []) findings.text(`${field}.namespace`, namespace, dns1123Label);
  validateLabelKeys(findings, field, 'matchLabelKeys', term.matchLabelKeys, term.labelSelector);
  validateLabelKeys(findings, field, 'mismatchLabelKeys', term.mismatchLabelKeys, term.labelSelector);
  for (const [i, key] of (term.matchLabelKeys ?? []).entries())
    if (term.mismatchLabelKeys?.includes(key))
      findings.invalid(
        `${field}.matchLabelKeys[${i}]`,
        key,
        'exists in both matchLabelKeys and mismatchLabelKeys',
      );
  if (!term.topologyKey) findings.required(`${field}.topologyKey`, 'can not be empty');
  findings.text(`${field}.topologyKey`, term.topologyKey, qualifiedName);
}

function validatePodAffinity(findings: Findings, field: string, affinity: PodAffinity | undefined): void {
  for (const [i, term] of (affinity?.[REQUIRED] ?? []).entries())
    validateAffinityTerm(findings, `${field}.${REQUIRED}[${i}]`, term);
  for (const [i, { weight, podAffinityTerm }] of (affinity?.[PREFERRED] ?? []).entries()) {
    validateWeight(findings, `${field}.${PREFERRED}[${i}].weight`, weight);
    validateAffinityTerm(findings, `${field}.${PREFERRED}[${i}].podAffinityTerm`, podAffinityTerm);
  }
}

export function validateAffinity(findings: Findings, field: string, affinity: Affinity | undefined): void {
  const node = affinity?.nodeAffinity;
  if (node?.[REQUIRED] !== undefined)
    validateNodeSelector(findings, `${field}.nodeAffinity.${REQUIRED}`, node[REQUIRED]);
  for (const [i, { weight, preference }] of (node?.[PREFERRED] ?? []).entries()) {
    const at = `${field}.nodeAffinity.${PREFERRED}[${i}]`;
    validateWeight(findings, `${at}.weight`, weight);
    validateNodeSelectorTerm(findings, `${at}.preference`, preference);
  }
  validatePodAffinity(findings, `${field}.podAffinity`, affinity?.podAffinity);
  validatePodAffinity(findings, `${field}.podAntiAffinity`, affinity?.podAntiAffinity);
}

export function validateTolerations(
  findings: Findings,
  field: string,
  tolerations: readonly Toleration[] | undefined,
): void {
  for (const [i, toleration] of (tolerations ?? []).entries()) {
    const at = `${field}[${i}]`;
    const {
      key = '',
      operator = '',
      value = '',
      effect = '',
    } = toleration as Record<string, string | undefined>;
    if (key !== '') findings.text(`${at}.key`, key, qualifiedName);
    else if (operator !== 'Exists')
      findings.invalid(
        `${at}.operator`,
        operator,
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
    if (toleration.tolerationSeconds !== undefined && effect !== 'NoExecute')
      findings.invalid(`${at}.effect`, effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    switch (operator) {
      case '':
      case 'Equal': {
        const complaints = labelValue(value);
        if (complaints.length > 0) findings.invalid(`${at}.operator`, value, complaints.join(';'));
        break;
      }
      case 'Exists':
        if (value !== '')
          findings.invalid(`${at}.operator`, toleration, "value must be empty when `operator` is 'Exists'");
        break;
      default:
        findings.notSupported(`${at}.operator`, operator, ['Equal', 'Exists']);
    }
    findings.oneOf(`${at}.effect`, effect, taintEffects);
  }
}

const actions = ['DoNotSchedule', 'ScheduleAnyway'];
const inclusions = ['Honor', 'Ignore'];

export function validateTopologySpread(
  findings: Findings,
  field: string,
  constraints: readonly TopologySpreadConstraint[] | undefined,
): void {
  for (const [i, constraint] of (constraints ?? []).entries()) {
    const at = `${field}[${i}]`;
    const { maxSkew, topologyKey, whenUnsatisfiable, minDomains, labelSelector } = constraint;
    if (maxSkew <= 0) findings.invalid(`${at}.maxSkew`, maxSkew, POSITIVE);
    if (!topologyKey) findings.required(`${at}.topologyKey`, 'can not be empty');
    else findings.text(`${at}.topologyKey`, topologyKey, qualifiedName);
    if (!actions.includes(whenUnsatisfiable))
      findings.notSupported(`${at}.whenUnsatisfiable`, whenUnsatisfiable, actions);
    const again = constraints!
      .slice(i + 1)
      .some((one) => one.topologyKey === topologyKey && one.whenUnsatisfiable === whenUnsatisfiable);
    if (again)
      findings.duplicate(`${at}.{topologyKey, whenUnsatisfiable}`, `{${topologyKey}, ${whenUnsatisfiable}}`);
    if (minDomains !== undefined) {
      if (minDomains <= 0) findings.invalid(`${at}.minDomains`, minDomains, POSITIVE);
      if (whenUnsatisfiable !== 'DoNotSchedule')
        findings.invalid(
          `${at}.minDomains`,
          minDomains,
          'can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway',
        );
    }
    findings.oneOf(`${at}.nodeAffinityPolicy`, constraint.nodeAffinityPolicy, inclusions);
    findings.oneOf(`${at}.nodeTaintsPolicy`, constraint.nodeTaintsPolicy, inclusions);
    validateLabelKeys(findings, at, 'matchLabelKeys', constraint.matchLabelKeys, labelSelector);
    findings.labelSelector(`${at}.labelSelector`, labelSelector);
  }
}

export function validateSchedulingGates(findings: Findings, field: string, spec: PodSpec): void {
  const seen = new Set<string>();
  for (const [i, gate] of (spec.schedulingGates ?? []).entries()) {
    findings.text(`${field}[${i}]`, gate.name, qualifiedName);
    if (seen.has(gate.name)) findings.duplicate(`${field}[${i}]`, gate.name);
    seen.add(gate.name);
  }
}
