// Signal names and numbers as images and pods write them: SIGTERM, TERM, 15, SIGRTMIN+3.

import { constants } from 'node:os';
import { RuntimeError } from '../cri.ts';

/** The C library keeps the first two real-time signals for itself. */
const RTMIN = 34;
const RTMAX = 64;

export function signalNumber(text: string): number {
  const upper = text.trim().toUpperCase();
  if (/^\d{1,2}$/.test(upper)) {
    const number = Number(upper);
    if (number >= 1 && number <= RTMAX) return number;
  }
  const name = upper.startsWith('SIG') ? upper : `SIG${upper}`;
  const known = (constants.signals as Readonly<Record<string, number>>)[name];
  if (known !== undefined) return known;
  const [, base, sign, offset] = name.match(/^SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?$/) ?? [];
  if (base) {
    const number = (base === 'MIN' ? RTMIN : RTMAX) + Number(`${sign ?? ''}${offset ?? 0}`);
    if (number >= RTMIN && number <= RTMAX) return number;
  }
  throw new RuntimeError('InvalidArgument', `"${text}" is no signal`);
}

export function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
  if (found) return found;
  return number === RTMIN ? 'SIGRTMIN' : `SIGRTMIN+${number - RTMIN}`;
}
