// Resource definitions → the operations of OpenAPI, in a neutral form that document.ts writes as v2 or v3: paths,
// parameters, bodies and answers, with upstream's operation ids and extensions.

import type { ResourceDefinition } from '../definition.ts';
import { groupVersion } from '../object.ts';
import { typeSchema } from '../schema/builtin.ts';
import { decodeTarget } from '../schema/decode.ts';
import type { ObjectSchema } from '../schema/type-schema.ts';
import type { GroupVersionKindJson } from './schemas.ts';

export interface Parameter {
  readonly name: string;
  readonly in: 'query' | 'path';
  readonly type: 'string' | 'integer' | 'boolean';
  readonly description: string;
}

/** A schema by its OpenAPI name, with what is needed to define it. */
export interface TypeRef {
  readonly name: string;
  readonly schema: ObjectSchema;
}

export interface Operation {
  readonly method: 'get' | 'put' | 'post' | 'delete' | 'patch' | 'options' | 'head';
  readonly id: string;
  readonly action: string;
  readonly description: string;
  readonly tag: string;
  readonly kind?: GroupVersionKindJson;
  readonly parameters: readonly Parameter[];
  readonly body?: { readonly type: TypeRef; readonly required: boolean };
  readonly consumes: readonly string[];
  readonly produces: readonly string[];
  /** HTTP status → what the body is; 'string' for text. */
  readonly answers: readonly (readonly [code: number, type: TypeRef | 'string'])[];
}

export interface Path {
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly operations: readonly Operation[];
}

const query = (name: string, type: Parameter['type'], description: string): Parameter => ({
  name,
  in: 'query',
  type,
  description,
});

const PRETTY = query('pretty', 'string', 'When "true", the answer is indented.');
const DRY_RUN = query('dryRun', 'string', 'With the value "All" nothing is stored.');
const FIELD_MANAGER = query('fieldManager', 'string', 'The name of who makes the change, for managedFields.');
const FIELD_VALIDATION = query(
  'fieldValidation',
  'string',
  'What to do about unknown and duplicate fields: Ignore, Warn or Strict.',
);
const FORCE = query('force', 'boolean', 'Apply only: take fields from their managers on conflict.');
const WRITE = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION] as const;
const LIST = [
  query('allowWatchBookmarks', 'boolean', 'Watch only: send events of type BOOKMARK.'),
  query('continue', 'string', 'The token of the previous page.'),
  query('fieldSelector', 'string', 'Only objects whose fields match.'),
  query('labelSelector', 'string', 'Only objects whose labels match.'),
  query('limit', 'integer', 'At most this many objects in one answer.'),
  query('resourceVersion', 'string', 'The state that the answer must at least, or exactly, have.'),
  query('resourceVersionMatch', 'string', 'How resourceVersion is meant: NotOlderThan or Exact.'),
  query('sendInitialEvents', 'boolean', 'Watch only: begin with the present state as ADDED events.'),
  query('timeoutSeconds', 'integer', 'The server ends the call after this time.'),
  query('watch', 'boolean', 'Follow the changes instead of listing.'),
] as const;
const DELETE = [
  DRY_RUN,
  query('gracePeriodSeconds', 'integer', 'How long the object may take to go; 0: at once.'),
  query(
    'ignoreStoreReadErrorWithClusterBreakingPotential',
    'boolean',
    'Delete an object that cannot be read, without its finalizers.',
  ),
  query('orphanDependents', 'boolean', 'Deprecated: use propagationPolicy.'),
  query('propagationPolicy', 'string', 'What becomes of dependents: Orphan, Background or Foreground.'),
] as const;

const JSON_YAML_PROTOBUF = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
const STREAMS = [
  ...JSON_YAML_PROTOBUF,
  'application/json;stream=watch',
  'application/vnd.kubernetes.protobuf;stream=watch',
];
const PATCHES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
];
const ANYTHING = ['*/*'];

const META_V1 = 'io.k8s.apimachinery.pkg.apis.meta.v1';

function meta(kind: string): TypeRef {
  const schema = typeSchema(`${META_V1}.${kind}`);
  return { name: schema.name, schema };
}

/** `rbac.authorization.k8s.io` → RbacAuthorization; the core group → Core. */
function groupWord(group: string): string {
  const words = group === '' ? ['core'] : group.replace(/\.k8s\.io$/, '').split('.');
  return words
    .map(capitalised)
    .join('')
    .replace(/[^A-Za-z0-9]/g, '');
}

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** `/api/v1` or `/apis/apps/v1`. */
export function groupVersionPath(definition: { readonly group: string; readonly version: string }): string {
  return definition.group === '' ? `/api/${definition.version}` : `/apis/${groupVersion(definition)}`;
}

/** The names that a definition's types have in the documents. */
export interface TypeNames {
  /** The kind itself. */
  object(definition: ResourceDefinition): TypeRef;
  list(definition: ResourceDefinition): TypeRef;
  status(): TypeRef;
}

const METHODS: Readonly<Record<string, Operation['method']>> = {
  get: 'get',
  create: 'post',
  update: 'put',
  patch: 'patch',
  delete: 'delete',
};

export function pathsOf(definition: ResourceDefinition, names: TypeNames): Path[] {
  const { group, version, resource, kind, namespaced } = definition;
  const root = groupVersionPath(definition);
  const gvWord = groupWord(group) + capitalised(version);
  const scope = namespaced ? 'Namespaced' : '';
  const tag = `${gvWord.charAt(0).toLowerCase()}${groupWord(group).slice(1)}_${version}`;
  const gvk: GroupVersionKindJson = { group, kind, version };
  const object = names.object(definition);
  const has = (verb: ResourceDefinition['verbs'][number]): boolean => definition.verbs.includes(verb);
  const patchTypes =
    object.schema.name === '' || object.schema.goType === ''
      ? PATCHES.filter((type) => !type.includes('strategic'))
      : PATCHES;

  const namespaceParameter: Parameter = {
    name: 'namespace',
    in: 'path',
    type: 'string',
    description: 'The namespace of the object.',
  };
  const nameParameter: Parameter = {
    name: 'name',
    in: 'path',
    type: 'string',
    description: `The name of the ${kind}.`,
  };
  const place = namespaced ? `${root}/namespaces/{namespace}/${resource}` : `${root}/${resource}`;
  const placeParameters = namespaced ? [namespaceParameter, PRETTY] : [PRETTY];
  const base = { tag, consumes: ANYTHING, produces: JSON_YAML_PROTOBUF } as const;
  const paths: Path[] = [];

  const collection: Operation[] = [];
  if (has('list'))
    collection.push({
      ...base,
      method: 'get',
      id: `list${gvWord}${scope}${kind}`,
      action: 'list',
      description: `list or watch objects of kind ${kind}`,
      kind: gvk,
      parameters: LIST,
      produces: STREAMS,
      answers: [[200, names.list(definition)]],
    });
  if (has('create'))
    collection.push({
      ...base,
      method: 'post',
      id: `create${gvWord}${scope}${kind}`,
      action: 'post',
      description: `create a ${kind}`,
      kind: gvk,
      parameters: WRITE,
      body: { type: object, required: true },
      answers: [
        [200, object],
        [201, object],
        [202, object],
      ],
    });
  if (has('deletecollection'))
    collection.push({
      ...base,
      method: 'delete',
      id: `delete${gvWord}Collection${scope}${kind}`,
      action: 'deletecollection',
      description: `delete a collection of ${kind}`,
      kind: gvk,
      parameters: [...DELETE, ...LIST.filter((p) => !['allowWatchBookmarks', 'watch'].includes(p.name))],
      body: { type: meta('DeleteOptions'), required: false },
      answers: [[200, names.status()]],
    });
  if (collection.length > 0) paths.push({ path: place, parameters: placeParameters, operations: collection });

  if (namespaced && has('list'))
    paths.push({
      path: `${root}/${resource}`,
      parameters: [PRETTY, ...LIST],
      operations: [
        {
          ...base,
          method: 'get',
          id: `list${gvWord}${kind}ForAllNamespaces`,
          action: 'list',
          description: `list or watch objects of kind ${kind}`,
          kind: gvk,
          parameters: [],
          produces: STREAMS,
          answers: [[200, names.list(definition)]],
        },
      ],
    });

  const single: Operation[] = [];
  if (has('get')) single.push(get(''));
  if (has('update')) single.push(put('', object, gvk, 'the specified'));
  if (has('patch')) single.push(patch('', object, gvk, 'the specified'));
  if (has('delete'))
    single.push({
      ...base,
      method: 'delete',
      id: `delete${gvWord}${scope}${kind}`,
      action: 'delete',
      description: `delete a ${kind}`,
      kind: gvk,
      parameters: DELETE,
      body: { type: meta('DeleteOptions'), required: false },
      answers: [
        [200, names.status()],
        [202, names.status()],
      ],
    });
  if (single.length > 0)
    paths.push({
      path: `${place}/{name}`,
      parameters: [nameParameter, ...placeParameters],
      operations: single,
    });

  for (const sub of definition.subresources.values()) {
    const word = capitalised(sub.name);
    const own = sub.kind.kind === kind && sub.kind.group === group && sub.kind.version === version;
    const target = own ? undefined : decodeTarget(sub.kind.group, sub.kind.version, sub.kind.kind);
    const type = target ? { name: target.schema.name, schema: target.schema } : object;
    const subKind: GroupVersionKindJson = {
      group: sub.kind.group,
      kind: sub.kind.kind,
      version: sub.kind.version,
    };
    const operations: Operation[] = [];
    const subParameters = [nameParameter, ...placeParameters];
    if (/(?:Proxy|Exec|Attach|PortForward)Options$/.test(sub.kind.kind)) {
      const options = optionParameters(type.schema);
      const connect = (suffix: string): Operation[] =>
        sub.verbs.map((verb) => ({
          ...base,
          method: METHODS[verb]!,
          id: `connect${gvWord}${capitalised(METHODS[verb]!)}${scope}${kind}${word}${suffix}`,
          action: 'connect',
          description: `connect ${METHODS[verb]!.toUpperCase()} requests to ${sub.name} of ${kind}`,
          kind: subKind,
          parameters: [],
          produces: ANYTHING,
          answers: [[200, 'string'] as const],
        }));
      paths.push({
        path: `${place}/{name}/${sub.name}`,
        parameters: [...subParameters.filter((p) => p !== PRETTY), ...options],
        operations: connect(''),
      });
      if (sub.name === 'proxy')
        paths.push({
          path: `${place}/{name}/proxy/{path}`,
          parameters: [
            ...subParameters.filter((p) => p !== PRETTY),
            {
              name: 'path',
              in: 'path',
              type: 'string',
              description: 'The path of the request behind the proxy.',
            },
          ],
          operations: connect('WithPath'),
        });
      continue;
    }
    for (const verb of sub.verbs) {
      if (verb === 'get' && sub.name === 'log')
        operations.push({
          ...get('Log'),
          parameters: optionParameters(decodeTarget('', 'v1', 'PodLogOptions').schema),
          produces: ['text/plain', ...JSON_YAML_PROTOBUF],
          answers: [[200, 'string']],
        });
      else if (verb === 'get') operations.push({ ...get(word), kind: subKind, answers: [[200, type]] });
      else if (verb === 'update') operations.push(put(word, type, subKind, `${sub.name} of the specified`));
      else if (verb === 'patch') operations.push(patch(word, type, subKind, `${sub.name} of the specified`));
      else if (verb === 'create')
        operations.push({
          ...base,
          method: 'post',
          id: `create${gvWord}${scope}${kind}${word}`,
          action: 'post',
          description: `create ${sub.name} of a ${kind}`,
          kind: subKind,
          parameters: WRITE,
          body: { type, required: true },
          answers: [
            [200, type],
            [201, type],
            [202, type],
          ],
        });
    }
    paths.push({ path: `${place}/{name}/${sub.name}`, parameters: subParameters, operations });
  }
  return paths;

  function get(word: string): Operation {
    return {
      ...base,
      method: 'get',
      id: `read${gvWord}${scope}${kind}${word}`,
      action: 'get',
      description: `read ${word === '' ? '' : `${word.toLowerCase()} of `}the specified ${kind}`,
      kind: gvk,
      parameters: [],
      answers: [[200, object]],
    };
  }
  function put(word: string, type: TypeRef, of: GroupVersionKindJson, what: string): Operation {
    return {
      ...base,
      method: 'put',
      id: `replace${gvWord}${scope}${kind}${word}`,
      action: 'put',
      description: `replace ${what} ${kind}`,
      kind: of,
      parameters: WRITE,
      body: { type, required: true },
      answers: [
        [200, type],
        [201, type],
      ],
    };
  }
  function patch(word: string, type: TypeRef, of: GroupVersionKindJson, what: string): Operation {
    return {
      ...base,
      method: 'patch',
      id: `patch${gvWord}${scope}${kind}${word}`,
      action: 'patch',
      description: `partially update ${what} ${kind}`,
      kind: of,
      parameters: [...WRITE, FORCE],
      body: { type: meta('Patch'), required: true },
      consumes: patchTypes,
      answers: [
        [200, type],
        [201, type],
      ],
    };
  }
}

/** The fields of an options kind, as they stand in the query. */
function optionParameters(schema: ObjectSchema): Parameter[] {
  const out: Parameter[] = [];
  for (const field of schema.fields.values()) {
    if (field.name === 'kind' || field.name === 'apiVersion') continue;
    const { type } = field.schema;
    out.push(
      query(
        field.name,
        type === 'boolean' || type === 'integer' ? type : 'string',
        `The field ${field.name} of ${schema.name.slice(schema.name.lastIndexOf('.') + 1)}.`,
      ),
    );
  }
  return out;
}
