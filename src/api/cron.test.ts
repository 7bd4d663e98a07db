import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CronError, isTimeZone, parseCronSchedule } from './cron.ts';

const at = (text: string) => Date.parse(text);
const shown = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString());

function run(schedule: string, from: string, times: number, timeZone?: string): (string | undefined)[] {
  const parsed = parseCronSchedule(schedule);
  const result: (string | undefined)[] = [];
  let now: number | undefined = at(from);
  for (let i = 0; i < times && now !== undefined; i++) {
    now = parsed.next(now, timeZone);
    result.push(shown(now)?.slice(0, 16));
  }
  return result;
}

test('a schedule is due at the next minute that all its fields allow', () => {
  assert.deepEqual(run('*/15 * * * *', '2026-03-01T10:07:30Z', 3), [
    '2026-03-01T10:15',
    '2026-03-01T10:30',
    '2026-03-01T10:45',
  ]);
  assert.deepEqual(run('30 4 * * *', '2026-03-01T04:30:00Z', 1), ['2026-03-02T04:30']);
  assert.deepEqual(run('0 0 29 2 *', '2026-03-01T00:00:00Z', 1), ['2028-02-29T00:00']);
  assert.deepEqual(run('5/20 1-2 1,15 jan-feb *', '2026-01-01T02:30:00Z', 2), [
    '2026-01-01T02:45',
    '2026-01-15T01:05',
  ]);
});

test('days of the month and of the week are both met only when one of them is a star', () => {
  assert.deepEqual(run('0 0 13 * FRI', '2026-03-01T00:00:00Z', 3), [
    '2026-03-06T00:00',
    '2026-03-13T00:00',
    '2026-03-20T00:00',
  ]);
  assert.deepEqual(run('0 0 * * MON', '2026-03-01T00:00:00Z', 2), ['2026-03-02T00:00', '2026-03-09T00:00']);
});

test('descriptors are schedules', () => {
  assert.deepEqual(run('@hourly', '2026-03-01T10:07:30Z', 1), ['2026-03-01T11:00']);
  assert.deepEqual(run('@yearly', '2026-03-01T10:07:30Z', 1), ['2027-01-01T00:00']);
  assert.equal(
    shown(parseCronSchedule('@every 1m30s').next(at('2026-03-01T10:00:00.5Z'))),
    '2026-03-01T10:01:30.000Z',
  );
});

test('a day that does not exist is never due', () => {
  assert.deepEqual(run('0 0 31 2 *', '2026-03-01T00:00:00Z', 1), [undefined]);
});

test('clocks that are put forward skip what falls into the gap, clocks put back show an hour twice', () => {
  // Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00.
  assert.deepEqual(run('30 2 * * *', '2026-03-28T00:00:00Z', 2, 'Europe/Berlin'), [
    '2026-03-28T01:30',
    '2026-03-30T00:30',
  ]);
  assert.deepEqual(run('30 2 * * *', '2026-10-24T12:00:00Z', 3, 'Europe/Berlin'), [
    '2026-10-25T00:30',
    '2026-10-25T01:30',
    '2026-10-26T01:30',
  ]);
});

test('a day that begins after midnight is found', () => {
  // Santiago: 2026-09-06 00:00 → 01:00.
  assert.deepEqual(run('0 1 6 9 *', '2026-09-05T00:00:00Z', 1, 'America/Santiago'), ['2026-09-06T04:00']);
  assert.deepEqual(run('0 12 * * *', '2026-09-05T16:00:00Z', 1, 'America/Santiago'), ['2026-09-06T15:00']);
});

test('every answer matches the fields and no earlier minute does', () => {
  const schedules = ['7 */5 * * *', '0 9-17/4 * * 1-5', '15,45 3 1 */3 *', '*/7 22 10-20 6 0'];
  for (const schedule of schedules) {
    const parsed = parseCronSchedule(schedule);
    const [minute, hour] = schedule.split(' ');
    let now = at('2026-01-31T23:59:00Z');
    for (let i = 0; i < 50; i++) {
      const next = parsed.next(now);
      assert.ok(next !== undefined && next > now);
      // Asking from just before gives the same instant; asking from it gives a later one.
      assert.equal(parsed.next(next - 1), next, `${schedule} ${minute} ${hour}`);
      now = next;
    }
  }
});

test('what is no schedule is refused with the reason', () => {
  const cases: Readonly<Record<string, string>> = {
    '': 'empty spec string',
    '* * * *': 'expected exactly 5 fields, found 4: [* * * *]',
    '60 * * * *': 'end of range (60) above maximum (59): 60',
    '* * 0 * *': 'beginning of range (0) below minimum (1): 0',
    '5-1 * * * *': 'beginning of range (5) beyond end of range (1): 5-1',
    '1-2-3 * * * *': 'too many hyphens: 1-2-3',
    '*/2/3 * * * *': 'too many slashes: */2/3',
    '*/0 * * * *': 'step of range should be a positive number: */0',
    'x * * * *': 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax',
    '@never': 'unrecognized descriptor: @never',
    '@every x': 'failed to parse duration @every x: time: invalid duration "x"',
    'TZ=Nowhere/Here * * * * *': 'provided bad location Nowhere/Here: unknown time zone Nowhere/Here',
  };
  for (const [text, message] of Object.entries(cases))
    assert.throws(
      () => parseCronSchedule(text),
      (error) => error instanceof CronError && error.message === message,
      text,
    );
  assert.ok(isTimeZone('Europe/Berlin'));
  assert.ok(!isTimeZone('Europe/Nowhere'));
});
