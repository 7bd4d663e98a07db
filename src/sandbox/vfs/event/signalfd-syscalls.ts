// signalfd(2), signalfd4(2).

import { Errno } from '../../abi/errno.ts';
import { EventFlag } from '../../abi/event.ts';
import { OpenFlag } from '../../abi/open.ts';
import { Signal } from '../../abi/signal.ts';
import type { Task } from '../../kernel/contract.ts';
import { decodeSet, withoutSignal } from '../../kernel/signal/signal-set.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { installFile, openFile } from './open-file.ts';
import { SignalFile } from './signalfd.ts';

function signalfd(task: Task, args: Arguments, flags: number): number {
  const fd = args.i32(0);
  if (args.size(2) !== 8) return -Errno.EINVAL;
  const bytes = new Uint8Array(8);
  if (task.memory.read(args.address(1), bytes, 0, 8) < 0) return -Errno.EFAULT;
  const { closeOnExec, nonBlock } = EventFlag;
  if (flags & ~(closeOnExec | nonBlock)) return -Errno.EINVAL;
  // SIGKILL and SIGSTOP cannot be read.
  const given = decodeSet(new DataView(bytes.buffer), 0);
  const set = withoutSignal(withoutSignal(given, Signal.SIGKILL), Signal.SIGSTOP);
  if (fd === -1) {
    const file = new SignalFile(task.kernel, OpenFlag.readWrite | (flags & nonBlock), set, task);
    return installFile(task, file, (flags & closeOnExec) !== 0);
  }
  const file = openFile(task, fd);
  if (!file) return -Errno.EBADF;
  if (!(file instanceof SignalFile)) return -Errno.EINVAL;
  file.setMask(set);
  return fd;
}

export const signalfdSyscalls: readonly Syscall[] = [
  {
    name: 'signalfd',
    signature: 'fd:fd mask:sigset size:size -> fd',
    support: 'full',
    handler: (task: Task, args: Arguments) => signalfd(task, args, 0),
  },
  {
    name: 'signalfd4',
    signature: 'fd:fd mask:sigset size:size flags:flags.open -> fd',
    support: 'full',
    handler: (task: Task, args: Arguments) => signalfd(task, args, args.u32(3)),
  },
];
