// Inodes of an overlay. Each stands for a file of the upper layer or of a lower one, or for directories of several
// layers merged. What is to be changed is copied to the upper layer first, with the directories on the way; new names
// that hide lower ones are prepared in the work directory and put in place by one rename.

import { Errno } from '../../abi/errno.ts';
import { Access, ModeBit, Rename } from '../../abi/file.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Credentials, Task } from '../../kernel/contract.ts';
import type { Path, Stat } from '../contract.ts';
import { openSpecial } from '../dev/special.ts';
import type { DirectoryEntry, FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import { newInodeOwner } from '../permission.ts';
import { Fifo } from '../pipe/fifo.ts';
import { copyInode } from './copy-up.ts';
import { OverlayDirectoryFile, OverlayFile } from './file.ts';
import type { OverlayFileSystem } from './file-system.ts';
import { findReal, isWhiteout, type Layer, listReal, openReal } from './layers.ts';

/** A file of a lower layer. */
export interface Lower {
  readonly inode: Inode;
  readonly layer: Layer;
}

export class OverlayInode extends Inode {
  readonly fileSystem: OverlayFileSystem;
  readonly ino: number;
  upper: Inode | undefined;
  /** Of a directory all that are merged, the highest first; of anything else at most one. */
  readonly lowers: readonly Lower[];
  /** Where it is copied up to; undefined: it has no name, or is the root. */
  #parent: OverlayInode | undefined;
  #name: string;
  #fifo: Fifo | undefined;

  constructor(
    fileSystem: OverlayFileSystem,
    ino: number,
    upper: Inode | undefined,
    lowers: readonly Lower[],
    parent: OverlayInode | undefined,
    name: string,
  ) {
    super();
    this.fileSystem = fileSystem;
    this.ino = ino;
    this.upper = upper?.acquire();
    this.lowers = lowers;
    for (const { inode } of lowers) inode.acquire();
    this.#parent = parent;
    this.#name = name;
  }

  /** The file that counts. */
  get real(): Inode {
    return this.upper ?? (this.lowers[0] as Lower).inode;
  }

  get #realLayer(): Layer {
    return this.upper ? (this.fileSystem.upper as Layer) : (this.lowers[0] as Lower).layer;
  }

  get mode(): number {
    return this.real.mode;
  }
  get uid(): number {
    return this.real.uid;
  }
  get gid(): number {
    return this.real.gid;
  }

  /** It has, or had before its name was given anew, something in a lower layer. */
  get #isMerged(): boolean {
    return this.lowers.length > 0;
  }

  override stat(): Stat | number {
    const stat = this.real.stat();
    if (typeof stat === 'number') return stat;
    const nlink = this.isDirectory && this.upper && this.#isMerged ? 1 : stat.nlink;
    return { ...stat, dev: this.fileSystem.device, ino: this.ino, nlink };
  }

  override permission(mask: number, _task: Task): number | undefined {
    const type = this.mode & FileType.mask;
    const isStored = type === FileType.regular || type === FileType.directory || type === FileType.symlink;
    return mask & Access.write && !this.fileSystem.upper && isStored ? -Errno.EROFS : undefined;
  }

  openReal(flags: number): FileDescription | number {
    return openReal(this.fileSystem.task, this.#realLayer, this.real, flags);
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    if (this.isDirectory) return new OverlayDirectoryFile(this, path, flags);
    if (!this.isRegular) {
      const stat = this.real.stat();
      if (typeof stat === 'number') return stat;
      return openSpecial(task, path, flags, this.mode, stat.rdev, () => {
        this.#fifo ??= new Fifo(this, (written) => this.#passed(written));
        return this.#fifo;
      });
    }
    const truncate = (flags & OpenFlag.truncate) !== 0;
    if ((flags & OpenFlag.accessMode) !== OpenFlag.readOnly || truncate) {
      const result = this.copyUp(!truncate);
      if (result < 0) return result;
    }
    // Whoever truncates may lose set-user-ID bits: his own credentials count.
    const file = openReal(truncate ? task : this.fileSystem.task, this.#realLayer, this.real, flags);
    return typeof file === 'number' ? file : new OverlayFile(this, path, flags, file);
  }

  #passed(written: boolean): void {
    const now = this.fileSystem.kernel.clock.realtime();
    this.upper?.setAttributes(written ? { mtime: now } : { atime: now }, this.fileSystem.task.credentials);
  }

  // Copying up.

  /** Makes it a file of the upper layer. 0, -EROFS without one, or what copying failed with. */
  copyUp(withBytes = true): number {
    if (this.upper) return 0;
    const { fileSystem } = this;
    const { upper, work, task } = fileSystem;
    if (!upper || !work) return -Errno.EROFS;
    const lower = this.lowers[0] as Lower;
    const parent = this.#parent;
    const directory = parent?.ensureUpper() ?? 0;
    if (typeof directory === 'number' && directory < 0) return directory;
    const name = fileSystem.workName();
    const own = (xattr: string): boolean => fileSystem.isOwnXattr(xattr);
    const made = copyInode(task, lower.inode, lower.layer, work, upper, name, own, withBytes);
    if (typeof made === 'number') return made;
    made.acquire();
    if (typeof directory === 'number') {
      // Without a name there is nowhere to put it: it goes with its last user.
      work.unlink(name, made);
    } else {
      // The directory does not look changed by it.
      const before = directory.stat();
      const moved = work.rename(name, made, directory, this.#name, undefined, 0, task.credentials);
      if (moved < 0) {
        this.fileSystem.discard(name, made);
        made.release();
        return moved;
      }
      if (typeof before !== 'number')
        directory.setAttributes({ atime: before.atime, mtime: before.mtime }, task.credentials);
    }
    this.upper = made;
    fileSystem.copiedUp(this, made);
    return 0;
  }

  /** The directory in the upper layer. */
  ensureUpper(): Inode | number {
    const result = this.copyUp();
    return result < 0 ? result : (this.upper as Inode);
  }

  // Names.

  override lookup(name: string, task: Task): Inode | number {
    const { fileSystem } = this;
    let upper: Inode | undefined;
    const lowers: Lower[] = [];
    const release = (): void => {
      upper?.release();
      for (const { inode } of lowers) inode.release();
    };
    let hidden = false;
    if (this.upper) {
      const found = findReal(task, this.upper, name);
      if (typeof found === 'number') return found;
      upper = found;
      if (upper && isWhiteout(upper)) {
        release();
        return -Errno.ENOENT;
      }
      hidden = upper !== undefined && (!upper.isDirectory || fileSystem.isOpaque(upper));
    }
    for (const { inode: directory, layer } of hidden ? [] : this.lowers) {
      const found = findReal(task, directory, name);
      if (typeof found === 'number') {
        release();
        return found;
      }
      if (!found) continue;
      const above = upper ?? lowers[0]?.inode;
      // What is under a directory and is none, is hidden by it.
      if (isWhiteout(found) || (above && !found.isDirectory)) {
        found.release();
        break;
      }
      lowers.push({ inode: found, layer });
      if (!found.isDirectory || fileSystem.isOpaque(found)) break;
    }
    const inode = upper || lowers.length > 0 ? fileSystem.inode(upper, lowers, this, name) : -Errno.ENOENT;
    release();
    return inode;
  }

  override get prefetches(): boolean {
    return !this.upper && this.lowers.length === 1 && (this.lowers[0]?.inode.prefetches ?? false);
  }

  override prefetch(names: readonly string[]): void {
    this.lowers[0]?.inode.prefetch(names);
  }

  override get linkMaximum(): number {
    return this.real.linkMaximum;
  }

  /** Whether a lower layer has this name, so that its removal needs a whiteout. */
  #isBelow(name: string): boolean | number {
    for (const { inode } of this.lowers) {
      const found = findReal(this.fileSystem.task, inode, name);
      if (typeof found === 'number') return found;
      if (!found) continue;
      const whiteout = isWhiteout(found);
      found.release();
      return !whiteout;
    }
    return false;
  }

  /** The names of all layers; inode numbers as stat shows them. */
  list(): DirectoryEntry[] | number {
    const { fileSystem } = this;
    const { task } = fileSystem;
    const layers: Lower[] = [
      ...(this.upper && fileSystem.upper ? [{ inode: this.upper, layer: fileSystem.upper }] : []),
      ...this.lowers,
    ];
    const seen = new Set<string>();
    const entries: DirectoryEntry[] = [];
    for (const { inode, layer } of layers) {
      const names = listReal(task, layer, inode);
      if (typeof names === 'number') return names;
      for (const entry of names) {
        if (seen.has(entry.name)) continue;
        seen.add(entry.name);
        const isMergeable = entry.type === FileType.directory >> 12 && layers.length > 1;
        const isDevice = entry.type === FileType.character >> 12;
        if (!isMergeable && !isDevice) {
          entries.push({ ...entry, ino: fileSystem.numberOf(layer, entry.ino) });
          continue;
        }
        // A whiteout, or a number that depends on other layers.
        const found = this.lookup(entry.name, task);
        if (typeof found === 'number') continue;
        entries.push({ ...entry, ino: found.acquire().ino });
        found.release();
      }
    }
    return entries;
  }

  /** Makes something new in the upper layer, in place of a whiteout if there is one. */
  #make(
    name: string,
    make: (directory: Inode, name: string, isPlace: boolean) => Inode | number,
  ): Inode | number {
    const directory = this.ensureUpper();
    if (typeof directory === 'number') return directory;
    const { fileSystem } = this;
    const { work, task } = fileSystem;
    if (!work) return -Errno.EROFS;
    const whiteout = findReal(task, directory, name);
    if (typeof whiteout === 'number') return whiteout;
    if (!whiteout) {
      const made = make(directory, name, true);
      return typeof made === 'number' ? made : fileSystem.inode(made, [], this, name);
    }
    const temporary = fileSystem.workName();
    const made = make(work, temporary, false);
    if (typeof made === 'number') {
      whiteout.release();
      return made;
    }
    made.acquire();
    let result = made.isDirectory ? fileSystem.makeOpaque(made) : 0;
    if (result >= 0)
      result = made.isDirectory
        ? work.rename(temporary, made, directory, name, whiteout, Rename.exchange, task.credentials)
        : work.rename(temporary, made, directory, name, whiteout, 0, task.credentials);
    if (result < 0) fileSystem.discard(temporary, made);
    else if (made.isDirectory) fileSystem.discard(temporary, whiteout);
    whiteout.release();
    const inode = result < 0 ? result : fileSystem.inode(made, [], this, name);
    made.release();
    return inode;
  }

  /** What is made in the work directory gets the owner and mode that it would have here. */
  #own(made: Inode | number, mode: number, owner: Credentials): Inode | number {
    if (typeof made === 'number') return made;
    const own = newInodeOwner(this, mode, owner);
    const { credentials } = this.fileSystem.task;
    let result = made.setAttributes({ uid: own.uid, gid: own.gid }, credentials);
    if (result >= 0 && !made.isSymlink)
      result = made.setAttributes({ mode: own.mode & ModeBit.all }, credentials);
    return result < 0 ? result : made;
  }

  override create(name: string, mode: number, device: number, owner: Credentials): Inode | number {
    // Nobody but the overlay itself makes whiteouts.
    if ((mode & FileType.mask) === FileType.character && device === 0) return -Errno.EPERM;
    return this.#make(name, (directory, as, isPlace) => {
      const made = directory.create(as, mode, device, owner);
      return isPlace ? made : this.#own(made, mode, owner);
    });
  }

  override makeDirectory(name: string, mode: number, owner: Credentials): Inode | number {
    return this.#make(name, (directory, as, isPlace) => {
      const made = directory.makeDirectory(as, mode, owner);
      return isPlace ? made : this.#own(made, FileType.directory | mode, owner);
    });
  }

  override symlink(name: string, target: string, owner: Credentials): Inode | number {
    return this.#make(name, (directory, as, isPlace) => {
      const made = directory.symlink(as, target, owner);
      return isPlace ? made : this.#own(made, FileType.symlink | 0o777, owner);
    });
  }

  override temporaryFile(mode: number, owner: Credentials): Inode | number {
    const directory = this.ensureUpper();
    if (typeof directory === 'number') return directory;
    const made = directory.temporaryFile(mode, owner);
    return typeof made === 'number' ? made : this.fileSystem.inode(made, [], undefined, '');
  }

  override link(name: string, inode: Inode): number {
    if (!(inode instanceof OverlayInode) || inode.fileSystem !== this.fileSystem) return -Errno.EXDEV;
    const copied = inode.copyUp();
    if (copied < 0) return copied;
    const real = inode.real;
    const made = this.#make(name, (directory, as) => {
      const result = directory.link(as, real);
      return result < 0 ? result : real;
    });
    return typeof made === 'number' ? made : 0;
  }

  override unlink(name: string, inode: Inode): number {
    return inode instanceof OverlayInode ? this.#remove(name, inode) : -Errno.EXDEV;
  }

  override removeDirectory(name: string, inode: Inode): number {
    if (!(inode instanceof OverlayInode)) return -Errno.EXDEV;
    const left = inode.list();
    if (typeof left === 'number') return left;
    return left.length > 0 ? -Errno.ENOTEMPTY : this.#remove(name, inode);
  }

  /** The name goes from the upper layer; if a lower one has it too, a whiteout comes in its place. */
  #remove(name: string, inode: OverlayInode): number {
    const below = this.#isBelow(name);
    if (typeof below === 'number') return below;
    const directory = this.ensureUpper();
    if (typeof directory === 'number') return directory;
    const { fileSystem } = this;
    const { work, task } = fileSystem;
    if (!work) return -Errno.EROFS;
    const real = inode.upper;
    let result: number;
    if (below) {
      const temporary = fileSystem.workName();
      const whiteout = work.create(temporary, FileType.character, 0, task.credentials);
      if (typeof whiteout === 'number') return whiteout;
      whiteout.acquire();
      const flags = real?.isDirectory ? Rename.exchange : 0;
      result = work.rename(temporary, whiteout, directory, name, real, flags, task.credentials);
      if (result < 0) fileSystem.discard(temporary, whiteout);
      else if (real?.isDirectory) fileSystem.discard(temporary, real);
      whiteout.release();
    } else if (real?.isDirectory) {
      result = fileSystem.clearWhiteouts(real);
      if (result >= 0) result = directory.removeDirectory(name, real);
    } else {
      result = real ? directory.unlink(name, real) : -Errno.ENOENT;
    }
    if (result < 0) return result;
    if (inode.#parent === this && inode.#name === name) inode.#parent = undefined;
    fileSystem.removed(inode);
    return 0;
  }

  /** Whether it may be moved: a directory with parts in lower layers stays where they are. */
  get #movable(): boolean {
    return !this.isDirectory || !this.#isMerged;
  }

  override rename(
    name: string,
    inode: Inode,
    target: Inode,
    newName: string,
    replaced: Inode | undefined,
    flags: number,
    _owner: Credentials,
  ): number {
    if (flags & ~(Rename.noReplace | Rename.exchange)) return -Errno.EINVAL;
    if (!(inode instanceof OverlayInode) || !(target instanceof OverlayInode)) return -Errno.EXDEV;
    if (replaced !== undefined && !(replaced instanceof OverlayInode)) return -Errno.EXDEV;
    const exchange = (flags & Rename.exchange) !== 0;
    if (!inode.#movable || (exchange && replaced && !replaced.#movable)) return -Errno.EXDEV;
    if (!exchange && replaced?.isDirectory) {
      const left = replaced.list();
      if (typeof left === 'number') return left;
      if (left.length > 0) return -Errno.ENOTEMPTY;
    }
    const moved = inode.ensureUpper();
    if (typeof moved === 'number') return moved;
    const from = this.ensureUpper();
    if (typeof from === 'number') return from;
    const to = target.ensureUpper();
    if (typeof to === 'number') return to;
    const { fileSystem } = this;
    const { credentials } = fileSystem.task;
    if (inode.isDirectory && target.#isMerged) {
      const marked = fileSystem.makeOpaque(moved);
      if (marked < 0) return marked;
    }
    if (exchange && replaced) {
      const other = replaced.ensureUpper();
      if (typeof other === 'number') return other;
      const marked = replaced.isDirectory && this.#isMerged ? fileSystem.makeOpaque(other) : 0;
      if (marked < 0) return marked;
      const result = from.rename(name, moved, to, newName, other, Rename.exchange, credentials);
      if (result < 0) return result;
      replaced.#parent = this;
      replaced.#name = name;
    } else {
      const result = this.#moveOver(name, moved, from, target, to, newName, replaced);
      if (result < 0) return result;
    }
    inode.#parent = target;
    inode.#name = newName;
    return 0;
  }

  #moveOver(
    name: string,
    moved: Inode,
    from: Inode,
    target: OverlayInode,
    to: Inode,
    newName: string,
    replaced: OverlayInode | undefined,
  ): number {
    const { fileSystem } = this;
    const { work, task } = fileSystem;
    const { credentials } = task;
    const below = this.#isBelow(name);
    if (typeof below === 'number') return below;
    if (!work) return -Errno.EROFS;
    // A directory that goes is made opaque before its whiteouts go, so that nothing below it comes to light.
    if (replaced?.isDirectory && replaced.upper) {
      let cleared = replaced.#isMerged ? fileSystem.makeOpaque(replaced.upper) : 0;
      if (cleared >= 0) cleared = fileSystem.clearWhiteouts(replaced.upper);
      if (cleared < 0) return cleared;
    }
    const there = findReal(task, to, newName);
    if (typeof there === 'number') return there;
    const temporary = fileSystem.workName();
    const whiteout = below ? work.create(temporary, FileType.character, 0, credentials) : undefined;
    if (typeof whiteout === 'number') {
      there?.release();
      return whiteout;
    }
    whiteout?.acquire();
    // A directory takes the place of a whiteout by changing places with it.
    const swaps = there !== undefined && moved.isDirectory && !there.isDirectory;
    let result = from.rename(name, moved, to, newName, there, swaps ? Rename.exchange : 0, credentials);
    if (result >= 0 && swaps && there && !below) result = from.unlink(name, there);
    if (whiteout) {
      if (result >= 0 && !swaps)
        result = work.rename(temporary, whiteout, from, name, undefined, 0, credentials);
      else fileSystem.discard(temporary, whiteout);
      whiteout.release();
    }
    there?.release();
    if (result >= 0 && replaced) {
      if (replaced.#parent === target && replaced.#name === newName) replaced.#parent = undefined;
      fileSystem.removed(replaced);
    }
    return result;
  }

  override readLink(task: Task): string | number {
    return this.real.readLink(task);
  }

  // Attributes.

  override setAttributes(change: AttributeChange, credentials: Credentials): number {
    const copied = this.copyUp(change.size !== 0);
    return copied < 0 ? copied : this.real.setAttributes(change, credentials);
  }

  override getXattr(name: string): Uint8Array | number {
    return this.fileSystem.isOwnXattr(name) ? -Errno.EOPNOTSUPP : this.real.getXattr(name);
  }

  override setXattr(name: string, value: Uint8Array, flags: number): number {
    if (this.fileSystem.isOwnXattr(name)) return -Errno.EOPNOTSUPP;
    const copied = this.copyUp();
    return copied < 0 ? copied : this.real.setXattr(name, value, flags);
  }

  override removeXattr(name: string): number {
    if (this.fileSystem.isOwnXattr(name)) return -Errno.EOPNOTSUPP;
    // What is not there is no reason to copy.
    const value = this.upper ? undefined : this.real.getXattr(name);
    if (typeof value === 'number') return value;
    const copied = this.copyUp();
    return copied < 0 ? copied : this.real.removeXattr(name);
  }

  override listXattr(): readonly string[] | number {
    const names = this.real.listXattr();
    return typeof names === 'number' ? names : names.filter((name) => !this.fileSystem.isOwnXattr(name));
  }

  override evict(): void {
    this.fileSystem.forget(this);
    this.upper?.release();
    for (const { inode } of this.lowers) inode.release();
  }
}
