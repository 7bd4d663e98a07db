// A file of a tree that the Gofer serves. It holds the Gofer's node, what is known of the file, and up to two donated
// descriptors (one to read, one to read and write). Special files are only names and attributes here: FIFOs, devices and
// sockets are the sandbox's own.

import { Errno } from '../../abi/errno.ts';
import { Access, ModeBit, Rename } from '../../abi/file.ts';
import { deviceMajor, deviceMinor, FileType, OpenFlag } from '../../abi/open.ts';
import type { GoferAttributes } from '../../gofer/attributes.ts';
import { DirectoryCursor, type GoferChange, type GoferNode, type Ownership } from '../../gofer/client.ts';
import type { HostFd } from '../../host/contract.ts';
import type { Credentials, Task } from '../../kernel/contract.ts';
import type { Path, Stat } from '../contract.ts';
import { openSpecial } from '../dev/special.ts';
import type { FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import { newInodeOwner } from '../permission.ts';
import { Fifo } from '../pipe/fifo.ts';
import { type DirectoryListing, GoferDirectory } from './directory.ts';
import { GoferFile } from './file.ts';
import type { GoferFileSystem } from './file-system.ts';

/**
 * In shared mode: for how long an answer counts. Programs look at the same names many times in a row; what others change
 * outside is seen this much later at most.
 */
const freshNanoseconds = 10_000_000;
/** Names of a directory whose last confirmation is remembered. */
const askedNames = 1024;

export class GoferInode extends Inode {
  readonly fileSystem: GoferFileSystem;
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  /** A symbolic link's text, once known. */
  target: string | undefined;
  #node: GoferNode;
  readonly #hostDevice: number;
  #stat: Stat;
  /** The attributes may have changed on the host by what was done through descriptors. */
  #stale = false;
  /** Mapped shared and writable: the host changes its times on its own. */
  #mapped = false;
  /** Kept exactly while nobody else can change it. */
  #size: number;
  #readFd: HostFd = -1;
  #writeFd: HostFd = -1;
  #appendFd: HostFd = -1;
  /** Open descriptions of a regular file. */
  #users = 0;
  #fifo: Fifo | undefined;
  #listing: DirectoryListing | undefined;
  /** When the attributes were told last, and when the Gofer last confirmed a name in this directory (shared mode). */
  #told: number;
  readonly #asked = new Map<string, number>();
  /** In shared mode: what revalidate found instead of what was cached, for the lookup that follows. */
  #found: { readonly name: string; readonly inode: GoferInode } | undefined;

  constructor(fileSystem: GoferFileSystem, node: GoferNode, attributes: GoferAttributes) {
    super();
    this.fileSystem = fileSystem;
    this.#node = node;
    this.ino = attributes.ino;
    this.#hostDevice = attributes.dev;
    this.mode = attributes.mode;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.#size = attributes.size;
    this.#stat = this.#statOf(attributes);
    this.#told = fileSystem.now();
  }

  get node(): GoferNode {
    return this.#node;
  }

  #statOf(attributes: Stat): Stat {
    const { mode, nlink, uid, gid, rdev, size, blksize, blocks, atime, mtime, ctime, btime } = attributes;
    const dev = this.fileSystem.deviceOf(this.#hostDevice);
    return {
      dev,
      ino: this.ino,
      mode,
      nlink,
      uid,
      gid,
      rdev,
      size,
      blksize,
      blocks,
      atime,
      mtime,
      ctime,
      btime,
    };
  }

  /** The Gofer has told the attributes as they are now. */
  update(attributes: Stat): void {
    this.mode = attributes.mode;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.#size = attributes.size;
    this.#stat = this.#statOf(attributes);
    this.#stale = false;
    this.#told = this.fileSystem.now();
  }

  /** Something that changes attributes was done; they are asked for when somebody wants to know. */
  touch(): void {
    this.#stale = true;
  }

  /** Asks the host through a donated descriptor if there is one, else the Gofer. 0 or a negative errno. */
  refresh(): number {
    const fd = this.#writeFd >= 0 ? this.#writeFd : this.#readFd;
    if (fd >= 0) {
      const stat = this.fileSystem.host.fstat(fd);
      if (typeof stat === 'number') return stat;
      // Not the owner: the Sentry's user namespace knows nobody but itself, and owners change through the Gofer alone.
      this.mode = stat.mode;
      this.#size = stat.size;
      this.#stat = {
        dev: this.fileSystem.deviceOf(this.#hostDevice),
        ino: this.ino,
        mode: stat.mode,
        nlink: stat.nlink,
        uid: this.uid,
        gid: this.gid,
        rdev: this.#stat.rdev,
        size: stat.size,
        blksize: stat.blksize,
        blocks: stat.blocks,
        atime: { sec: stat.atimeSec, nsec: stat.atimeNsec },
        mtime: { sec: stat.mtimeSec, nsec: stat.mtimeNsec },
        ctime: { sec: stat.ctimeSec, nsec: stat.ctimeNsec },
        btime: this.#stat.btime,
      };
      this.#stale = false;
      this.#told = this.fileSystem.now();
      return 0;
    }
    const attributes = this.fileSystem.client.getAttributes(this.#node);
    if (typeof attributes === 'number') return attributes;
    this.update(attributes);
    return 0;
  }

  override stat(): Stat | number {
    const { fileSystem } = this;
    const fresh = fileSystem.exclusive || fileSystem.now() - this.#told < freshNanoseconds;
    if (this.#stale || this.#mapped || !fresh) {
      const result = this.refresh();
      if (result < 0) return result;
    }
    return this.#stat;
  }

  /** The size of a regular file now, or a negative errno. */
  currentSize(): number {
    if (this.fileSystem.exclusive) return this.#size;
    const result = this.refresh();
    return result < 0 ? result : this.#size;
  }

  /** Bytes up to `end` were written through a descriptor. */
  wrote(end: number): void {
    if (end > this.#size) this.#size = end;
    this.#stale = true;
    // The host drops set-id bits at a write; permission checks look at the mode.
    if (this.mode & (ModeBit.setUid | ModeBit.setGid)) this.refresh();
  }

  markMapped(): void {
    this.#mapped = true;
  }

  override permission(mask: number, _task: Task): number | undefined {
    if (mask & Access.write && this.fileSystem.readOnly) {
      const type = this.mode & FileType.mask;
      if (type === FileType.regular || type === FileType.directory || type === FileType.symlink)
        return -Errno.EROFS;
    }
    return undefined;
  }

  // Descriptors.

  /** A donated descriptor; the caller counts as a user until closeFile(). */
  openFile(write: boolean, append: boolean): HostFd | number {
    const fd = this.#descriptor(write, append);
    if (fd < 0) return fd;
    if (this.#users++ === 0) this.fileSystem.descriptors.remove(this);
    return fd;
  }

  #descriptor(write: boolean, append: boolean): HostFd | number {
    if (append && !this.fileSystem.exclusive) {
      // Others append too: only the host can say where the end is.
      if (this.#appendFd < 0) {
        const fd = this.#donated(OpenFlag.readWrite | OpenFlag.append);
        if (fd < 0) return fd;
        this.#appendFd = fd;
      }
      return this.#appendFd;
    }
    if (!write && this.#readFd >= 0) return this.#readFd;
    if (this.#writeFd >= 0) return this.#writeFd;
    const fd = this.#donated(write ? OpenFlag.readWrite : OpenFlag.readOnly);
    if (fd < 0) return fd;
    if (write) this.#writeFd = fd;
    else this.#readFd = fd;
    return fd;
  }

  #donated(flags: number): HostFd | number {
    const { client, descriptors } = this.fileSystem;
    const fd = client.open(this.#node, flags);
    // EIO: the descriptor was lost on its way, because there was no room for it here.
    if (fd !== -Errno.EMFILE && fd !== -Errno.ENFILE && (fd !== -Errno.EIO || client.gone)) return fd;
    return descriptors.drain() ? client.open(this.#node, flags) : fd;
  }

  closeFile(): void {
    if (--this.#users === 0) this.fileSystem.descriptors.add(this);
  }

  /** Nobody has it open: lets the descriptors go. */
  closeDescriptors(): void {
    const { host } = this.fileSystem;
    for (const fd of [this.#readFd, this.#writeFd, this.#appendFd]) if (fd >= 0) host.close(fd);
    this.#readFd = this.#writeFd = this.#appendFd = -1;
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    const type = this.mode & FileType.mask;
    if (type === FileType.directory) return new GoferDirectory(this, path, flags);
    if (type !== FileType.regular)
      return openSpecial(task, path, flags, this.mode, this.#stat.rdev, () => {
        this.#fifo ??= new Fifo(this, (written) => this.#passed(written));
        return this.#fifo;
      });
    const mode = flags & OpenFlag.accessMode;
    const truncate = (flags & OpenFlag.truncate) !== 0;
    const fd = this.openFile(mode !== OpenFlag.readOnly || truncate, (flags & OpenFlag.append) !== 0);
    if (fd < 0) return fd;
    if (truncate) {
      const result = this.truncateTo(fd, 0);
      if (result < 0) {
        this.closeFile();
        return result;
      }
    }
    return new GoferFile(this, fd, path, flags);
  }

  /** Bytes went through its FIFO, of which the host knows nothing: its times are kept here. */
  #passed(written: boolean): void {
    const now = this.fileSystem.kernel.clock.realtime();
    this.#stat = written ? { ...this.#stat, mtime: now, ctime: now } : { ...this.#stat, atime: now };
  }

  truncateTo(fd: HostFd, size: number): number {
    const result = this.fileSystem.host.ftruncate(fd, size);
    if (result < 0) return result;
    this.#size = size;
    this.#stale = true;
    if (this.mode & (ModeBit.setUid | ModeBit.setGid)) this.refresh();
    return 0;
  }

  override setAttributes(change: AttributeChange, _credentials: Credentials): number {
    const { mode, uid, gid, size, atime, mtime } = change;
    const onlySize = mode === undefined && uid === undefined && gid === undefined && !atime;
    if (size !== undefined && onlySize && this.#writeFd >= 0) return this.truncateTo(this.#writeFd, size);
    const wanted: GoferChange = {
      mode: mode === undefined ? undefined : mode & ModeBit.all,
      uid,
      gid,
      size,
      atime,
      mtime,
    };
    const attributes = this.fileSystem.client.setAttributes(this.#node, wanted);
    if (typeof attributes === 'number') {
      this.#stale = true;
      return attributes;
    }
    this.update(attributes);
    return 0;
  }

  // Names.

  override lookup(name: string, _task: Task): Inode | number {
    const { fileSystem } = this;
    const found = this.#found;
    if (found?.name === name) {
      this.#found = undefined;
      return found.inode;
    }
    const ahead = fileSystem.takeAhead(this, name);
    if (ahead !== undefined) return ahead;
    return this.#walk(name);
  }

  #walk(name: string): GoferInode | number {
    const { fileSystem } = this;
    const walked = fileSystem.client.walk(this.#node, [name]);
    if (typeof walked === 'number') return walked;
    const first = walked.found[0];
    if (!first) return -Errno.EIO;
    const inode = fileSystem.inode(first.node, first.attributes);
    if (walked.target !== undefined) inode.target = walked.target;
    return inode;
  }

  override get prefetches(): boolean {
    return this.fileSystem.exclusive;
  }

  override prefetch(names: readonly string[]): void {
    // The walk goes on along what was asked for at its beginning.
    if (this.fileSystem.takeAhead(this, names[0] ?? '') === undefined) this.fileSystem.lookAhead(this, names);
  }

  override revalidate(name: string, inode: Inode | undefined, _task: Task): boolean {
    const { fileSystem } = this;
    if (fileSystem.exclusive) return true;
    const time = fileSystem.now();
    const asked = this.#asked.get(name);
    if (asked !== undefined && time - asked < freshNanoseconds) return true;
    const now = this.#walk(name);
    if (this.#asked.size >= askedNames) this.#asked.clear();
    if (typeof now === 'number') {
      if (inode !== undefined || now !== -Errno.ENOENT) return false;
      this.#asked.set(name, time);
      return true;
    }
    if (now === inode) {
      this.#asked.set(name, time);
      return true;
    }
    this.#asked.delete(name);
    this.#found = { name, inode: now };
    return false;
  }

  /** The owner and mode of a new file here. */
  #ownership(mode: number, owner: Credentials): Ownership {
    const { uid, gid, mode: bits } = newInodeOwner(this, mode, owner);
    return { mode: bits & ModeBit.all, uid, gid };
  }

  /** Names in this directory changed. */
  #changed(): void {
    this.#stale = true;
    this.#listing = undefined;
    this.fileSystem.dropAhead();
  }

  #made(
    made: { readonly node: GoferNode; readonly attributes: GoferAttributes } | number,
  ): GoferInode | number {
    if (typeof made === 'number') return made;
    this.#changed();
    return this.fileSystem.inode(made.node, made.attributes);
  }

  /** A new file that came open. */
  #madeOpen(
    made: { readonly node: GoferNode; readonly attributes: GoferAttributes; readonly fd: HostFd } | number,
  ): GoferInode | number {
    if (typeof made === 'number') return made;
    const inode = this.fileSystem.inode(made.node, made.attributes);
    inode.#writeFd = made.fd;
    this.fileSystem.descriptors.add(inode);
    return inode;
  }

  override create(name: string, mode: number, device: number, owner: Credentials): Inode | number {
    const { client } = this.fileSystem;
    const ownership = this.#ownership(mode, owner);
    const type = mode & FileType.mask;
    if (type === FileType.regular || type === 0) {
      const made = client.create(this.#node, name, OpenFlag.readWrite, ownership);
      if (typeof made !== 'number') this.#changed();
      return this.#madeOpen(made);
    }
    return this.#made(
      client.makeNode(
        this.#node,
        name,
        { ...ownership, mode: ownership.mode | type },
        deviceMajor(device),
        deviceMinor(device),
      ),
    );
  }

  override temporaryFile(mode: number, owner: Credentials): Inode | number {
    const ownership = this.#ownership(mode, owner);
    return this.#madeOpen(this.fileSystem.client.temporaryFile(this.#node, OpenFlag.readWrite, ownership));
  }

  override makeDirectory(name: string, mode: number, owner: Credentials): Inode | number {
    const ownership = this.#ownership((mode & ModeBit.all) | FileType.directory, owner);
    return this.#made(this.fileSystem.client.makeDirectory(this.#node, name, ownership));
  }

  override symlink(name: string, target: string, owner: Credentials): Inode | number {
    const { uid, gid } = this.#ownership(FileType.symlink | 0o777, owner);
    const made = this.#made(this.fileSystem.client.symlink(this.#node, name, target, uid, gid));
    if (typeof made !== 'number') made.target = target;
    return made;
  }

  override link(name: string, inode: Inode): number {
    if (!(inode instanceof GoferInode) || inode.fileSystem !== this.fileSystem) return -Errno.EXDEV;
    const attributes = this.fileSystem.client.link(inode.#node, this.#node, name);
    if (typeof attributes === 'number') return attributes;
    inode.update(attributes);
    this.#changed();
    return 0;
  }

  override unlink(name: string, inode: Inode): number {
    const result = this.fileSystem.client.unlink(this.#node, name);
    if (result < 0) return result;
    if (inode instanceof GoferInode) inode.#stale = true;
    this.#changed();
    return 0;
  }

  override removeDirectory(name: string, inode: Inode): number {
    const result = this.fileSystem.client.removeDirectory(this.#node, name);
    if (result < 0) return result;
    if (inode instanceof GoferInode) inode.#stale = true;
    this.#changed();
    return 0;
  }

  override rename(
    name: string,
    inode: Inode,
    target: Inode,
    newName: string,
    replaced: Inode | undefined,
    flags: number,
  ): number {
    if (!(target instanceof GoferInode) || target.fileSystem !== this.fileSystem) return -Errno.EXDEV;
    const result = this.fileSystem.client.rename(this.#node, name, target.#node, newName, flags);
    if (result < 0) return result;
    for (const touched of [inode, replaced]) if (touched instanceof GoferInode) touched.#stale = true;
    // A directory that moved has another "..", which is in its listing.
    if (inode instanceof GoferInode) inode.#listing = undefined;
    if (flags & Rename.exchange && replaced instanceof GoferInode) replaced.#listing = undefined;
    this.#changed();
    if (target !== this) target.#changed();
    return 0;
  }

  /** The directory's names in an order that stays; kept while nobody else can change them. */
  list(): DirectoryListing | number {
    if (this.#listing) return this.#listing;
    const { client, exclusive } = this.fileSystem;
    const cursor = new DirectoryCursor();
    const listing: { name: string; ino: number; type: number }[] = [];
    for (;;) {
      const entries = client.readDirectory(this.#node, cursor, false);
      if (typeof entries === 'number') return entries;
      if (entries.length === 0) break;
      for (const { name, ino, type } of entries) listing.push({ name, ino, type });
    }
    if (exclusive) this.#listing = listing;
    return listing;
  }

  override readLink(_task: Task): string | number {
    if (!this.isSymlink) return -Errno.EINVAL;
    if (this.target !== undefined) return this.target;
    const target = this.fileSystem.client.readLink(this.#node);
    // A link's text never changes while the link exists.
    if (typeof target === 'string') this.target = target;
    return target;
  }

  // Extended attributes.

  override getXattr(name: string): Uint8Array | number {
    return this.fileSystem.client.getXattr(this.#node, name);
  }

  override setXattr(name: string, value: Uint8Array, flags: number): number {
    const result = this.fileSystem.client.setXattr(this.#node, name, value, flags);
    if (result >= 0) this.#stale = true;
    return result;
  }

  override removeXattr(name: string): number {
    const result = this.fileSystem.client.removeXattr(this.#node, name);
    if (result >= 0) this.#stale = true;
    return result;
  }

  override listXattr(): readonly string[] | number {
    const names = this.fileSystem.client.listXattr(this.#node);
    return names === -Errno.EOPNOTSUPP ? [] : names;
  }

  /** connect(2) to a Unix socket that a program of the host serves; -ECONNREFUSED where the root does not permit it. */
  connectHost(type: number): HostFd | number {
    if (!this.fileSystem.hostSockets) return -Errno.ECONNREFUSED;
    return this.fileSystem.client.connect(this.#node, type);
  }

  /** fsync(2) of a directory. */
  syncDirectory(): number {
    return this.fileSystem.readOnly ? 0 : this.fileSystem.client.sync(this.#node, false);
  }

  override evict(): void {
    this.fileSystem.descriptors.remove(this);
    this.closeDescriptors();
    this.fileSystem.forget(this, this.#hostDevice);
    this.fileSystem.client.release(this.#node);
    this.#node = -1;
    this.#listing = undefined;
    this.#found = undefined;
  }
}
