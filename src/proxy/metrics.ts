// The proxy's own figures under kube-proxy's names, in the text format of Prometheus.

class Histogram {
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #count = 0;
  #sum = 0;

  constructor(name: string, help: string, bounds: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.#count++;
    this.#sum += value;
    const i = this.#bounds.findIndex((bound) => value <= bound);
    if (i >= 0) this.#counts[i]!++;
  }

  *lines(): Iterable<string> {
    const name = `kubeproxy_${this.#name}`;
    yield `# HELP ${name} ${this.#help}`;
    yield `# TYPE ${name} histogram`;
    let below = 0;
    for (const [i, bound] of this.#bounds.entries()) {
      below += this.#counts[i]!;
      yield `${name}_bucket{le="${bound}"} ${below}`;
    }
    yield `${name}_bucket{le="+Inf"} ${this.#count}`;
    yield `${name}_sum ${this.#sum}`;
    yield `${name}_count ${this.#count}`;
  }
}

/** A single figure: counting costs an addition. */
class Figure {
  readonly #name: string;
  readonly #help: string;
  readonly #type: 'counter' | 'gauge';
  value = 0;

  constructor(type: 'counter' | 'gauge', name: string, help: string) {
    this.#type = type;
    this.#name = name;
    this.#help = help;
  }

  *lines(): Iterable<string> {
    const name = `kubeproxy_${this.#name}`;
    yield `# HELP ${name} ${this.#help}`;
    yield `# TYPE ${name} ${this.#type}`;
    yield `${name} ${this.value}`;
  }
}

/** A figure for each value of a label. */
class LabelledFigure {
  readonly #name: string;
  readonly #help: string;
  readonly #type: 'counter' | 'gauge';
  readonly #label: string;
  readonly #values = new Map<string, number>();

  constructor(type: 'counter' | 'gauge', name: string, help: string, label: string) {
    this.#type = type;
    this.#name = name;
    this.#help = help;
    this.#label = label;
  }

  add(by: number, label: string): void {
    this.#values.set(label, (this.#values.get(label) ?? 0) + by);
  }

  *lines(): Iterable<string> {
    const name = `kubeproxy_${this.#name}`;
    yield `# HELP ${name} ${this.#help}`;
    yield `# TYPE ${name} ${this.#type}`;
    for (const [value, count] of this.#values) yield `${name}{${this.#label}="${value}"} ${count}`;
  }
}

const range = (from: number, step: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from + i * step);
const doubling = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => from * 2 ** i);

const SYNC_BUCKETS = doubling(0.001, 15);
const PROGRAMMING_BUCKETS = [0.25, 0.5, ...range(1, 1, 59), ...range(60, 5, 12), ...range(120, 30, 7)];

export class ProxyMetrics {
  readonly sync = new Histogram(
    'sync_proxy_rules_duration_seconds',
    'Latency of one round of syncing proxy rules',
    SYNC_BUCKETS,
  );
  readonly fullSync = new Histogram(
    'sync_full_proxy_rules_duration_seconds',
    'Latency of one round of syncing all proxy rules',
    SYNC_BUCKETS,
  );
  readonly partialSync = new Histogram(
    'sync_partial_proxy_rules_duration_seconds',
    'Latency of one round of syncing the proxy rules that changed',
    SYNC_BUCKETS,
  );
  readonly programming = new Histogram(
    'network_programming_duration_seconds',
    'Time from a change of a service or pod until the rules for it were in place',
    PROGRAMMING_BUCKETS,
  );
  readonly conntrack = new Histogram(
    'conntrack_reconciler_sync_duration_seconds',
    'Latency of one reconciliation of conntrack entries',
    SYNC_BUCKETS,
  );
  readonly lastSync = new Figure(
    'gauge',
    'sync_proxy_rules_last_timestamp_seconds',
    'When rules were last synced',
  );
  readonly lastQueued = new Figure(
    'gauge',
    'sync_proxy_rules_last_queued_timestamp_seconds',
    'When a sync of rules was last asked for',
  );
  readonly endpointChanges = new Figure(
    'counter',
    'sync_proxy_rules_endpoint_changes_total',
    'Changes of endpoints that the proxy has seen',
  );
  readonly endpointChangesPending = new Figure(
    'gauge',
    'sync_proxy_rules_endpoint_changes_pending',
    'Changes of endpoints that are not in the rules yet',
  );
  readonly serviceChanges = new Figure(
    'counter',
    'sync_proxy_rules_service_changes_total',
    'Changes of services that the proxy has seen',
  );
  readonly serviceChangesPending = new Figure(
    'gauge',
    'sync_proxy_rules_service_changes_pending',
    'Changes of services that are not in the rules yet',
  );
  readonly syncFailures = new Figure(
    'counter',
    'sync_proxy_rules_nftables_sync_failures_total',
    'Transactions of nftables that failed',
  );
  readonly cleanupFailures = new Figure(
    'counter',
    'sync_proxy_rules_nftables_cleanup_failures_total',
    'Removals of stale chains and sets that failed',
  );
  readonly noLocalEndpoints = new LabelledFigure(
    'gauge',
    'sync_proxy_rules_no_local_endpoints_total',
    'Frontends of services with a Local traffic policy and no local endpoints',
    'traffic_policy',
  );
  readonly conntrackDeleted = new Figure(
    'counter',
    'conntrack_reconciler_deleted_entries_total',
    'Conntrack entries deleted because they led to endpoints that are no more',
  );
  readonly healthz = new LabelledFigure('counter', 'proxy_healthz_total', 'Answers of /healthz', 'code');
  readonly livez = new LabelledFigure('counter', 'proxy_livez_total', 'Answers of /livez', 'code');

  text(): string {
    const all: readonly (Histogram | Figure | LabelledFigure)[] = Object.values(this);
    return `${all.flatMap((figure) => [...figure.lines()]).join('\n')}\n`;
  }
}
