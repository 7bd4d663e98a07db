// The journal store against etcd 3.5, in one run and on the same disk: durable puts of 1 KiB one after the other and
// by 256 writers at once; then how long it takes to open 150,000 keys of 4 KiB.
//
// The journal store is called in process, as the API server calls it; etcd over its gRPC port on the loopback, as
// kube-apiserver calls it, by the cheapest client there can be (etcd.ts). Data lie in BULKHEAD_BENCH_DIR, else in the
// system's folder for temporary files; neither may be in memory.

import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openJournalStore, type Store } from '../../src/store/index.ts';
import { Etcd, EtcdClient, findEtcd } from './etcd.ts';

export interface StoreBenchOptions {
  readonly rounds?: number;
  readonly secondsPerRound?: number;
  readonly openKeys?: number;
}

const VALUE = Buffer.alloc(1024, 'a value of one kibibyte ');
const KEYS = 20_000;
const CONNECTIONS = 16;
const TMPFS = 0x01021994;

type Put = (worker: number, key: string) => Promise<unknown>;

interface Load {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/** Prints what it measures. */
export async function run(options: StoreBenchOptions = {}): Promise<void> {
  const { rounds = 5, secondsPerRound = 3, openKeys = 150_000 } = options;
  const base = await mkdtemp(join(process.env['BULKHEAD_BENCH_DIR'] ?? tmpdir(), 'bench-store-'));
  try {
    if ((await statfs(base)).type === TMPFS)
      throw new Error(
        `${base} is in memory, where durable writes cost nothing; name a folder on a disk in BULKHEAD_BENCH_DIR`,
      );
    const [load = 0] = loadavg();
    console.log(
      `load average ${load.toFixed(1)} on ${availableParallelism()} cores: figures of a busy machine mean little`,
    );
    await benchPuts(base, rounds, secondsPerRound);
    await benchOpening(base, rounds, openKeys);
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

// ---- durable puts ----

async function benchPuts(base: string, rounds: number, seconds: number): Promise<void> {
  const path = findEtcd();
  if (path === undefined)
    console.log(
      'no etcd found (ETCD, .cache/peers/usr/bin/etcd, /opt/peers/usr/bin/etcd): the journal alone is measured',
    );
  const cases = [
    { name: 'one writer', writers: 1, bar: 1.5 },
    { name: '256 writers', writers: 256, bar: 3 },
  ];
  for (const { name, writers, bar } of cases) {
    const journal: Load[] = [];
    const etcd: Load[] = [];
    for (let round = 0; round < rounds; round++) {
      journal.push(await loadJournal(join(base, 'journal'), writers, seconds));
      if (path !== undefined) etcd.push(await loadEtcd(path, join(base, 'etcd'), writers, seconds));
    }
    console.log(`durable puts of 1 KiB, ${name}, median of ${rounds} rounds`);
    printLoad('journal', journal);
    if (path === undefined) continue;
    printLoad('etcd', etcd);
    const ratio = median(journal.map((l) => l.perSecond)) / median(etcd.map((l) => l.perSecond));
    printBar(`${ratio.toFixed(1)} × etcd`, `at least ${bar} ×`, ratio >= bar);
  }
}

async function loadJournal(directory: string, writers: number, seconds: number): Promise<Load> {
  const store = await openJournalStore({ directory });
  try {
    return await load(writers, seconds, (_, key) => putInto(store, key, VALUE));
  } finally {
    await store[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  }
}

async function loadEtcd(path: string, directory: string, writers: number, seconds: number): Promise<Load> {
  await using etcd = await Etcd.start(path, directory);
  const clients = await Promise.all(
    Array.from({ length: Math.min(writers, CONNECTIONS) }, () => EtcdClient.connect(etcd.port)),
  );
  const before = await etcd.walSyncs();
  try {
    const result = await load(writers, seconds, (worker, key) =>
      clients[worker % clients.length]!.put(Buffer.from(key), VALUE),
    );
    const after = await etcd.walSyncs();
    const mean = ((after.seconds - before.seconds) / (after.count - before.count)) * 1000;
    console.log(`  (etcd's own mean time of a sync of its log in this round: ${mean.toFixed(2)} ms)`);
    return result;
  } finally {
    for (const client of clients) client.close();
  }
}

/** Each writer puts again as soon as it was answered. Nothing that ran before is still on its way to the disk. */
async function load(writers: number, seconds: number, put: Put): Promise<Load> {
  const latencies: number[] = [];
  let next = 0;
  const writeUntil = async (worker: number, end: number): Promise<void> => {
    while (performance.now() < end) {
      // 7919 is prime: all keys come up, and not in their order.
      const key = `/registry/configmaps/default/config-${(next++ * 7919) % KEYS}`;
      const start = performance.now();
      await put(worker, key);
      latencies.push(performance.now() - start);
    }
  };
  const all = (duration: number) =>
    Promise.all(
      Array.from({ length: writers }, (_, worker) => writeUntil(worker, performance.now() + duration)),
    );
  spawnSync('sync');
  await all(500);
  latencies.length = 0;
  const start = performance.now();
  await all(seconds * 1000);
  const elapsed = performance.now() - start;
  latencies.sort((a, b) => a - b);
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  return { perSecond: (latencies.length / elapsed) * 1000, p50: at(0.5), p99: at(0.99) };
}

function putInto(store: Store, key: string, value: Uint8Array): Promise<unknown> {
  return store.txn({ compare: [], operations: [{ type: 'put', key, value }] });
}

// ---- opening ----

async function benchOpening(base: string, rounds: number, keys: number): Promise<void> {
  const directory = join(base, 'large');
  const value = Buffer.alloc(4096, 'a value of four kibibytes ');
  const store = await openJournalStore({ directory });
  for (let i = 0; i < keys; i += 500)
    await Promise.all(
      Array.from({ length: Math.min(500, keys - i) }, (_, j) =>
        putInto(store, `/registry/pods/namespace-${(i + j) % 300}/pod-${i + j}`, Buffer.from(value)),
      ),
    );
  await store[Symbol.asyncDispose]();
  await openOften(directory, rounds, keys, 'from the journal');

  // The state as a snapshot holds it: everything compacted.
  const compacting = await openJournalStore({ directory, snapshotSlackBytes: -(2 ** 40) });
  await compacting.compact(compacting.revision);
  while (!(await readdir(directory)).some((name) => name.endsWith('.snap')))
    await putInto(compacting, '/registry/pods/namespace-0/pod-0', value);
  await compacting[Symbol.asyncDispose]();
  await openOften(directory, rounds, keys, 'from a snapshot');
}

async function openOften(directory: string, rounds: number, keys: number, how: string): Promise<void> {
  for (const cached of [true, false]) {
    const times: number[] = [];
    let rss = 0;
    for (let round = 0; round < rounds; round++) {
      if (!cached && !(await dropFromCache(directory))) return;
      const child = spawnSync(process.execPath, [join(import.meta.dirname, 'open-child.ts'), directory], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const result: { milliseconds: number; count: number; rss: number } = JSON.parse(child.stdout);
      if (result.count !== keys) throw new Error(`${result.count} of ${keys} keys are there`);
      times.push(result.milliseconds);
      rss = result.rss;
    }
    const seconds = median(times) / 1000;
    console.log(
      `opening ${keys} keys of 4 KiB ${how}, files ${cached ? 'cached' : 'on disk'}, median of ${rounds} rounds: ${seconds.toFixed(2)} s, ${Math.round(rss / 2 ** 20)} MiB`,
    );
    printBar(`${seconds.toFixed(2)} s`, 'at most 3 s', seconds <= 3);
  }
}

/** Makes the system forget the files' contents, with GNU dd; false when there is none. */
async function dropFromCache(directory: string): Promise<boolean> {
  for (const name of await readdir(directory)) {
    const { status } = spawnSync('dd', [
      `if=${join(directory, name)}`,
      'iflag=nocache',
      'count=0',
      'status=none',
    ]);
    if (status !== 0) return false;
  }
  return true;
}

// ---- printing ----

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function printLoad(name: string, rounds: readonly Load[]): void {
  const of = (pick: (load: Load) => number) => median(rounds.map(pick));
  const all = rounds.map(({ perSecond }) => Math.round(perSecond)).join(' ');
  console.log(
    `  ${name.padEnd(8)} ${Math.round(of((l) => l.perSecond))}/s, p50 ${of((l) => l.p50).toFixed(2)} ms, p99 ${of((l) => l.p99).toFixed(2)} ms   (${all})`,
  );
}

function printBar(measured: string, bar: string, reached: boolean): void {
  console.log(`  ${reached ? 'reached' : 'MISSED '}  ${measured} (to reach: ${bar})`);
}

if (import.meta.main) await run();
