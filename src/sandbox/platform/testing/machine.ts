// What platform tests work with: a program of small routines (program.S) in an address space, and stepping through the
// events of its contexts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Host } from '../../host/contract.ts';
import { type Context, ContextEvent, type Platform, Protection, Reg } from '../contract.ts';

export const page = 4096;
export const codeBase = 0x40_0000;
export const dataBase = 0x50_0000;
export const dataLength = 64 * page;
export const stackTop = 0x70_0000;

const names = [
  'generic',
  'immediate',
  'compared',
  'spin',
  'load',
  'store',
  'undefined',
  'divide',
  'breakpoint',
  'extended',
  'adder',
  'jumper',
  'scribbler',
  'identity',
  'steps',
  'gate',
  'pingpong',
  'busy',
] as const;
export type Routine = (typeof names)[number];
export const addressOf = (routine: Routine): number => codeBase + 128 * names.indexOf(routine);

/** The routines as they lie at codeBase. Needs the compiler that the native programs are built with. */
export function assembleProgram(): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'platform-program-'));
  try {
    const file = join(directory, 'program');
    const source = fileURLToPath(new URL('program.S', import.meta.url));
    const link = [`-Wl,-Ttext=0x${codeBase.toString(16)}`, '-Wl,--oformat=binary', '-Wl,-e,generic'];
    const options = ['-nostdlib', '-static', '-no-pie', '-Wl,--build-id=none', ...link];
    execFileSync(process.env['CC'] ?? 'cc', [...options, '-o', file, source]);
    return new Uint8Array(readFileSync(file));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export type RegisterValues = { readonly [name in keyof typeof Reg]?: number | bigint };

export class Machine {
  readonly platform: Platform;
  readonly host: Host;
  readonly #code: Uint8Array;
  /** Contexts that have stopped while another one was waited for. */
  readonly #early: Context[] = [];

  constructor(platform: Platform, host: Host, code: Uint8Array) {
    this.platform = platform;
    this.host = host;
    this.#code = code;
  }

  /** A new address space with the routines, data and a stack; its context has not run yet. */
  load(): Context {
    const context = this.platform.createAddressSpace();
    assert.ok(typeof context !== 'number', `createAddressSpace: ${context}`);
    assert.equal(context.event, ContextEvent.started);
    const space = context.addressSpace;
    const anonymous = { kind: 'anonymous' } as const;
    const length = Math.ceil(this.#code.length / page) * page;
    const both = Protection.read | Protection.write;
    assert.equal(space.map(context, codeBase, length, both, false, anonymous), 0);
    assert.equal(space.map(context, dataBase, dataLength, both, false, anonymous), 0);
    assert.equal(space.map(context, stackTop - 16 * page, 16 * page, both, false, anonymous), 0);
    assert.equal(context.memory.write(codeBase, this.#code, 0, this.#code.length), 0);
    assert.equal(space.protect(context, codeBase, length, Protection.read | Protection.execute), 0);
    assert.equal(context.flush(), 0);
    return context;
  }

  /** Lets the context begin a routine. */
  begin(context: Context, routine: Routine, values: RegisterValues = {}): void {
    const registers = context.registers();
    registers[Reg.rip] = BigInt(addressOf(routine));
    registers[Reg.rsp] = BigInt(stackTop - 1024);
    this.set(context, values);
    context.resumeRegisters();
  }

  set(context: Context, values: RegisterValues): void {
    const registers = context.registers();
    for (const [name, value] of Object.entries(values))
      registers[Reg[name as keyof typeof Reg]] = BigInt(value);
  }

  /** The next context to stop. */
  next(seconds = 10): Context {
    const early = this.#early.shift();
    if (early) return early;
    const deadline = this.host.monotonic() + seconds * 1e9;
    for (;;) {
      const context = this.platform.wait(deadline);
      if (context) return context;
      assert.ok(this.host.monotonic() < deadline, 'no context has stopped');
    }
  }

  /** Waits for this one and says what stopped it. */
  stopOf(context: Context, event: number): Context {
    for (;;) {
      const at = this.#early.indexOf(context);
      if (at >= 0) {
        this.#early.splice(at, 1);
        break;
      }
      const deadline = this.host.monotonic() + 10e9;
      const stopped = this.platform.wait(deadline);
      if (stopped === context) break;
      if (stopped) this.#early.push(stopped);
      else assert.ok(this.host.monotonic() < deadline, 'the context has not stopped');
    }
    assert.equal(context.event, event);
    return context;
  }

  /** Waits for a system call with this number. */
  callOf(context: Context, number: number): Context {
    this.stopOf(context, ContextEvent.syscall);
    assert.equal(context.number, number);
    return context;
  }

  /** Whether anything stops within so many nanoseconds. */
  quiet(nanoseconds: number): boolean {
    const end = this.host.monotonic() + nanoseconds;
    while (this.host.monotonic() < end) if (this.platform.wait(end)) return false;
    return true;
  }

  /** The mapped word that a running thread changes has another value than `from`. */
  changes(address: number, through: Context, from: number): number {
    const deadline = this.host.monotonic() + 10e9;
    for (;;) {
      const value = through.memory.loadU32(address);
      if (value !== from) return value;
      assert.ok(this.host.monotonic() < deadline, 'the word does not change');
    }
  }
}
