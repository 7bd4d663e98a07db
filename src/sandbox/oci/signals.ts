// Signals by name or number, as `kill` takes them.

import { Signal } from '../abi/signal.ts';
import { CommandError } from './errors.ts';

/** "KILL", "SIGKILL", "9", "SIGRTMIN+3". */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number >= 0 && number <= 64) return number;
    throw new CommandError(`unknown signal "${text}"`);
  }
  const name = text.toUpperCase().replace(/^(SIG)?/, 'SIG');
  // A libc's first one that programs may use: the kernel's own count begins two below.
  const [, base, sign, offset] = /^SIGRT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name) ?? [];
  if (base !== undefined) {
    const number = (base === 'MIN' ? 34 : 64) + (sign === '-' ? -1 : 1) * Number(offset ?? 0);
    if (number >= 34 && number <= 64) return number;
  }
  const number = (Signal as Readonly<Record<string, number>>)[name];
  if (number === undefined || base !== undefined) throw new CommandError(`unknown signal "${text}"`);
  return number;
}
