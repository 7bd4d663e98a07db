// Options at the level IPPROTO_TCP (tcp(7), net/ipv4/tcp.c: do_tcp_setsockopt).

import { Errno } from '../../abi/errno.ts';
import { intValue, TcpOption as Option, readInt, TcpState } from '../../abi/socket.ts';
import type { TcpSocket } from './tcp.ts';

/** The largest segment over the loopback interface, with time stamps. */
const loopbackSegment = 65_483;
const defaultSegment = 536;

interface Rule {
  readonly initial: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly flag?: boolean;
}
const flag: Rule = { initial: 0, minimum: -0x8000_0000, maximum: 0x7fff_ffff, flag: true };
const positive: Rule = { initial: 0, minimum: 0, maximum: 0x7fff_ffff };

const rules: Readonly<Record<number, Rule>> = {
  [Option.noDelay]: flag,
  [Option.cork]: flag,
  [Option.keepIdle]: { initial: 7200, minimum: 1, maximum: 32_767 },
  [Option.keepInterval]: { initial: 75, minimum: 1, maximum: 32_767 },
  [Option.keepCount]: { initial: 9, minimum: 1, maximum: 127 },
  [Option.synCount]: { initial: 6, minimum: 1, maximum: 127 },
  [Option.linger2]: { initial: 60, minimum: -0x8000_0000, maximum: 0x7fff_ffff },
  [Option.deferAccept]: { initial: 0, minimum: -0x8000_0000, maximum: 0x7fff_ffff },
  [Option.windowClamp]: positive,
  [Option.quickAck]: { ...flag, initial: 1 },
  [Option.userTimeout]: positive,
  [Option.fastOpen]: positive,
  [Option.fastOpenConnect]: flag,
  [Option.notSentLowWater]: { initial: 0, minimum: -0x8000_0000, maximum: 0x7fff_ffff },
  [Option.saveSyn]: { initial: 0, minimum: 0, maximum: 2 },
  [Option.inQueue]: { initial: 0, minimum: 0, maximum: 1 },
};

/** Congestion control has nothing to control here; these are the names that a kernel has without modules. */
const congestionControls: ReadonlySet<string> = new Set(['cubic', 'reno']);

export class TcpOptions {
  readonly #values = new Map<number, number>();
  #congestion = 'cubic';
  #segment = 0;

  inherit(from: TcpOptions): void {
    for (const [name, value] of from.#values) this.#values.set(name, value);
    this.#congestion = from.#congestion;
    this.#segment = from.#segment;
  }

  value(name: number): number {
    return this.#values.get(name) ?? rules[name]?.initial ?? 0;
  }

  get(socket: TcpSocket, name: number, room: number): Uint8Array | number {
    switch (name) {
      case Option.maximumSegment:
        return intValue(
          this.#segment || (socket.state === TcpState.established ? loopbackSegment : defaultSegment),
        );
      case Option.congestion: {
        const text = new Uint8Array(16);
        text.set(Buffer.from(this.#congestion, 'latin1'));
        return text.subarray(0, Math.min(16, room));
      }
      case Option.info:
        return informationOf(socket, this).slice(0, Math.max(0, room));
      case Option.timestamp:
        return intValue(Math.floor(socket.kernel.clock.monotonic() / 1e6) | 0);
      case Option.upperProtocol:
        return new Uint8Array(0);
      default:
        return rules[name] ? intValue(this.value(name)) : -Errno.ENOPROTOOPT;
    }
  }

  set(socket: TcpSocket, name: number, value: Uint8Array): number {
    if (name === Option.congestion || name === Option.upperProtocol) {
      if (value.length < 1) return -Errno.EINVAL;
      const text = Buffer.from(value.subarray(0, 15)).toString('latin1').split('\0')[0] ?? '';
      if (name === Option.upperProtocol || !congestionControls.has(text)) return -Errno.ENOENT;
      this.#congestion = text;
      return 0;
    }
    if (value.length < 4) return -Errno.EINVAL;
    const int = readInt(value);
    if (name === Option.maximumSegment) {
      if (int !== 0 && (int < 88 || int > 32_767)) return -Errno.EINVAL;
      this.#segment = int;
      return 0;
    }
    const rule = rules[name];
    if (!rule) return -Errno.ENOPROTOOPT;
    if (int < rule.minimum || int > rule.maximum) return -Errno.EINVAL;
    if (name === Option.fastOpen && socket.state !== TcpState.close && socket.state !== TcpState.listen)
      return -Errno.EINVAL;
    this.#values.set(name, rule.flag ? (int === 0 ? 0 : 1) : int);
    return 0;
  }
}

const infoSize = 248;

/** struct tcp_info: the state and counts are real, round-trip times those of a loopback interface. */
function informationOf(socket: TcpSocket, options: TcpOptions): Uint8Array {
  const bytes = new Uint8Array(infoSize);
  const view = new DataView(bytes.buffer);
  const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
  bytes[0] = socket.state;
  if (socket.state === TcpState.listen) {
    u32(24, socket.backlogUsed);
    u32(28, socket.backlog);
    return bytes;
  }
  const idle = Math.floor((socket.kernel.clock.monotonic() - socket.lastActive) / 1e6);
  const segment = readInt(options.get(socket, Option.maximumSegment, 4) as Uint8Array);
  // Timestamps, selective acknowledgements, window scale of 10 in both directions.
  bytes[5] = 0x7;
  bytes[6] = 0xaa;
  u32(8, 200_000);
  u32(12, 40_000);
  u32(16, segment);
  u32(20, segment);
  u32(44, idle);
  u32(52, idle);
  u32(56, idle);
  u32(60, 65_535);
  u32(64, 65_495);
  u32(68, 20);
  u32(72, 10);
  u32(76, 0x7fff_ffff);
  u32(80, 10);
  u32(84, 65_483);
  u32(88, 3);
  u32(96, 65_483);
  view.setBigUint64(112, 0xffff_ffff_ffff_ffffn, true);
  view.setBigUint64(120, BigInt(socket.bytesSent), true);
  view.setBigUint64(128, BigInt(socket.bytesReceived), true);
  u32(136, socket.segmentsSent);
  u32(140, socket.segmentsReceived);
  u32(148, 10);
  u32(152, socket.segmentsReceived);
  u32(156, socket.segmentsSent);
  view.setBigUint64(200, BigInt(socket.bytesSent), true);
  return bytes;
}
