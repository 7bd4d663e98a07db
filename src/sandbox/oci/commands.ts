// The commands, with their flags as runc has them.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FlagDescriptions, Flags } from './arguments.ts';
import { attendInForeground, detach } from './attend.ts';
import { loadConfig, loadProcess } from './config.ts';
import { createContainer, type Environment, listenFds } from './create.ts';
import { defaultConfig } from './default-config.ts';
import { CommandError } from './errors.ts';
import { type ExecOptions, execInContainer } from './exec.ts';
import { openForegroundTerminal } from './foreground.ts';
import {
  deleteContainer,
  pauseContainer,
  removeEnded,
  signalContainer,
  startContainer,
} from './lifecycle.ts';
import {
  debugCommand,
  eventsCommand,
  listCommand,
  psCommand,
  stateCommand,
  straceCommand,
  syscallsCommand,
} from './looking.ts';
import { parseSignal } from './signals.ts';
import { updateCommand, updateFlags } from './update.ts';
import { features, versionText } from './version.ts';

export interface Invocation {
  readonly flags: Flags;
  readonly positional: readonly string[];
  readonly environment: Environment;
  print(text: string): void;
}

export interface Command {
  readonly help: string;
  readonly flags: FlagDescriptions;
  /** How many arguments, at least and at most. */
  readonly arguments: readonly [least: number, most: number];
  /** Resolves with the command's exit status. */
  run(invocation: Invocation): number | Promise<number>;
}

const any = Number.POSITIVE_INFINITY;
const id = ({ positional }: Invocation): string => positional[0] ?? '';

const creationFlags = {
  bundle: { kind: 'string', aliases: ['b'], help: 'the bundle (default: the current directory)' },
  'console-socket': { kind: 'string', help: 'Unix socket that gets the master of the terminal' },
  'pid-file': { kind: 'string', help: 'file for the process id' },
  'no-pivot': { kind: 'boolean', help: 'without meaning here' },
  'no-new-keyring': { kind: 'boolean', help: 'without meaning here' },
  'preserve-fds': { kind: 'string', help: 'give so many more descriptors to the container' },
} satisfies FlagDescriptions;

function preserved(flags: Flags): number {
  const count = flags.number('preserve-fds') ?? 0;
  if (count < 0 || count > 60) throw new CommandError(`--preserve-fds: ${count} is not between 0 and 60`);
  return count + listenFds();
}

const text = (flags: Flags, name: string): string | undefined => flags.text(name) || undefined;

/** What hooks that come too late to matter had to say. */
function complain(complaints: readonly string[]): void {
  for (const complaint of complaints) process.stderr.write(`${complaint}\n`);
}

async function create({ flags, environment, ...rest }: Invocation): Promise<number> {
  const { attended } = await createContainer(environment, {
    id: rest.positional[0] ?? '',
    bundle: flags.text('bundle') || '.',
    consoleSocket: text(flags, 'console-socket'),
    pidFile: text(flags, 'pid-file'),
    preserveFds: preserved(flags),
  });
  detach(attended);
  return 0;
}

async function run({ flags, environment, positional }: Invocation): Promise<number> {
  const bundle = flags.text('bundle') || '.';
  const consoleSocket = text(flags, 'console-socket');
  const detached = flags.is('detach');
  const name = positional[0] ?? '';
  const foreground =
    !detached && consoleSocket === undefined && loadConfig(bundle).process.terminal
      ? openForegroundTerminal(environment.outside)
      : undefined;
  const { record, attended } = await createContainer(environment, {
    id: name,
    bundle,
    consoleSocket,
    pidFile: text(flags, 'pid-file'),
    preserveFds: preserved(flags),
    terminal: foreground,
  });
  try {
    foreground?.connect();
    await startContainer(environment, record);
  } catch (error) {
    await deleteContainer(environment, name, true);
    throw error;
  }
  if (detached) {
    detach(attended);
    return 0;
  }
  const status = await attendInForeground(attended);
  await foreground?.restore();
  if (!flags.is('keep')) complain(await removeEnded(environment, record));
  return status;
}

const execFlags = {
  'console-socket': { kind: 'string', help: 'Unix socket that gets the master of the terminal' },
  cwd: { kind: 'string', help: 'the working directory' },
  env: { kind: 'list', aliases: ['e'], help: 'set a variable' },
  tty: { kind: 'boolean', aliases: ['t'], help: 'with a terminal' },
  user: { kind: 'string', aliases: ['u'], help: 'UID[:GID]' },
  'additional-gids': { kind: 'list', aliases: ['g'], help: 'additional groups' },
  process: { kind: 'string', aliases: ['p'], help: 'a process.json' },
  detach: { kind: 'boolean', aliases: ['d'], help: 'do not wait for it' },
  'pid-file': { kind: 'string', help: 'file for the process id' },
  'process-label': { kind: 'string', help: 'without meaning here' },
  apparmor: { kind: 'string', help: 'without meaning here' },
  'no-new-privs': { kind: 'boolean', help: 'no new privileges' },
  cap: { kind: 'list', aliases: ['c'], help: 'add a capability' },
  'preserve-fds': { kind: 'string', help: 'give so many more descriptors to it' },
  cgroup: { kind: 'list', help: "only the container's own is supported" },
  'ignore-paused': { kind: 'boolean', help: 'also in a paused container' },
} satisfies FlagDescriptions;

async function exec({ flags, environment, positional }: Invocation): Promise<number> {
  const [container = '', ...args] = positional;
  const detached = flags.is('detach');
  const consoleSocket = text(flags, 'console-socket');
  const processFile = text(flags, 'process');
  const terminal = processFile === undefined ? flags.is('tty') : loadProcess(processFile).terminal;
  const foreground =
    terminal && !detached && consoleSocket === undefined
      ? openForegroundTerminal(environment.outside)
      : undefined;
  const options: ExecOptions = {
    id: container,
    processFile,
    args: args[0] === '--' ? args.slice(1) : args,
    cwd: text(flags, 'cwd'),
    env: flags.list('env'),
    user: text(flags, 'user'),
    additionalGids: flags.list('additional-gids').map((one) => {
      if (!/^\d{1,10}$/.test(one)) throw new CommandError(`--additional-gids: "${one}" is not a number`);
      return Number(one);
    }),
    capabilities: flags.list('cap'),
    noNewPrivileges: flags.has('no-new-privs') ? flags.is('no-new-privs') : undefined,
    terminal,
    consoleSocket,
    detach: detached,
    pidFile: text(flags, 'pid-file'),
    preserveFds: preserved(flags),
    ignorePaused: flags.is('ignore-paused'),
    ownTerminal: foreground,
  };
  const attended = await execInContainer(environment, options);
  if (detached) {
    detach(attended);
    return 0;
  }
  foreground?.connect();
  const status = await attendInForeground(attended);
  await foreground?.restore();
  return status;
}

export const commands: Readonly<Record<string, Command>> = {
  create: { help: 'create a container', flags: creationFlags, arguments: [1, 1], run: create },
  start: {
    help: "start a created container's program",
    flags: {},
    arguments: [1, 1],
    async run(invocation) {
      const { environment } = invocation;
      await startContainer(environment, environment.state.read(id(invocation)));
      return 0;
    },
  },
  run: {
    help: 'create and start a container',
    flags: {
      ...creationFlags,
      detach: { kind: 'boolean', aliases: ['d'], help: 'do not wait for it' },
      keep: { kind: 'boolean', help: 'do not delete it when it has ended' },
      'no-subreaper': { kind: 'boolean', help: 'without meaning here' },
    },
    arguments: [1, 1],
    run,
  },
  exec: { help: 'run another program in a container', flags: execFlags, arguments: [1, any], run: exec },
  state: { help: 'print the state of a container', flags: {}, arguments: [1, 1], run: stateCommand },
  kill: {
    help: 'send a signal to a container (default: TERM)',
    flags: { all: { kind: 'boolean', aliases: ['a'], help: 'to all its processes' } },
    arguments: [1, 2],
    run({ flags, positional, environment }) {
      const signal = parseSignal(positional[1] ?? 'SIGTERM');
      signalContainer(environment, environment.state.read(positional[0] ?? ''), signal, flags.is('all'));
      return 0;
    },
  },
  delete: {
    help: 'take a container away',
    flags: { force: { kind: 'boolean', aliases: ['f'], help: 'also if it runs' } },
    arguments: [1, 1],
    async run(invocation) {
      const { environment, flags } = invocation;
      complain(await deleteContainer(environment, id(invocation), flags.is('force')));
      return 0;
    },
  },
  pause: {
    help: 'stop all processes of a container for a while',
    flags: {},
    arguments: [1, 1],
    run(invocation) {
      const { environment } = invocation;
      pauseContainer(environment, environment.state.read(id(invocation)), true);
      return 0;
    },
  },
  resume: {
    help: 'let them go on',
    flags: {},
    arguments: [1, 1],
    run(invocation) {
      const { environment } = invocation;
      pauseContainer(environment, environment.state.read(id(invocation)), false);
      return 0;
    },
  },
  ps: {
    help: 'list the processes of a container, with the numbers that they have in it',
    flags: { format: { kind: 'string', aliases: ['f'], help: 'table or json' } },
    arguments: [1, any],
    run: psCommand,
  },
  events: {
    help: 'print what a container uses',
    flags: {
      stats: { kind: 'boolean', help: 'once, and end' },
      interval: { kind: 'string', help: 'how often, e.g. 5s' },
    },
    arguments: [1, 1],
    run: eventsCommand,
  },
  list: {
    help: 'list containers',
    flags: {
      format: { kind: 'string', aliases: ['f'], help: 'table or json' },
      quiet: { kind: 'boolean', aliases: ['q'], help: 'only their names' },
    },
    arguments: [0, 0],
    run: listCommand,
  },
  spec: {
    help: 'write a config.json to begin with',
    flags: {
      bundle: { kind: 'string', aliases: ['b'], help: 'where (default: the current directory)' },
      rootless: { kind: 'boolean', help: 'for a user without privilege' },
    },
    arguments: [0, 0],
    run({ flags }) {
      const path = join(flags.text('bundle') || '.', 'config.json');
      if (existsSync(path)) throw new CommandError(`File ${path} exists. Remove it first`);
      writeFileSync(path, `${JSON.stringify(defaultConfig(flags.is('rootless')), undefined, '\t')}\n`);
      return 0;
    },
  },
  features: {
    help: 'print what the runtime can do, as JSON',
    flags: {},
    arguments: [0, 0],
    run({ print }) {
      print(JSON.stringify(features(), undefined, 2));
      return 0;
    },
  },
  update: {
    help: 'change what a container may use',
    flags: updateFlags,
    arguments: [1, 1],
    run: updateCommand,
  },
  syscalls: {
    help: 'print which system calls programs find, and how complete they are',
    flags: { format: { kind: 'string', aliases: ['f'], help: 'table, markdown or json' } },
    arguments: [0, 0],
    run: syscallsCommand,
  },
  debug: {
    help: "look into a container's kernel: tasks, stacks, memory, metrics, mounts or fds",
    flags: {},
    arguments: [2, 2],
    run: debugCommand,
  },
  strace: {
    help: "write down a container's system calls in its sandbox's log: on or off",
    flags: { filter: { kind: 'string', help: 'only these, separated by commas' } },
    arguments: [2, 2],
    run: straceCommand,
  },
  version: {
    help: 'print the version',
    flags: {},
    arguments: [0, 0],
    run({ print }) {
      print(versionText());
      return 0;
    },
  },
};
