// The host as the runtime's command sees it, outside of any jail: what the Sentry's addon offers to it beside what Node
// does (native/sentry/outside.c), and where the product's programs are.

import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadAddon, stubPath, traceePath } from '../host/addon.ts';
import type { HostFd } from '../host/contract.ts';
import { type NativeHost, openHost } from '../host/native.ts';
import { CommandError, errorCode } from './errors.ts';

interface OutsideAddon {
  unixSocket(path: string, listen: boolean): number;
  openTerminal(out: Int32Array): number;
  lock(fd: number): number;
  hostname(path: string): string | number;
}

const TCGETS = 0x5401;
const TCSETS = 0x5402;

export interface HostTerminal {
  readonly master: HostFd;
  readonly slave: HostFd;
}

export class Outside {
  readonly host: NativeHost;
  readonly #addon: OutsideAddon;

  constructor() {
    const addon = loadAddon();
    this.host = openHost(addon);
    this.#addon = addon as unknown as OutsideAddon;
  }

  /** A blocking, connected Unix stream socket; or a negative errno. */
  connect(path: string): HostFd | number {
    return this.#addon.unixSocket(path, false);
  }

  /** A listening Unix stream socket. */
  listen(path: string): HostFd {
    const fd = this.#addon.unixSocket(path, true);
    if (fd < 0) throw new CommandError(`listening on ${path}: error ${-fd}`);
    return fd;
  }

  socketPair(): readonly [HostFd, HostFd] {
    const pair = this.host.socketPair(1);
    if (typeof pair === 'number') throw new CommandError(`a socket pair: error ${-pair}`);
    return pair;
  }

  /** A new pseudoterminal, raw. */
  openTerminal(): HostTerminal {
    const out = new Int32Array(2);
    const result = this.#addon.openTerminal(out);
    if (result < 0) throw new CommandError(`a terminal: error ${-result}`);
    return { master: out[0] ?? -1, slave: out[1] ?? -1 };
  }

  /**
   * Puts a terminal into raw mode, as cfmakeraw(3) does: Node's own raw mode still changes what is written. Gives its
   * settings (struct termios of the kernel) for restoreTerminal; undefined if it is none.
   */
  makeRaw(fd: HostFd): Uint8Array | undefined {
    const former = new Uint8Array(36);
    if (this.host.ioctl(fd, TCGETS, former) < 0) return undefined;
    const raw = former.slice();
    const view = new DataView(raw.buffer);
    const clear = (offset: number, bits: number): void =>
      view.setUint32(offset, view.getUint32(offset, true) & ~bits, true);
    clear(0, 0o2753);
    clear(4, 0o1);
    clear(8, 0o460);
    view.setUint32(8, view.getUint32(8, true) | 0o60, true);
    clear(12, 0o100113);
    this.host.ioctl(fd, TCSETS, raw);
    return former;
  }

  restoreTerminal(fd: HostFd, former: Uint8Array): void {
    this.host.ioctl(fd, TCSETS, former);
  }

  /** The host name in a UTS namespace that is pinned at a path; undefined if it cannot be entered. */
  hostnameIn(path: string): string | undefined {
    const name = this.#addon.hostname(path);
    return typeof name === 'string' ? name : undefined;
  }

  /** Waits until nobody else holds the file, which is made if need be; held until it is disposed of. */
  lock(path: string): Disposable {
    for (;;) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
      const fd = openOrMake(path);
      if (fd === undefined) continue;
      const result = this.#addon.lock(fd);
      if (result < 0) throw new CommandError(`locking ${path}: error ${-result}`);
      // The one before may have removed what we waited for.
      if (stillThere(path, fd)) return { [Symbol.dispose]: () => closeSync(fd) };
      closeSync(fd);
    }
  }
}

function openOrMake(path: string): number | undefined {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function stillThere(path: string, fd: number): boolean {
  try {
    return statSync(path).ino === fstatSync(fd).ino;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

const native = dirname(stubPath);
const project = join(native, '../..');

export const programs = {
  stub: stubPath,
  tracee: traceePath,
  addon: join(native, 'sentry.node'),
  launcher: join(native, 'bulkhead-launcher'),
  gofer: join(native, 'bulkhead-gofer'),
  attend: join(native, 'bulkhead-attend'),
  /** What Node runs in the jail: start.cjs loads sentry.js with the code that V8 made of it when it was built. */
  sentry: join(project, 'dist/sentry'),
} as const;

/** Field 22 of /proc/PID/stat: with the pid it names a process for good. undefined: there is none, or a zombie. */
export function startTime(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

export interface HostProcess {
  readonly pid: number;
  readonly startTime: number;
}

export function identify(pid: number): HostProcess {
  return { pid, startTime: startTime(pid) ?? 0 };
}

export const isAlive = ({ pid, startTime: since }: HostProcess): boolean =>
  pid > 0 && startTime(pid) === since;

export function endProcess(one: HostProcess): void {
  if (!isAlive(one)) return;
  try {
    process.kill(one.pid, 'SIGKILL');
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
}

/** Throws where a program of the product is missing. */
export function checkPrograms(): void {
  const missing = [...Object.values(programs).filter((path) => !existsSync(path))];
  if (missing.length > 0) throw new CommandError(`not built yet: ${missing.join(', ')}; run "npm run build"`);
}
