// The resource definition: all that the API server needs to know about a resource, as one value. Built-in kinds are
// made from the schema and the tables in this folder; a CustomResourceDefinition makes another one at run time.
// The server has one pipeline for all of them.

import type { FieldError } from './errors.ts';
import type { GroupVersionKind, KubeObject } from './object.ts';
import type { ObjectSchema } from './schema/type-schema.ts';
import type { ApiVerb } from './transport.ts';

/** An object on its way through the server: decoded, private to the request, free to be changed. */
export interface MutableObject {
  apiVersion?: string;
  kind?: string;
  metadata: Record<string, unknown> & {
    name?: string;
    namespace?: string;
    generateName?: string;
    uid?: string;
    resourceVersion?: string;
    generation?: number;
    creationTimestamp?: string;
    deletionTimestamp?: string;
    deletionGracePeriodSeconds?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    finalizers?: string[];
    ownerReferences?: {
      apiVersion: string;
      kind: string;
      name: string;
      uid: string;
      controller?: boolean;
      blockOwnerDeletion?: boolean;
    }[];
  };
  [field: string]: unknown;
}

export interface SubresourceDefinition {
  readonly name: string;
  readonly verbs: readonly ApiVerb[];
  /** What its body is: `autoscaling/v1 Scale`, or the kind itself for status. */
  readonly kind: GroupVersionKind;
}

/** A column of the server-side table (`kubectl get`). */
export interface TableColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'number' | 'date';
  readonly format: string;
  /** 0: always shown; more: only with -o wide. */
  readonly priority: number;
  readonly description: string;
}

/**
 * What a kind does differently from every other. All functions are pure and synchronous; what needs other
 * objects (quota, service accounts, namespaces) is admission, not strategy.
 */
export interface Strategy {
  /** Drops or sets what a client may not choose at creation (status, for one) before validation. */
  prepareForCreate?(object: MutableObject): void;
  /** The same for an update through the main resource: keeps the old status, resets what is managed. */
  prepareForUpdate?(object: MutableObject, old: KubeObject): void;
  /** The same for an update through `status`: keeps all but the status, and notes `now` (ms since the epoch) where the status tells when it changed. The default copies everything but `status` from old. */
  prepareForStatusUpdate?(object: MutableObject, old: KubeObject, now?: number): void;
  validate?(object: KubeObject): FieldError[];
  /** Beside `validate(object)`: what only a new object may not have. */
  validateNew?(object: KubeObject): FieldError[];
  /** Beside `validate(object)`: what may not change. */
  validateUpdate?(object: KubeObject, old: KubeObject): FieldError[];
  validateStatusUpdate?(object: KubeObject, old: KubeObject): FieldError[];
  /** True when metadata.generation counts changes of this kind; the server compares all but metadata and status. */
  readonly generation: boolean;
  /** True when a change of metadata.annotations counts in metadata.generation too. */
  readonly generationCountsAnnotations?: boolean;
  /** True when PUT to a name that does not exist creates it. */
  readonly allowCreateOnUpdate: boolean;
  /** True when an update without resourceVersion is taken as it is (the last write wins). */
  readonly allowUnconditionalUpdate: boolean;
  /** Fields that field selectors may name, beside metadata.name and metadata.namespace. */
  readonly selectableFields: readonly string[];
  /** The grace period in seconds that a delete gets when it asks for `requested` (undefined: nothing). Absent: kinds deleted at once. */
  gracePeriodSeconds?(object: KubeObject, requested: number | undefined): number;
  /** What orphan/background/foreground means when the client does not say. */
  readonly defaultGarbageCollection: 'background' | 'orphan';
}

export interface ResourceDefinition {
  /** '' for the core group. */
  readonly group: string;
  readonly version: string;
  /** Plural, as in URLs. */
  readonly resource: string;
  readonly singular: string;
  readonly kind: string;
  readonly listKind: string;
  readonly namespaced: boolean;
  readonly verbs: readonly ApiVerb[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: ReadonlyMap<string, SubresourceDefinition>;
  /** The schema that decoding, pruning, defaulting, patching and OpenAPI follow. */
  readonly schema: ObjectSchema;
  /**
   * Where objects live in the store and in which form. Versions of one resource share it. Keys are
   * /registry/<group>/<resource>/[<namespace>/]<name>, with the group left out when it is ''.
   */
  readonly storage: {
    readonly group: string;
    readonly resource: string;
    readonly version: string;
    readonly keyPrefix: string;
  };
  /** Converts between this version and the storage version; absent when both have the same shape. */
  readonly conversion?: {
    toStorage(object: MutableObject): MutableObject;
    fromStorage(object: MutableObject): MutableObject;
  };
  readonly strategy: Strategy;
  readonly columns: readonly TableColumn[];
  /** The cells of one object's row, in the order of `columns`; `now` in ms since the epoch (for ages). */
  cells(object: KubeObject, now: number): unknown[];
}

/** Every resource that is served, with look-ups by URL and by kind. Changes when a CRD comes or goes. */
export interface ResourceCatalog {
  /** All definitions, groups and versions in upstream's discovery order. */
  all(): readonly ResourceDefinition[];
  byResource(group: string, version: string, resource: string): ResourceDefinition | undefined;
  byKind(group: string, version: string, kind: string): ResourceDefinition | undefined;
  /** Served versions of a group, the preferred one first. */
  versions(group: string): readonly string[];
  groups(): readonly string[];
}
