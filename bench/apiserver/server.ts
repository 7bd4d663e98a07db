// The server of the API server's benchmark, in a process of its own: prints where it listens and how to get in as
// one line of JSON, and ends when its standard input does.

import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultChain, startApiServer } from '../../src/apiserver/index.ts';
import { testAuthority } from '../../src/apiserver/testing/certificates.ts';
import { createMemoryStore, openJournalStore } from '../../src/store/index.ts';

const durable = process.argv[2] !== 'memory';
const folder = await mkdtemp(join(process.env['BULKHEAD_BENCH_DIR'] ?? tmpdir(), 'bulkhead-bench-'));
const store = durable ? await openJournalStore({ directory: folder }) : createMemoryStore();
const authority = await testAuthority();
const [serving, admin] = await Promise.all([
  authority.server(),
  // No member of system:masters: requests go through RBAC like those of everybody.
  authority.client('bench', ['bench-clients']),
]);
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const started = performance.now();
const server = await startApiServer({
  store,
  chain: defaultChain({
    serviceAccountKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }),
  listen: {
    host: '127.0.0.1',
    port: 0,
    certificate: serving.certificate,
    key: serving.key,
    clientCa: authority.certificate,
  },
});
const answersMs = performance.now() - started;
await server.ready;
const readyMs = performance.now() - started;
await server.transport({ name: 'bench-setup', groups: ['system:masters'] }).call({
  verb: 'create',
  resource: { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterrolebindings' },
  body: {
    metadata: { name: 'bench' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'bench-clients' }],
  },
});
console.log(
  JSON.stringify({
    url: server.url,
    ca: authority.certificate,
    certificate: admin.certificate,
    key: admin.key,
    answersMs,
    readyMs,
  }),
);
process.stdin.resume();
process.stdin.once('end', async () => {
  await server[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
  process.exit(0);
});
