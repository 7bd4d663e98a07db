// The systrap platform: programs run in stub processes (native/stub) that the Sentry's zygote makes; system calls,
// faults and interrupts come through mailboxes in shared memory, which the native addon watches (native/sentry).
//
// A few stub processes are kept ready, so that an exec does not wait for a fork.

import { Errno } from '../../abi/errno.ts';
import type { Addon } from '../../host/addon.ts';
import type { NativeHost } from '../../host/native.ts';
import { type Context, ContextEvent, type Platform, Reg, type StubAnswers } from '../contract.ts';
import { SystrapAddressSpace } from './address-space.ts';
import { Records, SystrapContext } from './context.ts';
import { Operation, Record, spareRecord, userRange, Wait } from './layout.ts';
import { SegmentList } from './memory.ts';

/** The Sentry's ends of what the zygote was started with (native/stub/zygote.c). The platform closes them. */
export interface ZygoteFds {
  readonly control: number;
  readonly doorbell: number;
  /** Writable. */
  readonly state: number;
}

export interface SystrapOptions {
  readonly host: NativeHost;
  readonly zygote: ZygoteFds;
  /** How many stub processes are kept ready. Default: 2. */
  readonly ready?: number;
}

export class SystrapPlatform implements Platform {
  readonly name = 'systrap';
  readonly userRange = userRange;
  readonly vdso: number;
  readonly addon: Addon;
  readonly records: Records;
  readonly extendedStateSize: number;
  /** Scratch for one extended state. */
  readonly extendedState: Uint8Array;
  readonly segments = new SegmentList();
  /** Where trampolines enter the stub; 0: this processor cannot have patched call sites. */
  readonly enter: number;
  readonly #host: NativeHost;
  readonly #resumes: Int32Array;
  readonly #contexts: (SystrapContext | undefined)[] = [];
  readonly #ready: number[] = [];
  readonly #keepReady: number;

  constructor(options: SystrapOptions) {
    this.#host = options.host;
    this.addon = options.host.addon;
    const hello = new Float64Array(2);
    const { control, doorbell, state } = options.zygote;
    const result = this.addon.platformStart(control, doorbell, state, hello);
    if (result < 0) throw new Error(`the zygote did not answer as it should (${result})`);
    this.addon.close(state);
    this.vdso = hello[0]!;
    this.enter = hello[1]!;
    this.records = new Records(this.addon.records);
    this.#resumes = new Int32Array(this.addon.resumeQueue);
    this.extendedStateSize = this.addon.extendedSize();
    this.extendedState = new Uint8Array(this.extendedStateSize);
    this.#keepReady = options.ready ?? 2;
    this.#prepare();
  }

  createAddressSpace(): Context | number {
    let index = this.#ready.shift();
    // A ready one may have been killed by the host meanwhile.
    while (index !== undefined && this.addon.spaceAwait(index) < 0) {
      this.addon.spaceDestroy(this.addon.contextSpace(index));
      index = this.#ready.shift();
    }
    if (index === undefined) {
      const made = this.addon.spaceCreate();
      if (made < 0) return made;
      if (this.addon.spaceAwait(made) < 0) {
        this.addon.spaceDestroy(this.addon.contextSpace(made));
        return -Errno.EAGAIN;
      }
      index = made;
    }
    this.#prepare();
    const space = new SystrapAddressSpace(this, this.addon.contextSpace(index));
    const context = this.adopt(space, index);
    this.records.u32[(index * Record.size) / 4 + Record.haveRegisters / 4] = 1;
    context.registers()[Reg.eflags] = 0x202n;
    return context;
  }

  wait(deadline: number): Context | undefined {
    for (;;) {
      const index = this.addon.platformWait(deadline);
      if (index >= 0) {
        const context = this.#contexts[index];
        if (!context) {
          this.#readyStopped(index);
          continue;
        }
        context.settle();
        const call = context.trappedCall;
        if (call !== undefined) {
          context.addressSpace.callSites.trapped(context, call);
        } else if (context.event === ContextEvent.fault && context.addressSpace.callSites.explains(context)) {
          context.resumeRegisters();
          continue;
        }
        return context;
      }
      if (index === Wait.events) this.#host.dispatch();
      return undefined;
    }
  }

  stubAnswers(context: Context, answers: StubAnswers | undefined): void {
    if (!(context instanceof SystrapContext) || context.index < 0) return;
    this.addon.contextAnswers(context.index, answers !== undefined, answers?.pid ?? 0, answers?.tid ?? 0);
  }

  futexActivity(): void {
    this.addon.futexActivity();
  }

  close(): void {
    this.#contexts.length = 0;
    this.#ready.length = 0;
    this.addon.platformStop();
  }

  queueResume(index: number): void {
    const queue = this.#resumes;
    queue[++queue[0]!] = index;
  }

  adopt(space: SystrapAddressSpace, index: number): SystrapContext {
    const context = new SystrapContext(this, space, index);
    this.#contexts[index] = context;
    return context;
  }

  /** A context has ended; the addon's number for it may be another's soon. */
  forget(context: SystrapContext): void {
    this.#contexts[context.index] = undefined;
    context.index = -1;
  }

  /** A context that the host has no room for: it never runs, and `parent` gets the failure when it resumes. */
  unmade(parent: SystrapContext, error: number): SystrapContext {
    this.addon.contextOperation(parent.index, Operation.fail, -error, 0, 0, 0, 0, -1);
    const context = new SystrapContext(this, parent.addressSpace, spareRecord);
    context.index = -1;
    return context;
  }

  discard(context: SystrapContext): void {
    if (context.index < 0) return;
    this.addon.contextDiscard(context.index);
    this.forget(context);
  }

  destroySpace(space: SystrapAddressSpace, id: number): void {
    this.addon.spaceDestroy(id);
    for (const context of this.#contexts) if (context?.addressSpace === space) this.forget(context);
  }

  #prepare(): void {
    while (this.#ready.length < this.#keepReady) {
      const index = this.addon.spaceCreate();
      if (index < 0) return;
      this.#ready.push(index);
    }
  }

  // Stub processes of the pool stop once, when they are ready, or die.
  #readyStopped(index: number): void {
    if (this.records.u32[(index * Record.size) / 4] !== ContextEvent.died) return;
    const at = this.#ready.indexOf(index);
    if (at >= 0) this.#ready.splice(at, 1);
    this.addon.spaceDestroy(this.addon.contextSpace(index));
  }
}

/** Throws if the zygote does not come up. */
export function startSystrap(options: SystrapOptions): SystrapPlatform {
  return new SystrapPlatform(options);
}

/**
 * Starts a zygote without a jail around it: for tests, and for runs that want none. This process cannot wait for other
 * children any more (SIGCHLD is ignored). Throws if it cannot be started.
 */
export function startZygote(host: NativeHost, stub: string): ZygoteFds {
  const fds = new Int32Array(3);
  const result = host.addon.startZygote(stub, fds);
  if (result < 0) throw new Error(`${stub} cannot be started (${result})`);
  return { control: fds[0]!, doorbell: fds[1]!, state: fds[2]! };
}
