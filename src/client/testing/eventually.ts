// Waiting in tests: for a condition, with a deadline, never for a time.

/** Looks that follow one another at once: what happens in this process takes no longer. */
const AT_ONCE = 200;
/** Between later looks, so that those who are waited for have the processor. */
const PAUSE_MS = 2;

/**
 * Resolves when `check` gives something true (returns it); rejects with `what` when it does not within `deadlineMs`.
 * The deadline only ends tests that fail: it is far beyond what the busiest machine needs.
 */
export async function eventually<R>(
  what: string,
  check: () => R | Promise<R>,
  deadlineMs = 20_000,
): Promise<NonNullable<R>> {
  const deadline = performance.now() + deadlineMs;
  let failure: unknown;
  for (let looks = 1; ; looks++) {
    try {
      const result = await check();
      if (result) return result;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline)
      throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: failure });
    await new Promise<void>((resolve) =>
      looks < AT_ONCE ? setImmediate(resolve) : setTimeout(resolve, PAUSE_MS),
    );
  }
}

/** Lets everything that is ready to run do so: promises, and what they start, several times over. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
