// The API as it is on the wire: reading, writing and deleting single objects.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Status } from '../../src/api/types/meta-v1.ts';
import type { HttpAnswer, HttpClient } from '../../src/apiserver/testing/http-client.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { failure } from './support/status.ts';

interface Obj {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation?: number;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly finalizers?: readonly string[];
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly data?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';

let sim: SimulatedCluster;
let http: HttpClient;

before(async () => {
  sim = await startSimulated();
  http = sim.http;
});
after(() => sim[Symbol.asyncDispose]());

let names = 0;
const fresh = (): string => `c-${++names}`;
const post = (path: string, body: object | string, headers?: Record<string, string>): Promise<HttpAnswer> =>
  http.call({ method: 'POST', path, body, ...(headers && { headers }) });
const put = (path: string, body: object): Promise<HttpAnswer> => http.call({ method: 'PUT', path, body });
const remove = (path: string, body?: object): Promise<HttpAnswer> =>
  http.call({ method: 'DELETE', path, ...(body && { body }) });
const patch = (path: string, type: string, body: unknown): Promise<HttpAnswer> =>
  http.call({
    method: 'PATCH',
    path,
    body: JSON.stringify(body),
    headers: { 'content-type': `application/${type}+json` },
  });
async function created(extra: object = {}): Promise<Obj> {
  const answer = await post(CONFIG_MAPS, { metadata: { name: fresh() }, data: { a: '1' }, ...extra });
  assert.equal(answer.status, 201, answer.body.toString());
  return answer.json<Obj>();
}
describe('an object', () => {
  it('gets its metadata from the server and keeps what it is given', async () => {
    const { metadata, data, kind } = await created();
    assert.equal(kind, 'ConfigMap');
    assert.match(metadata.uid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.match(metadata.creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.ok(Number(metadata.resourceVersion) > 0);
    assert.deepEqual(data, { a: '1' });
    const again = await http.call({ path: `${CONFIG_MAPS}/${metadata.name}` });
    assert.deepEqual(again.json<Obj>().metadata, metadata);
  });

  it('gets a name made up when asked, of five easy letters', async () => {
    const answers = await Promise.all(
      [1, 2, 3].map(() => post(CONFIG_MAPS, { metadata: { generateName: 'made-' } })),
    );
    const made = answers.map((answer) => answer.json<Obj>().metadata.name);
    for (const name of made) assert.match(name, /^made-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.equal(new Set(made).size, 3);
  });

  it('counts changes of its specification as generations, and of nothing else', async () => {
    const labels = { app: fresh() };
    const spec = {
      replicas: 0,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i' }] } },
    };
    const made = (await post(DEPLOYMENTS, { metadata: { name: labels.app }, spec })).json<Obj>();
    assert.equal(made.metadata.generation, 1);
    const path = `${DEPLOYMENTS}/${labels.app}`;
    await patch(path, 'merge-patch', { metadata: { labels: { x: 'y' } } });
    await patch(`${path}/status`, 'merge-patch', { status: { collisionCount: 3 } });
    assert.equal((await http.call({ path })).json<Obj>().metadata.generation, 1);
    await patch(path, 'merge-patch', { spec: { paused: true } });
    const { metadata, status } = (await http.call({ path })).json<
      Obj & { status: { collisionCount: number } }
    >();
    assert.deepEqual([metadata.generation, status.collisionCount], [2, 3]);
    // A status in an update of the object, and a specification in one of its status, are left aside.
    const current = (await http.call({ path })).json<Obj & { spec: object }>();
    await put(path, { ...current, status: { collisionCount: 9 } });
    const latest = (await http.call({ path })).json<Obj & { spec: object }>();
    await put(`${path}/status`, {
      ...latest,
      spec: { ...latest.spec, paused: false },
      status: { collisionCount: 4 },
    });
    const end = (await http.call({ path })).json<
      Obj & { spec: { paused: boolean }; status: { collisionCount: number } }
    >();
    assert.deepEqual([end.spec.paused, end.status.collisionCount], [true, 4]);
  });

  it('is served as YAML, pretty JSON, a table or metadata alone to who asks', async () => {
    const { metadata } = await created();
    const path = `${CONFIG_MAPS}/${metadata.name}`;
    const as = async (accept: string) => http.call({ path, headers: { accept } });
    assert.match((await as('application/yaml')).body.toString(), /^apiVersion: v1\n|^kind: ConfigMap\n/m);
    assert.match((await http.call({ path: `${path}?pretty=true` })).body.toString(), /^{\n {2}"/);
    const table = (await as('application/json;as=Table;v=v1;g=meta.k8s.io')).json<{
      kind: string;
      rows: { cells: unknown[] }[];
    }>();
    assert.deepEqual([table.kind, table.rows[0]?.cells.slice(0, 2)], ['Table', [metadata.name, 1]]);
    const partial = (await as('application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io')).json<Obj>();
    assert.deepEqual(
      [partial.kind, partial.metadata.uid, partial.data],
      ['PartialObjectMetadata', metadata.uid, undefined],
    );
    // The first form that the server has wins, as kubectl relies on.
    assert.equal((await as('application/nonsense,application/json;q=0.5')).json<Obj>().kind, 'ConfigMap');
  });
});

describe('writing', () => {
  it('is refused when somebody else was quicker', async () => {
    const first = await created();
    const path = `${CONFIG_MAPS}/${first.metadata.name}`;
    assert.equal((await put(path, { ...first, data: { a: '2' } })).status, 200);
    const { message, details } = failure(await put(path, { ...first, data: { a: '3' } }), 409, 'Conflict');
    assert.equal(
      message,
      `Operation cannot be fulfilled on configmaps "${first.metadata.name}": the object has been modified; please apply your changes to the latest version and try again`,
    );
    assert.deepEqual(details, { name: first.metadata.name, kind: 'configmaps' });
    // Without a version the last one wins; with another uid it is another object.
    assert.equal(
      (await put(path, { metadata: { name: first.metadata.name }, data: { a: '4' } })).status,
      200,
    );
    const { message: other } = failure(
      await put(path, {
        metadata: { name: first.metadata.name, uid: '00000000-0000-4000-8000-000000000000' },
      }),
      409,
      'Conflict',
    );
    assert.match(
      other ?? '',
      /Precondition failed: UID in precondition: 00000000-0000-4000-8000-000000000000, UID in object meta: /,
    );
  });

  it('of the same thing again is no change and no event', async () => {
    const first = await created();
    const path = `${CONFIG_MAPS}/${first.metadata.name}`;
    const second = (await put(path, first)).json<Obj>();
    assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  });

  it('loses nothing when many write at once', async () => {
    const { metadata } = await created();
    const path = `${CONFIG_MAPS}/${metadata.name}`;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => patch(path, 'merge-patch', { data: { [`k${i}`]: 'v' } })),
    );
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
    assert.equal(Object.keys((await http.call({ path })).json<Obj>().data ?? {}).length, 21);
  });

  it('with dryRun does everything but keep the result', async () => {
    const body = { metadata: { name: fresh() }, data: { a: '1' } };
    const dry = await post(`${CONFIG_MAPS}?dryRun=All`, body);
    assert.equal(dry.status, 201);
    assert.ok(dry.json<Obj>().metadata.uid);
    const path = `${CONFIG_MAPS}/${body.metadata.name}`;
    failure(await http.call({ path }), 404, 'NotFound');
    await post(CONFIG_MAPS, body);
    assert.equal(
      (await patch(`${path}?dryRun=All`, 'merge-patch', { data: { b: '2' } })).json<Obj>().data?.['b'],
      '2',
    );
    assert.equal((await remove(`${path}?dryRun=All`)).status, 200);
    assert.deepEqual((await http.call({ path })).json<Obj>().data, { a: '1' });
    failure(await post(`${CONFIG_MAPS}?dryRun=All`, body), 409, 'AlreadyExists');
    failure(await post(`${CONFIG_MAPS}?dryRun=Some`, body), 422, 'Invalid');
  });

  it('judges unknown fields as fieldValidation says', async () => {
    const body = { metadata: { name: fresh() }, datum: {} };
    const duplicate = `{"metadata":{"name":"${fresh()}"},"data":{"a":"1","a":"2"}}`;
    assert.match(
      failure(await post(`${CONFIG_MAPS}?fieldValidation=Strict`, body), 400, 'BadRequest').message ?? '',
      /strict decoding error: unknown field "datum"$/,
    );
    assert.match(
      failure(await post(`${CONFIG_MAPS}?fieldValidation=Strict`, duplicate), 400, 'BadRequest').message ??
        '',
      /strict decoding error: .*duplicate field "data.a"|json: .*duplicate/,
    );
    const warned = await post(CONFIG_MAPS, body);
    assert.deepEqual([warned.status, warned.headers['warning']], [201, '299 - "unknown field \\"datum\\""']);
    const ignored = await post(`${CONFIG_MAPS}?fieldValidation=Ignore`, {
      ...body,
      metadata: { name: fresh() },
    });
    assert.deepEqual([ignored.status, ignored.headers['warning']], [201, undefined]);
    assert.equal(ignored.json<Obj>()['datum'], undefined);
    failure(await post(`${CONFIG_MAPS}?fieldValidation=Sometimes`, body), 422, 'Invalid');
  });

  it('judges the fields of patches in the same way', async () => {
    const { metadata } = await created();
    const scaled = await post(DEPLOYMENTS, {
      metadata: { name: metadata.name },
      spec: {
        replicas: 0,
        selector: { matchLabels: { app: 'judged' } },
        template: {
          metadata: { labels: { app: 'judged' } },
          spec: { containers: [{ name: 'c', image: 'x' }] },
        },
      },
    });
    assert.equal(scaled.status, 201, scaled.body.toString());
    const attempt = (
      path: string,
      type: string,
      body: string,
      fieldValidation: string,
    ): Promise<HttpAnswer> =>
      http.call({
        method: 'PATCH',
        path: `${path}?fieldValidation=${fieldValidation}`,
        body,
        headers: { 'content-type': `application/${type}+json` },
      });
    const [first, second] = ['duplicate field "metadata.labels"', 'unknown field "datum"'];
    for (const path of [`${CONFIG_MAPS}/${metadata.name}`, `${DEPLOYMENTS}/${metadata.name}/scale`])
      for (const type of ['merge-patch', 'strategic-merge-patch']) {
        const body = '{"metadata":{"labels":null,"labels":null},"datum":1}';
        const strict = failure(await attempt(path, type, body, 'Strict'), 422, 'Invalid');
        assert.ok(strict.message?.endsWith(`strict decoding error: ${first}, ${second}`), strict.message);
        const { status, headers } = await attempt(path, type, body, 'Warn');
        assert.deepEqual(
          [status, headers['warning']],
          [200, [first, second].map((text) => `299 - "${text.replaceAll('"', '\\"')}"`).join(', ')],
        );
        const ignored = await attempt(path, type, body, 'Ignore');
        assert.deepEqual([ignored.status, ignored.headers['warning']], [200, undefined]);
      }
    const operations = '[{"op":"test","op":"add","path":"/data/b","value":"1"}]';
    const listed = await attempt(`${CONFIG_MAPS}/${metadata.name}`, 'json-patch', operations, 'Strict');
    assert.match(failure(listed, 422, 'Invalid').message ?? '', /duplicate field "\[0\]\.op"$/);
  });
});

describe('deleting', () => {
  it('answers with a Status, and with the object while finalizers hold it', async () => {
    const plain = await created();
    const gone = (await remove(`${CONFIG_MAPS}/${plain.metadata.name}`)).json<Status>();
    assert.deepEqual(
      [gone.kind, gone.status, gone.details],
      ['Status', 'Success', { name: plain.metadata.name, kind: 'configmaps', uid: plain.metadata.uid }],
    );
    const held = await created({ metadata: { name: fresh(), finalizers: ['example.com/hold'] } });
    const path = `${CONFIG_MAPS}/${held.metadata.name}`;
    const dying = (await remove(path)).json<Obj>();
    assert.ok(dying.metadata.deletionTimestamp);
    const again = await put(path, {
      ...dying,
      metadata: { ...dying.metadata, finalizers: ['example.com/hold', 'example.com/more'] },
    });
    assert.match(
      failure(again, 422, 'Invalid').message ?? '',
      /metadata\.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \[\]string{"example.com\/more"}/,
    );
    await patch(path, 'json-patch', [{ op: 'remove', path: '/metadata/finalizers' }]);
    failure(await http.call({ path }), 404, 'NotFound');
  });

  it('holds to preconditions', async () => {
    const { metadata } = await created();
    const path = `${CONFIG_MAPS}/${metadata.name}`;
    const wrong = { uid: '00000000-0000-4000-8000-000000000000' };
    assert.match(
      failure(await remove(path, { preconditions: wrong }), 409, 'Conflict').message ?? '',
      /the UID in the precondition \(\S+\) does not match the UID in record/,
    );
    failure(await remove(path, { preconditions: { resourceVersion: '1' } }), 409, 'Conflict');
    const { uid, resourceVersion } = metadata;
    assert.equal((await remove(path, { preconditions: { uid, resourceVersion } })).status, 200);
  });

  it('a collection takes what the selectors choose', async () => {
    const group = fresh();
    for (const colour of ['red', 'red', 'blue'])
      await created({ metadata: { name: fresh(), labels: { group, colour } } });
    const chosen = `${CONFIG_MAPS}?labelSelector=group%3D${group}`;
    assert.equal((await remove(`${chosen},colour%3Dred`)).json<{ items: unknown[] }>().items.length, 2);
    const left = (await http.call({ path: chosen })).json<{ items: Obj[] }>().items;
    assert.deepEqual(
      left.map(({ metadata }) => metadata.labels?.['colour']),
      ['blue'],
    );
  });
});
