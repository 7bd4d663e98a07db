// Signal-driven I/O (fcntl(2): F_SETOWN, F_SETSIG, O_ASYNC): whom a file tells by a signal that something can be done.

import { Errno } from '../abi/errno.ts';
import { OpenFlag } from '../abi/open.ts';
import type { Process, ProcessGroup, SignalInfo, Task } from '../kernel/contract.ts';
import { Poll, type Waiter } from '../kernel/wait-queue.ts';
import type { FileDescription } from './file-description.ts';

const SIGIO = 29;

/** F_OWNER_* */
export const OwnerType = { thread: 0, process: 1, group: 2 } as const;

/** Who is told: one of these, found when the owner was set, so that a number used again tells nobody else. */
interface Target {
  readonly setter: Task;
  readonly task?: Task | undefined;
  readonly process?: Process | undefined;
  readonly group?: ProcessGroup | undefined;
  readonly uid: number;
  readonly euid: number;
}

/** si_code POLL_IN … POLL_HUP by the bit that became true, with the band that goes with each. */
function pollCode(events: number): number {
  if (events & Poll.hup) return 6;
  if (events & Poll.err) return 4;
  if (events & Poll.pri) return 5;
  return events & Poll.in ? 1 : 2;
}

export class AsyncOwner implements Waiter {
  readonly #file: FileDescription;
  readonly #fd: number;
  #target: Target | undefined;
  #listening = false;

  constructor(file: FileDescription, fd: number) {
    this.#file = file;
    this.#fd = fd;
  }

  setTarget(task: Task, type: number, id: number): number {
    if (id === 0) {
      this.#target = undefined;
      return 0;
    }
    const { pidNamespace } = task.process;
    const { uid, euid } = task.credentials;
    const found = {
      setter: task,
      task: type === OwnerType.thread ? pidNamespace.findTask(id) : undefined,
      process: type === OwnerType.process ? pidNamespace.findProcess(id) : undefined,
      group: type === OwnerType.group ? pidNamespace.findGroup(id) : undefined,
      uid,
      euid,
    };
    if (!found.task && !found.process && !found.group) return -Errno.ESRCH;
    this.#target = found;
    return 0;
  }

  /** F_GETOWN: the number as the caller sees it; 0 when there is none any more. */
  idFor(task: Task): number {
    const target = this.#target;
    const { pidNamespace } = task.process;
    if (target?.process) return target.process.pidIn(pidNamespace);
    if (target?.task) return target.task.visibleTid;
    return target?.group ? target.group.pgid : 0;
  }

  get uids(): readonly [uid: number, euid: number] {
    return [this.#target?.uid ?? 0, this.#target?.euid ?? 0];
  }

  /** O_ASYNC was set or cleared. */
  listen(on: boolean): void {
    const { queue } = this.#file;
    if (queue === undefined || on === this.#listening) return;
    this.#listening = on;
    if (on) queue.add(this, Poll.in | Poll.out | Poll.pri | Poll.err | Poll.hup | Poll.rdnorm | Poll.wrnorm);
    else queue.remove(this);
  }

  notify(events: number): void {
    const target = this.#target;
    if (target === undefined || !(this.#file.flags & OpenFlag.async)) return;
    const ready = this.#file.readiness(events, target.setter);
    if (ready === 0) return;
    const asked = this.#file.owner?.signal ?? 0;
    // Without F_SETSIG it is a plain SIGIO that says no more.
    const info =
      asked === 0
        ? { signal: SIGIO, code: 0x80 }
        : { signal: asked, code: pollCode(ready), band: ready, fd: this.#fd };
    this.#send(target, info);
  }

  /** Whatever O_ASYNC says: urgent data have come (SIGURG). */
  signal(number: number): void {
    if (this.#target) this.#send(this.#target, { signal: number, code: 0x80 });
  }

  #send(target: Target, info: SignalInfo): void {
    if (target.task) target.task.sendSignal(info);
    else if (target.process) target.process.sendSignal(info);
    else target.group?.sendSignal(info);
  }
}
