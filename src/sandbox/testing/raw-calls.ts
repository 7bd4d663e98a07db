// For tests only: the host's system calls from JavaScript, and what tests build of them: socket pairs, and the part of
// Host that a Gofer's client and the seal need.

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SyscallNumber } from '../abi/syscall-numbers.ts';
import type { HostFd } from '../host/contract.ts';
import { FakeHost } from './fake-host.ts';

export interface RawCalls {
  /** Numbers as they are, byte arrays as their addresses. The result, or a negative errno. */
  call(number: number, ...args: readonly (number | Uint8Array | BigUint64Array)[]): number;
  address(bytes: Uint8Array | BigUint64Array): number;
}

/** Compiles the addon (a fraction of a second) to `file`, or to a place of its own, and loads it. */
export function loadRawCalls(file?: string): RawCalls {
  const directory = mkdtempSync(join(tmpdir(), 'raw-calls-'));
  try {
    const built = join(directory, 'raw-calls.node');
    const source = fileURLToPath(new URL('raw-calls.c', import.meta.url));
    execFileSync(process.env['CC'] ?? 'cc', [
      '-shared',
      '-fPIC',
      '-O2',
      '-Wall',
      '-Wextra',
      '-o',
      built,
      source,
    ]);
    if (file !== undefined) copyFileSync(built, file);
    return createRequire(import.meta.url)(built) as RawCalls;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Descriptors, sockets and filters of the host's own kernel; the rest is the fake host's. */
export class RawHost extends FakeHost {
  readonly raw: RawCalls;

  constructor(raw: RawCalls) {
    super();
    this.raw = raw;
  }

  socketPair(type = 1): [HostFd, HostFd] {
    const pair = new Uint8Array(8);
    const result = this.raw.call(SyscallNumber.socketpair, 1, type | 0o2000000, 0, pair);
    if (result < 0) throw new Error(`socketpair: ${result}`);
    const view = new DataView(pair.buffer);
    return [view.getInt32(0, true), view.getInt32(4, true)];
  }

  override send(
    fd: HostFd,
    source: Uint8Array,
    offset: number,
    length: number,
    fds: readonly HostFd[],
  ): number {
    return this.#message(SyscallNumber.sendmsg, fd, source, offset, length, fds.length, (control) => {
      fds.forEach((given, index) => {
        control.setInt32(16 + 4 * index, given, true);
      });
    });
  }

  override receive(fd: HostFd, target: Uint8Array, offset: number, length: number, fds: HostFd[]): number {
    let received: DataView | undefined;
    const result = this.#message(SyscallNumber.recvmsg, fd, target, offset, length, 8, (control) => {
      received = control;
    });
    const size = received?.getUint32(0, true) ?? 0;
    for (let at = 16; result > 0 && at + 4 <= size; at += 4) fds.push(received?.getInt32(at, true) ?? -1);
    return result;
  }

  #message(
    call: number,
    fd: HostFd,
    bytes: Uint8Array,
    offset: number,
    length: number,
    fds: number,
    fill: (control: DataView) => void,
  ): number {
    const { raw } = this;
    const control = new Uint8Array(16 + 8 * Math.ceil(fds / 2));
    const view = new DataView(control.buffer);
    if (call === SyscallNumber.sendmsg) {
      view.setUint32(0, 16 + 4 * fds, true);
      view.setUint32(8, 1, true);
      view.setUint32(12, 1, true);
    }
    const vector = new BigUint64Array([BigInt(raw.address(bytes) + offset), BigInt(length)]);
    const message = new BigUint64Array(7);
    message[2] = BigInt(raw.address(vector));
    message[3] = 1n;
    if (fds > 0) {
      message[4] = BigInt(raw.address(control));
      message[5] = BigInt(control.length);
    }
    fill(view);
    // MSG_CMSG_CLOEXEC, MSG_NOSIGNAL
    const result = raw.call(call, fd, message, call === SyscallNumber.recvmsg ? 0x40000000 : 0x4000);
    return result;
  }

  override processor(): number {
    const number = new Uint8Array(4);
    return this.raw.call(SyscallNumber.getcpu, number, 0, 0) < 0
      ? -1
      : new DataView(number.buffer).getInt32(0, true);
  }

  override close(fd: HostFd): number {
    return this.raw.call(SyscallNumber.close, fd);
  }

  installFilter(program: Uint8Array): number {
    const filter = new Uint8Array(16);
    const view = new DataView(filter.buffer);
    view.setUint16(0, program.length / 8, true);
    view.setBigUint64(8, BigInt(this.raw.address(program)), true);
    // SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
    return this.raw.call(SyscallNumber.seccomp, 1, 1, filter);
  }
}
