// A program whose terminal is the command's own: a pseudoterminal between the two, so that the command's terminal is
// restored whatever happens, and each keeps its own settings.

import { createReadStream, createWriteStream } from 'node:fs';
import { ReadStream, WriteStream } from 'node:tty';
import type { HostFd } from '../host/contract.ts';
import type { HostTerminal, Outside } from './outside.ts';

export interface ForegroundTerminal {
  readonly slave: HostFd;
  readonly rows: number;
  readonly columns: number;
  /** The program has the slave: bytes go to and fro from now on. */
  connect(): void;
  /** Gives out what the program has left, and restores the command's terminal. */
  restore(): Promise<void>;
}

export function openForegroundTerminal(outside: Outside): ForegroundTerminal {
  const { master, slave }: HostTerminal = outside.openTerminal();
  const { stdin, stdout } = process;
  const resize = (): void => {
    if (!(stdout instanceof WriteStream)) return;
    const size = new Uint8Array(8);
    const view = new DataView(size.buffer);
    view.setUint16(0, stdout.rows, true);
    view.setUint16(2, stdout.columns, true);
    // TIOCSWINSZ
    outside.host.ioctl(master, 0x5414, size);
  };
  resize();
  const isTerminal = stdin instanceof ReadStream;
  let ended: Promise<void> = Promise.resolve();
  let former: Uint8Array | undefined;
  return {
    slave,
    rows: stdout instanceof WriteStream ? stdout.rows : 0,
    columns: stdout instanceof WriteStream ? stdout.columns : 0,
    connect() {
      outside.host.close(slave);
      if (isTerminal) former = outside.makeRaw(0);
      if (stdout instanceof WriteStream) stdout.on('resize', resize);
      const from = createReadStream('', { fd: outside.host.dup(master), autoClose: true });
      const to = createWriteStream('', { fd: master, autoClose: true });
      // EIO: the program's side has been closed.
      ended = new Promise((resolve) => {
        from.on('error', () => resolve());
        from.on('end', () => resolve());
      });
      from.on('data', (bytes) => void stdout.write(bytes));
      to.on('error', () => undefined);
      stdin.on('data', (bytes) => void to.write(bytes));
    },
    async restore() {
      await ended;
      if (former) outside.restoreTerminal(0, former);
      stdin.destroy();
    },
  };
}
