// Waiting in tests: for a condition, with a deadline, never for a time.

/** Resolves when `check` gives something true (returns it); rejects with `what` when it does not within `deadlineMs`. */
export async function eventually<R>(
  what: string,
  check: () => R | Promise<R>,
  deadlineMs = 5000,
): Promise<NonNullable<R>> {
  const deadline = performance.now() + deadlineMs;
  let failure: unknown;
  for (;;) {
    try {
      const result = await check();
      if (result) return result;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline)
      throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: failure });
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** Lets everything that is ready to run do so: promises, and what they start, several times over. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
