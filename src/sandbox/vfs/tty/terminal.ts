// A terminal (the side that programs use as their terminal): its line discipline, window size, session and foreground
// process group, and the rules of job control. Who is at the other end (a pseudo-terminal's master, or a terminal of the
// host) is an `OtherSide`.

import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import { Packet } from '../../abi/termios.ts';
import type { ControllingTerminal, ProcessGroup, Session, Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import { LineDiscipline } from './line-discipline.ts';

/** Output that waits for the other side to take it; a program that writes more has to wait. */
const outputLimit = 65_536;

const fromKernel = 0x80;

export interface OtherSide {
  /** There is output to be taken by takeOutput. */
  outputReady(): void;
  /** Room for input has grown. */
  inputRoom(): void;
  /** Packet mode: a status byte. */
  status(bits: number): void;
}

export class Terminal implements ControllingTerminal {
  readonly device: number;
  /** "/dev/pts/3", for /proc and ps. */
  readonly name: string;
  readonly discipline: LineDiscipline;
  readonly queue = new WaitQueue();
  foreground: ProcessGroup | undefined;
  session: Session | undefined;
  rows = 0;
  columns = 0;
  xPixels = 0;
  yPixels = 0;
  exclusive = false;
  /** The other side has gone: reads give 0, writes EIO, until it is opened anew (never for pseudo-terminals). */
  hungUp = false;
  /** CLOCK_MONOTONIC nanoseconds of the latest input (VTIME). */
  lastInput = 0;
  other: OtherSide | undefined;
  #output: Uint8Array = new Uint8Array(1024);
  #outputStart = 0;
  #outputEnd = 0;
  #quiet = false;

  constructor(device: number, name: string) {
    this.device = device;
    this.name = name;
    this.discipline = new LineDiscipline({
      transmit: (byte) => this.#transmit(byte),
      signal: (signal) => this.signalForeground(signal),
      inputChanged: () => {
        this.queue.notify(Poll.in | Poll.rdnorm);
        this.other?.inputRoom();
      },
      outputChanged: (event) => {
        if (event === 'flush') {
          this.#outputStart = this.#outputEnd;
          this.other?.status(Packet.flushRead | Packet.flushWrite);
        } else {
          this.other?.status(event === 'stop' ? Packet.stop : Packet.start);
          if (event === 'start') this.queue.notify(Poll.out | Poll.wrnorm);
        }
      },
    });
  }

  // Output.

  #transmit(byte: number): void {
    if (this.#outputEnd === this.#output.length) this.#makeRoom();
    this.#output[this.#outputEnd++] = byte;
    if (!this.#quiet) this.other?.outputReady();
  }

  #makeRoom(): void {
    const kept = this.#output.subarray(this.#outputStart, this.#outputEnd);
    const bytes =
      kept.length > this.#output.length / 2 ? new Uint8Array(this.#output.length * 2) : this.#output;
    bytes.set(kept);
    this.#output = bytes;
    this.#outputStart = 0;
    this.#outputEnd = kept.length;
  }

  get outputWaiting(): number {
    return this.#outputEnd - this.#outputStart;
  }

  get outputRoom(): number {
    return this.discipline.stopped ? 0 : Math.max(0, outputLimit - this.outputWaiting);
  }

  /** A program writes: as much as there is room for. Bytes taken. */
  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.outputRoom);
    this.#quiet = true;
    for (let i = 0; i < count; i++) this.discipline.write(bytes[i] ?? 0);
    this.#quiet = false;
    if (count > 0) this.other?.outputReady();
    return count;
  }

  /** The other side takes what was written: a view that is valid until the next call. */
  peekOutput(): Uint8Array {
    return this.#output.subarray(this.#outputStart, this.#outputEnd);
  }

  takeOutput(count: number): void {
    const before = this.outputRoom;
    this.#outputStart += count;
    if (this.#outputStart >= this.#outputEnd) {
      this.#outputStart = 0;
      this.#outputEnd = 0;
    }
    if (before < outputLimit / 2 && this.outputRoom > 0) this.queue.notify(Poll.out | Poll.wrnorm);
  }

  flushOutput(): void {
    this.takeOutput(this.outputWaiting);
    this.other?.status(Packet.flushWrite);
  }

  // Input.

  /** Bytes typed at the other side; gives how many were taken. */
  type(bytes: Uint8Array, now: number): number {
    this.lastInput = now;
    let count = 0;
    this.#quiet = true;
    while (count < bytes.length && this.discipline.room > 0) this.discipline.receive(bytes[count++] ?? 0);
    this.#quiet = false;
    if (this.outputWaiting > 0) this.other?.outputReady();
    this.queue.notify(Poll.in | Poll.rdnorm);
    return count;
  }

  // Sessions and job control.

  signalForeground(signal: number): void {
    this.foreground?.sendSignal({ signal, code: fromKernel });
  }

  resize(rows: number, columns: number, xPixels: number, yPixels: number): void {
    if (
      rows === this.rows &&
      columns === this.columns &&
      xPixels === this.xPixels &&
      yPixels === this.yPixels
    )
      return;
    this.rows = rows;
    this.columns = columns;
    this.xPixels = xPixels;
    this.yPixels = yPixels;
    this.signalForeground(Signal.SIGWINCH);
  }

  /**
   * May this task change the terminal or (SIGTTIN) read from it now (tty_check_change, job_control)? 0; -EIO; or
   * -ERESTARTSYS after its group was told to stop.
   */
  check(task: Task, signal: number): number {
    const { group, session } = task.process;
    if (session.terminal !== this || this.foreground === undefined || this.foreground === group) return 0;
    if (task.signals.blockedOrIgnored(signal)) return signal === Signal.SIGTTIN ? -Errno.EIO : 0;
    if (group.orphaned) return -Errno.EIO;
    group.sendSignal({ signal, code: fromKernel });
    return -Errno.ERESTARTSYS;
  }

  /** Becomes the controlling terminal of the task's session, of which it is the leader. */
  control(task: Task): void {
    const { session, group } = task.process;
    this.session = session;
    this.foreground = group;
    session.terminal = this;
  }

  /** TIOCNOTTY by the leader, or the leader's end: the session has no terminal any more, and is told so. */
  disassociate(session: Session): void {
    if (this.session !== session) return;
    const { foreground } = this;
    this.session = undefined;
    this.foreground = undefined;
    session.terminal = undefined;
    foreground?.sendSignal({ signal: Signal.SIGHUP, code: fromKernel });
    foreground?.sendSignal({ signal: Signal.SIGCONT, code: fromKernel });
  }

  /** The other side is gone for good. */
  hangUp(): void {
    if (this.hungUp) return;
    this.hungUp = true;
    const { session, foreground } = this;
    session?.leader?.sendSignal({ signal: Signal.SIGHUP, code: fromKernel });
    session?.leader?.sendSignal({ signal: Signal.SIGCONT, code: fromKernel });
    if (foreground && foreground !== session?.leader?.group)
      foreground.sendSignal({ signal: Signal.SIGHUP, code: fromKernel });
    if (session) session.terminal = undefined;
    this.session = undefined;
    this.foreground = undefined;
    this.queue.notify(Poll.in | Poll.out | Poll.hup | Poll.err);
  }
}
