// The first descriptors of a container's process: host descriptors that were donated for them, or a terminal.

import { Major } from '../abi/device.ts';
import { Errno } from '../abi/errno.ts';
import { makeDevice } from '../abi/open.ts';
import type { ProcessSpec } from '../control/protocol.ts';
import { ControlError } from '../control/server.ts';
import type { HostFd } from '../host/contract.ts';
import type { Task } from '../kernel/contract.ts';
import { openHostFile } from '../vfs/dev/host-file.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { Devpts } from '../vfs/tty/devpts.ts';
import { HostTerminal } from '../vfs/tty/host-terminal.ts';
import { Terminal } from '../vfs/tty/terminal.ts';
import { TtyFile } from '../vfs/tty/tty-file.ts';
import { resolveFrom } from '../vfs/walk.ts';

const O_RDONLY = 0;
const O_WRONLY = 1;
const O_RDWR = 2;

export interface StandardFiles {
  /** By their descriptor; one reference each, for the descriptor table. */
  readonly files: readonly FileDescription[];
  readonly terminal: Terminal | undefined;
  /** The process has ended: what is left in the terminal is given out and the host's side is closed. */
  close(): void;
}

/**
 * For a task that has its mounts: a terminal is one of the container's devpts, so that ttyname(3) finds it. Throws a
 * ControlError when the descriptors are not those that the specification names.
 */
export function openStandardFiles(task: Task, spec: ProcessSpec, fds: readonly HostFd[]): StandardFiles {
  const { kernel } = task;
  const { uid, gid } = spec.user;
  const expected = (spec.terminal ? 1 : 3) + spec.extraFds;
  if (fds.length !== expected)
    throw new ControlError(
      `${expected} descriptors are needed for the process, ${fds.length} were given`,
      Errno.EINVAL,
    );
  if (!spec.terminal) {
    const modes = [O_RDONLY, O_WRONLY, O_WRONLY];
    const files = fds.map((fd, index) => openHostFile(kernel, fd, modes[index] ?? O_RDWR, uid, gid));
    return { files, terminal: undefined, close: () => undefined };
  }
  const [console, ...extra] = fds;
  const { terminal, file, forget } = openConsole(task, uid, gid);
  const host = new HostTerminal(kernel.host, kernel.clock, terminal, console ?? -1);
  const { rows, columns } = spec.terminal;
  if (rows > 0 || columns > 0) terminal.resize(rows, columns, 0, 0);
  return {
    files: [
      file,
      file.acquire(),
      file.acquire(),
      ...extra.map((fd) => openHostFile(kernel, fd, O_RDWR, uid, gid)),
    ],
    terminal,
    close: () => {
      host.close();
      forget();
    },
  };
}

interface Console {
  readonly terminal: Terminal;
  readonly file: TtyFile;
  forget(): void;
}

function openConsole(task: Task, uid: number, gid: number): Console {
  const devpts = [...task.mounts.mounts()]
    .reverse()
    .map((mount) => mount.fileSystem)
    .find((fileSystem) => fileSystem instanceof Devpts);
  const inode = devpts?.makePty(uid, gid);
  if (!devpts || inode === undefined || typeof inode === 'number') {
    const terminal = new Terminal(makeDevice(Major.ttyAlternate, 1), '/dev/console');
    return { terminal, file: new TtyFile(terminal, O_RDWR, undefined, undefined), forget: () => undefined };
  }
  const { pty } = inode;
  pty.locked = false;
  const place = resolveFrom(task, pty.terminal.name);
  const path = typeof place !== 'number' && place.dentry.inode === inode ? place : undefined;
  return {
    terminal: pty.terminal,
    file: pty.openSlave(O_RDWR, path, inode),
    forget: () => devpts.forget(pty.index),
  };
}
