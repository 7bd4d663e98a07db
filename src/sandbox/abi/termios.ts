// Terminals (asm-generic/termbits.h, ioctls.h, tty.h): flags, control characters, layouts, ioctl numbers.

export const InputFlag = {
  ignoreBreak: 0o1,
  breakInterrupt: 0o2,
  ignoreParity: 0o4,
  markParity: 0o10,
  strip: 0o40,
  newlineToReturn: 0o100,
  ignoreReturn: 0o200,
  returnToNewline: 0o400,
  lower: 0o1000,
  startStop: 0o2000,
  anyStarts: 0o4000,
  startStopInput: 0o10000,
  bell: 0o20000,
  utf8: 0o40000,
} as const;

export const OutputFlag = {
  process: 0o1,
  upper: 0o2,
  newlineToCrNl: 0o4,
  returnToNewline: 0o10,
  noReturnAtZero: 0o20,
  newlineReturns: 0o40,
  tabs: 0o14000,
  expandTabs: 0o14000,
} as const;

export const ControlFlag = { baud38400: 0o17, size8: 0o60, receive: 0o200, hangUp: 0o2000 } as const;

export const LocalFlag = {
  signals: 0o1,
  canonical: 0o2,
  echo: 0o10,
  echoErase: 0o20,
  echoKill: 0o40,
  echoNewline: 0o100,
  noFlush: 0o200,
  stopBackground: 0o400,
  echoControl: 0o1000,
  echoPrint: 0o2000,
  echoKillErase: 0o4000,
  pending: 0o40000,
  extended: 0o100000,
  external: 0o200000,
} as const;

/** Indices into c_cc. */
export const ControlCharacter = {
  interrupt: 0,
  quit: 1,
  erase: 2,
  kill: 3,
  endOfFile: 4,
  time: 5,
  minimum: 6,
  start: 8,
  stop: 9,
  suspend: 10,
  endOfLine: 11,
  reprint: 12,
  wordErase: 14,
  literalNext: 15,
  endOfLine2: 16,
  count: 19,
} as const;

/** struct termios: four words, c_line, c_cc[19]; termios2 adds two speeds; termio (old) has 16-bit flags. */
export const TermiosLayout = {
  size: 36,
  size2: 44,
  line: 16,
  characters: 17,
  inputSpeed: 36,
  outputSpeed: 40,
} as const;
export const TermioLayout = { size: 18, line: 8, characters: 9, count: 8 } as const;
/** struct winsize: rows, columns, x and y pixels. */
export const windowSizeBytes = 8;

export const TtyIoctl = {
  TCGETS: 0x5401,
  TCSETS: 0x5402,
  TCSETSW: 0x5403,
  TCSETSF: 0x5404,
  TCGETA: 0x5405,
  TCSETA: 0x5406,
  TCSETAW: 0x5407,
  TCSETAF: 0x5408,
  TCSBRK: 0x5409,
  TCXONC: 0x540a,
  TCFLSH: 0x540b,
  TIOCEXCL: 0x540c,
  TIOCNXCL: 0x540d,
  TIOCSCTTY: 0x540e,
  TIOCGPGRP: 0x540f,
  TIOCSPGRP: 0x5410,
  TIOCOUTQ: 0x5411,
  TIOCSTI: 0x5412,
  TIOCGWINSZ: 0x5413,
  TIOCSWINSZ: 0x5414,
  FIONREAD: 0x541b,
  TIOCPKT: 0x5420,
  TIOCNOTTY: 0x5422,
  TIOCSETD: 0x5423,
  TIOCGETD: 0x5424,
  TCSBRKP: 0x5425,
  TIOCGSID: 0x5429,
  TCGETS2: 0x802c_542a,
  TCSETS2: 0x402c_542b,
  TCSETSW2: 0x402c_542c,
  TCSETSF2: 0x402c_542d,
  TIOCGPTN: 0x8004_5430,
  TIOCSPTLCK: 0x4004_5431,
  TIOCGDEV: 0x8004_5432,
  TIOCSIG: 0x4004_5436,
  TIOCVHANGUP: 0x5437,
  TIOCGPKT: 0x8004_5438,
  TIOCGPTLCK: 0x8004_5439,
  TIOCGEXCL: 0x8004_5440,
  TIOCGPTPEER: 0x5441,
} as const;

/** Status bytes of packet mode (TIOCPKT). */
export const Packet = {
  data: 0,
  flushRead: 1,
  flushWrite: 2,
  stop: 4,
  start: 8,
  noStop: 16,
  doStop: 32,
  ioctl: 64,
} as const;

/** A terminal's settings. `characters` has ControlCharacter.count bytes. */
export interface Termios {
  input: number;
  output: number;
  control: number;
  local: number;
  line: number;
  characters: Uint8Array;
  inputSpeed: number;
  outputSpeed: number;
}

/** tty_std_termios: what a terminal begins with. */
export function defaultTermios(): Termios {
  const characters = new Uint8Array(ControlCharacter.count);
  characters.set([3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0]);
  return {
    input: InputFlag.returnToNewline | InputFlag.startStop,
    output: OutputFlag.process | OutputFlag.newlineToCrNl,
    control: ControlFlag.baud38400 | ControlFlag.size8 | ControlFlag.receive,
    local:
      LocalFlag.signals |
      LocalFlag.canonical |
      LocalFlag.echo |
      LocalFlag.echoErase |
      LocalFlag.echoKill |
      LocalFlag.echoControl |
      LocalFlag.echoKillErase |
      LocalFlag.extended,
    line: 0,
    characters,
    inputSpeed: 38_400,
    outputSpeed: 38_400,
  };
}

/** As struct termios2; a struct termios is its first 36 bytes. */
export function encodeTermios(termios: Termios): Uint8Array {
  const bytes = new Uint8Array(TermiosLayout.size2);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, termios.input, true);
  view.setUint32(4, termios.output, true);
  view.setUint32(8, termios.control, true);
  view.setUint32(12, termios.local, true);
  bytes[TermiosLayout.line] = termios.line;
  bytes.set(termios.characters, TermiosLayout.characters);
  view.setUint32(TermiosLayout.inputSpeed, termios.inputSpeed, true);
  view.setUint32(TermiosLayout.outputSpeed, termios.outputSpeed, true);
  return bytes;
}

/** From struct termios (36 bytes; speeds stay as in `old`) or termios2 (44 bytes). */
export function decodeTermios(bytes: Uint8Array, old: Termios): Termios {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const speeds = bytes.length >= TermiosLayout.size2;
  return {
    input: view.getUint32(0, true),
    output: view.getUint32(4, true),
    control: view.getUint32(8, true),
    local: view.getUint32(12, true),
    line: bytes[TermiosLayout.line] ?? 0,
    characters: bytes.slice(TermiosLayout.characters, TermiosLayout.characters + ControlCharacter.count),
    inputSpeed: speeds ? view.getUint32(TermiosLayout.inputSpeed, true) : old.inputSpeed,
    outputSpeed: speeds ? view.getUint32(TermiosLayout.outputSpeed, true) : old.outputSpeed,
  };
}
