// Command lines as runc's library reads them: flags with one or two dashes, values after "=" or as the next argument,
// flags only before the first positional argument, "--" ends them.

import { CommandError } from './errors.ts';

/** What a flag is given; a `list` may be given again. */
export type FlagKind = 'boolean' | 'string' | 'list';

export interface FlagDescription {
  readonly kind: FlagKind;
  /** Other names, of one letter or more. */
  readonly aliases?: readonly string[];
  readonly help: string;
}

export type FlagDescriptions = Readonly<Record<string, FlagDescription>>;

export interface Parsed {
  readonly flags: Flags;
  readonly rest: readonly string[];
}

export class Flags {
  readonly #values = new Map<string, string[]>();

  add(name: string, value: string): void {
    const values = this.#values.get(name);
    if (values) values.push(value);
    else this.#values.set(name, [value]);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** A boolean's value; absent: false. */
  is(name: string): boolean {
    return this.#values.get(name)?.at(-1) === 'true';
  }

  /** The last value given. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1);
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** A whole number; throws for what is none. */
  number(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^-?\d{1,16}$/.test(text))
      throw new CommandError(`invalid value "${text}" for flag -${name}: it is not a whole number`);
    return Number(text);
  }
}

const truths: Readonly<Record<string, string>> = {
  ...{ '1': 'true', t: 'true', T: 'true', true: 'true', TRUE: 'true', True: 'true' },
  ...{ '0': 'false', f: 'false', F: 'false', false: 'false', FALSE: 'false', False: 'false' },
};

export function parseFlags(argv: readonly string[], described: FlagDescriptions): Parsed {
  const names = new Map<string, string>();
  for (const [name, { aliases }] of Object.entries(described))
    for (const one of [name, ...(aliases ?? [])]) names.set(one, name);
  const flags = new Flags();
  let index = 0;
  for (; index < argv.length; index++) {
    const argument = argv[index] ?? '';
    if (argument === '--') {
      index++;
      break;
    }
    if (!argument.startsWith('-') || argument === '-') break;
    const [, written = '', assigned] = /^--?([^=]*)(?:=([\s\S]*))?$/.exec(argument) ?? [];
    const name = names.get(written);
    const flag = name === undefined ? undefined : described[name];
    if (name === undefined || !flag)
      throw new CommandError(`flag provided but not defined: -${written}`, { status: 1 });
    if (flag.kind === 'boolean') {
      const value = assigned === undefined ? 'true' : truths[assigned];
      if (value === undefined)
        throw new CommandError(`invalid boolean value "${assigned}" for flag -${written}`);
      flags.add(name, value);
      continue;
    }
    const value = assigned ?? argv[++index];
    if (value === undefined) throw new CommandError(`flag needs an argument: -${written}`);
    flags.add(name, value);
  }
  return { flags, rest: argv.slice(index) };
}

/** A usage text's lines about flags. */
export function describeFlags(described: FlagDescriptions): string {
  return Object.entries(described)
    .map(([name, { aliases = [], kind, help }]) => {
      const all = [name, ...aliases].map((one) => (one.length === 1 ? `-${one}` : `--${one}`)).join(', ');
      return `   ${all}${kind === 'boolean' ? '' : ' value'}\t${help}`;
    })
    .join('\n');
}
