// One upstream resolver: a query sent to it over UDP, again over TCP when the answer was cut, and whether it is well.
//
// What keeps forged answers out (RFC 5452): each query has a socket of its own, so a source port of the kernel's
// choice, connected, so that only the upstream's address is heard; an identification from the system's randomness; and
// an answer must carry that and the very question. What does not fit is ignored, and the right one waited for.

import { randomFillSync } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIP, isIPv6 } from 'node:net';
import type { Clock, Timer } from '../../component/index.ts';
import { CLASS, FLAG, RCODE, TYPE, UDP_BYTES } from '../message/constants.ts';
import { decodeMessage } from '../message/decode.ts';
import { encodeQuery } from '../message/encode.ts';
import { FormatError, type Message } from '../message/message.ts';
import { lowerCase, ROOT, type WireName } from '../message/name.ts';

/** As CoreDNS's forward plugin: how long an upstream may take. */
const EXCHANGE_MS = 2000;
const PROBE_MS = 1000;
/** Probes of an upstream that failed begin at CoreDNS's interval and become rarer while it stays away. */
const FIRST_PROBE_MS = 500;
const LAST_PROBE_MS = 8000;
/** So many failures in a row, the first and those of the probes, and an upstream counts as down. */
const MAX_FAILURES = 2;

export interface UpstreamAddress {
  /** An IP address; of version 6 perhaps with a zone (`fe80::1%eth0`). */
  readonly address: string;
  readonly port: number;
}

/** `9.9.9.9`, `9.9.9.9:5353`, `2620:fe::fe`, `[2620:fe::fe]:5353`. Throws RangeError for anything else. */
export function parseUpstream(text: string): UpstreamAddress {
  const [, bracketed, v4, port] = /^(?:\[([^\]]+)\]|([\d.]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = bracketed ?? v4 ?? text;
  const number = port === undefined ? 53 : Number(port);
  if (isIP(address) === 0 || number < 1 || number > 65_535 || (bracketed !== undefined && !isIPv6(address)))
    throw new RangeError(
      `"${text}" is no resolver: an IP address, with a port where it is not 53, is needed`,
    );
  return { address, port: number };
}

export function formatUpstream({ address, port }: UpstreamAddress): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

export interface UpstreamQuery {
  /** In lower case. */
  readonly name: WireName;
  readonly type: number;
  readonly dnssecOk: boolean;
  readonly checkingDisabled: boolean;
}

/** The upstream gave no usable answer; `cause` says why where the system did. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
}

export interface UpstreamOptions extends UpstreamAddress {
  readonly clock: Clock;
  /** Told when it goes down or comes back, and of each probe that failed. */
  readonly changed: (up: boolean) => void;
  readonly probeFailed: () => void;
}

const PROBE: UpstreamQuery = { name: ROOT, type: TYPE.NS, dnssecOk: false, checkingDisabled: false };

export class Upstream implements Disposable {
  /** As it stands in logs and metrics. */
  readonly label: string;
  readonly #options: UpstreamOptions;
  /** Ends of the exchanges under way. */
  readonly #underWay = new Set<(error: UpstreamError) => void>();
  #disposed = false;
  #failures = 0;
  #probe: Timer | undefined;
  #probing = false;
  #wait = FIRST_PROBE_MS;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.label = formatUpstream(options);
  }

  get healthy(): boolean {
    return this.#failures < MAX_FAILURES;
  }

  /** Rejects with UpstreamError; a failure starts probes that end when the upstream answers again. */
  async exchange(query: UpstreamQuery): Promise<Message> {
    if (this.#disposed) throw this.#gone();
    try {
      const message = await this.#exchange(query, EXCHANGE_MS);
      this.#succeeded();
      return message;
    } catch (error) {
      if (!this.#disposed) this.#failed();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#probe?.cancel();
    for (const end of this.#underWay) end(this.#gone());
  }

  #gone(): UpstreamError {
    return new UpstreamError(`${this.label} is not used any more`);
  }

  #succeeded(): void {
    const was = this.healthy;
    this.#failures = 0;
    this.#wait = FIRST_PROBE_MS;
    this.#probe?.cancel();
    this.#probe = undefined;
    if (!was) this.#options.changed(true);
  }

  #failed(): void {
    const was = this.healthy;
    // What fails while it is probed anyway tells nothing new.
    if (!this.#probing && this.#probe === undefined) {
      this.#failures = Math.max(1, this.#failures);
      this.#probeLater(0);
    }
    if (was && !this.healthy) this.#options.changed(false);
  }

  #probeLater(delayMs: number): void {
    if (this.#disposed) return;
    this.#probe = this.#options.clock.setTimer(
      delayMs,
      () => {
        this.#probe = undefined;
        void this.#probeOnce();
      },
      { unref: true },
    );
  }

  async #probeOnce(): Promise<void> {
    this.#probing = true;
    try {
      // Any answer, a refusal too, shows that it lives.
      await this.#exchange(PROBE, PROBE_MS);
      this.#succeeded();
    } catch {
      if (this.#disposed) return;
      this.#options.probeFailed();
      const was = this.healthy;
      this.#failures++;
      if (was && !this.healthy) this.#options.changed(false);
      if (this.#probe === undefined) this.#probeLater(this.#wait);
      this.#wait = Math.min(LAST_PROBE_MS, this.#wait * 2);
    } finally {
      this.#probing = false;
    }
  }

  async #exchange(query: UpstreamQuery, timeoutMs: number): Promise<Message> {
    let message = await this.#ask(query, true, timeoutMs);
    // Servers from before EDNS refuse what they do not know (RFC 6891 §7).
    const refused =
      message.rcode === RCODE.FORMERR || message.rcode === RCODE.NOTIMP || message.rcode === RCODE.BADVERS;
    if (refused && !query.dnssecOk && query !== PROBE) message = await this.#ask(query, false, timeoutMs);
    return message;
  }

  async #ask(query: UpstreamQuery, edns: boolean, timeoutMs: number): Promise<Message> {
    const id = identification();
    const bytes = encodeQuery(id, query.name, query.type, {
      checkingDisabled: query.checkingDisabled,
      ...(edns && { edns: { udpBytes: UDP_BYTES, dnssecOk: query.dnssecOk } }),
    });
    const message = await this.#udp(id, query, bytes, timeoutMs);
    return (message.flags & FLAG.TC) === 0 ? message : this.#tcp(id, query, bytes, timeoutMs);
  }

  #udp(id: number, query: UpstreamQuery, bytes: Buffer, timeoutMs: number): Promise<Message> {
    const { address, port, clock } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const socket = createSocket({
      type: isIPv6(address) ? 'udp6' : 'udp4',
      // Addresses are what we have; there is nothing to look up.
      lookup: (host, _options, callback) => callback(null, host, isIP(host)),
    });
    const fail = (why: string, cause?: unknown): void =>
      reject(new UpstreamError(`${this.label} ${why}`, cause === undefined ? {} : { cause }));
    const timer = clock.setTimer(timeoutMs, () => fail(`did not answer within ${timeoutMs} ms`), {
      unref: true,
    });
    this.#underWay.add(reject);
    socket.on('error', (error) => fail('cannot be reached over UDP', error));
    socket.on('message', (packet) => {
      if (packet.length < 12 || packet.readUInt16BE(0) !== id || (packet[2]! & 0x80) === 0) return;
      try {
        const message = decodeMessage(packet);
        if (answers(message, query)) resolve(message);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        // Some servers cut their answers anywhere: with TC they are asked over TCP like any other.
        if ((packet[2]! & 0x02) !== 0) resolve(cutShort(id, query));
        else fail('sent no DNS message', error);
      }
    });
    socket.on('connect', () => {
      socket.send(bytes, (error) => {
        if (error) fail('cannot be reached over UDP', error);
      });
    });
    socket.connect(port, address);
    return promise.finally(() => {
      timer.cancel();
      this.#underWay.delete(reject);
      socket.removeAllListeners('message');
      closeQuietly(socket);
    });
  }

  #tcp(id: number, query: UpstreamQuery, bytes: Buffer, timeoutMs: number): Promise<Message> {
    const { address, port, clock } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const socket = connect({ host: address, port, noDelay: true });
    const fail = (why: string, cause?: unknown): void =>
      reject(new UpstreamError(`${this.label} ${why}`, cause === undefined ? {} : { cause }));
    const timer = clock.setTimer(timeoutMs, () => fail(`did not answer over TCP within ${timeoutMs} ms`), {
      unref: true,
    });
    this.#underWay.add(reject);
    const chunks: Buffer[] = [];
    let received = 0;
    let size: number | undefined;
    socket.on('error', (error) => fail('cannot be reached over TCP', error));
    socket.on('close', () => fail('closed the connection before its answer was whole'));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      received += chunk.length;
      if (size === undefined && received >= 2) {
        const start = Buffer.concat(chunks);
        chunks.splice(0, chunks.length, start);
        size = start.readUInt16BE(0);
      }
      if (size === undefined || received < 2 + size) return;
      const all = Buffer.concat(chunks);
      try {
        const message = decodeMessage(all.subarray(2, 2 + size));
        if (message.id === id && answers(message, query)) resolve(message);
        else fail('answered something else over TCP');
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        fail('sent no DNS message over TCP', error);
      }
    });
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16BE(bytes.length);
    socket.write(Buffer.concat([length, bytes]));
    return promise.finally(() => {
      timer.cancel();
      this.#underWay.delete(reject);
      socket.removeAllListeners('data');
      socket.destroy();
    });
  }
}

function closeQuietly(socket: { close(): void }): void {
  try {
    socket.close();
  } catch {
    // It was never bound, or the system closed it: there is nothing left to close.
  }
}

/** Whether the message answers this very question. Some servers leave the question out of a refusal. */
function answers(message: Message, query: UpstreamQuery): boolean {
  if ((message.flags & FLAG.QR) === 0 || message.opcode !== 0) return false;
  const [question] = message.questions;
  if (question === undefined)
    return (
      message.answers.length === 0 && message.rcode !== RCODE.NOERROR && message.rcode !== RCODE.NXDOMAIN
    );
  return (
    message.questions.length === 1 &&
    question.type === query.type &&
    question.class === CLASS.IN &&
    lowerCase(question.name) === query.name
  );
}

function cutShort(id: number, { name, type }: UpstreamQuery): Message {
  return {
    id,
    flags: FLAG.QR | FLAG.TC,
    opcode: 0,
    rcode: RCODE.NOERROR,
    questions: [{ name, type, class: CLASS.IN }],
    answers: [],
    authority: [],
    additional: [],
  };
}

function identification(): number {
  const bytes = new Uint16Array(1);
  randomFillSync(bytes);
  return bytes[0]!;
}
