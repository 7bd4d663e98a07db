import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatusError } from '../errors.ts';
import { schemaOfKind } from '../schema/builtin.ts';
import type { TypeSchema } from '../schema/type-schema.ts';
import { isList, isObject, type Json, type JsonObject, sameJson } from './json.ts';
import { applyStrategicMergePatch } from './strategic-merge-patch.ts';

const pod = schemaOfKind('', 'v1', 'Pod')!;
const deployment = schemaOfKind('apps', 'v1', 'Deployment')!;

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}

const apply = (document: JsonObject, patch: JsonObject, schema: TypeSchema = pod) =>
  applyStrategicMergePatch(frozen(document), frozen(patch), schema);

const containers = (...items: JsonObject[]): JsonObject => ({ spec: { containers: items } });

test('lists with a merge key are merged by it, others are replaced', () => {
  assert.deepEqual(
    apply(
      containers({ name: 'a', image: '1', args: ['x'] }, { name: 'b', image: '1' }),
      containers({ name: 'b', image: '2' }, { name: 'c', image: '3' }),
    ),
    containers({ name: 'a', image: '1', args: ['x'] }, { name: 'b', image: '2' }, { name: 'c', image: '3' }),
  );
  assert.deepEqual(
    apply(containers({ name: 'a', args: ['x', 'y'] }), containers({ name: 'a', args: ['z'] })),
    containers({ name: 'a', args: ['z'] }),
  );
  assert.deepEqual(
    apply({ metadata: { labels: { a: '1', b: '2' } } }, { metadata: { labels: { a: null, c: '3' } } }),
    { metadata: { labels: { b: '2', c: '3' } } },
  );
});

test('lists of scalars with strategy merge become the union', () => {
  assert.deepEqual(
    apply({ metadata: { finalizers: ['a', 'b'] } }, { metadata: { finalizers: ['b', 'c'] } }),
    { metadata: { finalizers: ['a', 'b', 'c'] } },
  );
  assert.deepEqual(
    apply(
      { metadata: { finalizers: ['a', 'b', 'c'] } },
      { metadata: { '$deleteFromPrimitiveList/finalizers': ['b', 'x'] } },
    ),
    { metadata: { finalizers: ['a', 'c'] } },
  );
  assert.deepEqual(apply({ metadata: {} }, { metadata: { '$deleteFromPrimitiveList/finalizers': ['b'] } }), {
    metadata: {},
  });
});

test('$patch: delete and replace, on objects and in lists', () => {
  assert.deepEqual(
    apply(containers({ name: 'a' }, { name: 'b' }), containers({ name: 'a', $patch: 'delete' })),
    containers({ name: 'b' }),
  );
  assert.deepEqual(
    apply(
      containers({ name: 'a', image: '1' }, { name: 'b' }),
      containers({ $patch: 'replace' }, { name: 'c' }),
    ),
    containers({ name: 'c' }),
  );
  assert.deepEqual(
    apply(
      containers({ name: 'a' }),
      containers({ name: 'c', image: '1' }, { name: 'c', image: '2' }, { $patch: 'replace' }),
    ),
    containers({ name: 'c', image: '1' }, { name: 'c', image: '2' }),
    'what replaces the list is not merged with itself',
  );
  assert.deepEqual(
    apply({ spec: { nodeName: 'n', hostNetwork: true } }, { spec: { $patch: 'replace', nodeName: 'm' } }),
    { spec: { nodeName: 'm' } },
  );
  assert.deepEqual(
    apply({ metadata: { labels: { a: '1' } } }, { metadata: { labels: { $patch: 'delete' } } }),
    {
      metadata: { labels: {} },
    },
  );
});

test('$retainKeys takes away the other fields of a union', () => {
  assert.deepEqual(
    apply(
      { spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } },
      { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } },
      deployment,
    ),
    { spec: { strategy: { type: 'Recreate' } } },
  );
  assert.deepEqual(
    apply(
      { spec: { volumes: [{ name: 'v', emptyDir: {} }] } },
      { spec: { volumes: [{ name: 'v', $retainKeys: ['name', 'hostPath'], hostPath: { path: '/x' } }] } },
    ),
    { spec: { volumes: [{ name: 'v', hostPath: { path: '/x' } }] } },
  );
});

test('$setElementOrder puts the named items into its order and weaves in the others', () => {
  const order = (...names: string[]): JsonObject[] => names.map((name) => ({ name }));
  assert.deepEqual(
    apply(
      { spec: { containers: order('a', 'b', 'c') } },
      { spec: { '$setElementOrder/containers': order('c', 'b', 'a') } },
    ),
    { spec: { containers: order('c', 'b', 'a') } },
  );
  assert.deepEqual(
    apply(
      { spec: { containers: order('a', 'server', 'b') } },
      { spec: { '$setElementOrder/containers': order('b', 'new', 'a'), containers: order('new') } },
    ),
    { spec: { containers: order('server', 'b', 'new', 'a') } },
  );
  assert.deepEqual(
    apply(
      { metadata: { finalizers: ['a', 'b', 'c'] } },
      { metadata: { '$setElementOrder/finalizers': ['c', 'd', 'a'], finalizers: ['d'] } },
    ),
    { metadata: { finalizers: ['b', 'c', 'd', 'a'] } },
  );
});

test('what the patch brings in whole carries neither nulls nor directives', () => {
  assert.deepEqual(
    apply(
      {},
      {
        spec: {
          nodeName: null,
          containers: [
            { name: 'a', image: null, ports: [{ containerPort: 80, name: null }] },
            { name: 'b', $patch: 'delete' },
          ],
          '$setElementOrder/containers': [{ name: 'a' }],
        },
      },
    ),
    { spec: { containers: [{ name: 'a', ports: [{ containerPort: 80 }] }] } },
  );
});

test('malformed patches are refused with the status and words of upstream', () => {
  const refused = (document: JsonObject, patch: unknown, code: number, why: string) =>
    assert.throws(
      () => applyStrategicMergePatch(document, patch, pod),
      (error) =>
        error instanceof StatusError &&
        error.code === code &&
        JSON.stringify(error.status).includes(JSON.stringify(why).slice(1, -1)),
      why,
    );
  const base = containers({ name: 'a' });
  refused(
    base,
    containers({ image: 'x' }),
    500,
    'map: map[image:x] does not contain declared merge key: name',
  );
  refused(base, { $patch: 'frob' }, 500, 'unknown patch type: frob in map: map[$patch:frob]');
  refused(base, containers({ name: 'a', $patch: 'merge' }), 500, 'merging lists cannot yet be specified');
  refused(base, { spec: { containers: [1] } }, 500, 'list element types are not identical');
  refused(base, { spec: { containers: [[1]] } }, 422, 'lists of lists are not supported');
  refused(
    base,
    { spec: { '$setElementOrder/containers': 1 } },
    400,
    'invalid patch format of setElementOrder list',
  );
  refused(base, { spec: { $setElementOrder: [] } }, 400, 'invalid patch format of setElementOrder list');
  refused(base, { spec: { $retainKeys: 'a' } }, 400, 'invalid patch format of retainKeys');
  refused(base, { spec: { $retainKeys: ['a'], nodeName: 'n' } }, 400, 'invalid patch format of retainKeys');
  refused(
    { metadata: { finalizers: ['a'] } },
    { metadata: { '$deleteFromPrimitiveList/finalizers': 1 } },
    400,
    'invalid patch format of primitive list',
  );
  refused(
    base,
    { spec: { containers: [{ name: 'x' }], '$setElementOrder/containers': [{ name: 'a' }] } },
    500,
    "doesn't match $setElementOrder list",
  );
  refused(base, [], 400, 'cannot unmarshal array');
});

// kubectl apply makes its patch from three documents: what it applied last, what it applies now, and what is live.
// This is that computation, written for the test; see upstream's CreateThreeWayMergePatch.

interface Rule {
  readonly schema: TypeSchema | undefined;
  readonly merge: boolean;
  readonly key: string | undefined;
}

function rule(schema: TypeSchema | undefined, name: string): Rule {
  if (schema?.type === 'object') {
    const one = schema.fields.get(name);
    return {
      schema: one?.schema,
      merge: one?.patchStrategy.includes('merge') ?? false,
      key: one?.patchMergeKey,
    };
  }
  return { schema: schema?.type === 'map' ? schema.values : undefined, merge: false, key: undefined };
}

interface Wanted {
  readonly additions: boolean;
  readonly deletions: boolean;
}

function diff(from: JsonObject, to: JsonObject, schema: TypeSchema | undefined, wanted: Wanted): JsonObject {
  const patch: Record<string, Json> = {};
  for (const name of Object.keys(from)) if (wanted.deletions && !(name in to)) patch[name] = null;
  for (const name of Object.keys(to)) {
    const before = from[name];
    const after = to[name] as Json;
    const { schema: inner, merge, key } = rule(schema, name);
    if (isObject(before) && isObject(after)) {
      const change = diff(before, after, inner, wanted);
      if (Object.keys(change).length > 0) patch[name] = change;
    } else if (isList(before) && isList(after) && merge) {
      diffList(patch, name, before, after, inner, key, wanted);
    } else if (wanted.additions && !sameJson(before, after)) {
      patch[name] = after;
    }
  }
  return patch;
}

function diffList(
  patch: Record<string, Json>,
  name: string,
  before: readonly Json[],
  after: readonly Json[],
  schema: TypeSchema | undefined,
  key: string | undefined,
  wanted: Wanted,
): void {
  if (key === undefined) {
    const gone = before.filter((item) => !after.includes(item));
    const added = after.filter((item) => !before.includes(item));
    if (wanted.deletions && gone.length > 0) patch[`$deleteFromPrimitiveList/${name}`] = gone;
    if (wanted.additions && added.length > 0) patch[name] = added;
    if ((wanted.deletions && gone.length > 0) || (wanted.additions && !sameJson(before, after)))
      patch[`$setElementOrder/${name}`] = after;
    return;
  }
  const items = schema?.type === 'list' ? schema.items : undefined;
  const find = (list: readonly Json[], wantedKey: Json) =>
    list.find((item) => (item as JsonObject)[key] === wantedKey) as JsonObject | undefined;
  const changes: JsonObject[] = [];
  for (const item of after as readonly JsonObject[]) {
    const old = find(before, item[key]!);
    if (old === undefined) {
      if (wanted.additions) changes.push(item);
    } else {
      const change = diff(old, item, items, wanted);
      if (Object.keys(change).length > 0) changes.push({ ...change, [key]: item[key]! });
    }
  }
  const keys = (list: readonly Json[]) => list.map((item) => (item as JsonObject)[key]!);
  const sameOrder = sameJson(keys(before), keys(after));
  if (wanted.deletions)
    for (const gone of keys(before))
      if (find(after, gone) === undefined) changes.push({ $patch: 'delete', [key]: gone });
  if (changes.length > 0) patch[name] = changes;
  if (changes.length > 0 || (wanted.additions && !sameOrder))
    patch[`$setElementOrder/${name}`] = keys(after).map((value) => ({ [key]: value }));
}

let state = 1;
const next = (below: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const some = <T>(all: readonly T[]): T[] => all.filter(() => next(2) === 0).sort(() => next(3) - 1);

function randomDeployment(): JsonObject {
  const container = (name: string): JsonObject => ({
    name,
    image: `image:${next(3)}`,
    ...(next(2) === 0 && { args: some(['a', 'b', 'c']) }),
    ...(next(2) === 0 && {
      env: some(['A', 'B', 'C', 'D']).map((one) => ({ name: one, value: String(next(2)) })),
    }),
    ...(next(2) === 0 && {
      ports: some([80, 81, 82]).map((one) => ({
        containerPort: one,
        protocol: next(2) === 0 ? 'TCP' : 'UDP',
      })),
    }),
    ...(next(2) === 0 && { resources: { limits: { cpu: `${next(3)}` } } }),
  });
  const volume = (name: string): JsonObject =>
    next(2) === 0 ? { name, emptyDir: {} } : { name, configMap: { name: `c${next(2)}` } };
  return {
    metadata: {
      name: 'web',
      ...(next(2) === 0 && {
        labels: Object.fromEntries(some(['x', 'y', 'z']).map((one) => [one, String(next(2))])),
      }),
      ...(next(2) === 0 && { finalizers: some(['f1', 'f2', 'f3', 'f4']) }),
    },
    spec: {
      replicas: next(4),
      template: {
        spec: {
          containers: some(['a', 'b', 'c', 'd']).map(container),
          ...(next(2) === 0 && { volumes: some(['v', 'w']).map(volume) }),
          ...(next(2) === 0 && { tolerations: [{ key: `k${next(2)}` }] }),
        },
      },
    },
  };
}

/** What the server adds on its own: fields, containers and finalizers that kubectl knows nothing of. */
function withServerFields(document: JsonObject): JsonObject {
  const live = structuredClone(document) as {
    metadata: { finalizers?: string[]; uid?: string };
    spec: { template: { spec: { containers: JsonObject[] } }; paused?: boolean };
  };
  live.metadata.uid = 'u';
  live.spec.paused = true;
  live.spec.template.spec.containers.splice(next(3), 0, { name: 'injected', image: 'sidecar' });
  return live as unknown as JsonObject;
}

test('property: a two-way difference applied to the original gives the modified object, order included', () => {
  for (let i = 0; i < 1_500; i++) {
    const original = randomDeployment();
    const modified = randomDeployment();
    const patch = diff(original, modified, deployment, { additions: true, deletions: true });
    assert.deepEqual(apply(original, patch, deployment), modified, JSON.stringify(patch));
  }
});

test('property: a three-way patch keeps what the server added and brings the rest to the modified object', () => {
  for (let i = 0; i < 1_500; i++) {
    const original = randomDeployment();
    const modified = randomDeployment();
    const live = withServerFields(original);
    const before = JSON.stringify(live);
    const changes = diff(live, modified, deployment, { additions: true, deletions: false });
    const deletions = diff(original, modified, deployment, { additions: false, deletions: true });
    // Deletions first, then changes: upstream merges both into one patch that means the same.
    const patched = apply(apply(live, deletions, deployment), changes, deployment) as {
      metadata: { uid?: string };
      spec: { paused?: boolean; template: { spec: { containers: JsonObject[] } } };
    };
    assert.equal(patched.metadata.uid, 'u');
    assert.equal(patched.spec.paused, true);
    const all = patched.spec.template.spec.containers;
    assert.equal(all.filter((one) => one['name'] === 'injected').length, 1);
    const stripped = structuredClone(patched);
    delete stripped.metadata.uid;
    delete stripped.spec.paused;
    stripped.spec.template.spec.containers = all.filter((one) => one['name'] !== 'injected');
    assert.deepEqual(stripped, modified);
    assert.equal(JSON.stringify(live), before);
  }
});
