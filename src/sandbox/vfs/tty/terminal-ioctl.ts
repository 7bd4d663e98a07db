// The ioctls of terminals (ioctl_tty(2)), those that both sides of a pseudo-terminal answer and those of the terminal
// side. Settings always mean the terminal, whichever side asks.

import { Errno } from '../../abi/errno.ts';
import { Signal } from '../../abi/signal.ts';
import {
  ControlCharacter,
  decodeTermios,
  encodeTermios,
  InputFlag,
  Packet,
  TermioLayout,
  type Termios,
  TermiosLayout,
  TtyIoctl,
} from '../../abi/termios.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { Terminal } from './terminal.ts';

const CAP_SYS_ADMIN = 21;
const CAP_SYS_TTY_CONFIG = 26;

/** Those that a background process must not carry out: it is stopped instead (tty_check_change). */
const changing: ReadonlySet<number> = new Set<number>([
  TtyIoctl.TCSETS,
  TtyIoctl.TCSETSW,
  TtyIoctl.TCSETSF,
  TtyIoctl.TCSETS2,
  TtyIoctl.TCSETSW2,
  TtyIoctl.TCSETSF2,
  TtyIoctl.TCSETA,
  TtyIoctl.TCSETAW,
  TtyIoctl.TCSETAF,
  TtyIoctl.TCXONC,
  TtyIoctl.TCFLSH,
  TtyIoctl.TCSBRK,
  TtyIoctl.TCSBRKP,
]);

/** undefined: not an ioctl that both sides know. master: asked through the master side. */
export function terminalIoctl(
  terminal: Terminal,
  task: Task,
  command: number,
  argument: number,
  master: boolean,
): number | undefined {
  if (!master && changing.has(command)) {
    const refused = terminal.check(task, Signal.SIGTTOU);
    if (refused < 0) return refused;
  }
  const { memory } = task;
  switch (command) {
    case TtyIoctl.TCGETS:
      return done(memory.write(argument, encodeTermios(terminal.discipline.termios), 0, TermiosLayout.size));
    case TtyIoctl.TCGETS2:
      return done(memory.write(argument, encodeTermios(terminal.discipline.termios), 0, TermiosLayout.size2));
    case TtyIoctl.TCSETS:
    case TtyIoctl.TCSETSW:
      return setTermios(terminal, task, argument, TermiosLayout.size, false);
    case TtyIoctl.TCSETSF:
      return setTermios(terminal, task, argument, TermiosLayout.size, true);
    case TtyIoctl.TCSETS2:
    case TtyIoctl.TCSETSW2:
      return setTermios(terminal, task, argument, TermiosLayout.size2, false);
    case TtyIoctl.TCSETSF2:
      return setTermios(terminal, task, argument, TermiosLayout.size2, true);
    case TtyIoctl.TCGETA:
      return getTermio(terminal, task, argument);
    case TtyIoctl.TCSETA:
    case TtyIoctl.TCSETAW:
    case TtyIoctl.TCSETAF:
      return setTermio(terminal, task, argument, command === TtyIoctl.TCSETAF);
    case TtyIoctl.TIOCGWINSZ: {
      const size = new Uint16Array([terminal.rows, terminal.columns, terminal.xPixels, terminal.yPixels]);
      return done(memory.write(argument, new Uint8Array(size.buffer), 0, 8));
    }
    case TtyIoctl.TIOCSWINSZ: {
      const size = new Uint16Array(4);
      const failed = memory.read(argument, new Uint8Array(size.buffer), 0, 8);
      if (failed < 0) return failed;
      terminal.resize(size[0] ?? 0, size[1] ?? 0, size[2] ?? 0, size[3] ?? 0);
      return 0;
    }
    case TtyIoctl.TCFLSH:
      return flush(terminal, argument, master);
    case TtyIoctl.TCXONC:
      return flow(terminal, argument);
    case TtyIoctl.TCSBRK:
    case TtyIoctl.TCSBRKP:
      // There is no line that a break could be sent on; draining waits for output to be taken.
      return drain(terminal, task, master);
    case TtyIoctl.TIOCGPGRP:
      return getGroup(terminal, task, argument, master);
    case TtyIoctl.TIOCSPGRP:
      return setGroup(terminal, task, argument);
    case TtyIoctl.TIOCGSID:
      return getSession(terminal, task, argument, master);
    case TtyIoctl.TIOCEXCL:
      terminal.exclusive = true;
      return 0;
    case TtyIoctl.TIOCNXCL:
      terminal.exclusive = false;
      return 0;
    case TtyIoctl.TIOCGEXCL:
      return memory.writeU32(argument, terminal.exclusive ? 1 : 0);
    case TtyIoctl.TIOCGETD:
      return memory.writeU32(argument, terminal.discipline.termios.line);
    case TtyIoctl.TIOCSETD: {
      const line = memory.readU32(argument);
      if (line < 0) return line;
      // N_TTY is the only one.
      return line === 0 ? 0 : -Errno.EINVAL;
    }
    case TtyIoctl.TIOCSTI:
      return typeInto(terminal, task, argument);
    case TtyIoctl.TIOCGDEV:
      return memory.writeU32(argument, terminal.device);
    default:
      return undefined;
  }
}

function done(result: number): number {
  return Math.min(0, result);
}

function setTermios(terminal: Terminal, task: Task, argument: number, size: number, flush: boolean): number {
  const bytes = new Uint8Array(size);
  const failed = task.memory.read(argument, bytes, 0, size);
  if (failed < 0) return failed;
  // The other side of a pseudo-terminal counts as the wire: what it has not read yet has been sent.
  if (flush) terminal.discipline.flushInput();
  const before = terminal.discipline.termios;
  // The line discipline cannot be changed this way.
  const after = { ...decodeTermios(bytes, before), line: before.line };
  terminal.discipline.settings(after);
  if (flowed(before) !== flowed(after)) terminal.other?.status(flowed(after) ? Packet.doStop : Packet.noStop);
  return 0;
}

/** ^S and ^Q mean what they usually mean (packet mode tells of it). */
function flowed(settings: Termios): boolean {
  return (
    (settings.input & InputFlag.startStop) !== 0 &&
    settings.characters[ControlCharacter.start] === 17 &&
    settings.characters[ControlCharacter.stop] === 19
  );
}

function getTermio(terminal: Terminal, task: Task, argument: number): number {
  const { termios } = terminal.discipline;
  const bytes = new Uint8Array(TermioLayout.size);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, termios.input, true);
  view.setUint16(2, termios.output, true);
  view.setUint16(4, termios.control, true);
  view.setUint16(6, termios.local, true);
  bytes[TermioLayout.line] = termios.line;
  bytes.set(termios.characters.subarray(0, TermioLayout.count), TermioLayout.characters);
  return done(task.memory.write(argument, bytes, 0, bytes.length));
}

function setTermio(terminal: Terminal, task: Task, argument: number, flush: boolean): number {
  const bytes = new Uint8Array(TermioLayout.size);
  const failed = task.memory.read(argument, bytes, 0, bytes.length);
  if (failed < 0) return failed;
  const view = new DataView(bytes.buffer);
  const before = terminal.discipline.termios;
  const low = (old: number, value: number): number => ((old & ~0xffff) | value) >>> 0;
  const characters = before.characters.slice();
  characters.set(bytes.subarray(TermioLayout.characters, TermioLayout.characters + TermioLayout.count));
  if (flush) terminal.discipline.flushInput();
  terminal.discipline.settings({
    ...before,
    input: low(before.input, view.getUint16(0, true)),
    output: low(before.output, view.getUint16(2, true)),
    control: low(before.control, view.getUint16(4, true)),
    local: low(before.local, view.getUint16(6, true)),
    characters,
  });
  return 0;
}

/** TCIFLUSH 0, TCOFLUSH 1, TCIOFLUSH 2; the master's input is what the terminal has written. */
function flush(terminal: Terminal, which: number, master: boolean): number {
  if (which < 0 || which > 2) return -Errno.EINVAL;
  const input = which === 0 || which === 2;
  const output = which === 1 || which === 2;
  if (master ? output : input) {
    terminal.discipline.flushInput();
    terminal.other?.status(Packet.flushRead);
  }
  if (master ? input : output) terminal.flushOutput();
  return 0;
}

/** TCOOFF, TCOON, TCIOFF, TCION. */
function flow(terminal: Terminal, action: number): number {
  const { characters } = terminal.discipline.termios;
  switch (action) {
    case 0:
      terminal.discipline.stop();
      return 0;
    case 1:
      terminal.discipline.start();
      return 0;
    case 2:
      terminal.discipline.write(characters[ControlCharacter.stop] ?? 0);
      return 0;
    case 3:
      terminal.discipline.write(characters[ControlCharacter.start] ?? 0);
      return 0;
    default:
      return -Errno.EINVAL;
  }
}

function drain(terminal: Terminal, task: Task, master: boolean): number {
  if (master || terminal.hungUp || !terminal.discipline.stopped) return 0;
  // Stopped by ^S: the output goes on when it is started again.
  return task.block({
    on: [{ queue: terminal.queue, events: Poll.out }],
    retry: () => (terminal.discipline.stopped && !terminal.hungUp ? BLOCKED : 0),
  });
}

function getGroup(terminal: Terminal, task: Task, argument: number, master: boolean): number {
  if (!master && task.process.session.terminal !== terminal) return -Errno.ENOTTY;
  const { foreground } = terminal;
  const leader = foreground && [...foreground.processes][0];
  const pgid = foreground && leader ? visibleGroup(task, foreground.pgid) : 0;
  return task.memory.writeU32(argument, pgid);
}

/** A group's or session's number as the task's PID namespace sees it. */
function visibleGroup(task: Task, number: number): number {
  const root = task.kernel.rootPidNamespace;
  const process = root.findProcess(number);
  return process ? process.pidIn(task.process.pidNamespace) : number;
}

function setGroup(terminal: Terminal, task: Task, argument: number): number {
  if (task.process.session.terminal !== terminal) return -Errno.ENOTTY;
  const refused = terminal.check(task, Signal.SIGTTOU);
  if (refused === -Errno.EIO) return -Errno.ENOTTY;
  if (refused < 0) return refused;
  if (terminal.session !== task.process.session) return -Errno.ENOTTY;
  const pgid = task.memory.readU32(argument);
  if (pgid < 0) return pgid;
  if (pgid >= 0x8000_0000) return -Errno.EINVAL;
  const group = task.process.pidNamespace.findGroup(pgid);
  if (!group) return -Errno.ESRCH;
  if (group.session !== task.process.session) return -Errno.EPERM;
  terminal.foreground = group;
  return 0;
}

function getSession(terminal: Terminal, task: Task, argument: number, master: boolean): number {
  if (!master && task.process.session.terminal !== terminal) return -Errno.ENOTTY;
  if (!terminal.session) return -Errno.ENOTTY;
  return task.memory.writeU32(argument, visibleGroup(task, terminal.session.sid));
}

function typeInto(terminal: Terminal, task: Task, argument: number): number {
  if (task.process.session.terminal !== terminal && !task.credentials.has(CAP_SYS_ADMIN)) return -Errno.EPERM;
  const byte = new Uint8Array(1);
  const failed = task.memory.read(argument, byte, 0, 1);
  if (failed < 0) return failed;
  terminal.type(byte, task.kernel.clock.monotonic());
  return 0;
}

/** TIOCSCTTY, TIOCNOTTY, TIOCVHANGUP: of the terminal side only. */
export function sessionIoctl(
  terminal: Terminal,
  task: Task,
  command: number,
  argument: number,
  readable: boolean,
): number | undefined {
  const { process } = task;
  const leads = process.session.leader === process;
  switch (command) {
    case TtyIoctl.TIOCSCTTY:
      if (leads && process.session === terminal.session) return 0;
      if (!leads || process.session.terminal) return -Errno.EPERM;
      if (terminal.session) {
        if (argument !== 1 || !task.credentials.has(CAP_SYS_ADMIN)) return -Errno.EPERM;
        // Stolen: the other session goes on without a terminal.
        terminal.session.terminal = undefined;
      }
      if (!readable && !task.credentials.has(CAP_SYS_ADMIN)) return -Errno.EPERM;
      terminal.control(task);
      return 0;
    case TtyIoctl.TIOCNOTTY:
      if (process.session.terminal !== terminal) return -Errno.ENOTTY;
      if (leads) terminal.disassociate(process.session);
      return 0;
    case TtyIoctl.TIOCVHANGUP:
      if (!task.credentials.has(CAP_SYS_TTY_CONFIG) && !task.credentials.has(CAP_SYS_ADMIN))
        return -Errno.EPERM;
      terminal.hangUp();
      return 0;
    default:
      return undefined;
  }
}
