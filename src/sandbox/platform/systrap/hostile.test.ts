// Programs that attack their platform: they write over mailboxes, thread areas and trampolines, and jump into the stub's
// text. They may end or misbehave themselves; the Sentry goes on, other programs notice nothing, and no process is left.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { stubPath } from '../../host/addon.ts';
import { type NativeHost, openHost } from '../../host/native.ts';
import { type Context, ContextEvent, Protection, Reg } from '../contract.ts';
import { addressOf, assembleProgram, dataBase, Machine, page, stackTop } from '../testing/machine.ts';
import { type SystrapPlatform, startSystrap, startZygote } from './platform.ts';

// native/stub/layout.h
const stubText = 0x7fe0_0000_0000;
const stubTextSize = 0x4000;
const trampolines = 0x7fe0_2000_0000;
const threadAreas = 0x7fe1_0000_0000;
const mailboxes = 0x7fe2_0000_0000;

const seed = Number(process.env['SEED'] ?? Date.now() & 0xffff);

function generator(start: number): (limit: number) => number {
  let state = start;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Processes whose parent is this one. */
function children(): number[] {
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readFileSync(`/proc/${name}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ');
      if (Number(fields[1]) === process.pid) found.push(Number(name));
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

let host: NativeHost;
let platform: SystrapPlatform;
let machine: Machine;
let good: Context;

before(() => {
  // First: starting a compiler makes Node wait for children, which the host is to reap.
  const code = assembleProgram();
  host = openHost();
  platform = startSystrap({ host, zygote: startZygote(host, stubPath), ready: 1 });
  machine = new Machine(platform, host, code);
  good = machine.load();
  machine.begin(good, 'generic', { rax: 100, rdi: dataBase });
  machine.callOf(good, 100);
});

after(() => platform.close());

/** Another program makes a call, writes and reads, and nothing is wrong. */
function othersGoOn(step: number): void {
  good.memory.writeU32(dataBase, step);
  good.resume(1000 + (step % 400));
  const deadline = host.monotonic() + 20e9;
  while (good.event === ContextEvent.none) {
    const context = platform.wait(deadline);
    assert.ok(host.monotonic() < deadline, `the Sentry serves nobody any more (SEED=${seed})`);
    if (context && context !== good) pending.push(context);
  }
  assert.equal(good.event, ContextEvent.syscall);
  assert.equal(good.number, 1000 + (step % 400));
  assert.equal(good.args.address(0), dataBase);
  assert.equal(good.memory.readU32(dataBase), step);
}
const pending: Context[] = [];

/** The next event of hostile contexts within so many nanoseconds. */
function hostileEvent(nanoseconds: number): Context | undefined {
  const early = pending.shift();
  if (early) return early;
  const deadline = host.monotonic() + nanoseconds;
  while (host.monotonic() < deadline) {
    const context = platform.wait(deadline);
    if (context) return context;
  }
  return undefined;
}

/** Something that a kernel would do with a stopped context. */
function serve(context: Context, random: (limit: number) => number, made: Context[]): void {
  const { memory, addressSpace } = context;
  const bytes = new Uint8Array(5000);
  const where = (): number => [dataBase, stackTop - page, 0, 2 ** 46, mailboxes, dataBase + 100][random(6)]!;
  switch (random(14)) {
    case 0:
      memory.read(where(), bytes, 0, random(5000));
      break;
    case 1:
      memory.write(where(), bytes, 0, random(5000));
      break;
    case 2:
      memory.readString(where(), 4096);
      break;
    case 3:
      addressSpace.map(context, 0x1000_0000 + random(16) * page, page, 3, false, { kind: 'anonymous' });
      break;
    case 4:
      addressSpace.unmap(context, 0x1000_0000 + random(16) * page, page);
      break;
    case 5:
      context.flush();
      break;
    case 6:
      memory.compareExchangeU32(where(), random(100), random(100));
      break;
    case 7:
      context.getExtendedState();
      break;
    case 8:
      if (made.length < 6) made.push(context.fork());
      break;
    case 9:
      memory.loadU32(where());
      break;
    case 10:
      memory.peek(where(), bytes, 0, 100);
      break;
    default:
  }
  if (context.event === ContextEvent.none) return;
  if (random(4) === 0 || context.event !== ContextEvent.syscall) {
    const registers = context.registers();
    registers[Reg.rip] = BigInt(addressOf('busy'));
    registers[Reg.r12] = BigInt(1 + random(60));
    registers[Reg.rsp] = BigInt(stackTop - 2048);
    context.resumeRegisters();
  } else context.resume(random(2) ? random(460) : -random(200));
}

for (const [what, base, mask] of [
  ['its first mailbox', mailboxes, 0x1_fff8],
  ['the line of its mailbox that goes back and forth', mailboxes, 0x38],
  ['what the Sentry writes to its mailbox', mailboxes, 0x1ff8],
  ['all its mailboxes', mailboxes, 0x1fff_fff8],
  ["its threads' areas", threadAreas, 0x3_fff8],
  ['its trampolines', trampolines, 0x7_fff8],
] as const) {
  test(`a program that writes over ${what} harms itself alone (SEED=${seed})`, () => {
    const random = generator(seed + mask);
    for (let round = 0; round < 3; round++) {
      const context = machine.load();
      const writer = context.spawnThread();
      machine.set(writer, { rip: addressOf('scribbler'), rdi: base, rsi: mask, rbx: 1 + random(2 ** 30) });
      machine.begin(context, 'busy', { r12: 50 });
      const made: Context[] = [context];
      for (let step = 0; step < 300; step++) {
        const stopped = hostileEvent(3e6);
        if (!stopped) {
          for (const one of made) one.interrupt();
        } else if (stopped.event === ContextEvent.died) {
          stopped.addressSpace.destroy();
          if (stopped.addressSpace === context.addressSpace) break;
        } else if (stopped === writer && stopped.event === ContextEvent.started) {
          stopped.resumeRegisters();
        } else if (stopped !== good) serve(stopped, random, made);
        othersGoOn(step);
      }
      for (const one of made) one.addressSpace.destroy();
      pending.length = 0;
    }
  });
}

test(`a program that jumps anywhere into the stub's text harms itself alone (SEED=${seed})`, () => {
  const random = generator(seed);
  const counts = new Map<string, number>();
  const interesting = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    9,
    17,
    56,
    60,
    202,
    231,
    dataBase,
    mailboxes,
    stubText,
    threadAreas,
    0x8011,
  ];
  for (let i = 0; i < 1500; i++) {
    const context = machine.load();
    const values: { [name: string]: number } = {};
    for (const name of ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12'] as const) {
      values[name] = random(3) ? interesting[random(interesting.length)]! : random(2 ** 31);
    }
    const target = stubText + random(stubTextSize);
    machine.set(context, { rdi: values['rax']! });
    machine.begin(context, 'jumper', { ...values, rip: addressOf('jumper'), rdi: target });
    for (let step = 0; step < 3; step++) {
      const stopped = hostileEvent(2e6);
      if (!stopped) break;
      counts.set(`event ${stopped.event}`, (counts.get(`event ${stopped.event}`) ?? 0) + 1);
      if (stopped.event === ContextEvent.died) break;
      stopped.resume(values['rax']!);
    }
    context.interrupt();
    context.addressSpace.destroy();
    pending.length = 0;
    if (i % 10 === 0) othersGoOn(i);
  }
  assert.ok(counts.size > 1, JSON.stringify([...counts]));
});

/** Where the stub's text has these bytes. */
function inText(bytes: readonly number[]): number {
  // Segments begin at a page of the file; text is the first one.
  const at = readFileSync(stubPath).indexOf(Buffer.from(bytes), page);
  assert.ok(at >= page);
  return stubText + at - page;
}

test('the syscall instructions of the stub serve a program that jumps there only where that is harmless', () => {
  // restore_signal: mov $15,%eax; syscall.
  const instruction = inText([0xb8, 15, 0, 0, 0, 0x0f, 0x05]) + 5;
  const deadly: readonly (readonly [call: string, number: number, arguments?: readonly number[]])[] = [
    ['open', 2],
    ['socket', 41],
    ['socketpair', 53],
    ['execve', 59],
    ['kill', 62],
    ['tgkill', 234],
    ['ptrace', 101],
    ['fork', 57],
    ['vfork', 58],
    ['clone3', 435],
    ['unshare', 272],
    ['connect', 42],
    ['sendmsg', 46],
    ['seccomp', 317],
    ['setpgid', 109],
    ['process_vm_writev', 311],
    ['pidfd_open', 434],
    ['prctl other than PR_SET_PDEATHSIG', 157, [4, 0]],
    ['clone into a new namespace', 56, [0x1100_8011, 0]],
    ['clone without CLONE_PARENT', 56, [17, 0]],
    ['reading the doorbell', 0, [4]],
    ['reading the doorbell through a copy', 0, [0]],
    ['copying the doorbell to where it may be read', 33, [4, 9]],
    ['copying the doorbell over the socket', 33, [4, 5]],
    ['futex with requeue', 202, [dataBase, 3]],
    ['ioctl', 16],
  ];
  for (const [call, number, [rdi, rsi] = [dataBase, dataBase]] of deadly) {
    const context = machine.load();
    machine.begin(context, 'generic', {
      rip: instruction,
      rax: number,
      rdi: rdi ?? 0,
      rsi: rsi ?? 0,
      rdx: 0,
    });
    context.registers();
    assert.equal(machine.next(), context, call);
    assert.equal(context.event, ContextEvent.died, call);
    context.addressSpace.destroy();
  }
  othersGoOn(1);
});

test("no process is left of programs that have cloned behind the kernel's back", () => {
  // clone_process: mov $56,%eax; syscall; ret. CLONE_PARENT | CLONE_CHILD_SETTID | SIGCHLD is how the stub forks.
  const clone = inText([0xb8, 56, 0, 0, 0, 0x0f, 0x05, 0xc3]);
  const before = children().length;
  for (let i = 0; i < 40; i++) {
    const context = machine.load();
    const stack = stackTop - 512;
    context.memory.writeU64(stack, addressOf('spin'));
    const flags = 0x0100_8011;
    machine.begin(context, 'generic', { rip: clone, rdi: flags, r10: dataBase, rsp: stack });
    // The copy spins, too; this one is stopped once both are at it.
    if (i === 0) while (children().length <= before) platform.wait(host.monotonic() + 1e6);
    context.interrupt();
    machine.stopOf(context, ContextEvent.interrupt);
    if (i % 2) context.addressSpace.destroy();
    else {
      // Or the program's own process ends first, to hide it: exit_group.
      const instruction = inText([0xb8, 15, 0, 0, 0, 0x0f, 0x05]) + 5;
      machine.set(context, { rip: instruction, rax: 231 });
      context.resumeRegisters();
      machine.stopOf(context, ContextEvent.died);
      context.addressSpace.destroy();
    }
  }
  const deadline = host.monotonic() + 10e9;
  while (children().length > before + 1) {
    platform.wait(host.monotonic() + 1e6);
    assert.ok(host.monotonic() < deadline, `${children().length - before} processes are left`);
  }
  othersGoOn(2);
});

test('protections of the data that the Sentry shares with all stubs cannot be changed', () => {
  const statePage = 0x7fe0_1000_0000;
  const context = machine.load();
  machine.begin(context, 'store', { rdi: statePage, rsi: 1 });
  machine.stopOf(context, ContextEvent.fault);
  assert.deepEqual([context.fault.signal, context.fault.code], [11, 2]);
  assert.equal(context.addressSpace.protect(context, statePage, page, Protection.write), -22);
  context.addressSpace.destroy();
});
