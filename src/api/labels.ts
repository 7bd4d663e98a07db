// Label selectors: the text form of a query parameter (`a=b,c!=d,e in (x,y),!f`) and the LabelSelector objects of
// specs, both made into a LabelMatcher. Grammar, order and error messages follow apimachinery's labels package.
//
// A matcher is made once and asked often (every event of a watch, every service for every pod), so it holds its
// requirements ready and allocates nothing when it is asked.

import { goQuote } from './errors.ts';
import { labelValue, qualifiedName } from './names.ts';
import type { LabelSelector } from './types/meta-v1.ts';

export type LabelOperator = '=' | '==' | '!=' | 'in' | 'notin' | 'exists' | '!' | 'gt' | 'lt';

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

export type Labels = Readonly<Record<string, string>>;

/** The selector could not be read; the message is what the server answers with 400. */
export class SelectorError extends Error {
  override readonly name = 'SelectorError';
}

const operators: readonly LabelOperator[] = ['in', 'notin', '=', '==', '!=', 'gt', 'lt', 'exists', '!'];

/** Which objects are meant, by their labels. */
export class LabelMatcher {
  /** Sorted by key. */
  readonly requirements: readonly LabelRequirement[];
  /** True when every object matches. */
  readonly empty: boolean;
  /** True when no object can match (an absent LabelSelector). */
  readonly nothing: boolean;

  constructor(requirements: readonly LabelRequirement[], nothing = false) {
    this.requirements = requirements.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    this.nothing = nothing;
    this.empty = !nothing && requirements.length === 0;
  }

  matches(labels: Labels | undefined): boolean {
    if (this.nothing) return false;
    const { requirements } = this;
    for (let i = 0; i < requirements.length; i++)
      if (!matchesRequirement(requirements[i]!, labels)) return false;
    return true;
  }

  /** The value that this label must have, when the selector admits only one: what an index can be asked for. */
  requiredValue(key: string): string | undefined {
    for (const { key: other, operator, values } of this.requirements)
      if (
        other === key &&
        values.length === 1 &&
        (operator === '=' || operator === '==' || operator === 'in')
      )
        return values[0];
    return undefined;
  }

  /** With more requirements; this one stays as it is. */
  and(...requirements: readonly LabelRequirement[]): LabelMatcher {
    return new LabelMatcher([...this.requirements, ...requirements], this.nothing);
  }

  toString(): string {
    return this.requirements.map(requirementText).join(',');
  }
}

export const everyLabel = new LabelMatcher([]);
export const noLabel = new LabelMatcher([], true);

function matchesRequirement(
  { key, operator, values }: LabelRequirement,
  labels: Labels | undefined,
): boolean {
  const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case '=':
    case '==':
      return value !== undefined && value === values[0];
    case 'in':
      return value !== undefined && values.includes(value);
    case '!=':
      return value !== values[0];
    case 'notin':
      return value === undefined || !values.includes(value);
    case 'exists':
      return value !== undefined;
    case '!':
      return value === undefined;
    case 'gt':
    case 'lt': {
      const left = value === undefined ? undefined : int64(value);
      const right = int64(values[0] ?? '');
      if (left === undefined || right === undefined) return false;
      return operator === 'gt' ? left > right : left < right;
    }
  }
}

const greatestInt64 = 2n ** 63n - 1n;

function int64(text: string): bigint | undefined {
  if (text.length > 40 || !/^[-+]?[0-9]+$/.test(text)) return undefined;
  const value = BigInt(text.startsWith('+') ? text.slice(1) : text);
  return value > greatestInt64 || value < -greatestInt64 - 1n ? undefined : value;
}

function requirementText({ key, operator, values }: LabelRequirement): string {
  const list = values.length > 1 ? values.toSorted().join(',') : (values[0] ?? '');
  switch (operator) {
    case 'exists':
      return key;
    case '!':
      return `!${key}`;
    case 'in':
    case 'notin':
      return `${key} ${operator} (${list})`;
    case 'gt':
      return `${key}>${list}`;
    case 'lt':
      return `${key}<${list}`;
    default:
      return `${key}${operator}${list}`;
  }
}

/** Checks one requirement; throws SelectorError naming all that is wrong with it. */
export function labelRequirement(
  key: string,
  operator: LabelOperator,
  values: readonly string[],
): LabelRequirement {
  const complaints: string[] = [];
  const keyComplaints = qualifiedName(key);
  if (keyComplaints.length > 0)
    complaints.push(`key: Invalid value: ${goQuote(key)}: ${keyComplaints.join('; ')}`);
  const shown = JSON.stringify(values);
  switch (operator) {
    case 'in':
    case 'notin':
      if (values.length === 0)
        complaints.push(
          `values: Invalid value: ${shown}: for 'in', 'notin' operators, values set can't be empty`,
        );
      break;
    case '=':
    case '==':
    case '!=':
      if (values.length !== 1)
        complaints.push(
          `values: Invalid value: ${shown}: exact-match compatibility requires one single value`,
        );
      break;
    case 'exists':
    case '!':
      if (values.length !== 0)
        complaints.push(
          `values: Invalid value: ${shown}: values set must be empty for exists and does not exist`,
        );
      break;
    case 'gt':
    case 'lt':
      if (values.length !== 1)
        complaints.push(
          `values: Invalid value: ${shown}: for 'Gt', 'Lt' operators, exactly one value is required`,
        );
      values.forEach((value, i) => {
        if (int64(value) === undefined)
          complaints.push(
            `values[${i}]: Invalid value: ${goQuote(value)}: for 'Gt', 'Lt' operators, the value must be an integer`,
          );
      });
      break;
    default:
      complaints.push(
        `operator: Unsupported value: ${goQuote(String(operator satisfies never))}: supported values: ${operators.map((one) => goQuote(one)).join(', ')}`,
      );
  }
  values.forEach((value, i) => {
    const valueComplaints = labelValue(value);
    if (valueComplaints.length > 0)
      complaints.push(
        `values[${i}][${key}]: Invalid value: ${goQuote(value)}: ${valueComplaints.join('; ')}`,
      );
  });
  if (complaints.length > 0)
    throw new SelectorError(complaints.length === 1 ? complaints[0]! : `[${complaints.join(', ')}]`);
  return { key, operator, values };
}

const objectOperators: ReadonlyMap<string, LabelOperator> = new Map([
  ['In', 'in'],
  ['NotIn', 'notin'],
  ['Exists', 'exists'],
  ['DoesNotExist', '!'],
]);

/** The matcher of a LabelSelector object: absent matches nothing, empty matches everything. Throws SelectorError. */
export function labelSelectorMatcher(selector: LabelSelector | undefined | null): LabelMatcher {
  if (selector === undefined || selector === null) return noLabel;
  const requirements: LabelRequirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    requirements.push(labelRequirement(key, '=', [value]));
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const known = objectOperators.get(operator);
    if (known === undefined)
      throw new SelectorError(`${goQuote(operator)} is not a valid label selector operator`);
    requirements.push(labelRequirement(key, known, values ?? []));
  }
  return requirements.length === 0 ? everyLabel : new LabelMatcher(requirements);
}

/** The matcher of a map of labels (a Service's selector): every pair must be there. Absent or empty: everything. */
export function labelSetMatcher(labels: Labels | undefined | null): LabelMatcher {
  const pairs = Object.entries(labels ?? {});
  if (pairs.length === 0) return everyLabel;
  return new LabelMatcher(pairs.map(([key, value]) => ({ key, operator: '=', values: [value] })));
}

/** A LabelSelector object as `kubectl get` shows it. */
export function formatLabelSelector(selector: LabelSelector | undefined | null): string {
  try {
    return labelSelectorMatcher(selector).toString() || '<none>';
  } catch (error) {
    if (error instanceof SelectorError) return '<error>';
    throw error;
  }
}

/** A map of labels as text (`a=b,c=d`), sorted by key. */
export function formatLabels(labels: Labels | undefined | null): string {
  const pairs = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? '<none>' : pairs.toSorted().join(',');
}

type Token =
  | { readonly type: 'identifier' | 'error'; readonly text: string }
  | { readonly type: ')' | ',' | '!' | '==' | '=' | '>' | '<' | '!=' | '('; readonly text: string }
  | { readonly type: 'in' | 'notin' | 'end'; readonly text: string };

type TokenType = Token['type'];

const symbols: ReadonlySet<string> = new Set<TokenType>([')', ',', '!', '==', '=', '>', '<', '!=', '(']);
const special = /[=!(),<>]/;
const wordEnd = /[=!(),<> \t\r\n]/;

function* tokens(text: string): Generator<Token> {
  let at = 0;
  while (at < text.length) {
    const first = text[at]!;
    if (/[ \t\r\n]/.test(first)) {
      at++;
    } else if (special.test(first)) {
      // The longest symbol wins; a run that begins with none is an error up to where the run ends.
      let end = at;
      let found = 0;
      while (end < text.length && special.test(text[end]!)) {
        end++;
        if (symbols.has(text.slice(at, end))) found = end;
        else if (found > 0) break;
      }
      if (found === 0)
        yield { type: 'error', text: `error expected: keyword found '${text.slice(at, end)}'` };
      else yield { type: text.slice(at, found) as TokenType, text: text.slice(at, found) } as Token;
      at = found === 0 ? end : found;
    } else {
      let end = at + 1;
      while (end < text.length && !wordEnd.test(text[end]!)) end++;
      const word = text.slice(at, end);
      yield word === 'in' || word === 'notin'
        ? { type: word, text: word }
        : { type: 'identifier', text: word };
      at = end;
    }
  }
  yield { type: 'end', text: '' };
}

/** Reads the text form. Throws SelectorError with upstream's message. */
export function parseLabelSelector(text: string): LabelMatcher {
  if (text === '') return everyLabel;
  const parser = new SelectorParser(text);
  const requirements = parser.parse();
  return requirements.length === 0 ? everyLabel : new LabelMatcher(requirements);
}

/** Recursive descent over the grammar in apimachinery's labels.Parse. */
class SelectorParser {
  readonly #tokens: readonly Token[];
  #position = 0;

  constructor(text: string) {
    this.#tokens = [...tokens(text)];
  }

  /** Where a value or key is expected, the words `in` and `notin` are ordinary identifiers. */
  #look(): Token {
    const token = this.#operator();
    return token.type === 'in' || token.type === 'notin' ? { type: 'identifier', text: token.text } : token;
  }

  #operator(): Token {
    return this.#tokens[this.#position] ?? { type: 'end', text: '' };
  }

  #take(): Token {
    const token = this.#look();
    this.#position++;
    return token;
  }

  parse(): LabelRequirement[] {
    const requirements: LabelRequirement[] = [];
    for (;;) {
      const token = this.#look();
      if (token.type === 'end') return requirements;
      if (token.type !== 'identifier' && token.type !== '!')
        throw new SelectorError(`found '${token.text}', expected: !, identifier, or 'end of string'`);
      requirements.push(this.#requirement());
      const next = this.#take();
      if (next.type === 'end') return requirements;
      if (next.type !== ',')
        throw new SelectorError(`found '${next.text}', expected: ',' or 'end of string'`);
      const after = this.#look();
      if (after.type !== 'identifier' && after.type !== '!')
        throw new SelectorError(`found '${after.text}', expected: identifier after ','`);
    }
  }

  #requirement(): LabelRequirement {
    try {
      return this.#parseRequirement();
    } catch (error) {
      if (error instanceof SelectorError)
        throw new SelectorError(`unable to parse requirement: ${error.message}`);
      throw error;
    }
  }

  #parseRequirement(): LabelRequirement {
    let token = this.#take();
    const negated = token.type === '!';
    if (negated) token = this.#take();
    if (token.type !== 'identifier') throw new SelectorError(`found '${token.text}', expected: identifier`);
    const key = token.text;
    const complaints = qualifiedName(key);
    if (complaints.length > 0)
      throw new SelectorError(`<nil>: Invalid value: ${goQuote(key)}: ${complaints.join('; ')}`);
    const next = this.#look();
    // `!key` followed by anything is still "does not exist"; what follows is then refused by the caller.
    if (negated) return labelRequirement(key, '!', []);
    if (next.type === 'end' || next.type === ',') return labelRequirement(key, 'exists', []);
    const operator = this.#operator();
    this.#position++;
    switch (operator.type) {
      case 'in':
      case 'notin':
        return labelRequirement(key, operator.type, this.#values());
      case '=':
      case '==':
      case '!=':
        return labelRequirement(key, operator.type, [this.#value()]);
      case '>':
        return labelRequirement(key, 'gt', [this.#value()]);
      case '<':
        return labelRequirement(key, 'lt', [this.#value()]);
      default:
        throw new SelectorError(`found '${operator.text}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  }

  #value(): string {
    const next = this.#look();
    if (next.type === 'end' || next.type === ',') return '';
    this.#position++;
    if (next.type !== 'identifier') throw new SelectorError(`found '${next.text}', expected: identifier`);
    return next.text;
  }

  /** `(x,y,z)`; an empty place between commas is the empty value. */
  #values(): string[] {
    const open = this.#take();
    if (open.type !== '(') throw new SelectorError(`found '${open.text}' expected: '('`);
    const first = this.#look();
    if (first.type === ')') {
      this.#position++;
      return [''];
    }
    if (first.type !== 'identifier' && first.type !== ',')
      throw new SelectorError(`found '${first.text}', expected: ',', ')' or identifier`);
    const values = new Set<string>();
    for (;;) {
      const token = this.#take();
      if (token.type === 'identifier') {
        values.add(token.text);
        const next = this.#look();
        if (next.type === ')') break;
        if (next.type !== ',') throw new SelectorError(`found '${next.text}', expected: ',' or ')'`);
      } else if (token.type === ',') {
        if (values.size === 0) values.add('');
        const next = this.#look();
        if (next.type === ')') {
          values.add('');
          break;
        }
        if (next.type === ',') values.add('');
      } else {
        throw new SelectorError(`found '${token.text}', expected: ',', or identifier`);
      }
    }
    this.#position++;
    return [...values].toSorted();
  }
}
