// Waiting for a condition with a deadline: it is looked at again and again until it holds, and the last reason why it
// did not is what the test reports.

import { setTimeout as pause } from 'node:timers/promises';

/** Calls `look` until it returns without throwing; fails with its last error after `timeoutMs`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T> | T,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  do {
    try {
      return await look();
    } catch (error) {
      last = error;
    }
    await pause(20);
  } while (performance.now() < deadline);
  throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last });
}
