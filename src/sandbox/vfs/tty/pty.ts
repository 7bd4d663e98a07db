// Pseudo-terminals (pty(7)): a terminal whose other side is a file, the master, that a terminal emulator holds.

import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { Packet, TtyIoctl } from '../../abi/termios.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import type { PtyInode } from './devpts.ts';
import type { OtherSide, Terminal } from './terminal.ts';
import { terminalIoctl } from './terminal-ioctl.ts';
import { TtyFile } from './tty-file.ts';

const chunk = 4096;

/** The pair: how many have the terminal open, and whether it may be opened at all. */
export class PseudoTerminal implements OtherSide {
  readonly terminal: Terminal;
  readonly index: number;
  readonly masterQueue = new WaitQueue();
  /** unlockpt(3). A terminal that was just made is locked. */
  locked = true;
  packetMode = false;
  /** Status bits that the master has not read yet. */
  packetStatus = 0;
  #opened = 0;
  /** The terminal side was open and is not any more: the master reads EIO. */
  #left = false;
  masterOpen = true;

  constructor(terminal: Terminal, index: number) {
    this.terminal = terminal;
    this.index = index;
    terminal.other = this;
  }

  get slaveGone(): boolean {
    return this.#left && this.#opened === 0;
  }

  /** A file of the terminal side. */
  openSlave(flags: number, path: Path | undefined, inode: PtyInode | undefined): TtyFile {
    this.#opened++;
    this.#left = false;
    return new TtyFile(this.terminal, flags, path, inode, () => {
      if (--this.#opened > 0) return;
      this.#left = true;
      this.masterQueue.notify(Poll.in | Poll.hup);
    });
  }

  outputReady(): void {
    this.masterQueue.notify(Poll.in | Poll.rdnorm);
  }
  inputRoom(): void {
    this.masterQueue.notify(Poll.out | Poll.wrnorm);
  }
  status(bits: number): void {
    if (!this.packetMode) return;
    // What contradicts an earlier bit takes its place.
    if (bits & (Packet.stop | Packet.start)) this.packetStatus &= ~(Packet.stop | Packet.start);
    if (bits & (Packet.doStop | Packet.noStop)) this.packetStatus &= ~(Packet.doStop | Packet.noStop);
    this.packetStatus |= bits;
    this.masterQueue.notify(Poll.pri | Poll.in);
  }
}

export class PtyMaster extends FileDescription {
  readonly pty: PseudoTerminal;
  readonly #closed: () => void;
  /** The inode of the terminal side, for TIOCGPTPEER. */
  readonly #slave: PtyInode;

  constructor(pty: PseudoTerminal, slave: PtyInode, flags: number, path: Path, closed: () => void) {
    super(flags, path);
    this.pty = pty;
    this.#slave = slave;
    this.#closed = closed;
  }

  override describe(): string {
    return '/dev/ptmx';
  }

  override get queue(): WaitQueue {
    return this.pty.masterQueue;
  }

  override get writesAll(): boolean {
    return true;
  }

  override information(): string {
    return `tty-index:\t${this.pty.index}\n`;
  }

  override readiness(events: number): number {
    const { pty } = this;
    let ready = 0;
    if (pty.terminal.outputWaiting > 0 || pty.packetStatus !== 0) ready |= Poll.in | Poll.rdnorm;
    if (pty.packetStatus !== 0) ready |= Poll.pri;
    if (pty.terminal.discipline.room > 0) ready |= Poll.out | Poll.wrnorm;
    if (pty.slaveGone) ready |= Poll.hup;
    return ready & (events | Poll.err | Poll.hup);
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    if (io.left === 0) return 0;
    const { pty } = this;
    if (pty.packetMode && pty.packetStatus !== 0) {
      const status = new Uint8Array([pty.packetStatus]);
      pty.packetStatus = 0;
      return io.put(status, 0, 1);
    }
    const output = pty.terminal.peekOutput();
    if (output.length === 0) return pty.slaveGone ? -Errno.EIO : -Errno.EAGAIN;
    let prefix = 0;
    if (pty.packetMode) {
      prefix = io.put(new Uint8Array([Packet.data]), 0, 1);
      if (prefix < 0) return prefix;
    }
    const count = io.put(output, 0, Math.min(output.length, io.left));
    if (count < 0) return prefix > 0 ? prefix : count;
    pty.terminal.takeOutput(count);
    return prefix + count;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (position !== undefined) return -Errno.ESPIPE;
    const { pty } = this;
    if (pty.slaveGone) return -Errno.EIO;
    let total = 0;
    while (io.left > 0) {
      const room = Math.min(io.left, chunk, pty.terminal.discipline.room);
      if (room === 0) return total > 0 ? total : -Errno.EAGAIN;
      const bytes = new Uint8Array(room);
      const count = io.take(bytes, 0, room);
      if (count < 0) return total > 0 ? total : count;
      // Echo and signals take no room; a line that ends makes some, so all of it fits.
      pty.terminal.type(bytes.subarray(0, count), task.kernel.clock.monotonic());
      total += count;
    }
    return total;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    const { pty } = this;
    const { terminal } = pty;
    const { memory } = task;
    switch (command) {
      case TtyIoctl.FIONREAD:
        return memory.writeU32(argument, terminal.outputWaiting);
      case TtyIoctl.TIOCOUTQ:
        return memory.writeU32(argument, terminal.discipline.available);
      case TtyIoctl.TIOCGPTN:
        return memory.writeU32(argument, pty.index);
      case TtyIoctl.TIOCSPTLCK: {
        const locked = memory.readU32(argument);
        if (locked < 0) return locked;
        pty.locked = locked !== 0;
        return 0;
      }
      case TtyIoctl.TIOCGPTLCK:
        return memory.writeU32(argument, pty.locked ? 1 : 0);
      case TtyIoctl.TIOCPKT: {
        const on = memory.readU32(argument);
        if (on < 0) return on;
        if (on !== 0 && !pty.packetMode) pty.packetStatus = 0;
        pty.packetMode = on !== 0;
        return 0;
      }
      case TtyIoctl.TIOCGPKT:
        return memory.writeU32(argument, pty.packetMode ? 1 : 0);
      case TtyIoctl.TIOCSIG:
        if (argument < 1 || argument > 64) return -Errno.EINVAL;
        if (argument !== Signal.SIGINT && argument !== Signal.SIGQUIT && argument !== Signal.SIGTSTP)
          return -Errno.EINVAL;
        terminal.signalForeground(argument);
        return 0;
      case TtyIoctl.TIOCGPTPEER: {
        // Locked or not: whoever holds the master may.
        const allowed = 0o2 | 0o1 | 0o400 | 0o4000 | 0o2000000;
        if (argument & ~allowed) return -Errno.EINVAL;
        const file = pty.openSlave(argument & ~0o2000000, undefined, this.#slave);
        const fd = task.files.install(task, file, (argument & 0o2000000) !== 0);
        if (fd < 0) file.unreference();
        return fd;
      }
      default:
        return terminalIoctl(terminal, task, command, argument, true) ?? -Errno.ENOTTY;
    }
  }

  protected override release(): void {
    this.pty.masterOpen = false;
    this.pty.terminal.other = undefined;
    this.pty.terminal.hangUp();
    this.#closed();
  }
}
