// Telling one process from a later one with the same number: by when it started (proc_pid_stat(5), field 22).

import { readFile } from 'node:fs/promises';
import type { ProcessIdentity } from '../../host/index.ts';

/** Undefined when there is no such process, or only what is left of it until it is reaped. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The name, in parentheses, may hold spaces and parentheses itself.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ');
  const startTime = fields?.[19];
  if (!fields || !startTime || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return { pid, startTime };
}

export async function isAlive(process: ProcessIdentity | undefined): Promise<boolean> {
  if (!process) return false;
  return (await identify(process.pid))?.startTime === process.startTime;
}
