// The server's own figures in the text format of Prometheus, under the names of CoreDNS's plugins (metrics, cache,
// forward), so that its dashboards and alerts work. Counting is cheap; text is made when somebody asks.

/** CoreDNS's plugin.TimeBuckets, in seconds. */
const TIME_BUCKETS = Array.from({ length: 16 }, (_, i) => 0.00025 * 2 ** i);
const SIZE_BUCKETS = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3];

/** Which part gave the answer; '' when the server itself did. */
export type AnswerSource = 'kubernetes' | 'cache' | 'forward' | '';

export type Protocol = 'udp' | 'tcp';

class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length);
  }

  observe(value: number): void {
    this.#sum += value;
    this.#count++;
    for (let i = 0; i < this.#bounds.length; i++)
      if (value <= this.#bounds[i]!) {
        this.#counts[i]! += 1;
        return;
      }
  }

  *lines(name: string, labels: Labels): Iterable<string> {
    let below = 0;
    for (let i = 0; i < this.#bounds.length; i++) {
      below += this.#counts[i]!;
      yield `${name}_bucket${text({ ...labels, le: String(this.#bounds[i]) })} ${below}`;
    }
    yield `${name}_bucket${text({ ...labels, le: '+Inf' })} ${this.#count}`;
    yield `${name}_sum${text(labels)} ${this.#sum}`;
    yield `${name}_count${text(labels)} ${this.#count}`;
  }
}

type Labels = Readonly<Record<string, string>>;

function text(labels: Labels): string {
  const escaped = (value: string): string =>
    value.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
  const written = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return written.length === 0 ? '' : `{${written.join(',')}}`;
}

/** CoreDNS counts these types by name and all others as one. */
const COUNTED_TYPES: ReadonlyMap<number, string> = new Map([
  [1, 'A'],
  [2, 'NS'],
  [5, 'CNAME'],
  [6, 'SOA'],
  [12, 'PTR'],
  [15, 'MX'],
  [16, 'TXT'],
  [28, 'AAAA'],
  [33, 'SRV'],
  [43, 'DS'],
  [46, 'RRSIG'],
  [47, 'NSEC'],
  [48, 'DNSKEY'],
  [50, 'NSEC3'],
  [65, 'HTTPS'],
  [251, 'IXFR'],
  [252, 'AXFR'],
  [255, 'ANY'],
]);

const RCODE_NAMES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

/** What was asked and answered at one address over one protocol. */
export class ListenerMetrics {
  readonly server: string;
  readonly proto: Protocol;
  readonly family: '1' | '2';
  readonly #requests = new Map<number, number>();
  readonly #responses = new Map<string, Map<number, number>>();
  readonly requestSizes = new Histogram(SIZE_BUCKETS);
  readonly responseSizes = new Histogram(SIZE_BUCKETS);
  readonly durations = new Histogram(TIME_BUCKETS);
  dnssecRequests = 0;
  /** Packets that were no query and got no answer. */
  dropped = 0;

  constructor(server: string, proto: Protocol, family: '1' | '2') {
    this.server = server;
    this.proto = proto;
    this.family = family;
  }

  request(type: number, size: number, dnssecOk: boolean): void {
    const counted = COUNTED_TYPES.has(type) ? type : 0;
    this.#requests.set(counted, (this.#requests.get(counted) ?? 0) + 1);
    this.requestSizes.observe(size);
    if (dnssecOk) this.dnssecRequests++;
  }

  response(rcode: number, source: AnswerSource, size: number, seconds: number): void {
    let counts = this.#responses.get(source);
    if (counts === undefined) {
      counts = new Map();
      this.#responses.set(source, counts);
    }
    counts.set(rcode, (counts.get(rcode) ?? 0) + 1);
    this.responseSizes.observe(size);
    this.durations.observe(seconds);
  }

  *requests(): Iterable<{ readonly type: string; readonly count: number }> {
    for (const [type, count] of this.#requests) yield { type: COUNTED_TYPES.get(type) ?? 'other', count };
  }

  *responses(): Iterable<{ readonly rcode: string; readonly source: string; readonly count: number }> {
    for (const [source, counts] of this.#responses)
      for (const [rcode, count] of counts)
        yield { rcode: RCODE_NAMES[rcode] ?? `RCODE${rcode}`, source, count };
  }
}

export class DnsMetrics {
  readonly cacheHits = { success: 0, denial: 0 };
  readonly cacheEvictions = { success: 0, denial: 0 };
  cacheRequests = 0;
  cacheMisses = 0;
  /** Queries refused because too many were under way. */
  concurrencyRejects = 0;
  /** Times that all upstreams were down and one was tried all the same. */
  healthcheckBroken = 0;
  /** Set by whoever owns the cache. */
  cacheEntries: () => { readonly success: number; readonly denial: number } = () => ({
    success: 0,
    denial: 0,
  });
  readonly #listeners: ListenerMetrics[] = [];
  readonly #upstreams = new Map<string, Map<string, Histogram>>();
  readonly #probeFailures = new Map<string, number>();

  /** `server` as CoreDNS writes it: `dns://10.0.0.1:53`. */
  listener(server: string, proto: Protocol, family: '1' | '2'): ListenerMetrics {
    const metrics = new ListenerMetrics(server, proto, family);
    this.#listeners.push(metrics);
    return metrics;
  }

  upstreamAnswered(to: string, rcode: string, seconds: number): void {
    let byCode = this.#upstreams.get(to);
    if (byCode === undefined) {
      byCode = new Map();
      this.#upstreams.set(to, byCode);
    }
    let histogram = byCode.get(rcode);
    if (histogram === undefined) {
      histogram = new Histogram(TIME_BUCKETS);
      byCode.set(rcode, histogram);
    }
    histogram.observe(seconds);
  }

  probeFailed(to: string): void {
    this.#probeFailures.set(to, (this.#probeFailures.get(to) ?? 0) + 1);
  }

  /** One page in the text format. */
  toString(): string {
    const page = new Page();
    const zone = { zone: '.', view: '' };
    const listeners = this.#listeners;
    page.family('coredns_dns_requests_total', 'counter', 'Queries by protocol, family and type.');
    for (const one of listeners)
      for (const { type, count } of one.requests())
        page.value({ server: one.server, ...zone, proto: one.proto, family: one.family, type }, count);
    page.family('coredns_dns_responses_total', 'counter', 'Answers by code and by the part that gave them.');
    for (const one of listeners)
      for (const { rcode, source, count } of one.responses())
        page.value({ server: one.server, ...zone, rcode, plugin: source }, count);
    page.family('coredns_dns_do_requests_total', 'counter', 'Queries that ask for DNSSEC records.');
    for (const one of listeners)
      page.value({ server: one.server, ...zone, proto: one.proto }, one.dnssecRequests);
    page.family('coredns_dns_request_duration_seconds', 'histogram', 'From a query to its answer.');
    for (const one of listeners)
      page.histogram({ server: one.server, ...zone, proto: one.proto }, one.durations);
    page.family('coredns_dns_request_size_bytes', 'histogram', 'Sizes of queries.');
    for (const one of listeners)
      page.histogram({ server: one.server, ...zone, proto: one.proto }, one.requestSizes);
    page.family('coredns_dns_response_size_bytes', 'histogram', 'Sizes of answers.');
    for (const one of listeners)
      page.histogram({ server: one.server, ...zone, proto: one.proto }, one.responseSizes);
    this.#cache(page);
    this.#forward(page);
    return page.text;
  }

  #cache(page: Page): void {
    const [listener] = this.#listeners;
    const server = { server: listener?.server ?? 'dns://:53', zones: '.', view: '' };
    const types = ['success', 'denial'] as const;
    const entries = this.cacheEntries();
    page.family('coredns_cache_entries', 'gauge', 'Answers of upstreams that are kept.');
    for (const type of types) page.value({ ...server, type }, entries[type]);
    page.family('coredns_cache_requests_total', 'counter', 'Questions put to the cache.');
    page.value(server, this.cacheRequests);
    page.family('coredns_cache_hits_total', 'counter', 'Questions that the cache answered.');
    for (const type of types) page.value({ ...server, type }, this.cacheHits[type]);
    page.family('coredns_cache_misses_total', 'counter', 'Questions that it could not answer.');
    page.value(server, this.cacheMisses);
    page.family('coredns_cache_evictions_total', 'counter', 'Answers that had to make room.');
    for (const type of types) page.value({ ...server, type }, this.cacheEvictions[type]);
  }

  #forward(page: Page): void {
    const proxy = { proxy_name: 'forward' };
    page.family(
      'coredns_forward_healthcheck_broken_total',
      'counter',
      'Times that all upstreams were down and one was asked all the same.',
    );
    page.value({}, this.healthcheckBroken);
    page.family(
      'coredns_forward_max_concurrent_rejects_total',
      'counter',
      'Queries refused because too many were under way.',
    );
    page.value({}, this.concurrencyRejects);
    page.family('coredns_proxy_request_duration_seconds', 'histogram', 'What upstreams take to answer.');
    for (const [to, byCode] of this.#upstreams)
      for (const [rcode, histogram] of byCode) page.histogram({ ...proxy, to, rcode }, histogram);
    page.family(
      'coredns_proxy_healthcheck_failures_total',
      'counter',
      'Probes that an upstream did not answer.',
    );
    for (const [to, count] of this.#probeFailures) page.value({ ...proxy, to }, count);
  }
}

/** Lines of the text format, family by family. */
class Page {
  readonly #lines: string[] = [];
  #name = '';

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  family(name: string, type: 'counter' | 'gauge' | 'histogram', help: string): void {
    this.#name = name;
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  }

  value(labels: Labels, value: number): void {
    this.#lines.push(`${this.#name}${text(labels)} ${value}`);
  }

  histogram(labels: Labels, histogram: Histogram): void {
    this.#lines.push(...histogram.lines(this.#name, labels));
  }
}
