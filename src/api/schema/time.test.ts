import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomSource } from './testing/random.ts';
import {
  canonicalMicroTime,
  canonicalTime,
  formatDuration,
  formatMicroTime,
  formatTime,
  parseDuration,
  TimeFormatError,
} from './time.ts';

test('times are whole seconds in UTC', () => {
  assert.equal(canonicalTime('2024-02-29T12:00:00Z'), '2024-02-29T12:00:00Z');
  assert.equal(canonicalTime('2024-02-29T12:00:00.999Z'), '2024-02-29T12:00:00Z');
  assert.equal(canonicalTime('2024-03-01T00:30:00+01:00'), '2024-02-29T23:30:00Z');
  assert.equal(canonicalTime('2023-12-31T23:00:00-02:00'), '2024-01-01T01:00:00Z');
  assert.equal(canonicalTime('0001-01-01T00:00:00Z'), '0001-01-01T00:00:00Z');
  assert.equal(canonicalTime('0099-05-06T00:00:00.5Z'), '0099-05-06T00:00:00Z');
  assert.equal(canonicalMicroTime('2024-01-01T00:00:00Z'), '2024-01-01T00:00:00.000000Z');
  assert.equal(canonicalMicroTime('2024-01-01T00:00:00.1234567+00:00'), '2024-01-01T00:00:00.123456Z');
  assert.equal(formatTime(1_700_000_000_999), '2023-11-14T22:13:20Z');
  assert.equal(formatMicroTime(1_700_000_000_001.5), '2023-11-14T22:13:20.001500Z');
});

test('malformed times are refused in the words of Go', () => {
  const refusal = (text: string): string => {
    try {
      canonicalTime(text);
    } catch (error) {
      assert.ok(error instanceof TimeFormatError);
      return error.message;
    }
    return 'taken';
  };
  assert.equal(refusal('x'), 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"');
  assert.equal(
    refusal('2024-01-01'),
    'parsing time "2024-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"',
  );
  assert.equal(
    refusal('2024-01-01T00:00:00'),
    'parsing time "2024-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"',
  );
  assert.equal(refusal('2024-13-01T00:00:00Z'), 'parsing time "2024-13-01T00:00:00Z": month out of range');
  assert.equal(refusal('2023-02-29T00:00:00Z'), 'parsing time "2023-02-29T00:00:00Z": day out of range');
  assert.equal(refusal('2024-01-01T24:00:00Z'), 'parsing time "2024-01-01T24:00:00Z": hour out of range');
  assert.equal(refusal('2024-01-01T00:00:00Zx'), 'parsing time "2024-01-01T00:00:00Zx": extra text: "x"');
  assert.notEqual(refusal('9999-12-31T23:59:59-10:00'), 'taken');
  assert.notEqual(refusal('1'.repeat(1_000_000)), 'taken');
});

test('a time means the same instant before and after', () => {
  const random = randomSource(4);
  for (let i = 0; i < 5000; i++) {
    const ms = random.below(4_000_000_000) * 1000 + random.below(1000);
    const offset = (random.below(2 * 14 * 60) - 14 * 60) * 60_000;
    const sign = offset < 0 ? '-' : '+';
    const size = Math.abs(offset) / 60_000;
    const zone = `${sign}${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`;
    const text = `${new Date(ms + offset).toISOString().slice(0, -1)}${zone}`;
    assert.equal(canonicalTime(text), formatTime(ms), text);
    assert.equal(canonicalMicroTime(text), formatMicroTime(ms), text);
  }
});

test('durations are read and written as Go does', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['0', '0s'],
    ['5s', '5s'],
    ['90s', '1m30s'],
    ['1.5h', '1h30m0s'],
    ['100ms', '100ms'],
    ['1h', '1h0m0s'],
    ['1.000001s', '1.000001s'],
    ['1500us', '1.5ms'],
    ['1500µs', '1.5ms'],
    ['3ns', '3ns'],
    ['-1m', '-1m0s'],
    ['+.5s', '500ms'],
    ['2562047h47m16.854775807s', '2562047h47m16.854775807s'],
  ];
  for (const [text, canonical] of cases) {
    assert.equal(formatDuration(parseDuration(text)), canonical, text);
    assert.equal(formatDuration(parseDuration(canonical)), canonical, canonical);
  }
  for (const text of ['', 's', '1', '1x', '.s', '-', '1h-1m', '9999999h', 'h1', '1'.repeat(10_000)])
    assert.throws(() => parseDuration(text), TimeFormatError, text);
});
