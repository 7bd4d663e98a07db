// What the Sentry asks of the Gofer, one method an operation. Every call is synchronous; errors are negative errnos
// (-EIO once the Gofer is gone). Names and targets are latin1 text. A node is a number that stands for a file of the
// host's until it is released; attributes are what the host says at that moment.

import { Errno } from '../abi/errno.ts';
import type { Host, HostFd } from '../host/contract.ts';
import type { StatFs } from '../vfs/contract.ts';
import { GoferAttributes, unsigned64 } from './attributes.ts';
import { GoferConnection } from './connection.ts';
import {
  attributesSize,
  headerSize,
  maximumFrame,
  maximumNodes,
  maximumValue,
  maximumWalk,
  Operation,
  ReadFlags,
  SetFlags,
  SyncFlags,
  WalkFlags,
} from './protocol.ts';

/** A file that the Gofer holds for this client. */
export type GoferNode = number;

export interface NewNode {
  readonly node: GoferNode;
  readonly attributes: GoferAttributes;
}

export interface NewFile extends NewNode {
  /** Open as the flags said. */
  readonly fd: HostFd;
}

export interface Attached extends NewNode {
  /** RootFlags. */
  readonly flags: number;
}

export interface Walked {
  /** The components that were found, in order; not empty. */
  readonly found: readonly NewNode[];
  /** Why it went no further (positive errno: ENOENT, ENOTDIR, …); 0: all were found. */
  readonly stopped: number;
  /** The target of the last one found, if that is a symbolic link. */
  readonly target: string | undefined;
  /** Open to read, if this was asked for, all were found, and the last one is a regular file; else -1. */
  readonly fd: HostFd;
}

/** What to change; left out: stays. A time of 'now' is the host's clock. */
export interface GoferChange {
  /** Permission bits, 0 to 0o7777. */
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly atime?: { readonly sec: number; readonly nsec: number } | 'now' | undefined;
  readonly mtime?: { readonly sec: number; readonly nsec: number } | 'now' | undefined;
}

export interface GoferEntry {
  readonly name: string;
  readonly ino: number;
  /** DT_*. */
  readonly type: number;
  readonly attributes: GoferAttributes | undefined;
}

/** Where the next batch of a directory begins; 64 bits of the host's that mean nothing here. */
export class DirectoryCursor {
  low = 0;
  high = 0;
  rewind(): void {
    this.low = 0;
    this.high = 0;
  }
}

/** Who a new file belongs to and its permission bits, after the umask. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export class GoferClient {
  readonly #connection: GoferConnection;
  readonly #free: GoferNode[] = [];
  #next = 0;

  /** The socket blocks, and belongs to the client from here on. */
  constructor(host: Host, socket: HostFd) {
    this.#connection = new GoferConnection(host, socket);
  }

  get gone(): boolean {
    return this.#connection.broken;
  }

  /** The top of a root. -ENOENT: there is no such root. */
  attach(root: number): Attached | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const result = this.#connection.begin(Operation.attach).u32(root).u32(node).call();
    if (result < 0) return this.#refused(node, result);
    const flags = this.#connection.view.getUint32(headerSize + attributesSize, true);
    return { node, attributes: this.#attributes(headerSize), flags };
  }

  /**
   * Looks up several components, one below the other, following no links and never "..". The error of the first
   * component is the result; a later one is in `stopped`. Names longer than 255 bytes: ENAMETOOLONG. At most 64
   * components are looked at: if `stopped` is 0 and fewer were found than asked for, go on from the last.
   */
  walk(start: GoferNode, names: readonly string[], open = false): Walked | number {
    const connection = this.#connection;
    let count = Math.min(names.length, maximumWalk);
    if (count === 0) return -Errno.EINVAL;
    const nodes: GoferNode[] = [];
    for (let i = 0; i < count; i++) {
      const node = this.#allocate();
      if (node < 0) {
        if (i === 0) return node;
        count = i;
        break;
      }
      nodes.push(node);
    }
    const flags = open && count === names.length ? WalkFlags.open : 0;
    connection.begin(Operation.walk).u32(start).u32(flags).u16(count);
    for (let i = 0; i < count; i++) connection.u32(nodes[i] ?? 0).text((names[i] ?? '').slice(0, 300));
    const result = connection.call();
    for (let i = count - 1; i >= Math.max(result, 0); i--) this.#free.push(nodes[i] ?? 0);
    if (result < 0) return result;
    const { view } = connection;
    const found: NewNode[] = [];
    let at = headerSize + 4;
    for (let i = 0; i < result; i++) {
      found.push({ node: nodes[i] ?? 0, attributes: this.#attributes(at) });
      at += attributesSize;
    }
    let target: string | undefined;
    if (((found.at(-1)?.attributes.mode ?? 0) & 0o170000) === 0o120000) {
      target = connection.replyText(at + 2, view.getUint16(at, true));
    }
    const fd = flags ? connection.takeFd() : -1;
    return { found, stopped: view.getInt32(headerSize, true), target, fd: fd < 0 ? -1 : fd };
  }

  getAttributes(node: GoferNode): GoferAttributes | number {
    return this.#attributesOr(this.#connection.begin(Operation.getAttributes).u32(node).call());
  }

  /**
   * chmod, chown, truncate, utimensat in one; in the order size, owner, mode, times, ended by the first error. -EROFS,
   * -EPERM (the Gofer has not the right), -EOPNOTSUPP (mode of a symbolic link), -EISDIR, -EINVAL.
   */
  setAttributes(node: GoferNode, change: GoferChange): GoferAttributes | number {
    const { mode, uid, gid, size, atime, mtime } = change;
    const set =
      (mode === undefined ? 0 : SetFlags.mode) |
      (uid === undefined ? 0 : SetFlags.uid) |
      (gid === undefined ? 0 : SetFlags.gid) |
      (size === undefined ? 0 : SetFlags.size) |
      (atime === undefined ? 0 : atime === 'now' ? SetFlags.atimeNow : SetFlags.atime) |
      (mtime === undefined ? 0 : mtime === 'now' ? SetFlags.mtimeNow : SetFlags.mtime);
    const connection = this.#connection.begin(Operation.setAttributes).u32(node).u32(set);
    connection
      .u32(mode ?? 0)
      .u32(uid ?? 0)
      .u32(gid ?? 0)
      .u64(size ?? 0);
    for (const time of [atime, mtime]) {
      const given = typeof time === 'object' ? time : undefined;
      connection.u64(given?.sec ?? 0).u32(given?.nsec ?? 0);
    }
    return this.#attributesOr(connection.call());
  }

  /**
   * A descriptor of a regular file. flags: O_RDONLY, O_WRONLY or O_RDWR with O_TRUNC, O_APPEND, O_SYNC, O_DSYNC,
   * O_DIRECT, O_NOATIME, O_NONBLOCK. -EISDIR, -ELOOP (symbolic link), -ENXIO (FIFO, socket, device), -EROFS.
   */
  open(node: GoferNode, flags: number): HostFd | number {
    const result = this.#connection.begin(Operation.open).u32(node).u32(flags).call();
    return result < 0 ? result : this.#connection.takeFd();
  }

  /** A new regular file, open; -EEXIST if the name is there (whatever it is). */
  create(directory: GoferNode, name: string, flags: number, owner: Ownership): NewFile | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const connection = this.#connection.begin(Operation.create).u32(directory).u32(node).u32(flags);
    return this.#newFile(node, this.#owner(connection, owner).text(name).call());
  }

  /** O_TMPFILE: a regular file without a name; link() gives it one unless flags have O_EXCL. -EOPNOTSUPP. */
  temporaryFile(directory: GoferNode, flags: number, owner: Ownership): NewFile | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const connection = this.#connection.begin(Operation.temporaryFile).u32(directory).u32(node).u32(flags);
    return this.#newFile(node, this.#owner(connection, owner).call());
  }

  makeDirectory(directory: GoferNode, name: string, owner: Ownership): NewNode | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const connection = this.#connection.begin(Operation.makeDirectory).u32(directory).u32(node);
    return this.#newNode(node, this.#owner(connection, owner).text(name).call());
  }

  symlink(directory: GoferNode, name: string, target: string, uid: number, gid: number): NewNode | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const connection = this.#connection.begin(Operation.symlink).u32(directory).u32(node).u32(uid).u32(gid);
    return this.#newNode(node, connection.text(name).text(target).call());
  }

  /** owner.mode with the type bits (regular, FIFO, socket, character or block device). -EPERM: devices of this root. */
  makeNode(
    directory: GoferNode,
    name: string,
    owner: Ownership,
    major: number,
    minor: number,
  ): NewNode | number {
    const node = this.#allocate();
    if (node < 0) return node;
    const connection = this.#owner(
      this.#connection.begin(Operation.makeNode).u32(directory).u32(node),
      owner,
    );
    return this.#newNode(node, connection.u32(major).u32(minor).text(name).call());
  }

  /** A further name for a file; gives its attributes with the new count. -EXDEV between roots. */
  link(node: GoferNode, directory: GoferNode, name: string): GoferAttributes | number {
    return this.#attributesOr(
      this.#connection.begin(Operation.link).u32(node).u32(directory).text(name).call(),
    );
  }

  unlink(directory: GoferNode, name: string): number {
    return this.#connection.begin(Operation.unlink).u32(directory).u32(0).text(name).call();
  }

  removeDirectory(directory: GoferNode, name: string): number {
    return this.#connection.begin(Operation.unlink).u32(directory).u32(0x200).text(name).call();
  }

  /** flags: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  rename(from: GoferNode, name: string, to: GoferNode, newName: string, flags: number): number {
    const connection = this.#connection.begin(Operation.rename).u32(from).u32(to).u32(flags);
    return connection.text(name).text(newName).call();
  }

  readLink(node: GoferNode): string | number {
    const result = this.#connection.begin(Operation.readLink).u32(node).call();
    return result < 0 ? result : this.#connection.replyText(headerSize, result);
  }

  /**
   * The next entries of a directory, without "." and ".."; none: the end. With attributes an entry's may still be
   * missing when the file has just gone. Entries made or removed meanwhile may or may not be seen, as in POSIX.
   */
  readDirectory(node: GoferNode, cursor: DirectoryCursor, attributes: boolean): GoferEntry[] | number {
    const connection = this.#connection
      .begin(Operation.readDirectory)
      .u32(node)
      .u32(cursor.low)
      .u32(cursor.high);
    const result = connection
      .u32(maximumFrame)
      .u32(attributes ? ReadFlags.attributes : 0)
      .call();
    if (result < 0) return result;
    const { view } = connection;
    const entries: GoferEntry[] = [];
    let at = headerSize;
    for (let i = 0; i < result; i++) {
      const ino = unsigned64(view, at);
      cursor.low = view.getUint32(at + 8, true);
      cursor.high = view.getUint32(at + 12, true);
      const type = view.getUint8(at + 16);
      const known = view.getUint8(at + 17) === 1;
      const length = view.getUint16(at + 18, true);
      const name = connection.replyText(at + 20, length);
      at += 20 + length;
      entries.push({ name, ino, type, attributes: known ? this.#attributes(at) : undefined });
      if (known) at += attributesSize;
    }
    return entries;
  }

  statfs(node: GoferNode): StatFs | number {
    const result = this.#connection.begin(Operation.statfs).u32(node).call();
    if (result < 0) return result;
    const field = (index: number): number => unsigned64(this.#connection.view, headerSize + 8 * index);
    return {
      type: field(0),
      blockSize: field(1),
      blocks: field(2),
      blocksFree: field(3),
      blocksAvailable: field(4),
      files: field(5),
      filesFree: field(6),
      nameLength: field(7),
    };
  }

  /** -ENODATA, -EOPNOTSUPP. */
  getXattr(node: GoferNode, name: string): Uint8Array | number {
    const connection = this.#connection.begin(Operation.getXattr).u32(node).u32(maximumValue);
    const result = connection.text(name).call();
    return result < 0 ? result : connection.replyBytes(headerSize, result);
  }

  /** flags: XATTR_CREATE 1, XATTR_REPLACE 2. -EOPNOTSUPP for classes that the root does not permit. */
  setXattr(node: GoferNode, name: string, value: Uint8Array, flags: number): number {
    if (value.length > maximumValue) return -Errno.E2BIG;
    const connection = this.#connection.begin(Operation.setXattr).u32(node).u32(flags).text(name);
    return connection.u32(value.length).bytes(value).call();
  }

  listXattr(node: GoferNode): readonly string[] | number {
    const connection = this.#connection.begin(Operation.listXattr).u32(node).u32(maximumValue);
    const result = connection.call();
    return result < 0 ? result : connection.replyText(headerSize, result).split('\0').slice(0, -1);
  }

  removeXattr(node: GoferNode, name: string): number {
    return this.#connection.begin(Operation.removeXattr).u32(node).text(name).call();
  }

  /** Connects to a host program's socket: a non-blocking descriptor. type: SOCK_*. -EACCES: not in this root. */
  connect(node: GoferNode, type: number): HostFd | number {
    const result = this.#connection.begin(Operation.connect).u32(node).u32(type).call();
    return result < 0 ? result : this.#connection.takeFd();
  }

  /** fsync of a directory or regular file; `fileSystem`: syncfs of all that it lies on. */
  sync(node: GoferNode, fileSystem: boolean): number {
    return this.#connection
      .begin(Operation.sync)
      .u32(node)
      .u32(fileSystem ? SyncFlags.fileSystem : 0)
      .call();
  }

  /** The node is no longer used. Costs nothing now: it travels with the next request. */
  release(node: GoferNode): void {
    this.#connection.release(node);
    this.#free.push(node);
  }

  /** Sends waiting releases; for when no request will follow for long. */
  flush(): void {
    this.#connection.flush();
  }

  close(): void {
    this.#connection.close();
  }

  // A number that was released is free again at once: the release is sent before whatever binds it anew.
  #allocate(): GoferNode | number {
    const reused = this.#free.pop();
    if (reused !== undefined) return reused;
    return this.#next < maximumNodes ? this.#next++ : -Errno.ENFILE;
  }

  #refused(node: GoferNode, error: number): number {
    this.#free.push(node);
    return error;
  }

  #owner(connection: GoferConnection, owner: Ownership): GoferConnection {
    return connection.u32(owner.mode).u32(owner.uid).u32(owner.gid);
  }

  #attributes(at: number): GoferAttributes {
    return new GoferAttributes(this.#connection.view, at);
  }

  #attributesOr(result: number): GoferAttributes | number {
    return result < 0 ? result : this.#attributes(headerSize);
  }

  #newNode(node: GoferNode, result: number): NewNode | number {
    if (result < 0) return this.#refused(node, result);
    return { node, attributes: this.#attributes(headerSize) };
  }

  #newFile(node: GoferNode, result: number): NewFile | number {
    if (result < 0) return this.#refused(node, result);
    const fd = this.#connection.takeFd();
    if (fd < 0) {
      this.release(node);
      return fd;
    }
    return { node, attributes: this.#attributes(headerSize), fd };
  }
}
