// What every platform must do, as tests: contract.ts in claims. A platform's own test file calls testPlatform.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import type { Host } from '../../host/contract.ts';
import { type Context, ContextEvent, type Platform, Protection, Reg } from '../contract.ts';
import {
  addressOf,
  assembleProgram,
  codeBase,
  dataBase,
  dataLength,
  Machine,
  page,
  stackTop,
} from './machine.ts';

export interface PlatformUnderTest {
  readonly host: Host;
  readonly platform: Platform;
}

const both = Protection.read | Protection.write;
const anonymous = { kind: 'anonymous' } as const;
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
const trapFlag = 0x100n;

export function testPlatform(start: () => PlatformUnderTest): void {
  let machine: Machine;
  let host: Host;
  let platform: Platform;

  before(() => {
    const code = assembleProgram();
    ({ host, platform } = start());
    machine = new Machine(platform, host, code);
  });

  after(() => platform.close());

  /** A context stopped in call 100 of `generic`. */
  const inCall = (values: Parameters<Machine['begin']>[2] = {}): Context => {
    const context = machine.load();
    machine.begin(context, 'generic', { rax: 100, ...values });
    return machine.callOf(context, 100);
  };

  /** From a call to the next one of the same routine. */
  const call = (context: Context, number: number): Context => {
    context.resume(number);
    return machine.callOf(context, number);
  };

  test('a system call stops with its number and all six arguments, in each width', () => {
    const context = inCall({
      rdi: -1n & 0xffff_ffff_ffff_ffffn,
      rsi: 2 ** 40 + 5,
      rdx: 0xffff_fff6n,
      r10: 4,
      r8: 5,
      r9: 6,
    });
    assert.equal(context.args.i32(0), -1);
    assert.equal(context.args.u32(0), 0xffff_ffff);
    assert.equal(context.args.i64(0), -1);
    assert.equal(context.args.big(0), 0xffff_ffff_ffff_ffffn);
    assert.equal(context.args.address(1), 2 ** 40 + 5);
    assert.equal(context.args.size(1), 2 ** 40 + 5);
    assert.equal(context.args.i32(2), -10);
    assert.equal(context.args.i64(2), 0xffff_fff6);
    assert.deepEqual(
      [3, 4, 5].map((i) => context.args.i32(i)),
      [4, 5, 6],
    );
    context.addressSpace.destroy();
  });

  test('results reach rax whole, and everything else is as the instruction leaves it', () => {
    const values = {
      rbx: 1,
      rbp: 2,
      r12: 3,
      r13: 4,
      r14: 5,
      r15: 6,
      r8: 7,
      r9: 8,
      r10: 9,
      rdi: 10,
      rsi: 11,
      rdx: 12,
    };
    const context = inCall(values);
    const registers = context.registers();
    assert.equal(registers[Reg.rip], BigInt(addressOf('generic') + 2));
    assert.equal(registers[Reg.rcx], registers[Reg.rip]);
    assert.equal(registers[Reg.r11]! & 0xfffn, registers[Reg.eflags]! & 0xfffn);
    assert.equal(registers[Reg.rax], 100n);
    assert.equal(registers[Reg.origRax], 100n);
    assert.equal(registers[Reg.cs], 0x33n);
    assert.equal(registers[Reg.ss], 0x2bn);
    for (const [name, value] of Object.entries(values)) {
      assert.equal(registers[Reg[name as keyof typeof Reg]], BigInt(value), name);
    }
    for (const result of [-1, -4095, 2 ** 31, 2 ** 47, -(2 ** 40), 0]) {
      context.resume(result);
      machine.stopOf(context, ContextEvent.syscall);
      assert.equal(BigInt.asIntN(64, context.registers()[Reg.rax]!), BigInt(result));
      for (const [name, value] of Object.entries(values)) {
        assert.equal(context.registers()[Reg[name as keyof typeof Reg]], BigInt(value), name);
      }
    }
    context.resumeBig(0x8123_4567_89ab_cdefn);
    machine.stopOf(context, ContextEvent.syscall);
    assert.equal(context.registers()[Reg.rax], 0x8123_4567_89ab_cdefn);
    assert.equal(context.number, 0x89ab_cdef | 0);
    context.addressSpace.destroy();
  });

  for (const [routine, number] of [
    ['immediate', 1001],
    ['compared', 1002],
  ] as const) {
    test(`calls of the routine "${routine}" keep flags, red zone, vector registers and rcx, however often`, () => {
      const context = machine.load();
      const count = 300;
      machine.begin(context, routine, { r12: count, rbx: 7, r14: 0 });
      let sum = 0;
      for (let i = 0; i < count; i++) {
        machine.callOf(context, number);
        if (i % 50 === 20) {
          // With all registers, and with the ones that a signal handler would leave.
          const registers = context.registers();
          assert.equal(registers[Reg.rbx], BigInt(7 + i));
          registers[Reg.rax] = BigInt(i);
          context.resumeRegisters();
        } else context.resume(i);
        sum += i;
      }
      machine.callOf(context, 500);
      assert.equal(context.registers()[Reg.r14], BigInt(sum));
      context.addressSpace.destroy();
    });

    test(`a call of "${routine}" is restarted by going back two bytes, before and after it has been made often`, () => {
      const context = machine.load();
      const count = 120;
      machine.begin(context, routine, { r12: count, rbx: 7, r14: 0 });
      for (let i = 0; i < count; i++) {
        for (let again = 0; again < (i % 3 === 0 ? 3 : 1); again++) {
          machine.callOf(context, number);
          const registers = context.registers();
          assert.equal(registers[Reg.rbx], BigInt(7 + i));
          if (again < 2 && i % 3 === 0) {
            registers[Reg.rip]! -= 2n;
            registers[Reg.rax] = registers[Reg.origRax]!;
            context.resumeRegisters();
          } else context.resume(1);
        }
      }
      machine.callOf(context, 500);
      assert.equal(context.registers()[Reg.r14], BigInt(count));
      context.addressSpace.destroy();
    });
  }

  test('memory is read and written as its protection says', () => {
    const context = inCall();
    const { memory } = context;
    const data = bytesOf('some bytes\0 and more');
    assert.equal(memory.write(dataBase + 10, data, 0, data.length), 0);
    const back = new Uint8Array(data.length);
    assert.equal(memory.read(dataBase + 10, back, 0, back.length), 0);
    assert.deepEqual(back, data);
    assert.equal(memory.readString(dataBase + 10, 4096), 'some bytes');
    assert.equal(memory.readString(dataBase + 10, 10), -Errno.ENAMETOOLONG);
    assert.equal(memory.readString(dataBase + 10, 11), 'some bytes');
    assert.equal(memory.writeU32(dataBase + 64, 0xfedc_ba98), 0);
    assert.equal(memory.readU32(dataBase + 64), 0xfedc_ba98);
    assert.equal(memory.loadU32(dataBase + 64), 0xfedc_ba98);
    assert.equal(memory.writeU64(dataBase + 72, 2 ** 52 + 1), 0);
    assert.equal(memory.readU64(dataBase + 72), 2 ** 52 + 1);
    assert.equal(memory.writeU64(dataBase + 72, -2), 0);
    assert.equal(memory.readU32(dataBase + 72), 0xffff_fffe);
    assert.equal(memory.readU32(dataBase + 76), 0xffff_ffff);
    assert.equal(memory.writeU64(dataBase + 72, 0x0123_4567_89ab_cdefn), 0);
    assert.equal(memory.readU32(dataBase + 72), 0x89ab_cdef);
    assert.equal(memory.clear(dataBase + 10, 4), 0);
    assert.equal(memory.readString(dataBase + 14, 100), ' bytes');
    assert.equal(memory.compareExchangeU32(dataBase + 64, 1, 2), 0xfedc_ba98);
    assert.equal(memory.compareExchangeU32(dataBase + 64, 0xfedc_ba98, 2), 0xfedc_ba98);
    assert.equal(memory.readU32(dataBase + 64), 2);
    // At the end of what is mapped.
    const end = dataBase + dataLength;
    assert.equal(memory.write(end - 3, bytesOf('ab\0'), 0, 3), 0);
    assert.equal(memory.readString(end - 3, 4096), 'ab');
    assert.equal(memory.write(end - 3, bytesOf('abc'), 0, 3), 0);
    assert.equal(memory.readString(end - 3, 4096), -Errno.EFAULT);
    for (const bad of [0, 8, end - 2, 2 ** 47, 2 ** 63, stackTop]) {
      assert.equal(memory.read(bad, back, 0, 8), -Errno.EFAULT, `read ${bad}`);
      assert.equal(memory.readU32(bad), -Errno.EFAULT, `readU32 ${bad}`);
      assert.equal(memory.loadU32(bad), -Errno.EFAULT, `loadU32 ${bad}`);
      assert.equal(memory.compareExchangeU32(bad, 0, 0), -Errno.EFAULT, `compareExchangeU32 ${bad}`);
    }
    assert.equal(memory.read(0, back, 0, 0), 0);
    context.addressSpace.destroy();
  });

  test('a call whose result was written where nothing is, or nothing may be written, fails with EFAULT', () => {
    const context = inCall();
    for (const address of [dataBase + dataLength + 8, codeBase + 8]) {
      const written = context.memory.write(address, bytesOf('no'), 0, 2);
      context.resume(101);
      machine.stopOf(context, ContextEvent.syscall);
      if (written === 0)
        assert.equal(BigInt.asIntN(64, context.registers()[Reg.rax]!), BigInt(-Errno.EFAULT));
    }
    context.addressSpace.destroy();
  });

  test('the arguments of calls are read from where they point: strings, structures, buffers, vectors', () => {
    const context = inCall();
    const text = bytesOf('/some/path\0');
    const large = new Uint8Array(70_000).map((_, i) => i * 7);
    context.memory.write(dataBase, text, 0, text.length);
    context.memory.write(dataBase + page, large, 0, large.length);
    const registers = context.registers();
    for (const [number, values] of [
      [257, { rdi: 5, rsi: dataBase }],
      [1, { rdi: 1, rsi: dataBase + page, rdx: 100 }],
      [1, { rdi: 1, rsi: dataBase + page, rdx: 65536 }],
      [1, { rdi: 1, rsi: dataBase + page, rdx: 70_000 }],
    ] as const) {
      machine.set(context, { ...values, rax: number, rip: addressOf('generic') });
      context.resumeRegisters();
      machine.callOf(context, number);
      if (number === 257) {
        assert.equal(context.memory.readString(dataBase, 4096), '/some/path');
        assert.equal(context.memory.readString(dataBase + 6, 4096), 'path');
        assert.equal(context.memory.readString(dataBase, 4), -Errno.ENAMETOOLONG);
        // What is written during the call is read back.
        context.memory.write(dataBase + 1, bytesOf('SOME'), 0, 4);
        assert.equal(context.memory.readString(dataBase, 4096), '/SOME/path');
      } else {
        const length = Number(values.rdx);
        const back = new Uint8Array(length);
        assert.equal(context.memory.read(dataBase + page, back, 0, length), 0);
        assert.deepEqual(back, large.subarray(0, length));
        assert.equal(context.memory.read(dataBase + page + 10, back, 5, 20), 0);
        assert.deepEqual(back.subarray(5, 25), large.subarray(10, 30));
      }
    }
    assert.ok(registers);
    context.addressSpace.destroy();
  });

  test('processor exceptions come as faults with signal, code and address, and the program can go on', () => {
    const fault = (routine: Parameters<Machine['begin']>[1], values = {}): Context => {
      const context = machine.load();
      machine.begin(context, routine, values);
      return machine.stopOf(context, ContextEvent.fault);
    };
    const missing = dataBase + dataLength + 4 * page;
    let context = fault('load', { rdi: missing });
    assert.deepEqual(context.fault, { signal: 11, code: 1, address: missing, trap: 14, error: 4 });
    assert.equal(context.registers()[Reg.rip], BigInt(addressOf('load')));
    assert.equal(context.addressSpace.map(context, missing, page, both, false, anonymous), 0);
    assert.equal(context.memory.writeU32(missing, 77), 0);
    context.resumeRegisters();
    machine.callOf(context, 500);
    assert.equal(context.registers()[Reg.rbx], 77n);
    context.addressSpace.destroy();

    context = fault('store', { rdi: codeBase + 64 });
    assert.deepEqual(context.fault, { signal: 11, code: 2, address: codeBase + 64, trap: 14, error: 7 });
    context.addressSpace.destroy();
    context = fault('jumper', { rdi: dataBase });
    assert.equal(context.fault.code, 2);
    assert.equal(context.fault.address, dataBase);
    context.addressSpace.destroy();
    context = fault('undefined');
    assert.deepEqual([context.fault.signal, context.fault.code, context.fault.trap], [4, 2, 6]);
    assert.equal(context.fault.address, addressOf('undefined'));
    context.addressSpace.destroy();
    context = fault('divide');
    assert.deepEqual([context.fault.signal, context.fault.code, context.fault.trap], [8, 1, 0]);
    context.addressSpace.destroy();
    context = fault('breakpoint', { rax: 9 });
    assert.deepEqual([context.fault.signal, context.fault.trap], [5, 3]);
    assert.equal(context.registers()[Reg.rip], BigInt(addressOf('breakpoint') + 1));
    machine.set(context, { rax: 102 });
    context.resumeRegisters();
    machine.callOf(context, 102);
    context.addressSpace.destroy();
    context = fault('load', { rdi: 0x8000_0000_0000_0000n });
    assert.deepEqual([context.fault.signal, context.fault.code, context.fault.address], [11, 128, 0]);
    context.addressSpace.destroy();
    context = fault('jumper', { rdi: 0x8000_0000_0000n });
    assert.equal(context.fault.signal, 11);
    context.addressSpace.destroy();
    context = fault('gate');
    assert.equal(context.fault.signal, 11);
    assert.equal(context.registers()[Reg.rip], BigInt(addressOf('gate') + 5));
    context.addressSpace.destroy();
  });

  test('an interrupt stops a running context once, between two instructions', () => {
    const context = machine.load();
    machine.begin(context, 'spin', { rbx: 0 });
    let last = -1n;
    for (let i = 0; i < 50; i++) {
      context.interrupt();
      context.interrupt();
      machine.stopOf(context, ContextEvent.interrupt);
      const registers = context.registers();
      const at = Number(registers[Reg.rip]) - addressOf('spin');
      assert.ok(at >= 0 && at < 8);
      assert.ok(registers[Reg.rbx]! >= last);
      last = registers[Reg.rbx]!;
      assert.equal(registers[Reg.origRax], 0xffff_ffff_ffff_ffffn);
      // Of one that is stopped, nothing comes.
      context.interrupt();
      if (i % 2) context.resumeRegisters();
      else {
        registers[Reg.rip] = BigInt(addressOf('spin'));
        context.resumeRegisters();
      }
    }
    assert.ok(machine.quiet(20e6));
    context.addressSpace.destroy();
  });

  test('an interrupt is neither lost nor doubled, wherever it meets a program that makes calls', () => {
    const context = machine.load();
    const count = 3000;
    machine.begin(context, 'busy', { r12: count, rbx: 0 });
    let interrupts = 0;
    let calls = 0;
    let seed = 1;
    for (;;) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      for (let spin = (seed >>> 16) % 400; spin > 0; spin--);
      context.interrupt();
      machine.next();
      if (context.event === ContextEvent.interrupt) {
        interrupts++;
        const at = Number(context.registers()[Reg.rip]) - addressOf('busy');
        assert.ok(at >= 0 && at < 64, `rip ${at}`);
        context.resumeRegisters();
        // It was answered: the next event is the program's own.
        machine.stopOf(context, ContextEvent.syscall);
      }
      if (context.number === 500) break;
      assert.equal(context.number, 1003);
      assert.equal(Number(context.registers()[Reg.rbx]), calls++);
      context.resume(0);
    }
    assert.equal(calls, count);
    assert.ok(interrupts > 0);
    context.addressSpace.destroy();
  });

  test('extended state survives calls and is saved, loaded, reset and refused', () => {
    const context = machine.load();
    machine.begin(context, 'extended', { rax: 100, rsi: 0x1122_3344_5566_7788n });
    machine.callOf(context, 100);
    const xmm7 = (state: Uint8Array): bigint =>
      new DataView(state.buffer, state.byteOffset).getBigUint64(160 + 7 * 16, true);
    const saved = context.getExtendedState();
    assert.equal(saved.length, context.extendedStateSize);
    assert.equal(xmm7(saved), 0x1122_3344_5566_7788n);
    assert.equal(context.saveExtendedState(dataBase), 0);
    const written = new Uint8Array(context.extendedStateSize);
    assert.equal(context.memory.read(dataBase, written, 0, written.length), 0);
    assert.equal(xmm7(written), 0x1122_3344_5566_7788n);
    const view = new DataView(written.buffer);
    assert.equal(view.getUint32(464, true), 0x4650_5853);
    assert.equal(view.getUint32(468, true), context.extendedStateSize);
    assert.equal(view.getUint32(context.extendedStateSize - 4, true), 0x4650_5845);
    assert.equal(context.saveExtendedState(dataBase + dataLength + page), -Errno.EFAULT);
    const now = (): bigint => {
      context.resume(100);
      machine.callOf(context, 100);
      return context.registers()[Reg.rdx]!;
    };
    assert.equal(now(), 0x1122_3344_5566_7788n);
    view.setBigUint64(160 + 7 * 16, 5n, true);
    assert.equal(context.memory.write(dataBase, written, 0, written.length), 0);
    assert.equal(context.loadExtendedState(dataBase), 0);
    assert.equal(now(), 5n);
    assert.equal(context.setExtendedState(saved), 0);
    assert.equal(now(), 0x1122_3344_5566_7788n);
    // Reserved bits of MXCSR.
    const bad = saved.slice();
    new DataView(bad.buffer).setUint32(24, 0xffff_ffff, true);
    const refused = context.setExtendedState(bad);
    assert.ok(refused === -Errno.EINVAL || refused === 0);
    if (refused === 0) {
      context.resume(100);
      machine.stopOf(context, ContextEvent.fault);
      context.addressSpace.destroy();
      return;
    }
    assert.equal(now(), 0x1122_3344_5566_7788n);
    assert.equal(context.loadExtendedState(dataBase + dataLength + page), -Errno.EFAULT);
    assert.equal(context.loadExtendedState(0), 0);
    assert.equal(now(), 0n);
    context.addressSpace.destroy();
  });

  test('fork copies memory, registers and extended state; what is shared stays shared', () => {
    const context = machine.load();
    const shared = dataBase + dataLength;
    const fd = host.memoryFile('shared', 2 * page);
    assert.ok(fd >= 0);
    assert.equal(
      context.addressSpace.map(context, shared, page, both, true, { kind: 'file', fd, offset: page }),
      0,
    );
    machine.begin(context, 'extended', { rax: 100, rsi: 0x77, rbx: 0x55, r12: 12 });
    machine.callOf(context, 100);
    context.memory.writeU32(dataBase, 1);
    const child = context.fork();
    child.registers()[Reg.r12] = 13n;
    context.resume(201);
    machine.stopOf(child, ContextEvent.started);
    machine.callOf(context, 201);
    assert.notEqual(child.addressSpace, context.addressSpace);
    assert.equal(child.registers()[Reg.rbx], 0x55n);
    child.resume(202);
    machine.callOf(child, 202);
    assert.equal(child.registers()[Reg.r12], 13n);
    assert.equal(child.registers()[Reg.rdx], 0x77n);
    assert.equal(context.registers()[Reg.r12], 12n);
    assert.equal(child.memory.readU32(dataBase), 1);
    assert.equal(child.memory.writeU32(dataBase, 2), 0);
    assert.equal(child.memory.writeU32(shared, 3), 0);
    assert.equal(child.flush(), 0);
    assert.equal(context.memory.readU32(dataBase), 1);
    assert.equal(context.memory.readU32(shared), 3);
    // Generations, each from the last, and the first ones end meanwhile.
    let parent = child;
    context.addressSpace.destroy();
    for (let i = 0; i < 5; i++) {
      const next = parent.fork();
      parent.resume(203);
      machine.stopOf(next, ContextEvent.started);
      machine.callOf(parent, 203);
      parent.addressSpace.destroy();
      next.resume(204);
      machine.callOf(next, 204);
      assert.equal(next.memory.readU32(dataBase), 2);
      parent = next;
    }
    parent.addressSpace.destroy();
    host.close(fd);
  });

  test('threads share an address space, run at once, and end one by one', () => {
    const context = inCall({ rdi: 1 });
    const other = context.spawnThread();
    machine.set(other, {
      rip: addressOf('pingpong'),
      rdi: dataBase,
      rbx: 1,
      r12: 1000,
      rsp: stackTop - 8 * page,
    });
    call(context, 101);
    machine.stopOf(other, ContextEvent.started);
    assert.equal(other.addressSpace, context.addressSpace);
    other.resumeRegisters();
    machine.set(context, { rip: addressOf('pingpong'), rdi: dataBase, rbx: 0, r12: 1000 });
    context.resumeRegisters();
    machine.callOf(context, 500);
    machine.callOf(other, 500);
    assert.equal(context.memory.readU32(dataBase), 2000);
    // The first thread ends, the second goes on, spawns and forks.
    context.exit();
    machine.set(other, { rip: addressOf('generic'), rax: 300 });
    other.resumeRegisters();
    machine.callOf(other, 300);
    other.memory.writeU32(dataBase, 9);
    const third = other.spawnThread();
    const child = other.fork();
    call(other, 301);
    machine.stopOf(third, ContextEvent.started);
    machine.stopOf(child, ContextEvent.started);
    assert.equal(child.memory.readU32(dataBase), 9);
    other.exit();
    third.resume(302);
    machine.callOf(third, 302);
    assert.equal(third.memory.readU32(dataBase), 9);
    assert.equal(third.memory.writeU32(dataBase, 10), 0);
    assert.equal(child.memory.readU32(dataBase), 9);
    third.addressSpace.destroy();
    child.addressSpace.destroy();
  });

  test('many threads come and go', () => {
    const context = inCall();
    for (let round = 0; round < 20; round++) {
      const threads = Array.from({ length: 10 }, () => context.spawnThread());
      call(context, 101);
      for (const [i, thread] of threads.entries()) {
        machine.stopOf(thread, ContextEvent.started);
        machine.set(thread, { rsp: stackTop - 1024 - i * 512 });
        thread.resume(400 + i);
      }
      for (const [i, thread] of threads.entries()) machine.callOf(thread, 400 + i);
      for (const thread of threads) thread.exit();
    }
    context.addressSpace.destroy();
  });

  test('mappings are made, moved, protected and removed as asked', () => {
    const context = inCall();
    const space = context.addressSpace;
    const at = 0x1000_0000;
    const word = (address: number): number => context.memory.readU32(address);
    assert.equal(space.map(context, at, 4 * page, both, false, anonymous), 0);
    assert.equal(word(at), 0);
    assert.equal(context.memory.writeU32(at, 5), 0);
    assert.equal(space.move(context, at, 4 * page, at + 0x10_0000, 8 * page, false), 0);
    assert.equal(word(at), -Errno.EFAULT);
    assert.equal(word(at + 0x10_0000), 5);
    assert.equal(word(at + 0x10_0000 + 7 * page), 0);
    assert.equal(space.advise(context, at + 0x10_0000, page, 4), 0);
    assert.equal(word(at + 0x10_0000), 0);
    assert.equal(space.protect(context, at + 0x10_0000, page, Protection.none), 0);
    assert.equal(word(at + 0x10_0000), -Errno.EFAULT);
    assert.equal(space.unmap(context, at + 0x10_0000, 8 * page), 0);
    assert.equal(word(at + 0x10_0000 + page), -Errno.EFAULT);
    // Files: what is private stays private.
    const fd = host.memoryFile('file', 3 * page);
    const content = bytesOf('content');
    host.pwrite(fd, content, 0, content.length, page);
    assert.equal(space.map(context, at, page, both, false, { kind: 'file', fd, offset: page }), 0);
    assert.equal(space.map(context, at + page, page, both, true, { kind: 'file', fd, offset: page }), 0);
    assert.equal(space.map(context, at + 2 * page, page, 1, true, { kind: 'file', fd, offset: page }), 0);
    assert.equal(context.memory.readString(at, 100), 'content');
    context.memory.write(at, bytesOf('C'), 0, 1);
    assert.equal(context.memory.readString(at + page, 100), 'content');
    context.memory.write(at + page, bytesOf('K'), 0, 1);
    assert.equal(context.memory.readString(at, 100), 'Content');
    assert.equal(context.memory.readString(at + 2 * page, 100), 'Kontent');
    assert.equal(space.sync(context, at + page, page, 4), 0);
    assert.equal(context.flush(), 0);
    host.pread(fd, content, 0, content.length, page);
    assert.equal(Buffer.from(content).toString('latin1'), 'Kontent');
    host.close(fd);
    // Beyond the end of a file there is SIGBUS.
    const short = host.memoryFile('short', page);
    assert.equal(space.map(context, at, 2 * page, both, true, { kind: 'file', fd: short, offset: 0 }), 0);
    machine.set(context, { rip: addressOf('load'), rdi: at + page });
    context.resumeRegisters();
    machine.stopOf(context, ContextEvent.fault);
    assert.deepEqual([context.fault.signal, context.fault.code], [7, 2]);
    host.close(short);
    for (const [address, length] of [
      [0, page],
      [platform.userRange.end, page],
      [at + 1, page],
      [at, 0],
      [platform.userRange.end - page, 2 * page],
    ]) {
      assert.equal(space.map(context, address!, length!, both, false, anonymous), -Errno.EINVAL);
    }
    space.destroy();
  });

  test('a change that the host refuses stops the context again, and the program gets the error', () => {
    const context = inCall();
    // Memory that was sealed against writing cannot be mapped writable; an eventfd-like descriptor not at all.
    const at = 0x1000_0000;
    const space = context.addressSpace;
    const gone = host.memoryFile('gone', page);
    const watch = host.watch(gone, 1, () => {});
    assert.equal(watch, -Errno.EPERM);
    const first = space.advise(context, at, page, 4);
    const failed = first === 0 ? 0 : first;
    if (failed === 0) {
      context.resume(101);
      machine.stopOf(context, ContextEvent.operationFailed);
      assert.equal(context.failure, -Errno.ENOMEM);
      context.resume(-Errno.ENOMEM);
      machine.stopOf(context, ContextEvent.syscall);
    } else {
      assert.equal(failed, -Errno.ENOMEM);
      context.resume(failed);
      machine.stopOf(context, ContextEvent.syscall);
    }
    assert.equal(BigInt.asIntN(64, context.registers()[Reg.rax]!), BigInt(-Errno.ENOMEM));
    host.close(gone);
    space.destroy();
  });

  test('what was forked and spawned together with a change that fails does not come into being', () => {
    const context = inCall();
    // A platform that makes changes at once has refused this one already: nothing is queued that could fail.
    const queued = context.addressSpace.advise(context, 0x1000_0000, page, 4) === 0;
    if (!queued) return context.addressSpace.destroy();
    const thread = context.spawnThread();
    const child = context.fork();
    context.resume(101);
    machine.stopOf(context, ContextEvent.operationFailed);
    assert.equal(context.failure, -Errno.ENOMEM);
    context.resume(102);
    machine.callOf(context, 102);
    assert.ok(machine.quiet(20e6));
    assert.notEqual(thread.event, ContextEvent.started);
    assert.notEqual(child.event, ContextEvent.started);
    context.addressSpace.destroy();
  });

  test('host files are read and written without a detour, of any size and in vectors', () => {
    const context = inCall();
    const size = 1 << 20;
    const content = new Uint8Array(size + 100).map((_, i) => (i * 31) ^ (i >> 8));
    const fd = host.memoryFile('file', 0);
    assert.equal(host.pwrite(fd, content, 0, content.length, 0), content.length);
    const at = 0x1000_0000;
    assert.equal(context.addressSpace.map(context, at, 4 << 20, both, false, anonymous), 0);
    const read = (address: number, length: number): Uint8Array => {
      const back = new Uint8Array(length);
      assert.equal(context.memory.read(address, back, 0, length), 0);
      return back;
    };
    for (const [position, length] of [
      [0, 1],
      [3, 4096],
      [0, 65536],
      [5, 65537],
      [0, size],
      [50, size],
    ]) {
      assert.equal(context.memory.readFromHost(fd, position!, [at + 3, length!]), length);
      assert.deepEqual(read(at + 3, length!), content.subarray(position!, position! + length!));
      call(context, 101);
    }
    assert.equal(context.memory.readFromHost(fd, size, [at, size]), 100);
    assert.equal(context.memory.readFromHost(fd, size + 100, [at, 10]), 0);
    assert.equal(context.memory.readFromHost(fd, 10, [at, 5, at + 100, 0, at + 200, 7]), 12);
    assert.deepEqual(read(at + 200, 7), content.subarray(15, 22));
    assert.equal(context.memory.readFromHost(fd, 10, [at, 300_000, at + 400_000, 200_000]), 500_000);
    assert.deepEqual(read(at + 400_000, 200_000), content.subarray(300_010, 500_010));
    // Out again, to another file.
    const out = host.memoryFile('out', 0);
    assert.equal(context.memory.writeToHost(out, 7, [at + 400_000, 200_000]), 200_000);
    assert.equal(context.memory.writeToHost(out, 0, [at, 3, at + 200, 4]), 7);
    const back = new Uint8Array(200_007);
    assert.equal(host.pread(out, back, 0, back.length, 0), back.length);
    assert.deepEqual(back.subarray(7), content.subarray(300_010, 500_010));
    assert.deepEqual(back.subarray(3, 7), content.subarray(210, 214));
    assert.equal(context.memory.writeToHost(out, 0, [dataBase + dataLength + page, 100_000]), -Errno.EFAULT);
    host.close(out);
    host.close(fd);
    context.addressSpace.destroy();
  });

  test('peek and poke reach what the program itself may not', () => {
    const context = inCall();
    const { memory, addressSpace } = context;
    assert.equal(memory.writeU32(dataBase, 0x0403_0201), 0);
    assert.equal(addressSpace.protect(context, dataBase, page, Protection.none), 0);
    const bytes = new Uint8Array(4);
    assert.ok(memory.peek(dataBase, bytes, 0, 4) >= 0);
    assert.deepEqual([...bytes], [1, 2, 3, 4]);
    assert.ok(memory.poke(dataBase, new Uint8Array([9]), 0, 1) >= 0);
    assert.equal(memory.read(dataBase, bytes, 0, 4), -Errno.EFAULT);
    assert.ok(memory.peek(dataBase, bytes, 0, 4) >= 0);
    assert.deepEqual([...bytes], [9, 2, 3, 4]);
    // A breakpoint in text.
    assert.ok(memory.poke(addressOf('steps'), new Uint8Array([0xcc]), 0, 1) >= 0);
    machine.set(context, { rip: addressOf('steps') });
    context.resumeRegisters();
    machine.stopOf(context, ContextEvent.fault);
    assert.equal(context.fault.signal, 5);
    assert.equal(
      memory.write(addressOf('steps'), bytes, 0, 1) === 0 ? context.flush() : -Errno.EFAULT,
      -Errno.EFAULT,
    );
    assert.equal(memory.peek(2 ** 40, bytes, 0, 4), -Errno.EFAULT);
    addressSpace.destroy();
  });

  test('step executes one instruction', () => {
    const context = inCall();
    machine.set(context, { rip: addressOf('steps'), rbx: 0 });
    for (let i = 1; i <= 3; i++) {
      context.step();
      machine.stopOf(context, ContextEvent.fault);
      assert.deepEqual([context.fault.signal, context.fault.code], [5, 2]);
      assert.equal(context.registers()[Reg.rbx], BigInt(i));
      assert.equal(context.registers()[Reg.rip], BigInt(addressOf('steps') + 5 * i));
      assert.equal(context.registers()[Reg.eflags]! & trapFlag, 0n);
    }
    context.step();
    machine.stopOf(context, ContextEvent.fault);
    context.step();
    machine.stopOf(context, ContextEvent.syscall);
    assert.equal(context.number, 500);
    machine.set(context, { rip: addressOf('generic'), rax: 103 });
    context.resumeRegisters();
    machine.callOf(context, 103);
    context.addressSpace.destroy();
  });

  test("the base of FS is the program's, and that of GS", () => {
    const context = inCall();
    machine.set(context, { fsBase: 0x1234_5000, gsBase: 0x2345_6000, rip: addressOf('generic'), rax: 101 });
    context.resumeRegisters();
    machine.callOf(context, 101);
    assert.equal(context.registers()[Reg.fsBase], 0x1234_5000n);
    assert.equal(context.registers()[Reg.gsBase], 0x2345_6000n);
    // However many calls are made there.
    machine.set(context, { rip: addressOf('immediate'), r12: 100, r14: 0, rbx: 1 });
    context.resumeRegisters();
    for (let i = 0; i < 100; i++) machine.callOf(context, 1001).resume(1);
    machine.callOf(context, 500);
    assert.equal(context.registers()[Reg.gsBase], 0x2345_6000n);
    machine.set(context, { gsBase: 0, fsBase: 0, rip: addressOf('immediate'), r12: 100, r14: 0 });
    context.resumeRegisters();
    for (let i = 0; i < 100; i++) machine.callOf(context, 1001).resume(1);
    machine.callOf(context, 500);
    assert.equal(context.registers()[Reg.gsBase], 0n);
    assert.equal(context.registers()[Reg.fsBase], 0n);
    context.addressSpace.destroy();
  });

  test('what the kernel allows to be answered alone is the same without it', () => {
    const context = machine.load();
    platform.stubAnswers(context, { pid: 17, tid: 18 });
    machine.begin(context, 'identity', { r12: 100, r14: 0 });
    for (;;) {
      machine.stopOf(context, ContextEvent.syscall);
      if (context.number === 500) break;
      assert.equal(context.number, 39);
      context.resume(17);
    }
    assert.equal(context.registers()[Reg.r14], 1700n);
    platform.stubAnswers(context, undefined);
    machine.set(context, { rip: addressOf('identity'), r12: 100, r14: 0 });
    context.resumeRegisters();
    for (let i = 0; i < 100; i++) machine.callOf(context, 39).resume(2);
    machine.callOf(context, 500);
    assert.equal(context.registers()[Reg.r14], 200n);
    context.addressSpace.destroy();
  });

  test('atomic exchange and a running thread see one another', () => {
    const context = inCall();
    const adder = context.spawnThread();
    machine.set(adder, { rip: addressOf('adder'), rdi: dataBase });
    call(context, 101);
    machine.stopOf(adder, ContextEvent.started).resumeRegisters();
    const first = machine.changes(dataBase, context, 0);
    machine.changes(dataBase, context, first);
    let old = context.memory.loadU32(dataBase);
    for (let tries = 0; ; tries++) {
      const seen = context.memory.compareExchangeU32(dataBase, old, 0);
      assert.ok(seen >= 0);
      if (seen === old || tries > 200) break;
      old = seen;
    }
    adder.interrupt();
    machine.stopOf(adder, ContextEvent.interrupt);
    const still = context.memory.loadU32(dataBase);
    assert.equal(context.memory.compareExchangeU32(dataBase, still, 1), still);
    assert.equal(context.memory.loadU32(dataBase), 1);
    platform.futexActivity();
    context.addressSpace.destroy();
  });

  test('a destroyed address space says nothing more, and others go on', () => {
    const spinning = machine.load();
    machine.begin(spinning, 'spin');
    const calling = inCall();
    const other = inCall();
    calling.resume(101);
    calling.addressSpace.destroy();
    spinning.addressSpace.destroy();
    spinning.interrupt();
    assert.ok(machine.quiet(20e6));
    call(other, 105);
    other.addressSpace.destroy();
    // As many as one likes, one after the other.
    for (let i = 0; i < 50; i++) inCall().addressSpace.destroy();
  });

  test('wait ends at its deadline, and calls what watches descriptors', () => {
    const begin = host.monotonic();
    assert.equal(platform.wait(begin + 2e6), undefined);
    assert.ok(host.monotonic() >= begin + 2e6);
    assert.equal(platform.wait(0), undefined);
    const context = machine.load();
    machine.begin(context, 'spin');
    const begun = host.monotonic();
    assert.equal(platform.wait(begun + 2e6), undefined);
    assert.ok(host.monotonic() >= begun + 2e6);
    context.addressSpace.destroy();
  });

  test('the vDSO lies where the platform says, outside the range for programs', () => {
    if (platform.vdso === 0) return;
    const context = machine.load();
    machine.begin(context, 'load', { rdi: platform.vdso });
    machine.callOf(context, 500);
    assert.equal(context.registers()[Reg.rbx]! & 0xffff_ffffn, 0x464c_457fn);
    assert.ok(platform.vdso >= platform.userRange.end);
    context.addressSpace.destroy();
  });
}
