// The contract of store.ts as tests that every engine must pass. An engine's own test file calls
// testStoreConformance() with a way to start one that is empty.

import { describe, test } from 'node:test';
import type { Start } from './conformance/fixture.ts';
import { testClosing, testCompaction, testLeases } from './conformance/lifetime.ts';
import { checkAgainstModel } from './conformance/model.ts';
import { testReads } from './conformance/reads.ts';
import { testTransactions } from './conformance/transactions.ts';
import { testWatches } from './conformance/watches.ts';

/** `propertyRuns`: how many random histories to compare with the model. */
export function testStoreConformance(
  engine: string,
  start: Start,
  options: { readonly propertyRuns: number },
): void {
  describe(`the ${engine} engine keeps the store's contract`, () => {
    testTransactions(start);
    testReads(start);
    testWatches(start);
    testCompaction(start);
    testLeases(start);
    testClosing(start);
    test(`${options.propertyRuns} random histories agree with the model`, async () => {
      for (let seed = 1; seed <= options.propertyRuns; seed++) {
        await using running = await start();
        try {
          await checkAgainstModel(running, seed);
        } catch (error) {
          throw new Error(`seed ${seed}`, { cause: error });
        }
      }
    });
  });
}
