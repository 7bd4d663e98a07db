// Rules for flow schemas and priority levels. After pkg/apis/flowcontrol/validation.

import { dns1123Label, dns1123Subdomain } from '../names.ts';
import type {
  FlowSchema,
  FlowSchemaSpec,
  LimitedPriorityLevelConfiguration,
  LimitResponse,
  NonResourcePolicyRule,
  PolicyRulesWithSubjects,
  PriorityLevelConfiguration,
  QueuingConfiguration,
  ResourcePolicyRule,
  Subject,
} from '../types/flowcontrol-v1.ts';
import type { Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';

const MOST_PRECEDENCE = 10_000;
const MOST_QUEUES = 10_000_000;
/** Bits of the hash that hands of queues are dealt from. */
const HASH_BITS = 60;

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'proxy', 'update', 'watch'];

function validateVerbs(findings: Findings, field: string, asked: readonly string[]): void {
  if (asked.length === 0) findings.required(field, 'verbs must contain at least one value');
  else if (asked.includes('*')) {
    if (asked.length > 1) findings.invalid(field, asked, "if '*' is present, must not specify other verbs");
  } else if (asked.some((verb) => !verbs.includes(verb))) findings.notSupported(field, asked, verbs);
}

function urlComplaint(path: string): string | undefined {
  if (path === '') return 'must not be empty';
  if (path === '/') return undefined;
  if (!path.startsWith('/')) return 'must start with slash';
  if (path.includes(' ')) return 'must not contain white-space';
  if (path.includes('//')) return 'must not contain double slash';
  const stars = path.split('*').length - 1;
  return stars > 1 || (stars === 1 && !path.endsWith('/*'))
    ? 'wildcard can only do suffix matching'
    : undefined;
}

function validateUrlRule(findings: Findings, field: string, rule: NonResourcePolicyRule): void {
  validateVerbs(findings, `${field}.verbs`, rule.verbs ?? []);
  const at = `${field}.nonResourceURLs`;
  const urls = rule.nonResourceURLs ?? [];
  if (urls.length === 0) findings.required(at, 'nonResourceURLs must contain at least one value');
  else if (urls.includes('*')) {
    if (urls.length > 1)
      findings.invalid(at, urls, "if '*' is present, must not specify other non-resource URLs");
  } else
    for (const [i, url] of urls.entries()) {
      const complaint = urlComplaint(url);
      if (complaint !== undefined) findings.invalid(`${at}[${i}]`, url, complaint);
    }
}

function validateResourceRule(findings: Findings, field: string, rule: ResourcePolicyRule): void {
  const { apiGroups = [], resources = [], namespaces = [] } = rule;
  validateVerbs(findings, `${field}.verbs`, rule.verbs ?? []);
  for (const [name, values, one, others] of [
    ['apiGroups', apiGroups, 'api group', 'api groups'],
    ['resources', resources, 'resource', 'resources'],
  ] as const)
    if (values.length === 0)
      findings.required(`${field}.${name}`, `resource rules must supply at least one ${one}`);
    else if (values.length > 1 && values.includes('*'))
      findings.invalid(`${field}.${name}`, values, `if '*' is present, must not specify other ${others}`);
  const at = `${field}.namespaces`;
  if (namespaces.length === 0 && rule.clusterScope !== true)
    findings.required(at, 'resource rules that are not cluster scoped must supply at least one namespace');
  else if (namespaces.includes('*')) {
    if (namespaces.length > 1)
      findings.invalid(at, namespaces, "if '*' is present, must not specify other namespaces");
  } else
    for (const [i, namespace] of namespaces.entries())
      for (const complaint of dns1123Label(namespace))
        findings.invalid(
          `${at}[${i}]`,
          namespace,
          `each member of this list must be '*' or a DNS-1123 label; ${complaint}`,
        );
}

/** Each kind of subject, with the field that it is written in. */
const subjectFields = { Group: 'group', ServiceAccount: 'serviceAccount', User: 'user' } as const;

function validateSubject(findings: Findings, field: string, subject: Subject): void {
  const { kind = '' } = subject;
  if (!Object.hasOwn(subjectFields, kind)) {
    findings.notSupported(`${field}.kind`, kind, Object.keys(subjectFields));
    return;
  }
  const own = subjectFields[kind as keyof typeof subjectFields];
  const at = `${field}.${own}`;
  const named = subject[own];
  if (named === undefined) findings.required(at, `${own} is required when subject kind is '${kind}'`);
  else if (own !== 'serviceAccount') {
    if (!named.name) findings.required(`${at}.name`);
  } else {
    const { name = '', namespace = '' } = subject.serviceAccount ?? {};
    if (name === '') findings.required(`${at}.name`);
    else if (name !== '*') findings.text(`${at}.name`, name, dns1123Subdomain);
    if (namespace === '') findings.required(`${at}.namespace`, 'must specify namespace for service account');
    else findings.text(`${at}.namespace`, namespace, dns1123Label);
  }
  for (const [other, name] of Object.entries(subjectFields))
    if (name !== own && subject[name] !== undefined)
      findings.forbidden(`${field}.${name}`, `${name} is forbidden when subject kind is not '${other}'`);
}

function validateRules(findings: Findings, field: string, rule: PolicyRulesWithSubjects): void {
  const { subjects = [], resourceRules = [], nonResourceRules = [] } = rule;
  if (subjects.length === 0)
    findings.required(`${field}.subjects`, 'subjects must contain at least one value');
  for (const [i, subject] of subjects.entries())
    validateSubject(findings, `${field}.subjects[${i}]`, subject);
  if (resourceRules.length + nonResourceRules.length === 0)
    findings.required(field, 'at least one of resourceRules and nonResourceRules has to be non-empty');
  for (const [i, one] of resourceRules.entries())
    validateResourceRule(findings, `${field}.resourceRules[${i}]`, one);
  for (const [i, one] of nonResourceRules.entries())
    validateUrlRule(findings, `${field}.nonResourceRules[${i}]`, one);
}

function validateConditions(
  findings: Findings,
  conditions: readonly { readonly type?: string }[] | undefined,
): void {
  const types = new Set<string>();
  for (const [i, { type = '' }] of (conditions ?? []).entries()) {
    const at = `status.conditions[${i}].type`;
    if (types.has(type)) findings.duplicate(at, type);
    types.add(type);
    if (type === '') findings.required(at, 'must not be empty');
  }
}

const flowSchema: KindRules<FlowSchema> = {
  validate({ metadata, spec = {} as FlowSchemaSpec }, findings) {
    const precedence = spec.matchingPrecedence ?? 0;
    const field = 'spec.matchingPrecedence';
    if (precedence <= 0) findings.invalid(field, precedence, 'must be a positive value');
    if (precedence > MOST_PRECEDENCE)
      findings.invalid(field, precedence, `must not be greater than ${MOST_PRECEDENCE}`);
    if (precedence === 1 && metadata.name !== 'exempt')
      findings.invalid(field, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    findings.oneOf('spec.distinguisherMethod.type', spec.distinguisherMethod?.type, [
      'ByNamespace',
      'ByUser',
    ]);
    const level = spec.priorityLevelConfiguration?.name;
    const at = 'spec.priorityLevelConfiguration.name';
    if (!level) findings.required(at, 'must reference a priority level');
    else findings.text(at, level, dns1123Subdomain);
    for (const [i, rule] of (spec.rules ?? []).entries()) validateRules(findings, `spec.rules[${i}]`, rule);
  },
  validateStatusUpdate: ({ status }, _old, findings) => validateConditions(findings, status?.conditions),
};

/** The number of bits that dealing a hand of cards out of a deck takes. */
function entropyBits(deck: number, hand: number): number {
  let bits = 0;
  for (let i = 0; i < hand; i++) bits += Math.log2(deck - i);
  return Math.ceil(bits);
}

function validateQueuing(findings: Findings, field: string, queuing: QueuingConfiguration): void {
  const { queues = 0, handSize = 0, queueLengthLimit = 0 } = queuing;
  if (queueLengthLimit <= 0)
    findings.invalid(`${field}.queueLengthLimit`, queueLengthLimit, 'must be positive');
  if (queues <= 0) findings.invalid(`${field}.queues`, queues, 'must be positive');
  else if (queues > MOST_QUEUES)
    findings.invalid(`${field}.queues`, queues, `must not be greater than ${MOST_QUEUES}`);
  const at = `${field}.handSize`;
  if (handSize <= 0) findings.invalid(at, handSize, 'must be positive');
  else if (handSize > queues) findings.invalid(at, handSize, `should not be greater than queues (${queues})`);
  else if (entropyBits(queues, handSize) > HASH_BITS)
    findings.invalid(
      at,
      handSize,
      `required entropy bits of deckSize ${queues} and handSize ${handSize} should not be greater than ${HASH_BITS}`,
    );
}

function validateLimitResponse(findings: Findings, field: string, response: LimitResponse | undefined): void {
  const { type = '', queuing } = response ?? {};
  if (type === 'Reject') {
    if (queuing !== undefined)
      findings.forbidden(`${field}.queuing`, 'must be nil if limited.limitResponse.type is not Limited');
  } else if (type === 'Queue') {
    if (queuing === undefined)
      findings.required(`${field}.queuing`, 'must not be empty if limited.limitResponse.type is Limited');
    else validateQueuing(findings, `${field}.queuing`, queuing);
  } else {
    findings.notSupported(`${field}.type`, type, ['Queue', 'Reject']);
  }
}

function validateLimited(findings: Findings, limited: LimitedPriorityLevelConfiguration): void {
  const field = 'spec.limited';
  const { nominalConcurrencyShares: shares, lendablePercent, borrowingLimitPercent } = limited;
  if (shares !== undefined && shares < 0)
    findings.invalid(`${field}.nominalConcurrencyShares`, shares, 'must be a non-negative integer');
  validateLimitResponse(findings, `${field}.limitResponse`, limited.limitResponse);
  if (lendablePercent !== undefined && (lendablePercent < 0 || lendablePercent > 100))
    findings.invalid(`${field}.lendablePercent`, lendablePercent, 'must be between 0 and 100, inclusive');
  if (borrowingLimitPercent !== undefined && borrowingLimitPercent < 0)
    findings.invalid(
      `${field}.borrowingLimitPercent`,
      borrowingLimitPercent,
      'if specified, must be a non-negative integer',
    );
}

const priorityLevelConfiguration: KindRules<PriorityLevelConfiguration> = {
  validate({ metadata, spec = { type: '' } }, findings) {
    if ((metadata.name === 'exempt') !== (spec.type === 'Exempt'))
      findings.invalid('spec.type', spec.type, "type must be 'Exempt' if and only if name is 'exempt'");
    switch (spec.type) {
      case 'Exempt':
        if (spec.limited !== undefined)
          findings.forbidden('spec.limited', 'must be nil if the type is not Limited');
        break;
      case 'Limited':
        if (spec.exempt !== undefined)
          findings.forbidden('spec.exempt', 'must be nil if the type is Limited');
        if (spec.limited === undefined)
          findings.required('spec.limited', 'must not be empty when type is Limited');
        else validateLimited(findings, spec.limited);
        break;
      default:
        findings.notSupported('spec.type', spec.type, ['Exempt', 'Limited']);
    }
  },
  validateStatusUpdate: ({ status }, _old, findings) => validateConditions(findings, status?.conditions),
};

export const flowControlRules: Readonly<Record<string, AnyRules>> = {
  FlowSchema: flowSchema,
  PriorityLevelConfiguration: priorityLevelConfiguration,
};
