// Sets of signals 1 to 64 as two 32-bit halves: signal n is bit n-1. Values, never changed in place, because masks are
// compared, saved and restored far more often than they change. A sigset_t of the kernel's is these 8 bytes.

export interface SignalSet {
  /** Signals 1 to 32, as a signed 32-bit number (what bit operations give). */
  readonly low: number;
  /** Signals 33 to 64. */
  readonly high: number;
}

export const emptySet: SignalSet = { low: 0, high: 0 };
export const fullSet: SignalSet = { low: -1, high: -1 };

export function signalSet(...signals: readonly number[]): SignalSet {
  let low = 0;
  let high = 0;
  for (const signal of signals) {
    if (signal <= 32) low |= 1 << (signal - 1);
    else high |= 1 << (signal - 33);
  }
  return { low, high };
}

export function contains(set: SignalSet, signal: number): boolean {
  return ((signal <= 32 ? set.low >> (signal - 1) : set.high >> (signal - 33)) & 1) !== 0;
}

export function union(a: SignalSet, b: SignalSet): SignalSet {
  return { low: a.low | b.low, high: a.high | b.high };
}

export function intersection(a: SignalSet, b: SignalSet): SignalSet {
  return { low: a.low & b.low, high: a.high & b.high };
}

/** What is in a and not in b. */
export function difference(a: SignalSet, b: SignalSet): SignalSet {
  return { low: a.low & ~b.low, high: a.high & ~b.high };
}

export function complement(set: SignalSet): SignalSet {
  return { low: ~set.low, high: ~set.high };
}

export function equal(a: SignalSet, b: SignalSet): boolean {
  return a.low === b.low && a.high === b.high;
}

export function isEmpty(set: SignalSet): boolean {
  return (set.low | set.high) === 0;
}

export function withSignal(set: SignalSet, signal: number): SignalSet {
  return signal <= 32
    ? { low: set.low | (1 << (signal - 1)), high: set.high }
    : { low: set.low, high: set.high | (1 << (signal - 33)) };
}

export function withoutSignal(set: SignalSet, signal: number): SignalSet {
  return signal <= 32
    ? { low: set.low & ~(1 << (signal - 1)), high: set.high }
    : { low: set.low, high: set.high & ~(1 << (signal - 33)) };
}

/** The lowest signal in the set, 0 if there is none. */
export function first(set: SignalSet): number {
  if (set.low !== 0) return 32 - Math.clz32(set.low & -set.low);
  if (set.high !== 0) return 64 - Math.clz32(set.high & -set.high);
  return 0;
}

export function decodeSet(bytes: DataView, offset: number): SignalSet {
  return { low: bytes.getInt32(offset, true), high: bytes.getInt32(offset + 4, true) };
}

export function encodeSet(set: SignalSet, bytes: DataView, offset: number): void {
  bytes.setInt32(offset, set.low, true);
  bytes.setInt32(offset + 4, set.high, true);
}

/** As /proc/pid/status shows it: 16 hexadecimal digits. */
export function formatSet(set: SignalSet): string {
  return (set.high >>> 0).toString(16).padStart(8, '0') + (set.low >>> 0).toString(16).padStart(8, '0');
}
