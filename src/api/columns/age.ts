// How long ago something was, as a person reads it: two or three figures, never more. After apimachinery's
// duration.HumanDuration.

import { timestampMs } from '../meta.ts';

const minute = 60;
const hour = 60 * minute;
const day = 24;
const year = 365 * day;

/** `90s`, `2m30s`, `45m`, `3h20m`, `26h`, `3d4h`, `120d`, `2y30d`. Two seconds of clock skew are forgiven. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 2 * minute) return `${seconds}s`;
  const minutes = Math.trunc(seconds / minute);
  if (minutes < 10) return `${minutes}m${part(seconds % minute, 's')}`;
  if (minutes < 3 * 60) return `${minutes}m`;
  const hours = Math.trunc(seconds / hour);
  if (hours < 8) return `${hours}h${part(minutes % 60, 'm')}`;
  if (hours < 2 * day) return `${hours}h`;
  const days = Math.trunc(hours / day);
  if (hours < 8 * day) return `${days}d${part(hours % day, 'h')}`;
  if (hours < 2 * year) return `${days}d`;
  const years = Math.trunc(hours / year);
  if (hours < 8 * year) return `${years}y${part(days % 365, 'd')}`;
  return `${years}y`;
}

function part(value: number, unit: string): string {
  return value === 0 ? '' : `${value}${unit}`;
}

/** The time from a timestamp until `now` (ms since the epoch). */
export function since(time: string | undefined, now: number): string {
  const then = timestampMs(time);
  return then === undefined ? '<unknown>' : humanDuration(now - then);
}
