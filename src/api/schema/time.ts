// Times and durations as the API writes them: RFC 3339 in UTC with whole seconds (metav1.Time) or six decimals
// (metav1.MicroTime), and Go's duration form (metav1.Duration). Errors are worded as Go's package time does.

import { goQuote } from '../errors.ts';

export class TimeFormatError extends Error {
  override readonly name = 'TimeFormatError';
}

const RFC3339 = '2006-01-02T15:04:05Z07:00';
const RFC3339_MICRO = '2006-01-02T15:04:05.000000Z07:00';
const SECONDS_UTC = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;
const ANY = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})([.,]\d+)?(?:Z|([+-])(\d{2}):(\d{2}))$/;

/** The layout's elements in order, each with what it takes from the text. */
const ELEMENTS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['2006', /\d{4}/y],
  ['-', /-/y],
  ['01', /\d{2}/y],
  ['-', /-/y],
  ['02', /\d{2}/y],
  ['T', /T/y],
  ['15', /\d{2}/y],
  [':', /:/y],
  ['04', /\d{2}/y],
  [':', /:/y],
  ['05', /\d{2}(?:[.,]\d+)?/y],
  ['Z07:00', /Z|[+-]\d{2}:\d{2}/y],
];

function complaint(text: string, layout: string): TimeFormatError {
  let at = 0;
  for (const [name, pattern] of ELEMENTS) {
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = at;
    if (!sticky.test(text))
      return new TimeFormatError(
        `parsing time ${goQuote(text)} as ${goQuote(layout)}: cannot parse ${goQuote(text.slice(at))} as ${goQuote(name)}`,
      );
    at = sticky.lastIndex;
  }
  return new TimeFormatError(`parsing time ${goQuote(text)}: extra text: ${goQuote(text.slice(at))}`);
}

/** Years 0000 to 9999 in UTC: the four digits that the format has. */
const LEAST = Date.parse('0000-01-01T00:00:00Z');
const GREATEST = Date.parse('9999-12-31T23:59:59Z');

function daysIn(year: number, month: number): number {
  return new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate();
}

/** Milliseconds since the epoch of the whole second, and the microseconds in it. */
function parse(text: string, layout: string): { readonly seconds: number; readonly micros: number } {
  if (text.length > 100) throw complaint(text.slice(0, 100), layout);
  const match = ANY.exec(text);
  if (!match) throw complaint(text, layout);
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const outOfRange = (what: string): TimeFormatError =>
    new TimeFormatError(`parsing time ${goQuote(text)}: ${what} out of range`);
  if (month < 1 || month > 12) throw outOfRange('month');
  if (day < 1 || day > daysIn(year, month)) throw outOfRange('day');
  if (hour > 23) throw outOfRange('hour');
  if (minute > 59) throw outOfRange('minute');
  if (second > 59) throw outOfRange('second');
  let seconds = Date.UTC(2000, month - 1, day, hour, minute, second);
  const date = new Date(seconds);
  // Date.UTC takes the years 0 to 99 for 1900 to 1999, and 29 February needs its own year.
  date.setUTCFullYear(year, month - 1, day);
  seconds = date.getTime();
  if (match[8] !== undefined) {
    const offset = (Number(match[9]) * 60 + Number(match[10])) * 60_000;
    if (Number(match[9]) > 24 || Number(match[10]) > 60) throw outOfRange('time zone offset');
    seconds += match[8] === '+' ? -offset : offset;
  }
  if (seconds < LEAST || seconds > GREATEST) throw outOfRange('year');
  const fraction = match[7] === undefined ? '' : match[7].slice(1, 7);
  return { seconds, micros: Number(fraction.padEnd(6, '0')) };
}

/** Any RFC 3339 time → the same second in UTC (`2026-01-02T03:04:05Z`). Throws TimeFormatError. */
export function canonicalTime(text: string): string {
  if (SECONDS_UTC.test(text)) return text;
  return formatTime(parse(text, RFC3339).seconds);
}

/** Any RFC 3339 time → UTC with six decimals (`2026-01-02T03:04:05.000006Z`). Throws TimeFormatError. */
export function canonicalMicroTime(text: string): string {
  const { seconds, micros } = parse(text, RFC3339_MICRO);
  return `${formatTime(seconds).slice(0, -1)}.${String(micros).padStart(6, '0')}Z`;
}

/** Milliseconds since the epoch → metav1.Time. */
export function formatTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** Milliseconds since the epoch (decimals allowed) → metav1.MicroTime. */
export function formatMicroTime(ms: number): string {
  const micros = Math.floor((ms - Math.floor(ms / 1000) * 1000) * 1000);
  return `${formatTime(Math.floor(ms / 1000) * 1000).slice(0, -1)}.${String(micros).padStart(6, '0')}Z`;
}

const UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const LONGEST = 2n ** 63n;

/** Go's duration text in nanoseconds. Throws TimeFormatError. */
export function parseDuration(text: string): bigint {
  const invalid = (): TimeFormatError => new TimeFormatError(`time: invalid duration ${goQuote(text)}`);
  if (text.length > 100) throw invalid();
  const negative = text.startsWith('-');
  let rest = /^[+-]/.test(text) ? text.slice(1) : text;
  if (rest === '0') return 0n;
  if (rest === '') throw invalid();
  let total = 0n;
  while (rest !== '') {
    const match = /^(\d*)(?:\.(\d*))?/.exec(rest);
    const whole = match?.[1] ?? '';
    const fraction = match?.[2] ?? '';
    if (whole === '' && fraction === '') throw invalid();
    rest = rest.slice(match?.[0].length ?? 0);
    const unitText = /^[^.\d]*/.exec(rest)?.[0] ?? '';
    if (unitText === '') throw new TimeFormatError(`time: missing unit in duration ${goQuote(text)}`);
    const unit = UNITS[unitText];
    if (unit === undefined)
      throw new TimeFormatError(`time: unknown unit ${goQuote(unitText)} in duration ${goQuote(text)}`);
    rest = rest.slice(unitText.length);
    total += BigInt(whole || '0') * unit;
    if (fraction !== '') total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length);
    if (total > LONGEST) throw invalid();
  }
  if (!negative && total === LONGEST) throw invalid();
  return negative ? -total : total;
}

/** Nanoseconds as Go prints a duration: `1h0m0s`, `1.5s`, `100ms`, `0s`. */
export function formatDuration(nanos: bigint): string {
  if (nanos === 0n) return '0s';
  const sign = nanos < 0n ? '-' : '';
  const size = nanos < 0n ? -nanos : nanos;
  const decimal = (value: bigint, unit: bigint): string => {
    const digits = String(value % unit)
      .padStart(String(unit).length - 1, '0')
      .replace(/0+$/, '');
    return digits === '' ? String(value / unit) : `${value / unit}.${digits}`;
  };
  if (size < 1_000n) return `${sign}${size}ns`;
  if (size < 1_000_000n) return `${sign}${decimal(size, 1_000n)}µs`;
  if (size < 1_000_000_000n) return `${sign}${decimal(size, 1_000_000n)}ms`;
  const minute = 60_000_000_000n;
  const seconds = `${decimal(size % minute, 1_000_000_000n)}s`;
  const minutes = size / minute;
  if (minutes === 0n) return sign + seconds;
  const hours = minutes / 60n;
  return hours === 0n ? `${sign}${minutes}m${seconds}` : `${sign}${hours}h${minutes % 60n}m${seconds}`;
}
