// User notification (seccomp_unotify(2)): calls that a filter hands to whoever holds its listener, a descriptor that
// SECCOMP_FILTER_FLAG_NEW_LISTENER gives. The thread that made the call waits for the answer; a signal ends its wait,
// and the call begins again after it.

import { Errno } from '../../abi/errno.ts';
import {
  AddFdLayout,
  NotificationLayout,
  notificationContinue,
  ResponseLayout,
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_ADDFD_FLAG_SETFD,
  SeccompIoctl,
} from '../../abi/seccomp.ts';
import { AnonymousFile } from '../../vfs/event/anonymous.ts';
import { BLOCKED, type Kernel, type Task } from '../contract.ts';
import { signalsOf, type TaskSignalState } from '../signal/task-signals.ts';
import { Poll, WaitQueue } from '../wait-queue.ts';

/** O_CLOEXEC. */
const closeOnExec = 0o2000000;
/** O_RDWR. */
const readWrite = 2;

/** How a call goes on: it runs, it is answered, or its wait was interrupted. */
export type Reply =
  | { readonly kind: 'continue' }
  | { readonly kind: 'result'; readonly value: bigint }
  | { readonly kind: 'interrupted' };

interface Notification {
  readonly id: bigint;
  readonly state: TaskSignalState;
  /** struct seccomp_data. */
  readonly data: Uint8Array;
  received: boolean;
  reply: Reply | undefined;
}

export class SeccompListener extends AnonymousFile {
  protected readonly kind = 'seccomp notify';
  readonly #queue = new WaitQueue();
  readonly #killableWhenReceived: boolean;
  /** In order of their calls; answered ones leave. */
  readonly #waiting = new Map<bigint, Notification>();
  #nextId: bigint;
  /** Closed: there is nobody to ask any more. */
  detached = false;
  /** Whether a living thread is still under the filter. */
  inUse: () => boolean = () => true;

  /** killableWhenReceived: WAIT_KILLABLE_RECV. */
  constructor(kernel: Kernel, killableWhenReceived: boolean) {
    super(kernel, readWrite);
    this.#killableWhenReceived = killableWhenReceived;
    const seed = new Uint8Array(8);
    kernel.random(seed);
    this.#nextId = new DataView(seed.buffer).getBigUint64(0, true);
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  /** A thread's call waits for its answer; `then` gets it, once. */
  ask(task: Task, data: Uint8Array, then: (reply: Reply) => void): void {
    const state = signalsOf(task);
    const id = this.#nextId;
    this.#nextId = BigInt.asUintN(64, id + 1n);
    const notification: Notification = { id, state, data, received: false, reply: undefined };
    this.#waiting.set(id, notification);
    this.#wait(notification, then);
    this.#queue.notify(Poll.in | Poll.rdnorm);
  }

  #wait(notification: Notification, then: (reply: Reply) => void): void {
    const { state } = notification;
    if (!notification.reply && state.interrupts(notification.received && this.#killableWhenReceived))
      notification.reply = { kind: 'interrupted' };
    if (notification.reply) {
      this.#waiting.delete(notification.id);
      then(notification.reply);
      return;
    }
    const kind = notification.received && this.#killableWhenReceived ? 'answer-killable' : 'answer';
    state.hold(kind, () => this.#wait(notification, then));
  }

  #answer(notification: Notification, reply: Reply): void {
    notification.reply = reply;
    this.#waiting.delete(notification.id);
    notification.state.letGo();
  }

  /** A thread under the filter has ended. */
  threadEnded(): void {
    if (!this.inUse()) this.#queue.notify(Poll.hup);
  }

  override readiness(events: number): number {
    let ready = 0;
    for (const { received } of this.#waiting.values())
      ready |= received ? Poll.out | Poll.wrnorm : Poll.in | Poll.rdnorm;
    if (!this.inUse()) ready |= Poll.hup;
    return ready & (events | Poll.hup);
  }

  override ioctl(task: Task, command: number, argument: number): number {
    switch (command >>> 0) {
      case SeccompIoctl.RECV:
        return this.#receive(task, argument);
      case SeccompIoctl.SEND:
        return this.#send(task, argument);
      case SeccompIoctl.ID_VALID:
      case SeccompIoctl.ID_VALID_WRONG:
        return this.#valid(task, argument);
      case SeccompIoctl.ADDFD:
        return this.#addFd(task, argument);
      default:
        return -Errno.EINVAL;
    }
  }

  #receive(task: Task, address: number): number {
    const bytes = new Uint8Array(NotificationLayout.size);
    if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    // So that what future kernels put there can be told from what was there before.
    if (bytes.some((byte) => byte !== 0)) return -Errno.EINVAL;
    const take = (): number => {
      for (const notification of this.#waiting.values())
        if (!notification.received) return this.#deliver(task, address, notification);
      return this.inUse() ? BLOCKED : -Errno.ENOENT;
    };
    const taken = take();
    if (taken !== BLOCKED) return taken;
    return task.block({ on: [{ queue: this.#queue, events: Poll.in }], retry: take });
  }

  #deliver(task: Task, address: number, notification: Notification): number {
    const bytes = new Uint8Array(NotificationLayout.size);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(NotificationLayout.id, notification.id, true);
    view.setUint32(NotificationLayout.pid, notification.state.task.tidIn(task.process.pidNamespace), true);
    bytes.set(notification.data, NotificationLayout.data);
    if (task.memory.write(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    notification.received = true;
    const { state } = notification;
    if (this.#killableWhenReceived && state.held === 'answer') state.held = 'answer-killable';
    this.#queue.notify(Poll.out | Poll.wrnorm);
    return 0;
  }

  /** The notification of this number that was received and waits for its answer, or a negative errno. */
  #find(id: bigint): Notification | number {
    const notification = this.#waiting.get(id);
    if (!notification) return -Errno.ENOENT;
    return notification.received ? notification : -Errno.EINPROGRESS;
  }

  #send(task: Task, address: number): number {
    const bytes = new Uint8Array(ResponseLayout.size);
    if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    const view = new DataView(bytes.buffer);
    const flags = view.getUint32(ResponseLayout.flags, true);
    const error = view.getInt32(ResponseLayout.error, true);
    const value = view.getBigInt64(ResponseLayout.value, true);
    if (flags & ~notificationContinue) return -Errno.EINVAL;
    if (flags & notificationContinue && (error !== 0 || value !== 0n)) return -Errno.EINVAL;
    const notification = this.#find(view.getBigUint64(ResponseLayout.id, true));
    if (typeof notification === 'number') return notification;
    this.#answer(
      notification,
      flags & notificationContinue
        ? { kind: 'continue' }
        : { kind: 'result', value: error !== 0 ? BigInt(error) : value },
    );
    return 0;
  }

  #valid(task: Task, address: number): number {
    const bytes = new Uint8Array(8);
    if (task.memory.read(address, bytes, 0, 8) < 0) return -Errno.EFAULT;
    return this.#waiting.get(new DataView(bytes.buffer).getBigUint64(0, true))?.received ? 0 : -Errno.ENOENT;
  }

  /** Puts a file of the listener's into the waiting thread's table; its number there. */
  #addFd(task: Task, address: number): number {
    const bytes = new Uint8Array(AddFdLayout.size);
    if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    const view = new DataView(bytes.buffer);
    const flags = view.getUint32(AddFdLayout.flags, true);
    const target = view.getUint32(AddFdLayout.target, true);
    const targetFlags = view.getUint32(AddFdLayout.targetFlags, true);
    if (targetFlags & ~closeOnExec || flags & ~(SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND))
      return -Errno.EINVAL;
    if (target !== 0 && (flags & SECCOMP_ADDFD_FLAG_SETFD) === 0) return -Errno.EINVAL;
    const file = task.files.get(view.getInt32(AddFdLayout.source, true));
    if (!file) return -Errno.EBADF;
    const notification = this.#find(view.getBigUint64(AddFdLayout.id, true));
    if (typeof notification === 'number') return notification;
    const receiver = notification.state.task;
    const close = targetFlags !== 0;
    file.acquire();
    const fd =
      flags & SECCOMP_ADDFD_FLAG_SETFD
        ? receiver.files.replace(receiver, target, file, close)
        : receiver.files.install(receiver, file, close);
    if (fd < 0) {
      file.unreference();
      return fd;
    }
    if (flags & SECCOMP_ADDFD_FLAG_SEND) this.#answer(notification, { kind: 'result', value: BigInt(fd) });
    return fd;
  }

  /** Nobody can answer any more: calls that wait fail as if they were not there. */
  protected override release(): void {
    this.detached = true;
    for (const notification of [...this.#waiting.values()])
      this.#answer(notification, { kind: 'result', value: BigInt(-Errno.ENOSYS) });
  }
}
