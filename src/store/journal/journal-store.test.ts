import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManualClock } from '../../component/index.ts';
import type { EngineUnderTest } from '../conformance/fixture.ts';
import { seededRandom } from '../conformance/model.ts';
import { testStoreConformance } from '../store.conformance.ts';
import type { Store } from '../store.ts';
import { openJournalStore } from './journal-store.ts';
import { SimulatedDisk } from './testing/simulated-disk.ts';

/** Files so small that every test goes through several segments and snapshots. */
const SMALL = { segmentBytes: 2_000, snapshotSlackBytes: 4_000 };

async function running(
  open: (clock: ManualClock) => Promise<Store>,
  dispose?: () => Promise<void>,
): Promise<EngineUnderTest> {
  const clock = new ManualClock();
  let store = await open(clock);
  return {
    get store() {
      return store;
    },
    passTime: (ms) => clock.advance(ms),
    async restart() {
      await store[Symbol.asyncDispose]();
      store = await open(clock);
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await dispose?.();
    },
  };
}

testStoreConformance(
  'journal',
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'journal-store-'));
    return running(
      (clock) => openJournalStore({ directory, clock }),
      () => rm(directory, { recursive: true }),
    );
  },
  { propertyRuns: 5 },
);

testStoreConformance(
  'journal (small files on a simulated disk)',
  async () => {
    const disk = new SimulatedDisk({ random: seededRandom(1) });
    return running((clock) =>
      openJournalStore({ directory: '/store', clock, files: disk.mount(), ...SMALL }),
    );
  },
  { propertyRuns: 80 },
);
