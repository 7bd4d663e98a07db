// A platform for unit tests: contexts run no instructions; the test says which system call a context makes, and looks at
// how it was answered.

import { Errno } from '../abi/errno.ts';
import type {
  AddressSpace,
  Arguments,
  Backing,
  Context,
  Fault,
  Platform,
  Registers,
} from '../platform/contract.ts';
import { ContextEvent, Reg } from '../platform/contract.ts';
import type { FakeHost } from './fake-host.ts';
import { FakeMemory, pageSize } from './fake-memory.ts';

const argumentRegisters = [Reg.rdi, Reg.rsi, Reg.rdx, Reg.r10, Reg.r8, Reg.r9];

/** Arguments from numbers or bigints, as a test writes them. */
export function fakeArguments(...values: readonly (number | bigint)[]): Arguments {
  const big = (index: number): bigint => BigInt.asUintN(64, BigInt(values[index] ?? 0));
  return {
    i32: (index) => Number(BigInt.asIntN(32, big(index))),
    u32: (index) => Number(BigInt.asUintN(32, big(index))),
    address: (index) => Number(big(index)),
    size: (index) => Number(big(index)),
    i64: (index) => Number(BigInt.asIntN(64, big(index))),
    big,
  };
}

export class FakeContext implements Context {
  owner: unknown;
  readonly addressSpace: FakeAddressSpace;
  event: ContextEvent = ContextEvent.started;
  number = -1;
  args: Arguments = fakeArguments();
  fault: Fault = { signal: 0, code: 0, address: 0, trap: 0, error: 0 };
  failure = 0;
  deathSignal = 0;
  readonly extendedStateSize = 512;
  #extended = new Uint8Array(512);
  readonly #registers: Registers = new BigUint64Array(27);
  /** What the kernel answered: results in order; undefined stands for resumeRegisters. */
  readonly results: (number | bigint | undefined)[] = [];
  interrupts = 0;
  steps = 0;
  exited = false;

  constructor(addressSpace: FakeAddressSpace) {
    this.addressSpace = addressSpace;
    addressSpace.contexts.add(this);
  }

  get memory(): FakeMemory {
    return this.addressSpace.memory;
  }

  /** The program makes a system call. */
  syscall(number: number, ...values: readonly (number | bigint)[]): this {
    this.event = ContextEvent.syscall;
    this.number = number;
    this.args = fakeArguments(...values);
    this.#registers[Reg.rax] = BigInt.asUintN(64, BigInt(number));
    this.#registers[Reg.origRax] = BigInt.asUintN(64, BigInt(number));
    for (const [index, register] of argumentRegisters.entries())
      this.#registers[register] = BigInt.asUintN(64, BigInt(values[index] ?? 0));
    return this;
  }

  /** The processor raised an exception. */
  raise(fault: Partial<Fault> & { readonly signal: number }): this {
    this.event = ContextEvent.fault;
    this.fault = { code: 1, address: 0, trap: 14, error: 4, ...fault };
    return this;
  }

  /** The last answer. */
  get result(): number | bigint | undefined {
    return this.results.at(-1);
  }

  resume(result: number): void {
    this.#registers[Reg.rax] = BigInt.asUintN(64, BigInt(result));
    this.results.push(result);
    this.event = ContextEvent.none;
  }
  resumeBig(result: bigint): void {
    this.#registers[Reg.rax] = BigInt.asUintN(64, result);
    this.results.push(result);
    this.event = ContextEvent.none;
  }
  registers(): Registers {
    return this.#registers;
  }
  resumeRegisters(): void {
    this.results.push(undefined);
    this.event = ContextEvent.none;
  }
  step(): void {
    this.steps++;
    this.event = ContextEvent.none;
  }
  saveExtendedState(address: number): number {
    return Math.min(0, this.memory.write(address, this.#extended, 0, this.#extended.length));
  }
  loadExtendedState(address: number): number {
    if (address === 0) this.#extended.fill(0);
    else return Math.min(0, this.memory.read(address, this.#extended, 0, this.#extended.length));
    return 0;
  }
  getExtendedState(): Uint8Array {
    return this.#extended.slice();
  }
  setExtendedState(state: Uint8Array): number {
    if (state.length !== this.#extended.length) return -Errno.EINVAL;
    this.#extended = state.slice();
    return 0;
  }
  /** Stops at once, if it runs. */
  interrupt(): void {
    this.interrupts++;
    if (this.event === ContextEvent.none && !this.exited) {
      this.event = ContextEvent.interrupt;
      this.addressSpace.platform.stopped.push(this);
    }
  }
  fork(): FakeContext {
    const child = new FakeContext(
      new FakeAddressSpace(this.addressSpace.platform, this.addressSpace.memory.copy()),
    );
    return this.#become(child);
  }
  spawnThread(): FakeContext {
    return this.#become(new FakeContext(this.addressSpace));
  }
  #become(child: FakeContext): FakeContext {
    child.registers().set(this.#registers);
    child.setExtendedState(this.#extended);
    this.addressSpace.platform.stopped.push(child);
    return child;
  }
  exit(): void {
    this.exited = true;
    this.event = ContextEvent.none;
    this.addressSpace.contexts.delete(this);
  }
  flush(): number {
    return 0;
  }
}

export class FakeAddressSpace implements AddressSpace {
  readonly platform: FakePlatform;
  readonly memory: FakeMemory;
  readonly contexts = new Set<FakeContext>();
  /** Operations in order, as text: "map 1000+2000 rw- private anonymous". */
  readonly operations: string[] = [];
  destroyed = false;

  constructor(platform: FakePlatform, memory: FakeMemory) {
    this.platform = platform;
    this.memory = memory;
  }

  map(
    _through: Context,
    address: number,
    length: number,
    protection: number,
    shared: boolean,
    backing: Backing,
  ): number {
    this.operations.push(
      `map ${address.toString(16)}+${length.toString(16)} ${protection} ${shared} ${backing.kind}`,
    );
    this.memory.allocate(address, length, protection);
    if (backing.kind === 'file') {
      const bytes = new Uint8Array(length);
      const count = this.platform.host.pread(backing.fd, bytes, 0, length, backing.offset);
      if (count > 0) this.memory.poke(address, bytes, 0, count);
    }
    return 0;
  }
  unmap(_through: Context, address: number, length: number): number {
    this.operations.push(`unmap ${address.toString(16)}+${length.toString(16)}`);
    for (let at = address; at < address + length; at += pageSize) this.memory.pages.delete(at / pageSize);
    return 0;
  }
  protect(_through: Context, address: number, length: number, protection: number): number {
    this.operations.push(`protect ${address.toString(16)}+${length.toString(16)} ${protection}`);
    for (let at = address; at < address + length; at += pageSize) {
      const page = this.memory.pages.get(at / pageSize);
      if (page) page.protection = protection;
    }
    return 0;
  }
  move(
    _through: Context,
    from: number,
    fromLength: number,
    to: number,
    toLength: number,
    keep: boolean,
  ): number {
    this.operations.push(
      `move ${from.toString(16)}+${fromLength.toString(16)} ${to.toString(16)}+${toLength.toString(16)} ${keep}`,
    );
    const first = this.memory.pages.get(from / pageSize);
    for (let offset = 0; offset < toLength; offset += pageSize) {
      const page = offset < fromLength ? this.memory.pages.get((from + offset) / pageSize) : undefined;
      this.memory.pages.delete((from + offset) / pageSize);
      this.memory.pages.set(
        (to + offset) / pageSize,
        page ?? { bytes: new Uint8Array(pageSize), protection: first?.protection ?? 3 },
      );
      if (keep && page)
        this.memory.pages.set((from + offset) / pageSize, {
          bytes: new Uint8Array(pageSize),
          protection: page.protection,
        });
    }
    for (let offset = toLength; offset < fromLength; offset += pageSize)
      this.memory.pages.delete((from + offset) / pageSize);
    return 0;
  }
  advise(_through: Context, address: number, length: number, advice: number): number {
    this.operations.push(`advise ${address.toString(16)}+${length.toString(16)} ${advice}`);
    if (advice === 4)
      for (let at = address; at < address + length; at += pageSize)
        this.memory.pages.get(at / pageSize)?.bytes.fill(0);
    return 0;
  }
  sync(_through: Context, address: number, length: number): number {
    this.operations.push(`sync ${address.toString(16)}+${length.toString(16)}`);
    return 0;
  }
  destroy(): void {
    this.destroyed = true;
    for (const context of this.contexts) context.exited = true;
    this.contexts.clear();
  }
}

export class FakePlatform implements Platform {
  readonly name = 'systrap';
  readonly userRange = { start: 0x1_0000, end: 0x7f00_0000_0000 };
  readonly vdso = 0;
  readonly host: FakeHost;
  /** Contexts that wait() will give, in order. */
  readonly stopped: FakeContext[] = [];

  constructor(host: FakeHost) {
    this.host = host;
  }

  createAddressSpace(): FakeContext {
    return new FakeContext(new FakeAddressSpace(this, new FakeMemory(this.host)));
  }
  /** Never sleeps: moves the clock to the deadline when nothing has stopped. */
  wait(deadline: number): Context | undefined {
    const context = this.stopped.shift();
    if (!context && deadline !== Number.POSITIVE_INFINITY && deadline > this.host.now)
      this.host.advance(deadline - this.host.now);
    return context;
  }
  stubAnswers(): void {}
  futexActivity(): void {}
  close(): void {}
}
