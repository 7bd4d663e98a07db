// When a CronJob is due. Pure.

import { type CronSchedule, timestampMs } from '../../api/index.ts';
import type { CronJob } from '../../api/types/batch-v1.ts';

/** More than this many missed starts are reported: a clock that jumped, or a controller that was away for long. */
const MANY_MISSED = 100;

export interface Due {
  /** The latest moment at which a Job should have been started and was not (ms since the epoch). */
  readonly scheduled: number | undefined;
  readonly missedMany: boolean;
}

/** `schedule` must be the one of the CronJob's spec. Throws when it is never due, or more often than each second. */
export function dueAt(cronJob: CronJob, schedule: CronSchedule, now: number): Due {
  const { startingDeadlineSeconds, timeZone } = cronJob.spec;
  const last = timestampMs(cronJob.status?.lastScheduleTime);
  let earliest = last ?? timestampMs(cronJob.metadata.creationTimestamp) ?? now;
  if (startingDeadlineSeconds !== undefined)
    earliest = Math.max(earliest, now - startingDeadlineSeconds * 1000);
  const next = (after: number): number | undefined => schedule.next(after, timeZone);
  const first = next(earliest);
  if (first === undefined) throw new Error('the schedule is never due');
  if (now < first) return { scheduled: undefined, missedMany: false };
  const second = next(first);
  if (second === undefined || now < second) return { scheduled: first, missedMany: false };
  const interval = second - first;
  if (interval < 1000) throw new Error('time difference between two schedules is less than 1 second');
  // Not one by one through what may be years of minutes: jump close to now, then step.
  const missed = Math.floor((now - first) / interval) + 1;
  let latest = first;
  const from = missed > 2 ? first + (missed - 2) * interval : first;
  for (let at = next(from); at !== undefined && at <= now; at = next(at)) latest = Math.max(latest, at);
  // Uneven schedules (days of the month) may have their last start before the place that we jumped to.
  if (latest === first) for (let at = next(first); at !== undefined && at <= now; at = next(at)) latest = at;
  return { scheduled: latest, missedMany: missed > MANY_MISSED };
}

/** RFC 1123 with a numeric zone, in UTC: `Thu, 01 Jan 2026 00:00:00 +0000`. */
export function rfc1123(ms: number): string {
  return new Date(ms).toUTCString().replace('GMT', '+0000');
}

/** RFC 3339 in the time zone, with its offset: `2026-01-01T01:00:00+01:00`. */
export function zonedTimestamp(ms: number, timeZone: string | undefined): string {
  if (timeZone === undefined || timeZone === 'UTC' || timeZone === 'Etc/UTC')
    return `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const parts = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
  }).formatToParts(ms);
  const part = (type: Intl.DateTimeFormatPartTypes): string =>
    parts.find((one) => one.type === type)?.value ?? '';
  const local = `${part('year')}-${part('month')}-${part('day')}T${part('hour')}:${part('minute')}:${part('second')}`;
  const minutes = Math.round((Date.parse(`${local}Z`) - ms) / 60_000);
  if (minutes === 0) return `${local}Z`;
  const two = (n: number): string => String(n).padStart(2, '0');
  const size = Math.abs(minutes);
  return `${local}${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
