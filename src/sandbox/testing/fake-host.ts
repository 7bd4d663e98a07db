// The host for unit tests: files are byte arrays, time stands still until the test moves it, watches fire when the test
// says so.

import { Errno } from '../abi/errno.ts';
import type { Host, HostFd, HostStat, HostWatch, Readiness } from '../host/contract.ts';

export interface FakeFile {
  bytes: Uint8Array;
  size: number;
  position: number;
  readonly ino: number;
  mode: number;
  /** What receive() gives, in order: sockets of the test. */
  readonly received: { readonly bytes: Uint8Array; readonly fds: readonly HostFd[] }[];
  readonly sent: { readonly bytes: Uint8Array; readonly fds: readonly HostFd[] }[];
}

export class FakeHost implements Host {
  /** Nanoseconds. */
  now = 1_000_000_000;
  wall = { sec: 1_700_000_000, nsec: 0 };
  readonly files = new Map<HostFd, FakeFile>();
  /** What readiness() says of descriptors that are not ready for everything. */
  readonly ready = new Map<HostFd, Readiness>();
  readonly #watches = new Map<HostFd, Set<{ events: Readiness; ready: (events: Readiness) => void }>>();
  #nextFd = 100;
  #nextIno = 1;
  #seed = 1;

  /** Moves both clocks on. */
  advance(nanoseconds: number): void {
    this.now += nanoseconds;
    const nsec = this.wall.nsec + nanoseconds;
    this.wall = { sec: this.wall.sec + Math.floor(nsec / 1e9), nsec: nsec % 1e9 };
  }

  /** A file with these bytes. */
  file(bytes: Uint8Array | string = '', mode = 0o100644): HostFd {
    const content = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    const fd = this.#nextFd++;
    this.files.set(fd, {
      bytes: content.slice(),
      size: content.length,
      position: 0,
      ino: this.#nextIno++,
      mode,
      received: [],
      sent: [],
    });
    return fd;
  }

  /** Tells the watches of a descriptor. */
  fire(fd: HostFd, events: Readiness): void {
    for (const watch of [...(this.#watches.get(fd) ?? [])]) {
      const matching = events & (watch.events | 0x18);
      if (matching) watch.ready(matching);
    }
  }

  monotonic(): number {
    return this.now;
  }
  realtime(): { readonly sec: number; readonly nsec: number } {
    return this.wall;
  }
  cpuTime(): number {
    return this.now;
  }

  pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    const start = position < 0 ? file.position : position;
    const count = Math.max(0, Math.min(length, file.size - start));
    target.set(file.bytes.subarray(start, start + count), offset);
    if (position < 0) file.position += count;
    return count;
  }

  pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    const start = position < 0 ? file.position : position;
    this.#reserve(file, start + length);
    file.bytes.set(source.subarray(offset, offset + length), start);
    file.size = Math.max(file.size, start + length);
    if (position < 0) file.position += length;
    return length;
  }

  #reserve(file: FakeFile, size: number): void {
    if (file.bytes.length >= size) return;
    const bytes = new Uint8Array(Math.max(size, file.bytes.length * 2));
    bytes.set(file.bytes.subarray(0, file.size));
    file.bytes = bytes;
  }

  fstat(fd: HostFd): HostStat | number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    return {
      dev: 1,
      ino: file.ino,
      mode: file.mode,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      size: file.size,
      blksize: 4096,
      blocks: Math.ceil(file.size / 512),
      atimeSec: this.wall.sec,
      atimeNsec: this.wall.nsec,
      mtimeSec: this.wall.sec,
      mtimeNsec: this.wall.nsec,
      ctimeSec: this.wall.sec,
      ctimeNsec: this.wall.nsec,
    };
  }

  ftruncate(fd: HostFd, size: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    this.#reserve(file, size);
    if (size < file.size) file.bytes.fill(0, size, file.size);
    file.size = size;
    return 0;
  }

  /** Modes 0, KEEP_SIZE (1) and PUNCH_HOLE|KEEP_SIZE (3). */
  fallocate(fd: HostFd, mode: number, offset: number, length: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    if (mode === 3) file.bytes.fill(0, Math.min(offset, file.size), Math.min(offset + length, file.size));
    else if (mode === 0 && offset + length > file.size) return this.ftruncate(fd, offset + length);
    else if (mode !== 0 && mode !== 1) return -Errno.EOPNOTSUPP;
    return 0;
  }

  fsync(fd: HostFd): number {
    return this.files.has(fd) ? 0 : -Errno.EBADF;
  }
  fsyncLater(fd: HostFd, dataOnly: boolean, done: (result: number) => void): void {
    void dataOnly;
    done(this.fsync(fd));
  }

  lseek(fd: HostFd, offset: number, whence: number): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    const base = whence === 0 ? 0 : whence === 1 ? file.position : whence === 2 ? file.size : -1;
    if (whence === 3) return offset < file.size ? offset : -Errno.ENXIO;
    if (whence === 4) return offset < file.size ? file.size : -Errno.ENXIO;
    if (base < 0 || base + offset < 0) return -Errno.EINVAL;
    file.position = base + offset;
    return file.position;
  }

  copyFileRange(from: HostFd, fromOffset: number, to: HostFd, toOffset: number, length: number): number {
    const bytes = new Uint8Array(length);
    const count = this.pread(from, bytes, 0, length, fromOffset);
    return count <= 0 ? count : this.pwrite(to, bytes, 0, count, toOffset);
  }

  setFlags(fd: HostFd): number {
    return this.files.has(fd) ? 0 : -Errno.EBADF;
  }
  ioctl(): number {
    return -Errno.ENOTTY;
  }

  dup(fd: HostFd): HostFd {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    const copy = this.#nextFd++;
    this.files.set(copy, file);
    return copy;
  }

  close(fd: HostFd): number {
    return this.files.delete(fd) ? 0 : -Errno.EBADF;
  }

  memoryFile(_name: string, size: number): HostFd {
    const fd = this.file();
    this.ftruncate(fd, size);
    return fd;
  }

  send(fd: HostFd, source: Uint8Array, offset: number, length: number, fds: readonly HostFd[]): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    file.sent.push({ bytes: source.slice(offset, offset + length), fds: [...fds] });
    return length;
  }

  receive(fd: HostFd, target: Uint8Array, offset: number, length: number, fds: HostFd[]): number {
    const file = this.files.get(fd);
    if (!file) return -Errno.EBADF;
    const next = file.received.shift();
    if (!next) return -Errno.EAGAIN;
    const count = Math.min(length, next.bytes.length);
    target.set(next.bytes.subarray(0, count), offset);
    fds.push(...next.fds);
    return count;
  }

  readiness(fd: HostFd, events: Readiness): Readiness {
    if (!this.files.has(fd)) return 0x20;
    return (this.ready.get(fd) ?? 0x5) & (events | 0x18);
  }

  /** Connections that accept() gives, by listening descriptor. */
  readonly connections = new Map<HostFd, HostFd[]>();
  accept(fd: HostFd): HostFd | number {
    return this.connections.get(fd)?.shift() ?? -Errno.EAGAIN;
  }

  /** The last shutdown of each descriptor. */
  readonly shut = new Map<HostFd, number>();
  shutdown(fd: HostFd, how: number): number {
    if (!this.files.has(fd)) return -Errno.EBADF;
    this.shut.set(fd, how);
    return 0;
  }

  watch(fd: HostFd, events: Readiness, ready: (events: Readiness) => void): HostWatch | number {
    if (!this.files.has(fd)) return -Errno.EBADF;
    const watch = { events, ready };
    const set = this.#watches.get(fd) ?? new Set();
    this.#watches.set(fd, set.add(watch));
    return {
      update: (changed) => {
        watch.events = changed;
      },
      close: () => {
        set.delete(watch);
      },
    };
  }

  /** A fixed sequence. */
  random(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) {
      this.#seed = (Math.imul(this.#seed, 1_103_515_245) + 12_345) >>> 0;
      target[i] = this.#seed >>> 16;
    }
  }

  processor(): number {
    return -1;
  }

  exit(status: number): never {
    throw new Error(`the sandbox ended with status ${status}`);
  }
}
