// One packet in, at most one out: reads the query, finds who answers it (kept answers, the cluster's zone, the cache,
// upstreams) and counts it. Nothing that a packet holds makes it throw, and answers are never answered, so that no
// two servers talk to one another for ever.

import type { Clock, Logger } from '../../component/index.ts';
import {
  type AnswerContent,
  decodeAnswer,
  type EncodedAnswer,
  encodeAnswer,
  writeError,
  writeHeaderError,
  writeReply,
} from '../answer.ts';
import type { Forwarder, ForwardResult } from '../forward/forwarder.ts';
import type { LoopGuard } from '../forward/loop-guard.ts';
import type { UpstreamQuery } from '../forward/upstream.ts';
import { CLASS, FLAG, RCODE, TYPE } from '../message/constants.ts';
import { decodeQuery, type Query } from '../message/decode.ts';
import type { WireName } from '../message/name.ts';
import { hinfoRecord, type ResourceRecord } from '../message/record.ts';
import type { AnswerSource, ListenerMetrics } from '../metrics.ts';
import type { ClusterZone } from '../zone/cluster-zone.ts';

/** RFC 8482 §4.2 suggests that such an answer is kept long. */
const ANY_TTL = 8482;

export interface ResponderOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly zone: ClusterZone;
  readonly forwarder: Forwarder;
  readonly loops: LoopGuard;
}

/** What listeners hand packets to; see {@link Responder.receive}. */
export type PacketReceiver = Pick<Responder, 'receive'>;

/** A query, when it came, and the way its answer goes. */
interface Exchange {
  readonly query: Query;
  readonly udp: boolean;
  readonly metrics: ListenerMetrics;
  readonly started: number;
  readonly reply: (bytes: Buffer) => void;
}

export class Responder {
  readonly #options: ResponderOptions;

  constructor(options: ResponderOptions) {
    this.#options = options;
  }

  /**
   * `reply` is called once with bytes of its own, now or later, or never for what deserves no answer; what it was
   * given is a whole message without TCP's length. Answers whether it was or will be called. `packet` must not change.
   */
  receive(packet: Buffer, udp: boolean, metrics: ListenerMetrics, reply: (bytes: Buffer) => void): boolean {
    const started = this.#options.clock.monotonic();
    const query = decodeQuery(packet);
    if (typeof query === 'string') {
      if (query === 'silence') {
        metrics.dropped++;
        return false;
      }
      const rcode = query === 'format' ? RCODE.FORMERR : RCODE.NOTIMP;
      metrics.request(0, packet.length, false);
      metrics.response(rcode, '', 12, 0);
      reply(writeHeaderError(packet, rcode));
      return true;
    }
    metrics.request(query.type, packet.length, query.dnssecOk);
    const exchange: Exchange = { query, udp, metrics, started, reply };
    try {
      this.#answer(exchange);
    } catch (error) {
      this.#broken(exchange, error);
    }
    return true;
  }

  #answer(exchange: Exchange): void {
    const { query } = exchange;
    const { zone } = this.#options;
    const kept = query.version === 0 ? zone.kept(query.key) : undefined;
    if (kept !== undefined) {
      this.#send(exchange, kept, 'kubernetes', 0);
      return;
    }
    const refusal = refusalOf(query);
    if (refusal !== undefined) {
      this.#error(exchange, refusal);
      return;
    }
    const name = query.key.slice(0, -4) as WireName;
    const found = zone.reply(query.key, name, query.type);
    switch (found.kind) {
      case 'answer':
        this.#send(exchange, found.answer, 'kubernetes', 0);
        break;
      case 'unsynced':
        this.#error(exchange, RCODE.SERVFAIL);
        break;
      case 'alias':
        this.#forward(exchange, upstreamQuery(query, found.target), (result, source) =>
          this.#complete(exchange, found, result, source),
        );
        break;
      case 'foreign':
        this.#foreign(exchange, name);
        break;
    }
  }

  #foreign(exchange: Exchange, name: WireName): void {
    const { query } = exchange;
    const { loops, forwarder } = this.#options;
    if (query.type === TYPE.ANY) {
      // RFC 8482 §4.2; such queries are asked by those who want large answers for small questions.
      const answers = [hinfoRecord(name, ANY_TTL, 'RFC8482', '')];
      const content = { rcode: RCODE.NOERROR, flags: FLAG.RA, answers, authority: [], additional: [] };
      this.#send(exchange, encodeAnswer(query.key, content), '', 0);
    } else if (loops.caught(name)) this.#error(exchange, RCODE.SERVFAIL);
    else
      this.#forward(exchange, upstreamQuery(query, name), (result, source) =>
        this.#send(exchange, result.answer, source, forwarder.age(result)),
      );
  }

  #forward(
    exchange: Exchange,
    asked: UpstreamQuery,
    use: (result: ForwardResult, source: AnswerSource) => void,
  ): void {
    const { forwarder } = this.#options;
    const cached = forwarder.cached(asked);
    if (cached !== undefined) {
      use(cached, 'cache');
      return;
    }
    forwarder
      .resolve(asked)
      .then((result) => use(result, 'forward'))
      .catch((error: unknown) => this.#broken(exchange, error));
  }

  /** An alias of ours with what an upstream knows of its target. */
  #complete(
    exchange: Exchange,
    alias: { readonly content: AnswerContent; readonly target: WireName },
    result: ForwardResult,
    source: AnswerSource,
  ): void {
    const { query } = exchange;
    const { answers, flags } = alias.content;
    const message = decodeAnswer(alias.target + query.key.slice(-4), result.answer);
    if (message.rcode !== RCODE.NOERROR && message.rcode !== RCODE.NXDOMAIN) {
      this.#error(exchange, message.rcode);
      return;
    }
    const age = this.#options.forwarder.age(result);
    const aged = (records: readonly ResourceRecord[]): ResourceRecord[] =>
      records.map((record) => ({ ...record, ttl: Math.max(0, record.ttl - age) }));
    const content = {
      rcode: message.rcode,
      flags,
      answers: [...answers, ...aged(message.answers)],
      authority: aged(message.authority),
      additional: [],
    };
    this.#send(exchange, encodeAnswer(query.key, content), source, 0);
  }

  #send(exchange: Exchange, answer: EncodedAnswer, source: AnswerSource, age: number): void {
    const { query, udp } = exchange;
    const bytes = writeReply(query, answer, { udp, age, serial: this.#options.zone.serial });
    this.#finish(exchange, bytes, answer.rcode, source);
  }

  #error(exchange: Exchange, rcode: number): void {
    this.#finish(exchange, writeError(exchange.query, rcode, FLAG.RA), rcode, '');
  }

  #finish(exchange: Exchange, bytes: Buffer, rcode: number, source: AnswerSource): void {
    const seconds = (this.#options.clock.monotonic() - exchange.started) / 1000;
    exchange.metrics.response(rcode, source, bytes.length, seconds);
    exchange.reply(bytes);
  }

  #broken(exchange: Exchange, error: unknown): void {
    this.#options.logger.error(
      { err: error, query: exchange.query.packet.toString('hex', 0, 300) },
      'a query could not be answered because of a fault in the server; it gets SERVFAIL',
    );
    this.#error(exchange, RCODE.SERVFAIL);
  }
}

function upstreamQuery(query: Query, name: WireName): UpstreamQuery {
  return {
    name,
    type: query.type,
    dnssecOk: query.dnssecOk,
    checkingDisabled: (query.flags & FLAG.CD) !== 0,
  };
}

/** What is not done, whatever the name: transfers, other classes, types that are no types of data (RFC 6895 §3.1). */
function refusalOf({ type, class: kind, version }: Query): number | undefined {
  if (version > 0) return RCODE.BADVERS;
  if (kind !== CLASS.IN) return RCODE.REFUSED;
  if (type === TYPE.ANY) return undefined;
  if (type === TYPE.MAILA || type === TYPE.MAILB) return RCODE.NOTIMP;
  return type === 0 || type === TYPE.OPT || (type >= 128 && type <= 254) ? RCODE.REFUSED : undefined;
}
