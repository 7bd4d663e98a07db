// The queue of a Unix socket that keeps message boundaries: datagrams and sequenced packets.

import { Errno } from '../../abi/errno.ts';
import { Level, Message } from '../../abi/socket.ts';
import type { Io } from '../../vfs/io.ts';
import type { ControlMessage } from '../contract.ts';
import type { Incoming, Sender } from '../socket.ts';
import type { Rights } from './rights.ts';
import type { UnixSocket } from './unix-socket.ts';

export interface QueuedMessage {
  readonly bytes: Uint8Array;
  readonly cost: number;
  /** Whose account it is on. */
  readonly from: UnixSocket;
  readonly address: Uint8Array | undefined;
  readonly sender: Sender | undefined;
  rights: Rights | undefined;
  readonly timestamp: { readonly type: number; readonly data: Uint8Array } | undefined;
}

export class MessageQueue {
  readonly #messages: QueuedMessage[] = [];
  #bytes = 0;

  get length(): number {
    return this.#messages.length;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get first(): QueuedMessage | undefined {
    return this.#messages[0];
  }
  [Symbol.iterator](): IterableIterator<QueuedMessage> {
    return this.#messages.values();
  }

  push(message: QueuedMessage): void {
    this.#messages.push(message);
    this.#bytes += message.bytes.length;
    message.from.charge(message.cost);
  }

  shift(): QueuedMessage | undefined {
    const message = this.#messages.shift();
    if (message) {
      this.#bytes -= message.bytes.length;
      message.from.uncharge(message.cost);
    }
    return message;
  }
}

/** A message's bytes from the writer's memory; -EFAULT. */
export function takeBytes(io: Io): Uint8Array | number {
  const count = io.left;
  const bytes = Buffer.allocUnsafeSlow(count);
  if (count === 0) return bytes;
  const moved = io.take(bytes, 0, count);
  return moved < count ? -Errno.EFAULT : bytes;
}

/** Gives a reader one message's bytes; what does not fit is cut. With MSG_TRUNC the result is the whole length. */
export function giveBytes(io: Io, bytes: Uint8Array, message: Incoming): number {
  const count = Math.min(io.left, bytes.length);
  if (count < bytes.length) message.outFlags |= Message.truncated;
  const moved = count > 0 ? io.put(bytes, 0, count) : 0;
  if (moved < count) return -Errno.EFAULT;
  return message.flags & Message.truncated ? bytes.length : count;
}

export function timestampControl(stamp: {
  readonly type: number;
  readonly data: Uint8Array;
}): ControlMessage {
  return { level: Level.socket, ...stamp };
}
