// Rules for a job's spec, alone or as the template of a cron job. After pkg/apis/batch/validation.

import { labelSelectorMatcher, SelectorError } from '../labels.ts';
import { findCondition } from '../meta.ts';
import { dns1123Label, dns1123Subdomain, qualifiedName } from '../names.ts';
import type {
  Job,
  JobSpec,
  JobTemplateSpec,
  PodFailurePolicyOnExitCodesRequirement,
  PodFailurePolicyRule,
  SuccessPolicyRule,
} from '../types/batch-v1.ts';
import type { Container, PodTemplateSpec } from '../types/core-v1.ts';
import { validateSelectedTemplate } from './apps.ts';
import { equal, type Findings } from './findings.ts';
import { parseIndexSet } from './index-set.ts';
import { validatePodTemplateSpec } from './pod.ts';

const MOST_PARALLEL_INDEXES = 100_000;
const MOST_FAILED_INDEXES = 100_000;
/** Beyond this many completions, with a backoff limit for each index, the lists in the status grow too long. */
const MANY_COMPLETIONS = 100_000;
const MOST_PARALLEL_OF_MANY = 10_000;
const MOST_FAILED_OF_MANY = 10_000;
const MOST_FAILURE_RULES = 20;
const MOST_EXIT_CODES = 255;
const MOST_CONDITION_PATTERNS = 20;
const MOST_SUCCESS_RULES = 20;
const MOST_INDEXES_TEXT = 64 * 1024;
const MOST_MANAGED_BY = 63;

const actions = ['Count', 'FailIndex', 'FailJob', 'Ignore'];
const statuses = ['False', 'True', 'Unknown'];
const replacements = ['Failed', 'TerminatingOrFailed'];

function oneOf(values: readonly string[]): string {
  return `valid values: [${values.map((value) => `"${value}"`).join(' ')}]`;
}

function validateExitCodes(
  findings: Findings,
  field: string,
  codes: PodFailurePolicyOnExitCodesRequirement,
  containers: ReadonlySet<string>,
): void {
  findings.oneOf(`${field}.operator`, codes.operator, ['In', 'NotIn'], { required: oneOf(['In', 'NotIn']) });
  if (codes.containerName !== undefined && !containers.has(codes.containerName))
    findings.invalid(
      `${field}.containerName`,
      codes.containerName,
      'must be one of the container or initContainer names in the pod template',
    );
  const values = codes.values ?? [];
  if (values.length === 0) findings.invalid(`${field}.values`, values, 'at least one value is required');
  else if (values.length > MOST_EXIT_CODES)
    findings.tooMany(`${field}.values`, values.length, MOST_EXIT_CODES);
  for (const [i, value] of values.entries()) {
    if (codes.operator === 'In' && value === 0)
      findings.invalid(`${field}.values[${i}]`, value, 'must not be 0 for the In operator');
    if (values.indexOf(value) < i) findings.duplicate(`${field}.values[${i}]`, value);
  }
  if (values.some((value, i) => i > 0 && values[i - 1]! > value))
    findings.invalid(`${field}.values`, values, 'must be ordered');
}

function validateFailureRule(
  findings: Findings,
  field: string,
  rule: PodFailurePolicyRule,
  spec: JobSpec,
  containers: ReadonlySet<string>,
): void {
  if (rule.action === 'FailIndex' && spec.backoffLimitPerIndex === undefined)
    findings.invalid(`${field}.action`, rule.action, 'requires the backoffLimitPerIndex to be set');
  findings.oneOf(`${field}.action`, rule.action, actions, { required: oneOf(actions) });
  const patterns = rule.onPodConditions ?? [];
  if (rule.onExitCodes !== undefined)
    validateExitCodes(findings, `${field}.onExitCodes`, rule.onExitCodes, containers);
  if (patterns.length > MOST_CONDITION_PATTERNS)
    findings.tooMany(`${field}.onPodConditions`, patterns.length, MOST_CONDITION_PATTERNS);
  for (const [i, pattern] of patterns.entries()) {
    const at = `${field}.onPodConditions[${i}]`;
    findings.text(`${at}.type`, pattern.type, qualifiedName);
    findings.oneOf(`${at}.status`, pattern.status, statuses, { required: oneOf(statuses) });
  }
  if (rule.onExitCodes !== undefined && patterns.length > 0)
    findings.invalidWhole(field, 'specifying both OnExitCodes and OnPodConditions is not supported');
  if (rule.onExitCodes === undefined && patterns.length === 0)
    findings.invalidWhole(field, 'specifying one of OnExitCodes and OnPodConditions is required');
}

function validateSuccessRule(
  findings: Findings,
  field: string,
  rule: SuccessPolicyRule,
  completions: number,
): void {
  const { succeededCount, succeededIndexes } = rule;
  if (succeededCount === undefined && succeededIndexes === undefined)
    findings.required(field, 'at least one of succeededCount or succeededIndexes must be specified');
  let size = 0;
  if (succeededIndexes !== undefined) {
    const at = `${field}.succeededIndexes`;
    if (succeededIndexes.length > MOST_INDEXES_TEXT) findings.tooLong(at, MOST_INDEXES_TEXT);
    const set = parseIndexSet(succeededIndexes, completions);
    if (set.complaint !== undefined)
      findings.invalid(at, succeededIndexes, `error parsing succeededIndexes: ${set.complaint}`);
    else size = set.size;
  }
  if (succeededCount === undefined) return;
  const at = `${field}.succeededCount`;
  findings.notNegative(at, succeededCount);
  if (succeededCount > completions)
    findings.invalid(
      at,
      succeededCount,
      `must be less than or equal to ${completions} (the number of specified completions)`,
    );
  if (succeededIndexes !== undefined && succeededCount > size)
    findings.invalid(
      at,
      succeededCount,
      `must be less than or equal to ${size} (the number of indexes in the specified succeededIndexes field)`,
    );
}

function validateSuccessPolicy(findings: Findings, field: string, spec: JobSpec): void {
  const policy = spec.successPolicy;
  if (policy === undefined) return;
  if (spec.completionMode !== 'Indexed') {
    findings.invalid(field, policy, 'requires indexed completion mode');
    return;
  }
  const rules = policy.rules ?? [];
  if (rules.length === 0)
    findings.required(
      `${field}.rules`,
      'at least one rules must be specified when the successPolicy is specified',
    );
  if (rules.length > MOST_SUCCESS_RULES) findings.tooMany(`${field}.rules`, rules.length, MOST_SUCCESS_RULES);
  for (const [i, rule] of rules.entries())
    validateSuccessRule(findings, `${field}.rules[${i}]`, rule, spec.completions ?? 0);
}

function validateIndexed(findings: Findings, field: string, spec: JobSpec): void {
  const { completions, parallelism, maxFailedIndexes, backoffLimitPerIndex } = spec;
  const notMore = (name: string, value: number | undefined, most: number, when: string) => {
    if (value !== undefined && value > most)
      findings.invalid(`${field}.${name}`, value, `must be less than or equal to ${most}${when}`);
  };
  if (completions === undefined) findings.required(`${field}.completions`, 'when completion mode is Indexed');
  notMore('parallelism', parallelism, MOST_PARALLEL_INDEXES, ' when completion mode is Indexed');
  if (completions !== undefined && maxFailedIndexes !== undefined && maxFailedIndexes > completions)
    findings.invalid(
      `${field}.maxFailedIndexes`,
      maxFailedIndexes,
      'must be less than or equal to completions',
    );
  notMore('maxFailedIndexes', maxFailedIndexes, MOST_FAILED_INDEXES, '');
  if ((completions ?? 0) <= MANY_COMPLETIONS || backoffLimitPerIndex === undefined) return;
  const many = ` when completions are above ${MANY_COMPLETIONS} and used with backoff limit per index`;
  if (maxFailedIndexes === undefined)
    findings.required(
      `${field}.maxFailedIndexes`,
      `must be specified when completions is above ${MANY_COMPLETIONS}`,
    );
  notMore('parallelism', parallelism, MOST_PARALLEL_OF_MANY, many);
  notMore('maxFailedIndexes', maxFailedIndexes, MOST_FAILED_OF_MANY, many);
}

/** A name with a domain before it: `acme.io/foo`. */
export function validateDomainPrefixedPath(findings: Findings, field: string, path: string): void {
  if (path === '') {
    findings.required(field);
    return;
  }
  const slash = path.indexOf('/');
  if (slash <= 0 || slash === path.length - 1) {
    findings.invalid(field, path, 'must be a domain-prefixed path (such as "acme.io/foo")');
    return;
  }
  const host = path.slice(0, slash);
  findings.text(field, host, dns1123Subdomain);
  const rest = path.slice(slash + 1);
  if (!/^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/.test(rest))
    findings.invalid(
      field,
      rest,
      "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
    );
}

function validateRestarts(
  findings: Findings,
  field: string,
  template: PodTemplateSpec | undefined,
  spec: JobSpec,
): void {
  const policy = template?.spec?.restartPolicy;
  const supported = ['OnFailure', 'Never'];
  if (policy === undefined || policy === 'Always')
    findings.required(field, 'valid values: "OnFailure", "Never"');
  else if (!supported.includes(policy)) findings.notSupported(field, policy, supported);
  else if (spec.podFailurePolicy !== undefined && policy !== 'Never')
    findings.invalid(field, policy, 'only "Never" is supported when podFailurePolicy is specified');
}

const counts = [
  'parallelism',
  'completions',
  'activeDeadlineSeconds',
  'backoffLimit',
  'ttlSecondsAfterFinished',
  'backoffLimitPerIndex',
  'maxFailedIndexes',
] as const;

function validateFailurePolicy(findings: Findings, field: string, spec: JobSpec): void {
  if (spec.podFailurePolicy === undefined) return;
  const rules = spec.podFailurePolicy.rules ?? [];
  if (rules.length > MOST_FAILURE_RULES) findings.tooMany(`${field}.rules`, rules.length, MOST_FAILURE_RULES);
  const { containers = [], initContainers = [] } = spec.template?.spec ?? {};
  const names = new Set([...containers, ...initContainers].map((one: Container) => one.name));
  for (const [i, rule] of rules.entries())
    validateFailureRule(findings, `${field}.rules[${i}]`, rule, spec, names);
}

/** What holds for every job's spec, whether or not it has a selector yet. */
export function validateJobSpec(findings: Findings, field: string, spec: JobSpec): void {
  for (const name of counts) findings.notNegative(`${field}.${name}`, spec[name]);
  if (spec.maxFailedIndexes !== undefined && spec.backoffLimitPerIndex === undefined)
    findings.required(`${field}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified');
  if (spec.managedBy !== undefined) {
    validateDomainPrefixedPath(findings, `${field}.managedBy`, spec.managedBy);
    if (spec.managedBy.length > MOST_MANAGED_BY) findings.tooLong(`${field}.managedBy`, MOST_MANAGED_BY);
  }
  findings.oneOf(`${field}.completionMode`, spec.completionMode, ['Indexed', 'NonIndexed']);
  if (spec.completionMode === 'Indexed') {
    validateIndexed(findings, field, spec);
  } else {
    for (const name of ['backoffLimitPerIndex', 'maxFailedIndexes'] as const)
      if (spec[name] !== undefined)
        findings.invalid(`${field}.${name}`, spec[name], 'requires indexed completion mode');
  }
  validateFailurePolicy(findings, `${field}.podFailurePolicy`, spec);
  validateSuccessPolicy(findings, `${field}.successPolicy`, spec);
  findings.oneOf(
    `${field}.podReplacementPolicy`,
    spec.podReplacementPolicy,
    spec.podFailurePolicy === undefined ? replacements : ['Failed'],
  );
  if (spec.template === undefined) findings.required(`${field}.template`);
  else validatePodTemplateSpec(findings, `${field}.template`, spec.template);
  validateRestarts(findings, `${field}.template.spec.restartPolicy`, spec.template, spec);
}

/** A job of a cron job gets its selector when it is made. */
export function validateJobTemplate(findings: Findings, field: string, template: JobTemplateSpec): void {
  const spec = template.spec;
  if (spec === undefined) {
    findings.required(`${field}.spec`);
    return;
  }
  validateJobSpec(findings, `${field}.spec`, spec);
  if (spec.selector !== undefined)
    findings.invalid(`${field}.spec.selector`, spec.selector, '`selector` will be auto-generated');
  if (spec.manualSelector === true)
    findings.notSupported(`${field}.spec.manualSelector`, true, ['nil', 'false']);
}

const UID = 'controller-uid';
const NAME = 'job-name';
const PREFIX = 'batch.kubernetes.io/';

function validateGeneratedSelector(findings: Findings, job: Job): void {
  const { manualSelector, selector, template } = job.spec;
  if (manualSelector === true || selector === undefined) return;
  const { uid = '', name = '' } = job.metadata;
  if (uid === '') findings.required('metadata.uid');
  const wanted = { [UID]: uid, [NAME]: name, [PREFIX + UID]: uid, [PREFIX + NAME]: name };
  const labels = template?.metadata?.labels ?? {};
  for (const [key, value] of Object.entries(wanted))
    if (labels[key] === undefined)
      findings.required(`spec.template.metadata.labels[${key}]`, `must be '${value}'`);
    else if (labels[key] !== value)
      findings.invalid(`spec.template.metadata.labels[${key}]`, labels, `must be '${value}'`);
  try {
    if (!labelSelectorMatcher(selector).matches(wanted))
      findings.invalid('spec.selector', selector, '`selector` not auto-generated');
  } catch (error) {
    // A selector that cannot be read is complained about where it is looked at as such.
    if (!(error instanceof SelectorError)) throw error;
  }
}

export function validateJob(job: Job, findings: Findings): void {
  const spec = job.spec ?? {};
  validateGeneratedSelector(findings, { ...job, spec });
  validateJobSpec(findings, 'spec', spec);
  if (spec.selector === undefined) findings.required('spec.selector');
  else {
    findings.labelSelector('spec.selector', spec.selector);
    validateSelectedTemplate(findings, 'spec.template', spec.selector, spec.template ?? {});
  }
  if (spec.completionMode === 'Indexed' && (spec.completions ?? 0) > 0) {
    // The last pod's host name has the highest index in it.
    const hostname = `${job.metadata.name}-${spec.completions! - 1}`;
    if (dns1123Label(hostname).length > 0)
      findings.invalid(
        'metadata.name',
        job.metadata.name,
        `will not able to create pod with invalid DNS label: ${hostname}`,
      );
  }
}

/** What of a template may change while its job is suspended and has not been started. */
function withoutScheduling(template: PodTemplateSpec | undefined): unknown {
  const {
    nodeSelector: _n,
    tolerations: _t,
    schedulingGates: _g,
    affinity,
    ...spec
  } = template?.spec ?? {
    containers: [],
  };
  const { nodeAffinity: _a, ...others } = affinity ?? {};
  return { spec: { ...spec, affinity: others } };
}

export function validateJobUpdate(job: Job, old: Job, findings: Findings): void {
  const now = job.spec;
  const before = old.spec;
  if (!equal(now.completions, before.completions)) {
    const elastic = now.completionMode === 'Indexed' && now.completions !== undefined;
    if (!elastic) findings.immutable('spec.completions', now.completions, before.completions);
    else if (now.completions !== now.parallelism)
      findings.invalid(
        'spec.completions',
        now.completions,
        'can only be modified in tandem with spec.parallelism',
      );
  }
  findings.immutable('spec.selector', now.selector, before.selector);
  const waiting =
    before.suspend === true &&
    (old.status?.startTime === undefined ||
      findCondition(old.status.conditions, 'Suspended')?.status === 'True');
  const same = waiting
    ? equal(withoutScheduling(now.template), withoutScheduling(before.template))
    : equal(now.template, before.template);
  if (!same) findings.invalid('spec.template', now.template, 'field is immutable');
  for (const name of [
    'completionMode',
    'podFailurePolicy',
    'backoffLimitPerIndex',
    'managedBy',
    'successPolicy',
  ] as const)
    findings.immutable(`spec.${name}`, now[name], before[name]);
}
