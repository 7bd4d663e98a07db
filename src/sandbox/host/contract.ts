// What the sandbox's kernel may ask of the host, and nothing else: operations on descriptors that it was given (by the
// launcher, the Gofer or itself: memory files), sleeping, and randomness. It cannot open a file or a socket; the
// seccomp filter of its process refuses that too. Implemented by the native addon (host/native.ts); every call is
// synchronous and gives a result >= 0 or a negative errno.

/** A descriptor of the host's. Never shown to a program. */
export type HostFd = number;

/** What fstat(2) gives, as numbers; times in whole seconds and nanoseconds. */
export interface HostStat {
  readonly dev: number;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
}

/** Readiness bits, as poll(2) and epoll(7) have them: 1 in, 2 pri, 4 out, 8 err, 16 hup, 0x2000 rdhup. */
export type Readiness = number;

export interface HostWatch {
  /** Replaces the events waited for; 0 keeps the watch but waits only for errors. */
  update(events: Readiness): void;
  close(): void;
}

export interface Host {
  /** CLOCK_MONOTONIC in nanoseconds. */
  monotonic(): number;
  /** CLOCK_REALTIME; the result is valid until the next call. */
  realtime(): { readonly sec: number; readonly nsec: number };
  /** Processor time of the whole Sentry process in nanoseconds. */
  cpuTime(): number;

  /**
   * position -1: at the descriptor's own position. That never waits, whatever the descriptor's flags: -EAGAIN where a
   * pipe, socket or terminal has nothing (no room), as with RWF_NOWAIT. EPIPE raises no signal here.
   */
  pread(fd: HostFd, target: Uint8Array, offset: number, length: number, position: number): number;
  pwrite(fd: HostFd, source: Uint8Array, offset: number, length: number, position: number): number;
  fstat(fd: HostFd): HostStat | number;
  ftruncate(fd: HostFd, size: number): number;
  /** mode: FALLOC_FL_*. */
  fallocate(fd: HostFd, mode: number, offset: number, length: number): number;
  fsync(fd: HostFd, dataOnly: boolean): number;
  /** fsync on a thread of its own, for files whose device is slow; `done` runs in the kernel's loop. */
  fsyncLater(fd: HostFd, dataOnly: boolean, done: (result: number) => void): void;
  lseek(fd: HostFd, offset: number, whence: number): number;
  copyFileRange(from: HostFd, fromOffset: number, to: HostFd, toOffset: number, length: number): number;
  /** O_NONBLOCK and the like by fcntl(F_SETFL). */
  setFlags(fd: HostFd, flags: number): number;
  /** The program's numbers: TIOCGWINSZ and such on a donated terminal. `data` is read and written. */
  ioctl(fd: HostFd, command: number, data: Uint8Array | undefined): number;
  dup(fd: HostFd): HostFd;
  close(fd: HostFd): number;

  /** Anonymous memory as a file (memfd_create); it is charged to the sandbox. */
  memoryFile(name: string, size: number): HostFd;

  /** Sends bytes and descriptors over a Unix socket (SCM_RIGHTS). Result: bytes sent. */
  send(fd: HostFd, source: Uint8Array, offset: number, length: number, fds: readonly HostFd[]): number;
  /** Receives bytes; descriptors that came with them are appended to `fds` (close-on-exec). 0: end. */
  receive(fd: HostFd, target: Uint8Array, offset: number, length: number, fds: HostFd[]): number;
  /** The next connection of a listening socket, non-blocking and close-on-exec; -EAGAIN if there is none. */
  accept(fd: HostFd): HostFd | number;

  /** shutdown(2) of a connected socket; how: SHUT_*. */
  shutdown(fd: HostFd, how: number): number;

  /** poll(2) without waiting: which of these events hold now (err and hup always count). */
  readiness(fd: HostFd, events: Readiness): Readiness;
  /** Calls `ready(events)` from inside Platform.wait whenever the descriptor is ready (level-triggered). */
  watch(fd: HostFd, events: Readiness, ready: (events: Readiness) => void): HostWatch | number;
  random(target: Uint8Array): void;
  /** The processor that executes this now (getcpu(2)); -1: unknown. Servers are woken cheapest on the same one. */
  processor(): number;
  /** Ends the Sentry at once with this status. */
  exit(status: number): never;
}
