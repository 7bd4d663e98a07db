// What select, pselect6 and ppoll do with the time that is left (poll_select_finish in fs/select.c).

import { Errno } from '../../abi/errno.ts';
import { second } from '../../abi/time.ts';
import type { Task } from '../../kernel/contract.ts';

/**
 * Writes back what is left of the time-out, and gives the result. The call can only be restarted if that worked:
 * otherwise it would wait too long. address 0: there was no time-out; deadline 0: it was zero, and stays as it is.
 */
export function finishWait(
  task: Task,
  address: number,
  deadline: number | undefined,
  kind: 'timespec' | 'timeval',
  result: number,
): number {
  if (address === 0 || deadline === undefined || deadline === 0) return result;
  const left = Math.max(0, deadline - task.kernel.clock.monotonic());
  const sec = Math.floor(left / second);
  const nsec = Math.floor(left - sec * second);
  const failed =
    task.memory.writeU64(address, sec) < 0 ||
    task.memory.writeU64(address + 8, kind === 'timespec' ? nsec : Math.floor(nsec / 1000)) < 0;
  return failed && result === -Errno.ERESTARTNOHAND ? -Errno.EINTR : result;
}
