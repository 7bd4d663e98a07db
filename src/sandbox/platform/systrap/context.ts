// One thread of an address space. What stopped it lies in its record, which the addon fills from the mailbox; replies
// are queued and handed over with the next Platform.wait (or any call that needs them before).

import { Errno } from '../../abi/errno.ts';
import type { Addon } from '../../host/addon.ts';
import {
  type Arguments,
  type Context,
  ContextEvent,
  type Fault,
  Reg,
  type Registers,
  type UserMemory,
} from '../contract.ts';
import type { SystrapAddressSpace } from './address-space.ts';
import { Command, Record, registerCount } from './layout.ts';
import { SystrapMemory } from './memory.ts';
import type { SystrapPlatform } from './platform.ts';

const trapFlag = 0x100n;

/** Views of all records, shared by the contexts. */
export class Records {
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly i64: BigInt64Array;
  readonly buffer: ArrayBuffer;

  constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.i64 = new BigInt64Array(buffer);
  }
}

class CallArguments implements Arguments {
  readonly #records: Records;
  /** In 32-bit words. */
  readonly #at: number;

  constructor(records: Records, at: number) {
    this.#records = records;
    this.#at = at;
  }

  i32(index: number): number {
    return this.#records.i32[this.#at + 2 * index]!;
  }

  u32(index: number): number {
    return this.#records.u32[this.#at + 2 * index]!;
  }

  address(index: number): number {
    const at = this.#at + 2 * index;
    return this.#records.u32[at]! + this.#records.u32[at + 1]! * 0x1_0000_0000;
  }

  size(index: number): number {
    return this.address(index);
  }

  i64(index: number): number {
    const at = this.#at + 2 * index;
    return this.#records.u32[at]! + this.#records.i32[at + 1]! * 0x1_0000_0000;
  }

  big(index: number): bigint {
    return this.#records.u64[(this.#at >> 1) + index]!;
  }
}

export class SystrapContext implements Context {
  owner: unknown;
  readonly addressSpace: SystrapAddressSpace;
  readonly args: Arguments;
  readonly memory: UserMemory;
  readonly extendedStateSize: number;
  /** The addon's number for it; -1 once it has ended. */
  index: number;

  readonly #platform: SystrapPlatform;
  readonly #addon: Addon;
  readonly #records: Records;
  /** Of its record, in 32-bit words. */
  readonly #at: number;
  #registers: Registers | undefined;
  /** Contexts made since the last stop: they come into being when this one resumes. */
  #made: SystrapContext[] = [];

  constructor(platform: SystrapPlatform, space: SystrapAddressSpace, index: number) {
    this.#platform = platform;
    this.#addon = platform.addon;
    this.#records = platform.records;
    this.addressSpace = space;
    this.index = index;
    this.#at = (index * Record.size) / 4;
    this.args = new CallArguments(this.#records, this.#at + Record.args / 4);
    this.memory = new SystrapMemory(this.#addon, this, space);
    this.extendedStateSize = platform.extendedStateSize;
  }

  get event(): ContextEvent {
    return this.index < 0 ? ContextEvent.none : (this.#records.u32[this.#at]! as ContextEvent);
  }

  get number(): number {
    return this.#records.i32[this.#at + 1]!;
  }

  /** What a system call that came by a trap returns to; undefined if it came otherwise. */
  get trappedCall(): number | undefined {
    const { u32 } = this.#records;
    const at = this.#at;
    if (u32[at] !== ContextEvent.syscall || u32[at + Record.trapped / 4] === 0) return undefined;
    return u32[at + Record.callAddress / 4]! + u32[at + Record.callAddress / 4 + 1]! * 0x1_0000_0000;
  }

  get fault(): Fault {
    const { u32 } = this.#records;
    const at = this.#at;
    const wide = (offset: number): number =>
      u32[at + offset / 4]! + u32[at + offset / 4 + 1]! * 0x1_0000_0000;
    return {
      signal: u32[at + Record.faultSignal / 4]!,
      code: this.#records.i32[at + Record.faultCode / 4]!,
      address: wide(Record.faultAddress),
      trap: u32[at + Record.faultTrap / 4]!,
      error: wide(Record.faultError),
    };
  }

  get failure(): number {
    return this.#records.i32[this.#at + Record.result / 4]!;
  }

  get deathSignal(): number {
    return 9;
  }

  resume(result: number): void {
    const { i32 } = this.#records;
    const at = this.#at + Record.result / 4;
    i32[at] = result;
    i32[at + 1] = Math.floor(result / 0x1_0000_0000);
    this.#resumeCall();
  }

  resumeBig(result: bigint): void {
    this.#records.i64[(this.#at + Record.result / 4) >> 1] = BigInt.asIntN(64, result);
    this.#resumeCall();
  }

  #resumeCall(): void {
    const at = this.#at;
    // Where nothing is as the stub left it, rax alone is not enough.
    if (
      this.#records.u32[at] === ContextEvent.syscall ||
      this.#records.u32[at] === ContextEvent.operationFailed
    ) {
      this.#continue(Command.result);
      return;
    }
    const registers = this.registers();
    registers[Reg.rax] = this.#records.u64[(at + Record.result / 4) >> 1]!;
    this.resumeRegisters();
  }

  registers(): Registers {
    if (this.index >= 0 && this.#records.u32[this.#at + Record.haveRegisters / 4] === 0) {
      this.#addon.contextRegisters(this.index);
      const registers = this.#view();
      registers[Reg.origRax] =
        this.event === ContextEvent.syscall ? registers[Reg.rax]! : 0xffff_ffff_ffff_ffffn;
      registers[Reg.cs] = 0x33n;
      registers[Reg.ss] = 0x2bn;
      registers[Reg.eflags]! &= ~trapFlag;
      for (let i = Reg.ds; i < registerCount; i++) registers[i] = 0n;
      this.addressSpace.callSites.show(registers);
    }
    return this.#view();
  }

  #view(): Registers {
    this.#registers ??=
      this.index < 0
        ? new BigUint64Array(registerCount)
        : new BigUint64Array(this.#records.buffer, this.#at * 4 + Record.registers, registerCount);
    return this.#registers;
  }

  resumeRegisters(): void {
    this.addressSpace.callSites.hide(this.registers());
    this.#continue(Command.registers);
  }

  step(): void {
    const registers = this.registers();
    // A jump to a trampoline is no instruction of the program's.
    this.addressSpace.callSites.stop(this);
    registers[Reg.eflags]! |= trapFlag;
    this.#continue(Command.registers);
  }

  #continue(command: number): void {
    if (this.index < 0) return;
    const at = this.#at;
    if (this.#records.u32[at] === ContextEvent.none) throw new Error('a context that runs cannot be resumed');
    this.#records.u32[at] = ContextEvent.none;
    this.#records.u32[at + Record.command / 4] = command;
    this.#platform.queueResume(this.index);
  }

  saveExtendedState(address: number): number {
    const state = this.#platform.extendedState;
    const result = this.#addon.extendedGet(this.index, state);
    if (result < 0) return -Errno.EFAULT;
    // Not queued: whoever builds a signal frame has to know now whether there is room for it.
    const written = this.#addon.memoryPoke(this.index, address, state, 0, this.extendedStateSize, -1);
    return written < 0 ? -Errno.EFAULT : 0;
  }

  loadExtendedState(address: number): number {
    const state = this.#platform.extendedState;
    if (address === 0) return this.#addon.extendedSet(this.index, state, 0);
    const result = this.memory.read(address, state, 0, this.extendedStateSize);
    if (result < 0) return result;
    return this.#addon.extendedSet(this.index, state, this.extendedStateSize);
  }

  getExtendedState(): Uint8Array {
    const state = new Uint8Array(this.extendedStateSize);
    this.#addon.extendedGet(this.index, state);
    return state;
  }

  setExtendedState(state: Uint8Array): number {
    if (state.length < 512) return -Errno.EINVAL;
    return this.#addon.extendedSet(this.index, state, Math.min(state.length, this.extendedStateSize));
  }

  interrupt(): void {
    if (this.index >= 0 && this.event === ContextEvent.none) this.#addon.contextInterrupt(this.index);
  }

  fork(): Context {
    return this.#make(this.#addon.contextFork(this.index), true);
  }

  spawnThread(): Context {
    return this.#make(this.#addon.contextSpawn(this.index), false);
  }

  // The new context's registers are this one's of now. If the host has no room at all, the failure shows as any other
  // does: by operationFailed, once this context resumes.
  #make(index: number, fork: boolean): Context {
    if (index < 0) {
      const context = new SystrapContext(this.#platform, this.addressSpace.stillborn(), -1);
      context.#view().set(this.registers());
      this.addressSpace.failNext(this);
      return context;
    }
    const space = fork ? this.addressSpace.fork(index) : this.addressSpace;
    const context = this.#platform.adopt(space, index);
    context.#view().set(this.registers());
    this.#records.u32[context.#at + Record.haveRegisters / 4] = 1;
    this.#made.push(context);
    return context;
  }

  /** From the platform, when this context has stopped: what it was to make does not exist if one of its operations failed. */
  settle(): void {
    if (this.#made.length === 0) return;
    const made = this.#made;
    this.#made = [];
    if (this.event !== ContextEvent.operationFailed) return;
    for (const context of made) if (context.index >= 0) this.#platform.discard(context);
  }

  exit(): void {
    if (this.index < 0) return;
    this.#addon.contextExit(this.index);
    this.#platform.forget(this);
  }

  cpuTime(): number {
    return this.index < 0 ? 0 : this.#addon.contextCpuTime(this.index);
  }

  flush(): number {
    return this.index < 0 ? -Errno.ESRCH : this.#addon.contextFlush(this.index);
  }
}
