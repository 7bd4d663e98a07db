// Names that are not the cluster's: asked of upstream resolvers, once for all who ask the same at the same time, and
// kept for a while (RFC 2308 for denials). Which upstream is asked first is chance or order, as in CoreDNS's forward
// plugin; one that fails is passed over until a probe reaches it; when all are down one is tried all the same.

import type { Clock, Logger } from '../../component/index.ts';
import { type AnswerContent, type EncodedAnswer, encodeAnswer, isDenial, questionKey } from '../answer.ts';
import { BoundedCache } from '../bounded-cache.ts';
import { FLAG, RCODE, rcodeName, TYPE, typeName } from '../message/constants.ts';
import type { Message } from '../message/message.ts';
import { formatName, type WireName } from '../message/name.ts';
import { type ResourceRecord, soaMinimum } from '../message/record.ts';
import type { DnsMetrics } from '../metrics.ts';
import { UpstreamError, type UpstreamQuery } from './upstream.ts';
import type { UpstreamSet } from './upstream-set.ts';

/** kubeadm's `cache 30`: nothing is kept longer, whatever its TTL. */
const MAX_TTL = 30;
/** RFC 9520 §3.2: failures are kept too, for a second at least, so that those who retry do no harm. */
const FAILURE_MS = 1000;
/** All attempts for one question, after which whoever waits gets SERVFAIL: CoreDNS's deadline. */
const DEADLINE_MS = 5000;
/** Each upstream is asked this often, for datagrams are lost. */
const ROUNDS = 2;
/** kubeadm's `max_concurrent`; beyond it queries are refused. */
const MAX_CONCURRENT = 1000;
const MAX_WAITING = 10_000;
const MAX_ENTRIES = 9984;
const MAX_BYTES = 16 * 1024 * 1024;
const ENTRY_BYTES = 300;
/** Failures are logged so often at most; what was not logged is counted in the next line. */
const LOG_EVERY_MS = 5000;

export interface ForwardResult {
  readonly answer: EncodedAnswer;
  /** On the monotonic clock. */
  readonly since: number;
  readonly until: number;
}

export interface ForwarderOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: DnsMetrics;
  /** The upstreams for a name; undefined when there are none at all. */
  readonly upstreamsFor: (name: WireName) => UpstreamSet | undefined;
}

export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #success: BoundedCache<ForwardResult>;
  readonly #denial: BoundedCache<ForwardResult>;
  readonly #pending = new Map<string, Promise<ForwardResult>>();
  /** Grows when all answers are forgotten, so that those on their way are not kept either. */
  #generation = 0;
  #concurrent = 0;
  #waiting = 0;
  #lastLog = Number.NEGATIVE_INFINITY;
  #unlogged = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    const cache = (type: 'success' | 'denial'): BoundedCache<ForwardResult> =>
      new BoundedCache({
        maxEntries: MAX_ENTRIES,
        maxBytes: MAX_BYTES,
        evicting: () => {
          options.metrics.cacheEvictions[type]++;
        },
      });
    this.#success = cache('success');
    this.#denial = cache('denial');
  }

  get entries(): { readonly success: number; readonly denial: number } {
    return { success: this.#success.size, denial: this.#denial.size };
  }

  /** Seconds for which the result was kept already. */
  age(result: ForwardResult): number {
    return Math.floor((this.#options.clock.monotonic() - result.since) / 1000);
  }

  /** What is known without asking. Counts as a request to the cache. */
  cached(query: UpstreamQuery): ForwardResult | undefined {
    const { metrics, clock } = this.#options;
    metrics.cacheRequests++;
    const key = cacheKey(query);
    const result = this.#success.get(key) ?? this.#denial.get(key);
    if (result !== undefined && clock.monotonic() < result.until) {
      metrics.cacheHits[isDenial(result.answer) ? 'denial' : 'success']++;
      return result;
    }
    if (result !== undefined && !this.#success.delete(key)) this.#denial.delete(key);
    metrics.cacheMisses++;
    return undefined;
  }

  /** Never rejects: what cannot be had is an answer too (SERVFAIL, or REFUSED under too much load). */
  async resolve(query: UpstreamQuery): Promise<ForwardResult> {
    const key = cacheKey(query);
    const pending = this.#pending.get(key);
    if (this.#waiting >= MAX_WAITING || (pending === undefined && this.#concurrent >= MAX_CONCURRENT)) {
      this.#options.metrics.concurrencyRejects++;
      return this.#failure(query, RCODE.REFUSED);
    }
    this.#waiting++;
    try {
      return await (pending ?? this.#begin(key, query));
    } finally {
      this.#waiting--;
    }
  }

  /** Forgets all answers, because other upstreams may see other names. */
  clear(): void {
    this.#generation++;
    this.#success.clear();
    this.#denial.clear();
    // Whoever asks from now on asks the new upstreams; those who wait have the answer of the old ones.
    this.#pending.clear();
  }

  #begin(key: string, query: UpstreamQuery): Promise<ForwardResult> {
    this.#concurrent++;
    const generation = this.#generation;
    const asking: Promise<ForwardResult> = this.#ask(query)
      .then((result) => {
        if (generation !== this.#generation) return result;
        const cache = isDenial(result.answer) ? this.#denial : this.#success;
        if (result.until > result.since) cache.set(key, result, result.answer.body.length + ENTRY_BYTES);
        return result;
      })
      .finally(() => {
        this.#concurrent--;
        if (this.#pending.get(key) === asking) this.#pending.delete(key);
      });
    this.#pending.set(key, asking);
    return asking;
  }

  async #ask(query: UpstreamQuery): Promise<ForwardResult> {
    const { clock, metrics, upstreamsFor } = this.#options;
    const set = upstreamsFor(query.name);
    if (set === undefined || set.size === 0) {
      this.#log(query, 'there is no upstream resolver to ask');
      return this.#failure(query, RCODE.SERVFAIL);
    }
    const deadline = clock.monotonic() + DEADLINE_MS;
    let last: Message | undefined;
    let error: unknown;
    for (let round = 0; round < ROUNDS; round++) {
      for (const upstream of set.order()) {
        const started = clock.monotonic();
        if (started >= deadline) break;
        try {
          const message = await upstream.exchange(query);
          const seconds = (clock.monotonic() - started) / 1000;
          metrics.upstreamAnswered(upstream.label, rcodeName(message.rcode), seconds);
          // Another upstream may know better than one that is in trouble or does not want to.
          if (message.rcode === RCODE.SERVFAIL || message.rcode === RCODE.REFUSED) last = message;
          else return this.#result(query, message);
        } catch (caught) {
          if (!(caught instanceof UpstreamError)) throw caught;
          error = caught;
        }
      }
      if (last !== undefined) return this.#result(query, last);
    }
    this.#log(query, 'no upstream resolver answered', error);
    return this.#failure(query, RCODE.SERVFAIL);
  }

  #result(query: UpstreamQuery, message: Message): ForwardResult {
    const lifetime = lifetimeOf(message, query);
    const capped = (records: readonly ResourceRecord[]): ResourceRecord[] =>
      records.map((record) => ({ ...record, ttl: Math.min(record.ttl, MAX_TTL) }));
    return this.#keep(
      query,
      {
        // Extended codes speak of the exchange with the upstream, not of the name.
        rcode: message.rcode < 16 ? message.rcode : RCODE.SERVFAIL,
        flags: FLAG.RA | (message.flags & FLAG.AD),
        answers: capped(message.answers),
        authority: capped(message.authority),
        additional: capped(message.additional.filter(({ type }) => type !== TYPE.TSIG && type !== TYPE.SIG)),
      },
      message.rcode === RCODE.NOERROR || message.rcode === RCODE.NXDOMAIN ? 1000 * lifetime : FAILURE_MS,
    );
  }

  #failure(query: UpstreamQuery, rcode: number): ForwardResult {
    const content = { rcode, flags: FLAG.RA, answers: [], authority: [], additional: [] };
    return this.#keep(query, content, rcode === RCODE.SERVFAIL ? FAILURE_MS : 0);
  }

  #keep(query: UpstreamQuery, content: AnswerContent, forMs: number): ForwardResult {
    const since = this.#options.clock.monotonic();
    return {
      answer: encodeAnswer(questionKey(query.name, query.type), content),
      since,
      until: since + forMs,
    };
  }

  #log(query: UpstreamQuery, what: string, error?: unknown): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#lastLog < LOG_EVERY_MS) {
      this.#unlogged++;
      return;
    }
    this.#options.logger.error(
      {
        name: formatName(query.name),
        type: typeName(query.type),
        ...(error !== undefined && { err: error }),
        ...(this.#unlogged > 0 && { furtherFailures: this.#unlogged }),
      },
      `${what}; the query is answered with SERVFAIL`,
    );
    this.#lastLog = now;
    this.#unlogged = 0;
  }
}

function cacheKey({ name, type, dnssecOk, checkingDisabled }: UpstreamQuery): string {
  return questionKey(name, type, (dnssecOk ? 1 : 0) | (checkingDisabled ? 2 : 0));
}

/** Seconds for which the message may be kept: the least TTL of its answers, or what its SOA says of denials. */
function lifetimeOf(message: Message, query: UpstreamQuery): number {
  const { answers, authority } = message;
  const least = (records: readonly ResourceRecord[]): number =>
    records.reduce((ttl, record) => Math.min(ttl, record.ttl), MAX_TTL);
  // An alias alone denies its target: the SOA decides, beside the alias's own TTL (RFC 2308 §2.2).
  const denied =
    message.rcode === RCODE.NXDOMAIN ||
    !answers.some(
      ({ type, name }) => type === query.type || (query.type === TYPE.ANY && name === query.name),
    );
  if (!denied) return least(answers);
  const soa = authority.find(({ type }) => type === TYPE.SOA);
  const minimum = soa && soaMinimum(soa);
  // Without SOA a denial must not be kept (RFC 2308 §5).
  return soa === undefined || minimum === undefined ? 0 : Math.min(least(answers), soa.ttl, minimum, MAX_TTL);
}
