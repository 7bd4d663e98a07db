import { ManualClock } from '../../component/index.ts';
import { testStoreConformance } from '../store.conformance.ts';
import { createMemoryStore } from './memory-store.ts';

testStoreConformance(
  'memory',
  async () => {
    const clock = new ManualClock();
    const store = createMemoryStore({ clock });
    return {
      store,
      passTime: (ms) => clock.advance(ms),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  },
  { propertyRuns: 100 },
);
