// The resource catalog: the table in resources.ts made into resource definitions, with room for those that
// CustomResourceDefinitions add at run time. Definitions are values; what is costly in them (the schema) is made when
// it is first looked at.

import { columnsFor } from './columns/index.ts';
import { eventConversion } from './conversion/events.ts';
import { autoscalerConversion } from './conversion/horizontalpodautoscaler.ts';
import type {
  ResourceCatalog,
  ResourceDefinition,
  Strategy,
  SubresourceDefinition,
  TableColumn,
} from './definition.ts';
import { type KubeObject, parseGroupVersion } from './object.ts';
import { RESOURCES, type ResourceRow } from './resources.ts';
import { schemaOfKind } from './schema/builtin.ts';
import type { ObjectSchema } from './schema/type-schema.ts';
import { strategyFor } from './strategies/index.ts';
import type { ApiVerb } from './transport.ts';

/** A catalog whose owner may add and remove definitions; all others read it as a ResourceCatalog. */
export interface MutableResourceCatalog extends ResourceCatalog {
  /** Adds a definition, or replaces the one of the same group, version and resource. */
  add(definition: ResourceDefinition): void;
  /** True when there was one. */
  remove(group: string, version: string, resource: string): boolean;
}

const ALL_VERBS: readonly ApiVerb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];

/** Where a resource is stored when not under its own group and version. */
const SHARED_STORAGE: Readonly<
  Record<
    string,
    {
      readonly group: string;
      readonly version: string;
      readonly conversion: NonNullable<ResourceDefinition['conversion']>;
    }
  >
> = {
  'events.k8s.io/v1/events': { group: '', version: 'v1', conversion: eventConversion },
  'autoscaling/v1/horizontalpodautoscalers': {
    group: 'autoscaling',
    version: 'v2',
    conversion: autoscalerConversion,
  },
};

/** The store's prefix of a resource: `/registry/pods/`, `/registry/apps/deployments/`. */
export function storageKeyPrefix(group: string, resource: string): string {
  return group === '' ? `/registry/${resource}/` : `/registry/${group}/${resource}/`;
}

class BuiltinDefinition implements ResourceDefinition {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly singular: string;
  readonly kind: string;
  readonly listKind: string;
  readonly namespaced: boolean;
  readonly verbs: readonly ApiVerb[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: ReadonlyMap<string, SubresourceDefinition>;
  readonly storage: ResourceDefinition['storage'];
  readonly conversion?: NonNullable<ResourceDefinition['conversion']>;
  #schema: ObjectSchema | undefined;
  #strategy: Strategy | undefined;
  #table:
    | { readonly columns: readonly TableColumn[]; cells(object: KubeObject, now: number): unknown[] }
    | undefined;

  constructor(row: ResourceRow) {
    this.group = row.group;
    this.version = row.version;
    this.resource = row.resource;
    this.singular = row.kind.toLowerCase();
    this.kind = row.kind;
    this.listKind = `${row.kind}List`;
    this.namespaced = row.namespaced ?? true;
    this.verbs = row.verbs ?? ALL_VERBS;
    this.shortNames = row.shortNames ?? [];
    this.categories = row.categories ?? [];
    this.subresources = new Map(
      Object.entries(row.subresources ?? {}).map(([name, sub]) => [
        name,
        {
          name,
          verbs: sub.verbs,
          kind: {
            ...(sub.apiVersion === undefined
              ? { group: row.group, version: row.version }
              : parseGroupVersion(sub.apiVersion)),
            kind: sub.kind ?? row.kind,
          },
        },
      ]),
    );
    const shared = SHARED_STORAGE[`${row.group}/${row.version}/${row.resource}`];
    const group = shared?.group ?? row.group;
    this.storage = {
      group,
      resource: row.resource,
      version: shared?.version ?? row.version,
      keyPrefix: storageKeyPrefix(group, row.resource),
    };
    if (shared) this.conversion = shared.conversion;
  }

  get schema(): ObjectSchema {
    if (!this.#schema) {
      this.#schema = schemaOfKind(this.group, this.version, this.kind);
      if (!this.#schema)
        throw new Error(`the schema has no kind ${this.kind} in ${this.group}/${this.version}`);
    }
    return this.#schema;
  }

  get strategy(): Strategy {
    this.#strategy ??= strategyFor(this.group, this.kind);
    return this.#strategy;
  }

  get columns(): readonly TableColumn[] {
    this.#table ??= columnsFor(this.group, this.kind);
    return this.#table.columns;
  }

  cells(object: KubeObject, now: number): unknown[] {
    this.#table ??= columnsFor(this.group, this.kind);
    return this.#table.cells(object, now);
  }
}

/** v2 before v1 before v1beta1 before v1alpha1 before anything else: apimachinery's order of versions. */
export function compareVersions(a: string, b: string): number {
  const rank = (version: string): readonly [number, number, number] | undefined => {
    const match = /^v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$/.exec(version);
    if (!match) return undefined;
    const stability = match[2] === undefined ? 2 : match[2] === 'beta' ? 1 : 0;
    return [stability, Number(match[1]), Number(match[3] ?? 0)];
  };
  const [ra, rb] = [rank(a), rank(b)];
  if (!ra || !rb) return ra ? -1 : rb ? 1 : a < b ? -1 : a > b ? 1 : 0;
  return rb[0] - ra[0] || rb[1] - ra[1] || rb[2] - ra[2];
}

class Catalog implements MutableResourceCatalog {
  readonly #byResource = new Map<string, ResourceDefinition>();
  readonly #byKind = new Map<string, ResourceDefinition>();
  /** Group → versions, preferred first. */
  readonly #versions = new Map<string, string[]>();
  #all: readonly ResourceDefinition[] | undefined;

  constructor(definitions: Iterable<ResourceDefinition>) {
    for (const definition of definitions) this.#insert(definition);
  }

  #insert(definition: ResourceDefinition): void {
    const { group, version, resource, kind } = definition;
    this.#byResource.set(`${group}/${version}/${resource}`, definition);
    this.#byKind.set(`${group}/${version}/${kind}`, definition);
    const versions = this.#versions.get(group);
    if (!versions) this.#versions.set(group, [version]);
    else if (!versions.includes(version)) versions.push(version);
    this.#all = undefined;
  }

  add(definition: ResourceDefinition): void {
    this.remove(definition.group, definition.version, definition.resource);
    this.#insert(definition);
    this.#versions.get(definition.group)?.sort(compareVersions);
  }

  remove(group: string, version: string, resource: string): boolean {
    const definition = this.#byResource.get(`${group}/${version}/${resource}`);
    if (!definition) return false;
    this.#byResource.delete(`${group}/${version}/${resource}`);
    if (this.#byKind.get(`${group}/${version}/${definition.kind}`) === definition)
      this.#byKind.delete(`${group}/${version}/${definition.kind}`);
    this.#all = undefined;
    if (![...this.#byResource.values()].some((d) => d.group === group && d.version === version)) {
      const left = (this.#versions.get(group) ?? []).filter((v) => v !== version);
      if (left.length === 0) this.#versions.delete(group);
      else this.#versions.set(group, left);
    }
    return true;
  }

  all(): readonly ResourceDefinition[] {
    this.#all ??= [...this.#versions].flatMap(([group, versions]) =>
      versions.flatMap((version) =>
        [...this.#byResource.values()].filter((d) => d.group === group && d.version === version),
      ),
    );
    return this.#all;
  }

  byResource(group: string, version: string, resource: string): ResourceDefinition | undefined {
    return this.#byResource.get(`${group}/${version}/${resource}`);
  }

  byKind(group: string, version: string, kind: string): ResourceDefinition | undefined {
    return this.#byKind.get(`${group}/${version}/${kind}`);
  }

  versions(group: string): readonly string[] {
    return this.#versions.get(group) ?? [];
  }

  groups(): readonly string[] {
    return [...this.#versions.keys()];
  }
}

/** A catalog of all built-in resources, for one server. */
export function createCatalog(): MutableResourceCatalog {
  return new Catalog(RESOURCES.map((row) => new BuiltinDefinition(row)));
}
