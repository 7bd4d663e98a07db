// What a table of a kind is made of. Every group's file lists its kinds as columns beside the function that fills a
// row, so that a reader sees both at once.

import type { TableColumn } from '../definition.ts';
import type { KubeObject } from '../object.ts';
import type { Container, PodSpec } from '../types/core-v1.ts';

export interface KindTable {
  readonly columns: readonly TableColumn[];
  cells(object: KubeObject, now: number): unknown[];
}

type ColumnType = TableColumn['type'];

/** A column as the tables write it: its name alone for a text, or with type and format. A leading `+` marks -o wide. */
export type ColumnRow = string | readonly [name: string, type: ColumnType, format?: string];

export const name: ColumnRow = ['Name', 'string', 'name'];

/** What the columns say, by name: many kinds share them. */
const descriptions: Readonly<Record<string, string>> = {
  Name: 'The name of the object, unique among objects of its kind in its namespace.',
  Age: 'The time since the object was created.',
  'Created At': 'When the object was created.',
  Ready: 'How much of what is wanted is ready.',
  Status: 'A summary of the state that the object is in.',
  Restarts: 'How often the containers were restarted, and when the last time was.',
  IP: 'The first address of the pod.',
  Node: 'The node that the object belongs to.',
  'Nominated Node': 'The node on which room is being made for the pod.',
  'Readiness Gates': 'How many of the pod’s readiness gates are passed.',
  Containers: 'The names of the containers in the template.',
  Images: 'The images of the containers in the template.',
  Selector: 'Which pods belong to the object.',
  Desired: 'How many are wanted.',
  Current: 'How many there are.',
  'Up-to-date': 'How many were made from the newest template.',
  Available: 'How many have been ready for long enough.',
  Labels: 'The labels of the object.',
  Type: 'The type of the object.',
  Message: 'What happened, in words.',
  Reason: 'Why the object is in its state, in one word.',
};

export function columns(...rows: readonly ColumnRow[]): TableColumn[] {
  return rows.map((row) => {
    const [label, type, format] = typeof row === 'string' ? [row, 'string' as const, ''] : row;
    const wide = label.startsWith('+');
    const title = wide ? label.slice(1) : label;
    return {
      name: title,
      type,
      format: format ?? '',
      priority: wide ? 1 : 0,
      description: descriptions[title] ?? `${title} of the object.`,
    };
  });
}

/** A kind's table, with its rows written against the kind's own type. */
export function table<T>(
  rows: readonly ColumnRow[],
  cells: (object: T, now: number) => unknown[],
): KindTable {
  return {
    columns: columns(...rows),
    cells: (object, now) => cells(object as unknown as T, now),
  };
}

/** What is common to the pod templates of all workloads: the last columns of a wide table. */
export function containerCells(spec: PodSpec | undefined): [names: string, images: string] {
  const containers: readonly Container[] = spec?.containers ?? [];
  return [
    containers.map((container) => container.name).join(','),
    containers.map((container) => container.image ?? '').join(','),
  ];
}

/** The first three of a list, and how many more there are. */
export function firstThree(list: readonly string[], whenEmpty: string): string {
  if (list.length === 0) return whenEmpty;
  const shown = list.slice(0, 3).join(',');
  return list.length > 3 ? `${shown} + ${list.length - 3} more...` : shown;
}

export function yesNo(value: boolean | undefined): string {
  return value === undefined ? '<unset>' : value ? 'True' : 'False';
}
