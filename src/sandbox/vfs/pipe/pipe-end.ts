// An open side of a pipe or FIFO (pipe(7), fifo(7)). The order of checks is that of fs/pipe.c.

import { Errno } from '../../abi/errno.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import type { Path, Stat } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { Io } from '../io.ts';
import type { Pipe } from './pipe.ts';

const FIONREAD = 0x541b;
const SIGPIPE = 13;

/** What a FIFO's inode wants to know of its users. */
export interface PipeOwner {
  /** Bytes were read or written: access or modification times. */
  touched(written: boolean): void;
  /** Nobody has it open any more. */
  idle(): void;
}

export class PipeEnd extends FileDescription {
  readonly pipe: Pipe;
  readonly #inode: Inode;
  readonly #owner: PipeOwner | undefined;
  readonly #reads: boolean;
  readonly #writes: boolean;
  /**
   * Number of writers that had been there when a FIFO was opened without waiting for one: until another comes, the
   * missing writer is no hangup. -1: opened with a writer.
   */
  #writersAtOpen = -1;
  /** What the other side's counter was when this one began to wait for it. */
  #waitsForReader = -1;
  #waitsForWriter = -1;

  constructor(pipe: Pipe, inode: Inode, flags: number, path: Path | undefined, owner?: PipeOwner) {
    super(flags, path);
    this.pipe = pipe;
    this.#inode = inode;
    this.#owner = owner;
    this.#reads = this.readable;
    this.#writes = this.writable;
    pipe.openSide(this.#reads, this.#writes);
  }

  override get inode(): Inode {
    return this.#inode;
  }

  override describe(): string {
    return `pipe:[${this.#inode.ino}]`;
  }

  override stat(): Stat | number {
    return this.#inode.stat();
  }

  override statfs() {
    return this.#inode.fileSystem.statfs();
  }

  override get queue(): WaitQueue {
    return this.pipe.queue;
  }

  override get writesAll(): boolean {
    return true;
  }

  /** open(2) of a FIFO without its other side (wait_for_partner). */
  override get opening(): WaitQueue | undefined {
    if (this.#waitsForReader >= 0 && this.pipe.readersSeen === this.#waitsForReader) return this.pipe.queue;
    if (this.#waitsForWriter >= 0 && this.pipe.writersSeen === this.#waitsForWriter) return this.pipe.queue;
    this.#waitsForReader = -1;
    this.#waitsForWriter = -1;
    return undefined;
  }

  /** A FIFO was opened and its other side is not there. */
  missesPartner(): void {
    if (this.#reads && this.nonBlocking) this.#writersAtOpen = this.pipe.writersSeen;
    else if (this.#reads) this.#waitsForWriter = this.pipe.writersSeen;
    else this.#waitsForReader = this.pipe.readersSeen;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const pipe = this.pipe;
    if (pipe.empty) return pipe.writers === 0 ? 0 : -Errno.EAGAIN;
    const count = pipe.read(io);
    if (count > 0) this.#owner?.touched(false);
    return count;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const pipe = this.pipe;
    if (pipe.readers === 0) {
      task.sendSignal({ signal: SIGPIPE, code: 0, sender: task.process, uid: task.credentials.uid });
      return -Errno.EPIPE;
    }
    const count = pipe.write(io, (this.flags & OpenFlag.direct) !== 0);
    if (count > 0) this.#owner?.touched(true);
    return count === 0 ? -Errno.EAGAIN : count;
  }

  override readiness(events: number): number {
    const pipe = this.pipe;
    let ready = 0;
    if (this.#reads) {
      if (!pipe.empty) ready |= Poll.in | Poll.rdnorm;
      if (pipe.writers === 0 && pipe.writersSeen !== this.#writersAtOpen) ready |= Poll.hup;
    }
    if (this.#writes) {
      if (!pipe.full) ready |= Poll.out | Poll.wrnorm;
      if (pipe.readers === 0) ready |= Poll.err;
    }
    return ready & (events | Poll.err | Poll.hup);
  }

  override ioctl(task: Task, command: number, argument: number): number {
    if (command !== FIONREAD) return -Errno.ENOTTY;
    return task.memory.writeU32(argument, this.pipe.available);
  }

  protected override release(): void {
    this.pipe.closeSide(this.#reads, this.#writes);
    if (this.pipe.readers === 0 && this.pipe.writers === 0) {
      this.pipe.dispose();
      this.#owner?.idle();
    }
  }
}

/**
 * A description of one side, as open(2) makes it (fifo_open). anonymous: it never waits for its other side, and never
 * refuses. -ENXIO: to write without waiting, and nobody reads; -EINVAL: neither to read nor to write.
 */
export function openPipe(
  pipe: Pipe,
  inode: Inode,
  path: Path | undefined,
  flags: number,
  anonymous: boolean,
  owner?: PipeOwner,
): PipeEnd | number {
  const mode = flags & OpenFlag.accessMode;
  if (mode === OpenFlag.accessMode) return -Errno.EINVAL;
  const nonBlocking = (flags & OpenFlag.nonBlock) !== 0;
  if (mode === OpenFlag.writeOnly && nonBlocking && !anonymous && pipe.readers === 0) return -Errno.ENXIO;
  const end = new PipeEnd(pipe, inode, flags, path, owner);
  if (anonymous || mode === OpenFlag.readWrite) return end;
  if (mode === OpenFlag.readOnly ? pipe.writers === 0 : pipe.readers === 0) end.missesPartner();
  return end;
}
