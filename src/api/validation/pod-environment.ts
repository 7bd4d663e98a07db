// Environment variables and the references by which a container learns about its pod (the downward API).

import { configMapKey, dns1123Subdomain, environmentVariableName, qualifiedName } from '../names.ts';
import { quantitySign } from '../quantity.ts';
import type {
  EnvFromSource,
  EnvVar,
  EnvVarSource,
  ObjectFieldSelector,
  ResourceFieldSelector,
} from '../types/core-v1.ts';
import type { Findings } from './findings.ts';
import { validateNonReservedPath } from './paths.ts';

const environmentFieldPaths = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];

/** Every path that the downward API knows, in one place or another. */
const knownFieldPaths = new Set([
  ...environmentFieldPaths,
  'metadata.annotations',
  'metadata.labels',
  'spec.restartPolicy',
  'spec.host',
  'spec.schedulerName',
  'status.phase',
]);

const subscripted = /^(.*)\['([^']*)'\]$/;

export function validateFieldReference(
  findings: Findings,
  field: string,
  reference: ObjectFieldSelector,
  supported: readonly string[],
): void {
  const { apiVersion, fieldPath } = reference;
  if (!apiVersion) {
    findings.required(`${field}.apiVersion`);
    return;
  }
  if (!fieldPath) {
    findings.required(`${field}.fieldPath`);
    return;
  }
  const subscript = subscripted.exec(fieldPath);
  const path = subscript?.[1] ?? fieldPath;
  const unknown = (why: string) =>
    findings.invalid(`${field}.fieldPath`, fieldPath, `error converting fieldPath: ${why}`);
  if (apiVersion !== 'v1') {
    unknown(`unsupported pod version: ${apiVersion}`);
    return;
  }
  if (subscript !== null) {
    const key = subscript[2]!;
    if (path === 'metadata.annotations')
      for (const complaint of qualifiedName(key.toLowerCase()))
        findings.invalid(field, key.toLowerCase(), complaint);
    else if (path === 'metadata.labels') findings.text(field, key, qualifiedName);
    else if (knownFieldPaths.has(path)) findings.invalid(field, path, 'does not support subscript');
    else unknown(`field label does not support subscript: ${fieldPath}`);
    return;
  }
  if (!knownFieldPaths.has(path)) unknown(`field label not supported: ${path}`);
  else if (!supported.includes(path)) findings.notSupported(`${field}.fieldPath`, path, supported);
}

const resourceFields = [
  'limits.cpu',
  'limits.ephemeral-storage',
  'limits.memory',
  'requests.cpu',
  'requests.ephemeral-storage',
  'requests.memory',
];
const sizes = ['1', '1k', '1M', '1G', '1T', '1P', '1E', '1Ki', '1Mi', '1Gi', '1Ti', '1Pi', '1Ei'];

/** What a resource's amount may be divided by, and how the message names the resource. */
function divisors(
  resource: string,
): { readonly values: readonly string[]; readonly what: string } | undefined {
  const name = resource.replace(/^(limits|requests)\./, '');
  if (name === 'cpu') return { values: ['1m', '1'], what: 'cpu' };
  if (name === 'memory') return { values: sizes, what: 'memory' };
  if (name === 'ephemeral-storage') return { values: sizes, what: 'local ephemeral storage' };
  if (name.startsWith('hugepages-')) return { values: sizes, what: 'hugepages' };
  return undefined;
}

export function validateResourceFieldReference(
  findings: Findings,
  field: string,
  reference: ResourceFieldSelector,
  inVolume: boolean,
): void {
  const { resource, containerName, divisor = '0' } = reference;
  if (inVolume && !containerName) findings.required(`${field}.containerName`);
  else if (!resource) findings.required(`${field}.resource`);
  else if (!resourceFields.includes(resource) && !/^(limits|requests)\.hugepages-/.test(resource))
    findings.notSupported(`${field}.resource`, resource, resourceFields);
  const known = divisors(resource);
  if (known === undefined || quantitySign(divisor) === 0 || known.values.includes(divisor)) return;
  const list = known.what === 'cpu' ? `${known.values.join(' and ')} are` : `${known.values.join(', ')} are`;
  findings.invalid(
    `${field}.divisor`,
    resource,
    `only divisor's values ${list} supported with the ${known.what} resource`,
  );
}

function validateKeyReference(
  findings: Findings,
  field: string,
  reference: { readonly name?: string; readonly key: string },
): void {
  findings.text(`${field}.name`, reference.name ?? '', dns1123Subdomain);
  findings.name(`${field}.key`, reference.key, configMapKey);
}

function validateSource(findings: Findings, field: string, source: EnvVarSource, value: string): void {
  let sources = 0;
  if (source.fieldRef !== undefined) {
    sources++;
    validateFieldReference(findings, `${field}.fieldRef`, source.fieldRef, environmentFieldPaths);
  }
  if (source.resourceFieldRef !== undefined) {
    sources++;
    validateResourceFieldReference(findings, `${field}.resourceFieldRef`, source.resourceFieldRef, false);
  }
  for (const name of ['configMapKeyRef', 'secretKeyRef'] as const) {
    const reference = source[name];
    if (reference === undefined) continue;
    sources++;
    validateKeyReference(findings, `${field}.${name}`, reference);
  }
  if (source.fileKeyRef !== undefined) {
    sources++;
    const { volumeName, path, key } = source.fileKeyRef;
    const at = `${field}.fileKeyRef`;
    if (!volumeName) findings.required(`${at}.volumeName`);
    if (!path) findings.required(`${at}.path`);
    else validateNonReservedPath(findings, `${at}.path`, path);
    findings.name(`${at}.key`, key, environmentVariableName);
  }
  if (sources === 0)
    findings.invalid(
      field,
      '',
      'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
    );
  else if (value !== '') findings.invalid(field, '', 'may not be specified when `value` is not empty');
  else if (sources > 1) findings.invalid(field, '', 'may not have more than one field specified at a time');
}

export function validateEnvironment(
  findings: Findings,
  field: string,
  variables: readonly EnvVar[] | undefined,
): void {
  variables?.forEach((variable, i) => {
    const at = `${field}[${i}]`;
    findings.name(`${at}.name`, variable.name, environmentVariableName);
    if (variable.valueFrom !== undefined)
      validateSource(findings, `${at}.valueFrom`, variable.valueFrom, variable.value ?? '');
  });
}

export function validateEnvironmentFrom(
  findings: Findings,
  field: string,
  sources: readonly EnvFromSource[] | undefined,
): void {
  sources?.forEach((source, i) => {
    const at = `${field}[${i}]`;
    if (source.prefix) findings.text(`${at}.prefix`, source.prefix, environmentVariableName);
    let count = 0;
    for (const name of ['configMapRef', 'secretRef'] as const) {
      const reference = source[name];
      if (reference === undefined) continue;
      count++;
      findings.name(`${at}.${name}.name`, reference.name, dns1123Subdomain);
    }
    if (count === 0) findings.invalid(field, '', 'must specify one of: `configMapRef` or `secretRef`');
    else if (count > 1) findings.invalid(field, '', 'may not have more than one field specified at a time');
  });
}
