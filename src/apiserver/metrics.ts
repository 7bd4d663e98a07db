// The server's own figures in the text format of Prometheus, under upstream's names. Counting costs a map look-up;
// everything else is done when somebody asks.

/** Labels in the order in which they are printed. */
export type MetricLabels = Readonly<Record<string, string>>;

/** Upper bounds of the buckets of apiserver_request_duration_seconds. */
const DURATION_BUCKETS = [
  0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
];

interface Duration {
  readonly labels: MetricLabels;
  readonly buckets: Float64Array;
  count: number;
  sum: number;
}

interface Count {
  readonly labels: MetricLabels;
  count: number;
}

/** What one request was, as its metrics tell it. */
export interface RequestLabels {
  readonly verb: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly subresource: string;
  readonly scope: 'cluster' | 'namespace' | 'resource' | '';
  readonly dryRun: boolean;
}

/** A figure that is taken when it is asked for. */
export interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  values(): Iterable<{ readonly labels: MetricLabels; readonly value: number }>;
}

export class Metrics {
  readonly #requests = new Map<string, Count>();
  readonly #durations = new Map<string, Duration>();
  readonly #gauges: Gauge[] = [];
  /** Watches under way. */
  watches = 0;

  addGauge(gauge: Gauge): void {
    this.#gauges.push(gauge);
  }

  countRequest(request: RequestLabels, code: number, seconds: number, longRunning: boolean): void {
    const { verb, group, version, resource, subresource, scope, dryRun } = request;
    const key = `${verb} ${group}/${version}/${resource}/${subresource} ${scope} ${dryRun ? 1 : 0}`;
    const counted = `${key} ${code}`;
    let count = this.#requests.get(counted);
    if (count === undefined) {
      count = { labels: { ...labelsOf(request), code: String(code) }, count: 0 };
      this.#requests.set(counted, count);
    }
    count.count++;
    if (longRunning) return;
    let duration = this.#durations.get(key);
    if (duration === undefined) {
      duration = {
        labels: labelsOf(request),
        buckets: new Float64Array(DURATION_BUCKETS.length),
        count: 0,
        sum: 0,
      };
      this.#durations.set(key, duration);
    }
    duration.count++;
    duration.sum += seconds;
    for (let i = 0; i < DURATION_BUCKETS.length; i++) {
      if (seconds > DURATION_BUCKETS[i]!) continue;
      duration.buckets[i]! += 1;
      break;
    }
  }

  render(): string {
    const lines: string[] = [];
    heading(
      lines,
      'apiserver_request_total',
      'counter',
      'Requests by verb, dry run, group, version, resource, scope and HTTP response code.',
    );
    for (const { labels, count } of this.#requests.values())
      lines.push(sample('apiserver_request_total', labels, count));
    heading(
      lines,
      'apiserver_request_duration_seconds',
      'histogram',
      'Response latency in seconds for each verb, dry run, group, version, resource, subresource and scope.',
    );
    for (const duration of this.#durations.values()) renderDuration(lines, duration);
    heading(lines, 'apiserver_longrunning_requests', 'gauge', 'Watches under way.');
    lines.push(sample('apiserver_longrunning_requests', { verb: 'WATCH' }, this.watches));
    for (const gauge of this.#gauges) {
      heading(lines, gauge.name, gauge.type, gauge.help);
      for (const { labels, value } of gauge.values()) lines.push(sample(gauge.name, labels, value));
    }
    return `${lines.join('\n')}\n`;
  }
}

function labelsOf(request: RequestLabels): MetricLabels {
  const { verb, group, version, resource, subresource, scope, dryRun } = request;
  return {
    component: 'apiserver',
    dry_run: dryRun ? 'All' : '',
    group,
    resource,
    scope,
    subresource,
    verb,
    version,
  };
}

function renderDuration(lines: string[], { labels, buckets, count, sum }: Duration): void {
  const name = 'apiserver_request_duration_seconds';
  let below = 0;
  DURATION_BUCKETS.forEach((bound, i) => {
    below += buckets[i]!;
    lines.push(sample(`${name}_bucket`, { ...labels, le: String(bound) }, below));
  });
  lines.push(sample(`${name}_bucket`, { ...labels, le: '+Inf' }, count));
  lines.push(sample(`${name}_sum`, labels, sum), sample(`${name}_count`, labels, count));
}

function heading(lines: string[], name: string, type: string, help: string): void {
  lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
}

function sample(name: string, labels: MetricLabels, value: number): string {
  const text = Object.entries(labels)
    .map(([label, text]) => `${label}="${text.replace(/[\\"\n]/g, escapeLabel)}"`)
    .join(',');
  return text === '' ? `${name} ${value}` : `${name}{${text}} ${value}`;
}

function escapeLabel(character: string): string {
  return character === '\n' ? '\\n' : `\\${character}`;
}
