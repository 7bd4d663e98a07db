// Dentries: the cache of names. A dentry stands for a name in a directory, positive (it has an inode) or negative (the
// file system said that there is nothing). The tree of dentries is what paths are walked over, mounts hang on, and names
// are printed from; file systems never see it.
//
// A dentry is held (`acquire`) by open files, mounts, working directories and by its children. What nobody holds stays
// as long as there is room: the cache drops the coldest unheld leaves beyond its limit. A dentry that lost its name is
// `unhashed`: it lives on for those who hold it, and its inode is let go with the last of them.

import { Errno } from '../abi/errno.ts';
import { nameMaximum } from '../abi/file.ts';
import type { Task } from '../kernel/contract.ts';
import type { Inode } from './inode.ts';
import type { Mount } from './mount.ts';
import { Event, notifyGone } from './notify.ts';

/** A name in a directory. Fields are changed by this file and by the core's operations only. */
export class Dentry {
  name: string;
  parent: Dentry | undefined;
  inode: Inode | undefined;
  children: Map<string, Dentry> | undefined;
  /** What is mounted on it: by the mount through which it is seen. */
  mounts: Map<Mount, Mount> | undefined;
  /** It has no name any more (removed, or never had one: O_TMPFILE). */
  unhashed = false;
  /** Used since the cache last looked. */
  touched = false;
  holders = 0;

  constructor(name: string, parent: Dentry | undefined, inode: Inode | undefined) {
    this.name = name;
    this.parent = parent;
    this.inode = inode;
    inode?.acquire();
    parent?.acquire();
  }

  get isRoot(): boolean {
    return this.parent === undefined;
  }

  acquire(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders === 0 && this.unhashed) this.#free();
  }

  /** Takes the name away; the caller has removed it from its parent's children. */
  unhash(): void {
    if (this.unhashed) return;
    this.unhashed = true;
    if (this.holders === 0) this.#free();
  }

  #free(): void {
    const { inode, parent } = this;
    this.inode = undefined;
    if (inode?.marks) {
      // As Linux does (dentry_unlink_inode): at the end of a name of a file that has none left, even if it is still open
      // under another one.
      const stat = inode.stat();
      if (typeof stat === 'number' || stat.nlink === 0) notifyGone(inode, Event.deleteSelf);
    }
    inode?.release();
    parent?.release();
  }

  /** Whether it is `ancestor` or lies below it. */
  isUnder(ancestor: Dentry): boolean {
    for (let dentry: Dentry | undefined = this; dentry !== undefined; dentry = dentry.parent)
      if (dentry === ancestor) return true;
    return false;
  }
}

/** Tells who must know that a dentry lost its name although nobody removed it (mounts on it). */
export type Invalidated = (dentry: Dentry) => void;

export class DentryCache {
  readonly #limit: number;
  readonly #invalidated: Invalidated;
  /** All dentries but roots, in the order in which they came or were last spared. */
  readonly #all = new Set<Dentry>();
  /** The next time to look for cold ones: looking at held dentries again and again would be quadratic. */
  #next: number;

  /** limit: dentries kept when nobody holds them. */
  constructor(limit: number, invalidated: Invalidated) {
    this.#limit = Math.max(64, limit);
    this.#next = this.#limit;
    this.#invalidated = invalidated;
  }

  get size(): number {
    return this.#all.size;
  }

  /** The dentry of a name, which may be negative; or what the file system answered (never -ENOENT). */
  lookup(task: Task, parent: Dentry, name: string): Dentry | number {
    const directory = parent.inode;
    if (directory === undefined) return -Errno.ENOENT;
    const known = parent.children?.get(name);
    if (known !== undefined) {
      if (directory.revalidate(name, known.inode, task)) {
        known.touched = true;
        return known;
      }
      this.invalidate(known);
    }
    if (parent.unhashed && !parent.isRoot) return -Errno.ENOENT;
    if (name.length > nameMaximum) return -Errno.ENAMETOOLONG;
    const found = directory.lookup(name, task);
    if (typeof found === 'number') {
      if (found !== -Errno.ENOENT) return found;
      return this.add(parent, name, undefined);
    }
    return this.add(parent, name, found);
  }

  /** The dentry of a name if it is known, without asking the file system. */
  known(parent: Dentry, name: string): Dentry | undefined {
    return parent.children?.get(name);
  }

  add(parent: Dentry, name: string, inode: Inode | undefined): Dentry {
    const dentry = new Dentry(name, parent, inode);
    parent.children ??= new Map();
    parent.children.set(name, dentry);
    this.#all.add(dentry);
    if (this.#all.size > this.#next) this.#trim(dentry);
    return dentry;
  }

  /** A dentry without a name, for O_TMPFILE and memory files. */
  nameless(parent: Dentry, name: string, inode: Inode): Dentry {
    const dentry = new Dentry(name, parent, inode);
    dentry.unhashed = true;
    return dentry;
  }

  /** The name exists now: a negative dentry becomes positive. */
  instantiate(dentry: Dentry, inode: Inode): void {
    inode.acquire();
    dentry.inode?.release();
    dentry.inode = inode;
    dentry.touched = true;
  }

  /** The name was removed from its directory. */
  remove(dentry: Dentry): void {
    this.#all.delete(dentry);
    const siblings = dentry.parent?.children;
    if (siblings?.get(dentry.name) === dentry) siblings.delete(dentry.name);
    if (dentry.children) for (const child of [...dentry.children.values()]) this.remove(child);
    dentry.unhash();
  }

  /** The cached name is wrong (the file system changed it itself): forgets it and everything below. */
  invalidate(dentry: Dentry): void {
    this.#detachMounts(dentry);
    this.remove(dentry);
  }

  #detachMounts(dentry: Dentry): void {
    if (dentry.mounts) this.#invalidated(dentry);
    if (dentry.children) for (const child of dentry.children.values()) this.#detachMounts(child);
  }

  /** Gives the dentry another name, replacing what had it. */
  move(dentry: Dentry, parent: Dentry, name: string): void {
    dentry.parent?.children?.delete(dentry.name);
    const replaced = parent.children?.get(name);
    if (replaced !== undefined && replaced !== dentry) this.remove(replaced);
    this.#place(dentry, parent, name);
  }

  /** RENAME_EXCHANGE. */
  exchange(one: Dentry, other: Dentry): void {
    const { parent, name } = one;
    const { parent: otherParent, name: otherName } = other;
    if (!parent || !otherParent) return;
    this.#place(one, otherParent, otherName);
    this.#place(other, parent, name);
  }

  #place(dentry: Dentry, parent: Dentry, name: string): void {
    if (dentry.parent !== parent) {
      parent.acquire();
      dentry.parent?.release();
      dentry.parent = parent;
    }
    dentry.name = name;
    parent.children ??= new Map();
    parent.children.set(name, dentry);
    dentry.touched = true;
  }

  /** Second chance: who was used since the last time stays once more. */
  #trim(fresh: Dentry): void {
    const target = this.#limit - (this.#limit >> 3);
    let looks = this.#all.size;
    for (const dentry of this.#all) {
      if (looks-- <= 0 || this.#all.size <= target) break;
      const idle = dentry.holders === 0 && !dentry.touched && !dentry.mounts && !dentry.inode?.marks;
      if (idle && dentry !== fresh) {
        this.remove(dentry);
      } else {
        dentry.touched = false;
        this.#all.delete(dentry);
        this.#all.add(dentry);
      }
    }
    this.#next = Math.max(this.#limit, this.#all.size + (this.#limit >> 3));
  }

  /** Forgets everything below a root that nobody holds (the file system is gone). */
  drop(root: Dentry): void {
    if (root.children) for (const child of [...root.children.values()]) this.remove(child);
  }
}
