// A terminal whose other side is a terminal of the host that was donated (`podman run -t`, `kubectl exec -t`): the line
// discipline, job control and signals are the sandbox's own; the host's terminal is in raw mode and only carries bytes.

import { Errno } from '../../abi/errno.ts';
import type { Host, HostFd, HostWatch } from '../../host/contract.ts';
import type { Clock } from '../../kernel/contract.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { OtherSide, Terminal } from './terminal.ts';

const TIOCGWINSZ = 0x5413;
const O_NONBLOCK = 0o4000;

export class HostTerminal implements OtherSide {
  readonly terminal: Terminal;
  readonly #host: Host;
  readonly #clock: Clock;
  readonly #fd: HostFd;
  readonly #watch: HostWatch;
  readonly #input = new Uint8Array(4096);
  #inputStart = 0;
  #inputEnd = 0;
  #typing = false;
  #closed = false;

  /** fd: the terminal side of a host's pseudo-terminal, already raw; taken over. Throws when it cannot be watched. */
  constructor(host: Host, clock: Clock, terminal: Terminal, fd: HostFd) {
    this.#host = host;
    this.#clock = clock;
    this.terminal = terminal;
    this.#fd = fd;
    host.setFlags(fd, O_NONBLOCK);
    const watch = host.watch(fd, Poll.in, (events) => this.#ready(events));
    if (typeof watch === 'number') throw new Error(`the host's terminal cannot be watched (errno ${-watch})`);
    this.#watch = watch;
    terminal.other = this;
    this.readSize();
  }

  /** Takes over the host terminal's window size. */
  readSize(): void {
    const size = new Uint16Array(4);
    if (this.#host.ioctl(this.#fd, TIOCGWINSZ, new Uint8Array(size.buffer)) < 0) return;
    this.terminal.resize(size[0] ?? 0, size[1] ?? 0, size[2] ?? 0, size[3] ?? 0);
  }

  #ready(events: number): void {
    if (events & Poll.in) this.#read();
    else if (events & (Poll.hup | Poll.err)) this.close();
    if (events & Poll.out) this.outputReady();
  }

  #read(): void {
    if (this.#inputStart < this.#inputEnd) {
      this.#type();
      return;
    }
    const count = this.#host.pread(this.#fd, this.#input, 0, this.#input.length, -1);
    if (count === -Errno.EAGAIN || count === -Errno.EINTR) return;
    if (count <= 0) {
      this.close();
      return;
    }
    this.#inputStart = 0;
    this.#inputEnd = count;
    this.#type();
  }

  #type(): void {
    // What is typed may be read at once, which asks for more.
    if (this.#typing) return;
    this.#typing = true;
    const taken = this.terminal.type(
      this.#input.subarray(this.#inputStart, this.#inputEnd),
      this.#clock.monotonic(),
    );
    this.#typing = false;
    this.#inputStart += taken;
    this.#wanted();
  }

  /** Reads on only while there is room for it; writes when the host's terminal has taken enough. */
  #wanted(): void {
    if (this.#closed) return;
    const reads = this.#inputStart >= this.#inputEnd;
    this.#watch.update((reads ? Poll.in : 0) | (this.terminal.outputWaiting > 0 ? Poll.out : 0));
  }

  outputReady(): void {
    if (this.#closed) return;
    for (;;) {
      const output = this.terminal.peekOutput();
      if (output.length === 0) break;
      const count = this.#host.pwrite(this.#fd, output, 0, output.length, -1);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) break;
      if (count < 0) {
        this.close();
        return;
      }
      this.terminal.takeOutput(count);
    }
    this.#wanted();
  }

  inputRoom(): void {
    if (this.#inputStart < this.#inputEnd) this.#type();
  }

  status(): void {}

  /** The host's terminal is gone, or nobody uses this one any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    this.#host.close(this.#fd);
    this.terminal.other = undefined;
    this.terminal.hangUp();
  }
}
