// A task with memory for unit tests: a fake platform's address space, limits that the test sets.

import { Rlimit } from '../../abi/resource.ts';
import type { Host } from '../../host/contract.ts';
import type { Kernel, SignalInfo, Task } from '../../kernel/contract.ts';
import type { Context, Platform } from '../../platform/contract.ts';
import { FakeHost } from '../../testing/fake-host.ts';
import { type FakeContext, FakePlatform } from '../../testing/fake-platform.ts';
import { FileDescription } from '../../vfs/file-description.ts';
import { BufferIo, type Io } from '../../vfs/io.ts';
import { type Bases, chooseBases } from '../placement.ts';
import { ProgramMemory } from '../program-memory.ts';

/** A file whose bytes the fake host holds. */
export class FakeFile extends FileDescription {
  readonly host: FakeHost;
  readonly fd: number;
  released = false;

  constructor(host: FakeHost, bytes: Uint8Array | string = '', flags = 2) {
    super(flags, undefined);
    this.host = host;
    this.fd = host.file(bytes);
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    return io.putFromHost(this.fd, position ?? 0, io.left);
  }

  override mappable(): number {
    return this.fd;
  }

  override allocate(_task: Task, mode: number, offset: number, length: number): number {
    return this.host.fallocate(this.fd, mode, offset, length);
  }

  protected override release(): void {
    this.released = true;
  }
}

class HostFile extends FileDescription {
  readonly #fd: number;

  constructor(fd: number) {
    super(0, undefined);
    this.#fd = fd;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    return io.putFromHost(this.#fd, position ?? 0, io.left);
  }

  override mappable(): number {
    return this.#fd;
  }
}

export class FakeProgram {
  readonly host: FakeHost;
  readonly platform: FakePlatform;
  context: FakeContext;
  readonly kernel: Kernel;
  readonly task: Task;
  readonly limits = new Map<number, number>([[Rlimit.stack, 8 * 2 ** 20]]);
  readonly sent: SignalInfo[] = [];
  capable = true;
  personality = 0;
  mm: ProgramMemory;
  readonly #parts = new Map<unknown, unknown>();

  /** real: the task lives on this host and platform instead; only what is loaded there works. */
  constructor(
    bases?: Bases,
    host = new FakeHost(),
    real?: { readonly host: Host; readonly platform: Platform },
  ) {
    this.host = host;
    this.platform = new FakePlatform(host);
    this.context = this.platform.createAddressSpace();
    this.kernel = {
      host: real?.host ?? host,
      platform: real?.platform ?? this.platform,
      part: <T>(of: new (kernel: Kernel) => T): T => {
        const made = this.#parts.get(of) ?? new of(this.kernel);
        this.#parts.set(of, made);
        return made as T;
      },
      memoryTotal: 2 ** 24,
      cpus: 2,
      rootUserNamespace: {},
      log: { unsupported: () => {}, warn: () => {}, debug: () => {} },
      random: (target: Uint8Array) => host.random(target),
    } as unknown as Kernel;
    const program = this;
    this.task = {
      kernel: this.kernel,
      get context(): Context {
        return program.context;
      },
      get mm(): ProgramMemory {
        return program.mm;
      },
      get memory() {
        return program.mm.memoryOf(program.context);
      },
      get personality(): number {
        return program.personality;
      },
      credentials: {
        uid: 0,
        euid: 0,
        gid: 0,
        egid: 0,
        has: () => program.capable,
        hasIn: () => program.capable,
      },
      process: {
        limit: (resource: number) => {
          const soft = program.limits.get(resource) ?? Number.POSITIVE_INFINITY;
          return { soft, hard: soft };
        },
        sendSignal: (info: SignalInfo) => program.sent.push(info),
      },
    } as unknown as Task;
    this.context.owner = this.task;
    this.mm = new ProgramMemory({
      kernel: this.kernel,
      addressSpace: this.context.addressSpace,
      bases: bases ?? chooseBases(this.platform.userRange, 8 * 2 ** 20, 0, this.kernel),
    });
  }

  file(bytes: Uint8Array | string = '', flags = 2): FakeFile {
    return new FakeFile(this.host, bytes, flags);
  }

  /** A file of the real host's. */
  hostFile(fd: number): FileDescription {
    return new HostFile(fd);
  }

  /** The task goes on with another image. */
  adopt(context: Context, mm: ProgramMemory): void {
    this.context = context as FakeContext;
    this.mm = mm;
    context.owner = this.task;
  }

  io(bytes: Uint8Array): BufferIo {
    return new BufferIo(this.host, bytes);
  }

  /** mmap(2) of anonymous or file memory. */
  map(
    address: number,
    length: number,
    protection: number,
    flags: number,
    file?: FileDescription,
    offset = 0,
  ): number {
    return this.mm.map(this.task, { address, length, protection, flags, file, offset });
  }

  /** The books as text, relative to `base` in pages: "0-4 rw-p". */
  maps(base = 0): string[] {
    const rights = (protection: number, shared: boolean): string =>
      `${protection & 1 ? 'r' : '-'}${protection & 2 ? 'w' : '-'}${protection & 4 ? 'x' : '-'}${shared ? 's' : 'p'}`;
    return [...this.mm.vmas()].map((vma) =>
      `${(vma.start - base) / 4096}-${(vma.end - base) / 4096} ${rights(vma.protection, vma.shared)} ${vma.label}`.trim(),
    );
  }
}
