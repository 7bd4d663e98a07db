// The host, by the native addon. Keeps the watches and the fsyncs that are under way, whose events come from inside
// Platform.wait (dispatch). Everything else is one call into the addon.

import { Errno } from '../abi/errno.ts';
import { type Addon, HostEvent, loadAddon } from './addon.ts';
import type { Host, HostFd, HostStat, HostWatch, Readiness } from './contract.ts';

const maximumFds = 64;

class Watch implements HostWatch {
  readonly ready: (events: Readiness) => void;
  readonly #host: NativeHost;
  readonly #fd: HostFd;
  readonly #duplicate: boolean;
  readonly #id: number;

  constructor(
    host: NativeHost,
    fd: HostFd,
    duplicate: boolean,
    id: number,
    ready: (events: Readiness) => void,
  ) {
    this.#host = host;
    this.#fd = fd;
    this.#duplicate = duplicate;
    this.#id = id;
    this.ready = ready;
  }

  update(events: Readiness): void {
    this.#host.addon.rewatch(this.#fd, events, this.#id);
  }

  close(): void {
    if (!this.#host.forget(this.#id, this)) return;
    this.#host.addon.unwatch(this.#fd);
    if (this.#duplicate) this.#host.addon.close(this.#fd);
  }
}

export class NativeHost implements Host {
  readonly addon: Addon;
  readonly #events: Int32Array;
  readonly #watches = new Map<number, Watch>();
  readonly #syncs = new Map<number, (result: number) => void>();
  readonly #time = new Float64Array(2);
  readonly #realtime = { sec: 0, nsec: 0 };
  readonly #stat = new Float64Array(16);
  readonly #fds = new Int32Array(maximumFds + 1);
  #nextId = 1;

  constructor(addon: Addon) {
    this.addon = addon;
    this.#events = new Int32Array(addon.hostEvents);
  }

  monotonic(): number {
    return this.addon.monotonic();
  }

  realtime(): { readonly sec: number; readonly nsec: number } {
    this.addon.realtime(this.#time);
    this.#realtime.sec = this.#time[0]!;
    this.#realtime.nsec = this.#time[1]!;
    return this.#realtime;
  }

  cpuTime(): number {
    return this.addon.cpuTime();
  }

  pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number {
    return this.addon.pread(fd, target, offset, length, position);
  }

  pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number {
    return this.addon.pwrite(fd, source, offset, length, position);
  }

  fstat(fd: HostFd): HostStat | number {
    const s = this.#stat;
    const result = this.addon.fstat(fd, s);
    if (result < 0) return result;
    return {
      dev: s[0]!,
      ino: s[1]!,
      mode: s[2]!,
      nlink: s[3]!,
      uid: s[4]!,
      gid: s[5]!,
      rdev: s[6]!,
      size: s[7]!,
      blksize: s[8]!,
      blocks: s[9]!,
      atimeSec: s[10]!,
      atimeNsec: s[11]!,
      mtimeSec: s[12]!,
      mtimeNsec: s[13]!,
      ctimeSec: s[14]!,
      ctimeNsec: s[15]!,
    };
  }

  ftruncate(fd: HostFd, size: number): number {
    return this.addon.ftruncate(fd, size);
  }

  fallocate(fd: HostFd, mode: number, offset: number, length: number): number {
    return this.addon.fallocate(fd, mode, offset, length);
  }

  fsync(fd: HostFd, dataOnly: boolean): number {
    return this.addon.fsync(fd, dataOnly);
  }

  fsyncLater(fd: HostFd, dataOnly: boolean, done: (result: number) => void): void {
    const id = this.#newId();
    const result = this.addon.fsyncLater(fd, dataOnly, id);
    // Without a thread for it, it is done here and now: slow, but true.
    if (result < 0) done(result === -Errno.EAGAIN ? this.addon.fsync(fd, dataOnly) : result);
    else this.#syncs.set(id, done);
  }

  lseek(fd: HostFd, offset: number, whence: number): number {
    return this.addon.lseek(fd, offset, whence);
  }

  copyFileRange(from: HostFd, fromOffset: number, to: HostFd, toOffset: number, length: number): number {
    return this.addon.copyFileRange(from, fromOffset, to, toOffset, length);
  }

  setFlags(fd: HostFd, flags: number): number {
    return this.addon.setFlags(fd, flags);
  }

  ioctl(fd: HostFd, command: number, data: Uint8Array | undefined): number {
    return this.addon.ioctl(fd, command, data);
  }

  accept(fd: HostFd): HostFd | number {
    return this.addon.accept(fd);
  }

  dup(fd: HostFd): HostFd {
    return this.addon.dup(fd);
  }

  close(fd: HostFd): number {
    return this.addon.close(fd);
  }

  memoryFile(name: string, size: number): HostFd {
    return this.addon.memoryFile(name, size);
  }

  send(fd: HostFd, source: Uint8Array, offset: number, length: number, fds: readonly HostFd[]): number {
    if (fds.length > maximumFds) return -Errno.EINVAL;
    for (let i = 0; i < fds.length; i++) this.#fds[i] = fds[i]!;
    return this.addon.send(fd, source, offset, length, this.#fds, fds.length);
  }

  receive(fd: HostFd, target: Uint8Array, offset: number, length: number, fds: HostFd[]): number {
    const result = this.addon.receive(fd, target, offset, length, this.#fds);
    if (result >= 0) for (let i = 1; i <= this.#fds[0]!; i++) fds.push(this.#fds[i]!);
    return result;
  }

  shutdown(fd: HostFd, how: number): number {
    return this.addon.networkShutdown(fd, how);
  }

  watch(fd: HostFd, events: Readiness, ready: (events: Readiness) => void): HostWatch | number {
    const id = this.#newId();
    let watched = fd;
    let result = this.addon.watch(fd, events, id);
    if (result === -Errno.EEXIST) {
      // epoll takes a descriptor once: further watches have copies of it.
      watched = this.addon.dup(fd);
      if (watched < 0) return watched;
      result = this.addon.watch(watched, events, id);
      if (result < 0) this.addon.close(watched);
    }
    if (result < 0) return result;
    const watch = new Watch(this, watched, watched !== fd, id, ready);
    this.#watches.set(id, watch);
    return watch;
  }

  random(target: Uint8Array): void {
    this.addon.random(target);
  }

  processor(): number {
    return this.addon.processor();
  }

  /** Two connected Unix sockets (type: SOCK_*), close-on-exec; or a negative errno. For runtimes and tests. */
  socketPair(type: number): readonly [HostFd, HostFd] | number {
    const pair = new Int32Array(2);
    const result = this.addon.socketPair(type, pair);
    return result < 0 ? result : [pair[0]!, pair[1]!];
  }

  exit(status: number): never {
    return this.addon.exit(status);
  }

  /** seccomp for all threads of this process, for good; program: struct sock_filter[]. 0 or a negative errno. */
  installFilter(program: Uint8Array): number {
    return this.addon.installFilter(program);
  }

  /** For platforms: calls what waits for the events that the addon has found. */
  dispatch(): void {
    const events = this.#events;
    // Copied first: a callback may make the addon look for events again.
    const count = events[0]!;
    const batch = events.slice(1, 1 + 3 * count);
    events[0] = 0;
    for (let i = 0; i < batch.length; i += 3) {
      const id = batch[i + 1]!;
      if (batch[i] === HostEvent.watch) {
        this.#watches.get(id)?.ready(batch[i + 2]!);
      } else {
        const done = this.#syncs.get(id);
        this.#syncs.delete(id);
        done?.(batch[i + 2]!);
      }
    }
  }

  readiness(fd: HostFd, events: Readiness): Readiness {
    const result = this.addon.readiness(fd, events);
    return result < 0 ? 0x20 : result;
  }

  /**
   * For platforms that sleep by other means: looks for events for so many nanoseconds (-1: until there are some) and
   * dispatches them. Gives how many there were.
   */
  poll(nanoseconds: number): number {
    const count = this.addon.poll(nanoseconds);
    if (count > 0) this.dispatch();
    return count;
  }

  forget(id: number, watch: HostWatch): boolean {
    if (this.#watches.get(id) !== watch) return false;
    return this.#watches.delete(id);
  }

  #newId(): number {
    do this.#nextId = (this.#nextId + 1) & 0x7fffffff;
    while (this.#watches.has(this.#nextId) || this.#syncs.has(this.#nextId));
    return this.#nextId;
  }
}

/** The process's host. The addon can be loaded once in a process, so there is one. */
export function openHost(addon: Addon = loadAddon()): NativeHost {
  return new NativeHost(addon);
}
