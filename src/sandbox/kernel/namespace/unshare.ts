// Making and entering namespaces: what clone, unshare and setns share (kernel/nsproxy.c's rules).

import { Capability } from '../../abi/capability.ts';
import { Clone } from '../../abi/clone.ts';
import { Errno } from '../../abi/errno.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import type { FsContext, MountNamespace } from '../../vfs/contract.ts';
import { credentialsForNewNamespace, enterUserNamespace } from '../credentials/transitions.ts';
import type { MappedUserNamespace } from '../credentials/user-namespace.ts';
import type { IpcNamespace } from '../ipc/ipc-namespace.ts';
import type { Thread } from '../task/thread.ts';
import { CgroupNamespace } from './cgroup.ts';
import type { NamespaceFile } from './nsfs.ts';
import type { NamedUtsNamespace } from './uts.ts';

/** A task's share in namespaces (struct nsproxy), each counted. */
export interface Namespaces {
  readonly uts: NamedUtsNamespace;
  readonly ipc: IpcNamespace;
  readonly mounts: MountNamespace;
  readonly network: NetworkNamespace;
  readonly cgroup: CgroupNamespace;
}

const is = (flags: number, bit: number): boolean => (flags & bit) !== 0;

/** Gives up what makeNamespaces gave. */
export function releaseNamespaces(thread: Thread, namespaces: Namespaces): void {
  const { namespaceUsers } = thread.kernel;
  namespaces.ipc.release();
  for (const namespace of [namespaces.uts, namespaces.mounts, namespaces.network, namespaces.cgroup])
    namespaceUsers.drop(namespace);
}

/**
 * The namespaces of `thread`, or new ones where CLONE_NEW* says so, owned by `owner`; `fs` moves with the mounts. A
 * negative errno leaves nothing behind.
 */
export function makeNamespaces(
  thread: Thread,
  flags: number,
  owner: MappedUserNamespace,
  fs: FsContext,
): Namespaces | number {
  const { kernel } = thread;
  const { parts, namespaceUsers } = kernel;
  // Linux without CONFIG_TIME_NS.
  if (is(flags, Clone.newTime)) return -Errno.EINVAL;
  const network = is(flags, Clone.newNet) ? parts.network(owner) : thread.network;
  if (typeof network === 'number') return network;
  const mounts = is(flags, Clone.newNs) ? parts.copyMounts(thread.mounts, fs, owner) : thread.mounts;
  if (typeof mounts === 'number') {
    if (network !== thread.network) namespaceUsers.drop(namespaceUsers.hold(network));
    return mounts;
  }
  return {
    uts: namespaceUsers.hold(is(flags, Clone.newUts) ? thread.uts.copy(owner) : thread.uts),
    ipc: is(flags, Clone.newIpc) ? parts.ipc(owner) : thread.ipc.acquire(),
    mounts: namespaceUsers.hold(mounts),
    network: namespaceUsers.hold(network),
    cgroup: namespaceUsers.hold(is(flags, Clone.newCgroup) ? new CgroupNamespace(owner) : thread.cgroup),
  };
}

const unshareFlags =
  Clone.thread |
  Clone.fs |
  Clone.newNs |
  Clone.sighand |
  Clone.vm |
  Clone.files |
  Clone.sysvsem |
  Clone.newUts |
  Clone.newIpc |
  Clone.newNet |
  Clone.newUser |
  Clone.newPid |
  Clone.newCgroup |
  Clone.newTime;

const proxied =
  Clone.newNs | Clone.newUts | Clone.newIpc | Clone.newNet | Clone.newPid | Clone.newCgroup | Clone.newTime;

/** Another process has the same dispositions (CLONE_SIGHAND without CLONE_THREAD). */
function sharesHandlers(thread: Thread): boolean {
  const { process, kernel } = thread;
  for (const [, other] of kernel.rootPidNamespace.processes())
    if (other !== process && !other.dead && other.signals.handlers === process.signals.handlers) return true;
  return false;
}

/** unshare(2). */
export function unshare(thread: Thread, asked: number): number {
  let flags = asked;
  if (is(flags, Clone.newUser)) flags |= Clone.thread | Clone.fs;
  if (is(flags, Clone.vm)) flags |= Clone.sighand;
  if (is(flags, Clone.sighand)) flags |= Clone.thread;
  if (is(flags, Clone.newNs)) flags |= Clone.fs;
  if (flags & ~unshareFlags) return -Errno.EINVAL;
  if (is(flags, Clone.thread | Clone.sighand | Clone.vm) && thread.process.tasks.length > 1)
    return -Errno.EINVAL;
  if (is(flags, Clone.sighand | Clone.vm) && sharesHandlers(thread)) return -Errno.EINVAL;
  if (is(flags, Clone.vm) && thread.mm.users > 1) return -Errno.EINVAL;
  let { credentials } = thread;
  if (is(flags, Clone.newUser)) {
    const made = credentialsForNewNamespace(credentials);
    if (typeof made === 'number') return made;
    credentials = made;
  }
  if (is(flags, proxied) && !credentials.hasIn(credentials.userNamespace, Capability.sysAdmin))
    return -Errno.EPERM;
  let { pidNamespaceForChildren } = thread;
  if (is(flags, Clone.newPid)) {
    if (pidNamespaceForChildren !== thread.process.pidNamespace) return -Errno.EINVAL;
    const made = pidNamespaceForChildren.child(credentials.userNamespace);
    if (typeof made === 'number') return made;
    pidNamespaceForChildren = made;
  }
  const fs = is(flags, Clone.fs) ? thread.fs.fork() : undefined;
  if (is(flags, proxied)) {
    const made = makeNamespaces(thread, flags, credentials.userNamespace, fs ?? thread.fs);
    if (typeof made === 'number') {
      fs?.release();
      return made;
    }
    thread.replaceNamespaces(made);
  }
  if (fs) {
    thread.fs.release();
    thread.fs = fs;
  }
  // A semaphore adjustment cannot follow into another namespace (exit_sem).
  if (is(flags, Clone.sysvsem | Clone.newIpc)) thread.dropSemaphoreUndo();
  if (is(flags, Clone.files) && thread.files.users > 1) {
    const files = thread.files.fork();
    thread.files.release(thread);
    thread.files = files;
  }
  thread.pidNamespaceForChildren = pidNamespaceForChildren;
  if (credentials !== thread.credentials) thread.setCredentials(credentials);
  return 0;
}

/** setns(2) with a file of /proc/pid/ns. */
export function enterNamespace(thread: Thread, file: NamespaceFile): number {
  const { credentials, kernel } = thread;
  const own = credentials.userNamespace;
  const { entry } = file;
  if (entry.kind === 'user') {
    if (entry.namespace === own) return -Errno.EINVAL;
    if (thread.process.tasks.length > 1 || thread.fs.users > 1) return -Errno.EINVAL;
    if (!credentials.hasIn(entry.namespace, Capability.sysAdmin)) return -Errno.EPERM;
    thread.setCredentials(enterUserNamespace(credentials, entry.namespace));
    return 0;
  }
  if (!credentials.hasIn(file.owningNamespace, Capability.sysAdmin)) return -Errno.EPERM;
  if (!credentials.hasIn(own, Capability.sysAdmin)) return -Errno.EPERM;
  if (entry.kind === 'pid' || entry.kind === 'pid_for_children') {
    if (!entry.namespace.within(thread.process.pidNamespace)) return -Errno.EINVAL;
    thread.pidNamespaceForChildren = entry.namespace;
    return 0;
  }
  const namespaces = {
    uts: thread.uts,
    mounts: thread.mounts,
    network: thread.network,
    cgroup: thread.cgroup,
  };
  if (entry.kind === 'mnt') {
    if (!credentials.hasIn(own, Capability.sysChroot)) return -Errno.EPERM;
    if (thread.fs.users > 1) return -Errno.EINVAL;
    namespaces.mounts = entry.namespace;
    thread.fs.setRoot(entry.namespace.root);
    thread.fs.setCwd(entry.namespace.root);
  } else if (entry.kind === 'uts') namespaces.uts = entry.namespace;
  else if (entry.kind === 'net') namespaces.network = entry.namespace;
  else if (entry.kind === 'cgroup') namespaces.cgroup = entry.namespace;
  const users = kernel.namespaceUsers;
  for (const namespace of Object.values(namespaces)) users.hold(namespace);
  if (entry.kind === 'ipc' && entry.namespace !== thread.ipc) thread.dropSemaphoreUndo();
  const ipc = entry.kind === 'ipc' ? entry.namespace : thread.ipc;
  thread.replaceNamespaces({ ...namespaces, ipc: ipc.acquire() });
  return 0;
}
