// A mount namespace: one tree of mounts and what may be done with it (mount(2), umount2(2), pivot_root(2)). The callers
// have checked capabilities and looked up the paths; everything about the tree itself is checked here.

import { Errno } from '../abi/errno.ts';
import { MountFlag, Unmount } from '../abi/mount.ts';
import type { UserNamespace } from '../kernel/contract.ts';
import type { FileSystem, Path } from './contract.ts';
import type { Dentry } from './dentry.ts';
import { type Mount, mountFlags, type PeerGroup } from './mount.ts';
import { type PropagationType, propagatedMounts, propagationTargets } from './propagation.ts';
import type { Vfs } from './vfs.ts';

/** sysctl fs.mount-max. */
const mountMaximum = 100_000;

const lockableFlags =
  MountFlag.readOnly | MountFlag.noSuid | MountFlag.noDevices | MountFlag.noExec | MountFlag.noAccessTime;

export class MountNamespace {
  readonly vfs: Vfs;
  readonly userNamespace: UserNamespace;
  /** As /proc/self/ns/mnt and nsfs show it. */
  readonly ino: number;
  readonly #mounts = new Set<Mount>();
  #root: Mount;
  /** Changed with every change of the tree: /proc/mounts tells its pollers. */
  generation = 0;
  readonly #watchers = new Set<() => void>();

  constructor(vfs: Vfs, userNamespace: UserNamespace, root: Mount) {
    this.vfs = vfs;
    this.userNamespace = userNamespace;
    this.ino = vfs.nextNamespaceIno();
    this.#root = root;
    this.#adopt(root);
  }

  /** The place that a task sees as "/" when it enters the namespace: what is on top of the root mount. */
  get root(): Path {
    let mount = this.#root;
    for (;;) {
      const over = mount.root.mounts?.get(mount);
      if (!over) return { mount, dentry: mount.root };
      mount = over;
    }
  }

  get rootMount(): Mount {
    return this.#root;
  }

  /** In mount order. */
  mounts(): readonly Mount[] {
    return [...this.#mounts];
  }

  contains(mount: Mount): boolean {
    return mount.namespace === this;
  }

  /** Calls it after each change; gives the function that ends it. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  #changed(): void {
    this.generation++;
    for (const watcher of this.#watchers) watcher();
  }

  #adopt(tree: Mount): void {
    tree.namespace = this;
    this.#mounts.add(tree);
    for (const child of tree.children) this.#adopt(child);
  }

  /** A copy of a mount, and of what is mounted below `dentry`. Unbindable mounts below are left out. */
  copyTree(from: Mount, dentry: Dentry, recursive: boolean, place: 'copy' | 'slave'): Mount {
    const { vfs } = this;
    const copy = vfs.newMount(from.superBlock, dentry, from.flags, from.source);
    copy.locked = from.locked;
    if (place === 'copy') vfs.peerGroups.copy(from, copy);
    else vfs.peerGroups.copyAsSlave(from, copy);
    if (!recursive) return copy;
    for (const child of from.children) {
      const { mountPoint } = child;
      if (!mountPoint?.isUnder(dentry) || child.unbindable) continue;
      this.copyTree(child, child.root, true, place).attach(copy, mountPoint);
    }
    return copy;
  }

  #countTree(mount: Mount): number {
    let count = 1;
    for (const child of mount.children) count += this.#countTree(child);
    return count;
  }

  /** Puts a mount (with what is below it) at a place and wherever that spreads to. 0 or a negative errno. */
  attach(tree: Mount, at: Path): number {
    const { mount: parent, dentry } = at;
    if (parent.namespace !== this) return -Errno.EINVAL;
    if (dentry.unhashed && !dentry.isRoot) return -Errno.ENOENT;
    if (tree.root.inode?.isDirectory !== dentry.inode?.isDirectory) return -Errno.ENOTDIR;
    const targets = propagationTargets(parent).filter((target) => dentry.isUnder(target.mount.root));
    if (this.#mounts.size + this.#countTree(tree) * (targets.length + 1) > mountMaximum) return -Errno.ENOSPC;
    if (parent.shared) this.#shareTree(tree);
    // Copies of a slave group are peers of one another, and slaves of the copy in the group they receive from.
    const copies = new Map<PeerGroup, Mount>();
    if (parent.shared) copies.set(parent.shared, tree);
    for (const target of targets) {
      const sibling = target.group && copies.get(target.group);
      const master = target.from && copies.get(target.from);
      const source = sibling ?? master ?? tree;
      const copy = this.copyTree(source, source.root, true, sibling ? 'copy' : 'slave');
      if (!sibling && target.group) {
        this.#shareTree(copy);
        copies.set(target.group, copy);
      }
      copy.attach(target.mount, dentry);
      target.mount.namespace?.adoptPropagated(copy);
    }
    tree.attach(parent, dentry);
    this.#adopt(tree);
    this.#changed();
    return 0;
  }

  /** A mount on another namespace's tree spread to this one. */
  adoptPropagated(tree: Mount): void {
    this.#adopt(tree);
    this.#changed();
  }

  #shareTree(tree: Mount): void {
    this.vfs.peerGroups.change(tree, 'shared');
    for (const child of tree.children) this.#shareTree(child);
  }

  /** A new file system at a place: do_new_mount. */
  mount(fileSystem: FileSystem, at: Path, flags: number, source: string): Mount | number {
    const { mount: parent, dentry } = at;
    // The same file system twice in a row at the same place (do_add_mount).
    if (parent.superBlock.fileSystem === fileSystem && parent.root === dentry) return -Errno.EBUSY;
    if (fileSystem.root.isSymlink) return -Errno.EINVAL;
    const superBlock = this.vfs.superBlock(fileSystem, flags);
    const tree = this.vfs.newMount(superBlock, superBlock.root, mountFlags(flags), source);
    const result = this.attach(tree, at);
    if (result < 0) {
      tree.releaseIfUnused();
      return result;
    }
    return tree;
  }

  /** MS_BIND, with MS_REC: recursive. */
  bind(from: Path, at: Path, recursive: boolean): number {
    if (from.mount.unbindable) return -Errno.EINVAL;
    if (from.mount.namespace !== this && from.mount.namespace !== undefined) return -Errno.EINVAL;
    if (from.mount.namespace === undefined && from.mount.parent !== undefined) return -Errno.EINVAL;
    if (!recursive && this.#hasLockedChildren(from)) return -Errno.EINVAL;
    const tree = this.copyTree(from.mount, from.dentry, recursive, 'copy');
    tree.locked = false;
    const result = this.attach(tree, at);
    if (result < 0) this.#discard(tree);
    return result;
  }

  #hasLockedChildren(path: Path): boolean {
    for (const child of path.mount.children)
      if (child.locked && child.mountPoint?.isUnder(path.dentry)) return true;
    return false;
  }

  /** A tree that could not be attached. */
  #discard(tree: Mount): void {
    for (const child of [...tree.children]) this.#discard(child);
    this.vfs.peerGroups.leave(tree);
    this.vfs.peerGroups.leaveMaster(tree);
    tree.namespace = undefined;
    tree.detach();
  }

  /** MS_MOVE: do_move_mount. */
  move(from: Path, at: Path): number {
    const { mount } = from;
    if (mount.namespace !== this || at.mount.namespace !== this) return -Errno.EINVAL;
    if (from.dentry !== mount.root || !mount.parent || mount.locked) return -Errno.EINVAL;
    if (mount.root.inode?.isDirectory !== at.dentry.inode?.isDirectory) return -Errno.EINVAL;
    if (mount.parent.shared) return -Errno.EINVAL;
    if (at.mount.shared && this.#hasUnbindable(mount)) return -Errno.EINVAL;
    for (let above: Mount | undefined = at.mount; above; above = above.parent)
      if (above === mount) return -Errno.ELOOP;
    if (at.dentry.unhashed && !at.dentry.isRoot) return -Errno.ENOENT;
    const { parent, mountPoint } = mount;
    mount.detach();
    const result = this.attach(mount, at);
    if (result < 0 && mountPoint) mount.attach(parent, mountPoint);
    return result;
  }

  #hasUnbindable(mount: Mount): boolean {
    if (mount.unbindable) return true;
    for (const child of mount.children) if (this.#hasUnbindable(child)) return true;
    return false;
  }

  /** MS_REMOUNT | MS_BIND: the mount's own flags. */
  remount(path: Path, flags: number): number {
    const { mount } = path;
    if (mount.namespace !== this || path.dentry !== mount.root) return -Errno.EINVAL;
    if (mount.locked && mount.flags & lockableFlags & ~flags) return -Errno.EPERM;
    mount.flags = mountFlags(flags);
    this.#changed();
    return 0;
  }

  /** MS_REMOUNT: the file system's flags and options, and the mount's flags. The options are the caller's work. */
  reconfigure(path: Path, flags: number): number {
    const result = this.remount(path, flags);
    if (result === 0) path.mount.superBlock.flags = this.vfs.superFlags(flags);
    return result;
  }

  changePropagation(path: Path, type: PropagationType, recursive: boolean): number {
    if (path.dentry !== path.mount.root || path.mount.namespace !== this) return -Errno.EINVAL;
    const change = (mount: Mount) => {
      this.vfs.peerGroups.change(mount, type);
      if (recursive) for (const child of mount.children) change(child);
    };
    change(path.mount);
    this.#changed();
    return 0;
  }

  /** umount2(2): flags MNT_*. `root`: the caller's root, which may not go. */
  unmount(path: Path, flags: number, root: Path): number {
    const { mount } = path;
    if (path.dentry !== mount.root) return -Errno.EINVAL;
    if (mount.namespace !== this || mount.locked) return -Errno.EINVAL;
    if (flags & Unmount.expire) {
      if (flags & (Unmount.force | Unmount.detach) || mount === root.mount) return -Errno.EINVAL;
      if (this.#busy(mount)) return -Errno.EBUSY;
      if (!mount.expiring) {
        mount.expiring = true;
        return -Errno.EAGAIN;
      }
    }
    if (mount === root.mount && mount.parent === undefined && !(flags & Unmount.detach)) {
      // "Unmounting" the root makes it read-only.
      mount.superBlock.flags |= MountFlag.readOnly;
      return 0;
    }
    if (mount.parent === undefined) return -Errno.EINVAL;
    if (!(flags & Unmount.detach) && this.#busy(mount)) return -Errno.EBUSY;
    this.#takeDown(mount);
    return 0;
  }

  #busy(mount: Mount): boolean {
    if (mount.users > 0 || mount.children.size > 0) return true;
    const { parent, mountPoint } = mount;
    if (!parent || !mountPoint) return false;
    return propagatedMounts(parent, mountPoint).some((other) => other.children.size === 0 && other.users > 0);
  }

  #takeDown(mount: Mount): void {
    const { parent, mountPoint } = mount;
    const others =
      parent && mountPoint
        ? propagatedMounts(parent, mountPoint).filter((other) => other.children.size === 0 && !other.locked)
        : [];
    this.#removeTree(mount);
    for (const other of others) if (other !== mount) other.namespace?.removePropagated(other);
    this.#changed();
  }

  removePropagated(mount: Mount): void {
    this.#removeTree(mount);
    this.#changed();
  }

  /** The place where it was mounted is gone. */
  removeMount(mount: Mount): void {
    if (mount.namespace === this) this.#takeDown(mount);
  }

  #removeTree(mount: Mount): void {
    for (const child of [...mount.children]) this.#removeTree(child);
    this.#mounts.delete(mount);
    mount.namespace = undefined;
    this.vfs.peerGroups.leave(mount);
    this.vfs.peerGroups.leaveMaster(mount);
    mount.detach();
  }

  /** pivot_root(2), after the lookups; moving the tasks' roots is the caller's work. `root`: the caller's root. */
  pivotRoot(newRoot: Path, putOld: Path, root: Path): number {
    const oldMount = root.mount;
    const newMount = newRoot.mount;
    if (oldMount.parent?.shared || newMount.parent?.shared || newMount.shared) return -Errno.EINVAL;
    if (newMount.namespace !== this || oldMount.namespace !== this || putOld.mount.namespace !== this)
      return -Errno.EINVAL;
    if (newMount.locked) return -Errno.EINVAL;
    if (newRoot.dentry.unhashed && !newRoot.dentry.isRoot) return -Errno.ENOENT;
    if (newMount === oldMount || putOld.mount === oldMount) return -Errno.EBUSY;
    if (root.dentry !== oldMount.root) return -Errno.EINVAL;
    const { parent: oldParent, mountPoint: oldPoint } = oldMount;
    if (newRoot.dentry !== newMount.root || !newMount.parent) return -Errno.EINVAL;
    if (!reachable(putOld.mount, putOld.dentry, newRoot)) return -Errno.EINVAL;
    if (!reachable(newMount, newRoot.dentry, root)) return -Errno.EINVAL;
    newMount.detach();
    oldMount.detach();
    if (oldParent && oldPoint) newMount.attach(oldParent, oldPoint);
    else this.#root = newMount;
    oldMount.attach(putOld.mount, putOld.dentry);
    this.#changed();
    return 0;
  }

  /**
   * The copy for CLONE_NEWNS, and where a place of this namespace is in it. In a new user namespace the copies receive
   * changes but send none, and are locked together.
   */
  clone(userNamespace: UserNamespace): { readonly namespace: MountNamespace; translate(path: Path): Path } {
    const foreign = userNamespace !== this.userNamespace;
    const copied = new Map<Mount, Mount>();
    const copy = (from: Mount): Mount => {
      const { vfs } = this;
      const to = vfs.newMount(from.superBlock, from.root, from.flags, from.source);
      to.unbindable = from.unbindable;
      to.locked = from.locked || (foreign && from.parent !== undefined);
      if (foreign) vfs.peerGroups.copyAsSlave(from, to);
      else vfs.peerGroups.copy(from, to);
      copied.set(from, to);
      for (const child of from.children) if (child.mountPoint) copy(child).attach(to, child.mountPoint);
      return to;
    };
    const namespace = new MountNamespace(this.vfs, userNamespace, copy(this.#root));
    return {
      namespace,
      translate: (path) => {
        const mount = copied.get(path.mount);
        return mount ? { mount, dentry: path.dentry } : path;
      },
    };
  }

  /** The last task left it. */
  release(): void {
    this.#removeTree(this.#root);
  }
}

/** is_path_reachable: whether a place lies below another one, across mounts. */
export function reachable(mount: Mount, dentry: Dentry, root: Path): boolean {
  let at: Mount = mount;
  let place: Dentry = dentry;
  while (at !== root.mount && at.parent && at.mountPoint) {
    place = at.mountPoint;
    at = at.parent;
  }
  return at === root.mount && place.isUnder(root.dentry);
}
