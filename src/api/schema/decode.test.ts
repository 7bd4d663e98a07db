import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCatalog } from '../catalog.ts';
import { StatusError } from '../errors.ts';
import { canonicalQuantity } from '../quantity.ts';
import { typeSchema } from './builtin.ts';
import {
  type Decoded,
  type DecodeOptions,
  type DecodeTarget,
  decode,
  decodeTarget,
  decodeValue,
} from './decode.ts';
import { encodeForStorage, storagePrefixText } from './encode.ts';
import { CANONICAL_QUANTITY } from './normalise.ts';
import { randomSource } from './testing/random.ts';
import type { FieldSchema, ObjectSchema, TypeSchema } from './type-schema.ts';

const strict: DecodeOptions = { contentType: 'json', fieldValidation: 'Strict' };

function decoded(
  [group, version, kind]: readonly [string, string, string],
  body: unknown,
  options: Partial<DecodeOptions> = {},
): Decoded {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return decode(decodeTarget(group, version, kind), Buffer.from(text), { ...strict, ...options });
}

function refusal(
  kind: readonly [string, string, string],
  body: unknown,
  options: Partial<DecodeOptions> = {},
): string {
  try {
    decoded(kind, body, options);
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.code, 400);
    assert.equal(error.reason, 'BadRequest');
    return error.message;
  }
  assert.fail('the body was taken');
}

const POD = ['', 'v1', 'Pod'] as const;
const SECRET = ['', 'v1', 'Secret'] as const;
const CONFIG_MAP = ['', 'v1', 'ConfigMap'] as const;
const DEPLOYMENT = ['apps', 'v1', 'Deployment'] as const;

test('unknown and duplicate fields are refused, warned of, or dropped in silence', () => {
  const body =
    '{"metadata":{"name":"a"},"spec":{"containers":[],"containers":[{"name":"b","foo":1}],"bar":{"x":1}}}';
  assert.equal(
    refusal(POD, body),
    'Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field "spec.containers", unknown field "spec.containers[0].foo", unknown field "spec.bar"',
  );
  const warned = decoded(POD, body, { fieldValidation: 'Warn' });
  assert.deepEqual(warned.warnings, [
    'duplicate field "spec.containers"',
    'unknown field "spec.containers[0].foo"',
    'unknown field "spec.bar"',
  ]);
  const silent = decoded(POD, body, { fieldValidation: 'Ignore' });
  assert.deepEqual(silent.warnings, []);
  assert.deepEqual(silent.object, warned.object);
  assert.equal((silent.object['spec'] as Record<string, unknown>)['bar'], undefined);
});

test('field names are case sensitive', () => {
  assert.match(refusal(POD, { Metadata: { name: 'a' } }), /unknown field "Metadata"/);
  assert.match(refusal(DEPLOYMENT, { spec: { Replicas: 1 } }), /unknown field "spec\.Replicas"/);
});

test('complaints are bounded', () => {
  const body = { spec: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`f${i}`, 1])) };
  assert.equal(refusal(POD, body).split('unknown field').length - 1, 100);
});

test('type errors are worded as encoding/json words them', () => {
  const prefix = 'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal ';
  const template = (spec: unknown): unknown => ({ spec: { template: { spec } } });
  const cases: readonly (readonly [body: unknown, message: string])[] = [
    [{ spec: { replicas: '3' } }, 'string into Go struct field DeploymentSpec.spec.replicas of type int32'],
    [
      { spec: { replicas: 3.5 } },
      'number 3.5 into Go struct field DeploymentSpec.spec.replicas of type int32',
    ],
    [
      { spec: { replicas: 2 ** 31 } },
      'number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32',
    ],
    [{ spec: { paused: 'yes' } }, 'string into Go struct field DeploymentSpec.spec.paused of type bool'],
    [{ spec: [] }, 'array into Go struct field Deployment.spec of type v1.DeploymentSpec'],
    [
      template({ containers: { a: 1 } }),
      'object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container',
    ],
    [
      template({ containers: [{ env: [{ name: 'a', value: 1 }] }] }),
      'number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string',
    ],
    [
      { metadata: { labels: { a: true } } },
      'bool into Go struct field ObjectMeta.metadata.labels of type string',
    ],
    [
      template({ nodeSelector: 'x' }),
      'string into Go struct field PodSpec.spec.template.spec.nodeSelector of type map[string]string',
    ],
    [
      template({ containers: [{ ports: [{ protocol: 6 }] }] }),
      'number into Go struct field ContainerPort.spec.template.spec.containers.ports.protocol of type v1.Protocol',
    ],
    [
      { spec: { strategy: { rollingUpdate: { maxSurge: true } } } },
      'bool into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32',
    ],
  ];
  for (const [body, message] of cases) assert.equal(refusal(DEPLOYMENT, body), prefix + message);
});

test('scalars that carry a language of their own are checked in it', () => {
  const pod = 'Pod in version "v1" cannot be handled as a Pod: ';
  const secret = 'Secret in version "v1" cannot be handled as a Secret: ';
  assert.equal(
    refusal(POD, { spec: { containers: [{ resources: { limits: { cpu: 'many' } } }] } }),
    `${pod}quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
  );
  assert.equal(
    refusal(POD, { metadata: { creationTimestamp: 'yesterday' } }),
    `${pod}parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`,
  );
  assert.equal(refusal(SECRET, { data: { a: 'a*==' } }), `${secret}illegal base64 data at input byte 1`);
  assert.equal(refusal(SECRET, { data: { a: 'abc' } }), `${secret}illegal base64 data at input byte 0`);
  assert.match(
    refusal(SECRET, { data: { a: 1 } }),
    /number into Go struct field Secret\.data of type \[\]uint8/,
  );
});

test('a body that is no object of a kind is told by how it begins', () => {
  const prefix =
    "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: ";
  assert.equal(refusal(POD, ''), `${prefix}unexpected end of JSON input (<empty>)`);
  assert.equal(
    refusal(POD, '{"a":1,}'),
    `${prefix}invalid character '}' looking for beginning of object key string ({"a":1,})`,
  );
  assert.equal(
    refusal(POD, 'hello'),
    `${prefix}invalid character 'h' looking for beginning of value (68656c6c6f)`,
  );
  assert.match(refusal(POD, '[]'), /cannot unmarshal array into Go value of type struct/);
  assert.match(
    refusal(POD, '{"kind":1}'),
    /cannot unmarshal number into Go struct field \.kind of type string/,
  );
  assert.match(refusal(POD, '\ufeff{}'), /looking for beginning of value/);
});

test('the kind in the body must be the kind of the URL', () => {
  assert.equal(
    refusal(POD, { kind: 'Service', apiVersion: 'v1' }),
    'Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion',
  );
  assert.equal(
    refusal(POD, { kind: 'Foo', apiVersion: 'v1' }),
    'Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "v1" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"',
  );
  assert.match(
    refusal(POD, { kind: 'Pod', apiVersion: 'example.com/v1' }),
    /no kind "Pod" is registered for version "example\.com\/v1"/,
  );
  assert.equal(
    refusal(['autoscaling', 'v2', 'HorizontalPodAutoscaler'], {
      kind: 'HorizontalPodAutoscaler',
      apiVersion: 'autoscaling/v1',
    }),
    'the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)',
  );
});

test('a body may leave kind and apiVersion out, and options may be of any group', () => {
  const { object } = decoded(POD, { metadata: { name: 'a' } });
  assert.deepEqual(Object.keys(object).slice(0, 3), ['kind', 'apiVersion', 'metadata']);
  assert.equal(object.kind, 'Pod');
  assert.equal(object.apiVersion, 'v1');
  const options = decoded(['', 'v1', 'DeleteOptions'], {
    kind: 'DeleteOptions',
    apiVersion: 'apps/v1',
    gracePeriodSeconds: 0,
  });
  assert.deepEqual(options.object, { kind: 'DeleteOptions', apiVersion: 'apps/v1', gracePeriodSeconds: 0 });
});

test('null means absent, and what Go leaves out is left out', () => {
  const { object } = decoded(CONFIG_MAP, {
    metadata: {
      name: 'a',
      labels: null,
      annotations: {},
      finalizers: [],
      generateName: '',
      deletionTimestamp: null,
    },
    data: null,
    immutable: false,
    binaryData: {},
  });
  assert.deepEqual(object, {
    kind: 'ConfigMap',
    apiVersion: 'v1',
    metadata: { name: 'a' },
    immutable: false,
  });
  const job = decoded(['batch', 'v1', 'Job'], { spec: { template: { spec: { containers: [null] } } } });
  const spec = job.object['spec'] as { template: { spec: { containers: unknown[] } } };
  assert.deepEqual(spec.template.spec.containers, [
    {
      name: '',
      resources: {},
      imagePullPolicy: 'IfNotPresent',
      terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'File',
    },
  ]);
  assert.deepEqual(decoded(CONFIG_MAP, 'null').object, { kind: 'ConfigMap', apiVersion: 'v1', metadata: {} });
});

test('scalars are stored in their canonical spelling', () => {
  const lease = decoded(['coordination.k8s.io', 'v1', 'Lease'], {
    metadata: { name: 'a', creationTimestamp: '2024-01-01T02:00:00.5+02:00' },
    spec: { renewTime: '2024-01-01T00:00:00Z' },
  });
  assert.equal(lease.object.metadata.creationTimestamp, '2024-01-01T00:00:00Z');
  assert.deepEqual(lease.object['spec'], { renewTime: '2024-01-01T00:00:00.000000Z' });
  const quota = decoded(['', 'v1', 'ResourceQuota'], {
    spec: { hard: { cpu: 0.5, memory: '1024Mi', pods: ' 10 ', x: 1000000 } },
  });
  assert.deepEqual(quota.object['spec'], { hard: { cpu: '500m', memory: '1Gi', pods: '10', x: '1M' } });
  assert.deepEqual(decoded(SECRET, { data: { a: 'aGVs\nbG8=' } }).object['data'], { a: 'aGVsbG8=' });
});

test('quantities that are taken as canonical without a closer look are canonical', () => {
  for (const digits of ['1', '9', '10', '99', '100', '500', '999'])
    for (const suffix of ['', 'm', 'k', 'M', 'G', 'T', 'P', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'n', 'E', 'Ei']) {
      if (CANONICAL_QUANTITY.test(digits + suffix))
        assert.equal(canonicalQuantity(digits + suffix), digits + suffix);
    }
  assert.ok(CANONICAL_QUANTITY.test('128Mi') && !CANONICAL_QUANTITY.test('1024Mi'));
});

test('a schema within a schema is read as one, and what upstream drops there in silence is dropped', () => {
  const crd = (items: unknown): Decoded =>
    decoded(['apiextensions.k8s.io', 'v1', 'CustomResourceDefinition'], {
      spec: { versions: [{ name: 'v1', schema: { openAPIV3Schema: { type: 'array', items } } }] },
    });
  const schemaOf = ({ object }: Decoded): unknown =>
    (object['spec'] as { versions: { schema: { openAPIV3Schema: { items: unknown } } }[] }).versions[0]
      ?.schema.openAPIV3Schema.items;
  assert.deepEqual(schemaOf(crd({ type: 'string', nullable: false, foo: 1, additionalProperties: true })), {
    type: 'string',
    additionalProperties: true,
  });
  assert.deepEqual(schemaOf(crd([{ type: 'string', title: '' }])), [{ type: 'string' }]);
  assert.throws(
    () => crd({ type: 5 }),
    /cannot unmarshal number into Go struct field JSONSchemaProps\..*items\.type of type string/,
  );
  assert.throws(() => crd({ additionalProperties: 'x' }), /boolean or JSON schema expected/);
  assert.throws(() => crd('x'), /cannot unmarshal string into/);
});

test('whole numbers that a double cannot hold are refused, never changed', () => {
  assert.match(
    refusal(POD, '{"spec":{"activeDeadlineSeconds":9007199254740993}}'),
    /cannot unmarshal number \d+ into Go struct field PodSpec\.spec\.activeDeadlineSeconds of type int64/,
  );
});

test('keys that JavaScript knows are keys like any other', () => {
  const text = '{"metadata":{"name":"a"},"data":{"__proto__":"x","constructor":"y","toString":"z"}}';
  const { object } = decoded(CONFIG_MAP, text);
  const data = object['data'] as object;
  assert.deepEqual(Object.keys(data), ['__proto__', 'constructor', 'toString']);
  assert.equal(Object.getPrototypeOf(data), Object.prototype);
  const target = createCatalog().byKind('', 'v1', 'ConfigMap')!;
  assert.match(Buffer.from(encodeForStorage(target, object)).toString(), /"__proto__":"x"/);
  assert.match(refusal(CONFIG_MAP, '{"__proto__":{"kind":"x"}}'), /unknown field "__proto__"/);
  assert.deepEqual(
    decoded(CONFIG_MAP, '{"__proto__":{"data":{"a":"b"}}}', { fieldValidation: 'Ignore' }).object,
    {
      kind: 'ConfigMap',
      apiVersion: 'v1',
      metadata: {},
    },
  );
  const event = decoded(['apps', 'v1', 'ControllerRevision'], '{"data":{"__proto__":{"a":1}},"revision":1}');
  assert.deepEqual(Object.keys(event.object['data'] as object), ['__proto__']);
});

test('YAML bodies are read as JSON bodies are', () => {
  const yaml = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  key: "1"\n';
  assert.deepEqual(decoded(CONFIG_MAP, yaml, { contentType: 'yaml' }).object, {
    kind: 'ConfigMap',
    apiVersion: 'v1',
    metadata: { name: 'a' },
    data: { key: '1' },
  });
  assert.deepEqual(
    decoded(CONFIG_MAP, '{"metadata":{"name":"a"}}', { contentType: 'yaml' }).object.metadata,
    { name: 'a' },
  );
  assert.equal(
    refusal(CONFIG_MAP, 'metadata:\n  name: a\n  name: b\n', { contentType: 'yaml' }),
    'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  line 3: key "name" already set in map',
  );
  assert.match(
    refusal(CONFIG_MAP, 'a: [', { contentType: 'yaml' }),
    /must be of type ConfigMap\): error converting YAML to JSON: yaml: line 1: /,
  );
});

test('a value is decoded without being touched or kept, and errors of a patch are told of the patch', () => {
  const value = Object.freeze({ metadata: Object.freeze({ name: 'a' }), data: Object.freeze({ k: 'v' }) });
  const target = decodeTarget('', 'v1', 'ConfigMap');
  const { object } = decodeValue(target, value, { fieldValidation: 'Strict' });
  assert.notEqual(object.metadata, value.metadata);
  assert.deepEqual(object['data'], { k: 'v' });
  assert.throws(
    () => decodeValue(target, { foo: 1 }, { fieldValidation: 'Strict', patch: '{"foo":1}' }),
    (error) =>
      error instanceof StatusError &&
      error.code === 422 &&
      error.message ===
        ' "" is invalid: patch: Invalid value: "{\\"foo\\":1}": strict decoding error: unknown field "foo"',
  );
  assert.throws(() => decodeValue(target, { data: { a: 1n } }, { fieldValidation: 'Ignore' }), StatusError);
  assert.throws(
    () => decodeValue(target, { data: { a: () => 1 } }, { fieldValidation: 'Ignore' }),
    StatusError,
  );
});

test('the stored form begins with the constant prefix and leaves resourceVersion out', () => {
  const catalog = createCatalog();
  const pods = catalog.byResource('', 'v1', 'pods')!;
  const { object } = decode(
    pods,
    Buffer.from('{"spec":{"containers":[]},"metadata":{"resourceVersion":"7","name":"a"}}'),
    strict,
  );
  const text = Buffer.from(encodeForStorage(pods, object)).toString();
  assert.equal(storagePrefixText(pods), '{"kind":"Pod","apiVersion":"v1","metadata":{');
  assert.ok(text.startsWith('{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{'), text);
  assert.equal(object.metadata.resourceVersion, '7');
  const prefix = storagePrefixText(pods);
  const spliced = JSON.parse(`${prefix}"resourceVersion":"8",${text.slice(prefix.length)}`);
  assert.equal(spliced.metadata.resourceVersion, '8');
  const events = catalog.byResource('events.k8s.io', 'v1', 'events')!;
  assert.equal(storagePrefixText(events), '{"kind":"Event","apiVersion":"v1","metadata":{');
});

test('normal form is a fixed point: every kind decodes, encodes and decodes to the same', () => {
  const random = randomSource(5);
  for (const definition of createCatalog().all()) {
    for (let i = 0; i < 40; i++) {
      const value = random.objectOf(definition.schema, 1 + random.below(6));
      value['kind'] = definition.kind;
      delete value['apiVersion'];
      value['metadata'] = { ...(value['metadata'] as object), name: 'a' };
      const text = JSON.stringify(value);
      const options: DecodeOptions = { contentType: 'json', fieldValidation: 'Strict', now: () => 0 };
      const first = decode(definition, Buffer.from(text), options).object;
      const again = decode(definition, Buffer.from(JSON.stringify(first)), options).object;
      assert.deepEqual(again, first, `${definition.kind}: ${text}`);
      assert.deepEqual(decodeValue(definition, value, options).object, first);
      const own = {
        ...definition,
        kind: definition.kind,
        storage: { ...definition.storage, group: definition.group, version: definition.version },
      };
      const stored = JSON.parse(Buffer.from(encodeForStorage(own, first)).toString());
      delete first.metadata.resourceVersion;
      assert.deepEqual(stored, first, definition.kind);
    }
  }
});

test('no body makes the decoder fail otherwise than with a StatusError', () => {
  const random = randomSource(6);
  const definitions = createCatalog().all();
  const noise = '{}[]",:\\0 1.e-ntrufalse\n\u0000é'.split('');
  for (let i = 0; i < 6000; i++) {
    const definition = random.pick(definitions);
    let text = JSON.stringify(random.chance(0.7) ? random.objectOf(definition.schema, 3) : random.json(5));
    for (let n = random.below(4); n > 0; n--) {
      const at = random.below(text.length);
      text =
        text.slice(0, at) + (random.chance(0.5) ? random.pick(noise) : '') + text.slice(at + random.below(3));
    }
    for (const contentType of random.chance(0.8) ? (['json'] as const) : (['yaml'] as const)) {
      try {
        const { object } = decode(definition, Buffer.from(text), {
          contentType,
          fieldValidation: random.pick(['Strict', 'Warn', 'Ignore'] as const),
        });
        JSON.stringify(object);
      } catch (error) {
        assert.ok(error instanceof StatusError, `${definition.kind}: ${text}: ${(error as Error).stack}`);
      }
    }
  }
});

test('hostile nesting is refused, not overflowed, in time that grows with the text', () => {
  const deep = (n: number, open: string, close: string): string => `${open.repeat(n)}1${close.repeat(n)}`;
  const bodies = [
    `{"spec":${deep(200_000, '[', ']')}}`,
    `{"spec":${deep(100_000, '{"a":', '}')}}`,
    `{"data":${deep(100_000, '{"data":', '}')},"revision":1}`,
    `{"metadata":{"managedFields":[{"fieldsV1":${deep(100_000, '{"f":', '}')}}]}}`,
    deep(300_000, '[', ''),
  ];
  for (const body of bodies)
    for (const fieldValidation of ['Strict', 'Ignore'] as const) {
      const started = performance.now();
      try {
        decoded(['apps', 'v1', 'ControllerRevision'], body, { fieldValidation });
      } catch (error) {
        assert.ok(error instanceof StatusError);
      }
      assert.ok(performance.now() - started < 2000, body.slice(0, 40));
    }
  const many = `{"data":{${Array.from({ length: 100_000 }, (_, i) => `"k${i}":"v"`).join(',')},"k1":"w"}}`;
  const started = performance.now();
  assert.match(refusal(CONFIG_MAP, many), /duplicate field "data\.k1"/);
  assert.ok(performance.now() - started < 2000);
});

test('a custom resource keeps values of the wrong type for its own validation, and null where that is allowed', () => {
  const field = (name: string, schema: TypeSchema, value?: unknown): [string, FieldSchema] => [
    name,
    { name, schema, required: false, presence: 'given', patchStrategy: [], default: value },
  ];
  const object = (fields: [string, FieldSchema][], more: Partial<ObjectSchema> = {}): ObjectSchema => ({
    type: 'object',
    name: '',
    goType: '',
    fields: new Map(fields),
    atomic: false,
    preserveUnknown: false,
    embeddedResource: false,
    always: [],
    defaulted: fields.map(([, f]) => f).filter((f) => f.default !== undefined),
    ...more,
  });
  const integer: TypeSchema = { type: 'integer', goType: '' };
  const target: DecodeTarget = {
    group: 'example.com',
    version: 'v1',
    kind: 'Widget',
    schema: object([
      field('kind', { type: 'string', goType: '' }),
      field('apiVersion', { type: 'string', goType: '' }),
      field('metadata', typeSchema('io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta')),
      field(
        'spec',
        object([
          field('size', integer, 3),
          field('limit', { ...integer, nullable: true }),
          field('open', object([], { preserveUnknown: true })),
          field('parts', { type: 'list', items: integer, listType: 'set', keys: [], goType: '' }),
        ]),
      ),
    ]),
  };
  const of = (body: unknown): Record<string, unknown> =>
    decode(target, Buffer.from(JSON.stringify(body)), strict).object as Record<string, unknown>;
  assert.deepEqual(
    of({
      metadata: { name: 'a' },
      spec: { size: null, limit: null, open: { x: [1] }, parts: ['x', null, 1] },
    })['spec'],
    { limit: null, open: { x: [1] }, parts: ['x', null, 1], size: 3 },
  );
  assert.deepEqual(of({ spec: { size: 'big' } })['spec'], { size: 'big' });
  assert.deepEqual(of({ spec: 7 })['spec'], 7);
  assert.throws(() => of({ spec: { colour: 'red' } }), /unknown field "spec\.colour"/);
  assert.throws(
    () => of({ kind: 'Widget', apiVersion: 'example.com/v2' }),
    /does not match the expected API version/,
  );
  assert.throws(() => of({ kind: 'Other', apiVersion: 'example.com/v1', metadata: { name: 'n' } }), {
    message: 'Widget.example.com "n" is invalid: kind: Invalid value: "Other": must be Widget',
  });
});
