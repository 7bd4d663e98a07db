// linux.resources of a config.json, and of `update`: what a container may use of the host, in cgroups' units.

import type { Field } from './fields.ts';

export interface Resources {
  readonly memory: {
    /** Bytes; -1: no limit. */
    readonly limit: number | undefined;
    readonly reservation: number | undefined;
    /** Memory and swap together, as version 1 counts. */
    readonly swap: number | undefined;
    readonly swappiness: number | undefined;
    readonly disableOomKiller: boolean;
  };
  readonly cpu: {
    readonly shares: number | undefined;
    /** Microseconds in each period; -1: no limit. */
    readonly quota: number | undefined;
    readonly period: number | undefined;
    readonly cpus: string | undefined;
    readonly mems: string | undefined;
    readonly idle: number | undefined;
  };
  readonly pids: number | undefined;
  readonly blockWeight: number | undefined;
  readonly hugepages: readonly { readonly size: string; readonly limit: number }[];
  /** Files of version 2, as they are written. */
  readonly unified: Readonly<Record<string, string>>;
}

const most = Number.MAX_SAFE_INTEGER;

export function readResources(field: Field): Resources {
  const memory = field.get('memory');
  const cpu = field.get('cpu');
  const unified = field.get('unified').entries();
  for (const [key, value] of unified)
    if (!/^[a-z_]+\.[A-Za-z0-9_.-]+$/.test(key)) value.fail('it is not the name of a cgroup file');
  const list = (name: string): string | undefined => {
    const text = cpu.get(name).text();
    if (text !== undefined && !/^[0-9,\-\s]*$/.test(text))
      cpu.get(name).fail(`"${text}" is not a list of numbers`);
    return text === '' ? undefined : text;
  };
  return {
    memory: {
      limit: nonZero(memory.get('limit').number(-1, most)),
      reservation: nonZero(memory.get('reservation').number(-1, most)),
      swap: nonZero(memory.get('swap').number(-1, most)),
      swappiness: memory.get('swappiness').number(0, 200),
      disableOomKiller: memory.get('disableOOMKiller').truth(),
    },
    cpu: {
      shares: nonZero(cpu.get('shares').number(0, 262_144_000)),
      quota: nonZero(cpu.get('quota').number(-1, most)),
      period: nonZero(cpu.get('period').number(0, 1_000_000_000)),
      cpus: list('cpus'),
      mems: list('mems'),
      idle: cpu.get('idle').number(0, 1),
    },
    pids: nonZero(field.get('pids').get('limit').number(-1, most)),
    blockWeight: nonZero(field.get('blockIO').get('weight').number(0, 1000)),
    hugepages: field
      .get('hugepageLimits')
      .items()
      .map((item) => {
        const size = item.get('pageSize').required();
        if (!/^\d+[KMG]B$/.test(size)) item.get('pageSize').fail(`"${size}" is not a size of pages`);
        return { size, limit: item.get('limit').numberOr(0, most, 0) };
      }),
    unified: Object.fromEntries(unified.map(([key, value]) => [key, value.required()])),
  };
}

/** Callers write 0 for what they do not say. */
const nonZero = (value: number | undefined): number | undefined => (value === 0 ? undefined : value);
