// Lists and watches on the wire: pages, versions, selectors, bookmarks, initial events, what is too old or too new, and
// how an answer without an end begins and ends.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import WebSocket from 'ws';
import type { Status } from '../../src/api/types/meta-v1.ts';
import { type HttpAnswer, type HttpClient, jsonLines } from '../../src/apiserver/testing/http-client.ts';
import { resources } from '../../src/cluster/testing.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

interface Item {
  readonly metadata: {
    readonly name: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}
interface List {
  readonly kind: string;
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items: readonly Item[];
}
interface Event {
  readonly type: string;
  readonly object: Item & Partial<Status> & { readonly kind: string };
}

let sim: SimulatedCluster;
let clients: readonly HttpClient[];

before(async () => {
  sim = await startSimulated({ nodes: 0 });
  clients = [sim.http, sim.httpWith({ protocol: 'HTTP/1.1' })];
});
after(() => sim[Symbol.asyncDispose]());

let spaces = 0;
/** A namespace of its own with these ConfigMaps, so that tests do not see one another's. */
async function space(...names: string[]): Promise<string> {
  const namespace = `space-${++spaces}`;
  await sim.cluster.client.resource(resources.namespaces).create({ metadata: { name: namespace } });
  // The controller's own ConfigMap comes first, so that it is not in the way of what the test counts.
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const seen = await sim.http.open({ path: `${path}?watch=true&labelSelector=!mine&timeoutSeconds=30` });
  for await (const event of jsonLines<Event>(seen))
    if (event.object.metadata.name === 'kube-root-ca.crt') break;
  for (const name of names) await write(namespace, name);
  return path;
}
const configMaps = (namespace: string) => sim.cluster.client.resource(resources.configMaps, namespace);
const write = (namespace: string, name: string, labels: Record<string, string> = {}) =>
  configMaps(namespace).create({ metadata: { name, labels: { mine: '', ...labels } } });
const namespaceOf = (path: string): string => path.split('/')[4]!;

const get = (path: string, query: Record<string, string>, client = sim.http): Promise<HttpAnswer> =>
  client.call({ path: `${path}?${new URLSearchParams(query)}` });
const list = async (path: string, query: Record<string, string> = {}): Promise<List> => {
  const answer = await get(path, { labelSelector: 'mine', ...query });
  assert.equal(answer.status, 200, answer.body.toString());
  return answer.json<List>();
};
const namesOf = ({ items }: List): string[] => items.map(({ metadata }) => metadata.name);
async function refused(
  path: string,
  query: Record<string, string>,
  code: number,
  reason: string,
): Promise<Status> {
  const answer = await get(path, query);
  const status = answer.json<Status>();
  assert.deepEqual([answer.status, status.reason], [code, reason], answer.body.toString());
  return status;
}

describe('a list in pages', () => {
  it('shows one moment, whatever happens between the pages', async () => {
    const path = await space('a', 'b', 'c', 'd', 'e');
    const first = await list(path, { limit: '2' });
    assert.deepEqual(namesOf(first), ['a', 'b']);
    await configMaps(namespaceOf(path)).delete('c');
    await write(namespaceOf(path), 'bb');
    const second = await list(path, { limit: '2', continue: first.metadata.continue! });
    assert.deepEqual(namesOf(second), ['c', 'd']);
    const third = await list(path, { limit: '2', continue: second.metadata.continue! });
    assert.deepEqual(namesOf(third), ['e']);
    assert.equal(third.metadata.continue ?? '', '');
    assert.deepEqual(
      [second, third].map(({ metadata }) => metadata.resourceVersion),
      [first.metadata.resourceVersion, first.metadata.resourceVersion],
    );
    assert.deepEqual(namesOf(await list(path)), ['a', 'b', 'bb', 'd', 'e']);
  });

  it('counts what remains when no selector is in the way', async () => {
    const path = await space('a', 'b', 'c');
    const { metadata } = (await get(path, { limit: '1' })).json<List>();
    assert.equal(metadata.remainingItemCount, 3);
    assert.equal((await list(path, { limit: '1' })).metadata.remainingItemCount, undefined);
  });

  it('refuses tokens that it did not give, and versions beside them', async () => {
    const path = await space('a', 'b');
    const { metadata } = await list(path, { limit: '1' });
    await refused(path, { continue: 'nonsense' }, 400, 'BadRequest');
    const { message } = await refused(
      path,
      { continue: metadata.continue!, resourceVersion: '5', labelSelector: 'mine' },
      400,
      'BadRequest',
    );
    assert.match(message ?? '', /specifying resource version is not allowed when using continue/);
  });
});

describe('a list at a version', () => {
  it('is exact, not older, any or the newest, as asked', async () => {
    const path = await space('a');
    const before = (await list(path)).metadata.resourceVersion;
    await write(namespaceOf(path), 'b');
    const at = (query: Record<string, string>) => list(path, query).then(namesOf);
    assert.deepEqual(await at({ resourceVersion: before, resourceVersionMatch: 'Exact' }), ['a']);
    assert.deepEqual(await at({ resourceVersion: before, resourceVersionMatch: 'NotOlderThan' }), ['a', 'b']);
    assert.deepEqual(await at({ resourceVersion: before }), ['a', 'b']);
    assert.deepEqual(await at({ resourceVersion: '0' }), ['a', 'b']);
    assert.deepEqual(await at({ resourceVersion: before, limit: '5' }), ['a']); // a page is of its version
    assert.deepEqual(await at({}), ['a', 'b']);
  });

  it('is refused when the version is none, in the future, or the match makes no sense', async () => {
    const path = await space('a');
    await refused(path, { resourceVersion: 'x' }, 422, 'Invalid');
    const future = await refused(path, { resourceVersion: '99999999', timeoutSeconds: '1' }, 504, 'Timeout');
    assert.match(future.message ?? '', /^Timeout: Too large resource version: 99999999, current: \d+$/);
    assert.deepEqual(future.details?.causes, [
      { reason: 'ResourceVersionTooLarge', message: 'Too large resource version' },
    ]);
    assert.ok(future.details?.retryAfterSeconds);
    for (const [query, message] of [
      [
        { resourceVersionMatch: 'Exact' },
        /resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided/,
      ],
      [
        { resourceVersion: '0', resourceVersionMatch: 'Exact' },
        /resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"/,
      ],
      [
        { resourceVersion: '1', resourceVersionMatch: 'Newest' },
        /resourceVersionMatch: Unsupported value: "Newest"/,
      ],
    ] as const)
      assert.match((await refused(path, query, 422, 'Invalid')).message ?? '', message);
  });

  it('a single object is not older than asked', async () => {
    const path = await space('a');
    const { metadata } = (await get(`${path}/a`, { resourceVersion: '0' })).json<Item>();
    assert.equal((await get(`${path}/a`, { resourceVersion: metadata.resourceVersion })).status, 200);
  });
});

describe('a watch', () => {
  /** Reads events until `enough` says so. */
  async function events(
    path: string,
    query: Record<string, string>,
    enough: (event: Event) => boolean,
    client = sim.http,
    meanwhile?: () => Promise<unknown>,
  ): Promise<Event[]> {
    const stream = await client.open({
      path: `${path}?${new URLSearchParams({ watch: 'true', labelSelector: 'mine', timeoutSeconds: '30', ...query })}`,
    });
    assert.equal(stream.status, 200);
    assert.equal(stream.headers['content-type'], 'application/json');
    const acting = meanwhile?.();
    const seen: Event[] = [];
    for await (const event of jsonLines<Event>(stream)) {
      seen.push(event);
      if (enough(event)) break;
    }
    stream.close();
    await acting;
    return seen;
  }
  const short = (list: readonly Event[]): string[] =>
    list.map(({ type, object }) => `${type} ${object.metadata.name}`);

  it('tells every change from a version on, in order, over both protocols', async () => {
    for (const client of clients) {
      const path = await space('a');
      const namespace = namespaceOf(path);
      const { metadata } = await list(path);
      const seen = await events(
        path,
        { resourceVersion: metadata.resourceVersion },
        ({ type }) => type === 'DELETED',
        client,
        async () => {
          await write(namespace, 'b');
          await configMaps(namespace).patch('b', { type: 'merge', patch: { data: { x: 'y' } } });
          await configMaps(namespace).delete('b');
        },
      );
      assert.deepEqual(short(seen), ['ADDED b', 'MODIFIED b', 'DELETED b']);
      const versions = seen.map(({ object }) => Number(object.metadata.resourceVersion));
      assert.deepEqual(
        versions,
        versions.toSorted((x, y) => x - y),
      );
      // The same again from the past.
      assert.deepEqual(
        short(
          await events(
            path,
            { resourceVersion: metadata.resourceVersion },
            ({ type }) => type === 'DELETED',
            client,
          ),
        ),
        short(seen),
      );
    }
  });

  it('sees objects come and go by its selector', async () => {
    const path = await space();
    const namespace = namespaceOf(path);
    await write(namespace, 'a', { colour: 'red' });
    const paint = (colour: string) =>
      configMaps(namespace).patch('a', { type: 'merge', patch: { metadata: { labels: { colour } } } });
    const { metadata } = await list(path);
    const seen = await events(
      path,
      { labelSelector: 'colour=red', resourceVersion: metadata.resourceVersion },
      ({ object }) => object.metadata.name === 'end',
      sim.http,
      async () => {
        await paint('blue');
        await paint('green');
        await paint('red');
        await write(namespace, 'end', { colour: 'red' });
      },
    );
    assert.deepEqual(short(seen), ['DELETED a', 'ADDED a', 'ADDED end']);
    const named = await events(path, { fieldSelector: 'metadata.name=a' }, () => true);
    assert.deepEqual(short(named), ['ADDED a']);
  });

  it('begins with what there is, and says where that ends', async () => {
    const path = await space('a', 'b');
    const query = {
      sendInitialEvents: 'true',
      resourceVersionMatch: 'NotOlderThan',
      allowWatchBookmarks: 'true',
    };
    const seen = await events(path, query, ({ type }) => type === 'BOOKMARK');
    assert.deepEqual(short(seen.slice(0, -1)), ['ADDED a', 'ADDED b']);
    const end = seen.at(-1)?.object;
    assert.equal(end?.metadata.annotations?.['k8s.io/initial-events-end'], 'true');
    assert.equal(end?.kind, 'ConfigMap');
    assert.deepEqual(Object.keys(end?.metadata ?? {}).sort(), ['annotations', 'resourceVersion']);
    assert.ok(Number(end?.metadata.resourceVersion) >= Number((await list(path)).metadata.resourceVersion));
    assert.deepEqual(short(await events(path, {}, ({ object }) => object.metadata.name === 'b')), [
      'ADDED a',
      'ADDED b',
    ]);
    for (const [wrong, message] of [
      [
        { sendInitialEvents: 'true' },
        /sendInitialEvents: Forbidden|resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan/,
      ],
      [
        { resourceVersionMatch: 'NotOlderThan' },
        /resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided/,
      ],
    ] as const)
      assert.match((await refused(path, { watch: 'true', ...wrong }, 422, 'Invalid')).message ?? '', message);
  });

  it('ends when its time is up, as an answer that is whole', async () => {
    const path = await space('a');
    for (const client of clients) {
      const seen = await events(
        path,
        { timeoutSeconds: '1', allowWatchBookmarks: 'true' },
        () => false,
        client,
      );
      assert.deepEqual(short(seen.filter(({ type }) => type !== 'BOOKMARK')), ['ADDED a']);
    }
  });

  it('of a version in the future waits for it, and of no version is refused', async () => {
    const path = await space('a');
    await refused(path, { watch: 'true', resourceVersion: 'x' }, 422, 'Invalid');
    const { metadata } = await list(path);
    const next = String(Number(metadata.resourceVersion) + 1);
    const seen = await events(
      path,
      { resourceVersion: next },
      () => true,
      sim.http,
      async () => {
        await write(namespaceOf(path), 'passed-over');
        await write(namespaceOf(path), 'b');
      },
    );
    assert.ok(['ADDED b', 'ADDED passed-over'].includes(short(seen)[0]!));
  });

  it('gives rows and metadata, and goes over a WebSocket too', async () => {
    const path = await space('a', 'b');
    const rows = await sim.http.open({
      path: `${path}?watch=true&labelSelector=mine&timeoutSeconds=1`,
      headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
    });
    const cells: unknown[] = [];
    for await (const { object } of jsonLines<{ object: { rows: { cells: unknown[] }[] } }>(rows))
      cells.push(object.rows[0]?.cells[0]);
    assert.deepEqual(cells, ['a', 'b']);
    const token = (await sim.kubectl('create', 'token', 'default')).trim();
    await sim.kubectl(
      'create',
      'clusterrolebinding',
      'reader',
      '--clusterrole=view',
      '--serviceaccount=default:default',
    );
    // Browsers cannot set headers: they send the token as a protocol's name.
    const protocols = [
      `base64url.bearer.authorization.k8s.io.${Buffer.from(token).toString('base64url')}`,
      'base64.binary.k8s.io',
    ];
    const socket = new WebSocket(
      `${sim.cluster.url.replace('https', 'wss')}${path}?watch=true&labelSelector=mine`,
      protocols,
      { rejectUnauthorized: false },
    );
    const seen: string[] = [];
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('message', (data) => {
        const text = data.toString();
        const { type, object } = JSON.parse(
          text.startsWith('{') ? text : Buffer.from(text, 'base64').toString(),
        ) as Event;
        seen.push(`${type} ${object.metadata.name}`);
        if (seen.length === 2) resolve();
      });
    });
    await new Promise<void>((resolve) => socket.once('close', () => resolve()).close());
    assert.deepEqual(seen, ['ADDED a', 'ADDED b']);
  });

  it('of all namespaces reaches a hundred watchers', async () => {
    const path = await space();
    const namespace = namespaceOf(path);
    const { metadata } = await list('/api/v1/configmaps');
    const watchers = Array.from({ length: 100 }, () =>
      events(
        '/api/v1/configmaps',
        { resourceVersion: metadata.resourceVersion },
        ({ object }) => object.metadata.name === 'z',
      ),
    );
    for (const name of ['x', 'y', 'z']) await write(namespace, name);
    for (const seen of await Promise.all(watchers))
      assert.deepEqual(short(seen), ['ADDED x', 'ADDED y', 'ADDED z']);
  });

  it('from any moment on arrives where a list arrives, whatever happens in between', async () => {
    const path = await space();
    const namespace = namespaceOf(path);
    const random = seeded(20_36);
    const pick = (n: number): number => Math.floor(random() * n);
    const colours = ['red', 'green', 'blue'];
    /** What one watcher knows: name → version. */
    const follow = async (client: HttpClient, selector: string): Promise<Map<string, string>> => {
      const begun = (await get(path, { labelSelector: selector }, client)).json<List>();
      const known = new Map(begun.items.map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
      if (known.delete('end')) return known; // its list came last of all
      const query = { labelSelector: selector, resourceVersion: begun.metadata.resourceVersion };
      await events(
        path,
        query,
        ({ type, object: { metadata } }) => {
          if (type === 'DELETED') assert.ok(known.delete(metadata.name), `${metadata.name} was not known`);
          else {
            assert.equal(type, known.has(metadata.name) ? 'MODIFIED' : 'ADDED', metadata.name);
            known.set(metadata.name, metadata.resourceVersion);
          }
          return metadata.name === 'end';
        },
        client,
      );
      known.delete('end');
      return known;
    };
    const watchers: { selector: string; known: Promise<Map<string, string>> }[] = [];
    const writer = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) {
        const name = `o-${pick(12)}`;
        const labels = { mine: '', colour: colours[pick(3)]! };
        const act = pick(4);
        const done =
          act === 0
            ? configMaps(namespace).delete(name)
            : act === 1
              ? configMaps(namespace).create({ metadata: { name, labels } })
              : configMaps(namespace).patch(name, {
                  type: 'merge',
                  patch: { metadata: { labels }, data: { i: String(i) } },
                });
        await done.catch((error: { code?: number }) => assert.ok(error.code === 404 || error.code === 409));
        if (pick(20) > 0) continue;
        const selector = ['mine', 'mine,colour=red', 'mine,colour!=blue'][pick(3)]!;
        const client = clients[pick(2)]!;
        watchers.push({ selector, known: follow(client, selector) });
      }
    };
    await Promise.all([writer(), writer(), writer(), writer()]);
    assert.ok(watchers.length > 5);
    await write(namespace, 'end', { colour: 'red' });
    for (const { selector, known } of watchers) {
      const { items } = await list(path, { labelSelector: selector });
      const expected = items.filter(({ metadata }) => metadata.name !== 'end');
      assert.deepEqual(
        [...(await known)].toSorted(),
        expected.map(({ metadata }) => [metadata.name, metadata.resourceVersion]).toSorted(),
        selector,
      );
    }
  });
});

/** Numbers that are the same at each run (mulberry32), uniform in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
