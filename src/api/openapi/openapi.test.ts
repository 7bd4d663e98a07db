import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { createCatalog } from '../catalog.ts';
import type { ResourceDefinition } from '../definition.ts';
import { typeSchema } from '../schema/builtin.ts';
import type { FieldSchema, ObjectSchema, TypeSchema } from '../schema/type-schema.ts';
import { createOpenApi, type OpenApi, type OpenApiDocument } from './document.ts';
import { encodeOpenApiV2 } from './protobuf.ts';

type Json = Record<string, unknown>;

const descriptions = {
  'io.k8s.api.core.v1.Pod': { '': 'A pod.', kind: 'Its kind.' },
  'io.k8s.api.core.v1.PodSpec': { '': 'What a pod shall be.' },
};

function open(): OpenApi {
  return createOpenApi(createCatalog(), { version: 'v1.36.0', descriptions });
}

// A document is looked into at many places; a wrong path fails the test.
type Document = ReturnType<typeof JSON.parse>;

function parsed(document: OpenApiDocument | undefined): Document {
  assert.ok(document);
  return JSON.parse(Buffer.from(document.bytes).toString());
}

function references(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value === 'object' && value !== null)
    for (const [key, child] of Object.entries(value)) {
      if (key === '$ref' && typeof child === 'string') found.add(child);
      else references(child, found);
    }
  return found;
}

test('v2 defines all that it refers to and nothing else', () => {
  const document = parsed(open().v2('json'));
  assert.equal(document.swagger, '2.0');
  assert.equal(document.info.version, 'v1.36.0');
  const refs = [...references(document)].map((ref) => ref.slice('#/definitions/'.length));
  for (const ref of refs) assert.ok(document.definitions[ref], ref);
  const roots = Object.entries(document.definitions as Record<string, Json>)
    .filter(([name]) => !refs.includes(name))
    .map(([name]) => name);
  assert.deepEqual(roots, ['io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent']);
});

test('v2 carries what kubectl merges and validates by', () => {
  const { definitions } = parsed(open().v2('json'));
  const pod = definitions['io.k8s.api.core.v1.Pod'];
  assert.deepEqual(pod['x-kubernetes-group-version-kind'], [{ group: '', kind: 'Pod', version: 'v1' }]);
  assert.equal(pod.description, 'A pod.');
  assert.deepEqual(pod.properties.kind, { description: 'Its kind.', type: 'string' });
  assert.deepEqual(pod.properties.spec, {
    description: 'What a pod shall be.',
    $ref: '#/definitions/io.k8s.api.core.v1.PodSpec',
  });
  const container = definitions['io.k8s.api.core.v1.Container'];
  assert.deepEqual(container.required, ['name']);
  assert.deepEqual(container.properties.ports, {
    items: { $ref: '#/definitions/io.k8s.api.core.v1.ContainerPort' },
    type: 'array',
    'x-kubernetes-list-map-keys': ['containerPort', 'protocol'],
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-patch-merge-key': 'containerPort',
    'x-kubernetes-patch-strategy': 'merge',
  });
  assert.equal(
    definitions['io.k8s.api.core.v1.PodSpec'].properties.volumes['x-kubernetes-patch-strategy'],
    'merge,retainKeys',
  );
  assert.deepEqual(container.properties.imagePullPolicy.enum, ['Always', 'IfNotPresent', 'Never']);
  assert.equal(definitions['io.k8s.api.core.v1.ConfigMapKeySelector']['x-kubernetes-map-type'], 'atomic');
  assert.deepEqual(definitions['io.k8s.apimachinery.pkg.util.intstr.IntOrString'], {
    type: 'string',
    format: 'int-or-string',
  });
  assert.deepEqual(definitions['io.k8s.api.core.v1.Secret'].properties.data, {
    additionalProperties: { format: 'byte', type: 'string' },
    type: 'object',
  });
  assert.equal(definitions['io.k8s.api.core.v1.ContainerPort'].properties.protocol.default, undefined);
  const options =
    definitions['io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions']['x-kubernetes-group-version-kind'];
  assert.ok(options.some((gvk: Json) => gvk['group'] === 'apps' && gvk['kind'] === 'DeleteOptions'));
});

test('operations have upstream names, actions, kinds and the parameters that kubectl looks for', () => {
  const { paths } = parsed(open().v2('json'));
  const ids = (path: string): Record<string, string> =>
    Object.fromEntries(
      Object.entries(paths[path] as Record<string, { operationId: string }>)
        .filter(([method]) => method !== 'parameters')
        .map(([method, operation]) => [method, operation.operationId]),
    );
  assert.deepEqual(ids('/apis/apps/v1/namespaces/{namespace}/deployments'), {
    get: 'listAppsV1NamespacedDeployment',
    post: 'createAppsV1NamespacedDeployment',
    delete: 'deleteAppsV1CollectionNamespacedDeployment',
  });
  assert.deepEqual(ids('/apis/apps/v1/namespaces/{namespace}/deployments/{name}'), {
    get: 'readAppsV1NamespacedDeployment',
    put: 'replaceAppsV1NamespacedDeployment',
    patch: 'patchAppsV1NamespacedDeployment',
    delete: 'deleteAppsV1NamespacedDeployment',
  });
  assert.deepEqual(ids('/apis/apps/v1/deployments'), { get: 'listAppsV1DeploymentForAllNamespaces' });
  assert.deepEqual(ids('/api/v1/nodes/{name}/status'), {
    get: 'readCoreV1NodeStatus',
    put: 'replaceCoreV1NodeStatus',
    patch: 'patchCoreV1NodeStatus',
  });
  assert.deepEqual(
    ids('/apis/rbac.authorization.k8s.io/v1/clusterroles').get,
    'listRbacAuthorizationV1ClusterRole',
  );
  assert.deepEqual(ids('/api/v1/namespaces/{namespace}/pods/{name}/exec'), {
    post: 'connectCoreV1PostNamespacedPodExec',
    get: 'connectCoreV1GetNamespacedPodExec',
  });
  assert.equal(ids('/api/v1/namespaces/{namespace}/pods/{name}/log').get, 'readCoreV1NamespacedPodLog');
  assert.equal(
    ids('/api/v1/namespaces/{namespace}/pods/{name}/eviction').post,
    'createCoreV1NamespacedPodEviction',
  );

  const patch = paths['/apis/apps/v1/namespaces/{namespace}/deployments/{name}'].patch;
  assert.equal(patch['x-kubernetes-action'], 'patch');
  assert.deepEqual(patch['x-kubernetes-group-version-kind'], {
    group: 'apps',
    kind: 'Deployment',
    version: 'v1',
  });
  const names = patch.parameters.map((p: { name: string }) => p.name);
  for (const name of ['dryRun', 'fieldManager', 'fieldValidation', 'force'])
    assert.ok(names.includes(name), name);
  const scale = paths['/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale'].put;
  assert.deepEqual(scale['x-kubernetes-group-version-kind'], {
    group: 'autoscaling',
    kind: 'Scale',
    version: 'v1',
  });
  const seen = new Set<string>();
  for (const item of Object.values(paths as Record<string, Record<string, { operationId?: string }>>))
    for (const { operationId } of Object.values(item)) {
      if (operationId === undefined) continue;
      assert.ok(!seen.has(operationId), operationId);
      seen.add(operationId);
    }
});

test('v3 has one complete document a group-version, indexed by hash', () => {
  const openApi = open();
  const index = parsed(openApi.v3Index()) as { paths: Record<string, { serverRelativeURL: string }> };
  assert.ok(
    'api/v1' in index.paths &&
      'apis/apps/v1' in index.paths &&
      'version' in index.paths &&
      'apis/apps' in index.paths,
  );
  for (const [path, { serverRelativeURL }] of Object.entries(index.paths)) {
    const document = openApi.v3(path);
    assert.ok(document, path);
    assert.equal(document.hash, createHash('sha512').update(document.bytes).digest('hex').toUpperCase());
    assert.equal(serverRelativeURL, `/openapi/v3/${path}?hash=${document.hash}`);
    const json = parsed(document);
    assert.match(json.openapi, /^3\.0/);
    for (const ref of references(json))
      assert.ok(json.components.schemas[ref.slice('#/components/schemas/'.length)], ref);
  }
  assert.equal(openApi.v3('apis/nosuch/v1'), undefined);
  assert.equal(openApi.v3('../etc'), undefined);
});

test('v3 tells defaults, and wraps references that say more', () => {
  const { schemas } = parsed(open().v3('api/v1')).components;
  const container = schemas['io.k8s.api.core.v1.Container'].properties;
  assert.deepEqual(container.name, { default: '', type: 'string' });
  assert.deepEqual(container.resources, {
    default: {},
    allOf: [{ $ref: '#/components/schemas/io.k8s.api.core.v1.ResourceRequirements' }],
  });
  assert.deepEqual(container.livenessProbe, { $ref: '#/components/schemas/io.k8s.api.core.v1.Probe' });
  assert.equal(schemas['io.k8s.api.core.v1.ContainerPort'].properties.protocol.default, 'TCP');
  assert.deepEqual(container.args.items, { default: '', type: 'string' });
  assert.deepEqual(schemas['io.k8s.apimachinery.pkg.util.intstr.IntOrString'].oneOf, [
    { type: 'integer' },
    { type: 'string' },
  ]);
});

test('documents are kept until the catalog changes, and the same catalog makes the same bytes', () => {
  const openApi = open();
  const first = openApi.v3('api/v1');
  assert.equal(openApi.v3('api/v1'), first);
  openApi.invalidate();
  assert.notEqual(openApi.v3('api/v1'), first);
  assert.equal(openApi.v3('api/v1')?.hash, first?.hash);
});

test('a custom resource stands in the documents from when it is added', () => {
  const catalog = createCatalog();
  const given = { type: 'object', properties: { spec: { type: 'object', description: 'Given.' } } };
  const openApi = createOpenApi(catalog, { version: 'v1', descriptions: {}, customSchema: () => given });
  assert.equal(openApi.v3('apis/example.com/v1'), undefined);
  const field = (name: string, schema: TypeSchema): FieldSchema => ({
    name,
    schema,
    required: false,
    presence: 'given',
    patchStrategy: [],
  });
  const schema: ObjectSchema = {
    type: 'object',
    name: '',
    goType: '',
    fields: new Map([
      ['metadata', field('metadata', typeSchema('io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'))],
      ['size', field('size', { type: 'integer', goType: '' })],
    ]),
    atomic: false,
    preserveUnknown: false,
    embeddedResource: false,
    always: [],
    defaulted: [],
  };
  const pods = catalog.byResource('', 'v1', 'pods')!;
  const widget: ResourceDefinition = {
    ...pods,
    group: 'example.com',
    version: 'v1',
    resource: 'widgets',
    kind: 'Widget',
    listKind: 'WidgetList',
    namespaced: true,
    verbs: pods.verbs,
    subresources: new Map(),
    storage: pods.storage,
    schema,
    strategy: pods.strategy,
    columns: pods.columns,
    cells: () => [],
  };
  catalog.add(widget);
  openApi.invalidate();
  for (const document of [parsed(openApi.v3('apis/example.com/v1')), parsed(openApi.v2('json'))]) {
    const types = document.definitions ?? document.components.schemas;
    assert.equal(types['com.example.v1.Widget'].properties.spec.description, 'Given.');
    assert.deepEqual(types['com.example.v1.Widget']['x-kubernetes-group-version-kind'], [
      { group: 'example.com', kind: 'Widget', version: 'v1' },
    ]);
    assert.ok(types['com.example.v1.WidgetList']);
    const patch = document.paths['/apis/example.com/v1/namespaces/{namespace}/widgets/{name}'].patch;
    assert.ok(!JSON.stringify(patch).includes('strategic'));
  }
});

/** Reads protobuf without a schema: field number → values, each a number or bytes. */
function fieldsOf(bytes: Buffer): Map<number, (number | Buffer)[]> {
  const out = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    let value: number | Buffer;
    if ((tag & 7) === 0) value = varint();
    else {
      assert.equal(tag & 7, 2);
      const length = varint();
      assert.ok(at + length <= bytes.length);
      value = bytes.subarray(at, at + length);
      at += length;
    }
    out.set(tag >>> 3, [...(out.get(tag >>> 3) ?? []), value]);
  }
  return out;
}

const bytesAt = (message: Map<number, (number | Buffer)[]>, number: number): Buffer[] =>
  (message.get(number) ?? []).map((value) => {
    assert.ok(Buffer.isBuffer(value));
    return value;
  });
const textAt = (message: Map<number, (number | Buffer)[]>, number: number): string | undefined =>
  bytesAt(message, number)[0]?.toString();

/** A gnostic Schema message as JSON, with the numbers of openapiv2/OpenAPIv2.proto. */
function schemaJson(bytes: Buffer): Json {
  const message = fieldsOf(bytes);
  const named = (number: number): (readonly [string, Buffer])[] =>
    bytesAt(message, number).map((pair) => {
      const entry = fieldsOf(pair);
      return [textAt(entry, 1) ?? '', bytesAt(entry, 2)[0]!] as const;
    });
  const any = (value: Buffer): unknown => JSON.parse(textAt(fieldsOf(value), 2)!);
  const properties = bytesAt(message, 25)[0];
  const additional = bytesAt(message, 21)[0];
  const items = bytesAt(message, 23)[0];
  const out: Json = {
    $ref: textAt(message, 1),
    format: textAt(message, 2),
    description: textAt(message, 4),
    required: message.has(19) ? bytesAt(message, 19).map(String) : undefined,
    enum: message.has(20) ? bytesAt(message, 20).map(any) : undefined,
    additionalProperties: additional && schemaJson(bytesAt(fieldsOf(additional), 1)[0]!),
    type: message.has(22) ? textAt(fieldsOf(bytesAt(message, 22)[0]!), 1) : undefined,
    items: items && schemaJson(bytesAt(fieldsOf(items), 1)[0]!),
    properties:
      properties &&
      Object.fromEntries(
        bytesAt(fieldsOf(properties), 1).map((pair) => {
          const entry = fieldsOf(pair);
          return [textAt(entry, 1), schemaJson(bytesAt(entry, 2)[0] ?? Buffer.alloc(0))];
        }),
      ),
    ...Object.fromEntries(named(31).map(([name, value]) => [name, any(value)])),
  };
  return Object.fromEntries(Object.entries(out).filter(([, value]) => value !== undefined));
}

test('the protobuf form holds the same definitions and paths as the JSON form', () => {
  const openApi = open();
  const json = parsed(openApi.v2('json'));
  const document = fieldsOf(Buffer.from(openApi.v2('protobuf').bytes));
  assert.equal(textAt(document, 1), '2.0');
  assert.equal(textAt(fieldsOf(bytesAt(document, 2)[0]!), 1), 'Kubernetes');
  const definitions = Object.fromEntries(
    bytesAt(fieldsOf(bytesAt(document, 9)[0]!), 1).map((pair) => {
      const entry = fieldsOf(pair);
      return [textAt(entry, 1), schemaJson(bytesAt(entry, 2)[0]!)];
    }),
  );
  assert.deepEqual(definitions, json.definitions);
  const paths = bytesAt(fieldsOf(bytesAt(document, 8)[0]!), 2).map((pair) => fieldsOf(pair));
  assert.deepEqual(
    paths.map((path) => textAt(path, 1)),
    Object.keys(json.paths),
  );
  const item = fieldsOf(
    bytesAt(paths.find((p) => textAt(p, 1) === '/api/v1/namespaces/{namespace}/pods/{name}')!, 2)[0]!,
  );
  const patch = fieldsOf(bytesAt(item, 8)[0]!);
  assert.equal(textAt(patch, 5), 'patchCoreV1NamespacedPod');
  const queries = bytesAt(patch, 8).flatMap((parameter) => {
    const nonBody = bytesAt(fieldsOf(bytesAt(fieldsOf(parameter), 1)[0]!), 2)[0];
    const query = nonBody && bytesAt(fieldsOf(nonBody), 3)[0];
    return query ? [textAt(fieldsOf(query), 4)] : [];
  });
  assert.deepEqual(queries, ['dryRun', 'fieldManager', 'fieldValidation', 'force']);
});

test('a member that the encoding has no place for is an error, not a loss', () => {
  assert.throws(() => encodeOpenApiV2({ swagger: '2.0', nonsense: 1 }), /no place for nonsense/);
});
