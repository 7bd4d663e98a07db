// Failures of host operations: which call failed on which object, with the kernel's error name.

import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

export class HostError extends Error {
  override readonly name = 'HostError';
  /** ENOENT, EBUSY, … */
  readonly code: string;
  /** What was being done, without the kernel's words. */
  readonly what: string;

  constructor(code: string, what: string, description?: string) {
    super(`${what}: ${description ?? code}`);
    this.code = code;
    this.what = what;
  }

  static ofNumber(errno: number, what: string): HostError {
    const known = getSystemErrorMap().get(-errno);
    if (known) return new HostError(known[0], what, known[1]);
    // libuv names only the errors that it meets itself.
    const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
    return new HostError(name ?? `E${errno}`, what);
  }
}

/** Another process holds the lock. */
export class HostLockedError extends HostError {
  readonly holder: number | undefined;
  constructor(path: string, holder: number | undefined) {
    super('EBUSY', `lock ${path}`, `held by ${holder ? `process ${holder}` : 'another process'}`);
    this.holder = holder;
  }
}
