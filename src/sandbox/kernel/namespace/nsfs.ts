// Files under /proc/pid/ns (namespaces(7), ioctl_ns(2)): an open one keeps its namespace alive and can be given to
// setns(2). Inode numbers identify namespaces: equal numbers, the same namespace.

import { Clone } from '../../abi/clone.ts';
import { Errno } from '../../abi/errno.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import type { MountNamespace, Stat } from '../../vfs/contract.ts';
import { FileDescription } from '../../vfs/file-description.ts';
import type { Task, UserNamespace } from '../contract.ts';
import type { MappedUserNamespace } from '../credentials/user-namespace.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import type { SandboxKernel } from '../kernel.ts';
import type { PidTable } from '../task/pid.ts';
import type { Thread } from '../task/thread.ts';
import type { CgroupNamespace } from './cgroup.ts';
import type { NamedUtsNamespace } from './uts.ts';

/** A namespace of a kind; the kind is its name in /proc/pid/ns. */
export type NamespaceEntry =
  | { readonly kind: 'user'; readonly namespace: MappedUserNamespace }
  | { readonly kind: 'pid' | 'pid_for_children'; readonly namespace: PidTable }
  | { readonly kind: 'uts'; readonly namespace: NamedUtsNamespace }
  | { readonly kind: 'ipc'; readonly namespace: IpcNamespace }
  | { readonly kind: 'mnt'; readonly namespace: MountNamespace }
  | { readonly kind: 'net'; readonly namespace: NetworkNamespace }
  | { readonly kind: 'cgroup'; readonly namespace: CgroupNamespace };

export type NamespaceKind = NamespaceEntry['kind'];

/** Names in /proc/pid/ns, as readdir shows them. */
export const namespaceKinds: readonly NamespaceKind[] = [
  'cgroup',
  'ipc',
  'mnt',
  'net',
  'pid',
  'pid_for_children',
  'user',
  'uts',
];

const cloneFlag: Readonly<Record<NamespaceKind, number>> = {
  user: Clone.newUser,
  pid: Clone.newPid,
  pid_for_children: Clone.newPid,
  uts: Clone.newUts,
  ipc: Clone.newIpc,
  mnt: Clone.newNs,
  net: Clone.newNet,
  cgroup: Clone.newCgroup,
};

const NsIoctl = { userNamespace: 0xb701, parent: 0xb702, type: 0xb703, ownerUid: 0xb704 } as const;
/** PROC_USER_INIT_INO and the like lie around this number; later ones count up. */
const firstInode = 4_026_531_834;

/** Numbers of namespaces, one set for each kernel: kernel.part(NamespaceNumbers). */
export class NamespaceNumbers {
  readonly #numbers = new WeakMap<object, number>();
  #next = firstInode;
  readonly device: number;

  constructor(kernel: { anonymousDevice(): number }) {
    this.device = kernel.anonymousDevice();
  }

  of(namespace: object): number {
    let number = this.#numbers.get(namespace);
    if (number === undefined) {
      number = this.#next++;
      this.#numbers.set(namespace, number);
    }
    return number;
  }
}

/** The namespace of this kind that a task is in; undefined once it has ended (all but its user namespace). */
export function namespaceOf(thread: Thread, kind: NamespaceKind): NamespaceEntry | undefined {
  if (kind === 'user') return { kind, namespace: thread.credentials.userNamespace };
  if (kind === 'pid') return { kind, namespace: thread.process.pidNamespace };
  if (thread.exiting) return undefined;
  switch (kind) {
    case 'pid_for_children':
      return { kind, namespace: thread.pidNamespaceForChildren };
    case 'uts':
      return { kind, namespace: thread.uts };
    case 'ipc':
      return { kind, namespace: thread.ipc };
    case 'mnt':
      return { kind, namespace: thread.mounts };
    case 'net':
      return { kind, namespace: thread.network };
    case 'cgroup':
      return { kind, namespace: thread.cgroup };
  }
}

/** What readlink shows: "uts:[4026531838]". */
export function namespaceText(kernel: SandboxKernel, entry: NamespaceEntry): string {
  const name = entry.kind === 'pid_for_children' ? 'pid' : entry.kind;
  return `${name}:[${kernel.part(NamespaceNumbers).of(entry.namespace)}]`;
}

/** An open namespace, as open(2) of /proc/pid/ns/<kind> gives it. */
export class NamespaceFile extends FileDescription {
  readonly entry: NamespaceEntry;
  readonly #kernel: SandboxKernel;

  constructor(kernel: SandboxKernel, entry: NamespaceEntry) {
    super(0, undefined);
    this.entry = entry;
    this.#kernel = kernel;
    if (entry.kind === 'ipc') entry.namespace.acquire();
    else kernel.namespaceUsers.hold(entry.namespace);
  }

  protected override release(): void {
    if (this.entry.kind === 'ipc') this.entry.namespace.release();
    else this.#kernel.namespaceUsers.drop(this.entry.namespace);
  }

  /** CLONE_NEW* of its kind. */
  get type(): number {
    return cloneFlag[this.entry.kind];
  }

  /** The user namespace that owns it; of a user namespace: itself. */
  get owningNamespace(): UserNamespace {
    return this.entry.kind === 'user' ? this.entry.namespace : this.entry.namespace.userNamespace;
  }

  override describe(): string {
    return namespaceText(this.#kernel, this.entry);
  }

  override stat(): Stat {
    const numbers = this.#kernel.part(NamespaceNumbers);
    const time = { sec: 0, nsec: 0 };
    return {
      dev: numbers.device,
      ino: numbers.of(this.entry.namespace),
      mode: 0o100444,
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
    switch (command) {
      case NsIoctl.userNamespace:
        return this.#openParent(task, this.#owningUserNamespace());
      case NsIoctl.parent:
        return this.#parent(task);
      case NsIoctl.type:
        return this.type;
      case NsIoctl.ownerUid: {
        if (this.entry.kind !== 'user') return -Errno.EINVAL;
        const uid = task.credentials.userNamespace.fromKernelUid(this.entry.namespace.owner);
        return task.memory.writeU32(argument, uid < 0 ? 65_534 : uid);
      }
      default:
        return -Errno.ENOTTY;
    }
  }

  #owningUserNamespace(): MappedUserNamespace | undefined {
    if (this.entry.kind === 'user') return this.entry.namespace.parent;
    return this.entry.namespace.userNamespace as MappedUserNamespace;
  }

  /** Only what lies inside of the caller's own user namespace is shown. */
  #openParent(task: Task, namespace: MappedUserNamespace | undefined): number {
    const own = task.credentials.userNamespace;
    if (!namespace?.within(own)) return -Errno.EPERM;
    const file = new NamespaceFile(this.#kernel, { kind: 'user', namespace });
    return this.#install(task, file);
  }

  #install(task: Task, file: NamespaceFile): number {
    const fd = task.files.install(task, file, true);
    if (fd < 0) file.unreference();
    return fd;
  }

  #parent(task: Task): number {
    const { entry } = this;
    if (entry.kind === 'user') return this.#openParent(task, entry.namespace.parent);
    if (entry.kind !== 'pid' && entry.kind !== 'pid_for_children') return -Errno.EINVAL;
    const namespace = entry.namespace.parent;
    if (!namespace || !entry.namespace.within(task.process.pidNamespace)) return -Errno.EPERM;
    if (!namespace.within(task.process.pidNamespace)) return -Errno.EPERM;
    return this.#install(task, new NamespaceFile(this.#kernel, { kind: 'pid', namespace }));
  }
}

/** Opens /proc/pid/ns/<kind>; -ENOENT for a task that has ended. Whether the opener may is the caller's question. */
export function openNamespace(thread: Thread, kind: NamespaceKind): NamespaceFile | number {
  const entry = namespaceOf(thread, kind);
  return entry ? new NamespaceFile(thread.kernel, entry) : -Errno.ENOENT;
}
