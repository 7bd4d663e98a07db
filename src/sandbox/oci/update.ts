// `update`: other limits for a container that runs.

import { readFileSync } from 'node:fs';
import type { FlagDescriptions, Flags } from './arguments.ts';
import { Cgroup } from './cgroups.ts';
import type { Invocation } from './commands.ts';
import { CommandError } from './errors.ts';
import { Field } from './fields.ts';
import { readResources } from './resources.ts';

const numbers = {
  'cpu-period': ['cpu', 'period'],
  'cpu-quota': ['cpu', 'quota'],
  'cpu-share': ['cpu', 'shares'],
  'cpu-idle': ['cpu', 'idle'],
  memory: ['memory', 'limit'],
  'memory-reservation': ['memory', 'reservation'],
  'memory-swap': ['memory', 'swap'],
  'pids-limit': ['pids', 'limit'],
  'blkio-weight': ['blockIO', 'weight'],
} as const satisfies Readonly<Record<string, readonly [string, string]>>;

const texts = { 'cpuset-cpus': ['cpu', 'cpus'], 'cpuset-mems': ['cpu', 'mems'] } as const;

export const updateFlags: FlagDescriptions = {
  resources: { kind: 'string', aliases: ['r'], help: 'a file with linux.resources; "-": standard input' },
  ...Object.fromEntries(
    [...Object.keys(numbers), ...Object.keys(texts)].map((name) => [
      name,
      { kind: 'string', help: `sets ${name}` } as const,
    ]),
  ),
};

/** "512m", "2g", "1048576", "-1". */
function size(text: string, flag: string): number {
  const [, number, unit = ''] = /^(-?\d{1,15})([kmgt]?)b?$/i.exec(text) ?? [];
  if (number === undefined) throw new CommandError(`invalid value "${text}" for flag -${flag}`);
  const power = ['', 'k', 'm', 'g', 't'].indexOf(unit.toLowerCase());
  return Number(number) * 1024 ** power;
}

function resourcesOf(flags: Flags): unknown {
  const file = flags.text('resources');
  if (file !== undefined)
    return JSON.parse(readFileSync(file === '-' ? '/proc/self/fd/0' : file, 'utf8')) as unknown;
  const result: Record<string, Record<string, unknown>> = {};
  const put = ([group, name]: readonly [string, string], value: unknown): void => {
    result[group] = { ...result[group], [name]: value };
  };
  for (const [flag, place] of Object.entries(numbers)) {
    const text = flags.text(flag);
    if (text !== undefined) put(place, size(text, flag));
  }
  for (const [flag, place] of Object.entries(texts)) {
    const text = flags.text(flag);
    if (text !== undefined) put(place, text);
  }
  return result;
}

export function updateCommand({ environment, flags, positional }: Invocation): number {
  const record = environment.state.read(positional[0] ?? '');
  if (record.cgroup === undefined)
    throw new CommandError('the container has no cgroup: nothing can be limited');
  const holdsSentry = environment.state.findSandbox(record.sandbox)?.cgroup === undefined;
  new Cgroup(record.cgroup).limit(readResources(new Field('resources', resourcesOf(flags))), holdsSentry);
  return 0;
}
