// Call sites that the platform has rewritten, so that a system call there jumps into the stub instead of trapping: of
// one address space. A site is rewritten once it has trapped often enough to be worth it.
//
// What is written over a site is `jmp *slot` with a slot whose address ends in the bytes of the syscall instruction:
//
//     mov $nr,%eax; syscall            ->  jmp *slot            the last two bytes stay `syscall`
//     mov $nr,%rax; syscall            ->  jmp *slot            likewise, after two prefixes without effect
//     syscall; cmp $imm32,%rax         ->  jmp *slot; (a byte)  begins where the call began
//     syscall; cmp $imm32,%eax         ->  jmp *slot
//
// So in the first two forms whoever goes to the syscall instruction itself (a restarted call) finds it, and in the other
// two the jump is in its place. Whoever goes to the address after it meets the third byte of the jump, which was chosen
// to be `in`: not allowed to programs, so that it faults, and the fault says what was meant.
//
// A slot points to a trampoline of 128 bytes (TRAMPOLINES in native/stub/layout.h; entry.S has the other side):
//
//     0x00  mov $nr,%eax (first two forms); lea 0x40(trampoline),%r11; jmp enter
//     0x20  syscall                     if GS is the program's own
//     0x22  cmp $imm32,%rax (last two forms); jmp *0x58(trampoline)
//     0x40  the return address that the program sees, 0x22(trampoline), 0x20(trampoline), where the program goes on

import type { Addon } from '../../host/addon.ts';
import { Protection, Reg, type Registers } from '../contract.ts';
import type { SystrapContext } from './context.ts';
import { MapFlag, Operation, slotTable, trampolines } from './layout.ts';
import type { Protections } from './protections.ts';

/** Traps at a site before it is rewritten: rewriting costs as much as some ten traps. */
const threshold = 16;
const mostCounted = 4096;
const mostStrays = 64;
/** In a trampoline. */
const ordinaryCall = 0x20;
const tail = 0x22;
const data = 0x40;
/** Its bytes lie at a fixed place for the unwinder of C++ exceptions and for debuggers. */
const rtSigreturn = 15;

interface CallSite {
  /** Of the first byte that is replaced. */
  readonly start: number;
  /** Of the first instruction after it. */
  readonly after: number;
  /** What the call returns to, as the program sees it. */
  readonly end: number;
  readonly trampoline: number;
  /** Whether the bytes after the system call's are part of the site. */
  readonly coversReturn: boolean;
  /** The eight bytes at `storeAt` as they were, and as they are now. */
  readonly storeAt: number;
  readonly before: Uint8Array;
  readonly patched: Uint8Array;
  /** How often a thread has come to `end` by itself. */
  strays: number;
}

interface Form {
  readonly start: number;
  readonly after: number;
  /** Bytes before `jmp`. */
  readonly prefix: number;
  readonly loadsNumber: boolean;
  /** Instructions of the site that the trampoline executes after the call. */
  readonly tail: Uint8Array;
}

const invalidOpcode = 0x06;
const none = new Uint8Array(0);

const little32 = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;

/** `code` holds bytes of the program from `from` on; the syscall instruction is at `call`. */
function formOf(code: Uint8Array, from: number, call: number, number: number): Form | undefined {
  const at = call - from;
  const byte = (offset: number): number => code[at + offset] ?? -1;
  if (byte(0) !== 0x0f || byte(1) !== 0x05) return undefined;
  if (at >= 5 && byte(-5) === 0xb8 && little32(code, at - 4) === number) {
    // With a REX prefix before it, it loads something else.
    if (at === 5 || (byte(-6) & 0xf0) !== 0x40)
      return { start: call - 5, after: call + 2, prefix: 0, loadsNumber: true, tail: none };
  } else if (at >= 7 && byte(-7) === 0x48 && byte(-6) === 0xc7 && byte(-5) === 0xc0) {
    if (little32(code, at - 4) === number && number < 0x8000_0000)
      return { start: call - 7, after: call + 2, prefix: 2, loadsNumber: true, tail: none };
  }
  const length = byte(2) === 0x48 && byte(3) === 0x3d ? 6 : byte(2) === 0x3d ? 5 : 0;
  if (length === 0 || at + 2 + length > code.length) return undefined;
  return {
    start: call,
    after: call + 2 + length,
    prefix: 0,
    loadsNumber: false,
    tail: code.slice(at + 2, at + 2 + length),
  };
}

function trampolineCode(at: number, form: Form, end: number, number: number, enter: number): Uint8Array {
  const code = new Uint8Array(128).fill(0xcc);
  const view = new DataView(code.buffer);
  let next = 0;
  if (form.loadsNumber) {
    code[next] = 0xb8;
    view.setUint32(1, number, true);
    next = 5;
  }
  code.set([0x4c, 0x8d, 0x1d], next); // lea …(%rip),%r11
  view.setInt32(next + 3, data - (next + 7), true);
  next += 7;
  code[next] = 0xe9;
  view.setInt32(next + 1, enter - (at + next + 5), true);
  code.set([0x0f, 0x05], ordinaryCall);
  code.set(form.tail, tail);
  next = tail + form.tail.length;
  code.set([0xff, 0x25], next); // jmp *…(%rip)
  view.setInt32(next + 2, data + 24 - (next + 6), true);
  view.setBigUint64(data, BigInt(end), true);
  view.setBigUint64(data + 8, BigInt(at + tail), true);
  view.setBigUint64(data + 16, BigInt(at + ordinaryCall), true);
  view.setBigUint64(data + 24, BigInt(form.after), true);
  return code;
}

export class CallSites {
  readonly #addon: Addon;
  readonly #enter: number;
  readonly #protections: Protections;
  /** How often calls that return to an address have trapped. */
  #counts = new Map<number, number>();
  /** By their `start` and by their `end`. */
  #byStart = new Map<number, CallSite>();
  #byEnd = new Map<number, CallSite>();
  /** Never given away again: a thread may be in one for as long as its call blocks. */
  #trampolines: CallSite[] = [];
  /** Where a first byte was an invalid instruction for a moment. */
  #staged = new Set<number>();
  /** `refused`: nothing is rewritten any more. */
  #table: 'absent' | 'mapped' | 'refused' = 'absent';

  constructor(addon: Addon, enter: number, protections: Protections) {
    this.#addon = addon;
    this.#enter = enter;
    this.#protections = protections;
    if (enter === 0) this.#table = 'refused';
  }

  /** Of a forked address space, whose memory is the same. */
  clone(protections: Protections): CallSites {
    const copy = new CallSites(this.#addon, this.#enter, protections);
    copy.#counts = new Map(this.#counts);
    copy.#byStart = new Map(this.#byStart);
    copy.#byEnd = new Map(this.#byEnd);
    copy.#trampolines = this.#trampolines.slice();
    copy.#staged = new Set(this.#staged);
    copy.#table = this.#table;
    return copy;
  }

  get size(): number {
    return this.#byStart.size;
  }

  /** A call has trapped that returns to `end`. The context is stopped by it. */
  trapped(context: SystrapContext, end: number): void {
    if (this.#table === 'refused') return;
    const count = (this.#counts.get(end) ?? 0) + 1;
    if (count > threshold || (count === 1 && this.#counts.size >= mostCounted)) return;
    this.#counts.set(end, count);
    if (count === threshold) this.#rewrite(context, end);
  }

  #rewrite(context: SystrapContext, end: number): void {
    const { number } = context;
    if (number < 0 || number === rtSigreturn || this.#trampolines.length >= trampolines.count) return;
    const call = end - 2;
    const protection = this.#protections.at(call);
    // Shared text is the file's, and what is writable is about to change.
    if (protection !== (Protection.read | Protection.execute)) return;
    const begin = Math.max(call - 8, this.#protections.begin(call));
    const code = new Uint8Array(Math.min(call + 10, this.#protections.end(call)) - begin);
    if (context.memory.read(begin, code, 0, code.length) < 0) return;
    const form = formOf(code, begin, call, number);
    if (!form || this.#byStart.has(form.start)) return;
    // All eight bytes of the store must be in pages with this protection.
    const storeAt = form.start + 8 <= begin + code.length ? form.start : form.start - 1;
    if (storeAt < begin || storeAt + 8 > begin + code.length) return;
    const before = code.slice(storeAt - begin, storeAt - begin + 8);
    const trampoline = trampolines.start + this.#trampolines.length * trampolines.size;
    const slot = slotTable.start + this.#trampolines.length * 8;
    const patched = before.slice();
    const jump = [0x2e, 0x2e, 0xff, 0x24, 0xe5, slot & 0xff, (slot >> 8) & 0xff, 0x0f, 0x05].slice(
      2 - form.prefix,
    );
    for (let i = 0; i < jump.length && form.start + i < storeAt + 8; i++) {
      patched[form.start + i - storeAt] = jump[i]!;
    }
    const site: CallSite = {
      start: form.start,
      after: form.after,
      end,
      trampoline,
      coversReturn: !form.loadsNumber,
      storeAt,
      before,
      patched,
      strays: 0,
    };
    if (this.#table === 'absent' && !this.#mapTable(context)) return;
    const pointer = new Uint8Array(8);
    new DataView(pointer.buffer).setBigUint64(0, BigInt(trampoline), true);
    const { index } = context;
    if (
      this.#addon.contextPlace(
        index,
        trampoline,
        trampolineCode(trampoline, form, end, number, this.#enter),
      ) < 0
    )
      return;
    if (this.#addon.contextPlace(index, slot, pointer) < 0) return;
    this.#store(context, site, patched, before);
    if (this.#addon.contextFlush(index) < 0) {
      this.#table = 'refused';
      return;
    }
    this.#trampolines.push(site);
    this.#byStart.set(site.start, site);
    this.#byEnd.set(end, site);
  }

  #mapTable(context: SystrapContext): boolean {
    const { start, length } = slotTable;
    this.#table = 'refused';
    if (!this.#protections.isFree(start, start + length)) return false;
    const flags = MapFlag.private | MapFlag.anonymous | MapFlag.noReserve | MapFlag.fixedNoReplace;
    const protection = Protection.read | Protection.write;
    const operation = Operation.mmap;
    if (this.#addon.contextOperation(context.index, operation, start, length, protection, flags, 0, -1) < 0)
      return false;
    if (this.#addon.contextFlush(context.index) < 0) return false;
    this.#table = 'mapped';
    return true;
  }

  // One store if a processor that runs the old bytes sees all of it or nothing. Else with a first byte that faults as
  // long as the others change; between two stores all processors that run the program are interrupted, because the
  // protection of the pages changes.
  #store(context: SystrapContext, site: CallSite, value: Uint8Array, old: Uint8Array): void {
    const store = (bytes: Uint8Array): number =>
      this.#addon.contextStore(context.index, site.storeAt, bytes, Protection.read | Protection.execute);
    const end = Math.min(site.start + 8, site.storeAt + 8);
    if (site.start >> 4 !== (end - 1) >> 4) {
      const first = site.start - site.storeAt;
      const closed = old.slice();
      closed[first] = invalidOpcode;
      store(closed);
      const changed = value.slice();
      changed[first] = invalidOpcode;
      store(changed);
      this.#staged.add(site.start);
    }
    store(value);
  }

  /** Whether a fault came of a rewritten site, and the program has to go on where the registers say. */
  explains(context: SystrapContext): boolean {
    if (this.#byEnd.size === 0 && this.#staged.size === 0) return false;
    const { signal, trap } = context.fault;
    const rip = Number(context.registers()[Reg.rip]!);
    if (signal === 4) return this.#staged.has(rip);
    if (signal !== 11 || trap !== 13) return false;
    const site = this.#byEnd.get(rip);
    if (!site?.coversReturn || this.#byStart.get(site.start) !== site) return false;
    // Threads that were in a call when its site was rewritten come this way once. Code that goes there of its own would
    // fault again and again.
    if (++site.strays > mostStrays) this.#restore(context, site);
    return true;
  }

  #restore(context: SystrapContext, site: CallSite): void {
    this.#store(context, site, site.before, site.patched);
    this.#byStart.delete(site.start);
  }

  /** From how the registers are to how the program would have them without the platform. */
  show(registers: Registers): void {
    const rip = Number(registers[Reg.rip]!);
    const offset = rip - trampolines.start;
    if (offset < 0 || offset >= trampolines.count * trampolines.size) return;
    const site = this.#trampolines[Math.floor(offset / trampolines.size)];
    if (!site) return;
    const within = offset % trampolines.size;
    const shown = BigInt(within < tail ? site.start : within === tail ? site.end : site.after);
    if (registers[Reg.rcx] === registers[Reg.rip]) registers[Reg.rcx] = shown;
    registers[Reg.rip] = shown;
  }

  /** And back. */
  hide(registers: Registers): void {
    if (this.#byEnd.size === 0) return;
    const site = this.#byEnd.get(Number(registers[Reg.rip]!));
    if (site?.coversReturn && this.#byStart.has(site.start))
      registers[Reg.rip] = BigInt(site.trampoline + tail);
  }

  /** A range is about to be unmapped or replaced (`gone`), or its protection or its place to change. */
  changing(through: SystrapContext, start: number, end: number, gone: boolean): void {
    if (start < slotTable.start + slotTable.length && end > slotTable.start && this.#table !== 'refused') {
      this.stop(through);
    }
    if (this.#counts.size === 0 || !this.#protections.some(start, end, Protection.execute)) return;
    for (const address of this.#counts.keys()) {
      if (address >= start && address < end) this.#counts.delete(address);
    }
    for (const site of this.#byEnd.values()) {
      if (site.after <= start || site.start >= end) continue;
      if (this.#byStart.has(site.start) && !(gone && site.start >= start && site.after <= end)) {
        this.#restore(through, site);
      }
      this.#byStart.delete(site.start);
      this.#byEnd.delete(site.end);
    }
  }

  /** Everything is put back as it was, and stays so. */
  stop(through: SystrapContext): void {
    for (const site of this.#byStart.values()) this.#restore(through, site);
    this.#byEnd.clear();
    this.#table = 'refused';
  }

  /** Puts what the program has written into bytes that were read from its memory. */
  conceal(address: number, bytes: Uint8Array, offset: number, length: number): void {
    for (const site of this.#byStart.values()) {
      for (let i = 0; i < 8; i++) {
        const at = site.storeAt + i - address;
        if (at >= 0 && at < length && bytes[offset + at] === site.patched[i])
          bytes[offset + at] = site.before[i]!;
      }
    }
  }
}
