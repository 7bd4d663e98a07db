// What validation finds wrong with an object: a list of field errors, and the checks that nearly every kind needs.
// Paths are texts as they are printed (`spec.containers[0].name`), put together on the way down.

import { type FieldError, fieldError } from '../errors.ts';
import { labelValue, qualifiedName } from '../names.ts';
import type { LabelSelector } from '../types/meta-v1.ts';

/** A rule on text: its complaints, none when the text is as it should be. */
export type TextRule = (value: string) => readonly string[];

export const IMMUTABLE = 'field is immutable';
export const NOT_NEGATIVE = 'must be greater than or equal to 0';
export const POSITIVE = 'must be greater than zero';

export class Findings {
  readonly errors: FieldError[] = [];

  required(field: string, detail = ''): void {
    this.errors.push(fieldError.required(field, detail));
  }

  invalid(field: string, value: unknown, detail: string): void {
    this.errors.push(fieldError.invalid(field, value, detail));
  }

  /** Where the value is too long, or says nothing that the detail does not. */
  invalidWhole(field: string, detail: string): void {
    this.errors.push({ type: 'FieldValueInvalid', field, detail });
  }

  forbidden(field: string, detail: string): void {
    this.errors.push(fieldError.forbidden(field, detail));
  }

  duplicate(field: string, value: unknown): void {
    this.errors.push(fieldError.duplicate(field, value));
  }

  notFound(field: string, value: unknown): void {
    this.errors.push(fieldError.notFound(field, value));
  }

  tooLong(field: string, most: number): void {
    this.errors.push(fieldError.tooLong(field, most));
  }

  tooMany(field: string, actual: number, most: number): void {
    this.errors.push(fieldError.tooMany(field, actual, most));
  }

  notSupported(field: string, value: unknown, supported: readonly string[]): void {
    this.errors.push(fieldError.notSupported(field, value, supported));
  }

  /** One error for each complaint of the rule. */
  text(field: string, value: string, rule: TextRule): void {
    for (const complaint of rule(value)) this.invalid(field, value, complaint);
  }

  /** The value must be one of a closed set; absent or '' is required when `required` says so. */
  oneOf(
    field: string,
    value: string | undefined,
    supported: readonly string[],
    options: { readonly required?: boolean | string } = {},
  ): void {
    if (value === undefined || value === '') {
      if (options.required !== undefined && options.required !== false)
        this.required(field, options.required === true ? '' : options.required);
      return;
    }
    if (!supported.includes(value)) this.notSupported(field, value, supported);
  }

  notNegative(field: string, value: number | undefined): void {
    if (value !== undefined && value < 0) this.invalid(field, value, NOT_NEGATIVE);
  }

  range(field: string, value: number | undefined, low: number, high: number): void {
    if (value !== undefined && (value < low || value > high))
      this.invalid(field, value, `must be between ${low} and ${high}, inclusive`);
  }

  /** Required, and following the rule. */
  name(field: string, value: string | undefined, rule: TextRule): void {
    if (value === undefined || value === '') this.required(field);
    else this.text(field, value, rule);
  }

  immutable(field: string, now: unknown, before: unknown): void {
    if (!equal(now, before)) this.invalid(field, now, IMMUTABLE);
  }

  labels(field: string, labels: Readonly<Record<string, string>> | undefined): void {
    for (const key in labels) {
      this.text(field, key, qualifiedName);
      for (const complaint of labelValue(labels[key]!)) this.invalid(field, labels[key], complaint);
    }
  }

  /** What the operators of label and node selectors alike ask of their values. False: it is another operator. */
  selectorValues(at: string, operator: string, values: readonly string[]): boolean {
    switch (operator) {
      case 'In':
      case 'NotIn':
        if (values.length === 0)
          this.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
        return true;
      case 'Exists':
      case 'DoesNotExist':
        if (values.length > 0)
          this.forbidden(
            `${at}.values`,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
          );
        return true;
      default:
        return false;
    }
  }

  labelSelector(field: string, selector: LabelSelector | undefined): void {
    if (selector === undefined) return;
    this.labels(`${field}.matchLabels`, selector.matchLabels);
    selector.matchExpressions?.forEach((requirement, i) => {
      const at = `${field}.matchExpressions[${i}]`;
      const values = requirement.values ?? [];
      if (!this.selectorValues(at, requirement.operator, values))
        this.invalid(`${at}.operator`, requirement.operator, 'not a valid selector operator');
      this.text(`${at}.key`, requirement.key, qualifiedName);
      values.forEach((value, j) => {
        this.text(`${at}.values[${j}]`, value, labelValue);
      });
    });
  }
}

/** Equality of JSON values; what is absent equals what is empty ('', 0, false, [], {}), as Go's zero values do. */
export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isEmpty(a) && isEmpty(b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, i) => equal(item, b[i]));
  }
  const left = a as Readonly<Record<string, unknown>>;
  const right = b as Readonly<Record<string, unknown>>;
  for (const key in left) if (!equal(left[key], right[key])) return false;
  for (const key in right) if (left[key] === undefined && !isEmpty(right[key])) return false;
  return true;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false) return true;
  if (typeof value !== 'object') return false;
  if (Array.isArray(value)) return value.length === 0;
  for (const key in value) if (!isEmpty((value as Readonly<Record<string, unknown>>)[key])) return false;
  return true;
}
