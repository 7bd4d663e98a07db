// Sets of indexes as indexed jobs write them: `1,3-5,7`, each below the number of completions, in growing order.

import { goQuote } from '../errors.ts';

export interface IndexSet {
  readonly intervals: readonly (readonly [number, number])[];
  readonly size: number;
  /** What is wrong with the text; the intervals before it are there. */
  readonly complaint: string | undefined;
}

function parseIndex(text: string, completions: number): number | string {
  if (!/^[+-]?\d+$/.test(text)) return `cannot convert string to integer for index: ${goQuote(text)}`;
  const index = Number(text);
  return index >= completions ? `too large index: ${goQuote(text)}` : index;
}

function parseInterval(text: string, completions: number): readonly [number, number] | string {
  const ends = text.split('-');
  if (ends.length > 2)
    return `the fragment ${goQuote(text)} violates the requirement that an index interval can have at most two parts separated by '-'`;
  const first = parseIndex(ends[0]!, completions);
  if (typeof first === 'string') return first;
  if (ends.length === 1) return [first, first];
  const last = parseIndex(ends[1]!, completions);
  if (typeof last === 'string') return last;
  return first >= last ? `non-increasing order, previous: ${first}, current: ${last}` : [first, last];
}

export function parseIndexSet(text: string, completions: number): IndexSet {
  const intervals: (readonly [number, number])[] = [];
  let size = 0;
  if (text === '') return { intervals, size, complaint: undefined };
  for (const part of text.split(',')) {
    const interval = parseInterval(part, completions);
    if (typeof interval === 'string') return { intervals, size, complaint: interval };
    const previous = intervals.at(-1)?.[1];
    if (previous !== undefined && previous >= interval[0])
      return {
        intervals,
        size,
        complaint: `non-increasing order, previous: ${previous}, current: ${interval[0]}`,
      };
    intervals.push(interval);
    size += interval[1] - interval[0] + 1;
  }
  return { intervals, size, complaint: undefined };
}

/** The lowest index that is in both. */
export function firstShared(a: IndexSet, b: IndexSet): number | undefined {
  let i = 0;
  let j = 0;
  while (i < a.intervals.length && j < b.intervals.length) {
    const [aFirst, aLast] = a.intervals[i]!;
    const [bFirst, bLast] = b.intervals[j]!;
    if (aFirst <= bLast && bFirst <= aLast) return Math.max(aFirst, bFirst);
    if (aFirst <= bFirst) i++;
    else j++;
  }
  return undefined;
}
