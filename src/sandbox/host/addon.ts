// The shape of build/native/sentry.node (native/sentry/addon.c), and loading it. Everything takes and gives numbers:
// results >= 0 or a negative errno.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export interface Addon {
  readonly records: ArrayBuffer;
  readonly resumeQueue: ArrayBuffer;
  readonly hostEvents: ArrayBuffer;
  readonly ptrace: PtraceCalls;

  monotonic(): number;
  realtime(out: Float64Array): number;
  cpuTime(): number;
  pread(fd: number, target: Uint8Array, offset: number, length: number, position: number): number;
  pwrite(fd: number, source: Uint8Array, offset: number, length: number, position: number): number;
  fstat(fd: number, out: Float64Array): number;
  ftruncate(fd: number, size: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  fsync(fd: number, dataOnly: boolean): number;
  fsyncLater(fd: number, dataOnly: boolean, id: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number;
  setFlags(fd: number, flags: number): number;
  ioctl(fd: number, command: number, data: Uint8Array | undefined): number;
  dup(fd: number): number;
  networkShutdown(fd: number, how: number): number;
  accept(fd: number): number;
  close(fd: number): number;
  memoryFile(name: string, size: number): number;
  send(
    fd: number,
    source: Uint8Array,
    offset: number,
    length: number,
    fds: Int32Array,
    count: number,
  ): number;
  receive(fd: number, target: Uint8Array, offset: number, length: number, fds: Int32Array): number;
  watch(fd: number, events: number, id: number): number;
  rewatch(fd: number, events: number, id: number): number;
  unwatch(fd: number): number;
  poll(nanoseconds: number): number;
  readiness(fd: number, events: number): number;
  random(target: Uint8Array): number;
  processor(): number;
  socketPair(type: number, out: Int32Array): number;
  exit(status: number): never;
  installFilter(program: Uint8Array): number;

  startZygote(path: string, out: Int32Array): number;
  platformStart(control: number, doorbell: number, state: number, hello: Float64Array): number;
  platformWait(deadline: number): number;
  platformStop(): number;
  spaceCreate(): number;
  spaceAwait(context: number): number;
  spaceDestroy(space: number): number;
  contextSpace(context: number): number;
  contextFork(context: number): number;
  contextSpawn(context: number): number;
  contextDiscard(context: number): number;
  contextInterrupt(context: number): number;
  contextExit(context: number): number;
  contextRegisters(context: number): number;
  contextCpuTime(context: number): number;
  contextAnswers(context: number, on: boolean, pid: number, tid: number): number;
  contextFlush(context: number): number;
  contextOperation(
    context: number,
    code: number,
    a0: number,
    a1: number,
    a2: number,
    a3: number,
    a4: number,
    fd: number,
  ): number;
  contextPlace(context: number, address: number, bytes: Uint8Array): number;
  contextStore(context: number, address: number, value: Uint8Array, protection: number): number;
  futexActivity(): number;

  memoryRead(context: number, address: number, target: Uint8Array, offset: number, length: number): number;
  memoryWrite(context: number, address: number, source: Uint8Array, offset: number, length: number): number;
  memoryString(context: number, address: number, maximum: number): string | number;
  memoryLoad32(context: number, address: number): number;
  memoryLoad64(context: number, address: number): number;
  memoryStore32(context: number, address: number, value: number): number;
  memoryStore64(context: number, address: number, low: number, high: number): number;
  memoryClear(context: number, address: number, length: number): number;
  memoryLoadNow(context: number, address: number): number;
  memoryExchange(context: number, address: number, expected: number, desired: number): number;
  memoryPeek(
    context: number,
    address: number,
    target: Uint8Array,
    offset: number,
    length: number,
    protection: number,
  ): number;
  memoryPoke(
    context: number,
    address: number,
    source: Uint8Array,
    offset: number,
    length: number,
    protection: number,
  ): number;
  memoryFromHost(
    context: number,
    fd: number,
    position: number,
    segments: Float64Array,
    count: number,
  ): number;
  memoryToHost(context: number, fd: number, position: number, segments: Float64Array, count: number): number;
  extendedSize(): number;
  extendedGet(context: number, target: Uint8Array): number;
  extendedSet(context: number, source: Uint8Array, length: number): number;
}

/** What the ptrace platform needs (native/sentry/ptrace-calls.c). Contexts are their numbers in `records`. */
export interface PtraceCalls {
  start(control: number, vdso: Float64Array): number;
  stop(): number;
  wait(deadline: number): number;
  create(): number;
  make(context: number, thread: boolean): number;
  discard(context: number): number;
  /** failure: a negative errno with which it is to stop instead, as if it could not make what it was to make. */
  resume(context: number, command: number, failure: number): number;
  /** Makes now what the context is to make. */
  flush(context: number): number;
  interrupt(context: number): number;
  exit(context: number): number;
  process(context: number): number;
  destroy(process: number): number;
  registers(context: number): number;
  extendedGet(context: number, target: Uint8Array): number;
  extendedSet(context: number, source: Uint8Array, length: number): number;
  call(
    context: number,
    number: number,
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    f: number,
  ): number;
  mapFile(
    context: number,
    address: number,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ): number;
  resident(context: number, address: number, length: number, target: Uint8Array): number;

  read(context: number, address: number, target: Uint8Array, offset: number, length: number): number;
  write(context: number, address: number, source: Uint8Array, offset: number, length: number): number;
  string(context: number, address: number, maximum: number): string | number;
  load32(context: number, address: number): number;
  load64(context: number, address: number): number;
  store32(context: number, address: number, value: number): number;
  store64(context: number, address: number, low: number, high: number): number;
  clear(context: number, address: number, length: number): number;
  exchange(context: number, address: number, expected: number, desired: number): number;
  peek(context: number, address: number, target: Uint8Array, offset: number, length: number): number;
  poke(context: number, address: number, source: Uint8Array, offset: number, length: number): number;
  fromHost(context: number, fd: number, position: number, segments: Float64Array, count: number): number;
  toHost(context: number, fd: number, position: number, segments: Float64Array, count: number): number;
}

/** Kinds of entries in hostEvents: count, then kind, id and value of each (enum wake_kind in sentry.h). */
export const HostEvent = { watch: 1, completion: 4 } as const;

export const addonPath = fileURLToPath(new URL('../../../build/native/sentry.node', import.meta.url));
export const stubPath = fileURLToPath(new URL('../../../build/native/bulkhead-stub', import.meta.url));
/** The program of the ptrace platform's template process. */
export const traceePath = fileURLToPath(new URL('../../../build/native/bulkhead-tracee', import.meta.url));

/** Can be loaded once in a process; loading it again gives the same. */
export function loadAddon(path: string = addonPath): Addon {
  return createRequire(import.meta.url)(path) as Addon;
}
