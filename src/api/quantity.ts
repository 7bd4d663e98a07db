// Resource quantities (`100m`, `1.5Gi`, `12e6`): parsing, exact arithmetic and the canonical text that the API
// stores, after apimachinery's resource.Quantity. A value is held as a whole number of nanos, which is the finest
// step the format has; anything finer is rounded away from zero ("if you want some, you get some").
//
// quantityToMilli and quantityToNumber are for hot paths (scheduling, summing requests): they read the usual
// spellings digit by digit and make no objects. Everything else goes through BigInt and is exact.

/** Which family of suffixes a quantity is written with; sums keep the family of their first non-zero term. */
export type QuantityFormat = 'DecimalSI' | 'BinarySI' | 'DecimalExponent';

export interface Quantity {
  readonly nanos: bigint;
  readonly format: QuantityFormat;
  /** The text it was read from, when that is already canonical. */
  readonly text?: string;
}

export class QuantityError extends Error {
  override readonly name = 'QuantityError';
}

const wrongFormat =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const wrongSuffix = "unable to parse quantity's suffix";

const nanosPerUnit = 1_000_000_000n;
const nanosPerMilli = 1_000_000n;
/** Binary quantities saturate here, as upstream's do (int64). */
const greatestBinary = (2n ** 63n - 1n) * nanosPerUnit;
/** Exponents beyond this have no use and would only cost memory: they are refused. */
const greatestExponent = 1000;
/** Longer texts are refused for the same reason. */
const greatestLength = 1000;

const decimalSuffixes: ReadonlyMap<string, number> = new Map([
  ['n', -9],
  ['u', -6],
  ['m', -3],
  ['', 0],
  ['k', 3],
  ['M', 6],
  ['G', 9],
  ['T', 12],
  ['P', 15],
  ['E', 18],
]);
const binarySuffixes: ReadonlyMap<string, number> = new Map([
  ['Ki', 10],
  ['Mi', 20],
  ['Gi', 30],
  ['Ti', 40],
  ['Pi', 50],
  ['Ei', 60],
]);
const decimalSuffixOf = new Map([...decimalSuffixes].map(([suffix, exponent]) => [exponent, suffix]));
const binarySuffixOf = ['', ...binarySuffixes.keys()];

/** No two neighbouring parts can match the same character, so that hostile text costs linear time. */
const shape = /^([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]+[-+]?[0-9]*|[-+][0-9]*)?$/;

/** Throws QuantityError with upstream's wording. Surrounding white space is not part of a quantity. */
export function parseQuantity(text: string): Quantity {
  const match = text.length === 0 || text.length > greatestLength ? null : shape.exec(text);
  if (match === null) throw new QuantityError(wrongFormat);
  const sign = match[1]!;
  const whole = match[2]!.replace(/^0+/, '') || '0';
  const fraction = match[3] ?? '';
  const suffix = match[4] ?? '';

  let format: QuantityFormat;
  let exponent: number;
  const decimal = decimalSuffixes.get(suffix);
  const binary = decimal === undefined ? binarySuffixes.get(suffix) : undefined;
  if (decimal !== undefined) {
    format = 'DecimalSI';
    exponent = decimal;
  } else if (binary !== undefined) {
    format = 'BinarySI';
    exponent = binary;
  } else if (/^[eE][-+]?[0-9]+$/.test(suffix)) {
    format = 'DecimalExponent';
    exponent = Number(suffix.slice(1));
    if (Math.abs(exponent) > greatestExponent) throw new QuantityError(wrongSuffix);
  } else {
    throw new QuantityError(wrongSuffix);
  }

  const digits = whole + fraction;
  const unscaled = BigInt(digits);
  let nanos: bigint;
  if (format === 'BinarySI') {
    nanos = scaleByTen(unscaled << BigInt(exponent), 9 - fraction.length);
    if (nanos > greatestBinary) nanos = greatestBinary;
    if (nanos > 0n && nanos < nanosPerUnit) format = 'DecimalSI';
  } else {
    nanos = scaleByTen(unscaled, 9 + exponent - fraction.length);
  }
  const value = sign === '-' ? -nanos : nanos;
  return isCanonical(digits, fraction.length, format, exponent)
    ? { nanos: value, format, text }
    : { nanos: value, format };
}

/** Whether upstream keeps the text as it was written: no trailing thousands, a power of a thousand, no lost digit. */
function isCanonical(digits: string, places: number, format: QuantityFormat, exponent: number): boolean {
  if (format === 'BinarySI') {
    const precision = 15 - digits.length - Math.trunc((exponent * 3) / 10) - 1;
    return places === 0 && precision >= 0 && (Number(digits.slice(-3)) & 7) !== 0;
  }
  const scale = exponent - places;
  return (
    digits.length <= 18 && scale >= -9 && scale % 3 === 0 && !digits.endsWith('000') && digits[0] !== '0'
  );
}

/** value × 10^power, rounded up when power is negative. `value` is not negative. */
function scaleByTen(value: bigint, power: number): bigint {
  if (power >= 0) return value * 10n ** BigInt(power);
  const divisor = 10n ** BigInt(-power);
  return (value + divisor - 1n) / divisor;
}

/** The canonical text, as upstream writes it into JSON. */
export function formatQuantity(quantity: Quantity): string {
  if (quantity.text !== undefined) return quantity.text;
  const { nanos } = quantity;
  if (nanos === 0n) return '0';
  let { format } = quantity;
  if (format === 'BinarySI') {
    const small = nanos > -1024n * nanosPerUnit && nanos < 1024n * nanosPerUnit;
    // Written with a binary suffix it would lose digits or say nothing.
    if (small || nanos % nanosPerUnit !== 0n) format = 'DecimalSI';
  }
  if (format === 'BinarySI') {
    let mantissa = nanos / nanosPerUnit;
    let power = 0;
    while (power < binarySuffixOf.length - 1 && mantissa % 1024n === 0n) {
      mantissa /= 1024n;
      power++;
    }
    return `${mantissa}${binarySuffixOf[power]}`;
  }
  let mantissa = nanos;
  let exponent = -9;
  while (mantissa % 1000n === 0n) {
    mantissa /= 1000n;
    exponent += 3;
  }
  if (exponent === 0) return String(mantissa);
  const suffix = format === 'DecimalSI' ? decimalSuffixOf.get(exponent) : undefined;
  return `${mantissa}${suffix ?? `e${exponent}`}`;
}

/** The canonical form of a quantity's text; throws QuantityError. White space around it is dropped, as when decoding. */
export function canonicalQuantity(text: string): string {
  return formatQuantity(parseQuantity(text.trim()));
}

export function isQuantity(text: string): boolean {
  try {
    parseQuantity(text);
    return true;
  } catch {
    return false;
  }
}

export const zeroQuantity: Quantity = Object.freeze({ nanos: 0n, format: 'DecimalSI' as const, text: '0' });

/** A whole number of units. `value` must be a safe integer or a bigint. */
export function quantityOf(value: number | bigint, format: QuantityFormat = 'DecimalSI'): Quantity {
  return { nanos: BigInt(value) * nanosPerUnit, format };
}

/** A whole number of thousandths (milli-CPU). */
export function quantityOfMilli(value: number | bigint, format: QuantityFormat = 'DecimalSI'): Quantity {
  return { nanos: BigInt(value) * nanosPerMilli, format };
}

function asQuantity(value: Quantity | string): Quantity {
  return typeof value === 'string' ? parseQuantity(value) : value;
}

/** Negative, zero or positive as a is less than, equal to or greater than b. */
export function compareQuantities(a: Quantity | string, b: Quantity | string): -1 | 0 | 1 {
  const x = asQuantity(a).nanos;
  const y = asQuantity(b).nanos;
  return x < y ? -1 : x > y ? 1 : 0;
}

export function quantitySign(value: Quantity | string): -1 | 0 | 1 {
  const { nanos } = asQuantity(value);
  return nanos < 0n ? -1 : nanos > 0n ? 1 : 0;
}

export function addQuantities(a: Quantity | string, b: Quantity | string): Quantity {
  const x = asQuantity(a);
  const y = asQuantity(b);
  return { nanos: x.nanos + y.nanos, format: x.nanos === 0n ? y.format : x.format };
}

export function subtractQuantities(a: Quantity | string, b: Quantity | string): Quantity {
  const x = asQuantity(a);
  const y = asQuantity(b);
  return { nanos: x.nanos - y.nanos, format: x.nanos === 0n ? y.format : x.format };
}

/** `factor` must be a safe integer. */
export function multiplyQuantity(value: Quantity | string, factor: number): Quantity {
  const x = asQuantity(value);
  return { nanos: x.nanos * BigInt(factor), format: x.format };
}

/** Thousandths, rounded away from zero; beyond 2^53 only as exact as a double. */
export function quantityToMilli(value: Quantity | string): number {
  if (typeof value === 'string') {
    const plain = readPlain(value, 1000);
    if (plain >= 0) return plain;
  }
  return divideAway(asQuantity(value).nanos, nanosPerMilli);
}

/** Whole units (bytes, pods), rounded away from zero; beyond 2^53 only as exact as a double. */
export function quantityToNumber(value: Quantity | string): number {
  if (typeof value === 'string') {
    const plain = readPlain(value, 1);
    if (plain >= 0) return plain;
  }
  return divideAway(asQuantity(value).nanos, nanosPerUnit);
}

/** The value as a double, fractions and all. */
export function quantityToFloat(value: Quantity | string): number {
  const { nanos } = asQuantity(value);
  return Number(nanos / nanosPerUnit) + Number(nanos % nanosPerUnit) / 1e9;
}

function divideAway(nanos: bigint, divisor: bigint): number {
  const quotient = nanos / divisor;
  if (nanos % divisor === 0n) return Number(quotient);
  return Number(nanos > 0n ? quotient + 1n : quotient - 1n);
}

/**
 * The quantity times `factor` when it is digits with at most one of the everyday suffixes and the result is a safe
 * integer; -1 for all else, which is then read the long way.
 */
function readPlain(text: string, factor: 1 | 1000): number {
  const { length } = text;
  let value = 0;
  let at = 0;
  while (at < length) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
    at++;
  }
  if (at === 0) return -1;
  if (at === length) {
    value *= factor;
  } else {
    const suffix = text.charCodeAt(at);
    const left = length - at;
    if (left === 1) {
      if (suffix === 109 /* m */) {
        if (factor === 1) {
          if (value > Number.MAX_SAFE_INTEGER) return -1;
          return Math.ceil(value / 1000);
        }
      } else if (suffix === 107 /* k */) value *= 1e3 * factor;
      else if (suffix === 77 /* M */) value *= 1e6 * factor;
      else if (suffix === 71 /* G */) value *= 1e9 * factor;
      else return -1;
    } else if (left === 2 && text.charCodeAt(at + 1) === 105 /* i */) {
      if (suffix === 75 /* K */) value *= 1024 * factor;
      else if (suffix === 77 /* M */) value *= 1048576 * factor;
      else if (suffix === 71 /* G */) value *= 1073741824 * factor;
      else return -1;
    } else return -1;
  }
  return value <= Number.MAX_SAFE_INTEGER ? value : -1;
}
