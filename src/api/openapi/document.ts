// The documents of /openapi/v2 and /openapi/v3, made from the catalog when they are first asked for and kept as bytes
// until the catalog changes. One v3 document a group-version, with what it refers to; v2 is one document for all.

import { createHash } from 'node:crypto';
import type { ResourceCatalog, ResourceDefinition } from '../definition.ts';
import { kindsOfType, listSchemaOfKind, typeSchema } from '../schema/builtin.ts';
import type { ObjectSchema, TypeSchema } from '../schema/type-schema.ts';
import { type Descriptions, loadDescriptions } from './descriptions.ts';
import {
  groupVersionPath,
  type Operation,
  type Parameter,
  type Path,
  pathsOf,
  type TypeNames,
  type TypeRef,
} from './paths.ts';
import { encodeOpenApiV2 } from './protobuf.ts';
import {
  definition as definitionJson,
  type GroupVersionKindJson,
  type Json,
  type OpenApiVersion,
  refPath,
} from './schemas.ts';

export interface OpenApiDocument {
  readonly bytes: Uint8Array;
  /** SHA-512 of the bytes in upper-case hex, as upstream's hash parameter and ETag are. */
  readonly hash: string;
}

export interface OpenApi {
  /** `/openapi/v2`: as JSON, or in gnostic's protobuf encoding. */
  v2(format: 'json' | 'protobuf'): OpenApiDocument;
  /** `/openapi/v3`: the paths of all documents with their hashes. */
  v3Index(): OpenApiDocument;
  /** `/openapi/v3/<path>`: `api/v1`, `apis/apps/v1`, `apis/apps`, `api`, `apis`, `version`; undefined when there is none. */
  v3(path: string): OpenApiDocument | undefined;
  /** To be called when the catalog has changed. */
  invalidate(): void;
}

export interface OpenApiOptions {
  /** What the documents say of the server's version: `v1.36.4`. */
  readonly version: string;
  /** Absent: read from the build product when the first document is made. */
  readonly descriptions?: Descriptions;
  /** The schema that a custom resource was declared with, as it shall stand in the documents; absent or undefined: made from its TypeSchema. */
  readonly customSchema?: (definition: ResourceDefinition, version: OpenApiVersion) => Json | undefined;
}

export const OPENAPI_V2_PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

const META_V1 = 'io.k8s.apimachinery.pkg.apis.meta.v1';

interface Definition {
  readonly schema: TypeSchema;
  /** A schema as it stands, instead of one made from `schema`. */
  readonly given?: Json;
  readonly kinds: readonly GroupVersionKindJson[];
}

/** Collects definitions while paths and schemas are written, each once, along the references. */
class Definitions {
  readonly #version: OpenApiVersion;
  readonly #descriptions: Descriptions;
  readonly #queue: (readonly [string, Definition])[] = [];
  readonly #known = new Set<string>();
  readonly #commonKinds: readonly GroupVersionKindJson[];

  constructor(
    version: OpenApiVersion,
    descriptions: Descriptions,
    commonKinds: readonly GroupVersionKindJson[],
  ) {
    this.#version = version;
    this.#descriptions = descriptions;
    this.#commonKinds = commonKinds;
  }

  add(name: string, schema: TypeSchema, kinds?: readonly GroupVersionKindJson[], given?: Json): void {
    if (this.#known.has(name)) return;
    this.#known.add(name);
    this.#queue.push([name, { schema, kinds: kinds ?? this.#kindsOf(name), ...(given && { given }) }]);
  }

  #kindsOf(name: string): readonly GroupVersionKindJson[] {
    if (name === `${META_V1}.DeleteOptions` || name === `${META_V1}.WatchEvent`) {
      const kind = name.slice(META_V1.length + 1);
      return this.#commonKinds.map(({ group, version }) => ({ group, kind, version }));
    }
    if (name === `${META_V1}.Status`) return [{ group: '', kind: 'Status', version: 'v1' }];
    return kindsOfType(name);
  }

  /** All that was added and all that it refers to, by name. */
  toJson(): Json {
    const out: [string, Json][] = [];
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      const [name, { schema, kinds, given }] = next;
      const json = definitionJson(name, schema, kinds, {
        version: this.#version,
        descriptions: this.#descriptions,
        refer: (to, type) => this.add(to, type),
      });
      out.push([
        name,
        given ? { ...given, ...(kinds.length > 0 && { 'x-kubernetes-group-version-kind': kinds }) } : json,
      ]);
    }
    return Object.fromEntries(out.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

function parameterV2(parameter: Parameter): Json {
  return {
    uniqueItems: true,
    type: parameter.type,
    description: parameter.description,
    name: parameter.name,
    in: parameter.in,
    ...(parameter.in === 'path' && { required: true }),
  };
}

function parameterV3(parameter: Parameter): Json {
  return {
    name: parameter.name,
    in: parameter.in,
    description: parameter.description,
    ...(parameter.in === 'path' && { required: true }),
    schema: { type: parameter.type, uniqueItems: true },
  };
}

function extensions(operation: Operation): Json {
  return {
    ...(operation.action !== '' && { 'x-kubernetes-action': operation.action }),
    ...(operation.kind && { 'x-kubernetes-group-version-kind': operation.kind }),
  };
}

function operationV2(operation: Operation, refer: (type: TypeRef) => string): Json {
  const body = operation.body && {
    name: 'body',
    in: 'body',
    ...(operation.body.required && { required: true }),
    schema: { $ref: refer(operation.body.type) },
  };
  return {
    description: operation.description,
    consumes: operation.consumes,
    produces: operation.produces,
    schemes: ['https'],
    tags: [operation.tag],
    operationId: operation.id,
    ...((body || operation.parameters.length > 0) && {
      parameters: [...(body ? [body] : []), ...operation.parameters.map(parameterV2)],
    }),
    responses: Object.fromEntries([
      ...operation.answers.map(([code, type]) => [
        String(code),
        {
          description: code === 201 ? 'Created' : code === 202 ? 'Accepted' : 'OK',
          schema: type === 'string' ? { type: 'string' } : { $ref: refer(type) },
        },
      ]),
      ['401', { description: 'Unauthorized' }],
    ]),
    ...extensions(operation),
  };
}

function operationV3(operation: Operation, refer: (type: TypeRef) => string): Json {
  const content = (types: readonly string[], schema: Json): Json =>
    Object.fromEntries(types.map((type) => [type, { schema }]));
  return {
    tags: [operation.tag],
    description: operation.description,
    operationId: operation.id,
    ...(operation.parameters.length > 0 && { parameters: operation.parameters.map(parameterV3) }),
    ...(operation.body && {
      requestBody: {
        content: content(operation.consumes, { $ref: refer(operation.body.type) }),
        ...(operation.body.required && { required: true }),
      },
    }),
    responses: Object.fromEntries([
      ...operation.answers.map(([code, type]) => [
        String(code),
        {
          description: code === 201 ? 'Created' : code === 202 ? 'Accepted' : 'OK',
          content: content(
            operation.produces,
            type === 'string' ? { type: 'string' } : { $ref: refer(type) },
          ),
        },
      ]),
      ['401', { description: 'Unauthorized' }],
    ]),
    ...extensions(operation),
  };
}

/** A GET without parameters that answers with one type: discovery and the version. */
function plainGet(path: string, id: string, tag: string, description: string, type: string): Path {
  return {
    path,
    parameters: [],
    operations: [
      {
        method: 'get',
        id,
        action: '',
        description,
        tag,
        parameters: [],
        consumes: ['application/json'],
        produces: ['application/json'],
        answers: [[200, { name: type, schema: typeSchema(type) }]],
      },
    ],
  };
}

class Documents implements OpenApi {
  readonly #catalog: ResourceCatalog;
  readonly #options: OpenApiOptions;
  #descriptions: Descriptions | undefined;
  #v2 = new Map<'json' | 'protobuf', OpenApiDocument>();
  #v3 = new Map<string, OpenApiDocument>();
  #index: OpenApiDocument | undefined;
  #discovery: ReadonlyMap<string, readonly Path[]> | undefined;

  constructor(catalog: ResourceCatalog, options: OpenApiOptions) {
    this.#catalog = catalog;
    this.#options = options;
  }

  invalidate(): void {
    this.#v2 = new Map();
    this.#v3 = new Map();
    this.#index = undefined;
    this.#discovery = undefined;
  }

  v2(format: 'json' | 'protobuf'): OpenApiDocument {
    let document = this.#v2.get(format);
    if (!document) {
      const json = this.#v2Json();
      document = hashed(format === 'json' ? encode(json) : encodeOpenApiV2(json));
      this.#v2.set(format, document);
    }
    return document;
  }

  v3Index(): OpenApiDocument {
    if (!this.#index) {
      const paths: Json = {};
      for (const path of this.#v3Paths()) {
        const hash = this.v3(path)?.hash;
        paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
      }
      this.#index = hashed(encode({ paths }));
    }
    return this.#index;
  }

  v3(path: string): OpenApiDocument | undefined {
    let document = this.#v3.get(path);
    if (!document) {
      const paths = this.#pathsUnder(path);
      if (!paths) return undefined;
      document = hashed(encode(this.#v3Json(paths)));
      this.#v3.set(path, document);
    }
    return document;
  }

  #loaded(): Descriptions {
    this.#descriptions ??= this.#options.descriptions ?? loadDescriptions();
    return this.#descriptions;
  }

  #groupVersions(): { readonly group: string; readonly version: string }[] {
    return this.#catalog
      .groups()
      .flatMap((group) => this.#catalog.versions(group).map((version) => ({ group, version })));
  }

  #v3Paths(): string[] {
    const out = ['api', 'apis', 'version'];
    for (const { group, version } of this.#groupVersions()) {
      if (group !== '' && !out.includes(`apis/${group}`)) out.push(`apis/${group}`);
      out.push(groupVersionPath({ group, version }).slice(1));
    }
    return out.sort();
  }

  /** The operations of one document; undefined when there is no such document. */
  #pathsUnder(path: string): Path[] | undefined {
    this.#discovery ??= this.#discoveryPaths();
    const discovery = this.#discovery.get(path);
    const gv = this.#groupVersions().find((g) => groupVersionPath(g).slice(1) === path);
    if (!gv) return discovery && [...discovery];
    const resources = this.#catalog.all().filter((d) => d.group === gv.group && d.version === gv.version);
    return [...(discovery ?? []), ...resources.flatMap((d) => pathsOf(d, this.#names()))];
  }

  #discoveryPaths(): Map<string, Path[]> {
    const out = new Map<string, Path[]>([
      [
        'api',
        [
          plainGet(
            '/api/',
            'getCoreAPIVersions',
            'core',
            'get available API versions',
            `${META_V1}.APIVersions`,
          ),
        ],
      ],
      [
        'apis',
        [
          plainGet(
            '/apis/',
            'getAPIVersions',
            'apis',
            'get available API versions',
            `${META_V1}.APIGroupList`,
          ),
        ],
      ],
      [
        'version',
        [
          plainGet(
            '/version/',
            'getCodeVersion',
            'version',
            'get the version of the server',
            'io.k8s.apimachinery.pkg.version.Info',
          ),
        ],
      ],
    ]);
    for (const { group, version } of this.#groupVersions()) {
      const word = (group === '' ? 'core' : group.replace(/\.k8s\.io$/, ''))
        .split('.')
        .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
        .join('');
      const tag = word.charAt(0).toLowerCase() + word.slice(1);
      const versionWord = version.charAt(0).toUpperCase() + version.slice(1);
      if (group !== '')
        out.set(`apis/${group}`, [
          plainGet(
            `/apis/${group}/`,
            `get${word}APIGroup`,
            tag,
            'get information of a group',
            `${META_V1}.APIGroup`,
          ),
        ]);
      const path = groupVersionPath({ group, version });
      out.set(path.slice(1), [
        plainGet(
          `${path}/`,
          `get${word}${versionWord}APIResources`,
          `${tag}_${version}`,
          'get available resources',
          `${META_V1}.APIResourceList`,
        ),
      ]);
    }
    return out;
  }

  #names(): TypeNames {
    const custom = (definition: ResourceDefinition, kind: string): string =>
      `${[...definition.group.split('.').reverse(), definition.version, kind].join('.')}`;
    return {
      object: (definition) => ({
        name: definition.schema.name || custom(definition, definition.kind),
        schema: definition.schema,
      }),
      list: (definition) => {
        const schema =
          definition.schema.name === ''
            ? undefined
            : listSchemaOfKind(definition.group, definition.version, definition.kind);
        return schema
          ? { name: schema.name, schema }
          : {
              name: custom(definition, definition.listKind),
              schema: listSchema(definition),
            };
      },
      status: () => ({ name: `${META_V1}.Status`, schema: typeSchema(`${META_V1}.Status`) }),
    };
  }

  #definitions(version: OpenApiVersion): Definitions {
    return new Definitions(
      version,
      this.#loaded(),
      this.#groupVersions().map(({ group, version: v }) => ({ group, kind: '', version: v })),
    );
  }

  /** Puts the operations' types among the definitions and gives the reference to them. */
  #refer(definitions: Definitions, version: OpenApiVersion): (type: TypeRef) => string {
    const customs = new Map<string, { readonly definition: ResourceDefinition; readonly list: boolean }>();
    const names = this.#names();
    for (const d of this.#catalog.all()) {
      if (d.schema.name !== '') continue;
      customs.set(names.object(d).name, { definition: d, list: false });
      customs.set(names.list(d).name, { definition: d, list: true });
    }
    return ({ name, schema }) => {
      const custom = customs.get(name);
      if (!custom) definitions.add(name, schema);
      else {
        const { definition: d, list } = custom;
        const given = list
          ? listJson(d, names.object(d).name, version)
          : this.#options.customSchema?.(d, version);
        definitions.add(
          name,
          schema,
          [{ group: d.group, kind: list ? d.listKind : d.kind, version: d.version }],
          given,
        );
      }
      return refPath(version, name);
    };
  }

  #v2Json(): Json {
    const definitions = this.#definitions('v2');
    const refer = this.#refer(definitions, 'v2');
    const paths: Json = {};
    for (const document of this.#v3Paths())
      for (const path of this.#pathsUnder(document) ?? []) {
        const item: Json = {};
        for (const operation of path.operations) item[operation.method] = operationV2(operation, refer);
        if (path.parameters.length > 0) item['parameters'] = path.parameters.map(parameterV2);
        paths[path.path] = item;
      }
    definitions.add(`${META_V1}.WatchEvent`, typeSchema(`${META_V1}.WatchEvent`));
    return {
      swagger: '2.0',
      info: { title: 'Kubernetes', version: this.#options.version },
      paths,
      definitions: definitions.toJson(),
      securityDefinitions: {
        BearerToken: {
          description: 'Bearer Token authentication',
          type: 'apiKey',
          name: 'authorization',
          in: 'header',
        },
      },
      security: [{ BearerToken: [] }],
    };
  }

  #v3Json(paths: readonly Path[]): Json {
    const definitions = this.#definitions('v3');
    const refer = this.#refer(definitions, 'v3');
    const items: Json = {};
    let resources = false;
    for (const path of paths) {
      const item: Json = {};
      for (const operation of path.operations) {
        item[operation.method] = operationV3(operation, refer);
        resources ||= operation.kind !== undefined;
      }
      if (path.parameters.length > 0) item['parameters'] = path.parameters.map(parameterV3);
      items[path.path] = item;
    }
    if (resources) definitions.add(`${META_V1}.WatchEvent`, typeSchema(`${META_V1}.WatchEvent`));
    return {
      openapi: '3.0.0',
      info: { title: 'Kubernetes', version: this.#options.version },
      paths: items,
      components: {
        schemas: definitions.toJson(),
        securitySchemes: {
          BearerToken: {
            type: 'apiKey',
            description: 'Bearer Token authentication',
            name: 'authorization',
            in: 'header',
          },
        },
      },
      security: [{ BearerToken: [] }],
    };
  }
}

/** Stands for a custom resource's list where only its name matters. */
function listSchema(definition: ResourceDefinition): ObjectSchema {
  return {
    ...typeSchema(`${META_V1}.Patch`),
    name: '',
    goType: `${definition.version}.${definition.listKind}`,
  };
}

function listJson(definition: ResourceDefinition, item: string, version: OpenApiVersion): Json {
  const meta = refPath(version, `${META_V1}.ListMeta`);
  return {
    description: `${definition.listKind} is a list of ${definition.kind}`,
    type: 'object',
    required: ['items'],
    properties: {
      apiVersion: { type: 'string' },
      items: { type: 'array', items: { $ref: refPath(version, item) } },
      kind: { type: 'string' },
      metadata: version === 'v2' ? { $ref: meta } : { allOf: [{ $ref: meta }] },
    },
  };
}

const encoder = new TextEncoder();

function encode(json: Json): Uint8Array {
  return encoder.encode(JSON.stringify(json));
}

function hashed(bytes: Uint8Array): OpenApiDocument {
  return { bytes, hash: createHash('sha512').update(bytes).digest('hex').toUpperCase() };
}

/** The OpenAPI documents of a server. Nothing is made before it is asked for. */
export function createOpenApi(catalog: ResourceCatalog, options: OpenApiOptions): OpenApi {
  return new Documents(catalog, options);
}
