// How a webhook is reached, and which requests it is asked about: shared by admission webhooks, admission policies
// and the conversion of custom resources. After apiserver's pkg/util/webhook and pkg/apis/admissionregistration.

import { dns1035Label, dns1123Subdomain, portNumber, qualifiedName } from '../names.ts';
import type {
  MatchCondition,
  NamedRuleWithOperations,
  RuleWithOperations,
} from '../types/admissionregistration-v1.ts';
import type { Findings } from './findings.ts';

/** A name with at least three parts: `my.webhook.example`. */
export function validateFullName(findings: Findings, field: string, name: string): void {
  if (name === '') {
    findings.required(field);
    return;
  }
  const complaints = dns1123Subdomain(name);
  if (complaints.length > 0) findings.invalid(field, name, complaints.join(','));
  else if (name.split('.').length < 3)
    findings.invalid(field, name, 'should be a domain with at least three segments separated by dots');
}

export function validateWebhookUrl(findings: Findings, field: string, text: string): void {
  const form = '; desired format: https://host[/path]';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1]?.toLowerCase() ?? '';
    if (scheme !== 'https') findings.invalid(field, scheme, `'https' is the only allowed URL scheme${form}`);
    findings.invalid(field, '', `host must be specified${form}`);
    return;
  }
  const scheme = url.protocol.slice(0, -1);
  if (scheme !== 'https') findings.invalid(field, scheme, `'https' is the only allowed URL scheme${form}`);
  if (url.host === '') findings.invalid(field, '', `host must be specified${form}`);
  if (url.username !== '' || url.password !== '')
    findings.invalid(field, url.username, 'user information is not permitted in the URL');
  if (url.hash !== '') findings.invalid(field, url.hash.slice(1), 'fragments are not permitted in the URL');
  if (url.search !== '')
    findings.invalid(field, url.search.slice(1), 'query parameters are not permitted in the URL');
}

function validateServicePath(findings: Findings, field: string, path: string): void {
  if (path === '' || path === '/') return;
  if (path === '//') {
    findings.invalid(field, path, 'segment[0] may not be empty');
    return;
  }
  if (!path.startsWith('/')) findings.invalid(field, path, "must start with a '/'");
  for (const [i, step] of path.slice(1).replace(/\/$/, '').split('/').entries())
    if (step === '') findings.invalid(field, path, `segment[${i}] may not be empty`);
    else
      for (const complaint of dns1123Subdomain(step))
        findings.invalid(field, path, `segment[${i}]: ${complaint}`);
}

interface WebhookService {
  readonly name?: string;
  readonly namespace?: string;
  readonly path?: string;
  readonly port?: number;
}

export function validateClientConfig(
  findings: Findings,
  field: string,
  config: { readonly url?: string; readonly service?: WebhookService } | undefined,
): void {
  const { url, service } = config ?? {};
  if ((url === undefined) === (service === undefined)) {
    findings.required(field, 'exactly one of url or service is required');
  } else if (url !== undefined) {
    validateWebhookUrl(findings, `${field}.url`, url);
  } else if (service !== undefined) {
    const at = `${field}.service`;
    if (!service.name) findings.required(`${at}.name`);
    if (!service.namespace) findings.required(`${at}.namespace`);
    const port = service.port ?? 443;
    const complaints = portNumber(port);
    if (complaints.length > 0)
      findings.invalid(`${at}.port`, port, `port is not valid: ${complaints.join(', ')}`);
    validateServicePath(findings, `${at}.path`, service.path ?? '');
  }
}

const understoodVersions = ['v1', 'v1beta1'];

/** Versions of the review that a webhook can read; one at least must be among those that are sent. */
export function validateReviewVersions(findings: Findings, field: string, versions: readonly string[]): void {
  const list = understoodVersions.join(', ');
  if (versions.length === 0) {
    findings.required(field, `must specify one of ${list}`);
    return;
  }
  for (const [i, version] of versions.entries())
    if (versions.indexOf(version) < i) findings.invalid(`${field}[${i}]`, version, 'duplicate version');
    else findings.text(`${field}[${i}]`, version, dns1035Label);
  if (!versions.some((version) => understoodVersions.includes(version)))
    findings.invalid(field, versions, `must include at least one of ${list}`);
}

function validateResources(findings: Findings, field: string, resources: readonly string[]): void {
  if (resources.length === 0) findings.required(field);
  // `x/*` and `*/y` that came before: whatever they hold need not be named again.
  const whole = new Set<string>();
  const everywhere = new Set<string>();
  let plain = false;
  for (const [i, text] of resources.entries()) {
    if (text === '') {
      findings.required(`${field}[${i}]`);
      continue;
    }
    const slash = text.indexOf('/');
    if (slash < 0) {
      plain = text !== '*';
      continue;
    }
    const resource = text.slice(0, slash);
    const part = text.slice(slash + 1);
    if (whole.has(resource))
      findings.invalid(`${field}[${i}]`, text, `if '${resource}/*' is present, must not specify ${text}`);
    if (everywhere.has(part))
      findings.invalid(`${field}[${i}]`, text, `if '*/${part}' is present, must not specify ${text}`);
    if (part === '*') whole.add(resource);
    if (resource === '*') everywhere.add(part);
  }
  if (resources.length > 1 && resources.includes('*/*'))
    findings.invalid(field, resources, "if '*/*' is present, must not specify other resources");
  if (plain && resources.includes('*'))
    findings.invalid(
      field,
      resources,
      "if '*' is present, must not specify other resources without subresources",
    );
}

const operations = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];

function validateStar(findings: Findings, field: string, values: readonly string[], what: string): void {
  if (values.length > 1 && values.includes('*'))
    findings.invalid(field, values, `if '*' is present, must not specify other ${what}`);
}

export function validateRequestRule(
  findings: Findings,
  field: string,
  rule: RuleWithOperations | NamedRuleWithOperations,
): void {
  const { operations: asked = [], apiGroups = [], apiVersions = [], resources = [], scope } = rule;
  if (asked.length === 0) findings.required(`${field}.operations`);
  validateStar(findings, `${field}.operations`, asked, 'operations');
  for (const [i, operation] of asked.entries())
    if (!operations.includes(operation))
      findings.notSupported(`${field}.operations[${i}]`, operation, operations);
  if (apiGroups.length === 0) findings.required(`${field}.apiGroups`);
  validateStar(findings, `${field}.apiGroups`, apiGroups, 'API groups');
  if (apiVersions.length === 0) findings.required(`${field}.apiVersions`);
  validateStar(findings, `${field}.apiVersions`, apiVersions, 'API versions');
  for (const [i, version] of apiVersions.entries())
    if (version === '') findings.required(`${field}.apiVersions[${i}]`);
  validateResources(findings, `${field}.resources`, resources);
  findings.oneOf(`${field}.scope`, scope, ['*', 'Cluster', 'Namespaced']);
}

const MOST_MATCH_CONDITIONS = 64;

export function validateMatchConditions(
  findings: Findings,
  field: string,
  conditions: readonly MatchCondition[] | undefined,
): void {
  const list = conditions ?? [];
  if (list.length > MOST_MATCH_CONDITIONS) findings.tooMany(field, list.length, MOST_MATCH_CONDITIONS);
  const names = new Set<string>();
  for (const [i, { name = '', expression = '' }] of list.entries()) {
    const at = `${field}[${i}]`;
    if (expression.trim() === '') findings.required(`${at}.expression`);
    findings.name(`${at}.name`, name, qualifiedName);
    if (name === '') continue;
    if (names.has(name)) findings.duplicate(`${at}.name`, name);
    names.add(name);
  }
}
