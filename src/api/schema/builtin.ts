// The built-in types as TypeSchema trees, compiled from types.json (its format: see the interfaces below) one type at
// a time, when it is first asked for. Compiled types are immutable and the same for every cluster of the process, so
// they are kept in one memo.

import kindFacts from './kinds.json' with { type: 'json' };
import type {
  Alternative,
  AnySchema,
  FieldSchema,
  ListSchema,
  ObjectSchema,
  ScalarSchema,
  TypeSchema,
} from './type-schema.ts';
import typeFacts from './types.json' with { type: 'json' };

/** `[jsonName, type, flags, protobuf number(s), attributes]`; flags: r required, o omitempty, z omitzero, p pointer. */
type FieldFacts = readonly [
  name: string,
  type: string,
  flags: string,
  proto: number | readonly number[] | null,
  attributes?: FieldAttributes,
];

interface FieldAttributes {
  /** listType, listMapKeys, mapType, structType. */
  readonly lt?: 'atomic' | 'set' | 'map';
  readonly lk?: readonly string[];
  readonly mt?: 'atomic' | 'granular';
  readonly st?: 'atomic' | 'granular';
  /** patchStrategy, patchMergeKey. */
  readonly ps?: string;
  readonly pk?: string;
  /** Declared default. */
  readonly d?: unknown;
}

interface TypeFacts {
  /** Fields of a struct. */
  readonly f?: readonly FieldFacts[];
  readonly k?: 'scalar' | 'special';
  /** What a scalar or special is in OpenAPI. */
  readonly t?: string;
  /** Closed set of values. */
  readonly e?: readonly string[];
  /** The form of a special. */
  readonly fmt?: string;
  readonly st?: 'atomic' | 'granular';
}

/** A kind that the API knows, served or not. */
export interface KindFacts {
  readonly g: string;
  readonly v: string;
  readonly kind: string;
  readonly type: string;
  readonly list?: string;
  /** Not registered as a kind. */
  readonly unreg?: unknown;
}

const types = typeFacts.types as unknown as Readonly<Record<string, TypeFacts>>;
const compiled = new Map<string, TypeSchema>();
const noFields: readonly FieldSchema[] = [];

const GO_PACKAGES: Readonly<Record<string, string>> = {
  'io.k8s.apimachinery.pkg.api.resource': 'resource',
  'io.k8s.apimachinery.pkg.util.intstr': 'intstr',
  'io.k8s.apimachinery.pkg.types': 'types',
  'io.k8s.apimachinery.pkg.runtime': 'runtime',
};

/** `io.k8s.api.core.v1.Container` → `v1.Container`, as Go prints it. */
function goTypeOf(name: string): string {
  const last = name.lastIndexOf('.');
  const path = name.slice(0, last);
  return `${GO_PACKAGES[path] ?? path.slice(path.lastIndexOf('.') + 1)}${name.slice(last)}`;
}

const SCALARS: Readonly<Record<string, ScalarSchema>> = {
  string: { type: 'string', goType: 'string' },
  boolean: { type: 'boolean', goType: 'bool' },
  int32: { type: 'integer', bits: 32, goType: 'int32' },
  int64: { type: 'integer', bits: 64, goType: 'int64' },
  double: { type: 'number', goType: 'float64' },
  float: { type: 'number', goType: 'float32' },
  bytes: { type: 'bytes', goType: '[]uint8' },
};

const SPECIALS: Readonly<Record<string, (goType: string) => TypeSchema>> = {
  json: (goType) => ({ type: 'any', objectOnly: false, goType }),
  'json-embedded': (goType) => ({ type: 'any', objectOnly: true, goType }),
  'schema-or-schema-array': (goType) => schemaUnion(goType, { list: 'objects', boolean: false }),
  'schema-or-bool': (goType) => schemaUnion(goType, { boolean: true }),
  'schema-or-string-array': (goType) => schemaUnion(goType, { list: 'strings', boolean: false }),
  quantity: (goType) => ({ type: 'quantity', goType }),
  'int-or-string': (goType) => ({ type: 'intOrString', goType }),
  'date-time': (goType) => ({ type: 'time', goType }),
  'date-time-micro': (goType) => ({ type: 'microTime', goType }),
  duration: (goType) => ({ type: 'duration', goType }),
};

const JSON_SCHEMA = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps';

/** A CustomResourceDefinition's schema where something else may stand, too. */
function schemaUnion(goType: string, forms: Omit<Alternative, 'object'>): AnySchema {
  return {
    type: 'any',
    objectOnly: false,
    goType,
    get alternative() {
      return { object: typeSchema(JSON_SCHEMA), ...forms };
    },
  };
}

class BuiltinField implements FieldSchema {
  readonly name: string;
  readonly required: boolean;
  readonly presence: FieldSchema['presence'];
  readonly default: unknown;
  readonly patchStrategy: FieldSchema['patchStrategy'];
  readonly patchMergeKey: string | undefined;
  readonly protobuf: FieldSchema['protobuf'];
  readonly #facts: FieldFacts;
  #schema: TypeSchema | undefined;

  constructor(facts: FieldFacts) {
    const [name, type, flags, proto, attributes] = facts;
    this.#facts = facts;
    this.name = name;
    this.required = flags.includes('r');
    this.presence = presenceOf(type, flags);
    // A zero default says nothing that the zero value of a field without pointer does not say already.
    this.default =
      attributes?.d === undefined || (this.presence !== 'given' && isZero(attributes.d))
        ? undefined
        : attributes.d;
    this.patchStrategy = (attributes?.ps?.split(',') ?? []) as FieldSchema['patchStrategy'];
    this.patchMergeKey = attributes?.pk;
    this.protobuf = proto === null || proto === 0 ? undefined : proto;
  }

  get schema(): TypeSchema {
    this.#schema ??= compileType(this.#facts[1], this.#facts[4]);
    return this.#schema;
  }
}

function isZero(value: unknown): boolean {
  return value === '' || value === 0 || value === false;
}

/**
 * Go's encoding as a rule on presence. A time that is zero and a raw extension that is nil would be null in Go's
 * JSON; null and absent mean the same to every reader, so they are left out.
 */
function presenceOf(type: string, flags: string): FieldSchema['presence'] {
  if (flags.includes('p') || flags.includes('z') || type === 'any') return 'given';
  if (type.startsWith('@')) {
    const facts = types[type.slice(1)];
    if (facts?.k !== 'special') return 'always';
    return facts.fmt === 'quantity' || facts.fmt === 'int-or-string' || facts.fmt === 'duration'
      ? 'always'
      : 'given';
  }
  return flags.includes('o') ? 'nonEmpty' : 'always';
}

class BuiltinObject implements ObjectSchema {
  readonly type = 'object';
  readonly name: string;
  readonly goType: string;
  readonly fields: ReadonlyMap<string, FieldSchema>;
  readonly atomic: boolean;
  readonly preserveUnknown = false;
  readonly embeddedResource = false;
  readonly always: readonly FieldSchema[];
  readonly defaulted: readonly FieldSchema[];

  constructor(
    from: Pick<ObjectSchema, 'name' | 'goType' | 'fields' | 'always' | 'defaulted'>,
    atomic: boolean,
  ) {
    this.name = from.name;
    this.goType = from.goType;
    this.fields = from.fields;
    this.always = from.always;
    this.defaulted = from.defaulted;
    this.atomic = atomic;
  }
}

function compileObject(name: string, facts: TypeFacts): ObjectSchema {
  const fields = (facts.f ?? []).map((f): FieldSchema => new BuiltinField(f));
  const always = fields.filter((f) => f.presence === 'always');
  const defaulted = fields.filter((f) => f.default !== undefined);
  return new BuiltinObject(
    {
      name,
      goType: goTypeOf(name),
      fields: new Map(fields.map((f) => [f.name, f])),
      always: always.length === 0 ? noFields : always,
      defaulted: defaulted.length === 0 ? noFields : defaulted,
    },
    facts.st === 'atomic',
  );
}

function compileType(type: string, attributes: FieldAttributes | undefined): TypeSchema {
  if (type.startsWith('[]')) {
    const items = compileType(type.slice(2), undefined);
    const listType = attributes?.lt ?? 'atomic';
    return {
      type: 'list',
      items,
      listType,
      keys: listType === 'map' ? (attributes?.lk ?? []) : [],
      goType: `[]${items.goType}`,
    } satisfies ListSchema;
  }
  if (type.startsWith('{}')) {
    const values = compileType(type.slice(2), undefined);
    return {
      type: 'map',
      values,
      atomic: attributes?.mt === 'atomic',
      goType:
        type === '{}@io.k8s.apimachinery.pkg.api.resource.Quantity'
          ? 'v1.ResourceList'
          : `map[string]${values.goType}`,
    };
  }
  if (type === 'any') return { type: 'any', objectOnly: false, goType: 'interface {}' };
  if (!type.startsWith('@') && !type.startsWith('=')) {
    const scalar = SCALARS[type];
    if (!scalar) throw new Error(`types.json names an unknown type: ${type}`);
    return scalar;
  }
  const named = compileNamed(type.slice(1));
  if (attributes?.st && named.type === 'object' && named.atomic !== (attributes.st === 'atomic'))
    return new BuiltinObject(named, attributes.st === 'atomic');
  return named;
}

function compileNamed(name: string): TypeSchema {
  const known = compiled.get(name);
  if (known) return known;
  const facts = types[name];
  if (!facts) throw new Error(`types.json has no type ${name}`);
  let schema: TypeSchema;
  if (facts.k === 'scalar') {
    const base = SCALARS[facts.t ?? 'string'];
    if (!base) throw new Error(`types.json names an unknown scalar for ${name}: ${facts.t}`);
    schema = { ...base, goType: goTypeOf(name), ...(facts.e && { enum: facts.e }) };
  } else if (facts.k === 'special') {
    const special = SPECIALS[facts.fmt ?? ''];
    if (!special) throw new Error(`types.json names an unknown form for ${name}: ${facts.fmt}`);
    schema = Object.assign(special(goTypeOf(name)), { name });
  } else {
    schema = compileObject(name, facts);
  }
  compiled.set(name, schema);
  return schema;
}

/** The object type with this OpenAPI name (`io.k8s.api.apps.v1.Deployment`). Throws when there is none. */
export function typeSchema(name: string): ObjectSchema {
  const schema = compileNamed(name);
  if (schema.type !== 'object') throw new Error(`${name} is not an object type`);
  return schema;
}

/** Every OpenAPI name in types.json. */
export function typeNames(): readonly string[] {
  return Object.keys(types);
}

/** Any type with this OpenAPI name, named scalars and special forms too. Throws when there is none. */
export function namedSchema(name: string): TypeSchema {
  return compileNamed(name);
}

/** What types.json says of a named scalar or special form, for OpenAPI; undefined for structs and unknown names. */
export function namedForm(name: string): { readonly type: string; readonly format?: string } | undefined {
  const facts = types[name];
  return facts?.k === undefined ? undefined : { type: facts.t ?? 'string', format: facts.fmt };
}

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.';
const kinds = new Map<string, KindFacts>();
for (const facts of kindFacts.kinds as readonly KindFacts[])
  if (!facts.unreg) kinds.set(`${facts.g}/${facts.v}/${facts.kind}`, facts);

/** Kinds that every group has under its own name: options, WatchEvent and Status. */
const COMMON_KINDS: ReadonlySet<string> = new Set([
  'CreateOptions',
  'UpdateOptions',
  'PatchOptions',
  'DeleteOptions',
  'GetOptions',
  'ListOptions',
]);

/** The type of a kind; undefined when no such kind is registered. */
export function schemaOfKind(group: string, version: string, kind: string): ObjectSchema | undefined {
  const facts = kinds.get(`${group}/${version}/${kind}`);
  if (facts) return typeSchema(facts.type);
  return COMMON_KINDS.has(kind) ? typeSchema(META + kind) : undefined;
}

/** The type of a kind's list; undefined when it has none. */
export function listSchemaOfKind(group: string, version: string, kind: string): ObjectSchema | undefined {
  const facts = kinds.get(`${group}/${version}/${kind}`);
  if (facts?.list === undefined) return undefined;
  return typeSchema(facts.type.slice(0, facts.type.lastIndexOf('.') + 1) + facts.list);
}

/** The kinds, lists among them, that a type is registered as. */
export function kindsOfType(
  name: string,
): readonly { readonly group: string; readonly kind: string; readonly version: string }[] {
  const at = name.lastIndexOf('.') + 1;
  const local = name.slice(at);
  const out: { readonly group: string; readonly kind: string; readonly version: string }[] = [];
  for (const { g: group, v: version, kind, type, list } of kinds.values()) {
    if (type === name) out.push({ group, kind, version });
    else if (list === local && type.startsWith(name.slice(0, at)) && type.lastIndexOf('.') + 1 === at)
      out.push({ group, kind: list, version });
  }
  return out;
}
