// The host's network sockets, for a sandbox that uses the host's network (native/sentry/network.c). Nothing waits; results
// are >= 0 or negative errnos. Addresses and options are the kernel's own structures.

import { Errno } from '../abi/errno.ts';
import type { Addon } from './addon.ts';
import type { HostFd } from './contract.ts';

interface NetworkAddon {
  networkSocket(family: number, type: number, protocol: number): number;
  networkBind(fd: number, address: Uint8Array): number;
  networkConnect(fd: number, address: Uint8Array): number;
  networkListen(fd: number, backlog: number): number;
  networkShutdown(fd: number, how: number): number;
  networkName(fd: number, peer: number, out: Uint8Array): number;
  networkGetOption(fd: number, level: number, name: number, out: Uint8Array): number;
  networkSetOption(fd: number, level: number, name: number, value: Uint8Array): number;
  networkSend(fd: number, bytes: Uint8Array, flags: number, address: Uint8Array, control: Uint8Array): number;
  networkReceive(
    fd: number,
    bytes: Uint8Array,
    flags: number,
    address: Uint8Array,
    control: Uint8Array,
    out: Int32Array,
  ): number;
}

export interface HostReceived {
  readonly count: number;
  /** Copies. */
  readonly address: Uint8Array;
  readonly control: Uint8Array;
  readonly flags: number;
}

/** What net/host needs of the host; implemented by the addon, and by tests. */
export interface HostSockets {
  /** Non-blocking and close-on-exec. */
  socket(family: number, type: number, protocol: number): HostFd | number;
  bind(fd: HostFd, address: Uint8Array): number;
  connect(fd: HostFd, address: Uint8Array): number;
  listen(fd: HostFd, backlog: number): number;
  shutdown(fd: HostFd, how: number): number;
  name(fd: HostFd, peer: boolean): Uint8Array | number;
  getOption(fd: HostFd, level: number, name: number, room: number): Uint8Array | number;
  setOption(fd: HostFd, level: number, name: number, value: Uint8Array): number;
  send(fd: HostFd, bytes: Uint8Array, flags: number, address: Uint8Array, control: Uint8Array): number;
  receive(fd: HostFd, bytes: Uint8Array, flags: number): HostReceived | number;
}

const addressSize = 128;
const controlSize = 1024;
const optionSize = 4096;

export class NativeHostSockets implements HostSockets {
  readonly #addon: NetworkAddon;
  readonly #address = new Uint8Array(addressSize);
  readonly #control = new Uint8Array(controlSize);
  readonly #out = new Int32Array(3);

  constructor(addon: Addon) {
    this.#addon = addon as unknown as NetworkAddon;
  }

  socket(family: number, type: number, protocol: number): number {
    return this.#addon.networkSocket(family, type, protocol);
  }
  bind(fd: HostFd, address: Uint8Array): number {
    return this.#addon.networkBind(fd, address);
  }
  connect(fd: HostFd, address: Uint8Array): number {
    return this.#addon.networkConnect(fd, address);
  }
  listen(fd: HostFd, backlog: number): number {
    return this.#addon.networkListen(fd, backlog);
  }
  shutdown(fd: HostFd, how: number): number {
    return this.#addon.networkShutdown(fd, how);
  }

  name(fd: HostFd, peer: boolean): Uint8Array | number {
    const length = this.#addon.networkName(fd, peer ? 1 : 0, this.#address);
    return length < 0 ? length : this.#address.slice(0, length);
  }

  getOption(fd: HostFd, level: number, name: number, room: number): Uint8Array | number {
    if (room < 0) return -Errno.EINVAL;
    const value = new Uint8Array(Math.min(room, optionSize));
    const length = this.#addon.networkGetOption(fd, level, name, value);
    return length < 0 ? length : value.subarray(0, length);
  }

  setOption(fd: HostFd, level: number, name: number, value: Uint8Array): number {
    return this.#addon.networkSetOption(fd, level, name, value);
  }

  send(fd: HostFd, bytes: Uint8Array, flags: number, address: Uint8Array, control: Uint8Array): number {
    return this.#addon.networkSend(fd, bytes, flags, address, control);
  }

  receive(fd: HostFd, bytes: Uint8Array, flags: number): HostReceived | number {
    const out = this.#out;
    const count = this.#addon.networkReceive(fd, bytes, flags, this.#address, this.#control, out);
    if (count < 0) return count;
    return {
      count,
      address: this.#address.slice(0, out[0]),
      control: this.#control.slice(0, out[1]),
      flags: out[2] ?? 0,
    };
  }
}
