// bulkhead-sandbox: an OCI runtime (the command line of runc) whose containers run on a kernel of their own.

import { appendFileSync, writeSync } from 'node:fs';
import { describeFlags, type Flags, parseFlags } from './arguments.ts';
import { type Command, commands, type Invocation } from './commands.ts';
import { CommandError, messageOf } from './errors.ts';
import { type GlobalOptions, globalFlags, readGlobalOptions } from './global-options.ts';
import { Outside } from './outside.ts';
import { StateDirectory } from './state.ts';
import { versionText } from './version.ts';

function usage(): string {
  const lines = Object.entries(commands).map(([name, { help }]) => `   ${name.padEnd(10)} ${help}`);
  return `NAME:
   bulkhead-sandbox - runs containers on a kernel of their own, as OCI runtimes do

USAGE:
   bulkhead-sandbox [global options] command [command options] [arguments...]

COMMANDS:
${lines.join('\n')}

GLOBAL OPTIONS:
${describeFlags(globalFlags)}
`;
}

/** The last message goes where --log says as well: conmon and containerd look for it there. */
function report(options: Pick<GlobalOptions, 'log' | 'logFormat'> | undefined, error: unknown): void {
  const message = messageOf(error);
  const time = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const line =
    options?.logFormat === 'json'
      ? JSON.stringify({ level: 'error', msg: message, time })
      : `time=${JSON.stringify(time)} level=error msg=${JSON.stringify(message)}`;
  if (options?.log !== undefined) {
    try {
      appendFileSync(options.log, `${line}\n`);
    } catch (failure) {
      writeSync(2, `${messageOf(failure)}\n`);
    }
  }
  writeSync(2, options?.log === undefined && options?.logFormat === 'json' ? `${line}\n` : `${line}\n`);
}

/** Ends the process with the command's status. */
export async function main(argv: readonly string[]): Promise<never> {
  process.exit(await runCommand(argv));
}

async function runCommand(argv: readonly string[]): Promise<number> {
  let options: GlobalOptions | undefined;
  try {
    const { flags: global, rest } = parseFlags(argv, globalFlags);
    if (global.is('version')) return print(versionText());
    const [name, ...remaining] = rest;
    if (name === undefined || name === 'help' || global.is('help')) return print(usage());
    options = readGlobalOptions(global);
    const command: Command | undefined = commands[name];
    if (!command) throw new CommandError(`No help topic for '${name}'`, { status: 3 });
    const { flags, rest: positional } = readCommand(command, remaining);
    if (flags.is('help')) return print(`${name}: ${command.help}\n\n${describeFlags(command.flags)}\n`);
    checkArguments(name, command, positional);
    const invocation: Invocation = {
      flags,
      positional,
      environment: { outside: new Outside(), state: new StateDirectory(options.root), options },
      print: (text) => void print(text),
    };
    return await command.run(invocation);
  } catch (error) {
    report(options, error);
    return error instanceof CommandError ? error.status : 1;
  }
}

function readCommand(command: Command, argv: readonly string[]): { flags: Flags; rest: readonly string[] } {
  return parseFlags(argv, {
    ...command.flags,
    help: { kind: 'boolean', aliases: ['h'], help: 'print this' },
  });
}

function checkArguments(name: string, command: Command, positional: readonly string[]): void {
  const [least, most] = command.arguments;
  if (positional.length >= least && positional.length <= most) return;
  const wanted = least === most ? `exactly ${least}` : `a minimum of ${least}`;
  throw new CommandError(`bulkhead-sandbox: "${name}" requires ${wanted} argument(s)`);
}

function print(text: string): number {
  const bytes = Buffer.from(text.endsWith('\n') ? text : `${text}\n`);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
  return 0;
}
