// Who has which port, for one protocol of a namespace: the rules of SO_REUSEADDR and SO_REUSEPORT, ephemeral ports, and
// connections that have ended and still hold theirs (TIME_WAIT). Follows net/ipv4/inet_connection_sock.c and udp.c.

import { Errno } from '../../abi/errno.ts';
import { anyInet6, type Endpoint, isAny, isInet } from './addresses.ts';

/** What the table knows of a socket. */
export interface PortHolder {
  readonly local: Endpoint;
  /** IPV6_V6ONLY, or an IPv4 socket's opposite: what its wildcard address stands for. */
  readonly onlyInet6: boolean;
  readonly listening: boolean;
  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  /** The user whose sockets may share the port (SO_REUSEPORT). */
  readonly uid: number;
  readonly boundDevice: number;
}

interface Ended {
  readonly ip: string;
  readonly reuse: boolean;
  readonly until: number;
}

/** net.ipv4.ip_local_port_range. */
export const firstEphemeral = 32_768;
export const lastEphemeral = 60_999;
/** TCP_TIMEWAIT_LEN, in nanoseconds. */
const timeWait = 60_000_000_000;

const none: ReadonlySet<PortHolder> = new Set();

/** Whether a packet to one address could be for both. */
function overlap(one: string, oneOnly6: boolean, other: string, otherOnly6: boolean): boolean {
  if (one === other) return true;
  const covers = (any: string, only6: boolean, ip: string): boolean => {
    if (!isAny(any)) return false;
    if (any === anyInet6) return !only6 || !isInet(ip);
    return isInet(ip);
  };
  if (isAny(one) && isAny(other)) return !(oneOnly6 || otherOnly6);
  return covers(one, oneOnly6, other) || covers(other, otherOnly6, one);
}

export class PortTable<T extends PortHolder> {
  readonly #holders = new Map<number, Set<T>>();
  readonly #ended = new Map<number, Ended[]>();
  readonly #now: () => number;
  readonly #random: (below: number) => number;
  /** TCP: reuse of an address is possible only while nobody listens on it. */
  readonly #stream: boolean;

  constructor(stream: boolean, now: () => number, random: (below: number) => number) {
    this.#stream = stream;
    this.#now = now;
    this.#random = random;
  }

  at(port: number): ReadonlySet<T> {
    return (this.#holders.get(port) as ReadonlySet<T> | undefined) ?? (none as ReadonlySet<T>);
  }

  *all(): Iterable<T> {
    for (const holders of this.#holders.values()) yield* holders;
  }

  #conflicts(socket: PortHolder, ip: string, port: number): boolean {
    for (const other of this.at(port)) {
      if (other === socket) continue;
      if (socket.boundDevice !== 0 && other.boundDevice !== 0 && socket.boundDevice !== other.boundDevice)
        continue;
      if (!overlap(ip, socket.onlyInet6, other.local.ip, other.onlyInet6)) continue;
      if (socket.reuseAddress && other.reuseAddress && !(this.#stream && other.listening)) continue;
      if (socket.reusePort && other.reusePort && socket.uid === other.uid) continue;
      return true;
    }
    const now = this.#now();
    return (this.#ended.get(port) ?? []).some(
      (ended) =>
        ended.until > now &&
        !(ended.reuse && socket.reuseAddress) &&
        overlap(ip, socket.onlyInet6, ended.ip, false),
    );
  }

  /** Whether it may have this port (again: listen(2) asks for what bind(2) gave). */
  mayHave(socket: PortHolder, ip: string, port: number): boolean {
    return !this.#conflicts(socket, ip, port);
  }

  /** A port for bind(2) with port 0; -EADDRINUSE if there is none. */
  choose(socket: PortHolder, ip: string): number {
    return this.#search(
      (port) => !this.#holders.has(port) && !this.#conflicts(socket, ip, port),
      1,
      -Errno.EADDRINUSE,
    );
  }

  /** A port for a connection: one that nobody has, else one with which `isFree`. -EADDRNOTAVAIL. */
  chooseForConnection(isFree: (port: number) => boolean): number {
    const unused = this.#search((port) => !this.#holders.has(port), 0, -Errno.EADDRNOTAVAIL);
    return unused > 0 ? unused : this.#search(isFree, 0, -Errno.EADDRNOTAVAIL);
  }

  /** As Linux does, explicit binds take odd ports first and connections even ones. */
  #search(fits: (port: number) => boolean, parity: 0 | 1, otherwise: number): number {
    const half = (lastEphemeral - firstEphemeral + 1) / 2;
    for (const odd of [parity, 1 - parity]) {
      const start = this.#random(half);
      for (let i = 0; i < half; i++) {
        const port = firstEphemeral + 2 * ((start + i) % half) + odd;
        if (fits(port)) return port;
      }
    }
    return otherwise;
  }

  add(socket: T, port: number): void {
    const holders = this.#holders.get(port);
    if (holders) holders.add(socket);
    else this.#holders.set(port, new Set([socket]));
  }

  remove(socket: T, port: number): void {
    const holders = this.#holders.get(port);
    if (!holders?.delete(socket)) return;
    if (holders.size === 0) this.#holders.delete(port);
  }

  /** The side that ended a connection first keeps its port for a while. */
  ended(socket: PortHolder): void {
    const now = this.#now();
    const { ip, port } = socket.local;
    const known = (this.#ended.get(port) ?? []).filter((ended) => ended.until > now && ended.ip !== ip);
    known.push({ ip, reuse: socket.reuseAddress, until: now + timeWait });
    this.#ended.set(port, known);
    if (this.#ended.size > 16_384)
      for (const [at, list] of this.#ended)
        if (list.every(({ until }) => until <= now)) this.#ended.delete(at);
  }
}
