import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addQuantities,
  canonicalQuantity,
  compareQuantities,
  formatQuantity,
  multiplyQuantity,
  parseQuantity,
  QuantityError,
  quantityOf,
  quantityOfMilli,
  quantitySign,
  quantityToFloat,
  quantityToMilli,
  quantityToNumber,
  subtractQuantities,
} from './quantity.ts';

test('a quantity is written in its canonical form', () => {
  const cases: readonly (readonly [text: string, canonical: string])[] = [
    ['0', '0'],
    ['00', '0'],
    ['0m', '0'],
    ['0Ki', '0'],
    ['0.0', '0'],
    ['-', '0'],
    ['.', '0'],
    ['1', '1'],
    ['100m', '100m'],
    ['1000m', '1'],
    ['0.1', '100m'],
    ['.5', '500m'],
    ['1.', '1.'],
    ['1.5', '1500m'],
    ['1.500', '1.500'],
    ['+5', '+5'],
    ['-1.5', '-1500m'],
    ['1024Mi', '1Gi'],
    ['307200Ki', '300Mi'],
    ['1024Gi', '1Ti'],
    ['1Ki', '1Ki'],
    ['0.5Ki', '512'],
    ['1.5Gi', '1536Mi'],
    ['512Ki', '512Ki'],
    ['500Ki', '500Ki'],
    ['1000M', '1G'],
    ['1000000000', '1G'],
    ['1234567M', '1234567M'],
    ['1025', '1025'],
    ['1e3', '1e3'],
    ['1E3', '1E3'],
    ['1000e0', '1e3'],
    ['.001e12', '1e9'],
    ['0.001e0', '1e-3'],
    ['1000e-12', '1e-9'],
    ['1e9', '1e9'],
    ['1n', '1n'],
    ['1000u', '1m'],
    ['1080000000n', '1080m'],
    ['.001Ki', '1024m'],
    ['.000001Ki', '1024u'],
    ['.000000001Ki', '1024n'],
    ['.000000000001Ki', '2n'],
    ['0.1n', '1n'],
    ['-0.1n', '-1n'],
    ['1e-1000', '1e-9'],
    ['100Ei', '9223372036854775807'],
    ['1000E', '1e21'],
    [' 5Gi ', '5Gi'],
  ];
  for (const [text, canonical] of cases) assert.equal(canonicalQuantity(text), canonical, text);
});

test('malformed quantities are refused', () => {
  for (const text of ['', '1.1.M', '1+1.0M', 'aoeu', '1e3k', '1 Gi', '0x10', '1_000', '٣'])
    assert.throws(() => parseQuantity(text), /quantities must match the regular expression/, text);
  for (const text of [
    '0.1mi',
    '0.1am'.replace('a', 'e'),
    '.5i',
    '1i',
    '-3.01i',
    '-3.01e-',
    '1e',
    '5+3',
    '1KiKi',
  ])
    assert.throws(() => parseQuantity(text), /unable to parse quantity's suffix/, text);
});

test('hostile quantities are refused in no time', () => {
  const start = performance.now();
  assert.throws(() => parseQuantity('1e999999999'), QuantityError);
  assert.throws(() => parseQuantity('1e-999999999'), QuantityError);
  assert.throws(() => parseQuantity('0'.repeat(5_000_000)), QuantityError);
  assert.throws(() => parseQuantity(`${'0'.repeat(999)}x`), QuantityError);
  assert.ok(performance.now() - start < 500);
});

test('arithmetic is exact and keeps the format of the first non-zero term', () => {
  assert.equal(formatQuantity(addQuantities('100m', '0.9')), '1');
  assert.equal(formatQuantity(addQuantities('0', '1Gi')), '1Gi');
  assert.equal(formatQuantity(addQuantities('1Gi', '1G')), '2073741824');
  assert.equal(formatQuantity(subtractQuantities('1Gi', '1Mi')), '1023Mi');
  assert.equal(formatQuantity(subtractQuantities('1', '1.5')), '-500m');
  assert.equal(formatQuantity(multiplyQuantity('250m', 4)), '1');
  assert.equal(formatQuantity(addQuantities('9007199254740993', '1n')), '9007199254740993000000001n');
  assert.equal(formatQuantity(quantityOf(2048, 'BinarySI')), '2Ki');
  assert.equal(formatQuantity(quantityOfMilli(1500)), '1500m');
});

test('comparison is by value, whatever the suffix', () => {
  assert.equal(compareQuantities('1Gi', '1024Mi'), 0);
  assert.equal(compareQuantities('10000T', '100Gi'), 1);
  assert.equal(compareQuantities('50m', '100m'), -1);
  assert.equal(quantitySign('-1n'), -1);
  assert.equal(quantitySign('0Ki'), 0);
});

test('milli and whole values are rounded away from zero', () => {
  assert.equal(quantityToMilli('100m'), 100);
  assert.equal(quantityToMilli('2'), 2000);
  assert.equal(quantityToMilli('1u'), 1);
  assert.equal(quantityToMilli('-1u'), -1);
  assert.equal(quantityToNumber('1500m'), 2);
  assert.equal(quantityToNumber('-1500m'), -2);
  assert.equal(quantityToNumber('1Gi'), 1073741824);
  assert.equal(quantityToNumber('1.5Gi'), 1610612736);
  assert.equal(quantityToFloat('1500m'), 1.5);
});

/** A small deterministic generator: the seed is in the failure message. */
function* quantities(seed: number, count: number): Generator<string> {
  let state = seed;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const suffixes = [
    '',
    '',
    'n',
    'u',
    'm',
    'k',
    'M',
    'G',
    'T',
    'P',
    'E',
    'Ki',
    'Mi',
    'Gi',
    'Ti',
    'e3',
    'E-3',
    'e7',
  ];
  for (let i = 0; i < count; i++) {
    const whole = String(next(10 ** (1 + next(9))));
    const fraction = next(3) === 0 ? `.${next(10 ** (1 + next(9)))}` : '';
    yield `${['', '', '-', '+'][next(4)]}${whole}${fraction}${suffixes[next(suffixes.length)]}`;
  }
}

test('property: the canonical form has the same value and is its own canonical form', () => {
  for (const text of quantities(1, 20_000)) {
    const canonical = canonicalQuantity(text);
    assert.equal(compareQuantities(canonical, text), 0, text);
    assert.equal(canonicalQuantity(canonical), canonical, text);
  }
});

test('property: the quick readings agree with the exact value', () => {
  for (const text of quantities(2, 20_000)) {
    const { nanos } = parseQuantity(text);
    const away = (divisor: bigint) => {
      const quotient = nanos / divisor;
      return Number(nanos % divisor === 0n ? quotient : quotient + (nanos > 0n ? 1n : -1n));
    };
    assert.equal(quantityToMilli(text), away(1_000_000n), text);
    assert.equal(quantityToNumber(text), away(1_000_000_000n), text);
  }
});

test('property: adding and subtracting are inverse', () => {
  const all = [...quantities(3, 2_000)];
  for (let i = 1; i < all.length; i++) {
    const a = all[i - 1]!;
    const b = all[i]!;
    assert.equal(compareQuantities(subtractQuantities(addQuantities(a, b), b), a), 0, `${a} ${b}`);
    assert.equal(addQuantities(a, b).nanos, addQuantities(b, a).nanos);
  }
});
