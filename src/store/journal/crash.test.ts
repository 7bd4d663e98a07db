import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { seededRandom } from '../conformance/model.ts';
import { diskFiles } from './files.ts';
import { FILE_HEADER_SIZE, SECTOR_SIZE } from './format.ts';
import { openJournalStore } from './journal-store.ts';
import { type Testimony, Witness } from './testing/witness.ts';

const CHILD = join(import.meta.dirname, 'testing/crash-child.ts');
/** Stores that are crashed side by side, and how often each. */
const LANES = 3;
const CRASHES = 68;

type Line = Testimony | { type: 'ready' } | { type: 'on disk'; segment: string; end: number };

test(`${LANES * CRASHES} processes killed at random moments lose and double no acknowledged write`, async () => {
  const acknowledged = await Promise.all(
    Array.from({ length: LANES }, (_, lane) => crashRepeatedly(lane + 1)),
  );
  for (const count of acknowledged) assert.ok(count > 200, `only ${count} writes were acknowledged`);
});

async function crashRepeatedly(seed: number): Promise<number> {
  const random = seededRandom(seed);
  const base = await mkdtemp(join(tmpdir(), 'store-crash-'));
  const directory = join(base, 'store');
  await mkdir(directory);
  const witness = new Witness({ random });
  const onDisk = new Map<string, number>();
  try {
    for (let crash = 0; crash < CRASHES; crash++) {
      await liveAndDie(directory, witness, onDisk, { seed: seed * 1000 + crash, crash, random });
      // What a power cut might have left of the part that was not on disk yet.
      const torn = join(base, 'torn');
      await cp(directory, torn, { recursive: true });
      if (await tearTail(torn, onDisk, random)) await check(torn, witness.clone());
      await rm(torn, { recursive: true });
      await check(directory, witness);
      // What the check has read counts as told, and opening has made sure of it.
      for (const { name, size } of await diskFiles.list(directory)) onDisk.set(name, size);
    }
    return witness.acknowledged;
  } finally {
    await rm(base, { recursive: true });
  }
}

/** Runs one process, mostly until some moment of its work, sometimes only until some moment of its start. */
async function liveAndDie(
  directory: string,
  witness: Witness,
  onDisk: Map<string, number>,
  life: { readonly seed: number; readonly crash: number; readonly random: () => number },
): Promise<void> {
  const child = spawn(process.execPath, [CHILD, directory, `${life.seed}`, `${life.crash * 1_000_000}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // The compile cache halves the start of a process, and there are many.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, NODE_COMPILE_CACHE: `${directory}.cache` },
  });
  const closed = once(child, 'close');
  let output = '';
  const ready = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('"ready"')) resolve();
    });
  });
  if (life.random() < 0.85) {
    await Promise.race([ready, closed]);
    await delay(life.random() * 60);
  } else {
    await delay(life.random() * 150);
  }
  assert.equal(child.exitCode, null, 'the process ended by itself');
  child.kill('SIGKILL');
  await closed;
  // The kill may have cut off the last line.
  for (const text of output.split('\n').slice(0, -1)) {
    const line: Line = JSON.parse(text);
    if (line.type === 'on disk') onDisk.set(line.segment, line.end);
    else if (line.type !== 'ready') witness.hear(line);
  }
}

/** Damages, as a power cut could, only what was never known to be on disk. False when there is nothing like that. */
async function tearTail(
  directory: string,
  onDisk: ReadonlyMap<string, number>,
  random: () => number,
): Promise<boolean> {
  const last = (await readdir(directory))
    .filter((name) => /^journal-\d+\.log$/.test(name))
    .sort()
    .at(-1);
  if (last === undefined) return false;
  const path = join(directory, last);
  const content = await readFile(path);
  const from = onDisk.get(last) ?? FILE_HEADER_SIZE;
  const file = await open(path, 'r+');
  try {
    if (random() < 0.5) {
      // Mostly within what was written, if anything was.
      const written = content.findLastIndex((byte) => byte !== 0) + 1;
      const to = written > from && random() < 0.9 ? written : content.length;
      await file.truncate(from + Math.floor(random() * (to - from + 1)));
    } else {
      for (let sector = Math.ceil(from / SECTOR_SIZE); sector * SECTOR_SIZE < content.length; sector++)
        if (random() < 0.5) {
          const length = Math.min(SECTOR_SIZE, content.length - sector * SECTOR_SIZE);
          await file.write(Buffer.alloc(length), 0, length, sector * SECTOR_SIZE);
        }
    }
  } finally {
    await file.close();
  }
  return true;
}

async function check(directory: string, witness: Witness): Promise<void> {
  const store = await openJournalStore({ directory });
  try {
    await witness.verify(store);
  } finally {
    await store[Symbol.asyncDispose]();
  }
}
