import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../conformance/model.ts';
import type { Store } from '../store.ts';
import { openJournalStore } from './journal-store.ts';
import { SimulatedDisk, systemError } from './testing/simulated-disk.ts';
import { Witness } from './testing/witness.ts';

/** So small that snapshots and new segments come every few writes. */
const SMALL = { directory: '/store', segmentBytes: 3_000, snapshotSlackBytes: 6_000 };
const LIVES = 6;

interface Weather {
  /** Sets up what goes wrong in one life of the store, apart from its end. */
  readonly trouble?: (disk: SimulatedDisk, random: () => number) => void;
}

/** Lets a store live and die a few times on one simulated disk and checks it after each death. */
async function liveAndDie(seed: number, { trouble }: Weather): Promise<number> {
  const random = seededRandom(seed);
  const disk = new SimulatedDisk({ random });
  const witness = new Witness({ random });
  for (let life = 0; life < LIVES; life++) {
    trouble?.(disk, random);
    await oneLife(disk, witness, random);
    disk.fault = () => {};
    disk.capacity = Number.POSITIVE_INFINITY;
    disk.onOperation = () => {};
    const store = await openJournalStore({ ...SMALL, files: disk.mount() });
    await witness.verify(store);
    // The check must not be what makes things durable.
    const end = random();
    if (end < 0.5) await store[Symbol.asyncDispose]();
    else if (end < 0.75) disk.killProcess();
    else disk.cutPower();
  }
  return witness.acknowledged;
}

/** Ends with a power cut, or the death of the process alone, at a random operation of the disk. */
async function oneLife(disk: SimulatedDisk, witness: Witness, random: () => number): Promise<void> {
  const stop = new AbortController();
  let left = 1 + Math.floor(random() * 120);
  const died = new Promise<void>((resolve) => {
    disk.onOperation = () => {
      if (--left !== 0) return;
      if (random() < 0.7) disk.cutPower();
      else disk.killProcess();
      stop.abort();
      resolve();
    };
  });
  const live = async (): Promise<void> => {
    let store: Store | undefined;
    // Opening may fail while the disk does; it must not harm anything.
    while (store === undefined && !stop.signal.aborted)
      store = await openJournalStore({ ...SMALL, files: disk.mount() }).catch(
        (error: NodeJS.ErrnoException) => {
          assert.ok(
            error.code === 'EIO' || error.code === 'ENOSPC',
            `not the disk's own error: ${error.stack}`,
          );
          return undefined;
        },
      );
    if (store !== undefined)
      await witness.write(store, { writers: 1 + Math.floor(random() * 6), signal: stop.signal });
  };
  await Promise.race([died, live()]);
  await died;
}

async function checkLives(seeds: number, weather: Weather): Promise<void> {
  let acknowledged = 0;
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      acknowledged += await liveAndDie(seed, weather);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  assert.ok(
    acknowledged > seeds * 20,
    `only ${acknowledged} writes were acknowledged: the test tests nothing`,
  );
}

test('power cuts at any moment lose and double nothing that was acknowledged', () => checkLives(60, {}));

test('writes, syncs and renames that fail neither lose what was acknowledged nor let come back what was refused', () =>
  checkLives(60, {
    trouble: (disk, random) => {
      const rate = random() * 0.1;
      const onlySyncs = random() < 0.3;
      disk.fault = (operation, name) => {
        if (random() < rate && (!onlySyncs || operation === 'sync')) throw systemError('EIO', name);
      };
    },
  }));

test('a disk that runs full and has space again harms nothing', () =>
  checkLives(60, {
    trouble: (disk, random) => {
      let used = 0;
      for (const name of disk.fileNames()) used += disk.content(name).length;
      const least = used + random() * 4_000;
      disk.capacity = least;
      disk.fault = () => {
        if (random() < 0.05) disk.capacity = random() < 0.5 ? least : Number.POSITIVE_INFINITY;
      };
    },
  }));
