// pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), kcmp(2).

import { Errno } from '../../abi/errno.ts';
import { SignalCode } from '../../abi/signal.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { SignalInfo, Task } from '../contract.ts';
import { mayAccess } from '../ptrace/access.ts';
import { signalGroup, signalProcess, signalThread } from '../signal/permission.ts';
import { readSiginfo } from '../signal/syscalls.ts';
import { PidFile, PidfdFlag } from '../task/pidfd.ts';
import type { Thread } from '../task/thread.ts';

/** PIDFD_SIGNAL_*. */
const SignalScope = { thread: 1, threadGroup: 2, processGroup: 4 } as const;

const KcmpType = { file: 0, vm: 1, files: 2, fs: 3, sighand: 4, io: 5, sysvsem: 6, epollTarget: 7 } as const;

function pidfdOpen(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const pid = args.i32(0);
  const flags = args.u32(1);
  if (flags & ~(PidfdFlag.nonBlock | PidfdFlag.thread) || pid <= 0) return -Errno.EINVAL;
  const target = thread.process.pidNamespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  // The number is a thread's that leads nothing.
  if (!(flags & PidfdFlag.thread) && !target.leader) return -Errno.ENOENT;
  const file = new PidFile(target, flags);
  const fd = thread.files.install(thread, file, true);
  if (fd < 0) file.unreference();
  return fd;
}

/** Both the kernel's own information and what the program gives, checked as for rt_sigqueueinfo(2). */
function informationFor(thread: Thread, file: PidFile, args: Arguments): SignalInfo | number {
  const signal = args.i32(1);
  const address = args.address(2);
  if (address === 0)
    return { signal, code: SignalCode.SI_USER, sender: thread.process, uid: thread.credentials.uid };
  const info = readSiginfo(thread, address, signal);
  if (typeof info === 'number') return info;
  const claimed = thread.memory.readU32(address);
  if (claimed !== signal >>> 0) return -Errno.EINVAL;
  if ((info.code >= 0 || info.code === SignalCode.SI_TKILL) && file.process !== thread.process)
    return -Errno.EPERM;
  return info;
}

function pidfdSendSignal(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const scope = args.u32(3);
  const scopes = SignalScope.thread | SignalScope.threadGroup | SignalScope.processGroup;
  if (scope & ~scopes || (scope & (scope - 1)) !== 0) return -Errno.EINVAL;
  const file = thread.files.get(args.i32(0));
  if (!(file instanceof PidFile)) return -Errno.EBADF;
  if (!file.process.pidNamespace.within(thread.process.pidNamespace)) return -Errno.EINVAL;
  const info = informationFor(thread, file, args);
  if (typeof info === 'number') return info;
  if (file.reaped) return -Errno.ESRCH;
  if (scope === SignalScope.processGroup) {
    const { group } = file.process;
    return signalGroup(thread, group, info);
  }
  if (scope === SignalScope.thread || (scope === 0 && file.single))
    return signalThread(thread, file.thread, info);
  return signalProcess(thread, file.process, info);
}

function pidfdGetfd(task: Task, args: Arguments): number {
  const thread = task as Thread;
  if (args.u32(2) !== 0) return -Errno.EINVAL;
  const file = thread.files.get(args.i32(0));
  if (!(file instanceof PidFile)) return -Errno.EBADF;
  if (file.reaped) return -Errno.ESRCH;
  const target = file.single ? file.thread : file.process.leader;
  if (mayAccess(thread, target) < 0) return -Errno.EPERM;
  if (target.dead) return -Errno.ESRCH;
  const wanted = target.files.get(args.i32(1));
  if (!wanted) return -Errno.EBADF;
  const fd = thread.files.install(thread, wanted.acquire(), true);
  if (fd < 0) wanted.unreference();
  return fd;
}

/** An order among objects that gives nothing away: numbers are handed out when an object is first compared. */
class ComparisonOrder {
  readonly #numbers = new WeakMap<object, number>();
  #next = 1;

  #number(object: object | undefined): number {
    if (!object) return 0;
    const known = this.#numbers.get(object);
    if (known !== undefined) return known;
    this.#numbers.set(object, this.#next);
    return this.#next++;
  }

  /** 0 equal, 1 less, 2 greater. */
  compare(a: object | undefined, b: object | undefined): number {
    if (a === b) return 0;
    return this.#number(a) < this.#number(b) ? 1 : 2;
  }
}

function kcmp(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const { pidNamespace } = thread.process;
  const first = pidNamespace.findTask(args.i32(0));
  const second = pidNamespace.findTask(args.i32(1));
  if (!first || !second) return -Errno.ESRCH;
  if (mayAccess(thread, first) < 0 || mayAccess(thread, second) < 0) return -Errno.EPERM;
  const order = thread.kernel.part(ComparisonOrder);
  switch (args.i32(2)) {
    case KcmpType.file: {
      const a = first.dead ? undefined : first.files.get(args.u32(3));
      const b = second.dead ? undefined : second.files.get(args.u32(4));
      return a && b ? order.compare(a, b) : -Errno.EBADF;
    }
    case KcmpType.vm:
      return order.compare(first.mm, second.mm);
    case KcmpType.files:
      return order.compare(first.files, second.files);
    case KcmpType.fs:
      return order.compare(first.fs, second.fs);
    case KcmpType.sighand:
      return order.compare(first.process.signals.handlers, second.process.signals.handlers);
    case KcmpType.io: {
      // An I/O context comes into being with a priority of one's own.
      const context = (of: Thread): object | undefined =>
        of.scheduling.ioPriority ? of.scheduling : undefined;
      return order.compare(context(first), context(second));
    }
    case KcmpType.sysvsem:
      return order.compare(first.semaphoreUndo, second.semaphoreUndo);
    case KcmpType.epollTarget:
      return -Errno.EOPNOTSUPP;
    default:
      return -Errno.EINVAL;
  }
}

export const pidfdSyscalls: readonly Syscall[] = [
  { name: 'pidfd_open', signature: 'pid:pid flags:hex -> fd', support: 'full', handler: pidfdOpen },
  {
    name: 'pidfd_send_signal',
    signature: 'fd:fd signal:signal info:address flags:hex',
    support: 'full',
    handler: pidfdSendSignal,
  },
  {
    name: 'pidfd_getfd',
    signature: 'pidfd:fd fd:int flags:hex -> fd',
    support: 'full',
    handler: pidfdGetfd,
  },
  {
    name: 'kcmp',
    signature: 'pid1:pid pid2:pid type:int index1:hex index2:hex',
    support: 'partial',
    note: 'KCMP_EPOLL_TFD fails with EOPNOTSUPP',
    handler: kcmp,
  },
];
