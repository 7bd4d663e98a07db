// Cron schedules as CronJobs write them: five fields (minute, hour, day of month, month, day of week), descriptors
// such as @hourly and @every 5m, and a leading TZ=. The language and its error texts are those of robfig/cron v3,
// which upstream uses. `next` answers with instants, in a time zone of the IANA database.

import { goQuote } from './errors.ts';

export class CronError extends Error {
  override readonly name = 'CronError';
}

export interface CronSchedule {
  /** The zone that the text itself names. */
  readonly timeZone: string | undefined;
  /** The first instant after `after` (ms since the epoch) at which the schedule is due; undefined: not within five years. */
  next(after: number, timeZone?: string): number | undefined;
}

interface FieldRule {
  readonly low: number;
  readonly high: number;
  readonly names?: readonly string[];
  /** What the first of `names` stands for. */
  readonly first?: number;
}

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const days = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

const fieldRules = {
  minute: { low: 0, high: 59 },
  hour: { low: 0, high: 23 },
  dayOfMonth: { low: 1, high: 31 },
  month: { low: 1, high: 12, names: months, first: 1 },
  dayOfWeek: { low: 0, high: 6, names: days, first: 0 },
} satisfies Record<string, FieldRule>;

const descriptors: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

/** The values that a field allows, and whether it was written as a star: two stars mean every day, not any of both. */
interface AllowedValues {
  readonly values: ReadonlySet<number>;
  readonly star: boolean;
}

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const MOST_YEARS = 5;

function parseNumber(text: string, rule: FieldRule): number {
  const named = rule.names?.indexOf(text.toLowerCase()) ?? -1;
  if (named >= 0) return named + (rule.first ?? 0);
  if (!/^[+-]?\d+$/.test(text))
    throw new CronError(
      `failed to parse int from ${text}: strconv.Atoi: parsing ${goQuote(text)}: invalid syntax`,
    );
  const value = Number(text);
  if (value > Number.MAX_SAFE_INTEGER)
    throw new CronError(
      `failed to parse int from ${text}: strconv.Atoi: parsing ${goQuote(text)}: value out of range`,
    );
  if (value < 0) throw new CronError(`negative number (${value}) not allowed: ${text}`);
  return value;
}

/** One part of a field's list: `*`, `5`, `1-5`, each with an optional step. Adds its values. */
function parseRange(text: string, rule: FieldRule, values: Set<number>): boolean {
  const parts = text.split('/');
  const ends = parts[0]!.split('-');
  const single = ends.length === 1;
  let star = false;
  let start = rule.low;
  let end = rule.high;
  if (ends[0] === '*' || ends[0] === '?') {
    star = true;
  } else {
    start = parseNumber(ends[0]!, rule);
    if (ends.length > 2) throw new CronError(`too many hyphens: ${text}`);
    end = single ? start : parseNumber(ends[1]!, rule);
  }
  let step = 1;
  if (parts.length > 2) throw new CronError(`too many slashes: ${text}`);
  if (parts.length === 2) {
    step = parseNumber(parts[1]!, { low: 0, high: 0 });
    // "5/15" is "5-59/15".
    if (single) end = rule.high;
    if (step > 1) star = false;
  }
  if (start < rule.low)
    throw new CronError(`beginning of range (${start}) below minimum (${rule.low}): ${text}`);
  if (end > rule.high) throw new CronError(`end of range (${end}) above maximum (${rule.high}): ${text}`);
  if (start > end) throw new CronError(`beginning of range (${start}) beyond end of range (${end}): ${text}`);
  if (step === 0) throw new CronError(`step of range should be a positive number: ${text}`);
  for (let value = start; value <= end; value += step) values.add(value);
  return star;
}

function parseField(text: string, rule: FieldRule): AllowedValues {
  const values = new Set<number>();
  let star = false;
  for (const part of text.split(',')) if (part !== '' && parseRange(part, rule, values)) star = true;
  return { values, star };
}

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: MINUTE,
  h: 60 * MINUTE,
};

/** A Go duration (`1h30m`) in ms. */
function parseDuration(text: string): number | undefined {
  const sign = text.startsWith('-') ? -1 : 1;
  const rest = text.replace(/^[-+]/, '');
  if (rest === '0') return 0;
  if (!/^((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(rest)) return undefined;
  let total = 0;
  for (const [, amount, unit] of rest.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g))
    total += Number(amount) * unitMs[unit!]!;
  return sign * total;
}

class Every implements CronSchedule {
  readonly timeZone: string | undefined;
  readonly #delay: number;

  constructor(delay: number, timeZone: string | undefined) {
    this.#delay = Math.max(1000, Math.floor(delay / 1000) * 1000);
    this.timeZone = timeZone;
  }

  next(after: number): number {
    return Math.floor(after / 1000) * 1000 + this.#delay;
  }
}

/** What clocks in a zone are ahead of UTC by, in ms. */
type Offset = (instant: number) => number;

function offsetIn(timeZone: string): Offset {
  if (timeZone === 'UTC') return () => 0;
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  });
  return (instant) => {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(instant)) part[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute) - Math.floor(instant / MINUTE) * MINUTE;
  };
}

/** The first instant at which clocks show `local` (written as if it were UTC) or, if they skip it, later. */
function instantOf(local: number, offset: Offset): number {
  const before = offset(local - DAY);
  const guess = local - before;
  const there = offset(guess);
  return there < before ? local - there : guess;
}

class Calendar implements CronSchedule {
  readonly timeZone: string | undefined;
  readonly #minute: AllowedValues;
  readonly #hour: AllowedValues;
  readonly #dayOfMonth: AllowedValues;
  readonly #month: AllowedValues;
  readonly #dayOfWeek: AllowedValues;

  constructor(fields: readonly string[], timeZone: string | undefined) {
    this.timeZone = timeZone;
    this.#minute = parseField(fields[0]!, fieldRules.minute);
    this.#hour = parseField(fields[1]!, fieldRules.hour);
    this.#dayOfMonth = parseField(fields[2]!, fieldRules.dayOfMonth);
    this.#month = parseField(fields[3]!, fieldRules.month);
    this.#dayOfWeek = parseField(fields[4]!, fieldRules.dayOfWeek);
  }

  #dayMatches(local: Date): boolean {
    const month = this.#dayOfMonth.values.has(local.getUTCDate());
    const week = this.#dayOfWeek.values.has(local.getUTCDay());
    return this.#dayOfMonth.star || this.#dayOfWeek.star ? month && week : month || week;
  }

  next(after: number, timeZone = this.timeZone ?? 'UTC'): number | undefined {
    const offset = offsetIn(timeZone);
    const last = new Date(after + offset(after)).getUTCFullYear() + MOST_YEARS;
    let instant = Math.floor(after / MINUTE) * MINUTE + MINUTE;
    for (;;) {
      const local = new Date(instant + offset(instant));
      const [year, month, day] = [local.getUTCFullYear(), local.getUTCMonth(), local.getUTCDate()];
      if (year > last) return undefined;
      let later: number;
      if (!this.#month.values.has(month + 1)) later = instantOf(Date.UTC(year, month + 1, 1), offset);
      else if (!this.#dayMatches(local)) later = instantOf(Date.UTC(year, month, day + 1), offset);
      else if (!this.#hour.values.has(local.getUTCHours()))
        later = instant + (60 - local.getUTCMinutes()) * MINUTE;
      else if (!this.#minute.values.has(local.getUTCMinutes())) later = instant + MINUTE;
      else return instant;
      instant = Math.max(later, instant + MINUTE);
    }
  }
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: name });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

export function parseCronSchedule(text: string): CronSchedule {
  if (text === '') throw new CronError('empty spec string');
  let timeZone: string | undefined;
  let spec = text;
  const prefix = /^(?:CRON_)?TZ=(\S*)(.*)$/s.exec(text);
  if (prefix !== null) {
    const name = prefix[1] || 'UTC';
    if (!isTimeZone(name)) throw new CronError(`provided bad location ${name}: unknown time zone ${name}`);
    timeZone = name;
    spec = prefix[2]!.trim();
  }
  if (spec.startsWith('@')) {
    const fields = Object.hasOwn(descriptors, spec) ? descriptors[spec]! : undefined;
    if (fields !== undefined) return new Calendar(fields.split(' '), timeZone);
    if (!spec.startsWith('@every ')) throw new CronError(`unrecognized descriptor: ${spec}`);
    const written = spec.slice('@every '.length);
    const delay = parseDuration(written);
    if (delay === undefined)
      throw new CronError(`failed to parse duration ${spec}: time: invalid duration ${goQuote(written)}`);
    return new Every(delay, timeZone);
  }
  const fields = spec.split(/\s+/).filter((field) => field !== '');
  if (fields.length !== 5)
    throw new CronError(`expected exactly 5 fields, found ${fields.length}: [${fields.join(' ')}]`);
  return new Calendar(fields, timeZone);
}
