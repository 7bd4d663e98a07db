// The server of the API server's benchmark, in a process of its own: prints where it listens and how to get in as
// one line of JSON, and ends when its standard input does.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTestServer } from '../../src/apiserver/testing/test-server.ts';
import { createMemoryStore, openJournalStore } from '../../src/store/index.ts';

const durable = process.argv[2] !== 'memory';
const folder = await mkdtemp(join(process.env['BULKHEAD_BENCH_DIR'] ?? tmpdir(), 'bulkhead-bench-'));
const store = durable ? await openJournalStore({ directory: folder }) : createMemoryStore();
const started = performance.now();
const { server, authority, adminPair, ...rest } = await startTestServer({ store, listen: true });
console.log(
  JSON.stringify({
    url: server.url,
    ca: authority.certificate,
    certificate: adminPair.certificate,
    key: adminPair.key,
    startMs: performance.now() - started,
  }),
);
process.stdin.resume();
process.stdin.once('end', async () => {
  await rest[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
  process.exit(0);
});
