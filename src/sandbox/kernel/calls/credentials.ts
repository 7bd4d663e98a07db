// User and group ids (credentials(7)): the get and set calls, with the capability rules of user-id changes. Ids of the
// program's user namespace are translated at this edge; inside they are the kernel's.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Rlimit } from '../../abi/resource.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import { fixCapabilitiesAfterSetfsuid, fixCapabilitiesAfterSetuid } from '../credentials/transitions.ts';
import type { Thread } from '../task/thread.ts';

/** What a program sees instead of an id that its namespace does not map (overflowuid). */
const overflowId = 65_534;
/** (uid_t)-1: leave it as it is. */
const unchanged = 0xffff_ffff;
const groupsMaximum = 65_536;

const credentialsOf = (task: Task): TaskCredentials => (task as Thread).credentials;

function seenUid(task: Task, uid: number): number {
  const seen = task.credentials.userNamespace.fromKernelUid(uid);
  return seen < 0 ? overflowId : seen;
}

function seenGid(task: Task, gid: number): number {
  const seen = task.credentials.userNamespace.fromKernelGid(gid);
  return seen < 0 ? overflowId : seen;
}

/** Sets credentials whose user ids have changed: capabilities follow, and RLIMIT_NPROC is looked at by the next execve. */
function commitUid(task: Task, to: TaskCredentials): number {
  const thread = task as Thread;
  const from = thread.credentials;
  thread.setCredentials(fixCapabilitiesAfterSetuid(from, to));
  if (to.uid !== from.uid) {
    const { kernel, process } = thread;
    thread.processLimitExceeded =
      to.uid !== 0 && kernel.processCount(to.uid) > process.limit(Rlimit.nproc).soft;
  }
  return 0;
}

function setuid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const uid = old.userNamespace.toKernelUid(args.u32(0));
  if (uid < 0) return -Errno.EINVAL;
  if (old.has(Capability.setuid))
    return commitUid(task, old.change({ uid, euid: uid, suid: uid, fsuid: uid }));
  if (uid !== old.uid && uid !== old.suid) return -Errno.EPERM;
  return commitUid(task, old.change({ euid: uid, fsuid: uid }));
}

function setgid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const gid = old.userNamespace.toKernelGid(args.u32(0));
  if (gid < 0) return -Errno.EINVAL;
  const thread = task as Thread;
  if (old.has(Capability.setgid)) {
    thread.setCredentials(old.change({ gid, egid: gid, sgid: gid, fsgid: gid }));
    return 0;
  }
  if (gid !== old.gid && gid !== old.sgid) return -Errno.EPERM;
  thread.setCredentials(old.change({ egid: gid, fsgid: gid }));
  return 0;
}

function setreuid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const [ruid, euid] = [args.u32(0), args.u32(1)];
  const kernelRuid = old.userNamespace.toKernelUid(ruid);
  const kernelEuid = old.userNamespace.toKernelUid(euid);
  if ((ruid !== unchanged && kernelRuid < 0) || (euid !== unchanged && kernelEuid < 0)) return -Errno.EINVAL;
  const may = old.has(Capability.setuid);
  let { uid, euid: effective, suid } = old;
  if (ruid !== unchanged) {
    uid = kernelRuid;
    if (uid !== old.uid && uid !== old.euid && !may) return -Errno.EPERM;
  }
  if (euid !== unchanged) {
    effective = kernelEuid;
    if (effective !== old.uid && effective !== old.euid && effective !== old.suid && !may)
      return -Errno.EPERM;
  }
  if (ruid !== unchanged || (euid !== unchanged && effective !== old.uid)) suid = effective;
  return commitUid(task, old.change({ uid, euid: effective, suid, fsuid: effective }));
}

function setregid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const [rgid, egid] = [args.u32(0), args.u32(1)];
  const kernelRgid = old.userNamespace.toKernelGid(rgid);
  const kernelEgid = old.userNamespace.toKernelGid(egid);
  if ((rgid !== unchanged && kernelRgid < 0) || (egid !== unchanged && kernelEgid < 0)) return -Errno.EINVAL;
  const may = old.has(Capability.setgid);
  let { gid, egid: effective, sgid } = old;
  if (rgid !== unchanged) {
    gid = kernelRgid;
    if (gid !== old.gid && gid !== old.egid && !may) return -Errno.EPERM;
  }
  if (egid !== unchanged) {
    effective = kernelEgid;
    if (effective !== old.gid && effective !== old.egid && effective !== old.sgid && !may)
      return -Errno.EPERM;
  }
  if (rgid !== unchanged || (egid !== unchanged && effective !== old.gid)) sgid = effective;
  (task as Thread).setCredentials(old.change({ gid, egid: effective, sgid, fsgid: effective }));
  return 0;
}

/** The kernel ids of three arguments, the old ones for -1; undefined if one is not mapped. */
function threeIds(
  args: Arguments,
  old: readonly [number, number, number],
  translate: (id: number) => number,
): [number, number, number] | undefined {
  const ids: [number, number, number] = [...old];
  for (const index of [0, 1, 2] as const) {
    const id = args.u32(index);
    if (id === unchanged) continue;
    ids[index] = translate(id);
    if (ids[index] < 0) return undefined;
  }
  return ids;
}

function setresuid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const ids = threeIds(args, [old.uid, old.euid, old.suid], (id) => old.userNamespace.toKernelUid(id));
  if (!ids) return -Errno.EINVAL;
  const foreign = ids.some((id) => id !== old.uid && id !== old.euid && id !== old.suid);
  if (foreign && !old.has(Capability.setuid)) return -Errno.EPERM;
  const [uid, euid, suid] = ids;
  // Nothing to change: then fsuid stays, too, unless the effective id was named.
  const named = args.u32(1) !== unchanged;
  if (uid === old.uid && suid === old.suid && euid === old.euid && (!named || euid === old.fsuid)) return 0;
  return commitUid(task, old.change({ uid, euid, suid, fsuid: euid }));
}

function setresgid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const ids = threeIds(args, [old.gid, old.egid, old.sgid], (id) => old.userNamespace.toKernelGid(id));
  if (!ids) return -Errno.EINVAL;
  const foreign = ids.some((id) => id !== old.gid && id !== old.egid && id !== old.sgid);
  if (foreign && !old.has(Capability.setgid)) return -Errno.EPERM;
  const [gid, egid, sgid] = ids;
  const named = args.u32(1) !== unchanged;
  if (gid === old.gid && sgid === old.sgid && egid === old.egid && (!named || egid === old.fsgid)) return 0;
  (task as Thread).setCredentials(old.change({ gid, egid, sgid, fsgid: egid }));
  return 0;
}

function writeThree(task: Task, args: Arguments, ids: readonly number[]): number {
  for (const [index, id] of ids.entries())
    if (task.memory.writeU32(args.address(index), id) < 0) return -Errno.EFAULT;
  return 0;
}

/** Gives the old id whatever happens. */
function setfsuid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const uid = old.userNamespace.toKernelUid(args.u32(0));
  const before = seenUid(task, old.fsuid);
  if (uid < 0 || uid === old.fsuid) return before;
  const known = uid === old.uid || uid === old.euid || uid === old.suid;
  if (known || old.has(Capability.setuid))
    (task as Thread).setCredentials(fixCapabilitiesAfterSetfsuid(old, old.change({ fsuid: uid })));
  return before;
}

function setfsgid(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const gid = old.userNamespace.toKernelGid(args.u32(0));
  const before = seenGid(task, old.fsgid);
  if (gid < 0 || gid === old.fsgid) return before;
  const known = gid === old.gid || gid === old.egid || gid === old.sgid;
  if (known || old.has(Capability.setgid)) (task as Thread).setCredentials(old.change({ fsgid: gid }));
  return before;
}

function getgroups(task: Task, args: Arguments): number {
  const size = args.i32(0);
  if (size < 0) return -Errno.EINVAL;
  const { groups } = credentialsOf(task);
  if (size === 0) return groups.length;
  if (groups.length > size) return -Errno.EINVAL;
  const bytes = new Uint8Array(groups.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, gid] of groups.entries()) view.setUint32(index * 4, seenGid(task, gid), true);
  return task.memory.write(args.address(1), bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : groups.length;
}

function setgroups(task: Task, args: Arguments): number {
  const old = credentialsOf(task);
  const size = args.u32(0);
  if (!old.has(Capability.setgid) || !old.userNamespace.maySetgroups) return -Errno.EPERM;
  if (size > groupsMaximum) return -Errno.EINVAL;
  const bytes = new Uint8Array(size * 4);
  if (task.memory.read(args.address(1), bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const groups: number[] = [];
  for (let index = 0; index < size; index++) {
    const gid = old.userNamespace.toKernelGid(view.getUint32(index * 4, true));
    if (gid < 0) return -Errno.EINVAL;
    groups.push(gid);
  }
  (task as Thread).setCredentials(old.change({ groups: groups.sort((a, b) => a - b) }));
  return 0;
}

export const credentialSyscalls: readonly Syscall[] = [
  {
    name: 'getuid',
    signature: ' -> int',
    support: 'full',
    handler: (task) => seenUid(task, task.credentials.uid),
  },
  {
    name: 'geteuid',
    signature: ' -> int',
    support: 'full',
    handler: (task) => seenUid(task, task.credentials.euid),
  },
  {
    name: 'getgid',
    signature: ' -> int',
    support: 'full',
    handler: (task) => seenGid(task, task.credentials.gid),
  },
  {
    name: 'getegid',
    signature: ' -> int',
    support: 'full',
    handler: (task) => seenGid(task, task.credentials.egid),
  },
  { name: 'setuid', signature: 'uid:uint', support: 'full', handler: setuid },
  { name: 'setgid', signature: 'gid:uint', support: 'full', handler: setgid },
  { name: 'setreuid', signature: 'ruid:uint euid:uint', support: 'full', handler: setreuid },
  { name: 'setregid', signature: 'rgid:uint egid:uint', support: 'full', handler: setregid },
  { name: 'setresuid', signature: 'ruid:uint euid:uint suid:uint', support: 'full', handler: setresuid },
  { name: 'setresgid', signature: 'rgid:uint egid:uint sgid:uint', support: 'full', handler: setresgid },
  {
    name: 'getresuid',
    signature: 'ruid:address euid:address suid:address',
    support: 'full',
    handler: (task, args) => {
      const { uid, euid, suid } = task.credentials;
      return writeThree(task, args, [seenUid(task, uid), seenUid(task, euid), seenUid(task, suid)]);
    },
  },
  {
    name: 'getresgid',
    signature: 'rgid:address egid:address sgid:address',
    support: 'full',
    handler: (task, args) => {
      const { gid, egid, sgid } = task.credentials;
      return writeThree(task, args, [seenGid(task, gid), seenGid(task, egid), seenGid(task, sgid)]);
    },
  },
  { name: 'setfsuid', signature: 'uid:uint', support: 'full', handler: setfsuid },
  { name: 'setfsgid', signature: 'gid:uint', support: 'full', handler: setfsgid },
  { name: 'getgroups', signature: 'size:int list:address', support: 'full', handler: getgroups },
  { name: 'setgroups', signature: 'size:int list:address', support: 'full', handler: setgroups },
];
