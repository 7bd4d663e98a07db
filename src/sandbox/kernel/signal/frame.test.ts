import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  FrameLayout as at,
  SiginfoLayout,
  Signal,
  SignalCode,
  SignalFlag,
  StackLayout,
} from '../../abi/signal.ts';
import { Reg } from '../../platform/contract.ts';
import type { SignalInfo } from '../contract.ts';
import { Sandbox } from './fixture.ts';
import { enterHandler } from './frame.ts';
import { decodeSiginfo, encodeSiginfo } from './siginfo.ts';
import { decodeSet } from './signal-set.ts';
import { signalsOf } from './task-signals.ts';

interface NativeFrame {
  readonly name: string;
  readonly address: number;
  readonly extendedSize: number;
  readonly stack: number;
  readonly stackSize: number;
  readonly bytes: Buffer;
}

function nativeFrames(): NativeFrame[] {
  const directory = mkdtempSync(join(tmpdir(), 'native-frames-'));
  try {
    const built = join(directory, 'native-frames');
    const source = fileURLToPath(new URL('native-frames.c', import.meta.url));
    execFileSync(process.env['CC'] ?? 'cc', ['-O1', '-Wall', '-Wextra', '-o', built, source]);
    const output = execFileSync(built, { encoding: 'latin1', timeout: 10_000 });
    return output
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [name = '', address, extendedSize, stack, stackSize, bytes = ''] = line.split(' ');
        return {
          name,
          address: Number(address),
          extendedSize: Number(extendedSize),
          stack: Number(stack),
          stackSize: Number(stackSize),
          bytes: Buffer.from(bytes, 'hex'),
        };
      });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const general: readonly (readonly [offset: number, register: number])[] = [
  [at.r8, Reg.r8],
  [at.r9, Reg.r9],
  [at.r10, Reg.r10],
  [at.r11, Reg.r11],
  [at.r12, Reg.r12],
  [at.r13, Reg.r13],
  [at.r14, Reg.r14],
  [at.r15, Reg.r15],
  [at.rdi, Reg.rdi],
  [at.rsi, Reg.rsi],
  [at.rbp, Reg.rbp],
  [at.rbx, Reg.rbx],
  [at.rdx, Reg.rdx],
  [at.rax, Reg.rax],
  [at.rcx, Reg.rcx],
  [at.rsp, Reg.rsp],
  [at.rip, Reg.rip],
  [at.eflags, Reg.eflags],
];

test('frames are where the host’s kernel puts them and hold the same bytes', () => {
  const frames = nativeFrames();
  assert.deepEqual(
    frames.map(({ name }) => name),
    ['kill', 'queue', 'fault', 'masked', 'alternate', 'autodisarm'],
  );
  for (const { name, address, extendedSize, stack, stackSize, bytes } of frames) {
    const box = new Sandbox();
    const thread = box.process();
    const context = box.context(thread);
    Object.defineProperty(context, 'extendedStateSize', { value: extendedSize });
    const { memory } = context;
    memory.allocate(address - 0x1_0000, 0x2_0000);
    // The thread as it was when the signal came: its registers, mask, last fault and alternate stack.
    const registers = context.registers();
    for (const [offset, register] of general) registers[register] = bytes.readBigUInt64LE(offset);
    const state = signalsOf(thread);
    state.setMask(decodeSet(new DataView(bytes.buffer, bytes.byteOffset), at.mask));
    state.lastFault = {
      trap: Number(bytes.readBigUInt64LE(at.trap)),
      error: Number(bytes.readBigUInt64LE(at.error)),
      address: Number(bytes.readBigUInt64LE(at.cr2)),
    };
    const onStack = name === 'alternate' || name === 'autodisarm';
    const flags = onStack ? bytes.readUInt32LE(at.stack + StackLayout.flags) : 0;
    state.alternateStack = onStack ? { sp: stack, size: stackSize, flags } : { sp: 0, size: 0, flags: 0 };
    const signal = name === 'fault' ? Signal.SIGSEGV : Signal.SIGUSR1;
    const info = decodeSiginfo(bytes.subarray(at.info), signal);
    const entered = enterHandler(state, info, {
      handler: 0x1234,
      flags: SignalFlag.SA_SIGINFO | SignalFlag.SA_RESTORER | (onStack ? SignalFlag.SA_ONSTACK : 0),
      restorer: Number(bytes.readBigUInt64LE(at.returnAddress)),
      mask: { low: 1, high: 0 },
    });
    assert.equal(entered, 0, name);
    assert.equal(box.register(thread, Reg.rsp), address, `${name}: address`);
    const made = Buffer.alloc(at.size);
    assert.ok(memory.read(address, made, 0, at.size) >= 0);
    // What Linux leaves as it was on the stack: behind ss_flags, and sigcontext's reserved words.
    for (const buffer of [made, bytes]) {
      buffer.fill(0, at.stack + StackLayout.flags + 4, at.stack + StackLayout.length);
      buffer.fill(0, at.fpstate + 8, at.mask);
    }
    assert.equal(made.toString('hex'), bytes.toString('hex'), name);
  }
});

test('siginfo of kill, a queued value and a fault is what the host’s kernel writes', () => {
  const [kill, queue, fault] = nativeFrames().map(({ bytes }) => bytes.subarray(at.info));
  assert.ok(kill && queue && fault);
  const box = new Sandbox();
  const thread = box.process();
  const from = { sender: thread.process, uid: 0 };
  const expected: [Buffer, SignalInfo][] = [
    [kill, { signal: Signal.SIGUSR1, code: SignalCode.SI_USER, ...from }],
    [queue, { signal: Signal.SIGUSR1, code: SignalCode.SI_QUEUE, value: 0x1122_3344_5566_7788n, ...from }],
    [fault, { signal: Signal.SIGSEGV, code: SignalCode.SEGV_MAPERR, address: 0xdead000 }],
  ];
  for (const [native, info] of expected) {
    const made = Buffer.alloc(SiginfoLayout.size);
    encodeSiginfo(info, thread, made);
    // The number of the process is the sandbox's own.
    if (info.sender) made.writeInt32LE(native.readInt32LE(SiginfoLayout.pid), SiginfoLayout.pid);
    assert.equal(made.toString('hex'), native.toString('hex'));
  }
});
