// Extended attributes (xattr(7)): whose names may be touched by whom, and the calls in their forms by path, link and
// descriptor (fs/xattr.c).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Access, At, ModeBit, Xattr } from '../../abi/file.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall, SyscallName } from '../../syscalls/contract.ts';
import type { Mount } from '../contract.ts';
import type { Dentry } from '../dentry.ts';
import type { Inode } from '../inode.ts';
import { Event, notifyPath } from '../notify.ts';
import { inodePermission, ownerOrCapable } from '../permission.ts';
import { Lookup } from '../walk.ts';
import { fileOf, placeAt } from './decode.ts';

/** What an attribute is on. */
interface Subject {
  readonly inode: Inode;
  readonly mount: Mount | undefined;
  readonly dentry: Dentry | undefined;
}

type Find = (task: Task, args: Arguments) => Subject | number;

const byPath =
  (lookup: number): Find =>
  (task, args) => {
    const place = placeAt(task, At.cwd, args.address(0), lookup);
    if (typeof place === 'number') return place;
    const { mount, dentry } = place;
    return dentry.inode ? { inode: dentry.inode, mount, dentry } : -Errno.ENOENT;
  };

const byDescriptor: Find = (task, args) => {
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const { inode, path } = file;
  return inode ? { inode, mount: path?.mount, dentry: path?.dentry } : -Errno.EOPNOTSUPP;
};

function readName(task: Task, address: number): string | number {
  const name = task.memory.readString(address, Xattr.nameMaximum + 1);
  if (name === -Errno.ENAMETOOLONG || name === '') return -Errno.ERANGE;
  return name;
}

/** Whether the name may be touched, and is one (xattr_permission, then xattr_resolve_name). */
function permitted(task: Task, subject: Subject, name: string, mask: number): number {
  const allowed = mayTouch(task, subject, name, mask);
  if (allowed < 0) return allowed;
  return name === 'user.' || name === 'trusted.' || name === 'security.' ? -Errno.EINVAL : 0;
}

function mayTouch(task: Task, { inode, mount }: Subject, name: string, mask: number): number {
  const writing = (mask & Access.write) !== 0;
  const { credentials } = task;
  if (writing && mount?.readOnly) return -Errno.EROFS;
  if (name.startsWith('security.') || name.startsWith('system.')) {
    if (!writing || !name.startsWith('security.')) return 0;
    const needed = name === 'security.capability' ? Capability.setfcap : Capability.sysAdmin;
    return credentials.has(needed) ? 0 : -Errno.EPERM;
  }
  if (name.startsWith('trusted.')) {
    if (credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysAdmin)) return 0;
    return writing ? -Errno.EPERM : -Errno.ENODATA;
  }
  if (name.startsWith('user.')) {
    if (!inode.isRegular && !inode.isDirectory) return writing ? -Errno.EPERM : -Errno.ENODATA;
    if (writing && inode.isDirectory && inode.mode & ModeBit.sticky && !ownerOrCapable(credentials, inode))
      return -Errno.EPERM;
  }
  return inodePermission(task, inode, mask);
}

function setxattr(find: Find): (task: Task, args: Arguments) => number {
  return (task, args) => {
    const flags = args.u32(4);
    if (flags & ~(Xattr.create | Xattr.replace)) return -Errno.EINVAL;
    const name = readName(task, args.address(1));
    if (typeof name === 'number') return name;
    const size = args.size(3);
    if (size > Xattr.sizeMaximum) return -Errno.E2BIG;
    const value = new Uint8Array(size);
    if (size > 0 && task.memory.read(args.address(2), value, 0, size) < 0) return -Errno.EFAULT;
    const subject = find(task, args);
    if (typeof subject === 'number') return subject;
    const allowed = permitted(task, subject, name, Access.write);
    if (allowed < 0) return allowed;
    return told(subject, subject.inode.setXattr(name, value, flags));
  };
}

function told({ mount, dentry }: Subject, result: number): number {
  if (result >= 0 && mount && dentry) notifyPath({ mount, dentry }, Event.attribute);
  return result;
}

function getxattr(find: Find): (task: Task, args: Arguments) => number {
  return (task, args) => {
    const name = readName(task, args.address(1));
    if (typeof name === 'number') return name;
    const subject = find(task, args);
    if (typeof subject === 'number') return subject;
    const allowed = permitted(task, subject, name, Access.read);
    if (allowed < 0) return allowed;
    const value = subject.inode.getXattr(name);
    if (typeof value === 'number') return value;
    return give(task, value, args.address(2), args.size(3));
  };
}

/** Size 0 asks how long it is. */
function give(task: Task, value: Uint8Array, address: number, size: number): number {
  if (size === 0) return value.length;
  if (size < value.length) return -Errno.ERANGE;
  const result = task.memory.write(address, value, 0, value.length);
  return result < 0 ? result : value.length;
}

function listxattr(find: Find): (task: Task, args: Arguments) => number {
  return (task, args) => {
    const subject = find(task, args);
    if (typeof subject === 'number') return subject;
    const names = subject.inode.listXattr();
    if (typeof names === 'number') return names === -Errno.EOPNOTSUPP ? 0 : names;
    const trusted = task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysAdmin);
    let text = '';
    for (const name of names) if (trusted || !name.startsWith('trusted.')) text += `${name}\0`;
    if (text.length > Xattr.listMaximum) return -Errno.E2BIG;
    return give(task, Buffer.from(text, 'latin1'), args.address(1), args.size(2));
  };
}

function removexattr(find: Find): (task: Task, args: Arguments) => number {
  return (task, args) => {
    const name = readName(task, args.address(1));
    if (typeof name === 'number') return name;
    const subject = find(task, args);
    if (typeof subject === 'number') return subject;
    const allowed = permitted(task, subject, name, Access.write);
    if (allowed < 0) return allowed;
    return told(subject, subject.inode.removeXattr(name));
  };
}

const forms: readonly (readonly [prefix: '' | 'l' | 'f', parameter: string, find: Find])[] = [
  ['', 'path:path', byPath(Lookup.follow)],
  ['l', 'path:path', byPath(0)],
  ['f', 'fd:fd', byDescriptor],
];

export const xattrSyscalls: readonly Syscall[] = forms.flatMap(([prefix, parameter, find]) => {
  const calls: readonly (readonly [name: SyscallName, rest: string, handler: Syscall['handler']])[] = [
    [`${prefix}setxattr`, 'name:string value:buffer size:size flags:hex', setxattr(find)],
    [`${prefix}getxattr`, 'name:string value:out-buffer size:size -> size', getxattr(find)],
    [`${prefix}listxattr`, 'list:out-buffer size:size -> size', listxattr(find)],
    [`${prefix}removexattr`, 'name:string', removexattr(find)],
  ];
  return calls.map(([name, rest, handler]) => ({
    name,
    signature: `${parameter} ${rest}`,
    support: 'full',
    handler,
  }));
});
