// Rules for custom resource definitions. What all versions have in common is complained about once, under the names
// that upstream's internal form has for it (spec.validation, spec.subresources). After apiextensions-apiserver's
// pkg/apis/apiextensions/validation.

import { goQuote } from '../errors.ts';
import { isConditionTrue } from '../meta.ts';
import { dns1035Label, dns1123Subdomain } from '../names.ts';
import type {
  CustomResourceColumnDefinition,
  CustomResourceConversion,
  CustomResourceDefinition,
  CustomResourceDefinitionNames,
  CustomResourceDefinitionSpec,
  CustomResourceDefinitionVersion,
  CustomResourceSubresources,
  CustomResourceValidation,
  JSONSchemaProps,
  SelectableField,
} from '../types/apiextensions-v1.ts';
import { validateCustomSchema } from './custom-schema.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { validateClientConfig, validateReviewVersions } from './webhooks.ts';

const columnTypes = ['boolean', 'date', 'integer', 'number', 'string'];
const columnFormats = ['byte', 'date', 'date-time', 'double', 'float', 'int32', 'int64', 'password'];
const MOST_SELECTABLE_FIELDS = 8;
const MOST_WARNING = 256;
const APPROVED = 'api-approved.kubernetes.io';

/** One error for all complaints, as this group has it. */
function validateLabel(findings: Findings, field: string, label: string | undefined, mixed = false): void {
  if (label === undefined || label === '') return;
  const complaints = dns1035Label(mixed ? label.toLowerCase() : label);
  if (complaints.length === 0) return;
  const prefix = mixed ? 'may have mixed case, but should otherwise match: ' : '';
  findings.invalid(field, label, prefix + complaints.join(','));
}

function validateNames(
  findings: Findings,
  field: string,
  names: Partial<CustomResourceDefinitionNames>,
): void {
  validateLabel(findings, `${field}.plural`, names.plural);
  validateLabel(findings, `${field}.singular`, names.singular);
  validateLabel(findings, `${field}.kind`, names.kind, true);
  validateLabel(findings, `${field}.listKind`, names.listKind, true);
  for (const [i, name] of (names.shortNames ?? []).entries())
    validateLabel(findings, `${field}.shortNames[${i}]`, name);
  if (names.kind && names.kind === names.listKind)
    findings.invalid(`${field}.listKind`, names.listKind, 'kind and listKind may not be the same');
  for (const [i, category] of (names.categories ?? []).entries())
    validateLabel(findings, `${field}.categories[${i}]`, category);
}

function validatePath(
  findings: Findings,
  field: string,
  path: string | undefined,
  parents: readonly string[],
): void {
  if (!path) findings.required(field);
  else if (!path.startsWith('.')) findings.invalid(field, path, 'must be a simple json path starting with .');
  else if (parents.length > 0 && !parents.some((parent) => path.startsWith(`.${parent}.`)))
    findings.invalid(
      field,
      path,
      `should be a json path under ${parents.length > 1 ? 'either ' : ''}.${parents.join(' or .')}`,
    );
}

function validateSubresources(
  findings: Findings,
  field: string,
  subresources: CustomResourceSubresources | undefined,
): void {
  const scale = subresources?.scale;
  if (scale === undefined) return;
  validatePath(findings, `${field}.scale.specReplicasPath`, scale.specReplicasPath, ['spec']);
  validatePath(findings, `${field}.scale.statusReplicasPath`, scale.statusReplicasPath, ['status']);
  if (scale.labelSelectorPath)
    validatePath(findings, `${field}.scale.labelSelectorPath`, scale.labelSelectorPath, ['spec', 'status']);
}

function validateColumns(
  findings: Findings,
  field: string,
  columns: readonly CustomResourceColumnDefinition[],
): void {
  for (const [i, column] of columns.entries()) {
    const at = `${field}[${i}]`;
    if (!column.name) findings.required(`${at}.name`);
    const must = `must be one of ${columnTypes.join(',')}`;
    if (!column.type) findings.required(`${at}.type`, must);
    else if (!columnTypes.includes(column.type)) findings.invalid(`${at}.type`, column.type, must);
    if (column.format && !columnFormats.includes(column.format))
      findings.invalid(`${at}.format`, column.format, `must be one of ${columnFormats.join(',')}`);
    validatePath(findings, `${at}.JSONPath`, column.jsonPath, []);
  }
}

/** Fields of the root schema that stay when the status is taken out of it. */
const rootFields: ReadonlySet<string> = new Set([
  'description',
  'type',
  'format',
  'title',
  'maximum',
  'exclusiveMaximum',
  'minimum',
  'exclusiveMinimum',
  'maxLength',
  'minLength',
  'pattern',
  'maxItems',
  'minItems',
  'uniqueItems',
  'multipleOf',
  'required',
  'items',
  'properties',
  'externalDocs',
  'example',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-validations',
]);

function validateSchema(
  findings: Findings,
  field: string,
  validation: CustomResourceValidation | undefined,
  hasStatus: boolean,
): void {
  const schema = validation?.openAPIV3Schema;
  if (schema === undefined) return;
  const at = `${field}.openAPIV3Schema`;
  if (hasStatus) {
    if (schema.type && schema.type !== 'object')
      findings.invalid(
        `${at}.type`,
        schema.type,
        'only "object" is allowed as the type at the root of the schema if the status subresource is enabled',
      );
    const others = Object.keys(schema).filter(
      (name) => !rootFields.has(name) && !equal(schema[name as keyof JSONSchemaProps], undefined),
    );
    if (others.length > 0)
      findings.invalid(
        at,
        others,
        `only [${[...rootFields].join(' ')}] fields are allowed at the root of the schema if the status subresource is enabled`,
      );
  }
  validateCustomSchema(findings, schema, at);
}

function schemaAt(schema: JSONSchemaProps | undefined, path: readonly string[]): JSONSchemaProps | undefined {
  let here = schema;
  for (const step of path) {
    const properties: Readonly<Record<string, JSONSchemaProps>> = here?.properties ?? {};
    const more = here?.additionalProperties;
    if (Object.hasOwn(properties, step)) here = properties[step];
    else here = typeof more === 'object' && more !== null ? (more as JSONSchemaProps) : undefined;
  }
  return here;
}

function validateSelectableFields(
  findings: Findings,
  field: string,
  selectable: readonly SelectableField[],
  schema: JSONSchemaProps | undefined,
): void {
  const paths = new Set<string>();
  for (const [i, { jsonPath = '' }] of selectable.entries()) {
    const at = `${field}[${i}].jsonPath`;
    if (jsonPath === '') {
      findings.required(at);
      continue;
    }
    const steps = jsonPath.split('.').slice(1);
    if (!jsonPath.startsWith('.') || steps.length === 0 || jsonPath.includes('[') || steps.includes('')) {
      findings.invalid(at, jsonPath, 'is an invalid path: must be in the dot notation');
      continue;
    }
    if (steps[0] === 'metadata') findings.invalid(at, jsonPath, 'must not point to fields in metadata');
    const found = schemaAt(schema, steps);
    if (found === undefined)
      findings.invalid(at, jsonPath, 'is an invalid path: does not refer to a valid field');
    else if (!['string', 'boolean', 'integer'].includes(found.type ?? ''))
      findings.invalid(
        at,
        jsonPath,
        'must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.',
      );
    if (paths.has(jsonPath)) findings.duplicate(at, jsonPath);
    paths.add(jsonPath);
  }
  if (paths.size > MOST_SELECTABLE_FIELDS) findings.tooMany(field, paths.size, MOST_SELECTABLE_FIELDS);
}

function warningComplaints({ deprecated, deprecationWarning }: CustomResourceDefinitionVersion): string[] {
  if (deprecationWarning === undefined) return [];
  if (deprecated !== true) return ['can only be set for deprecated versions'];
  const complaints: string[] = [];
  if (Buffer.byteLength(deprecationWarning) > MOST_WARNING)
    complaints.push(`must be <= ${MOST_WARNING} characters long`);
  if (deprecationWarning === '') complaints.push('must not be an empty string');
  const hidden = deprecationWarning.search(/\p{C}|[\u2028\u2029]/u);
  if (hidden >= 0)
    complaints.push(
      `must only contain printable UTF-8 characters; non-printable character found at index ${hidden}`,
    );
  return complaints;
}

function validateConversion(findings: Findings, conversion: CustomResourceConversion | undefined): void {
  if (conversion === undefined) return;
  const field = 'spec.conversion';
  findings.oneOf(`${field}.strategy`, conversion.strategy, ['None', 'Webhook'], { required: true });
  const { clientConfig, conversionReviewVersions = [] } = conversion.webhook ?? {};
  if (conversion.strategy === 'Webhook') {
    if (clientConfig === undefined)
      findings.required(`${field}.webhookClientConfig`, 'required when strategy is set to Webhook');
    else validateClientConfig(findings, `${field}.webhookClientConfig`, clientConfig);
    if (conversionReviewVersions.length === 0) findings.required(`${field}.conversionReviewVersions`);
    else validateReviewVersions(findings, `${field}.conversionReviewVersions`, conversionReviewVersions);
    return;
  }
  const not = 'should not be set when strategy is not set to Webhook';
  if (clientConfig !== undefined) findings.forbidden(`${field}.webhookClientConfig`, not);
  if (conversionReviewVersions.length > 0) findings.forbidden(`${field}.conversionReviewVersions`, not);
}

/** Whether all versions have the same value here, and it is not absent. */
function isShared(values: readonly unknown[]): boolean {
  return (
    values.length > 0 &&
    values[0] !== undefined &&
    values.every((value) => value !== undefined && equal(value, values[0]))
  );
}

function validateVersions(findings: Findings, versions: readonly CustomResourceDefinitionVersion[]): void {
  const schemas = versions.map((version) => version.schema);
  const subresources = versions.map((version) => version.subresources);
  const columns = versions.map((version) => version.additionalPrinterColumns);
  const selectable = versions.map((version) => version.selectableFields);
  const hasStatus = (version: CustomResourceDefinitionVersion) => version.subresources?.status !== undefined;
  const shared = {
    schema: isShared(schemas),
    subresources: isShared(subresources),
    columns: isShared(columns),
    selectable: isShared(selectable),
  };
  if (!shared.schema || schemas[0]?.openAPIV3Schema === undefined)
    for (const [i, schema] of schemas.entries())
      if (schema?.openAPIV3Schema === undefined)
        findings.required(`spec.versions[${i}].schema.openAPIV3Schema`);
  for (const [i, version] of versions.entries()) {
    const at = `spec.versions[${i}]`;
    const complaints = dns1035Label(version.name ?? '');
    if (complaints.length > 0) findings.invalid(`${at}.name`, version.name ?? '', complaints.join(','));
    for (const complaint of warningComplaints(version))
      findings.invalid(`${at}.deprecationWarning`, version.deprecationWarning, complaint);
    if (!shared.schema) validateSchema(findings, `${at}.schema`, version.schema, hasStatus(version));
    if (!shared.subresources) validateSubresources(findings, `${at}.subresources`, version.subresources);
    if (!shared.columns)
      validateColumns(findings, `${at}.additionalPrinterColumns`, version.additionalPrinterColumns ?? []);
    if (!shared.selectable)
      validateSelectableFields(
        findings,
        `${at}.selectableFields`,
        version.selectableFields ?? [],
        version.schema?.openAPIV3Schema,
      );
  }
  if (new Set(versions.map((version) => version.name)).size < versions.length)
    findings.invalidWhole('spec.versions', 'must contain unique version names');
  if (versions.filter((version) => version.storage === true).length !== 1)
    findings.invalidWhole('spec.versions', 'must have exactly one version marked as storage version');
  if (shared.schema) validateSchema(findings, 'spec.validation', schemas[0], versions.some(hasStatus));
  if (shared.subresources) validateSubresources(findings, 'spec.subresources', subresources[0]);
  if (shared.columns) validateColumns(findings, 'spec.additionalPrinterColumns', columns[0] ?? []);
  if (shared.selectable)
    for (const schema of schemas)
      validateSelectableFields(
        findings,
        'spec.selectableFields',
        selectable[0] ?? [],
        schema?.openAPIV3Schema,
      );
}

/** Groups of the community are for APIs that it has approved. */
function validateApproval(findings: Findings, group: string, annotation: string): void {
  if (!/(^|\.)(k8s|kubernetes)\.io$/.test(group)) return;
  const field = `metadata.annotations[${APPROVED}]`;
  const see = 'see https://github.com/kubernetes/enhancements/pull/1111';
  if (annotation === '')
    findings.required(field, `protected groups must have approval annotation ${goQuote(APPROVED)}, ${see}`);
  else if (!annotation.startsWith('unapproved') && !/^[a-z][a-z0-9+.-]*:\/\/[^/]/i.test(annotation))
    findings.invalid(
      field,
      annotation,
      `protected groups must have approval annotation ${goQuote(APPROVED)} with either a URL or a reason starting with "unapproved", ${see}`,
    );
}

function validateStoredVersions(
  findings: Findings,
  stored: readonly string[],
  versions: readonly CustomResourceDefinitionVersion[],
): void {
  const field = 'status.storedVersions';
  if (stored.length === 0) {
    findings.invalid(field, stored, 'must have at least one stored version');
    return;
  }
  for (const version of versions)
    if (version.storage === true && !stored.includes(version.name))
      findings.invalid(field, stored, `must have the storage version ${version.name}`);
  for (const [i, name] of stored.entries())
    if (!versions.some((version) => version.name === name))
      findings.invalid(
        `${field}[${i}]`,
        name,
        `missing from spec.versions; ${name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${name} and removes ${name} from status.storedVersions`,
      );
}

const definition: KindRules<CustomResourceDefinition> = {
  validate({ metadata, spec = {} as CustomResourceDefinitionSpec, status }, findings) {
    const { group = '', names = {} as CustomResourceDefinitionNames, versions = [] } = spec;
    if (metadata.name !== undefined && metadata.name !== `${names.plural ?? ''}.${group}`)
      findings.invalid('metadata.name', metadata.name, 'must be spec.names.plural+"."+spec.group');
    const complaints = dns1123Subdomain(group);
    if (group === '') findings.required('spec.group');
    else if (complaints.length > 0) findings.invalid('spec.group', group, complaints.join(','));
    else if (!group.includes('.'))
      findings.invalid('spec.group', group, 'should be a domain with at least one dot');
    findings.oneOf('spec.scope', spec.scope, ['Cluster', 'Namespaced'], { required: true });
    validateVersions(findings, versions);
    for (const name of ['plural', 'singular', 'kind', 'listKind'] as const)
      if (!names[name]) findings.required(`spec.names.${name}`);
    validateNames(findings, 'spec.names', names);
    validateConversion(findings, spec.conversion);
    validateNames(findings, 'status.acceptedNames', status?.acceptedNames ?? {});
    validateStoredVersions(findings, status?.storedVersions ?? [], versions);
    if (spec.preserveUnknownFields === true)
      findings.invalid(
        'spec.preserveUnknownFields',
        true,
        'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead',
      );
  },
  validateNew({ metadata, spec }, findings) {
    validateApproval(findings, spec?.group ?? '', metadata.annotations?.[APPROVED] ?? '');
  },
  validateUpdate(object, old, findings) {
    if (isConditionTrue(old.status?.conditions, 'Established')) {
      findings.immutable('spec.scope', object.spec.scope, old.spec.scope);
      findings.immutable('spec.names.kind', object.spec.names?.kind, old.spec.names.kind);
    }
    findings.immutable('spec.group', object.spec.group, old.spec.group);
    findings.immutable('spec.names.plural', object.spec.names?.plural, old.spec.names.plural);
    const approval = object.metadata.annotations?.[APPROVED] ?? '';
    if (approval !== (old.metadata.annotations?.[APPROVED] ?? ''))
      validateApproval(findings, object.spec.group, approval);
  },
  validateStatusUpdate(object, _old, findings) {
    validateNames(findings, 'status.acceptedNames', object.status?.acceptedNames ?? {});
  },
};

export const apiExtensionsRules: Readonly<Record<string, AnyRules>> = {
  CustomResourceDefinition: definition,
};
