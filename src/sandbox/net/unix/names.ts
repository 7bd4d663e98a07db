// Names of Unix sockets (unix(7)): paths, whose sockets are found by inode, and abstract names of a network namespace.

import { Errno } from '../../abi/errno.ts';
import { Access, At } from '../../abi/file.ts';
import { FileType } from '../../abi/open.ts';
import { Family, familyOf, UnixAddress } from '../../abi/socket.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { Path } from '../../vfs/contract.ts';
import type { Inode } from '../../vfs/inode.ts';
import { makeSocketNode } from '../../vfs/operations.ts';
import { pathPermission } from '../../vfs/permission.ts';
import { resolveFrom } from '../../vfs/walk.ts';
import type { UnixSocket } from './unix-socket.ts';

/** Abstract names of one network namespace. */
export class AbstractNames {
  readonly #sockets = new Map<string, UnixSocket>();
  #next = 0;

  /** Sockets of different types do not see each other's names. */
  static key(type: number, name: string): string {
    return `${type}:${name}`;
  }

  find(key: string): UnixSocket | undefined {
    return this.#sockets.get(key);
  }
  add(key: string, socket: UnixSocket): void {
    this.#sockets.set(key, socket);
  }
  remove(key: string): void {
    this.#sockets.delete(key);
  }

  /** A name of five digits that nobody has; undefined if all are taken. */
  free(kernel: Kernel, type: number): string | undefined {
    const start = new Uint8Array(4);
    kernel.random(start);
    if (this.#next === 0) this.#next = new DataView(start.buffer).getUint32(0);
    for (let tried = 0; tried <= 0xfffff; tried++) {
      this.#next = (this.#next + 1) & 0xfffff;
      const name = `\0${this.#next.toString(16).padStart(5, '0')}`;
      if (!this.#sockets.has(AbstractNames.key(type, name))) return name;
    }
    return undefined;
  }
}

/** Sockets with a path, of the whole kernel. One a kernel: kernel.part(BoundInodes). */
export class BoundInodes {
  readonly #sockets = new WeakMap<Inode, UnixSocket>();

  find(inode: Inode): UnixSocket | undefined {
    return this.#sockets.get(inode);
  }
  add(inode: Inode, socket: UnixSocket): void {
    this.#sockets.set(inode, socket);
  }
  remove(inode: Inode, socket: UnixSocket): void {
    if (this.#sockets.get(inode) === socket) this.#sockets.delete(inode);
  }
}

/** A name in an address: with a leading zero if it is abstract; empty: autobind. -EINVAL (unix_validate_addr). */
export function parseName(address: Uint8Array): string | number {
  if (address.length < 2 || familyOf(address) !== Family.unix) return -Errno.EINVAL;
  if (address.length > UnixAddress.size) return -Errno.EINVAL;
  const text = Buffer.from(address.subarray(UnixAddress.path)).toString('latin1');
  if (text.startsWith('\0')) return text;
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** The address with this name; undefined: the one of a socket without a name. */
export function addressOf(name: string | undefined): Uint8Array {
  const text = name === undefined || name.startsWith('\0') ? (name ?? '') : `${name}\0`;
  const bytes = new Uint8Array(UnixAddress.path + text.length);
  bytes[0] = Family.unix;
  bytes.set(Buffer.from(text, 'latin1'), UnixAddress.path);
  return bytes;
}

/** A file of its own for a socket; -EADDRINUSE where something is. */
export function makeName(task: Task, name: string): Path | number {
  return makeSocketNode(task, At.cwd, name);
}

/**
 * The socket that a path names, or the inode of one that no program of the sandbox serves. -ECONNREFUSED, or what
 * walking the path or its permissions give.
 */
export function findByPath(task: Task, name: string): UnixSocket | Inode | number {
  const place = resolveFrom(task, name);
  if (typeof place === 'number') return place;
  const { inode } = place.dentry;
  if (inode === undefined) return -Errno.ENOENT;
  const allowed = pathPermission(task, place.mount, inode, Access.write);
  if (allowed < 0) return allowed;
  if ((inode.mode & FileType.mask) !== FileType.socket) return -Errno.ECONNREFUSED;
  return task.kernel.part(BoundInodes).find(inode) ?? inode;
}
