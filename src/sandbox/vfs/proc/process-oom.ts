// /proc/pid/oom_score, oom_adj and oom_score_adj: which process is killed first when memory runs out
// (proc_pid_oom_score(5), mm/oom_kill.c).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import { memoryOf } from './process-status.ts';

const leastScore = -1000;
const greatestScore = 1000;
const pageSize = 4096;

/** 0 … 1333: as the kernel shows what it would judge by. */
export function oomScore(thread: Thread): number {
  const mm = memoryOf(thread);
  const adjust = thread.process.oomScoreAdjust;
  if (!mm || adjust === leastScore) return 0;
  const total = Math.floor(thread.kernel.memoryTotal / pageSize);
  const points = Math.floor(mm.usage().resident / pageSize) + Math.trunc((adjust * total) / 1000);
  return Math.max(0, Math.trunc(((1000 + Math.trunc((points * 1000) / total)) * 2) / 3));
}

function store(thread: Thread, value: number, writer: Task): number {
  const { process } = thread;
  if (value < process.oomScoreAdjust && !writer.credentials.has(Capability.sysResource)) return -Errno.EACCES;
  process.oomScoreAdjust = value;
  return 0;
}

function parse(text: string, least: number, greatest: number): number | undefined {
  const word = text.trim();
  if (!/^[+-]?\d+$/.test(word)) return undefined;
  const value = Number(word);
  return value < least || value > greatest ? undefined : value;
}

export function changeOomScore(thread: Thread, text: string, writer: Task): number {
  const value = parse(text, leastScore, greatestScore);
  return value === undefined ? -Errno.EINVAL : store(thread, value, writer);
}

/** The old scale: -16 … 15, and -17 for never. */
export const oomScoreFromOld = {
  read(thread: Thread): number {
    const adjust = thread.process.oomScoreAdjust;
    return adjust === greatestScore ? 15 : Math.trunc((adjust * 17) / 1000);
  },
  write(thread: Thread, text: string, writer: Task): number {
    const value = parse(text, -17, 15);
    if (value === undefined) return -Errno.EINVAL;
    return store(thread, value === 15 ? greatestScore : Math.trunc((value * 1000) / 17), writer);
  },
} as const;
