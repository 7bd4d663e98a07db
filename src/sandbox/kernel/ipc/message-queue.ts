// System V message queues (ipc/msg.c). A receiver that waits is handed the first message that fits its wish; a sender
// that waits for room looks again whenever there may be some.

import { Errno } from '../../abi/errno.ts';
import { IpcLimit, MsgFlag } from '../../abi/ipc.ts';
import { BLOCKED, type Blocking, type Kernel, type Process, type Task } from '../contract.ts';
import { Poll, WaitQueue } from '../wait-queue.ts';
import { IpcObject, type IpcRegistry, nowInSeconds } from './objects.ts';

export interface Message {
  readonly type: bigint;
  readonly bytes: Uint8Array;
}

/** What a receiver wants. */
export interface Wish {
  readonly size: number;
  readonly type: bigint;
  readonly flags: number;
}

const mostNegative = -(2n ** 63n);

function matches(wish: Wish, message: Message): boolean {
  if (wish.type === 0n) return true;
  if (wish.type < 0n) {
    const limit = wish.type === mostNegative ? -(mostNegative + 1n) : -wish.type;
    return message.type <= limit;
  }
  return wish.flags & MsgFlag.except ? message.type !== wish.type : message.type === wish.type;
}

class Receiver implements Blocking {
  readonly on: Blocking['on'] = [];
  readonly task: Task;
  readonly wish: Wish;
  readonly #queue: MessageQueue;
  readonly #take: (message: Message) => number;
  #message: Message | undefined;
  #error: number | undefined;

  constructor(queue: MessageQueue, task: Task, wish: Wish, take: (message: Message) => number) {
    this.#queue = queue;
    this.task = task;
    this.wish = wish;
    this.#take = take;
  }

  give(message: Message): void {
    this.#message = message;
    this.task.wake();
  }
  fail(error: number): void {
    this.#error = error;
    this.task.wake();
  }
  retry(): number {
    if (this.#message) return this.#take(this.#message);
    return this.#error ?? BLOCKED;
  }
  interrupted(): number {
    return -Errno.ERESTARTNOHAND;
  }
  ended(): void {
    this.#queue.forget(this);
  }
}

export class MessageQueue extends IpcObject {
  readonly #kernel: Kernel;
  messages: Message[] = [];
  bytes = 0;
  maximum: number = IpcLimit.msgQueueBytes;
  sent = 0;
  received = 0;
  sender: Process | undefined;
  receiver: Process | undefined;
  #receivers: Receiver[] = [];
  /** Senders without room. */
  readonly #room = new WaitQueue();

  constructor(task: Task, key: number, mode: number) {
    super(key, task.credentials, mode, nowInSeconds(task.kernel));
    this.#kernel = task.kernel;
  }

  #hasRoom(size: number): boolean {
    return this.bytes + size <= this.maximum && this.messages.length + 1 <= this.maximum;
  }

  /** check: again before each attempt (permissions may change): 0 or an errno. */
  send(task: Task, message: Message, noWait: boolean, check: () => number): number {
    const attempt = (): number => {
      if (this.removed) return -Errno.EIDRM;
      const refused = check();
      if (refused < 0) return refused;
      if (!this.#hasRoom(message.bytes.length)) return BLOCKED;
      this.sender = task.process;
      this.sent = nowInSeconds(this.#kernel);
      if (this.#handOver(message)) return 0;
      this.messages.push(message);
      this.bytes += message.bytes.length;
      return 0;
    };
    const result = attempt();
    if (result !== BLOCKED) return result;
    if (noWait) return -Errno.EAGAIN;
    return task.block({
      on: [{ queue: this.#room, events: Poll.out }],
      retry: attempt,
      interrupted: () => -Errno.ERESTARTNOHAND,
    });
  }

  /** To the first receiver that wants it; one whose buffer is too small fails on the way. */
  #handOver(message: Message): boolean {
    for (const receiver of [...this.#receivers]) {
      const { wish, task } = receiver;
      if (!matches(wish, message)) continue;
      this.forget(receiver);
      if (message.bytes.length > wish.size && (wish.flags & MsgFlag.noError) === 0) {
        receiver.fail(-Errno.E2BIG);
        continue;
      }
      this.receiver = task.process;
      this.received = nowInSeconds(this.#kernel);
      receiver.give(message);
      return true;
    }
    return false;
  }

  forget(receiver: Receiver): void {
    this.#receivers = this.#receivers.filter((other) => other !== receiver);
  }

  /** The message that the wish is for: of a range of types one of the lowest. */
  #find(wish: Wish): number {
    let found = -1;
    for (const [index, message] of this.messages.entries()) {
      if (!matches(wish, message)) continue;
      if (wish.type >= 0n) return index;
      const best = this.messages[found];
      if (!best || message.type < best.type) found = index;
    }
    return found;
  }

  /** MSG_COPY: the message at an index stays where it is. */
  copy(index: number): Message | undefined {
    return this.messages[index];
  }

  /** take: writes the message to the program and gives the call's result. */
  receive(task: Task, wish: Wish, noWait: boolean, take: (message: Message) => number): number {
    const index = this.#find(wish);
    const message = this.messages[index];
    if (message) {
      if (message.bytes.length > wish.size && (wish.flags & MsgFlag.noError) === 0) return -Errno.E2BIG;
      this.messages.splice(index, 1);
      this.bytes -= message.bytes.length;
      this.received = nowInSeconds(this.#kernel);
      this.receiver = task.process;
      this.#room.notify(Poll.out, Number.POSITIVE_INFINITY);
      return take(message);
    }
    if (noWait) return -Errno.ENOMSG;
    const receiver = new Receiver(this, task, wish, take);
    this.#receivers.push(receiver);
    return task.block(receiver);
  }

  /** IPC_SET: room or permissions have changed. check: whether a receiver may still receive. */
  reconfigured(check: (task: Task) => boolean): void {
    this.changed = nowInSeconds(this.#kernel);
    for (const receiver of [...this.#receivers])
      if (!check(receiver.task)) {
        this.forget(receiver);
        receiver.fail(-Errno.EACCES);
      }
    this.#room.notify(Poll.out, Number.POSITIVE_INFINITY);
  }

  remove(registry: IpcRegistry<MessageQueue>): void {
    registry.remove(this);
    const receivers = this.#receivers;
    this.#receivers = [];
    for (const receiver of receivers) receiver.fail(-Errno.EIDRM);
    this.messages = [];
    this.bytes = 0;
    this.#room.notify(Poll.out | Poll.err, Number.POSITIVE_INFINITY);
  }
}
