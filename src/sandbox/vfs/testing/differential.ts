// For tests: the same random file system calls natively, on the host's own tmpfs, and in a test tree, and every
// difference in results and data. The native calls are raw ones of the test's own process, which has a temporary
// directory under /dev/shm as its root meanwhile: no path leads out of it.

import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { errnoName } from '../../abi/errno.ts';
import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import type { UserNamespace } from '../../kernel/contract.ts';
import { TaskCredentials } from '../../kernel/credentials/credentials.ts';
import { fixCapabilitiesAfterSetfsuid } from '../../kernel/credentials/transitions.ts';
import { MappedUserNamespace } from '../../kernel/credentials/user-namespace.ts';
import type { SyscallName } from '../../syscalls/contract.ts';
import { loadRawCalls, type RawCalls } from '../../testing/raw-calls.ts';
import { FakeKernel } from './fake-task.ts';
import { createTestTree, type TestTask, type Value } from './tree.ts';

/** Whether there is something to compare with. */
export function hostTmpfs(): boolean {
  try {
    accessSync('/dev/shm', constants.W_OK);
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

/** A small generator with a seed (mulberry32). */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * below);
  };
}

/** One call; `fd` arguments are handles, replaced by each side's own numbers. */
export interface Step {
  readonly name: SyscallName;
  readonly args: readonly (Value | { readonly handle: number })[];
  /** The result is a new descriptor. */
  readonly opens?: boolean;
  /** What of the buffers filled in is compared. */
  readonly shown?: (buffers: readonly Uint8Array[], result: number) => string;
}

const names = ['a', 'b', 'c', 'dd'];

function statText(buffer: Uint8Array): string {
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  const mode = view.getUint32(24, true);
  const isDirectory = (mode & 0o170000) === 0o040000;
  return [
    `mode=${mode.toString(8)}`,
    `nlink=${view.getUint32(16, true)}`,
    `uid=${view.getUint32(28, true)}`,
    `gid=${view.getUint32(32, true)}`,
    `size=${view.getBigUint64(48, true)}`,
    isDirectory ? '' : `blocks=${view.getBigUint64(64, true)}`,
  ].join(' ');
}

function entriesText(buffer: Uint8Array, length: number): string {
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  const entries: string[] = [];
  for (let at = 0; at < length; ) {
    const size = view.getUint16(at + 16, true);
    const bytes = buffer.subarray(at + 19, at + size);
    const name = Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('latin1');
    entries.push(`${name}:${view.getUint8(at + 18)}:${size}`);
    at += size;
  }
  return entries.join(' ');
}

const bytesText = (buffer: Uint8Array | undefined, length: number) =>
  buffer && length > 0 ? Buffer.from(buffer.subarray(0, length)).toString('latin1') : '';

/** Makes up calls. */
export class Generator {
  readonly #random: (below: number) => number;
  handles = 0;

  constructor(random: (below: number) => number) {
    this.#random = random;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)] as T;
  }

  #path(): string {
    const parts: string[] = [];
    for (let i = this.#pick([0, 0, 0, 1, 1, 2]); i >= 0; i--) parts.push(this.#pick(names));
    let text = parts.join(this.#random(20) === 0 ? '//' : '/');
    const odd = this.#random(60);
    if (odd < 3) text += '/';
    else if (odd < 5) text += '/.';
    else if (odd < 7) text += '/..';
    else if (odd === 7) text = `./${text}`;
    else if (odd === 8) text = '';
    else if (odd === 9) text = '.';
    else if (odd === 10) text = `${text}/${'n'.repeat(255)}`;
    else if (odd === 11) text = `${text}/${'n'.repeat(256)}`;
    return text;
  }

  #handle(): { readonly handle: number } {
    return { handle: this.handles === 0 ? -1 : this.#random(this.handles) };
  }

  #offset(): number {
    return this.#pick([0, 1, 10, 100, 4095, 4096, 4097, 8192, 20_000, 70_000, 300_000, -1]);
  }

  #length(): number {
    return this.#pick([0, 1, 5, 100, 4096, 5000, 70_000]);
  }

  #mode(): number {
    return this.#pick([0o644, 0o600, 0o777, 0o755, 0o000, 0o4755, 0o2755, 0o2644, 0o1777, 0o444]);
  }

  #data(): Uint8Array {
    const bytes = new Uint8Array(this.#length());
    bytes.fill(97 + this.#random(26));
    return bytes;
  }

  #openFlags(): number {
    let flags = this.#pick([0, 1, 2, 2, 0, 3]);
    if (this.#random(2) === 0) flags |= 0o100;
    if (this.#random(4) === 0) flags |= 0o200;
    if (this.#random(4) === 0) flags |= 0o1000;
    if (this.#random(5) === 0) flags |= 0o2000;
    if (this.#random(6) === 0) flags |= 0o200000;
    if (this.#random(6) === 0) flags |= 0o400000;
    if (this.#random(12) === 0) flags |= 0o10000000;
    if (this.#random(25) === 0) flags = 0o20200002 | (this.#random(2) === 0 ? 0o200 : 0);
    // FIFOs must not make the test wait.
    return flags | 0o4000;
  }

  step(): Step {
    const path = this.#path();
    const handle = this.#handle();
    const kinds: readonly (() => Step)[] = [
      () => ({ name: 'open', args: [path, this.#openFlags(), this.#mode()], opens: true }),
      () => ({ name: 'open', args: [path, 0o4102, this.#mode()], opens: true }),
      () => ({ name: 'openat', args: [handle, path, this.#openFlags(), this.#mode()], opens: true }),
      () => ({ name: 'close', args: [handle] }),
      () => ({ name: 'dup', args: [handle], opens: true }),
      () => {
        const length = this.#length();
        return {
          name: 'read',
          args: [handle, new Uint8Array(length), length],
          shown: ([buffer], result) => bytesText(buffer, result),
        };
      },
      () => {
        const data = this.#data();
        return { name: 'write', args: [handle, data, data.length] };
      },
      () => {
        const data = this.#data();
        return { name: 'write', args: [handle, data, data.length] };
      },
      () => {
        const length = this.#length();
        return {
          name: 'pread64',
          args: [handle, new Uint8Array(length), length, this.#offset()],
          shown: ([buffer], result) => bytesText(buffer, result),
        };
      },
      () => {
        const data = this.#data();
        return { name: 'pwrite64', args: [handle, data, data.length, this.#offset()] };
      },
      () => ({ name: 'lseek', args: [handle, this.#offset(), this.#random(6)] }),
      () => ({ name: 'ftruncate', args: [handle, this.#offset()] }),
      () => ({ name: 'truncate', args: [path, this.#offset()] }),
      () => ({
        name: 'fallocate',
        args: [handle, this.#pick([0, 1, 3, 3, 2, 8, 16, 0x20, 0x100]), this.#offset(), this.#length()],
      }),
      () => ({
        name: 'stat',
        args: [path, new Uint8Array(144)],
        shown: ([buffer], result) => (result === 0 && buffer ? statText(buffer) : ''),
      }),
      () => ({
        name: 'lstat',
        args: [path, new Uint8Array(144)],
        shown: ([buffer], result) => (result === 0 && buffer ? statText(buffer) : ''),
      }),
      () => ({
        name: 'fstat',
        args: [handle, new Uint8Array(144)],
        shown: ([buffer], result) => (result === 0 && buffer ? statText(buffer) : ''),
      }),
      () => ({
        name: 'newfstatat',
        args: [
          handle,
          this.#pick(['', path]),
          new Uint8Array(144),
          this.#pick([0, 0x100, 0x1000, 0x1100, 1]),
        ],
        shown: ([buffer], result) => (result === 0 && buffer ? statText(buffer) : ''),
      }),
      () => ({ name: 'mkdir', args: [path, this.#mode()] }),
      () => ({ name: 'mkdir', args: [path, 0o777] }),
      () => ({ name: 'rmdir', args: [path] }),
      () => ({ name: 'unlink', args: [path] }),
      () => ({ name: 'unlinkat', args: [handle, path, this.#pick([0, 0x200, 1])] }),
      () => ({ name: 'rename', args: [path, this.#path()] }),
      () => ({ name: 'rename', args: [path, this.#path()] }),
      () => ({ name: 'renameat2', args: [-100, path, -100, this.#path(), this.#random(9)] }),
      () => ({ name: 'link', args: [path, this.#path()] }),
      () => ({ name: 'linkat', args: [-100, path, -100, this.#path(), this.#pick([0, 0x400, 1])] }),
      () => ({ name: 'linkat', args: [handle, '', -100, this.#path(), 0x1000] }),
      () => ({ name: 'symlink', args: [this.#pick([this.#path(), '../a', '.', 'x'.repeat(200)]), path] }),
      () => ({
        name: 'readlink',
        args: [path, new Uint8Array(300), this.#pick([300, 2, 0])],
        shown: ([buffer], result) => bytesText(buffer, result),
      }),
      () => ({ name: 'chmod', args: [path, this.#mode()] }),
      () => ({ name: 'fchmod', args: [handle, this.#mode()] }),
      () => ({ name: 'fchmodat2', args: [-100, path, this.#mode(), this.#pick([0, 0x100])] }),
      () => ({
        name: 'chown',
        args: [path, this.#pick([0, 1000, 0xffffffff]), this.#pick([0, 1000, 0xffffffff])],
      }),
      () => ({ name: 'lchown', args: [path, this.#pick([0, 1000, 0xffffffff]), this.#pick([0, 1000])] }),
      () => ({ name: 'access', args: [path, this.#random(9)] }),
      () => ({ name: 'faccessat2', args: [-100, path, this.#random(8), this.#pick([0, 0x100, 0x200])] }),
      () => ({
        name: 'getdents64',
        args: [handle, new Uint8Array(4096), this.#pick([4096, 4096, 100, 24, 10])],
        shown: ([buffer], result) => (result > 0 && buffer ? entriesText(buffer, result) : ''),
      }),
      () => ({
        name: 'mknod',
        args: [path, this.#pick([0o010644, 0o100600, 0o600, 0o140755, 0o040755, 0o120777]), 0],
      }),
      () => ({ name: 'umask', args: [this.#pick([0, 0o022, 0o077])] }),
      () => ({ name: 'fcntl', args: [handle, this.#pick([1, 3]), 0] }),
      () => ({ name: 'fcntl', args: [handle, this.#pick([2, 4]), this.#pick([0o4001, 0o6000, 0o4000])] }),
      () => ({ name: 'flock', args: [handle, this.#pick([5, 6, 8, 4, 13])] }),
      () => {
        const value = new Uint8Array(this.#pick([0, 5, 300]));
        return {
          name: 'setxattr',
          args: [path, this.#xattr(), value, value.length, this.#random(4)],
        };
      },
      () => ({
        name: 'lgetxattr',
        args: [path, this.#xattr(), new Uint8Array(400), this.#pick([400, 4, 0])],
        shown: ([buffer], result) => (result > 4 ? bytesText(buffer, result) : ''),
      }),
      () => ({ name: 'removexattr', args: [path, this.#xattr()] }),
      () => ({
        name: 'utimensat',
        args: [-100, path, this.#times(), this.#pick([0, 0x100])],
      }),
      () => ({ name: 'copy_file_range', args: [handle, 0, this.#handle(), 0, this.#length(), 0] }),
      // Short, because a file that is sent into itself shows in Linux which pages the pipe in between borrowed.
      () => ({ name: 'sendfile', args: [handle, this.#handle(), 0, this.#random(2)] }),
      () => ({ name: 'fsync', args: [handle] }),
      () => ({ name: 'fadvise64', args: [handle, 0, this.#pick([0, -1, 5]), this.#random(7)] }),
      () => ({
        name: 'openat2',
        args: [-100, path, this.#how(), 24],
        opens: true,
      }),
    ];
    return this.#pick(kinds)();
  }

  #xattr(): string {
    return this.#pick(['user.a', 'user.b', 'trusted.c', 'security.d', 'strange.e', 'user.', '', 'user']);
  }

  #times(): Uint8Array {
    const times = new BigUint64Array(4);
    times[0] = BigInt(this.#random(1000));
    times[1] = this.#pick([5n, 0x3fff_ffffn, 0x3fff_fffen, 2_000_000_000n]);
    times[2] = BigInt(this.#random(1000));
    times[3] = this.#pick([7n, 0x3fff_ffffn, 0x3fff_fffen]);
    return new Uint8Array(times.buffer);
  }

  #how(): Uint8Array {
    const how = new BigUint64Array(3);
    const flags = this.#openFlags();
    how[0] = BigInt(flags);
    how[1] = BigInt(flags & 0o100 || this.#random(8) === 0 ? this.#mode() : 0);
    how[2] = BigInt(this.#pick([0, 4, 8, 0x10, 0x18, 8, 4, 0x40]));
    return new Uint8Array(how.buffer);
  }
}

/** A kernel whose root namespace is that of the credentials. */
class OneNamespaceKernel extends FakeKernel {
  override readonly rootUserNamespace: UserNamespace;

  constructor(namespace: UserNamespace) {
    super();
    this.rootUserNamespace = namespace;
  }
}

/** Both sides, and what they must agree on. */
export class Differential {
  readonly #raw: RawCalls;
  readonly #sandbox: TestTask;
  readonly #descriptors: (readonly [native: number, sandbox: number])[] = [];
  readonly #directory: string;
  readonly #before: string;
  readonly #outside: number;
  readonly #credentials = TaskCredentials.root(MappedUserNamespace.root());
  readonly log: string[] = [];

  constructor(raw: RawCalls) {
    this.#raw = raw;
    const setting = (name: string) => Number(readFileSync(`/proc/sys/fs/protected_${name}`, 'latin1'));
    const protection = {
      symlinks: setting('symlinks'),
      hardlinks: setting('hardlinks'),
      fifos: setting('fifos'),
      regular: setting('regular'),
    };
    this.#directory = mkdtempSync('/dev/shm/vfs-differential-');
    this.#outside = openSync('/', 'r');
    this.#before = process.cwd();
    process.umask(0o022);
    process.chdir(this.#directory);
    this.#chroot();
    const tree = createTestTree({ mode: 0o700 }, new OneNamespaceKernel(this.#credentials.userNamespace));
    Object.assign(tree.vfs.protection, protection);
    this.#sandbox = tree.task(this.#credentials);
  }

  /** Into the working directory. */
  #chroot(): void {
    const result = this.#raw.call(SyscallNumber.chroot, Buffer.from('.\0'));
    if (result < 0) throw new Error(`chroot: ${errnoName(result)}`);
  }

  static raw(): RawCalls {
    return loadRawCalls();
  }

  /** Who makes the calls from now on, for both sides. */
  become(uid: number): void {
    if (uid === this.#sandbox.credentials.fsuid) return;
    this.#raw.call(SyscallNumber.setfsgid, uid);
    this.#raw.call(SyscallNumber.setfsuid, uid);

    const root = this.#credentials;
    this.#sandbox.credentials = fixCapabilitiesAfterSetfsuid(root, root.change({ fsuid: uid, fsgid: uid }));
  }

  /** Undefined when both agree, else what differs. */
  run(step: Step): string | undefined {
    const side = (index: 0 | 1) =>
      step.args.map((value) =>
        typeof value === 'object' && 'handle' in value
          ? (this.#descriptors[value.handle]?.[index] ?? -1)
          : value instanceof Uint8Array
            ? value.slice()
            : value,
      );
    const nativeArgs = side(0);
    const sandboxArgs = side(1);
    // Where a reader goes on when what came next was renamed meanwhile is not the same: see the test of directories.
    if (step.name === 'getdents64') this.#rewindDirectory(nativeArgs[0], sandboxArgs[0]);
    // A pipe borrows the pages of a file that is sent into it: who writes the file later changes what is in the pipe.
    if (step.name === 'sendfile' && this.#nativeType(nativeArgs[0]) === 0o010000) return undefined;
    const native = this.#raw.call(
      SyscallNumber[step.name],
      ...nativeArgs.map((value) => (typeof value === 'string' ? Buffer.from(`${value}\0`, 'latin1') : value)),
    );
    const sandbox = this.#sandbox.call(step.name, ...sandboxArgs);
    const rewound =
      step.name === 'lseek' &&
      native >= 0 &&
      sandbox >= 0 &&
      this.#rewindDirectory(nativeArgs[0], sandboxArgs[0]);
    if (step.opens && native >= 0 && sandbox >= 0) this.#descriptors.push([native, sandbox]);
    const buffers = (args: readonly Value[]) => args.filter((value) => value instanceof Uint8Array);
    const text = (result: number, args: readonly Value[]) => {
      const value = result < 0 ? errnoName(result) : step.opens ? 'descriptor' : String(result);
      const data = step.shown?.(buffers(args), result) ?? '';
      return data === '' ? value : `${value} ${data}`;
    };
    const wanted = rewound ? 'a cookie' : text(native, nativeArgs);
    const got = rewound ? 'a cookie' : text(sandbox, sandboxArgs);
    const line = `${step.name}(${step.args.map(argumentText).join(', ')}) = ${wanted.slice(0, 2000)}`;
    this.log.push(line);
    return wanted === got ? undefined : `${line}\n  but the sandbox says ${got.slice(0, 2000)}`;
  }

  #nativeType(descriptor: Value | undefined): number {
    const stat = new Uint8Array(144);
    this.#raw.call(SyscallNumber.fstat, Number(descriptor), stat);
    return new DataView(stat.buffer).getUint32(24, true) & 0o170000;
  }

  /** Cookies are each kernel's own: a directory is read from its beginning or where it is, but not from a number. */
  #rewindDirectory(native: Value | undefined, sandbox: Value | undefined): boolean {
    if (this.#nativeType(native) !== 0o040000) return false;
    this.#raw.call(SyscallNumber.lseek, Number(native), 0, 0);
    this.#sandbox.call('lseek', Number(sandbox), 0, 0);
    return true;
  }

  get handles(): number {
    return this.#descriptors.length;
  }

  dispose(): void {
    this.become(0);
    for (const [native] of this.#descriptors) this.#raw.call(SyscallNumber.close, native);
    this.#raw.call(SyscallNumber.fchdir, this.#outside);
    this.#chroot();
    closeSync(this.#outside);
    process.chdir(this.#before);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function argumentText(value: Step['args'][number]): string {
  if (typeof value === 'number') return value > 9 ? `${value}/0${value.toString(8)}` : String(value);
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (value instanceof Uint8Array) return `[${value.length}]`;
  return `#${value.handle}`;
}

/** A sequence of random calls; the log up to the first difference, or undefined. */
export function runSequence(raw: RawCalls, seed: number, length: number): string | undefined {
  const random = randomNumbers(seed);
  const generator = new Generator(random);
  const both = new Differential(raw);
  try {
    const user = random(3) === 0 ? 1000 : 0;
    for (let i = 0; i < length; i++) {
      // Others than root begin in a tree that root has made.
      if (i === 12) both.become(user);
      generator.handles = both.handles;
      const difference = both.run(generator.step());
      if (difference !== undefined)
        return [
          `seed ${seed}, step ${i}, fsuid ${i >= 12 ? user : 0}:`,
          ...both.log.slice(0, -1),
          difference,
        ].join('\n');
    }
    return undefined;
  } finally {
    both.dispose();
  }
}
