// Remembers the claims of tokens whose signature was verified, because clients send the same token with every request
// and a signature costs about as much as the rest of a read. Only what the signature proves is kept: whether the
// service account, pod or secret behind the claims still exists is asked anew each time.

import type { Clock } from '../../component/index.ts';
import type { JwtClaims } from './jwt.ts';

interface Entry {
  readonly claims: JwtClaims;
  readonly until: number;
}

export class TokenCache {
  readonly #entries = new Map<string, Entry>();
  readonly #clock: Clock;
  readonly #capacity: number;
  readonly #ttlMs: number;

  constructor(clock: Clock, capacity: number, ttlMs: number) {
    this.#clock = clock;
    this.#capacity = capacity;
    this.#ttlMs = ttlMs;
  }

  get(token: string): JwtClaims | undefined {
    const entry = this.#entries.get(token);
    if (!entry) return undefined;
    if (entry.until > this.#clock.monotonic()) return entry.claims;
    this.#entries.delete(token);
    return undefined;
  }

  set(token: string, claims: JwtClaims): void {
    this.#entries.delete(token);
    this.#entries.set(token, { claims, until: this.#clock.monotonic() + this.#ttlMs });
    if (this.#entries.size <= this.#capacity) return;
    // Oldest first: a Map keeps the order of insertion.
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      break;
    }
  }

  get size(): number {
    return this.#entries.size;
  }
}
