// Commands that only look: state, list, ps, events, syscalls, debug, strace.

import { setTimeout } from 'node:timers/promises';
import { allSyscalls } from '../boot/kernel.ts';
import type { Answers } from '../control/protocol.ts';
import { Cgroup } from './cgroups.ts';
import type { Invocation } from './commands.ts';
import type { ControlClient } from './control-client.ts';
import type { Environment } from './create.ts';
import { CommandError } from './errors.ts';
import type { ContainerRecord } from './state.ts';
import { connect, ociState, statusOf } from './status.ts';

function connected(environment: Environment, record: ContainerRecord): ControlClient {
  const control = connect(environment, record);
  if (!control) throw new CommandError('container not running');
  return control;
}

const recordOf = ({ environment, positional }: Invocation): ContainerRecord =>
  environment.state.read(positional[0] ?? '');

export function stateCommand(invocation: Invocation): number {
  const record = recordOf(invocation);
  const state = ociState(record, statusOf(invocation.environment, record));
  invocation.print(
    JSON.stringify(
      { ...state, rootfs: record.rootfs, created: record.created, owner: record.owner },
      undefined,
      2,
    ),
  );
  return 0;
}

export function listCommand({ environment, flags, print }: Invocation): number {
  const rows = environment.state.list().map((record) => {
    const status = statusOf(environment, record);
    const { id, ociVersion, bundle, rootfs, created, owner, annotations } = record;
    const pid = ociState(record, status).pid;
    return { ociVersion, id, pid, status, bundle, rootfs, created, annotations, owner };
  });
  if (flags.is('quiet')) {
    if (rows.length > 0) print(rows.map(({ id }) => id).join('\n'));
    return 0;
  }
  switch (flags.text('format') ?? 'table') {
    case 'json':
      print(rows.length > 0 ? JSON.stringify(rows) : 'null');
      return 0;
    case 'table':
      print(
        table([
          ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'],
          ...rows.map(({ id, pid, status, bundle, created, owner }) => [
            ...[id, String(pid), status, bundle, created, owner],
          ]),
        ]),
      );
      return 0;
    default:
      throw new CommandError('invalid format option');
  }
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
        .join('')
        .trimEnd(),
    )
    .join('\n');
}

export function psCommand(invocation: Invocation): number {
  const record = recordOf(invocation);
  using control = connected(invocation.environment, record);
  const { processes } = control.request({ command: 'ps', container: record.id });
  const format = invocation.flags.text('format') ?? 'table';
  if (format === 'json') {
    invocation.print(JSON.stringify(processes.map(({ pid }) => pid)));
    return 0;
  }
  if (format !== 'table') throw new CommandError('invalid format option');
  invocation.print(
    table([
      ['UID', 'PID', 'PPID', 'THREADS', 'TIME', 'CMD'],
      ...processes.map(({ uid, pid, ppid, threads, cpu, command }) => [
        ...[String(uid), String(pid), String(ppid), String(threads), clockTime(cpu), command],
      ]),
    ]),
  );
  return 0;
}

function clockTime(nanoseconds: number): string {
  const seconds = Math.floor(nanoseconds / 1e9);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** In the shape of runc's events, as far as there is something to say. */
function statistics(record: ContainerRecord, stats: Answers['stats']): object {
  const cgroup = record.cgroup === undefined ? undefined : new Cgroup(record.cgroup);
  const number = (...files: readonly string[]): number => {
    for (const file of files) {
      const text = cgroup?.read(file);
      if (text !== undefined && /^\d+$/.test(text)) return Number(text);
    }
    return 0;
  };
  return {
    cpu: { usage: { total: stats.cpuNanoseconds, kernel: 0, user: stats.cpuNanoseconds } },
    memory: {
      usage: { usage: stats.memoryBytes, limit: number('memory.limit_in_bytes', 'memory.max') },
      host: { usage: number('memory.usage_in_bytes', 'memory.current') },
    },
    pids: { current: stats.pids },
    sandbox: { systemCalls: stats.syscalls, openFiles: stats.openFiles },
  };
}

export async function eventsCommand(invocation: Invocation): Promise<number> {
  const record = recordOf(invocation);
  const { flags, environment, print } = invocation;
  const every = interval(flags.text('interval') ?? '5s');
  for (;;) {
    {
      if (statusOf(environment, record) === 'stopped') {
        if (flags.is('stats')) throw new CommandError('container not running');
        return 0;
      }
      using control = connected(environment, record);
      const stats = control.request({ command: 'stats', container: record.id });
      print(JSON.stringify({ type: 'stats', id: record.id, data: statistics(record, stats) }));
    }
    if (flags.is('stats')) return 0;
    await setTimeout(every);
  }
}

/** A duration as Go writes it: "5s", "1m30s", "500ms". Milliseconds. */
function interval(text: string): number {
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let sum = 0;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text))
    throw new CommandError(`invalid value "${text}" for flag -interval`);
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    sum += Number(value) * (units[unit ?? ''] ?? 0);
  if (sum <= 0) throw new CommandError('duration interval must be greater than 0');
  return sum;
}

export function syscallsCommand({ flags, print }: Invocation): number {
  const rows = allSyscalls().rows();
  switch (flags.text('format') ?? 'table') {
    case 'json':
      print(JSON.stringify(rows, undefined, 2));
      return 0;
    case 'markdown':
      print(
        [
          '| Number | Name | Support | Note |',
          '| --- | --- | --- | --- |',
          ...rows.map(({ number, name, support, note }) => `| ${number} | ${name} | ${support} | ${note} |`),
        ].join('\n'),
      );
      return 0;
    case 'table':
      print(
        table([
          ['NUM', 'NAME', 'SUPPORT', 'NOTE'],
          ...rows.map(({ number, name, support, note }) => [String(number), name, support, note]),
        ]),
      );
      return 0;
    default:
      throw new CommandError('invalid format option');
  }
}

const subjects = ['tasks', 'stacks', 'memory', 'metrics', 'mounts', 'fds'] as const;

export function debugCommand(invocation: Invocation): number {
  const record = recordOf(invocation);
  const what = subjects.find((one) => one === invocation.positional[1]);
  if (what === undefined) throw new CommandError(`debug: there is only ${subjects.join(', ')}`);
  using control = connected(invocation.environment, record);
  invocation.print(control.request({ command: 'debug', what }).text);
  return 0;
}

export function straceCommand(invocation: Invocation): number {
  const record = recordOf(invocation);
  const { flags, positional, environment, print } = invocation;
  const on = { on: true, off: false }[positional[1] ?? ''];
  if (on === undefined) throw new CommandError('strace: on or off');
  using control = connected(environment, record);
  const filter = (flags.text('filter') ?? '').split(',').filter((name) => name !== '');
  control.request({ command: 'strace', on, filter });
  if (on) print(environment.options.debugLog ?? environment.state.log(record.sandbox));
  return 0;
}
