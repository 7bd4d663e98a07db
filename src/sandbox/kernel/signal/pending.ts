// A queue of pending signals (struct sigpending): one for each thread, one for each process. A standard signal waits at
// most once; real-time signals queue up, charged to the receiver's user until RLIMIT_SIGPENDING is reached.

import type { SignalInfo } from '../contract.ts';
import {
  contains,
  difference,
  emptySet,
  first,
  type SignalSet,
  withoutSignal,
  withSignal,
} from './signal-set.ts';

/** How many signals are queued for one user (ucounts of RLIMIT_SIGPENDING). */
export interface SignalAccount {
  queued: number;
}

/** One kernel's accounts by real user id, for Kernel.part. */
export class SignalAccounts {
  readonly #accounts = new Map<number, SignalAccount>();

  of(uid: number): SignalAccount {
    let account = this.#accounts.get(uid);
    if (!account) {
      account = { queued: 0 };
      this.#accounts.set(uid, account);
    }
    return account;
  }
}

interface Entry {
  readonly info: SignalInfo;
  readonly account: SignalAccount | undefined;
}

export class PendingSignals {
  #set: SignalSet = emptySet;
  /** In order of arrival, for each signal. */
  readonly #entries = new Map<number, Entry[]>();

  get set(): SignalSet {
    return this.#set;
  }

  has(signal: number): boolean {
    return contains(this.#set, signal);
  }

  /** account: what the entry is charged to, undefined if it is free. */
  add(info: SignalInfo, account: SignalAccount | undefined): void {
    if (account) account.queued++;
    const entries = this.#entries.get(info.signal);
    if (entries) entries.push({ info, account });
    else this.#entries.set(info.signal, [{ info, account }]);
    this.#set = withSignal(this.#set, info.signal);
  }

  /** The signal waits, but what it carried is lost: there was no room for it. */
  addLost(signal: number): void {
    this.#set = withSignal(this.#set, signal);
  }

  /** Takes the oldest of this signal, which is pending. Its `dequeued` has been called. */
  take(signal: number): SignalInfo {
    const entries = this.#entries.get(signal);
    const entry = entries?.shift();
    if (!entries || entries.length === 0) {
      this.#entries.delete(signal);
      this.#set = withoutSignal(this.#set, signal);
    }
    if (!entry) return { signal, code: 0, uid: 0 };
    if (entry.account) entry.account.queued--;
    const { info } = entry;
    if (!info.dequeued) return info;
    const overrun = info.dequeued();
    return { ...info, dequeued: undefined, overrun };
  }

  /** The next to be taken that is not in `blocked`: the lowest, but of `urgent` ones first. 0: none. */
  next(blocked: SignalSet, urgent: SignalSet = emptySet): number {
    const open = difference(this.#set, blocked);
    if ((open.low | open.high) === 0) return 0;
    const early = open.low & urgent.low;
    return early !== 0 ? first({ low: early, high: 0 }) : first(open);
  }

  /** The oldest entry of this signal, still in the queue; undefined if what it carried is lost. */
  peek(signal: number): SignalInfo | undefined {
    return this.#entries.get(signal)?.[0]?.info;
  }

  /** All that wait, lowest signal first, in order of arrival (PTRACE_PEEKSIGINFO). */
  *all(): IterableIterator<SignalInfo> {
    for (const signal of [...this.#entries.keys()].sort((a, b) => a - b))
      for (const { info } of this.#entries.get(signal) ?? []) yield info;
  }

  /** Discards all signals of the set. */
  discard(set: SignalSet): void {
    if ((this.#set.low & set.low) === 0 && (this.#set.high & set.high) === 0) return;
    for (const [signal, entries] of [...this.#entries]) {
      if (!contains(set, signal)) continue;
      this.#entries.delete(signal);
      for (const { info, account } of entries) {
        if (account) account.queued--;
        info.dequeued?.();
      }
    }
    this.#set = difference(this.#set, set);
  }
}
