// A mount: a file system, or a part of one, seen at a place. Mounts form the tree that a mount namespace shows.
// What may be done with them is mount-namespace.ts; how changes spread between peers is propagation.ts.

import { MountFlag, perMountFlags } from '../abi/mount.ts';
import type { FileSystem } from './contract.ts';
import type { Dentry } from './dentry.ts';
import type { MountNamespace } from './mount-namespace.ts';
import type { Vfs } from './vfs.ts';

/** Mounts of one peer group spread mounts and unmounts on them to one another (mount_namespaces(7)). */
export interface PeerGroup {
  readonly id: number;
  readonly members: Set<Mount>;
  /** Mounts that receive from this group and send nothing back. */
  readonly slaves: Set<Mount>;
}

/** A file system that is mounted at least once: what belongs to all its mounts. */
export interface SuperBlock {
  readonly fileSystem: FileSystem;
  readonly root: Dentry;
  /** MS_RDONLY, MS_SYNCHRONOUS, … as /proc/mounts shows them for the file system. */
  flags: number;
  /** Mounts, in trees or still in use. */
  mounts: number;
}

export class Mount {
  readonly id: number;
  readonly vfs: Vfs;
  readonly superBlock: SuperBlock;
  readonly fileSystem: FileSystem;
  /** The dentry of the file system that is seen at the mount point (a bind mount may show a part). */
  readonly root: Dentry;
  /** MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, …. */
  flags: number;
  parent: Mount | undefined;
  mountPoint: Dentry | undefined;
  /** As /proc/mounts shows it. */
  readonly source: string;
  /** undefined: detached, or the kernel's own (memory files). */
  namespace: MountNamespace | undefined;
  readonly children = new Set<Mount>();
  /** Open files, working directories and roots on it. */
  users = 0;
  shared: PeerGroup | undefined;
  /** The group that it receives from. */
  master: PeerGroup | undefined;
  unbindable = false;
  /** It came from a more privileged namespace: its flags and its place cannot be changed (mount_namespaces(7)). */
  locked = false;
  /** Set by umount2(MNT_EXPIRE): gone at the second call unless it was used in between. */
  expiring = false;
  #released: ((mount: Mount) => void) | undefined;

  constructor(
    vfs: Vfs,
    id: number,
    superBlock: SuperBlock,
    root: Dentry,
    flags: number,
    source: string,
    released: (mount: Mount) => void,
  ) {
    this.vfs = vfs;
    this.id = id;
    this.superBlock = superBlock;
    this.fileSystem = superBlock.fileSystem;
    superBlock.mounts++;
    this.root = root.acquire();
    this.flags = flags;
    this.source = source;
    this.#released = released;
  }

  /** Nothing can be changed through it. */
  get readOnly(): boolean {
    return ((this.flags | this.superBlock.flags) & MountFlag.readOnly) !== 0;
  }

  acquire(): this {
    this.users++;
    this.expiring = false;
    return this;
  }

  release(): void {
    this.users--;
    this.releaseIfUnused();
  }

  /** A mount that is nowhere in a tree and that nobody uses is gone for good. */
  releaseIfUnused(): void {
    if (this.users > 0 || this.parent !== undefined || this.namespace !== undefined) return;
    const released = this.#released;
    this.#released = undefined;
    if (!released) return;
    for (const child of [...this.children]) child.detach();
    this.root.release();
    released(this);
  }

  /** Puts it into the tree. */
  attach(parent: Mount, mountPoint: Dentry): void {
    this.parent = parent;
    this.mountPoint = mountPoint.acquire();
    mountPoint.mounts ??= new Map();
    mountPoint.mounts.set(parent, this);
    parent.children.add(this);
  }

  /** Takes it out of the tree; it lives on for those who use it. */
  detach(): void {
    const { parent, mountPoint } = this;
    if (parent && mountPoint) {
      mountPoint.mounts?.delete(parent);
      if (mountPoint.mounts?.size === 0) mountPoint.mounts = undefined;
      parent.children.delete(this);
      this.parent = undefined;
      this.mountPoint = undefined;
      mountPoint.release();
    }
    this.releaseIfUnused();
  }
}

/** A mount's own flags from those of mount(2): relatime unless something else is asked for. */
export function mountFlags(flags: number): number {
  const own = flags & perMountFlags;
  return flags & (MountFlag.noAccessTime | MountFlag.strictAccessTime)
    ? own & ~MountFlag.relativeAccessTime
    : own | MountFlag.relativeAccessTime;
}
