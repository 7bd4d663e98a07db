// Reading JSON that somebody else wrote, field by field: what is not of the expected form is refused with the field's
// name. What is absent or null takes the default.

import { ConfigError } from './errors.ts';

/** A string that goes into C's strings: names, paths, arguments. */
function plain(text: string, field: string): string {
  if (text.includes('\0')) throw new ConfigError(field, 'it contains a NUL byte');
  return text;
}

/** One value and the name that it has in messages. */
export class Field {
  readonly name: string;
  readonly value: unknown;

  constructor(name: string, value: unknown) {
    this.name = name;
    this.value = value === null ? undefined : value;
  }

  get present(): boolean {
    return this.value !== undefined;
  }

  fail(reason: string): never {
    throw new ConfigError(this.name, reason);
  }

  /** A member of an object; of what is absent, all members are absent. */
  get(key: string): Field {
    const name = this.name === '' ? key : `${this.name}.${key}`;
    if (this.value === undefined) return new Field(name, undefined);
    return new Field(name, this.object()[key]);
  }

  object(): Readonly<Record<string, unknown>> {
    const { value } = this;
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.fail('it is not an object');
    return Object.assign(Object.create(null) as Record<string, unknown>, value);
  }

  entries(): [key: string, value: Field][] {
    return Object.entries(this.object()).map(([key, value]) => [
      key,
      new Field(`${this.name}.${key}`, value),
    ]);
  }

  items(): Field[] {
    const { value } = this;
    if (value === undefined) return [];
    if (!Array.isArray(value)) this.fail('it is not an array');
    return value.map((item: unknown, index) => new Field(`${this.name}[${index}]`, item));
  }

  text(): string | undefined {
    const { value } = this;
    if (value === undefined) return undefined;
    if (typeof value !== 'string') this.fail('it is not a string');
    return plain(value, this.name);
  }

  textOr(otherwise: string): string {
    return this.text() ?? otherwise;
  }

  required(): string {
    return this.text() ?? this.fail('it is missing');
  }

  texts(): string[] {
    return this.items().map((item) => item.required());
  }

  /** An absolute path. */
  path(): string {
    const text = this.required();
    if (!text.startsWith('/')) this.fail(`"${text}" is not an absolute path`);
    return text;
  }

  truth(): boolean {
    const { value } = this;
    if (value === undefined) return false;
    if (typeof value !== 'boolean') this.fail('it is neither true nor false');
    return value;
  }

  /** A whole number within bounds (both included). */
  number(lowest: number, highest: number): number | undefined {
    const { value } = this;
    if (value === undefined) return undefined;
    if (typeof value !== 'number') this.fail('it is not a number');
    // Larger ones than a double holds exactly are "no limit" wherever they are used (RLIM_INFINITY, memory).
    if (value > Number.MAX_SAFE_INTEGER && highest >= Number.MAX_SAFE_INTEGER) return value;
    if (!Number.isInteger(value)) this.fail('it is not a whole number');
    if (value < lowest || value > highest) this.fail(`${value} is not between ${lowest} and ${highest}`);
    return value;
  }

  numberOr(lowest: number, highest: number, otherwise: number): number {
    return this.number(lowest, highest) ?? otherwise;
  }
}
