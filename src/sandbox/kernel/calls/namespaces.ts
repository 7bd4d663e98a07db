// unshare(2), setns(2), uname(2), sethostname(2), setdomainname(2).

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { Personality } from '../../abi/prctl.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { NamespaceFile, namespaceOf } from '../namespace/nsfs.ts';
import { enterNamespace, unshare } from '../namespace/unshare.ts';
import { mayAccess } from '../ptrace/access.ts';
import { SystemIdentity } from '../system-identity.ts';
import { enterOrder, PidFile } from '../task/pidfd.ts';
import type { Thread } from '../task/thread.ts';

const fieldSize = 65;
const nameLimit = 64;

/** All namespaces of a process at once that `flags` name; nothing is entered if one of them may not be. */
function enterProcess(thread: Thread, file: PidFile, flags: number): number {
  const known = enterOrder.reduce((all, [flag]) => all | flag, 0);
  if (flags === 0 || (flags & ~known) !== 0) return -Errno.EINVAL;
  if (file.ended) return -Errno.ESRCH;
  const target = file.single ? file.thread : file.process.leader;
  if (mayAccess(thread, target) < 0) return -Errno.EPERM;
  const files: NamespaceFile[] = [];
  for (const [flag, kind] of enterOrder) {
    const entry = (flags & flag) !== 0 ? namespaceOf(target, kind) : undefined;
    if (entry) files.push(new NamespaceFile(thread.kernel, entry));
    else if ((flags & flag) !== 0) return -Errno.ESRCH;
  }
  let result = 0;
  for (const namespace of files) {
    if (result === 0) result = enterNamespace(thread, namespace);
    namespace.unreference();
  }
  return result;
}

function setns(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const file = thread.files.get(args.i32(0));
  const flags = args.i32(1);
  if (!file) return -Errno.EBADF;
  if (file instanceof PidFile) return enterProcess(thread, file, flags);
  if (!(file instanceof NamespaceFile)) return -Errno.EINVAL;
  if (flags !== 0 && flags !== file.type) return -Errno.EINVAL;
  return enterNamespace(thread, file);
}

/** override_release for PER_UNAME26: 6.12 is called 2.6.72. */
function oldRelease(release: string): string {
  const numbers = /^(\d+)\.(\d+)(?:\.(\d+))?(.*)$/.exec(release);
  return numbers ? `2.6.${60 + Number(numbers[2])}${numbers[4]}` : release;
}

function uname(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const identity = thread.kernel.part(SystemIdentity);
  const { personality, uts } = thread;
  const release = personality & Personality.uname26 ? oldRelease(identity.release) : identity.release;
  const machine = (personality & Personality.kindMask) === Personality.linux32 ? 'i686' : identity.machine;
  const fields = [identity.sysname, uts.hostname, release, identity.version, machine, uts.domainname];
  const bytes = new Uint8Array(fields.length * fieldSize);
  for (const [index, field] of fields.entries())
    bytes.set(Buffer.from(field, 'latin1').subarray(0, nameLimit), index * fieldSize);
  return task.memory.write(args.address(0), bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
}

function readName(task: Task, args: Arguments): string | number {
  const thread = task as Thread;
  if (!thread.credentials.hasIn(thread.uts.userNamespace, Capability.sysAdmin)) return -Errno.EPERM;
  const length = args.i32(1);
  if (length < 0 || length > nameLimit) return -Errno.EINVAL;
  const bytes = new Uint8Array(length);
  if (task.memory.read(args.address(0), bytes, 0, length) < 0) return -Errno.EFAULT;
  const text = Buffer.from(bytes).toString('latin1');
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

export const namespaceSyscalls: readonly Syscall[] = [
  {
    name: 'unshare',
    signature: 'flags:flags.clone',
    support: 'partial',
    note: 'no time namespaces (EINVAL)',
    handler: (task, args) => unshare(task as Thread, args.i32(0)),
  },
  {
    name: 'setns',
    signature: 'fd:fd type:flags.clone',
    support: 'full',
    handler: setns,
  },
  { name: 'uname', signature: 'buffer:address', support: 'full', handler: uname },
  {
    name: 'sethostname',
    signature: 'name:address length:int',
    support: 'full',
    handler: (task, args) => {
      const name = readName(task, args);
      if (typeof name === 'number') return name;
      (task as Thread).uts.hostname = name;
      return 0;
    },
  },
  {
    name: 'setdomainname',
    signature: 'name:address length:int',
    support: 'full',
    handler: (task, args) => {
      const name = readName(task, args);
      if (typeof name === 'number') return name;
      (task as Thread).uts.domainname = name;
      return 0;
    },
  },
];
