// One traced thread. What stopped it lies in its record, which the addon fills when it is reported.

import { Errno } from '../../abi/errno.ts';
import {
  type Arguments,
  type Context,
  ContextEvent,
  type Fault,
  Reg,
  type Registers,
  type UserMemory,
} from '../contract.ts';
import { Command, Record, registerCount } from '../systrap/layout.ts';
import type { PtraceAddressSpace } from './address-space.ts';
import { PtraceMemory } from './memory.ts';
import type { PtracePlatform } from './platform.ts';

/** COMMAND_STEP in native/sentry/ptrace.h. */
const stepCommand = 4;
const SIGKILL = 9;

/** The arguments in a record: `at` in 32-bit words. */
class RecordedArguments implements Arguments {
  readonly #words: DataView;

  constructor(records: ArrayBuffer, at: number) {
    this.#words = new DataView(records, at, 48);
  }

  i32(index: number): number {
    return this.#words.getInt32(8 * index, true);
  }

  u32(index: number): number {
    return this.#words.getUint32(8 * index, true);
  }

  address(index: number): number {
    return this.u32(index) + this.#words.getUint32(8 * index + 4, true) * 0x1_0000_0000;
  }

  size(index: number): number {
    return this.address(index);
  }

  i64(index: number): number {
    return this.u32(index) + this.#words.getInt32(8 * index + 4, true) * 0x1_0000_0000;
  }

  big(index: number): bigint {
    return this.#words.getBigUint64(8 * index, true);
  }
}

export class PtraceContext implements Context {
  owner: unknown;
  readonly addressSpace: PtraceAddressSpace;
  readonly args: Arguments;
  readonly memory: UserMemory;
  readonly extendedStateSize: number;
  /** The addon's number for it; -1 once it has ended, or if it could not be made. */
  index: number;

  readonly #platform: PtracePlatform;
  readonly #record: DataView;
  readonly #registers: Registers;
  /** Contexts made since the last stop: they come into being when this one resumes. */
  #made: PtraceContext[] = [];
  /** What the host's refusal to make one is to be reported as. */
  #refused = 0;

  constructor(platform: PtracePlatform, space: PtraceAddressSpace, index: number) {
    this.#platform = platform;
    this.addressSpace = space;
    this.index = index;
    const records = index < 0 ? new ArrayBuffer(Record.size) : platform.records;
    const at = Math.max(index, 0) * Record.size;
    this.#record = new DataView(records, at, Record.size);
    this.#registers = new BigUint64Array(records, at + Record.registers, registerCount);
    this.args = new RecordedArguments(records, at + Record.args);
    this.memory = new PtraceMemory(platform, this);
    this.extendedStateSize = platform.extendedStateSize;
  }

  get event(): ContextEvent {
    return this.index < 0 ? ContextEvent.none : (this.#record.getUint32(Record.event, true) as ContextEvent);
  }

  get number(): number {
    return this.#record.getInt32(Record.number, true);
  }

  get fault(): Fault {
    const record = this.#record;
    return {
      signal: record.getUint32(Record.faultSignal, true),
      code: record.getInt32(Record.faultCode, true),
      address: Number(record.getBigUint64(Record.faultAddress, true)),
      trap: record.getUint32(Record.faultTrap, true),
      error: Number(record.getBigUint64(Record.faultError, true)),
    };
  }

  get failure(): number {
    return Number(this.#record.getBigInt64(Record.result, true));
  }

  get deathSignal(): number {
    return SIGKILL;
  }

  resume(result: number): void {
    this.#record.setInt32(Record.result, result, true);
    this.#record.setInt32(Record.result + 4, Math.floor(result / 0x1_0000_0000), true);
    this.#resumeCall();
  }

  resumeBig(result: bigint): void {
    this.#record.setBigInt64(Record.result, BigInt.asIntN(64, result), true);
    this.#resumeCall();
  }

  #resumeCall(): void {
    const { event } = this;
    if (event === ContextEvent.syscall || event === ContextEvent.operationFailed) {
      this.#continue(Command.result);
      return;
    }
    this.registers()[Reg.rax] = this.#record.getBigUint64(Record.result, true);
    this.#continue(Command.registers);
  }

  registers(): Registers {
    if (this.index >= 0 && this.#record.getUint32(Record.haveRegisters, true) === 0) {
      this.#platform.calls.registers(this.index);
      const registers = this.#registers;
      registers[Reg.origRax] =
        this.event === ContextEvent.syscall ? registers[Reg.rax]! : 0xffff_ffff_ffff_ffffn;
      registers[Reg.cs] = 0x33n;
      registers[Reg.ss] = 0x2bn;
    }
    return this.#registers;
  }

  resumeRegisters(): void {
    this.registers();
    this.#continue(Command.registers);
  }

  step(): void {
    this.registers();
    this.#continue(stepCommand);
  }

  #continue(command: number): void {
    if (this.index < 0) return;
    if (this.event === ContextEvent.none) throw new Error('a context that runs cannot be resumed');
    this.#record.setUint32(Record.event, ContextEvent.none, true);
    this.#platform.calls.resume(this.index, command, this.#refused);
    this.#refused = 0;
  }

  saveExtendedState(address: number): number {
    const state = this.#platform.extendedState;
    if (this.index < 0 || this.#platform.calls.extendedGet(this.index, state) < 0) return -Errno.EFAULT;
    return this.memory.write(address, state, 0, this.extendedStateSize);
  }

  loadExtendedState(address: number): number {
    const state = this.#platform.extendedState;
    if (address === 0) return this.#platform.calls.extendedSet(this.index, state, 0);
    const result = this.memory.read(address, state, 0, this.extendedStateSize);
    return result < 0 ? result : this.setExtendedState(state);
  }

  getExtendedState(): Uint8Array {
    const state = new Uint8Array(this.extendedStateSize);
    this.#platform.calls.extendedGet(this.index, state);
    return state;
  }

  setExtendedState(state: Uint8Array): number {
    if (state.length < 512) return -Errno.EINVAL;
    const length = Math.min(state.length, this.extendedStateSize);
    return this.#platform.calls.extendedSet(this.index, state, length);
  }

  interrupt(): void {
    if (this.index >= 0 && this.event === ContextEvent.none) this.#platform.calls.interrupt(this.index);
  }

  fork(): Context {
    return this.#make(false);
  }

  spawnThread(): Context {
    return this.#make(true);
  }

  // The new context's registers are this one's of now. If there is no room for it, that shows as any other failure does:
  // by operationFailed, once this context resumes.
  #make(thread: boolean): Context {
    const { calls } = this.#platform;
    const index = this.index < 0 ? -Errno.ESRCH : calls.make(this.index, thread);
    if (index < 0) {
      this.#refused = index;
      const context = new PtraceContext(this.#platform, this.#platform.spaceOf(-1), -1);
      context.#registers.set(this.registers());
      return context;
    }
    const space = thread ? this.addressSpace : this.#platform.spaceOf(calls.process(index));
    const context = this.#platform.adopt(space, index);
    context.#registers.set(this.registers());
    context.#record.setUint32(Record.haveRegisters, 1, true);
    this.#made.push(context);
    return context;
  }

  /** From the platform, when this context has stopped: what it was to make does not exist if that failed. */
  settle(): void {
    if (this.#made.length > 0) this.#settle(this.event === ContextEvent.operationFailed);
  }

  #settle(failed: boolean): void {
    const made = this.#made;
    this.#made = [];
    if (!failed) return;
    for (const context of made) if (context.index >= 0) this.#platform.discard(context);
  }

  exit(): void {
    if (this.index < 0) return;
    this.#platform.calls.exit(this.index);
    this.#platform.forget(this);
  }

  flush(): number {
    if (this.index < 0) return -Errno.ESRCH;
    // Nothing else is ever queued.
    if (this.#made.length === 0 && this.#refused === 0) return 0;
    const result = this.#refused || this.#platform.calls.flush(this.index);
    this.#refused = 0;
    this.#settle(result < 0);
    return result;
  }
}
