// Amounts that are either a number or a share of some whole: `3` or `25%`.

import { percent } from '../names.ts';
import type { Findings } from './findings.ts';

export type IntOrPercent = number | string;

/** The number, or the number before the percent sign; 0 for what is neither. */
export function amountOf(value: IntOrPercent | undefined): number {
  if (typeof value !== 'string') return value ?? 0;
  const amount = percent(value).length === 0 ? Number(value.slice(0, -1)) : Number.parseInt(value, 10);
  return Number.isNaN(amount) ? 0 : amount;
}

export function validateIntOrPercent(
  findings: Findings,
  field: string,
  value: IntOrPercent | undefined,
): void {
  if (typeof value === 'string') findings.text(field, value, percent);
  else findings.notNegative(field, value);
}

export function validateAtMostAll(findings: Findings, field: string, value: IntOrPercent | undefined): void {
  if (typeof value === 'string' && percent(value).length === 0 && amountOf(value) > 100)
    findings.invalid(field, value, 'must not be greater than 100%');
}
