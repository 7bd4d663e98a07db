// A task and its kernel for unit tests of file systems: only what files ask of them; the rest throws when it is touched.

import { Errno } from '../../abi/errno.ts';
import type {
  Blocking,
  Credentials,
  Kernel,
  Process,
  SignalInfo,
  Task,
  UserNamespace,
} from '../../kernel/contract.ts';
import { FakeHost } from '../../testing/fake-host.ts';
import { FakeMemory } from '../../testing/fake-memory.ts';
import type { Mount, Path } from '../contract.ts';
import { Dentry } from '../dentry.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { UserIo } from '../io.ts';

const namespace: UserNamespace = {
  parent: undefined,
  level: 0,
  toKernelUid: (uid) => uid,
  fromKernelUid: (uid) => uid,
  toKernelGid: (gid) => gid,
  fromKernelGid: (gid) => gid,
} as UserNamespace;

export function fakeCredentials(uid = 0, capable = uid === 0): Credentials {
  return {
    uid,
    euid: uid,
    suid: uid,
    fsuid: uid,
    gid: uid,
    egid: uid,
    sgid: uid,
    fsgid: uid,
    groups: [],
    userNamespace: namespace,
    has: () => capable,
    hasIn: () => capable,
    inGroup: (gid: number) => gid === uid,
  } as unknown as Credentials;
}

/** A place with this inode, on a mount that does nothing. */
export function fakePath(inode: Inode | undefined, flags = 0): Path {
  const mount = {
    flags,
    fileSystem: inode?.fileSystem,
    acquire: () => mount,
    release: () => {},
  };
  const dentry = new Dentry('name', undefined, inode);
  // Whoever holds the path last lets the inode go.
  dentry.unhashed = true;
  return { mount: mount as unknown as Mount, dentry };
}

export class FakeKernel {
  readonly host: FakeHost;
  readonly rootUserNamespace = namespace;
  readonly memoryTotal = 1024 ** 3;
  readonly cpus = 2;
  readonly #parts = new Map<unknown, unknown>();
  #device = 0;
  readonly clock = {
    monotonic: () => this.host.now,
    boot: () => this.host.now,
    realtime: () => ({ ...this.host.wall }),
  };
  readonly log = { unsupported: () => {}, warn: () => {}, debug: () => {} };
  readonly rootPidNamespace: unknown = undefined;

  constructor(host = new FakeHost()) {
    this.host = host;
  }

  part<T>(of: new (kernel: Kernel) => T): T {
    const known = this.#parts.get(of) as T | undefined;
    if (known) return known;
    const made = new of(this as unknown as Kernel);
    this.#parts.set(of, made);
    return made;
  }
  anonymousDevice(): number {
    return ++this.#device;
  }
  random(target: Uint8Array): void {
    this.host.random(target);
  }
  later(action: () => void): void {
    action();
  }
}

/** A descriptor table without limits other than `maximum`. */
class FakeFiles {
  readonly files = new Map<number, FileDescription>();
  readonly closing = new Set<number>();
  maximum = 1024;

  get(fd: number): FileDescription | undefined {
    return this.files.get(fd);
  }
  install(_task: unknown, file: FileDescription, closeOnExec: boolean, minimum = 0): number {
    let fd = minimum;
    while (this.files.has(fd)) fd++;
    if (fd >= this.maximum) return -Errno.EMFILE;
    this.files.set(fd, file);
    if (closeOnExec) this.closing.add(fd);
    return fd;
  }
  close(_task: unknown, fd: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    this.files.delete(fd);
    file.unreference();
    return 0;
  }
  closeOnExec(fd: number): boolean {
    return this.closing.has(fd);
  }
  entries(): IterableIterator<readonly [number, FileDescription]> {
    return this.files.entries();
  }
}

export class FakeTask {
  readonly kernel: FakeKernel;
  readonly memory: FakeMemory;
  readonly files = new FakeFiles();
  readonly signals: SignalInfo[] = [];
  credentials: Credentials;
  readonly process: Process;
  blocked: Blocking | undefined;
  fileSizeLimit = Number.POSITIVE_INFINITY;

  constructor(kernel = new FakeKernel(), credentials = fakeCredentials()) {
    this.kernel = kernel;
    this.credentials = credentials;
    this.memory = new FakeMemory(kernel.host);
    this.process = {
      limit: () => ({ soft: this.fileSizeLimit, hard: this.fileSizeLimit }),
    } as unknown as Process;
  }

  get task(): Task {
    return this as unknown as Task;
  }

  sendSignal(info: SignalInfo): void {
    this.signals.push(info);
  }
  block(blocking: Blocking): number {
    this.blocked = blocking;
    return -0x1_0000;
  }

  /** Writes text to an open file through the program's memory. */
  write(file: FileDescription, text: string | Uint8Array, position?: number): number {
    const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
    this.memory.allocate(0x10_0000, Math.max(1, bytes.length));
    this.memory.poke(0x10_0000, bytes, 0, bytes.length);
    return file.write(this.task, new UserIo(this.memory, [0x10_0000, bytes.length]), position);
  }

  /** Reads up to `length` bytes; the text or a negative errno. */
  read(file: FileDescription, length: number, position?: number): string | number {
    this.memory.allocate(0x80_0000, Math.max(1, length));
    const count = file.read(this.task, new UserIo(this.memory, [0x80_0000, length]), position);
    if (count < 0) return count;
    const bytes = new Uint8Array(count);
    this.memory.peek(0x80_0000, bytes, 0, count);
    return Buffer.from(bytes).toString('latin1');
  }
}
