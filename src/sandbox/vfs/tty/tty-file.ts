// A terminal as an open file: what programs read from and write to.

import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { ControlCharacter, LocalFlag, TtyIoctl } from '../../abi/termios.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import type { Io } from '../io.ts';
import type { Terminal } from './terminal.ts';
import { sessionIoctl, terminalIoctl } from './terminal-ioctl.ts';

const chunk = 4096;
const tenth = 100_000_000;

export class TtyFile extends FileDescription {
  readonly terminal: Terminal;
  readonly #inode: Inode | undefined;
  readonly #closed: (() => void) | undefined;

  /** inode: for a terminal that was opened without a name (TIOCGPTPEER). */
  constructor(
    terminal: Terminal,
    flags: number,
    path: Path | undefined,
    inode: Inode | undefined,
    closed?: () => void,
  ) {
    super(flags, path);
    this.terminal = terminal;
    this.#inode = inode;
    this.#closed = closed;
  }

  override get inode(): Inode | undefined {
    return this.#inode ?? super.inode;
  }

  override describe(): string {
    return this.terminal.name;
  }

  override get queue(): WaitQueue {
    return this.terminal.queue;
  }

  override get writesAll(): boolean {
    return true;
  }

  override readiness(events: number): number {
    const { terminal } = this;
    if (terminal.hungUp)
      return (events & (Poll.in | Poll.out | Poll.rdnorm | Poll.wrnorm)) | Poll.hup | Poll.err;
    let ready = 0;
    if (terminal.discipline.readable) ready |= Poll.in | Poll.rdnorm;
    if (terminal.outputRoom > 0) ready |= Poll.out | Poll.wrnorm;
    return ready & events;
  }

  override read(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    const { terminal } = this;
    if (terminal.hungUp) return 0;
    const refused = terminal.check(task, Signal.SIGTTIN);
    if (refused < 0) return refused;
    if (io.left === 0) return 0;
    const { discipline } = terminal;
    if (discipline.canonical) return discipline.available > 0 ? this.#take(io) : -Errno.EAGAIN;
    return this.#readRaw(task, io);
  }

  /** MIN and TIME, as termios(3) tells of the four cases. */
  #readRaw(task: Task, io: Io): number {
    const { discipline } = this.terminal;
    const { characters } = discipline.termios;
    const time = (characters[ControlCharacter.time] ?? 0) * tenth;
    const minimum = characters[ControlCharacter.minimum] ?? 0;
    const wanted = Math.min(Math.max(minimum, 1), io.left);
    if (discipline.available >= wanted) return this.#take(io);
    if (minimum === 0 && time === 0) return 0;
    if (this.nonBlocking) return discipline.available > 0 ? this.#take(io) : -Errno.EAGAIN;
    if (time === 0) return minimum <= 1 ? -Errno.EAGAIN : this.#wait(task, io, wanted, undefined);
    // With a minimum the clock runs only between bytes.
    const now = task.kernel.clock.monotonic();
    if (minimum === 0) return this.#wait(task, io, 1, now + time);
    return this.#wait(
      task,
      io,
      wanted,
      discipline.available > 0 ? this.terminal.lastInput + time : undefined,
      time,
    );
  }

  #wait(task: Task, io: Io, wanted: number, deadline: number | undefined, betweenBytes?: number): number {
    const { terminal } = this;
    const before = terminal.discipline.available;
    return task.block({
      on: [{ queue: terminal.queue, events: Poll.in }],
      deadline,
      retry: () => {
        if (terminal.hungUp) return 0;
        if (terminal.discipline.available >= wanted) return this.#take(io);
        if (betweenBytes !== undefined && terminal.discipline.available > before)
          return this.#wait(task, io, wanted, terminal.lastInput + betweenBytes, betweenBytes);
        return BLOCKED;
      },
      timedOut: () => (terminal.discipline.available > 0 ? this.#take(io) : 0),
    });
  }

  #take(io: Io): number {
    const bytes = new Uint8Array(Math.min(io.left, chunk));
    const { count } = this.terminal.discipline.read(bytes, bytes.length);
    return count === 0 ? 0 : io.put(bytes, 0, count);
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    const { terminal } = this;
    if (terminal.discipline.termios.local & LocalFlag.stopBackground) {
      const refused = terminal.check(task, Signal.SIGTTOU);
      if (refused < 0) return refused;
    }
    if (terminal.hungUp) return -Errno.EIO;
    if (io.left === 0) return 0;
    let total = 0;
    while (io.left > 0) {
      const room = Math.min(terminal.outputRoom, io.left, chunk);
      if (room === 0) return total > 0 ? total : -Errno.EAGAIN;
      const bytes = new Uint8Array(room);
      const count = io.take(bytes, 0, room);
      if (count < 0) return total > 0 ? total : count;
      terminal.write(bytes.subarray(0, count));
      total += count;
    }
    return total;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    const { terminal } = this;
    if (terminal.hungUp) return command === TtyIoctl.TIOCSPGRP ? -Errno.ENOTTY : -Errno.EIO;
    switch (command) {
      case TtyIoctl.FIONREAD:
        return task.memory.writeU32(argument, terminal.discipline.available);
      case TtyIoctl.TIOCOUTQ:
        return task.memory.writeU32(argument, terminal.outputWaiting);
      default:
        return (
          sessionIoctl(terminal, task, command, argument, this.readable) ??
          terminalIoctl(terminal, task, command, argument, false) ??
          -Errno.ENOTTY
        );
    }
  }

  protected override release(): void {
    this.#closed?.();
  }
}

/**
 * open(2) of a terminal: it becomes the controlling terminal of a session leader that has none, unless O_NOCTTY.
 */
export function acquireControl(terminal: Terminal, task: Task, flags: number): void {
  const { process } = task;
  const noControl = (flags & 0o400) !== 0;
  if (noControl || process.session.leader !== process || process.session.terminal || terminal.session) return;
  if ((flags & 3) === 1) return;
  terminal.control(task);
}
