// What a command of `bulkhead` is: its words, its options as a table, and what it does. Parsing, `--help` and the
// messages for wrong options come from the table, so that no command says these things in a way of its own.

import { parseArgs } from 'node:util';

export interface OptionSpec {
  readonly type: 'string' | 'boolean';
  /** How the value is called in the help: `--port PORT`. */
  readonly value?: string;
  readonly short?: string;
  readonly description: string;
  /** May be given more than once. */
  readonly multiple?: boolean;
}

export type OptionValues = Readonly<
  Record<string, string | boolean | readonly (string | boolean)[] | undefined>
>;

export interface CommandContext {
  readonly values: OptionValues;
  readonly positionals: readonly string[];
}

export interface Command {
  readonly name: string;
  /** What follows the name in the usage line: `NAME…`, `[OPTIONS]`. */
  readonly usage: string;
  readonly summary: string;
  /** Paragraphs and examples for `bulkhead NAME --help`. */
  readonly help: string;
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** How many positional arguments there may be. */
  readonly positionals: { readonly least: number; readonly most: number };
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** The user's words do not make a command; the message says how they would. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Something that the user must see as it is, without a stack. Exit code 1. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

export const stateOption = {
  'state-dir': {
    type: 'string',
    value: 'DIR',
    description:
      'where the cluster is kept (default: /var/lib/bulkhead, or below your home directory without root)',
  },
} as const satisfies Readonly<Record<string, OptionSpec>>;

export function parseCommand(command: Command, args: readonly string[]): CommandContext {
  const options = Object.fromEntries(
    Object.entries({ ...command.options, help: HELP }).map(([name, { type, short, multiple }]) => [
      name,
      { type, ...(short === undefined ? {} : { short }), ...(multiple ? { multiple } : {}) },
    ]),
  );
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    // Node's own message names the option; its hint about positionals starting with a dash is no help here.
    const message = (error as Error).message.split('. ')[0];
    throw new UsageError(`${message}\nSee: bulkhead ${command.name} --help`);
  }
  const { least, most } = command.positionals;
  const count = parsed.positionals.length;
  if (!parsed.values['help'] && (count < least || count > most)) {
    const what =
      count > most ? `"${parsed.positionals[most]}" is one argument too many` : 'an argument is missing';
    throw new UsageError(`${what}\nUsage: bulkhead ${command.name} ${command.usage}`);
  }
  for (const [name, value] of Object.entries(parsed.values)) {
    if ([value].flat().includes(''))
      throw new UsageError(`--${name} needs a value\nSee: bulkhead ${command.name} --help`);
  }
  return { values: parsed.values as OptionValues, positionals: parsed.positionals };
}

const HELP: OptionSpec = { type: 'boolean', short: 'h', description: 'show this text' };

export function commandHelp(command: Command): string {
  const rows = Object.entries({ ...command.options, help: HELP }).map(([name, option]) => {
    const left = `  ${option.short ? `-${option.short}, ` : '    '}--${name}${option.value ? ` ${option.value}` : ''}`;
    return [left, option.description] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  const options = rows.map(([left, right]) => left.padEnd(width) + right).join('\n');
  return `${command.summary}\n\nUsage: bulkhead ${command.name} ${command.usage}\n\n${command.help.trim()}\n\nOptions:\n${options}\n`;
}

export function stringOption(values: OptionValues, name: string): string | undefined {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
}

/** A whole number within bounds, or a UsageError that names the option. */
export function numberOption(
  values: OptionValues,
  name: string,
  bounds: { readonly least: number; readonly most: number },
): number | undefined {
  const text = stringOption(values, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < bounds.least || value > bounds.most) {
    throw new UsageError(
      `--${name} takes a whole number from ${bounds.least} to ${bounds.most}, not "${text}"`,
    );
  }
  return value;
}
