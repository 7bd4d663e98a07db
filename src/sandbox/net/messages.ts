// struct msghdr, iovec and control messages between a program and the kernel (net/socket.c: copy_msghdr_from_user,
// net/core/scm.c: put_cmsg, scm_detach_fds).

import { Errno } from '../abi/errno.ts';
import {
  addressMaximum,
  Control,
  ControlHeader,
  Level,
  Message,
  MessageHeader,
  mostSegments,
} from '../abi/socket.ts';
import type { Task } from '../kernel/contract.ts';
import { readIovec, UserIo } from '../vfs/io.ts';
import type { ControlMessage } from './contract.ts';
import type { Incoming } from './socket.ts';

/** Addresses beyond are the kernel's (access_ok). */
export const userEnd = 0x7fff_ffff_f000;
/** net.core.optmem_max. */
const mostControl = 131_072;
const mostInt = 0x7fff_ffff;

export interface Header {
  readonly name: number;
  readonly nameLength: number;
  readonly io: UserIo;
  readonly control: number;
  readonly controlLength: number;
}

/** The msghdr at `address`; -EFAULT, -EINVAL, -EMSGSIZE. */
export function readHeader(task: Task, address: number): Header | number {
  const bytes = new Uint8Array(MessageHeader.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const word = (offset: number): number =>
    view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
  const name = word(MessageHeader.name);
  const nameLength = name === 0 ? 0 : view.getInt32(MessageHeader.nameLength, true);
  if (nameLength < 0) return -Errno.EINVAL;
  const count = word(MessageHeader.iovLength);
  if (count > mostSegments) return -Errno.EMSGSIZE;
  const segments = readIovec(task.memory, word(MessageHeader.iov), count);
  if (typeof segments === 'number') return segments;
  for (let i = 0; i < segments.length; i += 2)
    if ((segments[i] ?? 0) + (segments[i + 1] ?? 0) > userEnd) return -Errno.EFAULT;
  return {
    name,
    nameLength: Math.min(nameLength, addressMaximum),
    io: new UserIo(task.memory, segments),
    control: word(MessageHeader.control),
    controlLength: word(MessageHeader.controlLength),
  };
}

/** An address that a program passes (move_addr_to_kernel). */
export function readAddress(task: Task, address: number, length: number): Uint8Array | number {
  if (length < 0 || length > addressMaximum) return -Errno.EINVAL;
  const bytes = new Uint8Array(length);
  return length > 0 && task.memory.read(address, bytes, 0, length) < 0 ? -Errno.EFAULT : bytes;
}

/** An address for a program, with its length (move_addr_to_user): as much as there is room for. */
export function writeAddress(task: Task, value: Uint8Array, address: number, lengthAddress: number): number {
  const room = task.memory.readU32(lengthAddress);
  if (room < 0) return -Errno.EFAULT;
  const length = Math.min(room | 0, value.length);
  if (length < 0) return -Errno.EINVAL;
  if (length > 0 && task.memory.write(address, value, 0, length) < 0) return -Errno.EFAULT;
  return task.memory.writeU32(lengthAddress, value.length);
}

/** Splits control messages; -EINVAL for lengths that do not fit. */
export function parseControl(bytes: Uint8Array): ControlMessage[] | number {
  const messages: ControlMessage[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + ControlHeader.size <= bytes.length; ) {
    const length = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    if (length < ControlHeader.size || length > bytes.length - at) return -Errno.EINVAL;
    messages.push({
      level: view.getInt32(at + ControlHeader.level, true),
      type: view.getInt32(at + ControlHeader.type, true),
      data: bytes.subarray(at + ControlHeader.size, at + length),
    });
    at += Math.ceil(length / 8) * 8;
  }
  return messages;
}

/** The control messages of a program's sendmsg(2). */
export function readControl(task: Task, address: number, length: number): ControlMessage[] | number {
  if (length > mostInt) return -Errno.ENOBUFS;
  if (length === 0) return [];
  if (length > mostControl) return -Errno.ENOBUFS;
  const bytes = new Uint8Array(length);
  return task.memory.read(address, bytes, 0, length) < 0 ? -Errno.EFAULT : parseControl(bytes);
}

/** Where control messages go in a program's buffer. */
class ControlWriter {
  readonly #task: Task;
  #address: number;
  #left: number;
  used = 0;
  truncated = false;

  constructor(task: Task, address: number, length: number) {
    this.#task = task;
    this.#address = address;
    this.#left = address === 0 ? 0 : length;
  }

  get room(): number {
    return this.#left;
  }

  #header(length: number, level: number, type: number): Uint8Array {
    const header = new Uint8Array(ControlHeader.size);
    const view = new DataView(header.buffer);
    view.setUint32(ControlHeader.length, length, true);
    view.setInt32(ControlHeader.level, level, true);
    view.setInt32(ControlHeader.type, type, true);
    return header;
  }

  /** put_cmsg; data that do not fit are cut. */
  put(level: number, type: number, data: Uint8Array): void {
    if (this.#left < ControlHeader.size) {
      this.truncated = true;
      return;
    }
    let length = ControlHeader.size + data.length;
    if (this.#left < length) {
      this.truncated = true;
      length = this.#left;
    }
    const bytes = new Uint8Array(length);
    bytes.set(this.#header(length, level, type));
    bytes.set(data.subarray(0, length - ControlHeader.size), ControlHeader.size);
    if (this.#task.memory.write(this.#address, bytes, 0, length) < 0) return;
    this.#advance(data.length);
  }

  #advance(dataLength: number): void {
    const space = Math.min(ControlHeader.size + Math.ceil(dataLength / 8) * 8, this.#left);
    this.#address += space;
    this.#left -= space;
    this.used += space;
  }

  /** SCM_RIGHTS: gives the files descriptors, as many as there is room for. */
  putRights(message: Incoming): void {
    const files = message.rights ?? [];
    message.rights = undefined;
    const task = this.#task;
    const room = Math.floor(Math.max(0, this.#left - ControlHeader.size) / 4);
    const closeOnExec = (message.flags & Message.controlCloseOnExec) !== 0;
    let count = 0;
    for (const file of files) {
      const at = this.#address + ControlHeader.size + 4 * count;
      // The place is written to first: nobody would learn of a descriptor whose number could not be told.
      const fits = count < room && task.memory.writeU32(at, 0) >= 0;
      const fd = fits ? task.files.install(task, file, closeOnExec) : -Errno.EMFILE;
      if (fd < 0) break;
      task.memory.writeU32(at, fd);
      count++;
    }
    for (const file of files.slice(count)) file.unreference();
    if (count > 0) {
      const header = this.#header(ControlHeader.size + 4 * count, Level.socket, Control.rights);
      if (task.memory.write(this.#address, header, 0, header.length) >= 0) this.#advance(4 * count);
    }
    if (count < files.length) this.truncated = true;
  }
}

/** Gives a program the control messages; the bytes of its buffer that are used. Sets MSG_CTRUNC. */
export function writeControl(task: Task, message: Incoming, address: number, length: number): number {
  const writer = new ControlWriter(task, address, length);
  for (const { level, type, data } of message.control) writer.put(level, type, data);
  if (message.rights !== undefined) writer.putRights(message);
  if (writer.truncated) message.outFlags |= Message.controlTruncated;
  return writer.used;
}
