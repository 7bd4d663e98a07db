// For unit tests of sockets: processes of a whole kernel over the fake platform, in a network with a loopback interface,
// and their calls with addresses and messages as a C program writes them.

import { Family, MessageHeader } from '../abi/socket.ts';
import type { Thread } from '../kernel/task/thread.ts';
import { dataAddress, TestSandbox } from '../kernel/testing/test-sandbox.ts';
import { eventSyscalls } from '../vfs/event/syscalls.ts';
import { fileSyscalls } from '../vfs/syscalls.ts';
import { LoopbackNetwork } from './loopback/network.ts';
import { socketSyscalls } from './syscalls.ts';

/** Where the calls' structures and buffers lie. */
export const at = {
  address: dataAddress,
  length: dataAddress + 0x100,
  header: dataAddress + 0x200,
  iov: dataAddress + 0x300,
  control: dataAddress + 0x400,
  option: dataAddress + 0x800,
  pair: dataAddress + 0x900,
  poll: dataAddress + 0x980,
  buffer: dataAddress + 0x1000,
} as const;
export const bufferSize = 0x3000;

export function unixAddress(name: string): Uint8Array {
  return Uint8Array.of(Family.unix, 0, ...Buffer.from(name, 'latin1'));
}

export function inetAddress(ip: string, port: number): Uint8Array {
  return Uint8Array.of(
    Family.inet,
    0,
    port >> 8,
    port & 0xff,
    ...ip.split('.').map(Number),
    ...new Uint8Array(8),
  );
}

export class Program {
  readonly sandbox: NetSandbox;
  readonly thread: Thread;

  constructor(sandbox: NetSandbox, thread: Thread) {
    this.sandbox = sandbox;
    this.thread = thread;
  }

  /** The call's result; undefined while it waits. */
  call(name: Parameters<TestSandbox['call']>[1], ...args: readonly (number | bigint)[]): number | undefined {
    return this.sandbox.kernel.call(this.thread, name, ...args);
  }
  /** The answer to the call that waited. */
  get answer(): number | undefined {
    return this.sandbox.kernel.answer(this.thread);
  }

  put(address: number, bytes: Uint8Array): number {
    this.thread.memory.poke(address, bytes, 0, bytes.length);
    return bytes.length;
  }
  get(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.thread.memory.peek(address, bytes, 0, length);
    return bytes;
  }
  word(address: number): number {
    return this.thread.memory.readU32(address) | 0;
  }

  socket(family: number, type: number, protocol = 0): number {
    return this.call('socket', family, type, protocol) ?? -1;
  }
  pair(type: number): [number, number] {
    const result = this.call('socketpair', Family.unix, type, 0, at.pair);
    if (result !== 0) throw new Error(`socketpair: ${result}`);
    return [this.word(at.pair), this.word(at.pair + 4)];
  }
  bind(fd: number, address: Uint8Array): number | undefined {
    return this.call('bind', fd, at.address, this.put(at.address, address));
  }
  connect(fd: number, address: Uint8Array): number | undefined {
    return this.call('connect', fd, at.address, this.put(at.address, address));
  }
  accept(fd: number): number | undefined {
    return this.call('accept', fd, 0, 0);
  }
  send(fd: number, text: string, flags = 0): number | undefined {
    return this.call('sendto', fd, at.buffer, this.put(at.buffer, Buffer.from(text, 'latin1')), flags, 0, 0);
  }
  sendTo(fd: number, text: string, address: Uint8Array, flags = 0): number | undefined {
    const length = this.put(at.buffer, Buffer.from(text, 'latin1'));
    return this.call('sendto', fd, at.buffer, length, flags, at.address, this.put(at.address, address));
  }
  /** The text, or the negative errno; undefined while it waits. */
  receive(fd: number, size = 100, flags = 0): string | number | undefined {
    const count = this.call('recvfrom', fd, at.buffer, size, flags, 0, 0);
    return count === undefined || count < 0 ? count : this.text(count);
  }
  text(length: number): string {
    return Buffer.from(this.get(at.buffer, length)).toString('latin1');
  }

  /** A msghdr for the buffer, with this control message's bytes. */
  header(size: number, control: Uint8Array | number, name = 0, nameLength = 0): number {
    const bytes = new Uint8Array(MessageHeader.size);
    const view = new DataView(bytes.buffer);
    const word = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
    word(MessageHeader.name, name);
    view.setInt32(MessageHeader.nameLength, nameLength, true);
    word(MessageHeader.iov, at.iov);
    word(MessageHeader.iovLength, 1);
    const room = typeof control === 'number' ? control : this.put(at.control, control);
    word(MessageHeader.control, room === 0 ? 0 : at.control);
    word(MessageHeader.controlLength, room);
    this.put(at.header, bytes);
    const iov = new Uint8Array(16);
    const iovView = new DataView(iov.buffer);
    iovView.setBigUint64(0, BigInt(at.buffer), true);
    iovView.setBigUint64(8, BigInt(size), true);
    this.put(at.iov, iov);
    return at.header;
  }

  sendMessage(fd: number, text: string, control: Uint8Array, flags = 0): number | undefined {
    const size = this.put(at.buffer, Buffer.from(text, 'latin1'));
    return this.call('sendmsg', fd, this.header(size, control), flags);
  }

  /** recvmsg(2): the result, the flags and the control messages' bytes. */
  receiveMessage(
    fd: number,
    size: number,
    room: number,
    flags = 0,
  ): { result: number | undefined; flags: number; control: Uint8Array } {
    const result = this.call('recvmsg', fd, this.header(size, room), flags);
    const used = this.word(at.header + MessageHeader.controlLength);
    return { result, flags: this.word(at.header + MessageHeader.flags), control: this.get(at.control, used) };
  }

  option(fd: number, level: number, name: number): number {
    this.put(at.length, Uint8Array.of(4, 0, 0, 0));
    const result = this.call('getsockopt', fd, level, name, at.option, at.length) ?? -1;
    return result < 0 ? result : this.word(at.option);
  }
  setOption(fd: number, level: number, name: number, value: number | Uint8Array): number | undefined {
    const bytes =
      typeof value === 'number' ? Uint8Array.of(value, value >> 8, value >> 16, value >> 24) : value;
    return this.call('setsockopt', fd, level, name, at.option, this.put(at.option, bytes));
  }

  /** revents of poll(2) with a time-out of 0. */
  poll(fd: number, events = 0x201f): number {
    this.put(at.poll, Uint8Array.of(fd, 0, 0, 0, events & 0xff, events >> 8, 0, 0));
    const result = this.call('poll', at.poll, 1, 0) ?? -1;
    return result < 0 ? result : this.get(at.poll, 8)[6]! | (this.get(at.poll, 8)[7]! << 8);
  }

  /** getsockname or getpeername: the address, or the errno. */
  name(fd: number, peer = false): Uint8Array | number {
    this.put(at.length, Uint8Array.of(128, 0, 0, 0));
    const result = this.call(peer ? 'getpeername' : 'getsockname', fd, at.address, at.length) ?? -1;
    return result < 0 ? result : this.get(at.address, this.word(at.length));
  }

  port(fd: number): number {
    const name = this.name(fd);
    return typeof name === 'number' ? name : ((name[2] ?? 0) << 8) | (name[3] ?? 0);
  }
}

/** cmsghdr and data. */
export function controlMessage(level: number, type: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + Math.ceil(data.length / 8) * 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + data.length, true);
  view.setInt32(8, level, true);
  view.setInt32(12, type, true);
  bytes.set(data, 16);
  return bytes;
}

export const fdsMessage = (...fds: number[]): Uint8Array =>
  controlMessage(1, 1, new Uint8Array(Int32Array.from(fds).buffer));

export class NetSandbox {
  readonly kernel = new TestSandbox({ extra: [...socketSyscalls, ...eventSyscalls, ...fileSyscalls] });
  readonly network = new LoopbackNetwork(this.kernel.kernel, this.kernel.kernel.rootUserNamespace);

  program(): Program {
    return new Program(this, this.kernel.process({ network: this.network }));
  }

  settle(): void {
    this.kernel.settle();
  }
}
