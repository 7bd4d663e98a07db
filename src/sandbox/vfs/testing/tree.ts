// For unit tests: a mount namespace with a tmpfs as its root, and tasks in it that make system calls by name. Paths and
// other texts are put into the task's memory; results come back as the program would get them.

import type { Blocking, Credentials, Task } from '../../kernel/contract.ts';
import { BLOCKED } from '../../kernel/contract.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall, SyscallName } from '../../syscalls/contract.ts';
import { FakeMemory } from '../../testing/fake-memory.ts';
import { fakeArguments } from '../../testing/fake-platform.ts';
import type { MountNamespace } from '../contract.ts';
import { DescriptorTable } from '../fd-table.ts';
import { FileSystemContext } from '../fs-context.ts';
import { pipeSyscalls } from '../pipe/syscalls.ts';
import { fileSyscalls } from '../syscalls.ts';
import { TmpfsFileSystem, type TmpfsOptions, tmpfsType } from '../tmpfs/file-system.ts';
import { Vfs } from '../vfs.ts';
import { FakeKernel, fakeCredentials } from './fake-task.ts';

const handlers = new Map<SyscallName, Syscall['handler']>(
  [...fileSyscalls, ...pipeSyscalls].map((call) => [call.name, call.handler]),
);

/** Where arguments are put, and where results are expected. */
const argumentArea = 0x10_0000;
const areaSize = 0x4_0000;

/** Something in the program's memory: bytes to be read by the call, or to be filled by it. */
export type Value = number | string | Uint8Array;

export class TestTask {
  readonly kernel: FakeKernel;
  readonly memory: FakeMemory;
  files = new DescriptorTable();
  fs: FileSystemContext;
  mounts: MountNamespace;
  credentials: Credentials;
  readonly visibleTid = 1;
  readonly signals: number[] = [];
  readonly limits = new Map<number, number>();
  blocked: Blocking | undefined;
  readonly process = {
    pid: 1,
    limit: (resource: number) => {
      const value = this.limits.get(resource) ?? (resource === 7 ? 1024 : Number.POSITIVE_INFINITY);
      return { soft: value, hard: value };
    },
    pidNamespace: { findProcess: () => undefined },
    tasks: [] as TestTask[],
    pidIn: () => 1,
  };

  constructor(kernel: FakeKernel, mounts: MountNamespace, credentials: Credentials) {
    this.kernel = kernel;
    this.memory = new FakeMemory(kernel.host);
    this.mounts = mounts;
    this.fs = new FileSystemContext(mounts.root);
    this.credentials = credentials;
    this.memory.allocate(argumentArea, areaSize);
    this.process.tasks.push(this);
  }

  get task(): Task {
    return this as unknown as Task;
  }

  sendSignal(info: { readonly signal: number }): void {
    this.signals.push(info.signal);
  }

  block(blocking: Blocking): typeof BLOCKED {
    this.blocked = blocking;
    return BLOCKED;
  }

  /** What a blocked call answers when its queues are notified now; undefined: it goes on waiting. */
  retry(): number | undefined {
    const { blocked } = this;
    if (!blocked) return undefined;
    const result = blocked.retry();
    if (result === BLOCKED) return undefined;
    this.blocked = undefined;
    blocked.ended?.();
    return result;
  }

  /** A signal interrupts the blocked call. */
  interrupt(): number {
    const { blocked } = this;
    this.blocked = undefined;
    const result = blocked?.interrupted?.() ?? -512;
    blocked?.ended?.();
    return result;
  }

  /** Texts become C strings; byte arrays are copied in before and out after the call. */
  call(name: SyscallName, ...values: readonly Value[]): number {
    const handler = handlers.get(name);
    if (!handler) throw new Error(`no system call ${name}`);
    let at = argumentArea;
    const buffers: (readonly [address: number, bytes: Uint8Array])[] = [];
    const args: Arguments = fakeArguments(
      ...values.map((value) => {
        if (typeof value === 'number') return value;
        const bytes = typeof value === 'string' ? Buffer.from(`${value}\0`, 'latin1') : value;
        const address = at;
        at += (bytes.length + 15) & ~15;
        this.memory.poke(address, bytes, 0, bytes.length);
        if (typeof value !== 'string') buffers.push([address, value]);
        return address;
      }),
    );
    const result = handler(this.task, args);
    for (const [address, bytes] of buffers) this.memory.peek(address, bytes, 0, bytes.length);
    return result;
  }
}

export interface TestTree {
  readonly kernel: FakeKernel;
  readonly vfs: Vfs;
  readonly root: TmpfsFileSystem;
  readonly mounts: MountNamespace;
  /** Root unless told otherwise. */
  task(credentials?: Credentials): TestTask;
}

export function createTestTree(options: TmpfsOptions = {}, kernel = new FakeKernel()): TestTree {
  const vfs = kernel.part(Vfs);
  vfs.registerType(tmpfsType);
  const root = new TmpfsFileSystem(kernel as never, { mode: 0o755, ...options });
  const mounts = vfs.namespace(root, 'tmpfs');
  return {
    kernel,
    vfs,
    root,
    mounts,
    task: (credentials = fakeCredentials()) => new TestTask(kernel, mounts, credentials),
  };
}
