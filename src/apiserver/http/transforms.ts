// Objects in the two forms that clients may ask for instead of the objects themselves: rows of a Table, and their
// metadata alone.

import { columnsFor, rowConditions } from '../../api/columns/index.ts';
import type { ResourceDefinition } from '../../api/definition.ts';
import { badRequest } from '../../api/errors.ts';
import { type KubeObject, parseGroupVersion } from '../../api/object.ts';
import type { ListMeta } from '../cache/wire-format.ts';

/** What of its object a row carries. */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

/** The `includeObject` parameter of a request for a Table. Throws 400. */
export function includeObject(query: URLSearchParams): IncludeObject {
  const text = query.get('includeObject') ?? '';
  switch (text) {
    case '':
    case 'Metadata':
      return 'Metadata';
    case 'None':
    case 'Object':
      return text;
    default:
      throw badRequest(`unrecognized includeObject value: ${JSON.stringify(text)}`);
  }
}

export interface TableRow {
  readonly cells: readonly unknown[];
  readonly conditions?: readonly object[];
  readonly object?: object;
}

export interface Table {
  readonly kind: 'Table';
  readonly apiVersion: string;
  readonly metadata: ListMeta | Record<string, never>;
  readonly columnDefinitions: readonly object[];
  readonly rows: readonly TableRow[];
}

/** What a table needs to know of a kind. */
type TableKind = Pick<ResourceDefinition, 'group' | 'kind' | 'columns' | 'cells'>;

/** `headers` false: only the first event of a watch carries the columns. */
export function table(
  definition: TableKind,
  objects: readonly KubeObject[],
  meta: ListMeta,
  options: {
    readonly include: IncludeObject;
    readonly version: string;
    readonly now: number;
    readonly headers: boolean;
  },
): Table {
  const apiVersion = `meta.k8s.io/${options.version}`;
  return {
    kind: 'Table',
    apiVersion,
    metadata: meta,
    columnDefinitions: options.headers
      ? definition.columns.map(({ name, type, format, description, priority }) => ({
          name,
          type,
          format,
          description,
          priority,
        }))
      : [],
    rows: objects.map((object) => {
      const shown = rowObject(object, options.include, options.version);
      const cells = definition.cells(object, options.now);
      const conditions = rowConditions(definition.group, definition.kind, object);
      return {
        cells,
        ...(conditions.length === 0 ? {} : { conditions }),
        ...(shown === undefined ? {} : { object: shown }),
      };
    }),
  };
}

/** The objects of an answer that does not come from the store, and their kind's table; undefined for a Status. */
export function valueTable(
  value: object,
):
  | { readonly kind: TableKind; readonly objects: readonly KubeObject[]; readonly meta: ListMeta }
  | undefined {
  const { apiVersion = '', kind = '', metadata, items } = value as KubeObject & { items?: KubeObject[] };
  if (kind === 'Status') return undefined;
  const { group } = parseGroupVersion(apiVersion);
  const of = items === undefined ? kind : kind.replace(/List$/, '');
  const objects = items ?? [value as KubeObject];
  return {
    kind: { group, kind: of, ...columnsFor(group, of) },
    objects,
    meta: { resourceVersion: metadata?.resourceVersion ?? '' },
  };
}

function rowObject(object: KubeObject, include: IncludeObject, version: string): object | undefined {
  switch (include) {
    case 'None':
      return undefined;
    case 'Object':
      return object;
    case 'Metadata':
      return partialMetadata(object, version);
  }
}

export function partialMetadata(object: KubeObject, version: string): object {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  };
}

export function partialMetadataList(objects: readonly KubeObject[], meta: ListMeta, version: string): object {
  return {
    kind: 'PartialObjectMetadataList',
    apiVersion: `meta.k8s.io/${version}`,
    metadata: meta,
    items: objects.map((object) => partialMetadata(object, version)),
  };
}
