// The shape of an API type as a neutral tree: what decoding, pruning, defaulting, patching and OpenAPI follow.
// Built-in types are compiled from types.json (builtin.ts), one type at a time when it is first looked at; a
// CustomResourceDefinition's structural schema makes the same tree. A tree may be cyclic (JSONSchemaProps), so walk
// it along a value, never on its own.

export type TypeSchema = ObjectSchema | MapSchema | ListSchema | ScalarSchema | AnySchema;

interface SchemaBase {
  /** A JSON null is a value of this type (custom resources); elsewhere null means absent. */
  readonly nullable?: boolean;
  /** What stands for a missing list item or map value; a field's own default is on its FieldSchema. */
  readonly default?: unknown;
  /** Of a custom resource; the descriptions of built-in types are loaded apart, when OpenAPI asks for them. */
  readonly description?: string;
  /** What Go calls the type (`int32`, `v1.Protocol`, `[]v1.Container`), for the wording of type errors. */
  readonly goType: string;
}

/** An object with known fields. */
export interface ObjectSchema extends SchemaBase {
  readonly type: 'object';
  /** The OpenAPI name (`io.k8s.api.apps.v1.DeploymentSpec`); '' for a nameless one. */
  readonly name: string;
  /** In declaration order, which is also the order of the encoded form. */
  readonly fields: ReadonlyMap<string, FieldSchema>;
  /** Server-side apply: one owner for the whole object. */
  readonly atomic: boolean;
  /** Fields that are not in `fields` are kept as they are (x-kubernetes-preserve-unknown-fields). */
  readonly preserveUnknown: boolean;
  /** apiVersion, kind and metadata are those of an API object (x-kubernetes-embedded-resource). */
  readonly embeddedResource: boolean;
  /** Fields whose presence is not 'given'; see FieldSchema.presence. */
  readonly always: readonly FieldSchema[];
  /** Fields with a declared default. */
  readonly defaulted: readonly FieldSchema[];
}

/** A map from any string to values of one type. */
export interface MapSchema extends SchemaBase {
  readonly type: 'map';
  readonly values: TypeSchema;
  /** Server-side apply: one owner for the whole map. */
  readonly atomic: boolean;
}

export interface ListSchema extends SchemaBase {
  readonly type: 'list';
  readonly items: TypeSchema;
  /** Server-side apply: atomic has one owner, set merges values, map merges objects by `keys`. */
  readonly listType: 'atomic' | 'set' | 'map';
  /** The fields that name an item of a list of type map; else empty. */
  readonly keys: readonly string[];
}

export interface ScalarSchema extends SchemaBase {
  readonly type:
    | 'string'
    | 'boolean'
    | 'integer'
    | 'number'
    /** base64 text */
    | 'bytes'
    /** `100m`, `1Gi`; a number is taken too and made text */
    | 'quantity'
    | 'intOrString'
    /** RFC 3339 in UTC, whole seconds */
    | 'time'
    /** RFC 3339 in UTC, six decimals */
    | 'microTime'
    /** Go's duration form: `1h0m0s` */
    | 'duration';
  /** Of an integer. */
  readonly bits?: 32 | 64;
  /** The OpenAPI name of a type with a definition of its own (Time, Quantity, IntOrString). */
  readonly name?: string;
  /** The closed set of values that OpenAPI tells; not enforced by decoding. */
  readonly enum?: readonly string[];
}

/** What an AnySchema holds when not just anything: an object of one type, or one of the other forms named here. */
export interface Alternative {
  readonly object: ObjectSchema;
  readonly list?: 'objects' | 'strings';
  readonly boolean: boolean;
}

/** Any JSON value, kept as it is; atomic for server-side apply. */
export interface AnySchema extends SchemaBase {
  readonly type: 'any';
  /** Compiled at the first read. */
  readonly alternative?: Alternative;
  /** Only an object will do (RawExtension). */
  readonly objectOnly: boolean;
  /** The OpenAPI name of a type with a definition of its own (RawExtension, FieldsV1). */
  readonly name?: string;
}

export interface FieldSchema {
  readonly name: string;
  /** Of a custom resource, as above. */
  readonly description?: string;
  /** Compiled at the first read. */
  readonly schema: TypeSchema;
  readonly required: boolean;
  /**
   * When the field stands in the normal form of an object.
   * always: also when the client leaves it out, with its zero value (Go: neither pointer nor omitempty, or a struct);
   * nonEmpty: when its value is not '', 0, false, [] or {} (Go: omitempty, no pointer);
   * given: when the client gave it and it is not null (Go: a pointer; and custom resources).
   */
  readonly presence: 'always' | 'nonEmpty' | 'given';
  /** A declared default (a JSON value, not to be shared: copy it); undefined when there is none. */
  readonly default?: unknown;
  /** Strategic merge patch: merge, replace, retainKeys; empty when nothing is declared. */
  readonly patchStrategy: readonly ('merge' | 'replace' | 'retainKeys')[];
  /** Strategic merge patch: the field that names an item of the list; undefined for lists of scalars. */
  readonly patchMergeKey?: string;
  /** The field number, or the way to it through embedded messages, the outermost first; undefined when the field has none. */
  readonly protobuf?: number | readonly number[];
}
