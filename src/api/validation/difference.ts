// Where two values differ, in words: for the errors that say a part of an object may not change.

import { equal } from './findings.ts';

const MOST_LINES = 20;
const MOST_TEXT = 200;

function shown(value: unknown): string {
  if (value === undefined) return '(none)';
  const text = JSON.stringify(value);
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text;
}

function walk(path: string, before: unknown, after: unknown, lines: string[]): void {
  if (lines.length >= 2 * MOST_LINES || equal(before, after)) return;
  const both = typeof before === 'object' && typeof after === 'object' && before !== null && after !== null;
  if (both && Array.isArray(before) && Array.isArray(after) && before.length === after.length) {
    before.forEach((item, i) => {
      walk(`${path}[${i}]`, item, after[i], lines);
    });
  } else if (both && !Array.isArray(before) && !Array.isArray(after)) {
    const left = before as Readonly<Record<string, unknown>>;
    const right = after as Readonly<Record<string, unknown>>;
    for (const key of new Set([...Object.keys(left), ...Object.keys(right)]))
      walk(path === '' ? key : `${path}.${key}`, left[key], right[key], lines);
  } else {
    lines.push(`- ${path}: ${shown(before)}`, `+ ${path}: ${shown(after)}`);
  }
}

/** One line for what was and one for what is, for each place that differs. */
export function difference(before: unknown, after: unknown, path = ''): string {
  const lines: string[] = [];
  walk(path, before, after, lines);
  if (lines.length >= 2 * MOST_LINES) lines.push('…');
  return lines.join('\n');
}
