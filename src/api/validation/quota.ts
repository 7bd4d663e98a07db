// ResourceQuotas and LimitRanges.

import { qualifiedName } from '../names.ts';
import { compareQuantities, quantityToFloat } from '../quantity.ts';
import type { LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec } from '../types/core-v1.ts';
import { equal, type Findings } from './findings.ts';
import {
  isExtendedResource,
  isHugePages,
  validateContainerResourceName,
  validateQuotaResourceName,
  validateResourceAmount,
  validateResourceName,
} from './resources.ts';

const podScopes = new Set([
  'Terminating',
  'NotTerminating',
  'BestEffort',
  'NotBestEffort',
  'PriorityClass',
  'CrossNamespacePodAffinity',
]);
const scopes = new Set([...podScopes, 'VolumeAttributesClass']);
const opposites = [
  ['BestEffort', 'NotBestEffort'],
  ['Terminating', 'NotTerminating'],
] as const;
const onlyExists = new Set([
  'BestEffort',
  'NotBestEffort',
  'Terminating',
  'NotTerminating',
  'CrossNamespacePodAffinity',
]);
const computeResources = new Set(
  ['cpu', 'memory'].flatMap((name) => [name, `requests.${name}`, `limits.${name}`]),
);

/** Whether a scope says anything about the resource: pods have scopes, services have none. */
function scopeCovers(scope: string, resource: string): boolean {
  switch (scope) {
    case 'BestEffort':
      return resource === 'pods';
    case 'Terminating':
    case 'NotTerminating':
    case 'NotBestEffort':
    case 'PriorityClass':
    case 'CrossNamespacePodAffinity':
      return (
        resource === 'pods' ||
        computeResources.has(resource) ||
        resource.includes('ephemeral-storage') ||
        isHugePages(resource.replace(/^requests\./, ''))
      );
    case 'VolumeAttributesClass':
      return resource === 'persistentvolumeclaims' || resource === 'requests.storage';
    default:
      return true;
  }
}

function isStandardQuotaResource(name: string): boolean {
  return !name.includes('/') && !isExtendedResource(name);
}

function validateOpposites(
  findings: Findings,
  field: string,
  value: unknown,
  set: ReadonlySet<string>,
): void {
  for (const pair of opposites)
    if (pair.every((scope) => set.has(scope))) findings.invalid(field, value, 'conflicting scopes');
}

function validateScopes(findings: Findings, spec: ResourceQuotaSpec): void {
  const field = 'spec.scopes';
  const list = spec.scopes ?? [];
  const hard = Object.keys(spec.hard ?? {}).toSorted();
  for (const scope of list) {
    if (!scopes.has(scope)) findings.invalid(field, list, 'unsupported scope');
    for (const resource of hard)
      if (isStandardQuotaResource(resource) && !scopeCovers(scope, resource))
        findings.invalid(field, list, 'unsupported scope applied to resource');
  }
  validateOpposites(findings, field, list, new Set(list));
}

function validateScopeSelector(findings: Findings, spec: ResourceQuotaSpec): void {
  const selector = spec.scopeSelector;
  if (selector === undefined) return;
  const field = 'spec.scopeSelector.matchExpressions';
  const hard = Object.keys(spec.hard ?? {}).toSorted();
  const seen = new Set<string>();
  for (const requirement of selector.matchExpressions ?? []) {
    const { scopeName, operator, values = [] } = requirement;
    if (!scopes.has(scopeName)) findings.invalid(`${field}.scopeName`, scopeName, 'unsupported scope');
    for (const resource of hard)
      if (isStandardQuotaResource(resource) && !scopeCovers(scopeName, resource))
        findings.invalid(field, selector, 'unsupported scope applied to resource');
    if (onlyExists.has(scopeName) && operator !== 'Exists')
      findings.invalid(
        `${field}.operator`,
        operator,
        "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
      );
    switch (operator) {
      case 'In':
      case 'NotIn':
        if (values.length === 0)
          findings.required(
            `${field}.values`,
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
          );
        break;
      case 'Exists':
      case 'DoesNotExist':
        if (values.length > 0)
          findings.invalid(
            `${field}.values`,
            values,
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
          );
        break;
      default:
        findings.invalid(`${field}.operator`, operator, 'not a valid selector operator');
    }
    seen.add(scopeName);
  }
  validateOpposites(findings, field, selector.matchExpressions, seen);
}

function validateAmounts(
  findings: Findings,
  field: string,
  amounts: Readonly<Record<string, string>> | undefined,
): void {
  for (const [name, amount] of Object.entries(amounts ?? {})) {
    validateQuotaResourceName(findings, `${field}[${name}]`, name);
    validateResourceAmount(findings, `${field}[${name}]`, name, amount);
  }
}

export function validateResourceQuota(quota: ResourceQuota, findings: Findings): void {
  const spec = quota.spec ?? {};
  validateAmounts(findings, 'spec.hard', spec.hard);
  validateScopes(findings, spec);
  validateScopeSelector(findings, spec);
}

export function validateResourceQuotaUpdate(
  quota: ResourceQuota,
  old: ResourceQuota,
  findings: Findings,
): void {
  const sorted = (list: readonly string[] | undefined) => [...new Set(list ?? [])].toSorted();
  const now = quota.spec?.scopes;
  if (!equal(sorted(now), sorted(old.spec?.scopes)))
    findings.invalid('spec.scopes', now, 'field is immutable');
}

export function validateResourceQuotaStatusUpdate(
  quota: ResourceQuota,
  _old: ResourceQuota,
  findings: Findings,
): void {
  validateAmounts(findings, 'status.hard', quota.status?.hard);
  validateAmounts(findings, 'status.used', quota.status?.used);
}

const limitTypes = new Set(['Pod', 'Container', 'PersistentVolumeClaim']);

function validateLimitNames(
  findings: Findings,
  field: string,
  item: LimitRangeItem,
  part: keyof LimitRangeItem,
): void {
  const amounts = item[part];
  if (typeof amounts !== 'object') return;
  for (const name of Object.keys(amounts)) {
    const at = `${field}.${part}[${name}]`;
    if (item.type === 'Pod' || item.type === 'Container') validateContainerResourceName(findings, at, name);
    else validateResourceName(findings, at, name);
  }
}

function validateLimitOrder(findings: Findings, field: string, item: LimitRangeItem, name: string): void {
  const min = item.min?.[name];
  const max = item.max?.[name];
  const normal = item.type === 'Pod' ? undefined : item.default?.[name];
  const request = item.type === 'Pod' ? undefined : item.defaultRequest?.[name];
  const ratio = item.maxLimitRequestRatio?.[name];
  const greater = (a: string | undefined, b: string | undefined): boolean =>
    a !== undefined && b !== undefined && compareQuantities(a, b) > 0;
  const say = (part: string, value: string | undefined, detail: string) =>
    findings.invalid(`${field}.${part}[${name}]`, value, detail);
  if (greater(min, max)) say('min', min, `min value ${min} is greater than max value ${max}`);
  if (greater(min, request))
    say('defaultRequest', request, `min value ${min} is greater than default request value ${request}`);
  if (greater(request, max))
    say('defaultRequest', request, `default request value ${request} is greater than max value ${max}`);
  if (greater(request, normal))
    say(
      'defaultRequest',
      request,
      `default request value ${request} is greater than default limit value ${normal}`,
    );
  if (greater(min, normal)) say('default', min, `min value ${min} is greater than default value ${normal}`);
  if (greater(normal, max)) say('default', max, `default value ${normal} is greater than max value ${max}`);
  if (ratio === undefined) return;
  if (compareQuantities(ratio, '1') < 0) say('maxLimitRequestRatio', ratio, `ratio ${ratio} is less than 1`);
  if (min !== undefined && max !== undefined) {
    const most = quantityToFloat(max) / quantityToFloat(min);
    if (quantityToFloat(ratio) > most)
      say('maxLimitRequestRatio', ratio, `ratio ${ratio} is greater than max/min = ${most.toFixed(6)}`);
  }
}

export function validateLimitRange(range: LimitRange, findings: Findings): void {
  const types = new Set<string>();
  for (const [i, item] of (range.spec?.limits ?? []).entries()) {
    const field = `spec.limits[${i}]`;
    findings.text(`${field}.type`, item.type, qualifiedName);
    if (!item.type.includes('/') && !limitTypes.has(item.type))
      findings.invalid(`${field}.type`, item.type, 'must be a standard limit type or fully qualified');
    if (types.has(item.type)) findings.duplicate(`${field}.type`, item.type);
    types.add(item.type);
    for (const part of ['max', 'min', 'maxLimitRequestRatio'] as const)
      validateLimitNames(findings, field, item, part);
    for (const part of ['default', 'defaultRequest'] as const)
      if (item.type !== 'Pod') validateLimitNames(findings, field, item, part);
      else if (Object.keys(item[part] ?? {}).length > 0)
        findings.forbidden(`${field}.${part}`, "may not be specified when `type` is 'Pod'");
    if (
      item.type === 'PersistentVolumeClaim' &&
      item.min?.['storage'] === undefined &&
      item.max?.['storage'] === undefined
    )
      findings.required(
        `${field}.limits`,
        'either minimum or maximum storage value is required, but neither was provided',
      );
    const names = new Set(
      [item.max, item.min, item.default, item.defaultRequest, item.maxLimitRequestRatio].flatMap((amounts) =>
        Object.keys(amounts ?? {}),
      ),
    );
    for (const name of names) validateLimitOrder(findings, field, item, name);
  }
}
