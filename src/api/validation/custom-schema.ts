// Rules for the schema of a custom resource: which parts of OpenAPI v3 may be used, that it is structural (every
// field has a type outside of value validations), and what the x-kubernetes-* extensions need. Whether rules in CEL
// compile is for whoever evaluates them. After apiextensions-apiserver's validation.go and schema/validation.go.

import type { JSONSchemaProps, ValidationRule } from '../types/apiextensions-v1.ts';
import { equal, Findings } from './findings.ts';

type Level = 'root' | 'item' | 'field';

/** Where a value validation stands among others of one schema. */
interface Nested {
  readonly schema: JSONSchemaProps;
  readonly at: string;
}

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const reasons = ['FieldValueDuplicate', 'FieldValueForbidden', 'FieldValueInvalid', 'FieldValueRequired'];
const metaFields = ['apiVersion', 'kind', 'metadata'];

function asSchema(value: unknown): JSONSchemaProps | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JSONSchemaProps)
    : undefined;
}

function propertiesOf(schema: JSONSchemaProps): [string, JSONSchemaProps][] {
  return Object.entries(schema.properties ?? {});
}

/** What applies to the same value as the schema itself. */
function junctors(schema: JSONSchemaProps, at: string): Nested[] {
  const nested: Nested[] = [];
  for (const name of ['allOf', 'anyOf', 'oneOf'] as const)
    for (const [i, one] of (schema[name] ?? []).entries())
      nested.push({ schema: one, at: `${at}.${name}[${i}]` });
  if (schema.not !== undefined) nested.push({ schema: schema.not, at: `${at}.not` });
  return nested;
}

/** Whether the text is a regular expression; notations of RE2 that JavaScript writes in another way are let pass. */
export function isPattern(pattern: string): boolean {
  const plain = pattern
    .replace(/\(\?[imsU]+\)/g, '')
    .replace(/\(\?[imsU]+:/g, '(?:')
    .replace(/\(\?P</g, '(?<');
  try {
    new RegExp(plain);
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

const intOrString: readonly JSONSchemaProps[] = [{ type: 'integer' }, { type: 'string' }];

function isIntOrString(schemas: readonly JSONSchemaProps[] | undefined): boolean {
  return schemas?.length === 2 && equal(schemas, intOrString);
}

// What makes a schema structural.

function validatePattern(findings: Findings, at: string, pattern: string | undefined): void {
  if (pattern !== undefined && !isPattern(pattern))
    findings.invalid(`${at}.pattern`, pattern, "must be a valid regular expression, but isn't");
}

/** In a value validation, whatever would shape the value is out of place. */
function validateNested(
  findings: Findings,
  { schema, at }: Nested,
  options: { readonly intOrString?: boolean } = {},
): void {
  const out = (name: string, wrong: boolean, how: string) => {
    if (wrong) findings.forbidden(`${at}.${name}`, `must be ${how} to be structural`);
  };
  out('type', (schema.type ?? '') !== '', 'empty');
  out('additionalProperties', schema.additionalProperties !== undefined, 'undefined');
  out('default', schema.default !== undefined && schema.default !== null, 'undefined');
  out('title', (schema.title ?? '') !== '', 'empty');
  out('description', (schema.description ?? '') !== '', 'empty');
  out('nullable', schema.nullable === true, 'false');
  for (const name of ['preserve-unknown-fields', 'embedded-resource', 'int-or-string'] as const)
    out(`x-kubernetes-${name}`, schema[`x-kubernetes-${name}`] === true, 'false');
  out('x-kubernetes-list-map-keys', (schema['x-kubernetes-list-map-keys'] ?? []).length > 0, 'empty');
  out('x-kubernetes-list-type', schema['x-kubernetes-list-type'] !== undefined, 'undefined');
  out('x-kubernetes-map-type', schema['x-kubernetes-map-type'] !== undefined, 'undefined');
  out('x-kubernetes-validations', (schema['x-kubernetes-validations'] ?? []).length > 0, 'empty');
  if (schema.properties?.['metadata'] !== undefined)
    findings.forbidden(`${at}.properties[metadata]`, 'must not be specified in a nested context');
  validatePattern(findings, at, schema.pattern);
  for (const inner of junctors(schema, at)) {
    const skipped = options.intOrString === true && inner.at.startsWith(`${at}.anyOf[`);
    if (!skipped) validateNested(findings, inner);
  }
  const items = asSchema(schema.items);
  if (items !== undefined) validateNested(findings, { schema: items, at: `${at}.items` });
  for (const [name, field] of propertiesOf(schema))
    validateNested(findings, { schema: field, at: `${at}.properties[${name}]` });
}

function validateJunctors(findings: Findings, schema: JSONSchemaProps, at: string): void {
  const plain = isIntOrString(schema.anyOf);
  const first = isIntOrString(schema.allOf?.[0]?.anyOf);
  for (const nested of junctors(schema, at)) {
    if (plain && nested.at.startsWith(`${at}.anyOf[`)) continue;
    validateNested(findings, nested, { intOrString: first && nested.at === `${at}.allOf[0]` });
  }
  validatePattern(findings, at, schema.pattern);
}

function validateMetadata(
  findings: Findings,
  metadata: JSONSchemaProps,
  at: string,
  level: Level,
  checked: boolean,
): void {
  if (checked && metadata.type !== 'object')
    findings.invalid(`${at}.type`, metadata.type ?? '', 'must be object');
  if (level !== 'root') return;
  const { type: _type, default: _default, properties = {}, ...rest } = metadata;
  const named = Object.keys(properties).every((name) => name === 'name' || name === 'generateName');
  if (!named || !equal(rest, {}))
    findings.forbidden(
      at,
      'must not specify anything other than name and generateName, but metadata is implicitly specified',
    );
}

const emptyTypes: Readonly<Record<Level, string>> = {
  root: 'must not be empty at the root',
  item: 'must not be empty for specified array items',
  field: 'must not be empty for specified object fields',
};

function validateShape(findings: Findings, schema: JSONSchemaProps, at: string, level: Level): void {
  const { type = '' } = schema;
  const preserves = schema['x-kubernetes-preserve-unknown-fields'] === true;
  const embedded = schema['x-kubernetes-embedded-resource'] === true;
  const either = schema['x-kubernetes-int-or-string'] === true;
  const more = schema.additionalProperties;
  const items = asSchema(schema.items);
  if (type === 'array' && items === undefined) findings.required(`${at}.items`, 'must be specified');
  if (items !== undefined) validateShape(findings, items, `${at}.items`, 'item');
  for (const [name, field] of propertiesOf(schema))
    validateShape(findings, field, `${at}.properties[${name}]`, 'field');
  if (more !== undefined) {
    if (level === 'root') findings.forbidden(`${at}.additionalProperties`, 'must not be used at the root');
    const inner = asSchema(more);
    if (inner !== undefined) validateShape(findings, inner, `${at}.additionalProperties`, 'field');
  }
  const exclusive = 'must be false if x-kubernetes-int-or-string is true';
  if (either && preserves) findings.invalid(`${at}.x-kubernetes-preserve-unknown-fields`, true, exclusive);
  if (either && embedded) findings.invalid(`${at}.x-kubernetes-embedded-resource`, true, exclusive);
  validateJunctors(findings, schema, at);
  if (embedded && type !== 'object') {
    const must = 'must be object if x-kubernetes-embedded-resource is true';
    if (type === '') findings.required(`${at}.type`, must);
    else findings.invalid(`${at}.type`, type, must);
  } else if (type === '' && !either && !preserves) {
    findings.required(`${at}.type`, emptyTypes[level]);
  }
  if (embedded && more !== undefined)
    findings.forbidden(
      `${at}.additionalProperties`,
      'must not be used if x-kubernetes-embedded-resource is set',
    );
  if (level === 'root' && type !== '' && type !== 'object')
    findings.invalid(`${at}.type`, type, 'must be object at the root');
  const whole = level === 'root' || embedded;
  for (const name of ['kind', 'apiVersion']) {
    const field = schema.properties?.[name];
    if (whole && field !== undefined && field.type !== 'string')
      findings.invalid(`${at}.properties[${name}].type`, field.type ?? '', 'must be string');
  }
  const metadata = schema.properties?.['metadata'];
  if (metadata !== undefined)
    validateMetadata(findings, metadata, `${at}.properties[metadata]`, level, whole);
  if (embedded && !preserves && propertiesOf(schema).length === 0)
    findings.required(
      `${at}.properties`,
      'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields',
    );
}

/** Fields that a value validation speaks of must be there in the structure. */
function validateComplete(
  findings: Findings,
  nested: Nested,
  structure: JSONSchemaProps | undefined,
  at: string,
): void {
  if (structure === undefined) {
    findings.required(at, `because it is defined in ${nested.at}`);
    return;
  }
  for (const inner of junctors(nested.schema, nested.at)) validateComplete(findings, inner, structure, at);
  const items = asSchema(nested.schema.items);
  if (items !== undefined)
    validateComplete(
      findings,
      { schema: items, at: `${nested.at}.items` },
      asSchema(structure.items),
      `${at}.items`,
    );
  for (const [name, field] of propertiesOf(nested.schema))
    validateComplete(
      findings,
      { schema: field, at: `${nested.at}.properties[${name}]` },
      structure.properties?.[name],
      `${at}.properties[${name}]`,
    );
}

// What may be used at all.

function validateKeywords(findings: Findings, schema: JSONSchemaProps, at: string): void {
  if (schema.type !== undefined && schema.type !== '' && !types.includes(schema.type))
    findings.notSupported(`${at}.type`, schema.type, types);
  const unsupported = (name: string, set: boolean) => {
    if (set) findings.forbidden(`${at}.${name}`, `${name} is not supported`);
  };
  unsupported('id', (schema.id ?? '') !== '');
  unsupported('additionalItems', schema.additionalItems !== undefined);
  unsupported('patternProperties', Object.keys(schema.patternProperties ?? {}).length > 0);
  unsupported('definitions', Object.keys(schema.definitions ?? {}).length > 0);
  unsupported('dependencies', schema.dependencies !== undefined);
  unsupported('$ref', schema.$ref !== undefined);
  if (schema.type === 'null')
    findings.forbidden(`${at}.type`, 'type cannot be set to null, use nullable as an alternative');
  if (Array.isArray(schema.items))
    findings.forbidden(`${at}.items`, 'items must be a schema object and not an array');
  if (schema.uniqueItems === true)
    findings.forbidden(
      `${at}.uniqueItems`,
      'uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    );
  if (schema.additionalProperties !== undefined && propertiesOf(schema).length > 0)
    if (schema.additionalProperties !== true)
      findings.forbidden(
        `${at}.additionalProperties`,
        'additionalProperties and properties are mutual exclusive',
      );
  if (schema['x-kubernetes-preserve-unknown-fields'] === false)
    findings.invalid(`${at}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined');
}

function validateTypeFor(
  findings: Findings,
  schema: JSONSchemaProps,
  at: string,
  type: string,
  extension: string,
): boolean {
  if (schema.type === type) return true;
  const must = `must be ${type} if ${extension} is specified`;
  if (!schema.type) findings.required(`${at}.type`, must);
  else findings.invalid(`${at}.type`, schema.type, must);
  return false;
}

function validateMapKeys(findings: Findings, schema: JSONSchemaProps, at: string): void {
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const field = `${at}.x-kubernetes-list-map-keys`;
  const items = asSchema(schema.items);
  if (keys.length === 0) findings.required(field, 'must not be empty if x-kubernetes-list-type is map');
  if (schema.items === undefined)
    findings.required(`${at}.items`, 'must have a schema if x-kubernetes-list-type is map');
  if (items === undefined) return;
  if (items.type !== 'object') {
    findings.invalid(
      `${at}.items.type`,
      items.type ?? '',
      "must be object if parent array's x-kubernetes-list-type is map",
    );
    return;
  }
  for (const [i, key] of keys.entries()) {
    const property = items.properties?.[key];
    const where = `${at}.items.properties[${key}]`;
    if (property === undefined) findings.invalid(field, keys, 'entries must all be names of item properties');
    else {
      if (property.type === 'array' || property.type === 'object')
        findings.invalid(
          `${where}.type`,
          property.type,
          "must be a scalar type if parent array's x-kubernetes-list-type is map",
        );
      if (!(items.required ?? []).includes(key) && property.default === undefined)
        findings.required(
          `${where}.default`,
          'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
        );
      if (property.nullable === true)
        findings.forbidden(
          `${where}.nullable`,
          'this property is in x-kubernetes-list-map-keys, so it cannot be nullable',
        );
    }
    if (keys.indexOf(key) < i) findings.invalid(field, keys, 'must not contain duplicate entries');
  }
}

function validateListType(findings: Findings, schema: JSONSchemaProps, at: string): void {
  const type = schema['x-kubernetes-list-type'];
  const items = asSchema(schema.items);
  if (type !== undefined) {
    const list = validateTypeFor(findings, schema, at, 'array', 'x-kubernetes-list-type');
    if (!['atomic', 'set', 'map'].includes(type))
      findings.notSupported(`${at}.x-kubernetes-list-type`, type, ['atomic', 'set', 'map']);
    const atomic = 'must be atomic as item of a list with x-kubernetes-list-type=set';
    if (list && type === 'set' && items?.type === 'array')
      if ((items['x-kubernetes-list-type'] ?? 'atomic') !== 'atomic')
        findings.invalid(`${at}.items.x-kubernetes-list-type`, items['x-kubernetes-list-type'], atomic);
    if (list && type === 'set' && items?.type === 'object' && items['x-kubernetes-map-type'] !== 'atomic')
      findings.invalid(`${at}.items.x-kubernetes-map-type`, items['x-kubernetes-map-type'] ?? null, atomic);
    if ((type === 'set' || type === 'map') && items?.nullable === true)
      findings.forbidden(`${at}.items.nullable`, `cannot be nullable when x-kubernetes-list-type is ${type}`);
  }
  if ((schema['x-kubernetes-list-map-keys'] ?? []).length > 0 && type !== 'map') {
    const must = 'must be map if x-kubernetes-list-map-keys is non-empty';
    if (type === undefined) findings.required(`${at}.x-kubernetes-list-type`, must);
    else findings.invalid(`${at}.x-kubernetes-list-type`, type, must);
  }
  if (type === 'map') validateMapKeys(findings, schema, at);
}

function validateExpression(findings: Findings, at: string, rule: ValidationRule): void {
  const { message = '', messageExpression = '', fieldPath = '' } = rule;
  const text = (rule.rule ?? '').trim();
  if (text === '') findings.required(`${at}.rule`, 'rule is not specified');
  else if (message !== '' && message.trim() === '')
    findings.invalid(`${at}.message`, message, 'must be non-empty if specified');
  else if (/[\n\r]/.test(message.trim()))
    findings.invalid(`${at}.message`, message, 'must not contain line breaks');
  else if (/[\n\r]/.test(text) && message.trim() === '')
    findings.required(`${at}.message`, 'message must be specified if rule contains line breaks');
  if (messageExpression !== '' && messageExpression.trim() === '')
    findings.required(`${at}.messageExpression`, 'messageExpression must be non-empty if specified');
  if (rule.reason !== undefined && !reasons.includes(rule.reason))
    findings.notSupported(`${at}.reason`, rule.reason, reasons);
  if (fieldPath !== '' && fieldPath.trim() === '')
    findings.invalid(`${at}.fieldPath`, fieldPath, 'must be non-empty if specified');
  if (/[\n\r]/.test(fieldPath))
    findings.invalid(`${at}.fieldPath`, fieldPath, 'must not contain line breaks');
}

/** `noDefaults`: why values may not be defaulted here. */
function validateUse(
  findings: Findings,
  schema: JSONSchemaProps,
  at: string,
  context: { readonly root?: boolean; readonly noDefaults?: string; readonly inMeta?: boolean },
): void {
  validateKeywords(findings, schema, at);
  if (schema.default !== undefined && schema.default !== null && context.noDefaults !== undefined)
    findings.forbidden(`${at}.default`, `must not be set ${context.noDefaults}`);
  const embedded = schema['x-kubernetes-embedded-resource'] === true;
  if (context.inMeta === true && embedded)
    findings.forbidden(`${at}.x-kubernetes-embedded-resource`, 'must not be used inside of resource meta');
  const { root: _root, ...inner } = context;
  const more = asSchema(schema.additionalProperties);
  if (more !== undefined)
    validateUse(findings, more, `${at}.additionalProperties`, {
      ...inner,
      ...(context.inMeta === true && {
        noDefaults: 'inside additionalProperties applying to object metadata',
      }),
    });
  for (const [name, field] of propertiesOf(schema)) {
    const meta = (context.root === true || embedded) && metaFields.includes(name);
    validateUse(findings, field, `${at}.properties[${name}]`, {
      ...inner,
      ...(meta && { inMeta: true }),
      ...(meta && context.root === true && { noDefaults: `in top-level ${name}` }),
    });
  }
  for (const nested of junctors(schema, at)) validateUse(findings, nested.schema, nested.at, inner);
  const items = asSchema(schema.items);
  if (items !== undefined) validateUse(findings, items, `${at}.items`, inner);
  const mapType = schema['x-kubernetes-map-type'];
  if (mapType !== undefined) {
    validateTypeFor(findings, schema, at, 'object', 'x-kubernetes-map-type');
    if (mapType !== 'atomic' && mapType !== 'granular')
      findings.notSupported(`${at}.x-kubernetes-map-type`, mapType, ['atomic', 'granular']);
  }
  validateListType(findings, schema, at);
  for (const [i, rule] of (schema['x-kubernetes-validations'] ?? []).entries())
    validateExpression(findings, `${at}.x-kubernetes-validations[${i}]`, rule);
}

export function validateCustomSchema(findings: Findings, schema: JSONSchemaProps, at: string): void {
  if (schema.nullable === true) findings.forbidden(`${at}.nullable`, 'nullable cannot be true at the root');
  const structure = new Findings();
  validateShape(structure, schema, at, 'root');
  for (const nested of junctors(schema, at)) validateComplete(structure, nested, schema, at);
  structure.errors.sort((a, b) => (a.field < b.field ? -1 : a.field > b.field ? 1 : 0));
  findings.errors.push(...structure.errors);
  validateUse(findings, schema, at, { root: true });
}
