// The ptrace platform: programs are tracees of the Sentry. Every system call of a program is a stop of its thread
// (PTRACE_SYSEMU), and what the kernel wants done in an address space is done by making a stopped thread execute it
// (native/tracee, native/sentry/ptrace*.c). It needs nothing of the host but ptrace, and is slower for it.
//
// Changes of an address space are made at once; only new threads and processes wait until their maker goes on.

import type { PtraceCalls } from '../../host/addon.ts';
import type { NativeHost } from '../../host/native.ts';
import { type Context, type Platform, Reg, type StubAnswers } from '../contract.ts';
import { Wait } from '../systrap/layout.ts';
import { SegmentList } from '../systrap/memory.ts';
import type { ZygoteFds } from '../systrap/platform.ts';
import { PtraceAddressSpace } from './address-space.ts';
import { PtraceContext } from './context.ts';

export interface PtraceOptions {
  readonly host: NativeHost;
  /** As for the systrap platform, but of native/tracee's program. The platform closes them. */
  readonly zygote: ZygoteFds;
}

export class PtracePlatform implements Platform {
  readonly name = 'ptrace';
  readonly userRange = { start: 0x10000, end: 0x7f00_0000_0000 } as const;
  readonly vdso: number;
  readonly calls: PtraceCalls;
  readonly records: ArrayBuffer;
  readonly extendedStateSize: number;
  /** Scratch for one extended state. */
  readonly extendedState: Uint8Array;
  readonly segments = new SegmentList();
  readonly #host: NativeHost;
  readonly #contexts: (PtraceContext | undefined)[] = [];

  constructor(options: PtraceOptions) {
    const { addon } = options.host;
    this.#host = options.host;
    this.calls = addon.ptrace;
    const { control, doorbell, state } = options.zygote;
    addon.close(doorbell);
    addon.close(state);
    const hello = new Float64Array(1);
    const result = this.calls.start(control, hello);
    if (result < 0) throw new Error(`the template process cannot be traced (${result})`);
    this.vdso = hello[0]!;
    this.records = addon.records;
    this.extendedStateSize = addon.extendedSize();
    this.extendedState = new Uint8Array(this.extendedStateSize);
  }

  /** The address space of a traced process, by the addon's number for it; -1: of none. */
  spaceOf(process: number): PtraceAddressSpace {
    return new PtraceAddressSpace(this, process);
  }

  createAddressSpace(): Context | number {
    const index = this.calls.create();
    if (index < 0) return index;
    const context = this.adopt(new PtraceAddressSpace(this, this.calls.process(index)), index);
    context.registers().fill(0n);
    context.registers()[Reg.eflags] = 0x202n;
    return context;
  }

  wait(deadline: number): Context | undefined {
    const index = this.calls.wait(deadline);
    if (index >= 0) {
      const context = this.#contexts[index];
      context?.settle();
      return context;
    }
    if (index === Wait.events) this.#host.dispatch();
    return undefined;
  }

  /** There is nobody but the kernel to answer. */
  stubAnswers(_context: Context, _answers: StubAnswers | undefined): void {}

  /** Memory is never copied ahead. */
  futexActivity(): void {}

  close(): void {
    this.#contexts.length = 0;
    this.calls.stop();
  }

  adopt(space: PtraceAddressSpace, index: number): PtraceContext {
    const context = new PtraceContext(this, space, index);
    this.#contexts[index] = context;
    return context;
  }

  /** A context has ended; its number may be another's soon. */
  forget(context: PtraceContext): void {
    this.#contexts[context.index] = undefined;
    context.index = -1;
  }

  discard(context: PtraceContext): void {
    this.calls.discard(context.index);
    this.forget(context);
  }

  destroySpace(space: PtraceAddressSpace, id: number): void {
    this.calls.destroy(id);
    for (const context of this.#contexts) if (context?.addressSpace === space) this.forget(context);
  }
}

/** Throws if the template process does not come up or may not be traced. */
export function startPtrace(options: PtraceOptions): PtracePlatform {
  return new PtracePlatform(options);
}
