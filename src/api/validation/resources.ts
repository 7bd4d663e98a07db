// Resource names and amounts: which names are known, which need a domain, what may be overcommitted, and the rules on
// the requests and limits of containers and pods. After upstream's pkg/apis/core/helper and validation.

import { qualifiedName } from '../names.ts';
import {
  addQuantities,
  compareQuantities,
  formatQuantity,
  parseQuantity,
  type Quantity,
  quantitySign,
} from '../quantity.ts';
import type { Container, PodSpec, ResourceRequirements } from '../types/core-v1.ts';
import { type Findings, NOT_NEGATIVE } from './findings.ts';

const containerResources = new Set(['cpu', 'memory', 'ephemeral-storage']);
const objectCounts = new Set([
  'pods',
  'resourcequotas',
  'services',
  'replicationcontrollers',
  'secrets',
  'configmaps',
  'persistentvolumeclaims',
  'services.nodeports',
  'services.loadbalancers',
]);
const storageResources = new Set(['storage', 'requests.storage']);
const sidedResources = new Set(
  ['requests', 'limits'].flatMap((side) => [...containerResources].map((name) => `${side}.${name}`)),
);

export function isHugePages(name: string): boolean {
  return name.startsWith('hugepages-');
}

/** Resources of Kubernetes itself, not of some vendor's domain. */
export function isNativeResource(name: string): boolean {
  return !name.includes('/') || name.includes('kubernetes.io/');
}

export function isExtendedResource(name: string): boolean {
  if (isNativeResource(name) || name.startsWith('requests.')) return false;
  return qualifiedName(`requests.${name}`).length === 0;
}

function isStandardResource(name: string): boolean {
  return (
    containerResources.has(name) ||
    objectCounts.has(name) ||
    storageResources.has(name) ||
    sidedResources.has(name) ||
    isHugePages(name) ||
    isHugePages(name.replace(/^requests\./, ''))
  );
}

function isIntegerResource(name: string): boolean {
  return objectCounts.has(name) || isExtendedResource(name);
}

function canBeOvercommitted(name: string): boolean {
  return isNativeResource(name) && !isHugePages(name);
}

export function validateResourceName(findings: Findings, field: string, name: string): boolean {
  const complaints = qualifiedName(name);
  for (const complaint of complaints) findings.invalid(field, name, complaint);
  if (complaints.length > 0) return false;
  if (!name.includes('/') && !isStandardResource(name)) {
    findings.invalid(field, name, 'must be a standard resource type or fully qualified');
    return false;
  }
  return true;
}

export function validateContainerResourceName(findings: Findings, field: string, name: string): void {
  validateResourceName(findings, field, name);
  if (!name.includes('/')) {
    if (!containerResources.has(name) && !isHugePages(name))
      findings.invalid(field, name, 'must be a standard resource for containers');
  } else if (!isNativeResource(name) && !isExtendedResource(name)) {
    findings.invalid(field, name, "doesn't follow extended resource name standard");
  }
}

/** A name that a quota may limit: `count/deployments.apps`, `requests.nvidia.com/gpu`, … */
export function validateQuotaResourceName(findings: Findings, field: string, name: string): void {
  validateResourceName(findings, field, name);
  if (!name.includes('/') && !isStandardResource(name))
    findings.invalid(field, name, 'must be a standard resource for quota');
}

/** Not negative, and whole where parts of it make no sense. */
export function validateResourceAmount(findings: Findings, field: string, name: string, text: string): void {
  const quantity = parseQuantity(text);
  if (quantity.nanos < 0n) findings.invalid(field, text, NOT_NEGATIVE);
  if (isIntegerResource(name) && quantity.nanos % 1_000_000_000n !== 0n)
    findings.invalid(field, text, 'must be an integer');
}

export function validateNotNegative(findings: Findings, field: string, text: string | undefined): void {
  if (text !== undefined && quantitySign(text) < 0) findings.invalid(field, text, NOT_NEGATIVE);
}

type NameCheck = (findings: Findings, field: string, name: string) => void;

export function validateResourceRequirements(
  findings: Findings,
  field: string,
  resources: ResourceRequirements | undefined,
  claimNames: ReadonlySet<string> | undefined,
  checkName: NameCheck = validateContainerResourceName,
): void {
  if (resources === undefined) return;
  const { limits = {}, requests = {} } = resources;
  let hugePages = false;
  let basic = false;
  const note = (name: string) => {
    if (isHugePages(name)) hugePages = true;
    if (name === 'cpu' || name === 'memory') basic = true;
  };
  for (const [name, amount] of Object.entries(limits)) {
    const at = `${field}.limits[${name}]`;
    checkName(findings, at, name);
    validateResourceAmount(findings, at, name, amount);
    if (isHugePages(name)) validateHugePages(findings, at, name, amount);
    note(name);
  }
  for (const [name, amount] of Object.entries(requests)) {
    const at = `${field}.requests[${name}]`;
    checkName(findings, at, name);
    validateResourceAmount(findings, at, name, amount);
    const limit = limits[name];
    if (limit !== undefined) {
      const order = compareQuantities(amount, limit);
      if (order !== 0 && !canBeOvercommitted(name))
        findings.invalid(`${field}.requests`, amount, `must be equal to ${name} limit of ${limit}`);
      else if (order > 0)
        findings.invalid(
          `${field}.requests`,
          amount,
          `must be less than or equal to ${name} limit of ${limit}`,
        );
    } else if (!canBeOvercommitted(name)) {
      findings.required(`${field}.limits`, 'Limit must be set for non overcommitable resources');
    }
    if (isHugePages(name)) validateHugePages(findings, at, name, amount);
    note(name);
  }
  if (hugePages && !basic) findings.forbidden(field, 'HugePages require cpu or memory');
  validateClaims(findings, `${field}.claims`, resources, claimNames);
}

function validateHugePages(findings: Findings, field: string, name: string, amount: string): void {
  let page: Quantity;
  try {
    page = parseQuantity(name.slice('hugepages-'.length));
  } catch {
    return;
  }
  if (page.nanos > 0n && parseQuantity(amount).nanos % page.nanos !== 0n)
    findings.invalid(field, amount, `${amount} is not positive integer multiple of ${formatQuantity(page)}`);
}

function validateClaims(
  findings: Findings,
  field: string,
  { claims = [] }: ResourceRequirements,
  known: ReadonlySet<string> | undefined,
): void {
  const names = new Set<string>();
  for (const [i, claim] of claims.entries()) {
    const at = `${field}[${i}]`;
    if (!claim.name) {
      findings.required(at);
      continue;
    }
    if (names.has(claim.name)) findings.duplicate(at, claim.name);
    names.add(claim.name);
    if (known !== undefined && !known.has(claim.name)) {
      const all = known.size === 0 ? ' which is empty' : `: ${[...known].toSorted().join(', ')}`;
      findings.errors.push({
        type: 'FieldValueNotFound',
        field: at,
        value: claim.name,
        detail: `must be one of the names in pod.spec.resourceClaims${all}`,
      });
    }
  }
}

const podLevelResources = ['cpu', 'memory'];

/** spec.resources of a pod (KEP-2837): what all containers share may not be less than what they ask for. */
export function validatePodLevelResources(findings: Findings, field: string, spec: PodSpec): void {
  const { resources } = spec;
  if (resources === undefined) return;
  validateResourceRequirements(findings, `${field}.resources`, resources, undefined, (list, at, name) => {
    if (!podLevelResources.includes(name) && !isHugePages(name))
      list.notSupported(at, name, podLevelResources);
  });
  if ((resources.claims ?? []).length > 0)
    findings.forbidden(`${field}.resources.claims`, 'claims cannot be set for Resources at pod-level');
  const sums = new Map<string, Quantity>();
  for (const container of spec.containers)
    for (const [name, amount] of Object.entries(container.resources?.requests ?? {}))
      sums.set(name, addQuantities(sums.get(name) ?? '0', amount));
  for (const [name, sum] of sums) {
    const asked = resources.requests?.[name];
    if (asked !== undefined && compareQuantities(asked, sum) < 0)
      findings.invalid(
        `${field}.resources.requests[${name}]`,
        asked,
        `must be greater than or equal to aggregate container requests of ${formatQuantity(sum)}`,
      );
  }
  const check = (list: readonly Container[] | undefined, at: string) =>
    list?.forEach((container, i) => {
      for (const [name, amount] of Object.entries(container.resources?.limits ?? {})) {
        const most = resources.limits?.[name];
        if (most !== undefined && compareQuantities(amount, most) > 0)
          findings.invalid(
            `${at}[${i}].resources.limits[${name}]`,
            amount,
            `must be less than or equal to pod limits of ${most}`,
          );
      }
    });
  check(spec.containers, `${field}.containers`);
  check(spec.initContainers, `${field}.initContainers`);
}
