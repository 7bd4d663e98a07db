// execve(2) and execveat(2).

import { Errno } from '../../abi/errno.ts';
import { At, pathMaximum } from '../../abi/file.ts';
import { Rlimit } from '../../abi/resource.ts';
import { argumentSpace, readStringArray } from '../../mm/loader/arguments.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { Lookup } from '../../vfs/walk.ts';
import type { Task } from '../contract.ts';
import { type ExecTarget, execute } from '../task/exec.ts';
import type { Thread } from '../task/thread.ts';

function readPath(task: Task, address: number): string | number {
  return task.memory.readString(address, pathMaximum);
}

function run(thread: Thread, target: ExecTarget, argvAddress: number, envpAddress: number): number {
  const space = argumentSpace(thread.process.limit(Rlimit.stack).soft);
  return execute(
    thread,
    target,
    () => readStringArray(thread.memory, argvAddress, space),
    () => readStringArray(thread.memory, envpAddress, space),
  );
}

/** What scripts are told of a path that counts from a descriptor. */
function shownPath(dirfd: number, path: string): string {
  if (dirfd === At.cwd || path.startsWith('/')) return path;
  return path === '' ? `/dev/fd/${dirfd}` : `/dev/fd/${dirfd}/${path}`;
}

export const execSyscalls: readonly Syscall[] = [
  {
    name: 'execve',
    signature: 'path:path argv:address envp:address',
    support: 'full',
    handler: (task, args) => {
      const path = readPath(task, args.address(0));
      if (typeof path === 'number') return path;
      const target = { dirfd: At.cwd, path, lookup: Lookup.follow, shownPath: path, pathInaccessible: false };
      return run(task as Thread, target, args.address(1), args.address(2));
    },
  },
  {
    name: 'execveat',
    signature: 'dirfd:dirfd path:path argv:address envp:address flags:flags.at',
    support: 'full',
    handler: (task, args) => {
      const thread = task as Thread;
      const dirfd = args.i32(0);
      const flags = args.i32(4);
      const path = readPath(task, args.address(1));
      if (typeof path === 'number') return path;
      // The name is looked at before the flags (getname_uflags).
      if (path === '' && !(flags & At.emptyPath)) return -Errno.ENOENT;
      if (flags & ~(At.emptyPath | At.symlinkNoFollow)) return -Errno.EINVAL;
      let lookup = 0;
      if (!(flags & At.symlinkNoFollow)) lookup |= Lookup.follow;
      if (flags & At.emptyPath) lookup |= Lookup.empty;
      const byDescriptor = dirfd !== At.cwd && !path.startsWith('/');
      const target = {
        dirfd,
        path,
        lookup,
        shownPath: shownPath(dirfd, path),
        pathInaccessible:
          byDescriptor && thread.files.get(dirfd) !== undefined && thread.files.closeOnExec(dirfd),
      };
      return run(thread, target, args.address(2), args.address(3));
    },
  },
];
