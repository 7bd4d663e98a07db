// Words on a terminal: colours where there is one and nobody objects (NO_COLOR), plain text elsewhere.

import { stderr, stdout } from 'node:process';
import { styleText } from 'node:util';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

function styled(stream: NodeJS.WriteStream, style: Style, text: string): string {
  return styleText(style, text, { stream, validateStream: true });
}

/** Results go to standard output. */
export function print(text = ''): void {
  stdout.write(`${text}\n`);
}

/** What is going on goes to standard error, so that results can be piped. */
export function note(text = ''): void {
  stderr.write(`${text}\n`);
}

export const style = {
  bold: (text: string) => styled(stdout, 'bold', text),
  dim: (text: string) => styled(stdout, 'dim', text),
  green: (text: string) => styled(stdout, 'green', text),
  yellow: (text: string) => styled(stdout, 'yellow', text),
  red: (text: string) => styled(stderr, 'red', text),
  cyan: (text: string) => styled(stdout, 'cyan', text),
};

/** Left-aligned columns, three spaces apart, as kubectl prints them. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows
    .map((row) => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]! + 3))).join(''))
    .join('\n');
}

/** 1536 → 1.5 KiB */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Asks a yes-or-no question; no terminal means no. */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const { createInterface } = await import('node:readline/promises');
  const readline = createInterface({ input: process.stdin, output: stderr });
  try {
    const answer = await readline.question(`${question} [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    readline.close();
  }
}
