// The line discipline of terminals (N_TTY, termios(3)): editing and echo of what is typed, signals, flow control, and
// the processing of what programs write. It knows nothing of files or processes: what it gives out goes to a `Wire`.

import { Signal } from '../../abi/signal.ts';
import {
  ControlCharacter as Char,
  defaultTermios,
  InputFlag,
  LocalFlag,
  OutputFlag,
  type Termios,
} from '../../abi/termios.ts';

/** As Linux's N_TTY_BUF_SIZE: what can wait to be read. One byte stays free for the end of a line. */
const bufferSize = 4096;
const index = bufferSize - 1;
const disabled = 0;
const tabStop = 8;

export interface Wire {
  /** Processed output and echo, towards the terminal's other side. */
  transmit(byte: number): void;
  /** ^C and the like: to the foreground process group. */
  signal(signal: number): void;
  /** Something can be read now, or the room for input has grown. */
  inputChanged(): void;
  /** Output was stopped or started (^S, ^Q), or flushed by a signal character. */
  outputChanged(event: 'stop' | 'start' | 'flush'): void;
}

export class LineDiscipline {
  termios: Termios = defaultTermios();
  readonly #wire: Wire;
  readonly #bytes = new Uint8Array(bufferSize);
  /** 1 where a byte ends a line; where that byte is 0 it is an end of file. */
  readonly #ends = new Uint8Array(bufferSize);
  /** Positions count up for ever; they are reduced by `index`. */
  #tail = 0;
  #head = 0;
  /** After the last complete line. */
  #lineHead = 0;
  #literal = false;
  #stopped = false;
  #column = 0;
  /** Column at which the line that is being edited began. */
  #canonColumn = 0;
  #erasing = false;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  #has(flag: number): boolean {
    return (this.termios.local & flag) !== 0;
  }

  get canonical(): boolean {
    return this.#has(LocalFlag.canonical);
  }

  /** ^S has stopped the output. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Bytes that a read could give at least in part: whole lines in canonical mode. */
  get available(): number {
    return (this.canonical ? this.#lineHead : this.#head) - this.#tail;
  }

  /** Whether a read would not have to wait. */
  get readable(): boolean {
    if (this.canonical) return this.#lineHead !== this.#tail;
    const minimum =
      this.termios.characters[Char.time] === 0 ? (this.termios.characters[Char.minimum] ?? 1) : 1;
    return this.#head - this.#tail >= Math.max(1, minimum);
  }

  /** Bytes of input that are accepted now. In canonical mode editing must always be possible. */
  get room(): number {
    const left = bufferSize - 1 - (this.#head - this.#tail);
    if (left <= 0 && this.canonical && this.#lineHead === this.#tail) return 1;
    return Math.max(0, left);
  }

  /** The settings have changed: what is buffered is seen in the new mode (n_tty_set_termios). */
  settings(termios: Termios): void {
    const before = this.termios;
    this.termios = termios;
    if ((before.local ^ termios.local) & LocalFlag.canonical) {
      this.#ends.fill(0);
      this.#lineHead = this.#tail;
      if (termios.local & LocalFlag.canonical && this.#head !== this.#tail) {
        // What was typed before counts as a line of its own.
        this.#ends[(this.#head - 1) & index] = 1;
        this.#lineHead = this.#head;
      }
      this.#erasing = false;
      this.#literal = false;
    }
    if (before.input & InputFlag.startStop && !(termios.input & InputFlag.startStop)) this.start();
    this.#wire.inputChanged();
  }

  /** Takes up to `length` bytes (canonical: of one line). 0 with `endOfFile` true: ^D on an empty line. */
  read(target: Uint8Array, length: number): { readonly count: number; readonly endOfFile: boolean } {
    let count = 0;
    const limit = this.canonical ? this.#lineHead : this.#head;
    let endOfFile = false;
    while (this.#tail < limit) {
      const at = this.#tail & index;
      const end = this.canonical && this.#ends[at] === 1;
      if (end && this.#bytes[at] === disabled) {
        // An end of file right behind what fills the buffer belongs to this read.
        this.#ends[at] = 0;
        this.#tail++;
        endOfFile = count === 0;
        break;
      }
      if (count === length) break;
      target[count++] = this.#bytes[at] ?? 0;
      this.#ends[at] = 0;
      this.#tail++;
      if (end) break;
    }
    this.#wire.inputChanged();
    return { count, endOfFile };
  }

  flushInput(): void {
    this.#tail = this.#head;
    this.#lineHead = this.#head;
    this.#ends.fill(0);
    this.#erasing = false;
    this.#wire.inputChanged();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#wire.outputChanged('stop');
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#wire.outputChanged('start');
  }

  // Output.

  /** One byte written by a program, after OPOST. */
  write(byte: number): void {
    if (this.termios.output & OutputFlag.process) this.#process(byte);
    else this.#wire.transmit(byte);
  }

  #process(byte: number): void {
    const { output } = this.termios;
    switch (byte) {
      case 0x0a:
        if (output & OutputFlag.newlineReturns) this.#column = 0;
        if (output & OutputFlag.newlineToCrNl) {
          this.#column = 0;
          this.#wire.transmit(0x0d);
        }
        this.#canonColumn = this.#column;
        this.#wire.transmit(0x0a);
        return;
      case 0x0d:
        if (output & OutputFlag.noReturnAtZero && this.#column === 0) return;
        if (output & OutputFlag.returnToNewline) {
          if (output & OutputFlag.newlineReturns) this.#column = 0;
          this.#canonColumn = this.#column;
          this.#wire.transmit(0x0a);
          return;
        }
        this.#column = 0;
        this.#canonColumn = 0;
        break;
      case 0x09: {
        const spaces = tabStop - (this.#column % tabStop);
        this.#column += spaces;
        if ((output & OutputFlag.tabs) === OutputFlag.expandTabs) {
          for (let i = 0; i < spaces; i++) this.#wire.transmit(0x20);
          return;
        }
        break;
      }
      case 0x08:
        if (this.#column > 0) this.#column--;
        break;
      default:
        if (byte >= 0x20 && byte !== 0x7f) {
          if (output & OutputFlag.upper && byte >= 0x61 && byte <= 0x7a) {
            this.#column++;
            this.#wire.transmit(byte - 0x20);
            return;
          }
          // Bytes that continue a UTF-8 character take no column.
          if (!(this.termios.input & InputFlag.utf8) || (byte & 0xc0) !== 0x80) this.#column++;
        }
    }
    this.#wire.transmit(byte);
  }

  // Input.

  /** One byte typed. */
  receive(typed: number): void {
    const { input, characters } = this.termios;
    let byte = typed;
    if (input & InputFlag.strip) byte &= 0x7f;
    if (input & InputFlag.lower && this.#has(LocalFlag.extended) && byte >= 0x41 && byte <= 0x5a)
      byte += 0x20;
    if (this.#has(LocalFlag.external)) {
      this.#put(byte);
      this.#wire.inputChanged();
      return;
    }
    if (this.#literal) {
      this.#literal = false;
      this.#ordinary(byte);
      return;
    }
    const is = (which: number): boolean => byte === characters[which] && byte !== disabled;
    if (input & InputFlag.startStop) {
      if (is(Char.start)) {
        this.start();
        return;
      }
      if (is(Char.stop)) {
        this.stop();
        return;
      }
      if (this.#stopped && input & InputFlag.anyStarts) this.start();
    }
    if (this.#has(LocalFlag.signals)) {
      const signal = is(Char.interrupt)
        ? Signal.SIGINT
        : is(Char.quit)
          ? Signal.SIGQUIT
          : is(Char.suspend)
            ? Signal.SIGTSTP
            : 0;
      if (signal !== 0) {
        this.#signalCharacter(byte, signal);
        return;
      }
    }
    if (byte === 0x0d) {
      if (input & InputFlag.ignoreReturn) return;
      if (input & InputFlag.returnToNewline) byte = 0x0a;
    } else if (byte === 0x0a && input & InputFlag.newlineToReturn) {
      byte = 0x0d;
    }
    if (this.canonical && this.#edit(byte)) return;
    this.#ordinary(byte);
  }

  #signalCharacter(byte: number, signal: number): void {
    if (!this.#has(LocalFlag.noFlush)) {
      this.flushInput();
      this.#wire.outputChanged('flush');
    }
    if (this.termios.input & InputFlag.startStop) this.start();
    if (this.#has(LocalFlag.echo)) this.#echo(byte);
    this.#wire.signal(signal);
  }

  /** The characters of canonical mode; true if it was one. */
  #edit(byte: number): boolean {
    const { characters } = this.termios;
    const is = (which: number): boolean => byte === characters[which] && byte !== disabled;
    const extended = this.#has(LocalFlag.extended);
    if (is(Char.erase) || is(Char.kill) || (extended && is(Char.wordErase))) {
      this.#erase(byte);
      return true;
    }
    if (extended && is(Char.literalNext)) {
      this.#literal = true;
      if (this.#has(LocalFlag.echo) && this.#has(LocalFlag.echoControl)) {
        this.#raw(0x5e);
        this.#raw(0x08);
      }
      return true;
    }
    if (extended && this.#has(LocalFlag.echo) && is(Char.reprint)) {
      this.#finishErasing();
      this.#echo(byte);
      this.#raw(0x0a);
      for (let at = this.#lineHead; at < this.#head; at++) this.#echo(this.#bytes[at & index] ?? 0);
      return true;
    }
    if (byte === 0x0a) {
      if (this.#has(LocalFlag.echo) || this.#has(LocalFlag.echoNewline)) this.#raw(0x0a);
      this.#endLine(byte);
      return true;
    }
    if (is(Char.endOfFile)) {
      this.#endLine(disabled);
      return true;
    }
    if (is(Char.endOfLine) || (extended && is(Char.endOfLine2))) {
      if (this.#has(LocalFlag.echo)) {
        if (this.#head === this.#lineHead) this.#canonColumn = this.#column;
        this.#echo(byte);
      }
      this.#endLine(byte);
      return true;
    }
    return false;
  }

  #endLine(byte: number): void {
    if (this.#head - this.#tail >= bufferSize) {
      // The buffer is full of a line without an end: its last byte gives way to it.
      this.#head--;
    }
    this.#ends[this.#head & index] = 1;
    this.#put(byte);
    this.#lineHead = this.#head;
    this.#erasing = false;
    this.#wire.inputChanged();
  }

  #ordinary(byte: number): void {
    if (this.#head - this.#tail >= bufferSize - 1) {
      if (this.termios.input & InputFlag.bell) this.#raw(0x07);
      return;
    }
    if (this.#has(LocalFlag.echo)) {
      this.#finishErasing();
      if (byte === 0x0a) {
        this.#raw(0x0a);
      } else {
        if (this.#head === this.#lineHead) this.#canonColumn = this.#column;
        this.#echo(byte);
      }
    }
    if (this.termios.input & InputFlag.markParity && byte === 0xff) this.#put(byte);
    this.#put(byte);
    if (!this.canonical) this.#wire.inputChanged();
  }

  #put(byte: number): void {
    this.#bytes[this.#head & index] = byte;
    this.#head++;
  }

  // Echo. It goes through output processing as if a program had written it.

  #raw(byte: number): void {
    this.write(byte);
  }

  /** Control characters as ^X where ECHOCTL asks for it. */
  #echo(byte: number): void {
    if (this.#has(LocalFlag.echoControl) && (byte < 0x20 || byte === 0x7f) && byte !== 0x09) {
      this.#raw(0x5e);
      this.#raw(byte ^ 0x40);
    } else {
      this.#raw(byte);
    }
  }

  /** Columns that a byte took when it was echoed. */
  #width(byte: number): number {
    if (byte < 0x20 || byte === 0x7f) return this.#has(LocalFlag.echoControl) ? 2 : 0;
    return this.termios.input & InputFlag.utf8 && (byte & 0xc0) === 0x80 ? 0 : 1;
  }

  #finishErasing(): void {
    if (!this.#erasing) return;
    this.#raw(0x2f);
    this.#erasing = false;
  }

  /** ERASE, WERASE and KILL (eraser() of n_tty.c). */
  #erase(byte: number): void {
    const { characters } = this.termios;
    const kill = byte === characters[Char.kill];
    const word = !kill && byte === characters[Char.wordErase] && byte !== characters[Char.erase];
    if (this.#head === this.#lineHead) return;
    const echo = this.#has(LocalFlag.echo);
    if (kill && !echo) {
      this.#head = this.#lineHead;
      return;
    }
    if (
      kill &&
      !(this.#has(LocalFlag.echoKill) && this.#has(LocalFlag.echoKillErase) && this.#has(LocalFlag.echoErase))
    ) {
      this.#head = this.#lineHead;
      this.#finishErasing();
      this.#echo(byte);
      if (this.#has(LocalFlag.echoKill)) this.#raw(0x0a);
      return;
    }
    let seenWord = false;
    while (this.#head !== this.#lineHead) {
      let head = this.#head;
      let erased: number;
      // A whole UTF-8 character: back over the bytes that continue one.
      do {
        head--;
        erased = this.#bytes[head & index] ?? 0;
      } while (this.termios.input & InputFlag.utf8 && (erased & 0xc0) === 0x80 && head !== this.#lineHead);
      if (word) {
        const letter =
          (erased >= 0x30 && erased <= 0x39) ||
          (erased >= 0x41 && erased <= 0x5a) ||
          (erased >= 0x61 && erased <= 0x7a) ||
          erased === 0x5f ||
          erased >= 0x80;
        if (letter) seenWord = true;
        else if (seenWord) break;
      }
      this.#head = head;
      if (echo) this.#echoErased(byte, erased);
      if (!kill && !word) break;
    }
    if (this.#head === this.#lineHead && echo) this.#finishErasing();
  }

  #echoErased(key: number, erased: number): void {
    if (this.#has(LocalFlag.echoPrint)) {
      if (!this.#erasing) {
        this.#raw(0x5c);
        this.#erasing = true;
      }
      this.#echo(erased);
    } else if (!this.#has(LocalFlag.echoErase)) {
      this.#echo(key);
    } else if (erased === 0x09) {
      this.#eraseTab();
    } else {
      for (let i = this.#width(erased); i > 0; i--) for (const byte of [0x08, 0x20, 0x08]) this.#raw(byte);
    }
  }

  /** Back to where the tab began: as many columns as it had taken behind what stands before it in the line. */
  #eraseTab(): void {
    let before = 0;
    let at = this.#head;
    let afterTab = false;
    while (at > this.#lineHead) {
      at--;
      const byte = this.#bytes[at & index] ?? 0;
      if (byte === 0x09) {
        afterTab = true;
        break;
      }
      before += this.#width(byte);
    }
    if (!afterTab) before += this.#canonColumn;
    for (let back = tabStop - (before % tabStop); back > 0; back--) this.#raw(0x08);
  }
}
