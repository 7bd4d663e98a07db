// A whole kernel for unit tests of tasks: real tasks, signals, memory books and a tmpfs over the fake platform. Programs
// are tiny ELF files that never run: the test makes their system calls.

import { SyscallNumber } from '../../abi/syscall-numbers.ts';
import { type Context, ContextEvent } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import { Dispatcher } from '../../syscalls/dispatch.ts';
import { SyscallTable } from '../../syscalls/table.ts';
import { FakeHost } from '../../testing/fake-host.ts';
import { type FakeContext, FakePlatform } from '../../testing/fake-platform.ts';
import { DescriptorTable } from '../../vfs/fd-table.ts';
import { FileSystemContext } from '../../vfs/fs-context.ts';
import type { Inode } from '../../vfs/inode.ts';
import { BufferIo } from '../../vfs/io.ts';
import type { MountNamespace } from '../../vfs/mount-namespace.ts';
import { TmpfsFileSystem } from '../../vfs/tmpfs/file-system.ts';
import { Vfs } from '../../vfs/vfs.ts';
import { TaskCredentials } from '../credentials/credentials.ts';
import { Futexes } from '../futex/futexes.ts';
import { IpcNamespace } from '../ipc/ipc-namespace.ts';
import { SandboxKernel } from '../kernel.ts';
import { CgroupNamespace } from '../namespace/cgroup.ts';
import { NamedUtsNamespace } from '../namespace/uts.ts';
import { ptraceSyscalls } from '../ptrace/syscalls.ts';
import { signalSyscalls } from '../signal/syscalls.ts';
import { taskSyscalls } from '../syscalls.ts';
import { Container } from '../task/container.ts';
import { defaultLimits } from '../task/limits.ts';
import type { PidTable } from '../task/pid.ts';
import { createProcess, type ProcessOptions } from '../task/spawn.ts';
import { standardParts } from '../task/standard-parts.ts';
import type { Thread } from '../task/thread.ts';
import { KernelClock } from '../time/kernel-clock.ts';
import { TimerQueue } from '../time/timer-queue.ts';

/** Where a test program has four pages that it may write. */
export const dataAddress = 0x60_0000;
const codeAddress = 0x40_0000;

/** A static program: one page of code, four of data. */
export function tinyProgram(): Uint8Array {
  const bytes = new Uint8Array(0x1000);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(codeAddress + 0x100), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  const header = (at: number, flags: number, address: number, fileSize: number, size: number): void => {
    view.setUint32(at, 1, true);
    view.setUint32(at + 4, flags, true);
    view.setBigUint64(at + 16, BigInt(address), true);
    view.setBigUint64(at + 24, BigInt(address), true);
    view.setBigUint64(at + 32, BigInt(fileSize), true);
    view.setBigUint64(at + 40, BigInt(size), true);
    view.setBigUint64(at + 48, 0x1000n, true);
  };
  header(64, 5, codeAddress, 0x1000, 0x1000);
  header(120, 6, dataAddress, 0, 0x4000);
  return bytes;
}

export class TestSandbox {
  readonly host = new FakeHost();
  readonly platform = new FakePlatform(this.host);
  readonly timers = new TimerQueue();
  readonly kernel: SandboxKernel;
  readonly container: Container;
  readonly mounts: MountNamespace;
  readonly #dispatcher: Dispatcher;
  readonly #root: TmpfsFileSystem;

  constructor(options: { readonly taskLimit?: number; readonly extra?: readonly Syscall[] } = {}) {
    this.#dispatcher = new Dispatcher(
      new SyscallTable([taskSyscalls, signalSyscalls, ptraceSyscalls, options.extra ?? []]),
    );
    this.kernel = new SandboxKernel({
      host: this.host,
      platform: this.platform,
      clock: new KernelClock(this.host),
      timers: this.timers,
      futexes: new Futexes(),
      log: { unsupported: () => undefined, warn: () => undefined, debug: () => undefined },
      cpus: 2,
      memoryTotal: 2 ** 30,
      taskLimit: options.taskLimit ?? 1000,
      handle: (context) => this.#dispatcher.handle(context),
      parts: standardParts(
        () => this.kernel,
        () => -22,
      ),
    });
    this.container = new Container(this.kernel, 'test');
    this.#root = new TmpfsFileSystem(this.kernel);
    this.mounts = this.kernel.part(Vfs).namespace(this.#root, 'tmpfs');
    // Whoever makes a sandbox holds its first namespace.
    this.kernel.namespaceUsers.hold(this.mounts);
    this.put('program', tinyProgram(), 0o755);
  }

  /** A file in the root directory. */
  put(name: string, content: Uint8Array | string, mode = 0o644, uid = 0, gid = 0): Inode {
    const { root } = this.#root;
    const owner = TaskCredentials.of(this.kernel.rootUserNamespace, uid, gid, []);
    const inode = root.create(name, 0o100000 | mode, 0, owner);
    if (typeof inode === 'number') throw new Error(`cannot make ${name}: ${inode}`);
    const path = { mount: this.mounts.rootMount, dentry: this.mounts.root.dentry };
    const place = {
      mount: path.mount,
      dentry: this.kernel.part(Vfs).dentries.nameless(path.dentry, name, inode),
    };
    const file = inode.open(undefined as never, place, 2);
    if (typeof file === 'number') throw new Error(`cannot open ${name}: ${file}`);
    const bytes = typeof content === 'string' ? Buffer.from(content, 'latin1') : content;
    const credentials = TaskCredentials.root(this.kernel.rootUserNamespace);
    const limitless = { credentials, process: { limit: () => ({ soft: Infinity, hard: Infinity }) } };
    const written = file.write(limitless as never, new BufferIo(this.host, bytes), 0);
    if (written !== bytes.length) throw new Error(`cannot write ${name}: ${written}`);
    file.unreference();
    inode.setAttributes({ uid, gid, mode }, credentials);
    return inode;
  }

  /** A process from outside of the sandbox, running /program; the first one is number 1. */
  process(change: Partial<ProcessOptions> = {}): Thread {
    const made = this.tryProcess(change);
    if (typeof made === 'number') throw new Error(`no process: ${made}`);
    made.start();
    return made;
  }

  tryProcess(change: Partial<ProcessOptions> = {}): Thread | number {
    const { kernel, mounts } = this;
    const owner = kernel.rootUserNamespace;
    return createProcess(kernel, {
      container: this.container,
      path: '/program',
      argv: ['program'],
      envp: [],
      credentials: TaskCredentials.root(owner),
      files: new DescriptorTable(),
      fs: new FileSystemContext(mounts.root),
      uts: new NamedUtsNamespace('test', '(none)', owner),
      ipc: new IpcNamespace(kernel, owner),
      mounts,
      network: { userNamespace: owner, createSocket: () => -97, createPair: () => -97, interfaces: [] },
      cgroup: new CgroupNamespace(owner),
      pidNamespace: kernel.rootPidNamespace,
      limits: defaultLimits(1000),
      ...change,
    });
  }

  /** A PID namespace of a container's own. */
  pidNamespace(): PidTable {
    const made = this.kernel.rootPidNamespace.child(this.kernel.rootUserNamespace);
    if (typeof made === 'number') throw new Error(`no PID namespace: ${made}`);
    return made;
  }

  context(thread: Thread): FakeContext {
    return thread.context as FakeContext;
  }

  /**
   * The program makes a system call and the kernel comes to rest: the result, or undefined if it is not answered (it
   * waits, or the thread has ended).
   */
  call(thread: Thread, name: Syscall['name'], ...args: readonly (number | bigint)[]): number | undefined {
    const context = this.context(thread);
    if (context.event !== ContextEvent.none || context.exited) throw new Error(`${thread.tid} does not run`);
    context.syscall(SyscallNumber[name], ...args);
    this.kernel.handle(context);
    this.settle();
    return this.answer(thread);
  }

  /** What rax holds if the thread runs its program, else undefined. */
  answer(thread: Thread): number | undefined {
    if (!this.runs(thread)) return undefined;
    return Number(BigInt.asIntN(64, thread.context.registers()[10] ?? 0n));
  }

  runs(thread: Thread): boolean {
    return !thread.dead && thread.context.event === ContextEvent.none && !this.context(thread).exited;
  }

  /** The child of a fork-like call that has been answered with its number. */
  child(parent: Thread, number: number | undefined): Thread {
    const child = number === undefined ? undefined : parent.process.pidNamespace.findTask(number);
    if (!child) throw new Error(`no child ${number}`);
    return child;
  }

  fork(parent: Thread): Thread {
    return this.child(parent, this.call(parent, 'fork'));
  }

  /** pthread_create. */
  thread(parent: Thread, flags = 0): Thread {
    return this.child(parent, this.call(parent, 'clone', 0x1_0f00 | flags, 0, 0, 0, 0));
  }

  /** Runs the kernel until nothing is left to do. */
  settle(): void {
    for (let round = 0; round < 1000; round++) {
      if (this.kernel.busy) this.kernel.runRetries();
      this.timers.run(this.host.now);
      const context: Context | undefined = this.platform.stopped.shift();
      if (context) {
        if (!(context as FakeContext).exited) this.kernel.handle(context);
      } else if (!this.kernel.busy) return;
    }
    throw new Error('the kernel does not come to rest');
  }

  /** A number in the program's memory. */
  word(thread: Thread, address: number): number {
    return thread.memory.readU32(address);
  }

  /** A string in the program's memory; gives its address. */
  string(thread: Thread, address: number, text: string): number {
    const bytes = Buffer.from(`${text}\0`, 'latin1');
    if (thread.memory.write(address, bytes, 0, bytes.length) < 0) throw new Error('not writable');
    return address;
  }
}
