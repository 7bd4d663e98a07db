// TypeSchema trees → the schema objects of OpenAPI v2 and v3, named and extended as upstream's are, so that
// kubectl's explain, validation and patching and the generators of client libraries find what they look for.
//
// The two versions differ in the place of definitions, in how a reference carries a description (v3 wraps it in
// allOf), and in defaults (v2 has none: upstream prunes them there).

import { typeSchema } from '../schema/builtin.ts';
import type { FieldSchema, ObjectSchema, ScalarSchema, TypeSchema } from '../schema/type-schema.ts';
import type { Descriptions } from './descriptions.ts';

export type OpenApiVersion = 'v2' | 'v3';

export type Json = Record<string, unknown>;

export interface GroupVersionKindJson {
  readonly group: string;
  readonly kind: string;
  readonly version: string;
}

/** What a definition needs beside its type. */
export interface SchemaContext {
  readonly version: OpenApiVersion;
  readonly descriptions: Descriptions;
  /** Told of every definition that is referred to. */
  refer(name: string, schema: TypeSchema): void;
}

export function refPath(version: OpenApiVersion, name: string): string {
  return version === 'v2' ? `#/definitions/${name}` : `#/components/schemas/${name}`;
}

/** The OpenAPI name of a type that has a definition of its own. */
function definitionName(schema: TypeSchema): string {
  return 'name' in schema && schema.name !== undefined ? schema.name : '';
}

const FORMATS: Readonly<Record<ScalarSchema['type'], Json>> = {
  string: { type: 'string' },
  boolean: { type: 'boolean' },
  integer: { type: 'integer' },
  number: { type: 'number', format: 'double' },
  bytes: { type: 'string', format: 'byte' },
  quantity: { type: 'string' },
  intOrString: { type: 'string', format: 'int-or-string' },
  time: { type: 'string', format: 'date-time' },
  microTime: { type: 'string', format: 'date-time' },
  duration: { type: 'string' },
};

/** In v3 a type that takes numbers and strings says so. */
const UNIONS: Partial<Readonly<Record<ScalarSchema['type'], Json>>> = {
  quantity: { oneOf: [{ type: 'string' }, { type: 'number' }] },
  intOrString: { format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] },
};

/** The zero value that a Go value without pointer has when it is not given; undefined for those that can be nil. */
function zeroDefault(schema: TypeSchema): unknown {
  switch (schema.type) {
    case 'string':
      return '';
    case 'integer':
    case 'number':
      return 0;
    case 'boolean':
      return false;
    case 'object':
      return {};
    default:
      return undefined;
  }
}

function isCustom(schema: TypeSchema): boolean {
  return schema.goType === '';
}

/** A type where it is used: a reference when it has a definition of its own, else in place. */
function usage(schema: TypeSchema, context: SchemaContext, extras: Json): Json {
  const name = definitionName(schema);
  if (name === '') return { ...extras, ...body(schema, context) };
  context.refer(name, schema);
  const $ref = refPath(context.version, name);
  if (context.version === 'v2') return { ...extras, $ref };
  return Object.keys(extras).length === 0 ? { $ref } : { ...extras, allOf: [{ $ref }] };
}

function element(schema: TypeSchema, context: SchemaContext): Json {
  const value = schema.default ?? (isCustom(schema) ? undefined : zeroDefault(schema));
  return usage(schema, context, context.version === 'v3' && value !== undefined ? { default: value } : {});
}

/** What a type is, in place. */
function body(schema: TypeSchema, context: SchemaContext): Json {
  const common: Json = {
    ...(schema.description !== undefined && { description: schema.description }),
    ...(schema.nullable && context.version === 'v3' && { nullable: true }),
  };
  switch (schema.type) {
    case 'object':
      return { ...common, ...objectBody(schema, context) };
    case 'map':
      return {
        ...common,
        additionalProperties: element(schema.values, context),
        type: 'object',
        ...(schema.atomic && { 'x-kubernetes-map-type': 'atomic' }),
      };
    case 'list':
      return {
        ...common,
        items: element(schema.items, context),
        type: 'array',
        ...(schema.keys.length > 0 && { 'x-kubernetes-list-map-keys': schema.keys }),
        'x-kubernetes-list-type': schema.listType,
      };
    case 'any':
      return { ...common, ...(schema.objectOnly && { type: 'object' }) };
    case 'integer':
      return {
        ...common,
        ...scalarEnum(schema),
        format: schema.bits === 32 ? 'int32' : 'int64',
        type: 'integer',
      };
    default:
      return {
        ...common,
        ...scalarEnum(schema),
        ...((context.version === 'v3' && UNIONS[schema.type]) || FORMATS[schema.type]),
      };
  }
}

function scalarEnum(schema: ScalarSchema): Json {
  return schema.enum === undefined ? {} : { enum: schema.enum };
}

function objectBody(schema: ObjectSchema, context: SchemaContext): Json {
  const fields = [...schema.fields.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const required = fields.filter((f) => f.required).map((f) => f.name);
  const described = context.descriptions[schema.name];
  return {
    ...(required.length > 0 && { required }),
    type: 'object',
    ...(fields.length > 0 && {
      properties: Object.fromEntries(fields.map((f) => [f.name, property(f, described?.[f.name], context)])),
    }),
    ...(schema.atomic && { 'x-kubernetes-map-type': 'atomic' }),
    ...(schema.preserveUnknown && { 'x-kubernetes-preserve-unknown-fields': true }),
    ...(schema.embeddedResource && { 'x-kubernetes-embedded-resource': true }),
  };
}

function property(field: FieldSchema, described: string | undefined, context: SchemaContext): Json {
  const { schema } = field;
  const value =
    field.default ?? (field.presence === 'always' && !isCustom(schema) ? zeroDefault(schema) : undefined);
  const description = field.description ?? described ?? context.descriptions[definitionName(schema)]?.[''];
  const overridden =
    schema.type === 'object' && schema.name !== '' && schema.atomic !== typeSchema(schema.name).atomic;
  return {
    ...usage(schema, context, {
      ...(description !== undefined && { description }),
      ...(context.version === 'v3' && value !== undefined && { default: value }),
      ...(overridden && { 'x-kubernetes-map-type': schema.atomic ? 'atomic' : 'granular' }),
    }),
    ...(field.patchMergeKey !== undefined && { 'x-kubernetes-patch-merge-key': field.patchMergeKey }),
    ...(field.patchStrategy.length > 0 && { 'x-kubernetes-patch-strategy': field.patchStrategy.join(',') }),
  };
}

/** A whole definition: `definitions[name]` of v2, `components.schemas[name]` of v3. */
export function definition(
  name: string,
  schema: TypeSchema,
  kinds: readonly GroupVersionKindJson[],
  context: SchemaContext,
): Json {
  const description = context.descriptions[name]?.[''];
  return {
    ...(description !== undefined && { description }),
    ...body(schema, context),
    ...(kinds.length > 0 && { 'x-kubernetes-group-version-kind': kinds }),
  };
}
