// Rules for devices that pods claim (dynamic resource allocation). Whether selectors in CEL compile is for whoever
// evaluates them. After pkg/apis/resource/validation.

import { cIdentifier, dns1123Label, dns1123Subdomain } from '../names.ts';
import type {
  AllocationResult,
  CounterSet,
  Device,
  DeviceClaim,
  DeviceClass,
  DeviceConfiguration,
  DeviceConstraint,
  DeviceRequest,
  DeviceSelector,
  DeviceToleration,
  ExactDeviceRequest,
  ResourceClaim,
  ResourceClaimSpec,
  ResourceClaimTemplate,
  ResourceSlice,
  ResourceSliceSpec,
} from '../types/resource-v1.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { validateNodeSelector, validateTolerations } from './pod-scheduling.ts';
import { validateDriverName } from './pod-volumes.ts';
import { validateNotNegative } from './resources.ts';

const MOST_REQUESTS = 32;
const MOST_ALTERNATIVES = 8;
const MOST_SELECTORS = 32;
const MOST_DEVICES = 128;
const MOST_PROPERTIES = 32;
const MOST_CONSUMERS = 256;
const MOST_RESULTS = 32;
const MOST_POOL_NAME = 253;
const MOST_EXPRESSION = 10 * 1024;

function validateMost(
  findings: Findings,
  field: string,
  list: readonly unknown[] | undefined,
  most: number,
): void {
  if ((list?.length ?? 0) > most) findings.tooMany(field, list!.length, most);
}

function validateUnique(
  findings: Findings,
  field: string,
  names: readonly string[],
  place: (i: number) => string = (i) => `${field}[${i}]`,
): void {
  const seen = new Set<string>();
  for (const [i, name] of names.entries()) {
    if (seen.has(name)) findings.duplicate(place(i), name);
    seen.add(name);
  }
}

/** `dra.example.com/model`; the driver's own names need no domain. */
function validateQualified(findings: Findings, field: string, name: string, withDomain: boolean): void {
  if (name === '') {
    findings.required(field);
    return;
  }
  const parts = name.split('/');
  if (parts.length > 2 || (withDomain && parts.length < 2)) {
    findings.invalid(
      field,
      name,
      withDomain ? 'must include a domain' : 'must not contain more than one slash',
    );
    return;
  }
  const id = parts.at(-1)!;
  if (parts.length === 2)
    for (const complaint of dns1123Subdomain(parts[0]!)) findings.invalid(field, parts[0], complaint);
  if (id === '') findings.required(field, 'the name must not be empty');
  else for (const complaint of cIdentifier(id)) findings.invalid(field, id, complaint);
}

function validateSelectors(
  findings: Findings,
  field: string,
  selectors: readonly DeviceSelector[] | undefined,
): void {
  validateMost(findings, field, selectors, MOST_SELECTORS);
  for (const [i, { cel }] of (selectors ?? []).entries()) {
    const at = `${field}[${i}].cel`;
    if (cel === undefined) findings.required(at);
    else if (!cel.expression?.trim()) findings.required(`${at}.expression`);
    else if (Buffer.byteLength(cel.expression) > MOST_EXPRESSION)
      findings.tooLong(`${at}.expression`, MOST_EXPRESSION);
  }
}

function validateConfiguration(findings: Findings, field: string, { opaque }: DeviceConfiguration): void {
  if (opaque === undefined) {
    findings.required(`${field}.opaque`);
    return;
  }
  validateDriverName(findings, `${field}.opaque.driver`, opaque.driver ?? '');
  const { parameters } = opaque;
  if (parameters === undefined || parameters === null) findings.required(`${field}.opaque.parameters`);
  else if (typeof parameters !== 'object' || Array.isArray(parameters))
    findings.invalid(`${field}.opaque.parameters`, '<value omitted>', 'must be a valid JSON object');
}

function validateDeviceTolerations(
  findings: Findings,
  field: string,
  tolerations: readonly DeviceToleration[] | undefined,
): void {
  // Those of devices are written as those of nodes are; the effect None is theirs alone.
  const plain = (tolerations ?? []).filter((toleration) => toleration.effect !== 'None');
  validateTolerations(findings, field, plain as Parameters<typeof validateTolerations>[2]);
}

function validateExactly(findings: Findings, field: string, request: ExactDeviceRequest): void {
  findings.name(`${field}.deviceClassName`, request.deviceClassName, dns1123Subdomain);
  validateSelectors(findings, `${field}.selectors`, request.selectors);
  const count = request.count ?? 0;
  switch (request.allocationMode as string | undefined) {
    case 'All':
      if (count !== 0)
        findings.invalid(`${field}.count`, count, "must not be specified when allocationMode is 'All'");
      break;
    case 'ExactCount':
      if (count <= 0) findings.invalid(`${field}.count`, count, 'must be greater than zero');
      break;
    default:
      findings.notSupported(`${field}.allocationMode`, request.allocationMode ?? '', ['All', 'ExactCount']);
  }
  validateDeviceTolerations(findings, `${field}.tolerations`, request.tolerations);
  for (const [name, amount] of Object.entries(request.capacity?.requests ?? {}))
    validateNotNegative(findings, `${field}.capacity.requests[${name}]`, amount);
}

function validateRequest(findings: Findings, field: string, request: DeviceRequest): void {
  findings.name(`${field}.name`, request.name, dns1123Label);
  const { exactly, firstAvailable = [] } = request;
  const one = 'exactly one of `exactly` or `firstAvailable` is required';
  if (exactly === undefined && firstAvailable.length === 0) findings.required(field, one);
  if (exactly !== undefined && firstAvailable.length > 0)
    findings.invalid(field, null, `${one}, but multiple fields are set`);
  if (exactly !== undefined) validateExactly(findings, `${field}.exactly`, exactly);
  const at = `${field}.firstAvailable`;
  validateMost(findings, at, firstAvailable, MOST_ALTERNATIVES);
  validateUnique(
    findings,
    at,
    firstAvailable.map((sub) => sub.name),
    (i) => `${at}[${i}].name`,
  );
  for (const [i, sub] of firstAvailable.entries()) {
    findings.name(`${at}[${i}].name`, sub.name, dns1123Label);
    validateExactly(findings, `${at}[${i}]`, sub);
  }
}

/** Names of requests, and of their alternatives after a slash. */
function requestNames(claim: DeviceClaim): ReadonlySet<string> {
  const names = new Set<string>();
  for (const request of claim.requests ?? []) {
    names.add(request.name);
    for (const sub of request.firstAvailable ?? []) names.add(`${request.name}/${sub.name}`);
  }
  return names;
}

function validateReferences(
  findings: Findings,
  field: string,
  references: readonly string[] | undefined,
  names: ReadonlySet<string>,
): void {
  validateMost(findings, field, references, MOST_REQUESTS);
  validateUnique(findings, field, references ?? []);
  for (const [i, name] of (references ?? []).entries())
    if (!names.has(name))
      findings.invalid(
        `${field}[${i}]`,
        name,
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
      );
}

function validateConstraint(
  findings: Findings,
  field: string,
  constraint: DeviceConstraint,
  names: ReadonlySet<string>,
): void {
  validateReferences(findings, `${field}.requests`, constraint.requests, names);
  const { matchAttribute, distinctAttribute } = constraint;
  if (matchAttribute !== undefined)
    validateQualified(findings, `${field}.matchAttribute`, matchAttribute, true);
  if (distinctAttribute !== undefined)
    validateQualified(findings, `${field}.distinctAttribute`, distinctAttribute, true);
  if (matchAttribute === undefined && distinctAttribute === undefined)
    findings.required(field, 'exactly one of `matchAttribute` or `distinctAttribute` is required');
}

function validateClaimSpec(findings: Findings, field: string, spec: ResourceClaimSpec | undefined): void {
  const claim = spec?.devices ?? {};
  const at = `${field}.devices`;
  const names = requestNames(claim);
  const { requests = [], constraints = [], config = [] } = claim;
  validateMost(findings, `${at}.requests`, requests, MOST_REQUESTS);
  validateUnique(
    findings,
    `${at}.requests`,
    requests.map((request) => request.name),
    (i) => `${at}.requests[${i}].name`,
  );
  for (const [i, request] of requests.entries()) validateRequest(findings, `${at}.requests[${i}]`, request);
  validateMost(findings, `${at}.constraints`, constraints, MOST_REQUESTS);
  for (const [i, constraint] of constraints.entries())
    validateConstraint(findings, `${at}.constraints[${i}]`, constraint, names);
  validateMost(findings, `${at}.config`, config, MOST_REQUESTS);
  for (const [i, one] of config.entries()) {
    validateReferences(findings, `${at}.config[${i}].requests`, one.requests, names);
    validateConfiguration(findings, `${at}.config[${i}]`, one);
  }
}

function validateAllocation(findings: Findings, allocation: AllocationResult, claim: DeviceClaim): void {
  const field = 'status.allocation.devices';
  const names = requestNames(claim);
  const results = allocation.devices?.results ?? [];
  validateMost(findings, `${field}.results`, results, MOST_RESULTS);
  for (const [i, result] of results.entries()) {
    const at = `${field}.results[${i}]`;
    validateReferences(findings, `${at}.request`, [result.request], names);
    validateDriverName(findings, `${at}.driver`, result.driver ?? '');
    validatePoolName(findings, `${at}.pool`, result.pool ?? '');
    findings.name(`${at}.device`, result.device, dns1123Label);
  }
  if (allocation.nodeSelector !== undefined)
    validateNodeSelector(findings, 'status.allocation.nodeSelector', allocation.nodeSelector);
}

const resourceClaim: KindRules<ResourceClaim> = {
  validate: ({ spec }, findings) => validateClaimSpec(findings, 'spec', spec),
  validateUpdate: (object, old, findings) => findings.immutable('spec', object.spec, old.spec),
  validateStatusUpdate({ metadata, spec, status = {} }, old, findings) {
    const { allocation, reservedFor = [] } = status;
    if (allocation !== undefined) validateAllocation(findings, allocation, spec?.devices ?? {});
    validateMost(findings, 'status.reservedFor', reservedFor, MOST_CONSUMERS);
    validateUnique(
      findings,
      'status.reservedFor',
      reservedFor.map((consumer) => consumer.uid),
      (i) => `status.reservedFor[${i}].uid`,
    );
    for (const [i, consumer] of reservedFor.entries())
      for (const name of ['resource', 'name', 'uid'] as const)
        if (!consumer[name]) findings.required(`status.reservedFor[${i}].${name}`);
    const before = old.status?.allocation;
    if (before !== undefined && allocation !== undefined)
      findings.immutable('status.allocation', allocation, before);
    if (reservedFor.length > 0 && allocation === undefined)
      findings.forbidden('status.reservedFor', 'may not be specified when `allocated` is not set');
    const had = new Set((old.status?.reservedFor ?? []).map((consumer) => consumer.uid));
    if (metadata.deletionTimestamp !== undefined && reservedFor.some((consumer) => !had.has(consumer.uid)))
      findings.forbidden(
        'status.reservedFor',
        'new entries may not be added while `deletionTimestamp` is set',
      );
  },
};

const resourceClaimTemplate: KindRules<ResourceClaimTemplate> = {
  validate({ spec }, findings) {
    findings.labels('spec.metadata.labels', spec?.metadata?.labels);
    validateClaimSpec(findings, 'spec.spec', spec?.spec);
  },
  validateUpdate: (object, old, findings) => findings.immutable('spec', object.spec, old.spec),
};

const deviceClass: KindRules<DeviceClass> = {
  validate({ spec = {} }, findings) {
    validateSelectors(findings, 'spec.selectors', spec.selectors);
    validateMost(findings, 'spec.config', spec.config, MOST_REQUESTS);
    for (const [i, one] of (spec.config ?? []).entries())
      validateConfiguration(findings, `spec.config[${i}]`, one);
  },
};

function validatePoolName(findings: Findings, field: string, name: string): void {
  if (name === '') {
    findings.required(field);
    return;
  }
  if (name.length > MOST_POOL_NAME) findings.tooLong(field, MOST_POOL_NAME);
  for (const part of name.split('/'))
    for (const complaint of dns1123Subdomain(part)) findings.invalid(field, part, complaint);
}

const values = ['int', 'bool', 'string', 'version', 'ints', 'bools', 'strings', 'versions'] as const;

function validateDevice(findings: Findings, field: string, device: Device): void {
  findings.name(`${field}.name`, device.name, dns1123Label);
  const { attributes = {}, capacity = {} } = device;
  const properties = Object.keys(attributes).length + Object.keys(capacity).length;
  if (properties > MOST_PROPERTIES)
    findings.invalid(
      field,
      properties,
      `the total number of attributes and capacities must not exceed ${MOST_PROPERTIES}`,
    );
  for (const [name, attribute] of Object.entries(attributes)) {
    const at = `${field}.attributes[${name}]`;
    validateQualified(findings, at, name, false);
    const set = values.filter((value) => attribute[value] !== undefined);
    if (set.length === 0) findings.required(at, 'exactly one value must be specified');
    else if (set.length > 1) findings.invalid(at, attribute, 'exactly one value must be specified');
  }
  for (const [name, { value }] of Object.entries(capacity)) {
    const at = `${field}.capacity[${name}]`;
    validateQualified(findings, at, name, false);
    validateNotNegative(findings, `${at}.value`, value);
  }
  for (const [i, taint] of (device.taints ?? []).entries()) {
    const at = `${field}.taints[${i}]`;
    if (!taint.key) findings.required(`${at}.key`);
    findings.oneOf(`${at}.effect`, taint.effect, ['NoExecute', 'NoSchedule', 'None'], { required: true });
  }
}

function validateCounters(findings: Findings, sets: readonly CounterSet[]): void {
  const field = 'spec.sharedCounters';
  validateUnique(
    findings,
    field,
    sets.map((set) => set.name),
    (i) => `${field}[${i}].name`,
  );
  for (const [i, set] of sets.entries()) {
    findings.name(`${field}[${i}].name`, set.name, dns1123Label);
    if (Object.keys(set.counters ?? {}).length === 0) findings.required(`${field}[${i}].counters`);
    for (const [name, { value }] of Object.entries(set.counters ?? {}))
      validateNotNegative(findings, `${field}[${i}].counters[${name}].value`, value);
  }
}

function validateWhere(findings: Findings, spec: ResourceSliceSpec): void {
  const given = [
    spec.nodeName ? 'nodeName' : '',
    spec.nodeSelector !== undefined ? 'nodeSelector' : '',
    spec.allNodes === true ? 'allNodes' : '',
    spec.perDeviceNodeSelection === true ? 'perDeviceNodeSelection' : '',
  ].filter((name) => name !== '');
  const one = 'exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required';
  if (given.length === 0) findings.required('spec', one);
  if (given.length > 1)
    findings.invalid(
      'spec',
      `{${given.map((name) => `\`${name}\``).join(', ')}}`,
      `${one}, but multiple fields are set`,
    );
  if (spec.nodeName) findings.text('spec.nodeName', spec.nodeName, dns1123Subdomain);
  if (spec.nodeSelector === undefined) return;
  validateNodeSelector(findings, 'spec.nodeSelector', spec.nodeSelector);
  if ((spec.nodeSelector.nodeSelectorTerms ?? []).length !== 1)
    findings.invalid(
      'spec.nodeSelector.nodeSelectorTerms',
      spec.nodeSelector.nodeSelectorTerms,
      'must have exactly one node selector term',
    );
}

const resourceSlice: KindRules<ResourceSlice> = {
  validate({ spec = {} as ResourceSliceSpec }, findings) {
    validateDriverName(findings, 'spec.driver', spec.driver ?? '');
    validatePoolName(findings, 'spec.pool.name', spec.pool?.name ?? '');
    const count = spec.pool?.resourceSliceCount ?? 0;
    if (count <= 0) findings.invalid('spec.pool.resourceSliceCount', count, 'must be greater than zero');
    findings.notNegative('spec.pool.generation', spec.pool?.generation);
    validateWhere(findings, spec);
    const devices = spec.devices ?? [];
    validateMost(findings, 'spec.devices', devices, MOST_DEVICES);
    validateUnique(
      findings,
      'spec.devices',
      devices.map((device) => device.name),
      (i) => `spec.devices[${i}].name`,
    );
    for (const [i, device] of devices.entries()) validateDevice(findings, `spec.devices[${i}]`, device);
    validateCounters(findings, spec.sharedCounters ?? []);
  },
  validateUpdate(object, old, findings) {
    for (const name of ['nodeName', 'driver'] as const)
      findings.immutable(`spec.${name}`, object.spec?.[name], old.spec?.[name]);
    if (!equal(object.spec?.pool?.name, old.spec?.pool?.name))
      findings.immutable('spec.pool.name', object.spec?.pool?.name, old.spec?.pool?.name);
  },
};

export const resourceRules: Readonly<Record<string, AnyRules>> = {
  ResourceClaim: resourceClaim,
  ResourceClaimTemplate: resourceClaimTemplate,
  ResourceSlice: resourceSlice,
  DeviceClass: deviceClass,
};
