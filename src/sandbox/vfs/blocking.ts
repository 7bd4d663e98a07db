// Reading and writing that may have to wait: tries, and if nothing can be done yet and the file may block, registers for
// the file's queue and tries again when it is notified.

import { Errno } from '../abi/errno.ts';
import { BLOCKED, type Task } from '../kernel/contract.ts';
import { Poll } from '../kernel/wait-queue.ts';
import type { FileDescription } from './file-description.ts';
import type { Io } from './io.ts';
import { Event, notifyPath } from './notify.ts';

/**
 * Calls `attempt`; on -EAGAIN, unless the file does not block, waits for `events` on its queue and calls it again. The
 * file is held meanwhile. soFar: what was done when a signal or the file's own time limit ends the wait; 0: nothing.
 */
export function whenReady(
  task: Task,
  file: FileDescription,
  events: number,
  attempt: () => number,
  soFar: () => number = () => 0,
): number {
  const result = attempt();
  const { queue } = file;
  if (result !== -Errno.EAGAIN || file.nonBlocking || queue === undefined) return result;
  const limit = file.waitLimit(events);
  if (limit === 0) return soFar() || result;
  const finite = limit !== Number.POSITIVE_INFINITY;
  file.acquire();
  return task.block({
    on: [{ queue, events }],
    retry() {
      const again = attempt();
      // O_NONBLOCK that was set meanwhile counts for the next call only.
      return again === -Errno.EAGAIN ? BLOCKED : again;
    },
    deadline: finite ? task.kernel.clock.monotonic() + limit : undefined,
    timedOut: () => soFar() || -Errno.EAGAIN,
    interrupted: () => soFar() || (finite ? -Errno.EINTR : -Errno.ERESTARTSYS),
    ended: () => file.unreference(),
  });
}

const readEvents = Poll.in | Poll.rdnorm;
const writeEvents = Poll.out | Poll.wrnorm;

function told(file: FileDescription, count: number, event: number): void {
  const { path } = file;
  if (count <= 0 || path === undefined) return;
  const { inode, parent } = path.dentry;
  if (inode?.marks !== undefined || parent?.inode?.marks !== undefined) notifyPath(path, event);
}

/** read(2) and its relatives. noWait: RWF_NOWAIT. */
export function readFile(
  task: Task,
  file: FileDescription,
  io: Io,
  position: number | undefined,
  noWait = false,
): number {
  const result = file.read(task, io, position);
  if (result !== -Errno.EAGAIN) {
    told(file, result, Event.access);
    return result;
  }
  if (noWait) return result;
  return whenReady(task, file, readEvents, () => {
    const count = file.read(task, io, position);
    told(file, count, Event.access);
    return count;
  });
}

/** write(2) and its relatives: files that say so go on until everything is written. */
export function writeFile(
  task: Task,
  file: FileDescription,
  io: Io,
  position: number | undefined,
  noWait = false,
): number {
  const result = file.write(task, io, position);
  told(file, result, Event.modify);
  const partial = result > 0 && io.left > 0 && file.writesAll;
  if (result !== -Errno.EAGAIN && !partial) return result;
  if (noWait || file.nonBlocking) return result;
  let total = Math.max(0, result);
  return whenReady(
    task,
    file,
    writeEvents,
    () => {
      while (io.left > 0) {
        const count = file.write(task, io, position);
        told(file, count, Event.modify);
        if (count === -Errno.EAGAIN) return count;
        if (count < 0) return total > 0 ? total : count;
        total += count;
        if (!file.writesAll || count === 0) break;
      }
      return total;
    },
    () => total,
  );
}
