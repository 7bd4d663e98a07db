import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { ManualClock, silentLogger } from '../component/index.ts';
import type { Image, ImageService, RuntimeService } from '../runtime/cri.ts';
import { Backoff } from './backoff.ts';
import type { NodeEvents } from './events.ts';
import { type Candidate, rank } from './eviction/ranking.ts';
import { isMet, parseThresholds } from './eviction/signals.ts';
import type { KubeletHost } from './host/host.ts';
import { parseMeminfo, parseNetworkDevices, readMachineInfo } from './host/machine.ts';
import { ImageCollector } from './images/garbage.ts';
import { LogRotation } from './log-rotation.ts';

test('a log that grew too long is renamed, older parts are compressed, the oldest go', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kubelet-rotation-'));
  try {
    const path = join(directory, '0.log');
    const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
    const runtime = {
      listContainers: async () => [{ id: 'c' }],
      containerStatus: async () => ({ logPath: path }),
      // What a runtime does: it opens the path anew.
      reopenContainerLog: async () => writeFile(path, ''),
    } as unknown as RuntimeService;
    const rotation = new LogRotation({ clock, logger: silentLogger, runtime, maxBytes: 100, maxFiles: 3 });
    for (let round = 0; round < 5; round++) {
      await writeFile(path, `round ${round} ${'x'.repeat(100)}`);
      await rotation.rotateAll();
      await clock.advance(1000);
    }
    const names = (await readdir(directory)).sort();
    assert.deepEqual(names, ['0.log', '0.log.20260101-000003.gz', '0.log.20260101-000004']);
    assert.equal((await stat(path)).size, 0);
    assert.match(await readFile(join(directory, names[2]!), 'utf8'), /^round 4 /);
    assert.match(gunzipSync(await readFile(join(directory, names[1]!))).toString(), /^round 3 /);
    await writeFile(path, 'short');
    await rotation.rotateAll();
    assert.equal(await readFile(path, 'utf8'), 'short');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a log that the runtime cannot reopen keeps its name', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kubelet-rotation-'));
  try {
    const path = join(directory, '0.log');
    await writeFile(path, 'x'.repeat(200));
    const runtime = {
      listContainers: async () => [{ id: 'c' }],
      containerStatus: async () => ({ logPath: path }),
      reopenContainerLog: async () => Promise.reject(new Error('busy')),
    } as unknown as RuntimeService;
    const clock = new ManualClock(0);
    await new LogRotation({ clock, logger: silentLogger, runtime, maxBytes: 100, maxFiles: 3 }).rotateAll();
    assert.deepEqual(await readdir(directory), ['0.log']);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

const image = (id: string, size: number, more: Partial<Image> = {}): Image => ({
  id,
  size,
  repoTags: [`${id}:1`],
  repoDigests: [],
  pinned: false,
  ...more,
});

test('images go when the disk fills: unused, old enough, least recently used first, only as many as needed', async () => {
  const clock = new ManualClock(1_000_000_000);
  const present = new Map(
    [
      image('used', 30),
      image('young', 30),
      image('old', 30),
      image('older', 30),
      image('pinned', 30, { pinned: true }),
    ].map((i) => [i.id, i]),
  );
  const young = present.get('young')!;
  present.delete('young');
  const removed: string[] = [];
  let inUse = ['used', 'old'];
  const collector = new ImageCollector({
    clock,
    logger: silentLogger,
    events: { node: () => {} } as unknown as NodeEvents,
    host: {
      usage: async () => ({ imageFilesystem: { capacityBytes: 1000, availableBytes: 170 } }),
    } as unknown as KubeletHost,
    images: {
      listImages: async () => [...present.values()],
      removeImage: async (id: string) => {
        removed.push(id);
        present.delete(id);
      },
    } as unknown as ImageService,
    runtime: {
      listContainers: async () => inUse.map((imageId) => ({ imageId })),
    } as unknown as RuntimeService,
    highPercent: 80,
    lowPercent: 78,
    onRemoved: () => {},
  });
  await collector.collect().catch(() => {});
  assert.deepEqual(removed, []);
  inUse = ['used'];
  await clock.advance(300_000);
  present.set('young', young);
  // 50 bytes are wanted: two images of 30, the one that was never used first.
  await collector.collect();
  assert.deepEqual(removed, ['older', 'old']);
});

test('who exceeds its request goes first, then who matters least, then who exceeds it most', () => {
  const candidate = (name: string, memory: number, request: string | undefined, priority = 0): Candidate => ({
    pod: {
      metadata: { name, namespace: 'n', uid: name, resourceVersion: '1', creationTimestamp: '' },
      spec: {
        priority,
        containers: [{ name: 'c', ...(request && { resources: { requests: { memory: request } } }) }],
      },
      status: {},
    },
    usage: { memoryBytes: memory, storageBytes: 0, inodes: 0, processes: 0, containers: new Map() },
  });
  const ranked = rank('memory.available', [
    candidate('within', 100, '1Ki'),
    candidate('over-little', 2000, '1Ki'),
    candidate('over-much', 9000, '1Ki'),
    candidate('important', 99_000, undefined, 100),
  ]);
  assert.deepEqual(
    ranked.map(({ pod }) => pod.metadata.name),
    ['over-much', 'over-little', 'important', 'within'],
  );
});

test('thresholds are quantities or percentages, and anything else is refused by name', () => {
  const [memory, disk] = parseThresholds({ 'memory.available': '100Mi', 'nodefs.available': '10%' });
  assert.equal(isMet(memory!, { available: 99 * 2 ** 20, capacity: 2 ** 30 }), true);
  assert.equal(isMet(memory!, { available: 100 * 2 ** 20, capacity: 2 ** 30 }), false);
  assert.equal(isMet(disk!, { available: 9, capacity: 100 }), true);
  assert.equal(isMet(disk!, { available: 0, capacity: 0 }), false);
  assert.throws(() => parseThresholds({ 'cpu.available': '1' }), /cpu\.available is unknown/);
  assert.throws(() => parseThresholds({ 'memory.available': 'much' }), /neither a quantity nor a percentage/);
  assert.throws(() => parseThresholds({ 'memory.available': '120%' }), TypeError);
});

test('back-off doubles to its end and is forgotten after twice the longest quiet', () => {
  const clock = new ManualClock(0);
  const backoff = new Backoff(clock, 10_000, 300_000);
  const delays: number[] = [];
  for (let i = 0; i < 7; i++) {
    backoff.next('k', clock.now());
    delays.push(backoff.delay('k') / 1000);
  }
  assert.deepEqual(delays, [10, 20, 40, 80, 160, 300, 300]);
  assert.equal(backoff.remaining('k', 0), 300_000);
  assert.equal(backoff.remaining('other', 0), 0);
  backoff.next('k', 700_000);
  assert.equal(backoff.delay('k'), 10_000);
});

test('the machine is read from what the kernel says of it', async () => {
  const memory = parseMeminfo('MemTotal:       16384 kB\nHugePages_Total:       3\nInactive(file):  12 kB\n');
  assert.equal(memory.get('MemTotal'), 16384 * 1024);
  assert.equal(memory.get('HugePages_Total'), 3);
  assert.equal(memory.get('Inactive(file)'), 12 * 1024);
  const devices = parseNetworkDevices(
    'Inter-|   Receive                                                |  Transmit\n face |bytes packets errs\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12\n  eth0: 100 2 3 0 0 0 0 0 900 5 1 0 0 0 0 0\n',
  );
  assert.deepEqual(devices, [
    { name: 'eth0', receivedBytes: 100, receiveErrors: 3, transmittedBytes: 900, transmitErrors: 1 },
  ]);
  if (process.platform !== 'linux') return;
  const machine = await readMachineInfo('/');
  assert.ok(machine.cpus > 0 && machine.memoryBytes > 0 && machine.storageBytes > 0);
  assert.match(machine.bootId, /^[0-9a-f-]{36}$/);
});
