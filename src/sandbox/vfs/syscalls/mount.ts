// mount(2), umount2(2), pivot_root(2): decoding, capabilities and lookups; the tree itself is mount-namespace.ts.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { At } from '../../abi/file.ts';
import { MountFlag, Unmount } from '../../abi/mount.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Path } from '../contract.ts';
import type { PropagationType } from '../propagation.ts';
import { Lookup, resolvePath } from '../walk.ts';
import { placeAt, vfsOf } from './decode.ts';

const magic = 0xc0ed_0000;
const propagationFlags = MountFlag.shared | MountFlag.private | MountFlag.slave | MountFlag.unbindable;
const dataMaximum = 4096;

function mayMount(task: Task): boolean {
  return task.credentials.hasIn(task.mounts.userNamespace, Capability.sysAdmin);
}

/** A string argument of at most a page; empty for NULL. */
function text(task: Task, address: number): string | number {
  if (address === 0) return '';
  const value = task.memory.readString(address, dataMaximum);
  return value === -Errno.ENAMETOOLONG ? -Errno.EINVAL : value;
}

function mount(task: Task, args: Arguments): number {
  const type = text(task, args.address(2));
  if (typeof type === 'number') return type;
  const source = text(task, args.address(0));
  if (typeof source === 'number') return source;
  const data = text(task, args.address(4));
  if (typeof data === 'number') return data;
  const at = placeAt(task, At.cwd, args.address(1), Lookup.follow);
  if (typeof at === 'number') return at;
  if (!mayMount(task)) return -Errno.EPERM;
  const given = args.u32(3);
  const flags = (given & 0xffff_0000) >>> 0 === magic ? given & 0xffff : given;
  const { mounts } = task;
  if ((flags & (MountFlag.remount | MountFlag.bind)) === (MountFlag.remount | MountFlag.bind))
    return mounts.remount(at, flags);
  if (flags & MountFlag.remount) return remount(task, at, flags, data);
  if (flags & MountFlag.bind) {
    if (source === '') return args.address(0) === 0 ? -Errno.EINVAL : -Errno.ENOENT;
    const from = resolvePath(task, At.cwd, source, Lookup.follow);
    if (typeof from === 'number') return from;
    return mounts.bind(from, at, (flags & MountFlag.recursive) !== 0);
  }
  if (flags & propagationFlags) return propagation(task, at, flags);
  if (flags & MountFlag.move) {
    if (source === '') return args.address(0) === 0 ? -Errno.EINVAL : -Errno.ENOENT;
    const from = resolvePath(task, At.cwd, source, Lookup.follow);
    return typeof from === 'number' ? from : mounts.move(from, at);
  }
  return mountNew(task, at, type, source, flags, data);
}

function mountNew(task: Task, at: Path, type: string, source: string, flags: number, data: string): number {
  if (type === '') return -Errno.EINVAL;
  // A subtype after a dot is for the one who reads /proc/mounts (fuse.sshfs).
  const kind = vfsOf(task).fileSystemType(type);
  if (kind === undefined) return -Errno.ENODEV;
  if (!kind.userMount && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysAdmin))
    return -Errno.EPERM;
  if (at.mount.namespace !== task.mounts) return -Errno.EINVAL;
  const fileSystem = kind.mount(task, source, data);
  if (typeof fileSystem === 'number') return fileSystem;
  // Who mounts in a user namespace of his own gets no devices and no set-user-ID from it.
  const foreign = task.mounts.userNamespace !== task.kernel.rootUserNamespace;
  const added = foreign ? MountFlag.noDevices : 0;
  const made = task.mounts.mount(fileSystem, at, flags | added, source === '' ? 'none' : source);
  return typeof made === 'number' ? made : 0;
}

function remount(task: Task, at: Path, flags: number, data: string): number {
  if (at.dentry !== at.mount.root || at.mount.namespace !== task.mounts) return -Errno.EINVAL;
  const { fileSystem } = at.mount;
  if (data !== '') {
    const result = fileSystem.reconfigure?.(task, data) ?? -Errno.EINVAL;
    if (result < 0) return result;
  }
  return task.mounts.reconfigure(at, flags);
}

function propagation(task: Task, at: Path, flags: number): number {
  const types: readonly (readonly [flag: number, type: PropagationType])[] = [
    [MountFlag.shared, 'shared'],
    [MountFlag.private, 'private'],
    [MountFlag.slave, 'slave'],
    [MountFlag.unbindable, 'unbindable'],
  ];
  // Exactly one, with nothing but MS_REC and MS_SILENT beside it (flags_to_propagation_type).
  const kind = types.find(([flag]) => (flags & ~(MountFlag.recursive | MountFlag.silent)) === flag);
  if (kind === undefined) return -Errno.EINVAL;
  return task.mounts.changePropagation(at, kind[1], (flags & MountFlag.recursive) !== 0);
}

function umount(task: Task, args: Arguments): number {
  const flags = args.u32(1);
  if (flags & ~(Unmount.force | Unmount.detach | Unmount.expire | Unmount.noFollow)) return -Errno.EINVAL;
  const at = placeAt(task, At.cwd, args.address(0), flags & Unmount.noFollow ? 0 : Lookup.follow);
  if (typeof at === 'number') return at;
  if (!mayMount(task)) return -Errno.EPERM;
  if (flags & Unmount.force && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysAdmin))
    return -Errno.EPERM;
  return task.mounts.unmount(at, flags, task.fs.root);
}

function pivotRoot(task: Task, args: Arguments): number {
  if (!mayMount(task)) return -Errno.EPERM;
  const lookup = Lookup.follow | Lookup.directory;
  const newRoot = placeAt(task, At.cwd, args.address(0), lookup);
  if (typeof newRoot === 'number') return newRoot;
  const putOld = placeAt(task, At.cwd, args.address(1), lookup);
  if (typeof putOld === 'number') return putOld;
  const old = task.fs.root;
  const was = { mount: old.mount, dentry: old.dentry };
  const result = task.mounts.pivotRoot(newRoot, putOld, was);
  if (result < 0) return result;
  // chroot_fs_refs: whoever had the old root as root or working directory gets the new one.
  const isOld = (path: Path) => path.mount === was.mount && path.dentry === was.dentry;
  for (const [, process] of task.kernel.rootPidNamespace.processes())
    for (const { fs } of process.tasks) {
      if (isOld(fs.root)) fs.setRoot(newRoot);
      if (isOld(fs.cwd)) fs.setCwd(newRoot);
    }
  return 0;
}

export const mountSyscalls: readonly Syscall[] = [
  {
    name: 'mount',
    signature: 'source:string target:path type:string flags:hex data:string',
    support: 'full',
    handler: mount,
  },
  { name: 'umount2', signature: 'target:path flags:hex', support: 'full', handler: umount },
  { name: 'pivot_root', signature: 'new_root:path put_old:path', support: 'full', handler: pivotRoot },
];
