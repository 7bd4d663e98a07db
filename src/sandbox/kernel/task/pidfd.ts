// Pidfds (pidfd_open(2)): a descriptor for a process, or with PIDFD_THREAD for a thread, that stays its own when the
// number is used again. Readable once it has ended, hung up once it has been reaped.

import { Clone } from '../../abi/clone.ts';
import { Errno } from '../../abi/errno.ts';
import type { Stat } from '../../vfs/contract.ts';
import { FileDescription } from '../../vfs/file-description.ts';
import type { Credentials, Task } from '../contract.ts';
import { NamespaceFile, type NamespaceKind, namespaceOf } from '../namespace/nsfs.ts';
import { mayAccess } from '../ptrace/access.ts';
import { Poll, type WaitQueue } from '../wait-queue.ts';
import type { PidTable } from './pid.ts';
import type { Thread } from './thread.ts';
import type { ThreadGroup } from './thread-group.ts';

/** pidfd_open's flags: O_NONBLOCK and O_EXCL. */
export const PidfdFlag = { nonBlock: 0o4000, thread: 0o200 } as const;

const readWrite = 2;
/** _IO(0xff, n), each opens a namespace of the task. */
const firstNamespaceIoctl = 0xff01;
const namespaceIoctls: readonly (NamespaceKind | undefined)[] = [
  'cgroup',
  'ipc',
  'mnt',
  'net',
  'pid',
  'pid_for_children',
  undefined,
  undefined,
  'user',
  'uts',
];

/** Inode numbers of pidfds, one for each identity: kernel.part(PidfdNumbers). */
class PidfdNumbers {
  readonly device: number;
  readonly #numbers = new WeakMap<object, number>();
  #next = 1;

  constructor(kernel: { anonymousDevice(): number }) {
    this.device = kernel.anonymousDevice();
  }

  of(identity: object): number {
    const known = this.#numbers.get(identity);
    if (known !== undefined) return known;
    const number = this.#next++;
    this.#numbers.set(identity, number);
    return number;
  }
}

export class PidFile extends FileDescription {
  readonly thread: Thread;
  readonly process: ThreadGroup;
  /** PIDFD_THREAD: it stands for the thread alone. */
  readonly single: boolean;

  constructor(thread: Thread, flags: number) {
    super(readWrite | (flags & PidfdFlag.nonBlock), undefined);
    this.single = (flags & PidfdFlag.thread) !== 0;
    this.process = thread.process;
    this.thread = thread;
  }

  /** Ended and reaped. */
  get reaped(): boolean {
    return this.single && !this.thread.leader ? this.thread.id.thread !== this.thread : this.process.reaped;
  }

  get ended(): boolean {
    return this.single ? this.thread.dead : this.process.dead;
  }

  /** Number as seen from a namespace: 0 if not visible, -1 if it is reaped (fdinfo). */
  numberIn(namespace: PidTable): number {
    if (this.reaped) return -1;
    return (this.single ? this.thread.id : this.process.id).in(namespace);
  }

  override information(): string {
    const { namespace, numbers } = this.single ? this.thread.id : this.process.id;
    if (this.reaped) return 'Pid:\t-1\nNSpid:\t-1\n';
    return `Pid:\t${numbers[namespace.level] ?? 0}\nNSpid:\t${numbers[namespace.level] ?? 0}\n`;
  }

  override describe(): string {
    return 'anon_inode:[pidfd]';
  }

  override readiness(events: number): number {
    let ready = 0;
    if (this.ended) ready |= events & (Poll.in | Poll.rdnorm);
    if (this.reaped) ready |= Poll.hup;
    return ready;
  }

  override get queue(): WaitQueue {
    return this.process.exited;
  }

  override stat(): Stat {
    const numbers = this.process.kernel.part(PidfdNumbers);
    const time = { sec: 0, nsec: 0 };
    return {
      dev: numbers.device,
      ino: numbers.of(this.single ? this.thread : this.process),
      mode: 0o700,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: 0,
      blksize: 4096,
      blocks: 0,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }

  override ioctl(task: Task, command: number, argument: number): number {
    const kind = command >= firstNamespaceIoctl ? namespaceIoctls[command - firstNamespaceIoctl] : undefined;
    if (!kind) return command > firstNamespaceIoctl && command <= 0xff0a ? -Errno.EOPNOTSUPP : -Errno.ENOTTY;
    if (argument !== 0) return -Errno.EINVAL;
    if (this.reaped) return -Errno.ESRCH;
    if (mayAccess(task as Thread, this.thread) < 0) return -Errno.EACCES;
    const entry = namespaceOf(this.thread, kind);
    if (!entry) return -Errno.ESRCH;
    const file = new NamespaceFile(this.process.kernel, entry);
    const fd = task.files.install(task, file, true);
    if (fd < 0) file.unreference();
    return fd;
  }
}

export function makePidFile(thread: Thread, flags: number): PidFile {
  return new PidFile(thread, flags);
}

/** CLONE_NEW* bits by kind for setns with a pidfd, in the order in which they are entered (user first). */
export const enterOrder: readonly (readonly [flag: number, kind: NamespaceKind])[] = [
  [Clone.newUser, 'user'],
  [Clone.newNs, 'mnt'],
  [Clone.newUts, 'uts'],
  [Clone.newIpc, 'ipc'],
  [Clone.newPid, 'pid'],
  [Clone.newCgroup, 'cgroup'],
  [Clone.newNet, 'net'],
];

/** Whether the sender's ids allow a signal (kill_ok_by_cred), without the rules of sessions and capabilities. */
export function sameUser(sender: Credentials, target: Credentials): boolean {
  return (
    sender.euid === target.suid ||
    sender.euid === target.uid ||
    sender.uid === target.suid ||
    sender.uid === target.uid
  );
}
