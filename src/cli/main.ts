// The `bulkhead` command: finds the command that was asked for, loads only that, and turns failures into messages
// and exit codes.

import { enableCompileCache } from 'node:module';
import { type Command, commandHelp, parseCommand, UsageError } from './command.ts';
import { note, print, style } from './terminal.ts';
import { VERSION } from './version.ts';

// Compiled code is kept beside the bundle; where that cannot be written Node does without.
enableCompileCache(new URL('.compile-cache', import.meta.url).pathname);

const commands: Readonly<Record<string, { readonly summary: string; load(): Promise<Command> }>> = {
  up: { summary: 'start a cluster on this machine', load: async () => (await import('./commands/up.ts')).up },
  down: {
    summary: 'stop it; everything is kept',
    load: async () => (await import('./commands/down.ts')).down,
  },
  status: { summary: 'show how it is', load: async () => (await import('./commands/status.ts')).status },
  reset: {
    summary: 'remove the cluster and every trace of it',
    load: async () => (await import('./commands/reset.ts')).reset,
  },
  kubeconfig: {
    summary: 'print the kubeconfig for kubectl, or merge it into yours',
    load: async () => (await import('./commands/kubeconfig.ts')).kubeconfig,
  },
  image: {
    summary: 'import, list, pull and remove container images',
    load: async () => (await import('./commands/image.ts')).image,
  },
  start: {
    summary: 'start a cluster and show what it can do (npm start)',
    load: async () => (await import('./commands/start.ts')).start,
  },
  version: {
    summary: 'print the version',
    load: async () => (await import('./commands/version.ts')).version,
  },
};

function overview(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length)) + 3;
  const rows = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}${summary}`);
  return `Bulkhead ${VERSION}: a Kubernetes cluster in one process.

Usage: bulkhead COMMAND [OPTIONS]

${rows.join('\n')}

Start here:
  sudo bulkhead up                    a cluster with real containers; Ctrl-C stops it
  bulkhead up --simulate 3            three nodes without containers: no root, any system
  kubectl --context bulkhead get nodes

  bulkhead COMMAND --help             tells the rest of each command
`;
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    const topic = name === 'help' ? rest[0] : undefined;
    if (topic !== undefined) return main([topic, '--help']);
    print(overview());
    return name === undefined ? 2 : 0;
  }
  const entry =
    name === '--version' ? commands['version'] : Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!entry) {
    const known = Object.keys(commands).join(', ');
    throw new UsageError(`there is no command "${name}"; there are ${known}\nSee: bulkhead --help`);
  }
  const command = await entry.load();
  const context = parseCommand(command, rest);
  if (context.values['help'] === true) {
    print(commandHelp(command));
    return 0;
  }
  return command.run(context);
}

/** Errors that are messages to the user, by name: they come from any component. */
const MESSAGES = new Set([
  'CommandError',
  'ControlError',
  'DamagedStoreError',
  'DebianPackageError',
  'HostError',
  'KubeconfigError',
  'NotRunningError',
  'PreflightError',
  'RuntimeError',
  'StateError',
  'StoreLockedError',
  'StoreUnavailableError',
]);

/** What the system refused, with the file that it is about: a directory that cannot be written, a full disk. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && ('path' in error || 'address' in error);
}

// What cannot be said, for the log of a cluster in the background lies on a full disk, is no reason to end.
process.stderr.on('error', () => {});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = error instanceof UsageError ? 2 : 1;
  if (error instanceof UsageError || MESSAGES.has((error as Error).name) || isSystemError(error)) {
    note(`${style.red('bulkhead:')} ${(error as Error).message}`);
  } else {
    note(`${style.red('bulkhead: this is a defect; please report it with what follows')}`);
    note(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}
