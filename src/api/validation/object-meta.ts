// The metadata of an object, with the rule that its kind has for names. After apimachinery's api/validation.

import { dns1035Label, dns1123Label, dns1123Subdomain, pathSegmentName, qualifiedName } from '../names.ts';
import { parseGroupVersion } from '../object.ts';
import type { ObjectMeta, OwnerReference } from '../types/meta-v1.ts';
import type { Findings, TextRule } from './findings.ts';

/** What a kind's names must look like. `prefix`: the text is a generateName, to which letters will be added. */
export type NameRule = (name: string, prefix: boolean) => readonly string[];

/** A generateName may end in a dash: what comes after it makes the name whole. */
function masked(name: string): string {
  return name.length > 1 && name.endsWith('-') ? `${name.slice(0, -2)}a` : name;
}

function nameRule(rule: TextRule): NameRule {
  return (name, prefix) => rule(prefix ? masked(name) : name);
}

export const subdomainName = nameRule(dns1123Subdomain);
export const labelName = nameRule(dns1123Label);
export const dns1035Name = nameRule(dns1035Label);
export const pathName = nameRule(pathSegmentName);

const MOST_ANNOTATION_BYTES = 256 * 1024;

export function validateObjectMeta(
  metadata: Partial<ObjectMeta>,
  namespaced: boolean,
  rule: NameRule,
  findings: Findings,
  field = 'metadata',
): void {
  const { name, generateName, namespace } = metadata;
  if (generateName)
    for (const complaint of rule(generateName, true))
      findings.invalid(`${field}.generateName`, generateName, complaint);
  if (!name) findings.required(`${field}.name`, 'name or generateName is required');
  else for (const complaint of rule(name, false)) findings.invalid(`${field}.name`, name, complaint);
  if (namespaced) findings.name(`${field}.namespace`, namespace, dns1123Label);
  else if (namespace) findings.forbidden(`${field}.namespace`, 'not allowed on this type');
  findings.notNegative(`${field}.generation`, metadata.generation);
  findings.labels(`${field}.labels`, metadata.labels);
  validateAnnotations(metadata.annotations, `${field}.annotations`, findings);
  validateOwners(metadata.ownerReferences, `${field}.ownerReferences`, findings);
  validateFinalizers(metadata.finalizers, `${field}.finalizers`, findings);
}

export function validateAnnotations(
  annotations: Readonly<Record<string, string>> | undefined,
  field: string,
  findings: Findings,
): void {
  let bytes = 0;
  for (const key in annotations) {
    // The case of letters in a key never mattered.
    for (const complaint of qualifiedName(key.toLowerCase())) findings.invalid(field, key, complaint);
    bytes += Buffer.byteLength(key) + Buffer.byteLength(annotations[key]!);
  }
  if (bytes > MOST_ANNOTATION_BYTES) findings.tooLong(field, MOST_ANNOTATION_BYTES);
}

function validateOwners(
  owners: readonly OwnerReference[] | undefined,
  field: string,
  findings: Findings,
): void {
  let controller = '';
  for (const owner of owners ?? []) {
    if (parseGroupVersion(owner.apiVersion).version === '')
      findings.invalid(`${field}.apiVersion`, owner.apiVersion, 'version must not be empty');
    for (const part of ['kind', 'name', 'uid'] as const)
      if (!owner[part]) findings.invalid(`${field}.${part}`, owner[part] ?? '', 'must not be empty');
    if (owner.apiVersion === 'v1' && owner.kind === 'Event')
      findings.invalid(field, owner, '/v1, Kind=Event is disallowed from being an owner');
    if (owner.controller !== true) continue;
    const name = `${owner.kind}/${owner.name}`;
    if (controller !== '')
      findings.invalid(
        field,
        owners,
        `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${name}`,
      );
    else controller = name;
  }
}

function validateFinalizers(
  finalizers: readonly string[] | undefined,
  field: string,
  findings: Findings,
): void {
  if (finalizers === undefined) return;
  for (const finalizer of finalizers) findings.text(field, finalizer, qualifiedName);
  if (finalizers.includes('orphan') && finalizers.includes('foregroundDeletion'))
    findings.invalid(field, finalizers, 'finalizer orphan and foregroundDeletion cannot be both set');
}
