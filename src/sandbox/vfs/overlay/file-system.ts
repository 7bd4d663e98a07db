// overlay: directories laid over one another (Documentation/filesystems/overlayfs.rst), without the features that are
// off unless asked for: redirect_dir, index, metacopy. So a directory of a lower layer cannot be renamed (EXDEV), and a
// file of a lower layer loses its other names when it is copied up. Layers must not be changed from elsewhere meanwhile.

import { Errno } from '../../abi/errno.ts';
import { SuperMagic } from '../../abi/file.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, FileSystemType, Path, StatFs } from '../contract.ts';
import type { Inode } from '../inode.ts';
import { TmpfsFileSystem } from '../tmpfs/file-system.ts';
import { resolveFrom } from '../walk.ts';
import { type Lower, OverlayInode } from './inode.ts';
import { findReal, isWhiteout, type Layer, layerTask, listReal, makeLayer, releaseLayer } from './layers.ts';

/** Inode numbers of different layers' file systems are told apart by their upper bits (xino). */
const layerBits = 2 ** 48;
const yes = new Uint8Array([0x79]);

interface Layers {
  readonly upper: Layer | undefined;
  /** A directory beside the upper layer, on the same file system. */
  readonly work: Inode | undefined;
  /** The highest first. */
  readonly lowers: readonly Layer[];
}

export class OverlayFileSystem implements FileSystem {
  readonly type = 'overlay';
  readonly kernel: Kernel;
  readonly device: number;
  readonly options: string;
  readonly root: OverlayInode;
  readonly task: Task;
  readonly upper: Layer | undefined;
  readonly work: Inode | undefined;
  readonly #lowers: readonly Layer[];
  /** "trusted.overlay." or "user.overlay.". */
  readonly #prefix: string;
  readonly #fileSystems: FileSystem[] = [];
  /** By the file that counts, so that the names of one file of the upper layer are one inode. */
  readonly #inodes = new Map<Inode, OverlayInode>();
  /** Files that were copied up keep the number that they had; they are held as long as they have a name. */
  readonly #numbers = new Map<number, { readonly number: number; readonly upper: Inode }>();
  #lastName = 0;

  constructor(kernel: Kernel, layers: Layers, options: string, userXattr = false) {
    this.kernel = kernel;
    this.device = kernel.anonymousDevice();
    this.options = options;
    this.task = layerTask(kernel);
    this.upper = layers.upper;
    this.work = layers.work?.acquire();
    this.#lowers = layers.lowers;
    this.#prefix = userXattr ? 'user.overlay.' : 'trusted.overlay.';
    for (const { mount } of [...(layers.upper ? [layers.upper] : []), ...layers.lowers])
      if (!this.#fileSystems.includes(mount.fileSystem)) this.#fileSystems.push(mount.fileSystem);
    const lowers = layers.lowers.map((layer) => ({ inode: layer.root, layer }));
    this.root = this.inode(layers.upper?.root, lowers, undefined, '').acquire();
  }

  // Inodes.

  numberOf(layer: Layer, ino: number): number {
    const number = ino + this.#fileSystems.indexOf(layer.mount.fileSystem) * layerBits;
    return layer === this.upper ? (this.#numbers.get(ino)?.number ?? number) : number;
  }

  /** The inode for files of layers that were just looked up. */
  inode(
    upper: Inode | undefined,
    lowers: readonly Lower[],
    parent: OverlayInode | undefined,
    name: string,
  ): OverlayInode {
    const lower = lowers[0];
    const real = upper ?? lower?.inode;
    if (!real) throw new Error('an overlay inode without a file');
    const known = this.#inodes.get(real);
    if (known) return known;
    // A merged directory has the number of its lower part, which it had before it was copied up.
    const ino =
      lower && (!upper || upper.isDirectory)
        ? this.numberOf(lower.layer, lower.inode.ino)
        : this.numberOf(this.upper as Layer, real.ino);
    const made = new OverlayInode(this, ino, upper, lowers, parent, name);
    // Each name of a lower file is a file of its own, because copying up parts them.
    const stat = upper || real.isDirectory ? undefined : real.stat();
    if (typeof stat !== 'object' || stat.nlink === 1) this.#inodes.set(real, made);
    return made;
  }

  copiedUp(inode: OverlayInode, upper: Inode): void {
    const lower = inode.lowers[0]?.inode;
    if (lower && this.#inodes.get(lower) === inode) this.#inodes.delete(lower);
    this.#inodes.set(upper, inode);
    if (!upper.isDirectory) this.#numbers.set(upper.ino, { number: inode.ino, upper: upper.acquire() });
  }

  /** A name of it is gone. */
  removed(inode: OverlayInode): void {
    const { upper } = inode;
    const kept = upper && this.#numbers.get(upper.ino);
    if (!kept || kept.upper !== upper) return;
    const stat = upper.stat();
    if (typeof stat !== 'number' && stat.nlink > 0) return;
    this.#numbers.delete(upper.ino);
    upper.release();
  }

  forget(inode: OverlayInode): void {
    if (this.#inodes.get(inode.real) === inode) this.#inodes.delete(inode.real);
  }

  // Marks of the upper layer.

  isOwnXattr(name: string): boolean {
    return name.startsWith(this.#prefix);
  }

  isOpaque(directory: Inode): boolean {
    const value = directory.getXattr(`${this.#prefix}opaque`);
    return typeof value !== 'number' && value.length === 1 && value[0] === yes[0];
  }

  makeOpaque(directory: Inode): number {
    return directory.setXattr(`${this.#prefix}opaque`, yes, 0);
  }

  /** A directory that shows no names may have whiteouts: they go, so that it can be removed. */
  clearWhiteouts(directory: Inode): number {
    if (!this.upper) return -Errno.EROFS;
    const entries = listReal(this.task, this.upper, directory);
    if (typeof entries === 'number') return entries;
    for (const { name } of entries) {
      const found = findReal(this.task, directory, name);
      if (typeof found === 'number') return found;
      if (!found) continue;
      const result = isWhiteout(found) ? directory.unlink(name, found) : -Errno.ENOTEMPTY;
      found.release();
      if (result < 0) return result;
    }
    return 0;
  }

  // The work directory.

  workName(): string {
    return `#${(++this.#lastName).toString(16)}`;
  }

  /** Removes what is in the work directory under this name and is not needed. It stays there if that fails. */
  discard(name: string, inode: Inode): void {
    if (inode.isDirectory) this.clearWhiteouts(inode);
    const result = inode.isDirectory
      ? this.work?.removeDirectory(name, inode)
      : this.work?.unlink(name, inode);
    if (result !== undefined && result < 0)
      this.kernel.log.warn(`overlay: ${name} in the work directory cannot be removed (${-result})`);
  }

  statfs(): StatFs | number {
    const stat = (this.upper ?? this.#lowers[0])?.mount.fileSystem.statfs() ?? -Errno.EIO;
    return typeof stat === 'number' ? stat : { ...stat, type: SuperMagic.overlay };
  }

  sync(): number {
    return this.upper?.mount.fileSystem.sync() ?? 0;
  }

  release(): void {
    this.root.release();
    for (const { upper } of this.#numbers.values()) upper.release();
    this.#numbers.clear();
    this.work?.release();
    if (this.upper) releaseLayer(this.upper);
    for (const layer of this.#lowers) releaseLayer(layer);
  }
}

/** A file system whose changes stay in memory: for a container's root that is not to be changed. */
export function memoryOverlay(kernel: Kernel, lower: FileSystem): OverlayFileSystem | number {
  const task = layerTask(kernel);
  const memory = new TmpfsFileSystem(kernel, { mode: 0o755 });
  const upper = memory.root.makeDirectory('upper', lower.root.mode & 0o7777, task.credentials);
  const work = memory.root.makeDirectory('work', 0o700, task.credentials);
  if (typeof upper === 'number' || typeof work === 'number') return -Errno.ENOSPC;
  const stat = lower.root.stat();
  if (typeof stat === 'number') return stat;
  const { uid, gid, mode, atime, mtime } = stat;
  let owned = upper.setAttributes({ uid, gid }, task.credentials);
  if (owned >= 0) owned = upper.setAttributes({ mode: mode & 0o7777, atime, mtime }, task.credentials);
  if (owned < 0) return owned;
  const layers = {
    upper: makeLayer(kernel, memory, upper),
    work,
    lowers: [makeLayer(kernel, lower, lower.root)],
  };
  return new OverlayFileSystem(kernel, layers, 'lowerdir=/,upperdir=/upper,workdir=/work');
}

interface OverlayOptions {
  readonly lowers: readonly string[];
  readonly upper: string | undefined;
  readonly work: string | undefined;
  readonly userXattr: boolean;
}

/** Features that may be named as long as they are off. */
const offValues: Readonly<Record<string, readonly string[]>> = {
  redirect_dir: ['off', 'nofollow'],
  index: ['off'],
  nfs_export: ['off'],
  metacopy: ['off'],
  verity: ['off'],
  xino: ['off', 'auto', 'on'],
  uuid: ['off', 'null', 'auto', 'on'],
};

/** Text with backslashes before what would end it: "," between options, ":" between layers. */
function split(text: string, separator: string): string[] {
  const parts = [''];
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (char === separator) parts.push('');
    else if (char === '\\' && i + 1 < text.length) parts[parts.length - 1] += char + text[++i];
    else parts[parts.length - 1] += char;
  }
  return parts;
}

const withoutBackslashes = (text: string): string => text.replace(/\\(.)/gs, '$1');

export function parseOverlayOptions(text: string): OverlayOptions | number {
  let lowers: string[] = [];
  let upper: string | undefined;
  let work: string | undefined;
  let userXattr = false;
  for (const option of split(text, ',')) {
    const at = option.indexOf('=');
    const name = at < 0 ? option : option.slice(0, at);
    const value = at < 0 ? '' : option.slice(at + 1);
    if (name === '' || name === 'default_permissions' || name === 'volatile') continue;
    if (name === 'lowerdir') lowers = split(value, ':').map(withoutBackslashes);
    else if (name === 'upperdir') upper = withoutBackslashes(value);
    else if (name === 'workdir') work = withoutBackslashes(value);
    else if (name === 'userxattr') userXattr = true;
    else if (!offValues[name]?.includes(value)) return -Errno.EINVAL;
  }
  if (lowers.length === 0 || lowers.length > 500 || lowers.includes('')) return -Errno.EINVAL;
  if (upper === '' || work === '' || (upper !== undefined && work === undefined)) return -Errno.EINVAL;
  return { lowers, upper, work: upper === undefined ? undefined : work, userXattr };
}

function directoryAt(task: Task, path: string): Path | number {
  const place = resolveFrom(task, path);
  if (typeof place === 'number') return place;
  return place.dentry.inode?.isDirectory ? place : -Errno.ENOTDIR;
}

/** An empty directory "work" in the one that was given. */
function makeWork(task: Task, directory: Inode): Inode | number {
  const found = directory.lookup('work', task);
  if (typeof found !== 'number') return found.isDirectory ? found : -Errno.EEXIST;
  return found === -Errno.ENOENT ? directory.makeDirectory('work', 0, task.credentials) : found;
}

/** For Vfs.registerType. */
export const overlayType: FileSystemType = {
  name: 'overlay',
  userMount: true,
  mount(task, _source, text): FileSystem | number {
    const options = parseOverlayOptions(text);
    if (typeof options === 'number') return options;
    const { kernel } = task;
    const lowers: Path[] = [];
    for (const path of options.lowers) {
      const place = directoryAt(task, path);
      if (typeof place === 'number') return place;
      lowers.push(place);
    }
    let upper: Path | undefined;
    let work: Inode | undefined;
    if (options.upper !== undefined && options.work !== undefined) {
      const place = directoryAt(task, options.upper);
      if (typeof place === 'number') return place;
      const workPlace = directoryAt(task, options.work);
      if (typeof workPlace === 'number') return workPlace;
      const { mount, dentry } = place;
      const isApart = !workPlace.dentry.isUnder(dentry) && !dentry.isUnder(workPlace.dentry);
      if (mount !== workPlace.mount || !isApart || mount.readOnly) return -Errno.EINVAL;
      // Whiteouts of an overlay cannot be made in another.
      if (mount.fileSystem instanceof OverlayFileSystem) return -Errno.EINVAL;
      const made = makeWork(layerTask(kernel), workPlace.dentry.inode as Inode);
      if (typeof made === 'number') return made;
      upper = place;
      work = made;
    } else if (lowers.length < 2) {
      return -Errno.EINVAL;
    }
    const layer = ({ mount, dentry }: Path): Layer =>
      makeLayer(kernel, mount.fileSystem, dentry.inode as Inode);
    const shown = split(text, ',').filter((option) =>
      /^(lowerdir|upperdir|workdir)=|^userxattr$/.test(option),
    );
    return new OverlayFileSystem(
      kernel,
      { upper: upper && layer(upper), work, lowers: lowers.map(layer) },
      shown.join(','),
      options.userXattr,
    );
  },
};
