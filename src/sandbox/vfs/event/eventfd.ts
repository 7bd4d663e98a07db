// eventfd(2): a counter that is read and written as 8 bytes (fs/eventfd.c).

import { Errno } from '../../abi/errno.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Io } from '../io.ts';
import { AnonymousFile } from './anonymous.ts';

/** ULLONG_MAX, which the counter never reaches by write(2). */
const limit = 0xffff_ffff_ffff_ffffn;

export class EventFile extends AnonymousFile {
  protected readonly kind = '[eventfd]';
  readonly #queue = new WaitQueue();
  readonly #semaphore: boolean;
  readonly #bytes = new Uint8Array(8);
  readonly #view = new DataView(this.#bytes.buffer);
  #count: bigint;

  constructor(kernel: Kernel, flags: number, count: number, semaphore: boolean) {
    super(kernel, flags);
    this.#count = BigInt(count);
    this.#semaphore = semaphore;
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  /** As the kernel's own users do it (AIO): adds, up to ULLONG_MAX, which shows as EPOLLERR. */
  signal(count = 1n): void {
    const sum = this.#count + count;
    this.#count = sum > limit ? limit : sum;
    this.queue.notify(Poll.in | Poll.rdnorm);
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left < 8) return -Errno.EINVAL;
    if (this.#count === 0n) return -Errno.EAGAIN;
    const value = this.#semaphore ? 1n : this.#count;
    // The count is gone even if the reader's memory is bad: the copy comes after it.
    this.#count -= value;
    this.#view.setBigUint64(0, value, true);
    this.queue.notify(Poll.out | Poll.wrnorm);
    return io.put(this.#bytes, 0, 8);
  }

  override write(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    // A larger buffer is all right: only its first 8 bytes count, since Linux 6.10 exactly 8 are asked for.
    if (io.left !== 8) return -Errno.EINVAL;
    const taken = io.take(this.#bytes, 0, 8);
    if (taken < 8) return taken < 0 ? taken : -Errno.EFAULT;
    const value = this.#view.getBigUint64(0, true);
    if (value === limit) return -Errno.EINVAL;
    if (value > limit - 1n - this.#count) return -Errno.EAGAIN;
    this.#count += value;
    this.queue.notify(Poll.in | Poll.rdnorm);
    return 8;
  }

  override readiness(_events: number): number {
    if (this.#count === limit) return Poll.in | Poll.rdnorm | Poll.err;
    const readable = this.#count > 0n ? Poll.in : 0;
    return readable | (this.#count < limit - 1n ? Poll.out : 0);
  }

  override information(): string {
    const count = this.#count.toString(16).padStart(16, ' ');
    return `eventfd-count: ${count}\neventfd-id: 0\neventfd-semaphore: ${this.#semaphore ? 1 : 0}\n`;
  }
}
