// A Gofer for unit tests: a tree in memory, its regular files in the fake host. Counts what it is asked.

import { Errno } from '../../abi/errno.ts';
import type { DirectoryCursor, GoferChange, GoferClient, Ownership } from '../../gofer/client.ts';
import type { HostFd } from '../../host/contract.ts';
import type { FakeHost } from '../../testing/fake-host.ts';
import type { Stat } from '../contract.ts';

interface Entry {
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  readonly rdev: number;
  readonly children: Map<string, Entry> | undefined;
  readonly content: HostFd;
  readonly target: string;
}

export class FakeGofer {
  readonly #host: FakeHost;
  readonly root: Entry;
  readonly nodes = new Map<number, Entry>();
  /** Names of the operations, in order. */
  readonly calls: string[] = [];
  rootFlags = 0;
  #next = 0;
  #ino = 1000;

  constructor(host: FakeHost) {
    this.#host = host;
    this.root = this.#entry(0o040755);
  }

  get client(): GoferClient {
    return this as unknown as GoferClient;
  }

  #entry(mode: number, target = '', rdev = 0): Entry {
    const type = mode & 0o170000;
    const content = type === 0o100000 ? this.#host.file('', mode) : -1;
    const ino = content >= 0 ? (this.#host.files.get(content)?.ino ?? 0) : this.#ino++;
    const children = type === 0o040000 ? new Map<string, Entry>() : undefined;
    return { ino, mode, uid: 0, gid: 0, nlink: 1, rdev, children, content, target };
  }

  /** What a program of the host does: makes a file with this content, directories on the way too. */
  put(path: string, content: string | undefined, mode = 0o100644): Entry {
    let at = this.root;
    const names = path.split('/').filter(Boolean);
    const last = names.pop() ?? '';
    for (const name of names) {
      const next = at.children?.get(name) ?? this.#entry(0o040755);
      at.children?.set(name, next);
      at = next;
    }
    const made = this.#entry(mode);
    if (content !== undefined && made.content >= 0)
      this.#host.pwrite(made.content, Buffer.from(content, 'latin1'), 0, content.length, 0);
    at.children?.set(last, made);
    return made;
  }

  text(entry: Entry): string {
    const file = this.#host.files.get(entry.content);
    return Buffer.from(file?.bytes.subarray(0, file.size) ?? []).toString('latin1');
  }

  #attributes(entry: Entry): Stat {
    const file = this.#host.files.get(entry.content);
    const time = { sec: 1, nsec: 2 };
    return {
      dev: 1,
      ino: entry.ino,
      mode: entry.mode,
      nlink: entry.nlink,
      uid: entry.uid,
      gid: entry.gid,
      rdev: entry.rdev,
      size: file?.size ?? entry.target.length,
      blksize: 4096,
      blocks: 8,
      atime: time,
      mtime: time,
      ctime: time,
    };
  }

  #named(entry: Entry): { node: number; attributes: Stat } {
    const node = this.#next++;
    this.nodes.set(node, entry);
    return { node, attributes: this.#attributes(entry) };
  }

  #at(node: number): Entry {
    const entry = this.nodes.get(node);
    if (!entry) throw new Error(`node ${node} is not bound`);
    return entry;
  }

  attach(root: number): unknown {
    this.calls.push('attach');
    return root === 0 ? { ...this.#named(this.root), flags: this.rootFlags } : -Errno.ENOENT;
  }

  walk(start: number, names: readonly string[]): unknown {
    this.calls.push(`walk ${names.join('/')}`);
    let at = this.#at(start);
    const found = [];
    let stopped = 0;
    for (const name of names) {
      const next = at.children?.get(name);
      if (!next) {
        stopped = at.children ? Errno.ENOENT : Errno.ENOTDIR;
        break;
      }
      found.push(this.#named(next));
      at = next;
    }
    if (found.length === 0) return -stopped;
    return { found, stopped, target: at.target === '' ? undefined : at.target, fd: -1 };
  }

  getAttributes(node: number): unknown {
    this.calls.push('getattr');
    return this.#attributes(this.#at(node));
  }

  setAttributes(node: number, change: GoferChange): unknown {
    this.calls.push('setattr');
    const entry = this.#at(node);
    if (change.mode !== undefined) entry.mode = (entry.mode & 0o170000) | change.mode;
    if (change.uid !== undefined) entry.uid = change.uid;
    if (change.gid !== undefined) entry.gid = change.gid;
    if (change.size !== undefined) this.#host.ftruncate(entry.content, change.size);
    const file = this.#host.files.get(entry.content);
    if (file) file.mode = entry.mode;
    return this.#attributes(entry);
  }

  open(node: number, flags: number): number {
    this.calls.push(`open ${flags.toString(8)}`);
    return this.#host.dup(this.#at(node).content);
  }

  #make(directory: number, name: string, made: Entry): Entry | number {
    const { children } = this.#at(directory);
    if (!children) return -Errno.ENOTDIR;
    if (children.has(name)) return -Errno.EEXIST;
    children.set(name, made);
    return made;
  }

  #own(entry: Entry, owner: Ownership): Entry {
    entry.uid = owner.uid;
    entry.gid = owner.gid;
    return entry;
  }

  create(directory: number, name: string, _flags: number, owner: Ownership): unknown {
    this.calls.push('create');
    const made = this.#make(directory, name, this.#own(this.#entry(0o100000 | owner.mode), owner));
    if (typeof made === 'number') return made;
    return { ...this.#named(made), fd: this.#host.dup(made.content) };
  }

  temporaryFile(_directory: number, _flags: number, owner: Ownership): unknown {
    this.calls.push('tmpfile');
    const made = this.#own(this.#entry(0o100000 | owner.mode), owner);
    made.nlink = 0;
    return { ...this.#named(made), fd: this.#host.dup(made.content) };
  }

  makeDirectory(directory: number, name: string, owner: Ownership): unknown {
    this.calls.push('mkdir');
    const made = this.#make(directory, name, this.#own(this.#entry(0o040000 | owner.mode), owner));
    return typeof made === 'number' ? made : this.#named(made);
  }

  makeNode(directory: number, name: string, owner: Ownership, major: number, minor: number): unknown {
    this.calls.push('mknod');
    const entry = this.#own(this.#entry(owner.mode, '', (major << 8) | minor), owner);
    const made = this.#make(directory, name, entry);
    return typeof made === 'number' ? made : this.#named(made);
  }

  symlink(directory: number, name: string, target: string): unknown {
    this.calls.push('symlink');
    const made = this.#make(directory, name, this.#entry(0o120777, target));
    return typeof made === 'number' ? made : this.#named(made);
  }

  link(node: number, directory: number, name: string): unknown {
    this.calls.push('link');
    const made = this.#make(directory, name, this.#at(node));
    if (typeof made === 'number') return made;
    made.nlink++;
    return this.#attributes(made);
  }

  unlink(directory: number, name: string): number {
    this.calls.push('unlink');
    const { children } = this.#at(directory);
    const entry = children?.get(name);
    if (!entry) return -Errno.ENOENT;
    entry.nlink--;
    children?.delete(name);
    return 0;
  }

  removeDirectory(directory: number, name: string): number {
    this.calls.push('rmdir');
    const { children } = this.#at(directory);
    if ((children?.get(name)?.children?.size ?? 0) > 0) return -Errno.ENOTEMPTY;
    return children?.delete(name) ? 0 : -Errno.ENOENT;
  }

  rename(from: number, name: string, to: number, newName: string, _flags: number): number {
    this.calls.push('rename');
    const entry = this.#at(from).children?.get(name);
    if (!entry) return -Errno.ENOENT;
    this.#at(from).children?.delete(name);
    this.#at(to).children?.set(newName, entry);
    return 0;
  }

  readLink(node: number): string | number {
    this.calls.push('readlink');
    return this.#at(node).target;
  }

  readDirectory(node: number, cursor: DirectoryCursor): unknown {
    this.calls.push('readdir');
    const names = [...(this.#at(node).children ?? [])].slice(cursor.low, cursor.low + 2);
    cursor.low += names.length;
    return names.map(([name, entry]) => ({ name, ino: entry.ino, type: entry.mode >> 12 }));
  }

  sync(): number {
    this.calls.push('sync');
    return 0;
  }

  release(node: number): void {
    this.nodes.delete(node);
  }
  flush(): void {}
}
