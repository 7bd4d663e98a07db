// inotify_init, inotify_init1, inotify_add_watch, inotify_rm_watch.

import { Errno } from '../../abi/errno.ts';
import { Access, At } from '../../abi/file.ts';
import { WatchFlag } from '../../abi/inotify.ts';
import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { inodePermission } from '../permission.ts';
import { fileOf, placeAt } from '../syscalls/decode.ts';
import { Lookup } from '../walk.ts';
import { Inotify, InotifyLimits } from './inotify.ts';

function init(task: Task, flags: number): number {
  if (flags & ~(OpenFlag.closeOnExec | OpenFlag.nonBlock)) return -Errno.EINVAL;
  const limits = task.kernel.part(InotifyLimits);
  if (!limits.takeInstance(task.credentials.uid)) return -Errno.EMFILE;
  const file = new Inotify(task, limits, flags);
  const fd = task.files.install(task, file, (flags & OpenFlag.closeOnExec) !== 0);
  if (fd < 0) file.unreference();
  return fd;
}

/** What inotify_add_watch knows (ALL_INOTIFY_BITS). */
const knownBits =
  WatchFlag.allEvents |
  WatchFlag.onlyDirectory |
  WatchFlag.dontFollow |
  WatchFlag.excludeUnlinked |
  WatchFlag.maskCreate |
  WatchFlag.maskAdd |
  WatchFlag.oneShot |
  0x4000_e000;

function addWatch(task: Task, args: Arguments): number {
  const mask = args.u32(2);
  if (!(mask & knownBits)) return -Errno.EINVAL;
  const instance = fileOf(task, args.i32(0));
  if (instance === undefined) return -Errno.EBADF;
  if (mask & WatchFlag.maskAdd && mask & WatchFlag.maskCreate) return -Errno.EINVAL;
  if (!(instance instanceof Inotify)) return -Errno.EINVAL;
  const lookup =
    (mask & WatchFlag.dontFollow ? 0 : Lookup.follow) |
    (mask & WatchFlag.onlyDirectory ? Lookup.directory : 0);
  const place = placeAt(task, At.cwd, args.address(1), lookup);
  if (typeof place === 'number') return place;
  const inode = place.dentry.inode;
  if (inode === undefined) return -Errno.ENOENT;
  const allowed = inodePermission(task, inode, Access.read);
  return allowed < 0 ? allowed : instance.addWatch(inode, mask);
}

function removeWatch(task: Task, args: Arguments): number {
  const instance = fileOf(task, args.i32(0));
  if (instance === undefined) return -Errno.EBADF;
  return instance instanceof Inotify ? instance.removeWatch(args.i32(1)) : -Errno.EINVAL;
}

export const inotifySyscalls: readonly Syscall[] = [
  { name: 'inotify_init', signature: '-> fd', support: 'full', handler: (task) => init(task, 0) },
  {
    name: 'inotify_init1',
    signature: 'flags:flags.open -> fd',
    support: 'full',
    handler: (task, args) => init(task, args.u32(0)),
  },
  {
    name: 'inotify_add_watch',
    signature: 'fd:fd path:path mask:hex',
    support: 'full',
    handler: addWatch,
  },
  { name: 'inotify_rm_watch', signature: 'fd:fd watch:int', support: 'full', handler: removeWatch },
];
