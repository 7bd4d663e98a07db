// The filter as the kernel will run it: its program in an interpreter of classic BPF.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SyscallNumber } from '../abi/syscall-numbers.ts';
import { assemble, Verdict } from './bpf.ts';
import { type JailProfile, sentryFilter } from './filter.ts';

/** struct seccomp_data's verdict; throws on anything that the kernel's checker would refuse. */
function run(
  program: Uint8Array,
  call: number,
  args: readonly (number | bigint)[] = [],
  arch = 0xc000003e,
): number {
  const view = new DataView(program.buffer);
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call, true);
  data.setUint32(4, arch, true);
  for (const [index, value] of args.entries())
    data.setBigUint64(16 + 8 * index, BigInt.asUintN(64, BigInt(value)), true);
  let accumulator = 0;
  for (let at = 0; ; ) {
    assert.ok(at < program.length / 8, 'the program runs off its end');
    const value = view.getUint32(at * 8 + 4, true);
    const branch = (taken: boolean): number => at + 1 + view.getUint8(at * 8 + (taken ? 2 : 3));
    switch (view.getUint16(at * 8, true)) {
      case 0x20:
        assert.ok(value % 4 === 0 && value < 64);
        accumulator = data.getUint32(value, true);
        at++;
        break;
      case 0x54:
        accumulator = (accumulator & value) >>> 0;
        at++;
        break;
      case 0x15:
        at = branch(accumulator === value);
        break;
      case 0x35:
        at = branch(accumulator >= value);
        break;
      case 0x06:
        return value;
      default:
        assert.fail('an instruction that is none');
    }
  }
}

const profile: JailProfile = { network: 'none', platform: 'systrap' };
const eperm = Verdict.errno(1);

describe('the Sentry filter', () => {
  const program = sentryFilter(profile);
  const verdict = (call: keyof typeof SyscallNumber, ...args: (number | bigint)[]): number =>
    run(program, SyscallNumber[call], args);

  test('kills calls of other ABIs', () => {
    assert.equal(run(program, 5, [], 0x40000003), Verdict.killProcess);
    assert.equal(run(program, 0x40000000 + SyscallNumber.read), Verdict.killProcess);
    assert.equal(run(program, 0xffffffff), Verdict.killProcess);
  });

  test('gives every number a verdict, and allows no call that names a file or starts a program', () => {
    for (let call = 0; call < 600; call++) run(program, call);
    for (const call of [
      ...([
        'open',
        'openat',
        'creat',
        'stat',
        'lstat',
        'access',
        'faccessat',
        'readlink',
        'mkdir',
        'unlink',
      ] as const),
      ...([
        'rename',
        'link',
        'symlink',
        'chmod',
        'chown',
        'mknod',
        'statfs',
        'chdir',
        'truncate',
        'utimensat',
      ] as const),
      ...([
        'socket',
        'connect',
        'bind',
        'listen',
        'setsockopt',
        'setuid',
        'capset',
        'setrlimit',
        'syslog',
      ] as const),
    ])
      assert.equal(verdict(call), eperm, call);
    for (const call of [
      'execve',
      'execveat',
      'fork',
      'vfork',
      'ptrace',
      'mount',
      'unshare',
      'setns',
      'bpf',
    ] as const)
      assert.equal(verdict(call), Verdict.killProcess, call);
  });

  test('lets no flag of clone make a process or a namespace', () => {
    const thread = 0x3d0f00;
    assert.equal(verdict('clone', thread), Verdict.allow);
    assert.equal(verdict('clone', 17), eperm);
    for (const bit of [0x100, 0x200, 0x400, 0x800, 0x10000])
      assert.equal(verdict('clone', thread & ~bit), eperm);
    for (const bit of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
      assert.equal(verdict('clone', thread | bit), eperm, bit.toString(16));
  });

  test('compares ints by their lower half, as the kernel does, and pointers whole', () => {
    assert.equal(verdict('socketpair', 0xdead_0000_0001n), Verdict.allow);
    assert.equal(verdict('prlimit64', 0, 7, 0, 4096), Verdict.allow);
    assert.equal(verdict('prlimit64', 0, 7, 0x1_0000_0000n, 4096), eperm);
    assert.equal(verdict('mmap', 0, 4096, 5, 0x22), Verdict.allow);
    assert.equal(verdict('mmap', 0, 4096, 5, 0x2), eperm);
    assert.equal(verdict('mmap', 0, 4096, 3, 0x1), Verdict.allow);
    assert.equal(verdict('ioctl', 0, 0x5412), eperm);
    assert.equal(verdict('ioctl', 0, 0x5413), Verdict.allow);
  });

  test('opens what a profile asks for and nothing else', () => {
    const network = sentryFilter({ ...profile, network: 'host' });
    const tracing = sentryFilter({ ...profile, platform: 'ptrace' });
    assert.equal(run(network, SyscallNumber.socket, [2]), Verdict.allow);
    assert.equal(run(network, SyscallNumber.socket, [16]), eperm);
    assert.equal(run(network, SyscallNumber.ptrace), Verdict.killProcess);
    assert.equal(run(tracing, SyscallNumber.ptrace), Verdict.allow);
    assert.equal(run(tracing, SyscallNumber.socket, [2]), eperm);
  });
});

test('a rule too long for a jump is refused when it is assembled', () => {
  const oneOf = Array.from({ length: 300 }, (_, index) => index);
  assert.throws(
    () => assemble({ rules: [{ call: 1, when: [[{ argument: 0, oneOf }]] }], otherwise: 0 }),
    /jump/,
  );
});
