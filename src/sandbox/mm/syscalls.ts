// The system calls of memory: decoding and the table's entries.

import { Errno } from '../abi/errno.ts';
import { Madv, MapFlag, pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { mayAccess } from '../kernel/ptrace/access.ts';
import { PidFile } from '../kernel/task/pidfd.ts';
import type { Arguments } from '../platform/contract.ts';
import type { Syscall } from '../syscalls/contract.ts';
import { readIovec } from '../vfs/io.ts';
import { advise, seal } from './madvise.ts';
import { membarrier } from './membarrier.ts';
import { lock, lockAll, residency, sync, unlock, unlockAll } from './mlock.ts';
import { remap, remapFilePages } from './mremap.ts';
import { bindRange, getPolicy, migratePages, movePages, setHomeNode, setTaskPolicy } from './policy.ts';
import { processVm } from './process-vm.ts';
import type { ProgramMemory } from './program-memory.ts';

/** Tasks of this kernel have no other memory. */
const memoryOf = (task: Task): ProgramMemory => task.mm as ProgramMemory;

function mmap(task: Task, args: Arguments): number {
  const offset = args.address(5);
  if (offset % pageSize !== 0) return -Errno.EINVAL;
  const flags = args.u32(3);
  let file: ReturnType<Task['files']['get']>;
  if (flags & MapFlag.anonymous) {
    // There is no pool of huge pages.
    if (flags & MapFlag.hugeTlb) return hugePages(args.address(1), flags);
  } else {
    file = task.files.get(args.i32(4));
    // An O_PATH descriptor is no open file.
    if (!file || file.flags & 0o10000000) return -Errno.EBADF;
    if (flags & MapFlag.hugeTlb) return -Errno.EINVAL;
  }
  return task.mm.map(task, {
    address: args.address(0),
    length: args.size(1),
    protection: args.u32(2),
    flags,
    file,
    offset: flags & MapFlag.anonymous ? 0 : offset,
  });
}

/** MAP_HUGETLB: the sizes of x86-64 are known, none has pages. */
function hugePages(length: number, flags: number): number {
  const size = flags >>> 26;
  if (size !== 0 && size !== 21 && size !== 30) return -Errno.EINVAL;
  return length === 0 ? -Errno.EINVAL : -Errno.ENOMEM;
}

/** PROT_* as an unsigned long: with any of the upper 32 bits it is as bad as with an unknown lower one. */
function protectionOf(args: Arguments): number {
  return args.big(2) > 0xffff_ffffn ? args.u32(2) | 0x8000_0000 : args.u32(2);
}

/** pkey_mprotect(2) on a processor without protection keys: only -1, which is mprotect. */
function pkeyMprotect(task: Task, args: Arguments): number {
  if (args.i32(3) !== -1) return -Errno.EINVAL;
  return task.mm.protect(task, args.address(0), args.size(1), protectionOf(args));
}

function pkeyAlloc(_task: Task, args: Arguments): number {
  return args.big(0) !== 0n || args.big(1) & ~3n ? -Errno.EINVAL : -Errno.ENOSPC;
}

function mremap(task: Task, args: Arguments): number {
  return remap(
    memoryOf(task),
    task,
    args.address(0),
    args.size(1),
    args.size(2),
    args.u32(3),
    args.address(4),
  );
}

/** What may be advised for another process: it changes nothing that its program sees. */
const remoteAdvice = new Set<number>([Madv.cold, Madv.pageOut, Madv.willNeed, Madv.collapse]);

function processMadvise(task: Task, args: Arguments): number {
  const advice = args.i32(3);
  if (args.u32(4) !== 0) return -Errno.EINVAL;
  const segments = readIovec(task.memory, args.address(1), args.size(2));
  if (typeof segments === 'number') return segments;
  const file = task.files.get(args.i32(0));
  if (!(file instanceof PidFile)) return -Errno.EBADF;
  if (file.reaped || file.ended) return -Errno.ESRCH;
  const target = file.thread;
  const own = target.mm === task.mm;
  if (mayAccess(task, target) < 0) return -Errno.EPERM;
  if (!own) {
    if (!remoteAdvice.has(advice)) return -Errno.EINVAL;
    if (!task.credentials.hasIn(task.kernel.rootUserNamespace, capSysNice)) return -Errno.EPERM;
  }
  let done = 0;
  for (let i = 0; i < segments.length; i += 2) {
    const address = segments[i] ?? 0;
    const length = segments[i + 1] ?? 0;
    // Another's pages are left where they are: that is all that such advice promises. Its books say what is mapped.
    const result = own
      ? advise(memoryOf(task), task, address, length, advice)
      : target.mm.accessible(address, length, 0)
        ? 0
        : -Errno.ENOMEM;
    if (result < 0) return done > 0 ? done : result;
    done += length;
  }
  return done;
}

/** CAP_SYS_NICE. */
const capSysNice = 23;

/** process_mrelease(2): a dying process's memory goes with its last thread, at once. */
function processMrelease(task: Task, args: Arguments): number {
  if (args.u32(1) !== 0) return -Errno.EINVAL;
  const file = task.files.get(args.i32(0));
  if (!(file instanceof PidFile)) return -Errno.EBADF;
  if (file.reaped || file.ended) return -Errno.ESRCH;
  return file.process.groupExitStatus === undefined ? -Errno.EINVAL : 0;
}

export const memorySyscalls: readonly Syscall[] = [
  {
    name: 'mmap',
    signature: 'addr:address length:size prot:flags.prot flags:flags.map fd:fd offset:hex -> address',
    support: 'partial',
    note: 'no huge page pools (ENOMEM), no MAP_SYNC (EOPNOTSUPP); nothing below 64 KiB',
    handler: mmap,
  },
  {
    name: 'munmap',
    signature: 'addr:address length:size',
    support: 'full',
    handler: (task, args) => task.mm.unmap(task, args.address(0), args.size(1)),
  },
  {
    name: 'mprotect',
    signature: 'addr:address length:size prot:flags.prot',
    support: 'full',
    handler: (task, args) => task.mm.protect(task, args.address(0), args.size(1), protectionOf(args)),
  },
  {
    name: 'brk',
    signature: 'addr:address -> address',
    support: 'full',
    handler: (task, args) => task.mm.brk(task, args.address(0)),
  },
  {
    name: 'mremap',
    signature: 'old:address old_size:size new_size:size flags:flags.mremap new:address -> address',
    support: 'full',
    handler: mremap,
  },
  {
    name: 'msync',
    signature: 'addr:address length:size flags:flags.msync',
    support: 'full',
    handler: (task, args) => sync(memoryOf(task), task, args.address(0), args.size(1), args.i32(2)),
  },
  {
    name: 'mincore',
    signature: 'addr:address length:size vec:out-address',
    support: 'partial',
    note: 'on platforms that cannot tell, all mapped pages count as present',
    handler: (task, args) => residency(task, memoryOf(task), args.address(0), args.size(1), args.address(2)),
  },
  {
    name: 'madvise',
    signature: 'addr:address length:size advice:enum.madvise',
    support: 'partial',
    note: 'pages are not merged with others (MADV_MERGEABLE); no MADV_HWPOISON, MADV_SOFT_OFFLINE (EINVAL)',
    handler: (task, args) => advise(memoryOf(task), task, args.address(0), args.size(1), args.i32(2)),
  },
  {
    name: 'mlock',
    signature: 'addr:address length:size',
    support: 'partial',
    note: 'limits are kept and pages made present; the host may still swap them out',
    handler: (task, args) => lock(memoryOf(task), task, args.address(0), args.size(1), 0),
  },
  {
    name: 'mlock2',
    signature: 'addr:address length:size flags:flags.mlock',
    support: 'partial',
    note: 'as mlock',
    handler: (task, args) => lock(memoryOf(task), task, args.address(0), args.size(1), args.i32(2)),
  },
  {
    name: 'munlock',
    signature: 'addr:address length:size',
    support: 'full',
    handler: (task, args) => unlock(memoryOf(task), args.address(0), args.size(1)),
  },
  {
    name: 'mlockall',
    signature: 'flags:flags.mlockall',
    support: 'partial',
    note: 'as mlock',
    handler: (task, args) => lockAll(memoryOf(task), task, args.i32(0)),
  },
  {
    name: 'munlockall',
    signature: '',
    support: 'full',
    handler: (task) => unlockAll(memoryOf(task)),
  },
  {
    name: 'remap_file_pages',
    signature: 'addr:address size:size prot:flags.prot pgoff:ulong flags:flags.map',
    support: 'full',
    handler: (task, args) =>
      remapFilePages(
        memoryOf(task),
        task,
        args.address(0),
        args.size(1),
        args.address(2),
        args.address(3),
        args.u32(4),
      ),
  },
  {
    name: 'pkey_mprotect',
    signature: 'addr:address length:size prot:flags.prot pkey:int',
    support: 'partial',
    note: 'as on a processor without protection keys',
    handler: pkeyMprotect,
  },
  {
    name: 'pkey_alloc',
    signature: 'flags:uint rights:uint',
    support: 'partial',
    note: 'as on a processor without protection keys: ENOSPC',
    handler: pkeyAlloc,
  },
  {
    name: 'pkey_free',
    signature: 'pkey:int',
    support: 'partial',
    note: 'as on a processor without protection keys: EINVAL',
    handler: () => -Errno.EINVAL,
  },
  {
    name: 'mseal',
    signature: 'addr:address length:size flags:hex',
    support: 'full',
    handler: (task, args) => seal(memoryOf(task), args.address(0), args.size(1), args.big(2)),
  },
  {
    name: 'membarrier',
    signature: 'cmd:int flags:uint cpu:int',
    support: 'partial',
    note: 'no barriers for restartable sequences; ENOSYS on platforms without barriers',
    handler: (task, args) => membarrier(memoryOf(task), task, args.i32(0), args.u32(1)),
  },
  {
    name: 'process_vm_readv',
    signature: 'pid:pid local:address liovcnt:ulong remote:address riovcnt:ulong flags:hex -> size',
    support: 'full',
    handler: (task, args) =>
      processVm(
        task,
        'read',
        args.i32(0),
        { address: args.address(1), count: args.size(2) },
        { address: args.address(3), count: args.size(4) },
        args.big(5),
      ),
  },
  {
    name: 'process_vm_writev',
    signature: 'pid:pid local:address liovcnt:ulong remote:address riovcnt:ulong flags:hex -> size',
    support: 'full',
    handler: (task, args) =>
      processVm(
        task,
        'write',
        args.i32(0),
        { address: args.address(1), count: args.size(2) },
        { address: args.address(3), count: args.size(4) },
        args.big(5),
      ),
  },
  {
    name: 'process_madvise',
    signature: 'pidfd:fd iov:address vlen:ulong advice:enum.madvise flags:uint -> size',
    support: 'partial',
    note: "hints about another process's pages are not passed on",
    handler: processMadvise,
  },
  {
    name: 'process_mrelease',
    signature: 'pidfd:fd flags:uint',
    support: 'full',
    handler: processMrelease,
  },
  {
    name: 'mbind',
    signature: 'addr:address length:ulong mode:int nodemask:address maxnode:ulong flags:hex',
    support: 'partial',
    note: 'one node',
    handler: (task, args) =>
      bindRange(
        memoryOf(task),
        task,
        args.address(0),
        args.size(1),
        args.i32(2),
        args.address(3),
        args.size(4),
        args.u32(5),
      ),
  },
  {
    name: 'set_mempolicy',
    signature: 'mode:int nodemask:address maxnode:ulong',
    support: 'partial',
    note: 'one node',
    handler: (task, args) => setTaskPolicy(task, args.i32(0), args.address(1), args.size(2)),
  },
  {
    name: 'get_mempolicy',
    signature: 'mode:out-address nodemask:out-address maxnode:ulong addr:address flags:hex',
    support: 'partial',
    note: 'one node',
    handler: (task, args) =>
      getPolicy(
        memoryOf(task),
        task,
        args.address(0),
        args.address(1),
        args.size(2),
        args.address(3),
        args.u32(4),
      ),
  },
  {
    name: 'set_mempolicy_home_node',
    signature: 'start:address length:ulong home_node:ulong flags:hex',
    support: 'partial',
    note: 'one node',
    handler: (task, args) =>
      setHomeNode(memoryOf(task), args.address(0), args.size(1), args.size(2), args.big(3)),
  },
  {
    name: 'migrate_pages',
    signature: 'pid:pid maxnode:ulong old_nodes:address new_nodes:address',
    support: 'partial',
    note: 'one node',
    handler: (task, args) => migratePages(task, args.i32(0), args.size(1), args.address(2), args.address(3)),
  },
  {
    name: 'move_pages',
    signature: 'pid:pid count:ulong pages:address nodes:address status:out-address flags:hex',
    support: 'partial',
    note: 'one node; all mapped pages count as present',
    handler: (task, args) =>
      movePages(
        task,
        args.i32(0),
        args.size(1),
        args.address(2),
        args.address(3),
        args.address(4),
        args.i32(5),
      ),
  },
];
