// What a client may ask of a container's log: the query of /containerLogs and of pods/log.

export interface LogOptions {
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Nanoseconds since the epoch; lines older than this are left out. */
  readonly since: bigint | undefined;
  /** Undefined: all lines. */
  readonly tailLines: number | undefined;
  /** Undefined: no limit. */
  readonly limitBytes: number | undefined;
  readonly stream: 'stdout' | 'stderr' | undefined;
}

/** Says which parameter is wrong and how; the client gets 422 for it, as from upstream. */
export class LogOptionsError extends Error {
  override readonly name = 'LogOptionsError';
}

function flag(query: URLSearchParams, name: string): boolean {
  const text = query.get(name);
  if (text === null) return false;
  if (['', '1', 't', 'T', 'true', 'True', 'TRUE'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'False', 'FALSE'].includes(text)) return false;
  throw new LogOptionsError(`${name}: Invalid value: ${JSON.stringify(text)}: must be true or false`);
}

function whole(query: URLSearchParams, name: string, least: number): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value))
    throw new LogOptionsError(`${name}: Invalid value: ${JSON.stringify(text)}: must be an integer`);
  if (value < least)
    throw new LogOptionsError(`${name}: Invalid value: ${value}: must be greater than or equal to ${least}`);
  return value;
}

/** An RFC 3339 time with up to nine digits of fraction as nanoseconds since the epoch; undefined when it is none. */
export function parseNanoTime(text: string): bigint | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (!match) return undefined;
  const seconds = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(seconds)) return undefined;
  return BigInt(seconds) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

export function parseLogOptions(query: URLSearchParams, nowMs: number): LogOptions {
  const sinceSeconds = whole(query, 'sinceSeconds', 1);
  const sinceTime = query.get('sinceTime') || undefined;
  if (sinceSeconds !== undefined && sinceTime !== undefined)
    throw new LogOptionsError(
      'sinceSeconds: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified',
    );
  let since =
    sinceSeconds === undefined ? undefined : BigInt(Math.floor(nowMs - sinceSeconds * 1000)) * 1_000_000n;
  if (sinceTime !== undefined) {
    since = parseNanoTime(sinceTime);
    if (since === undefined)
      throw new LogOptionsError(
        `sinceTime: Invalid value: ${JSON.stringify(sinceTime)}: must be an RFC 3339 time`,
      );
  }
  const stream = query.get('stream') || 'All';
  if (stream !== 'All' && stream !== 'Stdout' && stream !== 'Stderr')
    throw new LogOptionsError(
      `stream: Unsupported value: ${JSON.stringify(stream)}: supported values: "All", "Stdout", "Stderr"`,
    );
  const tailLines = whole(query, 'tailLines', 0) ?? whole(query, 'tail', 0);
  if (tailLines !== undefined && stream !== 'All')
    throw new LogOptionsError(
      'tailLines: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now',
    );
  return {
    follow: flag(query, 'follow'),
    previous: flag(query, 'previous'),
    timestamps: flag(query, 'timestamps'),
    since,
    tailLines,
    limitBytes: whole(query, 'limitBytes', 1),
    stream: stream === 'All' ? undefined : stream === 'Stdout' ? 'stdout' : 'stderr',
  };
}
