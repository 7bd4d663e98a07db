// pipe(2) and pipe2(2).

import { Errno } from '../../abi/errno.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { PipeFileSystem } from './file-system.ts';

const known = OpenFlag.closeOnExec | OpenFlag.nonBlock | OpenFlag.direct | OpenFlag.exclusive;

function createPipe(task: Task, address: number, flags: number): number {
  if (flags & ~known) return -Errno.EINVAL;
  // O_NOTIFICATION_PIPE has the bit of O_EXCL; what Linux answers without CONFIG_WATCH_QUEUE.
  if (flags & OpenFlag.exclusive) return -Errno.ENOPKG;
  const ends = task.kernel.part(PipeFileSystem).create(task, flags);
  if (typeof ends === 'number') return ends;
  const closeOnExec = (flags & OpenFlag.closeOnExec) !== 0;
  const reader = task.files.install(task, ends.reader, closeOnExec);
  if (reader < 0) {
    ends.reader.unreference();
    ends.writer.unreference();
    return reader;
  }
  const writer = task.files.install(task, ends.writer, closeOnExec);
  if (writer < 0) {
    task.files.close(task, reader);
    ends.writer.unreference();
    return writer;
  }
  const result = task.memory.writeU64(address, writer * 0x1_0000_0000 + reader);
  if (result < 0) {
    task.files.close(task, reader);
    task.files.close(task, writer);
    return result;
  }
  return 0;
}

export const pipeSyscalls: readonly Syscall[] = [
  {
    name: 'pipe',
    signature: 'fds:address',
    support: 'full',
    handler: (task, args) => createPipe(task, args.address(0), 0),
  },
  {
    name: 'pipe2',
    signature: 'fds:address flags:flags.open',
    support: 'full',
    handler: (task, args) => createPipe(task, args.address(0), args.i32(1)),
  },
];
