// Rules on file paths in objects: what may be mounted where without leading out of its place.

import type { Findings } from './findings.ts';

export const FILE_MODE = 'must be a number between 0 and 0777 (octal), both inclusive';

export function validateNoBacksteps(findings: Findings, field: string, path: string): void {
  if (path.split('/').includes('..')) findings.invalid(field, path, "must not contain '..'");
}

/** Relative, and staying below where it starts. */
export function validateDescendingPath(findings: Findings, field: string, path: string): void {
  if (path.startsWith('/')) findings.invalid(field, path, 'must be a relative path');
  validateNoBacksteps(findings, field, path);
}

/** The same, and not one of the names beginning with two dots that atomic updates of volumes use. */
export function validateNonReservedPath(findings: Findings, field: string, path: string): void {
  validateDescendingPath(findings, field, path);
  if (path.startsWith('..') && !path.startsWith('../'))
    findings.invalid(field, path, "must not start with '..'");
}

export function validateFileMode(findings: Findings, field: string, mode: number | undefined): void {
  if (mode !== undefined && (mode < 0 || mode > 0o777)) findings.invalid(field, mode, FILE_MODE);
}
