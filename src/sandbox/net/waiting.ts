// Calls on sockets that have to wait: the time-outs and signals of net/core/sock.c (sock_rcvtimeo, sock_intr_errno).

import { Errno } from '../abi/errno.ts';
import { BLOCKED, type Task } from '../kernel/contract.ts';
import type { Socket } from './socket.ts';

export interface Wait {
  /** Poll bits to wait for on the socket's queue. */
  readonly events: number;
  /** Nanoseconds; Infinity: for ever. */
  readonly timeout: number;
  /** The result when the time is over or a signal comes: what was done so far; -EAGAIN: nothing. */
  readonly soFar?: () => number;
  readonly exclusive?: boolean;
  /** The socket that is kept open meanwhile, if it is not the one whose queue it waits on. */
  readonly holds?: Socket;
  /** The result at the end of the time instead of -EAGAIN. */
  readonly late?: number;
  /** Called once when the call is over. */
  readonly ended?: () => void;
}

/** Calls `attempt`, and while it gives -EAGAIN waits and calls it again, unless `dontWait`. */
export function whenSocketReady(
  task: Task,
  socket: Socket,
  dontWait: boolean,
  wait: Wait,
  attempt: () => number,
): number {
  const result = attempt();
  if (result !== -Errno.EAGAIN) {
    wait.ended?.();
    return result;
  }
  const done = wait.soFar ?? (() => -Errno.EAGAIN);
  if (dontWait || wait.timeout === 0) {
    wait.ended?.();
    return done();
  }
  const finite = wait.timeout !== Number.POSITIVE_INFINITY;
  const held = wait.holds ?? socket;
  held.acquire();
  return task.block({
    on: [{ queue: socket.queue, events: wait.events, exclusive: wait.exclusive ?? false }],
    retry() {
      const again = attempt();
      return again === -Errno.EAGAIN ? BLOCKED : again;
    },
    deadline: finite ? task.kernel.clock.monotonic() + wait.timeout : undefined,
    timedOut() {
      const sum = done();
      return sum === -Errno.EAGAIN ? (wait.late ?? sum) : sum;
    },
    interrupted() {
      const sum = done();
      if (sum !== -Errno.EAGAIN) return sum;
      return finite ? -Errno.EINTR : -Errno.ERESTARTSYS;
    },
    ended() {
      wait.ended?.();
      held.unreference();
    },
  });
}
