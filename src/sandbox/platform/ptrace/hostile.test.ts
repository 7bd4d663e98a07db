// Programs that attack the platform that traces them, and a host that interferes: they may end or misbehave themselves;
// the Sentry goes on, other programs notice nothing, and no process is left.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { traceePath } from '../../host/addon.ts';
import { type NativeHost, openHost } from '../../host/native.ts';
import { type Context, ContextEvent, Protection, Reg } from '../contract.ts';
import { startZygote } from '../systrap/platform.ts';
import { addressOf, assembleProgram, dataBase, Machine, page } from '../testing/machine.ts';
import { type PtracePlatform, startPtrace } from './platform.ts';

// native/tracee/tracee.ld
const templateText = 0x7fe0_0000_0000;
const templateData = 0x7fe0_0000_2000;
const SIGKILL = 9;

const both = Protection.read | Protection.write;
const seed = Number(process.env['SEED'] ?? Date.now() & 0xffff);

function generator(start: number): (limit: number) => number {
  let state = start;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Processes whose parent is this one. */
function children(): Set<number> {
  const found = new Set<number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ');
      if (Number(fields[1]) === process.pid) found.add(Number(name));
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

let host: NativeHost;
let platform: PtracePlatform;
let machine: Machine;
let good: Context;

before(() => {
  const code = assembleProgram();
  host = openHost();
  platform = startPtrace({ host, zygote: startZygote(host, traceePath) });
  machine = new Machine(platform, host, code);
  good = inCall();
});

after(() => {
  platform.close();
  assert.deepEqual([...children()], []);
});

function inCall(): Context {
  const context = machine.load();
  machine.begin(context, 'generic', { rax: 100 });
  return machine.callOf(context, 100);
}

/** A context in a call, and its host process. */
function withPid(): { readonly context: Context; readonly pid: number } {
  const former = children();
  const context = inCall();
  const [pid] = children().difference(former);
  assert.ok(pid !== undefined);
  return { context, pid };
}

/** Another program makes a call, writes and reads, and nothing is wrong. */
function othersGoOn(step: number): void {
  good.memory.writeU32(dataBase, step);
  good.resume(100 + (step % 300));
  machine.callOf(good, 100 + (step % 300));
  assert.equal(good.memory.readU32(dataBase), step);
}

test('a process that the host kills has died, running or stopped, and so have all its threads', () => {
  for (const running of [false, true]) {
    const { context, pid } = withPid();
    const thread = context.spawnThread();
    context.resume(101);
    machine.callOf(context, 101);
    machine.stopOf(thread, ContextEvent.started);
    if (running) machine.begin(thread, 'spin');
    process.kill(pid, 'SIGKILL');
    machine.stopOf(context, ContextEvent.died);
    machine.stopOf(thread, ContextEvent.died);
    assert.equal(context.deathSignal, SIGKILL);
    assert.equal(context.memory.readU32(dataBase), -Errno.EFAULT);
    assert.ok(context.addressSpace.map(context, dataBase, page, both, false, { kind: 'anonymous' }) < 0);
    context.exit();
    thread.exit();
    context.addressSpace.destroy();
    othersGoOn(1);
  }
});

test("the host's other signals neither reach nor stop a program", () => {
  const { context, pid } = withPid();
  for (const signal of ['SIGTERM', 'SIGSEGV', 'SIGTRAP', 'SIGUSR1', 'SIGSTOP', 'SIGCONT'] as const) {
    // Before a call goes on, in the middle of what the kernel does, and while it runs.
    process.kill(pid, signal);
    context.resume(101);
    machine.callOf(context, 101);
    process.kill(pid, signal);
    assert.equal(context.addressSpace.map(context, 0x1000_0000, page, both, false, { kind: 'anonymous' }), 0);
    machine.set(context, { rip: addressOf('spin'), rbx: 0 });
    context.resumeRegisters();
    process.kill(pid, signal);
    assert.ok(machine.quiet(5e6), signal);
    context.interrupt();
    machine.stopOf(context, ContextEvent.interrupt);
    machine.set(context, { rip: addressOf('generic'), rax: 102 });
    context.resumeRegisters();
    machine.callOf(context, 102);
  }
  context.addressSpace.destroy();
});

test('a program has no descriptor but the socket, whatever was mapped and could not be', () => {
  const { context, pid } = withPid();
  const file = host.memoryFile('file', page);
  host.pwrite(file, new Uint8Array([1, 2, 3, 4]), 0, 4, 0);
  const pair = host.socketPair(1);
  assert.ok(typeof pair !== 'number');
  const at = 0x1000_0000;
  const map = (fd: number, through = context): number =>
    through.addressSpace.map(through, at, page, both, true, { kind: 'file', fd, offset: 0 });
  for (let i = 0; i < 20; i++) {
    assert.equal(map(pair[0]), -Errno.ENODEV);
    assert.equal(map(-1), -Errno.EBADF);
    assert.equal(map(file), 0);
    assert.equal(context.memory.readU32(at), 0x0403_0201);
  }
  assert.equal(map(pair[0]), -Errno.ENODEV);
  assert.equal(map(file, good), 0);
  assert.equal(good.memory.readU32(at), 0x0403_0201);
  assert.equal(good.addressSpace.unmap(good, at, page), 0);
  assert.deepEqual(readdirSync(`/proc/${pid}/fd`), ['3']);
  for (const fd of [file, ...pair]) host.close(fd);
  context.addressSpace.destroy();
});

test("system calls by way of the vsyscall page are the program's like any other", (t) => {
  if (!readFileSync('/proc/self/maps', 'latin1').includes('[vsyscall]')) {
    return t.skip('the host has no vsyscall page');
  }
  const context = inCall();
  // time(): the page holds nothing but these entry points; the return address is a call of the program's.
  const stack = Number(context.registers()[Reg.rsp]) - 64;
  assert.equal(context.memory.writeU64(stack, addressOf('generic')), 0);
  machine.set(context, { rip: 0xffff_ffff_ff60_0400n, rsp: stack, rdi: 5, rax: 7 });
  context.resumeRegisters();
  machine.stopOf(context, ContextEvent.syscall);
  assert.equal(context.number, 201);
  assert.equal(context.args.i32(0), 5);
  context.resume(103);
  machine.callOf(context, 103);
  context.addressSpace.destroy();
});

test("wherever a program jumps in the template's text, it makes only calls of its own", () => {
  const random = generator(seed);
  for (let offset = 0; offset < 0x180; offset++) {
    const { context, pid } = withPid();
    const registers = context.registers();
    for (let i = 0; i < Reg.origRax; i++) registers[i] = BigInt(random(2 ** 32));
    registers[Reg.rip] = BigInt(templateText + offset);
    context.resumeRegisters();
    const deadline = host.monotonic() + 20e6;
    for (let events = 0; events < 20; events++) {
      const stopped = platform.wait(deadline);
      if (!stopped) {
        if (host.monotonic() >= deadline) break;
        continue;
      }
      assert.equal(stopped, context);
      if (context.event === ContextEvent.died) break;
      assert.ok(context.event === ContextEvent.syscall || context.event === ContextEvent.fault);
      assert.deepEqual(readdirSync(`/proc/${pid}/fd`), ['3'], `offset ${offset} (SEED=${seed})`);
      if (context.event === ContextEvent.syscall) context.resume(random(5) - 2);
      else break;
    }
    context.addressSpace.destroy();
    if (offset % 16 === 0) othersGoOn(offset);
  }
});

test('a thread that writes over what the platform uses gets nothing, and takes nothing from others', () => {
  const context = inCall();
  const scribbler = context.spawnThread();
  context.resume(101);
  machine.callOf(context, 101);
  machine.stopOf(scribbler, ContextEvent.started);
  machine.set(scribbler, {
    rip: addressOf('scribbler'),
    rdi: templateData,
    rsi: 0x1_3ff8,
    rbx: 0x1234_5678_9abc_def1n ^ BigInt(seed),
  });
  scribbler.resumeRegisters();
  const secret = host.memoryFile('secret', page);
  const own = host.memoryFile('own', page);
  host.pwrite(secret, new Uint8Array([9, 9, 9, 9]), 0, 4, 0);
  host.pwrite(own, new Uint8Array([1, 1, 1, 1]), 0, 4, 0);
  const at = 0x1000_0000;
  const map = (through: Context, fd: number): number =>
    through.addressSpace.map(through, at, page, both, true, { kind: 'file', fd, offset: 0 });
  for (let i = 0; i < 300 && scribbler.event === ContextEvent.none; i++) {
    const result = map(context, own);
    assert.ok(result <= 0 && result > -4096);
    // What a failure has left behind is not what another one gets.
    assert.equal(map(good, secret), 0);
    assert.equal(good.memory.readU32(at), 0x0909_0909);
    if (result === 0) assert.notEqual(context.memory.readU32(at), 0x0909_0909);
    // Faults are told from a frame on a stack that is written over.
    machine.set(context, { rip: addressOf('load'), rdi: 0 });
    context.resumeRegisters();
    machine.stopOf(context, ContextEvent.fault);
    assert.equal(context.fault.signal, 11);
    assert.equal(context.fault.address, 0);
    othersGoOn(i);
  }
  for (const fd of [secret, own]) host.close(fd);
  context.addressSpace.destroy();
});

test('threads and processes that are made, interrupted and ended at any time leave nothing behind', () => {
  const random = generator(seed ^ 0x5555);
  const former = children();
  for (let round = 0; round < 40; round++) {
    const context = inCall();
    const made: Context[] = [];
    for (let i = random(4) + 1; i > 0; i--) made.push(random(2) ? context.fork() : context.spawnThread());
    if (random(5)) {
      context.resume(101);
      if (random(2)) context.interrupt();
    } else if (random(2)) {
      assert.equal(context.flush(), 0);
    }
    for (let events = random(8); events > 0; events--) {
      const stopped = platform.wait(host.monotonic() + 1e6);
      if (!stopped || stopped === good || stopped.event === ContextEvent.died) continue;
      if (random(3) === 0) stopped.exit();
      else if (stopped.event === ContextEvent.syscall) stopped.resume(102);
      else machine.begin(stopped, random(2) ? 'spin' : 'generic', { rax: 104 });
      if (random(3) === 0) stopped.interrupt();
    }
    for (const child of made) if (child.addressSpace !== context.addressSpace) child.addressSpace.destroy();
    context.addressSpace.destroy();
    othersGoOn(round);
  }
  const deadline = host.monotonic() + 5e9;
  for (;;) {
    platform.wait(host.monotonic() + 2e6);
    if (children().difference(former).size === 0) break;
    assert.ok(host.monotonic() < deadline, `a process is left (SEED=${seed})`);
  }
});
