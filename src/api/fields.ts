// Field selectors (`metadata.name=web,status.phase!=Running`): reading the text form, escapes included, matching,
// and the error for a field that a kind does not offer. After apimachinery's fields package.

import { goQuote } from './errors.ts';
import { SelectorError } from './labels.ts';
import type { KubeObject } from './object.ts';

export interface FieldRequirement {
  readonly field: string;
  readonly operator: '=' | '!=';
  readonly value: string;
}

export class FieldMatcher {
  readonly requirements: readonly FieldRequirement[];
  readonly empty: boolean;

  constructor(requirements: readonly FieldRequirement[]) {
    this.requirements = requirements;
    this.empty = requirements.length === 0;
  }

  /** `read` gives a field's value as text, '' when it is not set. */
  matches(read: (field: string) => string): boolean {
    for (const { field, operator, value } of this.requirements)
      if ((read(field) === value) !== (operator === '=')) return false;
    return true;
  }

  matchesObject(object: KubeObject): boolean {
    return this.empty || this.matches((field) => fieldValue(object, field));
  }

  /** The value that this field must have, when there is only one: a name asked for, say. */
  requiredValue(field: string): string | undefined {
    return this.requirements.find((one) => one.field === field && one.operator === '=')?.value;
  }

  /** Throws SelectorError for the first field that is neither metadata.name, metadata.namespace nor in `selectable`. */
  check(selectable: readonly string[]): void {
    for (const { field } of this.requirements) {
      if (field === 'metadata.name' || field === 'metadata.namespace' || selectable.includes(field)) continue;
      throw new SelectorError(
        selectable.length > 0
          ? `field label not supported: ${field}`
          : `${goQuote(field)} is not a known field selector: only "metadata.name", "metadata.namespace"`,
      );
    }
  }

  toString(): string {
    return this.requirements
      .map(({ field, operator, value }) => `${field}${operator}${escapeFieldValue(value)}`)
      .join(',');
  }
}

export const everyField = new FieldMatcher([]);

/**
 * The value of `spec.nodeName` and its like in the stored form of an object, as field selectors compare it: text as it
 * is, booleans and numbers in their text form, '' for what is not set. Booleans and counters that are not set read as
 * false and 0.
 */
export function fieldValue(object: KubeObject, field: string): string {
  const path = paths.get(field) ?? field;
  let value: unknown = object;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null) return zeroValues.get(field) ?? '';
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  if (value === undefined || value === null) {
    // An event's source is its component, or the controller that reported it where the newer field is used.
    return field === 'source' ? fieldValue(object, 'reportingComponent') : (zeroValues.get(field) ?? '');
  }
  return typeof value === 'object' ? '' : String(value);
}

/** Field labels that are not spelt as the path they read. */
const paths: ReadonlyMap<string, string> = new Map([
  ['spec.host', 'spec.nodeName'],
  ['status.successful', 'status.succeeded'],
  ['source', 'source.component'],
  // Events of events.k8s.io are stored, and so compared, in the core group's form.
  ['reportingController', 'reportingComponent'],
  ...['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map(
    (name) => [`regarding.${name}`, `involvedObject.${name}`] as const,
  ),
]);

/** Fields that are left out of the JSON when they are false or 0, and yet compare as text. */
const zeroValues: ReadonlyMap<string, string> = new Map([
  ['spec.unschedulable', 'false'],
  ['spec.hostNetwork', 'false'],
  ['status.replicas', '0'],
  ['status.successful', '0'],
]);

export function escapeFieldValue(value: string): string {
  return value.replace(/[\\,=]/g, '\\$&');
}

function unescapeFieldValue(value: string): string {
  if (!/[\\,=]/.test(value)) return value;
  let out = '';
  let escaped = false;
  for (const character of value) {
    if (escaped) {
      if (character !== '\\' && character !== ',' && character !== '=')
        throw new SelectorError(`invalid field selector: invalid escape sequence: \\${character}`);
      out += character;
      escaped = false;
    } else if (character === '\\') {
      escaped = true;
    } else if (character === ',' || character === '=') {
      throw new SelectorError(
        `invalid field selector: unescaped character in value: ${character.codePointAt(0)}`,
      );
    } else {
      out += character;
    }
  }
  if (escaped) throw new SelectorError('invalid field selector: invalid escape sequence: \\');
  return out;
}

/** Terms are separated by commas that no backslash precedes. */
function splitTerms(text: string): string[] {
  const terms: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === ',') {
      terms.push(text.slice(start, i));
      start = i + 1;
    }
  }
  terms.push(text.slice(start));
  return terms;
}

/** Reads the text form. Throws SelectorError with upstream's message. */
export function parseFieldSelector(text: string): FieldMatcher {
  if (text === '') return everyField;
  const requirements: FieldRequirement[] = [];
  for (const term of splitTerms(text).toSorted()) {
    if (term === '') continue;
    const match = /!=|==|=/.exec(term);
    if (match === null) throw new SelectorError(`invalid selector: '${text}'; can't understand '${term}'`);
    requirements.push({
      field: term.slice(0, match.index),
      operator: match[0] === '!=' ? '!=' : '=',
      value: unescapeFieldValue(term.slice(match.index + match[0].length)),
    });
  }
  return requirements.length === 0 ? everyField : new FieldMatcher(requirements);
}
