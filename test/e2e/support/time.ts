// Moving a cluster's time by hand.

import { setImmediate as turn } from 'node:timers/promises';
import type { ManualClock } from '../../../src/cluster/testing.ts';

/** How many turns of the event loop a second of the cluster gets, for what one event sets off in others. */
const TURNS = 20;

/** Lets seconds go by one after the other, each with the time that the cluster needs to do what is due. */
export async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    await clock.advance(1000);
    for (let i = 0; i < TURNS; i++) await turn();
  }
}

/** Lets time go by until `look` does not throw; at most `seconds` of the cluster's time. */
export async function passUntil<T>(
  clock: ManualClock,
  seconds: number,
  look: () => Promise<T> | T,
): Promise<T> {
  for (let second = 0; ; second++) {
    try {
      return await look();
    } catch (error) {
      if (second === seconds) throw error;
    }
    await pass(clock, 1);
  }
}
