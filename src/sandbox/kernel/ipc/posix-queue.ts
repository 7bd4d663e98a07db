// A POSIX message queue (mq_overview(7), ipc/mqueue.c): messages by priority, who waits, who is to be told when one
// arrives in the empty queue; and the open file that a descriptor of one refers to.

import { Errno } from '../../abi/errno.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { FileSystem, Path, Stat } from '../../vfs/contract.ts';
import { FileDescription } from '../../vfs/file-description.ts';
import { type AttributeChange, Inode } from '../../vfs/inode.ts';
import type { Io } from '../../vfs/io.ts';
import {
  BLOCKED,
  type Blocking,
  type Credentials,
  type Kernel,
  type Process,
  type Task,
} from '../contract.ts';
import { Poll, WaitQueue } from '../wait-queue.ts';

/** SI_MESGQ. */
const fromQueue = -3;

/** FILENT_SIZE: what stat(2) shows as the size of a queue until somebody truncates it. */
const initialSize = 80;

export interface QueueMessage {
  readonly bytes: Uint8Array;
  readonly priority: number;
}

/** mq_notify(2)'s registration. */
export interface QueueNotification {
  readonly process: Process;
  /** SIGEV_SIGNAL or SIGEV_NONE. */
  readonly signal: number | undefined;
  readonly value: bigint;
}

/** A thread that waits for a message, or for room. It is handed what it waits for. */
class QueueWaiter implements Blocking {
  readonly on: Blocking['on'] = [];
  readonly task: Task;
  readonly deadline: number | undefined;
  readonly message: QueueMessage | undefined;
  readonly #leave: (waiter: QueueWaiter) => void;
  readonly #finish: (message: QueueMessage | undefined) => number;
  #done = false;
  #given: QueueMessage | undefined;

  /** message: what a sender wants to send. */
  constructor(
    task: Task,
    deadline: number | undefined,
    message: QueueMessage | undefined,
    leave: (waiter: QueueWaiter) => void,
    finish: (message: QueueMessage | undefined) => number,
  ) {
    this.task = task;
    this.deadline = deadline;
    this.message = message;
    this.#leave = leave;
    this.#finish = finish;
  }

  complete(message?: QueueMessage): void {
    this.#done = true;
    this.#given = message;
    this.task.wake();
  }
  retry(): number {
    return this.#done ? this.#finish(this.#given) : BLOCKED;
  }
  ended(): void {
    this.#leave(this);
  }
}

export class PosixQueue extends Inode {
  readonly fileSystem: FileSystem;
  readonly ino: number;
  readonly name: string;
  readonly maximumMessages: number;
  readonly messageSize: number;
  readonly #kernel: Kernel;
  mode: number;
  uid: number;
  gid: number;
  /** Only shown. */
  size: number = initialSize;
  /** Highest priority first, then in order of arrival. */
  readonly #messages: QueueMessage[] = [];
  #bytes = 0;
  #receivers: QueueWaiter[] = [];
  #senders: QueueWaiter[] = [];
  notification: QueueNotification | undefined;
  readonly queue = new WaitQueue();
  #times: { readonly atime: number; readonly mtime: number; readonly ctime: number };
  readonly #evicted: (queue: PosixQueue) => void;
  linked = true;

  constructor(
    kernel: Kernel,
    fileSystem: FileSystem,
    name: string,
    mode: number,
    owner: Credentials,
    maximumMessages: number,
    messageSize: number,
    ino: number,
    evicted: (queue: PosixQueue) => void,
  ) {
    super();
    this.#kernel = kernel;
    this.fileSystem = fileSystem;
    this.name = name;
    this.mode = 0o100000 | (mode & 0o7777);
    this.uid = owner.fsuid;
    this.gid = owner.fsgid;
    this.maximumMessages = maximumMessages;
    this.messageSize = messageSize;
    this.ino = ino;
    this.#evicted = evicted;
    const now = kernel.clock.realtime().sec;
    this.#times = { atime: now, mtime: now, ctime: now };
  }

  get length(): number {
    return this.#messages.length;
  }

  #touch(): void {
    const now = this.#kernel.clock.realtime().sec;
    this.#times = { atime: now, mtime: now, ctime: now };
  }

  #insert(message: QueueMessage): void {
    let at = this.#messages.length;
    while (at > 0 && (this.#messages[at - 1]?.priority ?? 0) < message.priority) at--;
    this.#messages.splice(at, 0, message);
    this.#bytes += message.bytes.length;
  }

  /** mq_timedsend. deadline: CLOCK_MONOTONIC nanoseconds. 0, -EAGAIN, -ETIMEDOUT. */
  send(task: Task, message: QueueMessage, noWait: boolean, deadline: number | undefined): number {
    if (this.length >= this.maximumMessages) {
      if (noWait) return -Errno.EAGAIN;
      const leave = (waiter: QueueWaiter): void => {
        this.#senders = this.#senders.filter((other) => other !== waiter);
      };
      const sender = new QueueWaiter(task, deadline, message, leave, () => 0);
      this.#senders.push(sender);
      return task.block(sender);
    }
    this.#touch();
    const receiver = this.#receivers.shift();
    if (receiver) receiver.complete(message);
    else {
      this.#insert(message);
      this.#tell(task);
    }
    return 0;
  }

  /** The first message in an empty queue that nobody waits for: the registration is used up. */
  #tell(sender: Task | undefined): void {
    const { notification } = this;
    if (notification && this.length === 1) {
      this.notification = undefined;
      const { signal, value } = notification;
      if (signal !== undefined && signal !== 0)
        notification.process.sendSignal({
          signal,
          code: fromQueue,
          value,
          sender: sender?.process,
          uid: sender?.credentials.uid ?? 0,
        });
    }
    this.queue.notify(Poll.in | Poll.rdnorm);
  }

  /** mq_timedreceive. take: writes the message to the program and gives the call's result. */
  receive(
    task: Task,
    noWait: boolean,
    deadline: number | undefined,
    take: (message: QueueMessage) => number,
  ): number {
    const message = this.#messages.shift();
    if (!message) {
      if (noWait) return -Errno.EAGAIN;
      const leave = (waiter: QueueWaiter): void => {
        this.#receivers = this.#receivers.filter((other) => other !== waiter);
      };
      const finish = (given: QueueMessage | undefined): number => (given ? take(given) : -Errno.EAGAIN);
      const receiver = new QueueWaiter(task, deadline, undefined, leave, finish);
      this.#receivers.push(receiver);
      return task.block(receiver);
    }
    this.#bytes -= message.bytes.length;
    this.#touch();
    const sender = this.#senders.shift();
    if (sender?.message) {
      this.#insert(sender.message);
      sender.complete();
    } else this.queue.notify(Poll.out | Poll.wrnorm);
    return take(message);
  }

  readiness(): number {
    const readable = this.length > 0 ? Poll.in | Poll.rdnorm : 0;
    return readable | (this.length < this.maximumMessages ? Poll.out | Poll.wrnorm : 0);
  }

  /** What reading the queue's file gives. */
  text(task: Task): string {
    const { notification } = this;
    const pid = notification?.process.pidIn(task.process.pidNamespace) ?? 0;
    const kind = notification && notification.signal === undefined ? 1 : 0;
    const signal = notification?.signal ?? 0;
    const field = (value: number, width: number): string => String(value).padEnd(width);
    return `QSIZE:${field(this.#bytes, 10)} NOTIFY:${field(kind, 5)} SIGNO:${field(signal, 5)} NOTIFY_PID:${field(pid, 6)}\n`;
  }

  override stat(): Stat {
    const { ino, mode, uid, gid } = this;
    const { atime, mtime, ctime } = this.#times;
    const at = (sec: number) => ({ sec, nsec: 0 });
    return {
      dev: this.fileSystem.device,
      ino,
      mode,
      nlink: this.linked ? 1 : 0,
      uid,
      gid,
      rdev: 0,
      size: this.size,
      blksize: 4096,
      blocks: 0,
      atime: at(atime),
      mtime: at(mtime),
      ctime: at(ctime),
    };
  }

  override setAttributes(change: AttributeChange): number {
    if (change.mode !== undefined) this.mode = 0o100000 | (change.mode & 0o7777);
    if (change.size !== undefined) this.size = change.size;
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    return 0;
  }

  override open(_task: Task, path: Path | undefined, flags: number): FileDescription {
    return new QueueFile(this, flags, path);
  }

  override evict(): void {
    if (!this.linked) this.#evicted(this);
  }
}

export class QueueFile extends FileDescription {
  readonly posixQueue: PosixQueue;

  /** path undefined: opened by mq_open(2). */
  constructor(queue: PosixQueue, flags: number, path: Path | undefined) {
    super(flags & ~(OpenFlag.create | OpenFlag.exclusive | OpenFlag.closeOnExec), path);
    this.posixQueue = queue;
    if (!path) queue.acquire();
  }

  override get inode(): Inode {
    return this.posixQueue;
  }

  override describe(): string {
    return `/${this.posixQueue.name}`;
  }

  override stat(): Stat {
    return this.posixQueue.stat();
  }

  override statfs() {
    return this.posixQueue.fileSystem.statfs();
  }

  override get queue(): WaitQueue {
    return this.posixQueue.queue;
  }

  override readiness(_events: number): number {
    return this.posixQueue.readiness();
  }

  override read(task: Task, io: Io, position: number | undefined): number {
    const bytes = Buffer.from(this.posixQueue.text(task), 'latin1');
    const start = position ?? this.position;
    if (start >= bytes.length) return 0;
    const count = io.put(bytes, start, Math.min(io.left, bytes.length - start));
    if (count > 0 && position === undefined) this.position = start + count;
    return count;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (whence > 2) return -Errno.EINVAL;
    const base = [0, this.position, this.posixQueue.size][whence] ?? 0;
    if (base + offset < 0) return -Errno.EINVAL;
    this.position = base + offset;
    return this.position;
  }

  override truncate(_task: Task, length: number): number {
    return this.posixQueue.setAttributes({ size: length });
  }

  /** A process that closes a queue is no longer told of its messages. */
  override closed(task: Task): number {
    if (this.posixQueue.notification?.process === task.process) this.posixQueue.notification = undefined;
    return 0;
  }

  protected override release(): void {
    if (!this.path) this.posixQueue.release();
  }
}
