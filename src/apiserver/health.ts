// /healthz, /livez and /readyz: named checks, each also under its own path, with ?verbose and ?exclude, in the text
// that k8s.io/apiserver's healthz package gives.

export interface HealthCheck {
  readonly name: string;
  /** Which of the three endpoints ask it; healthz asks all that livez asks. */
  readonly ready: boolean;
  readonly live: boolean;
  /** Rejects, or throws, when all is not well; the reason is for the log. */
  check(): Promise<void> | void;
}

export type HealthEndpoint = 'healthz' | 'livez' | 'readyz';

export interface HealthAnswer {
  readonly status: 200 | 404 | 500;
  readonly body: string;
  /** The names of checks that failed and why. */
  readonly failures: readonly { readonly name: string; readonly error: unknown }[];
}

const HEALTH_PATH = /^\/(healthz|livez|readyz)(?:\/(.*))?$/;

/** Which endpoint, and which of its checks, a path names; undefined: none. */
export function healthPath(path: string): { endpoint: HealthEndpoint; check: string } | undefined {
  const match = HEALTH_PATH.exec(path);
  return match === null ? undefined : { endpoint: match[1] as HealthEndpoint, check: match[2] ?? '' };
}

export async function answerHealth(
  checks: readonly HealthCheck[],
  endpoint: HealthEndpoint,
  name: string,
  query: URLSearchParams,
): Promise<HealthAnswer> {
  const asked = checks.filter((check) => (endpoint === 'readyz' ? check.ready : check.live));
  if (name !== '') {
    const one = asked.find((check) => check.name === name);
    if (one === undefined) return { status: 404, body: '404 page not found\n', failures: [] };
    const error = await failureOf(one);
    return error === undefined
      ? { status: 200, body: 'ok', failures: [] }
      : {
          status: 500,
          body: `internal server error: ${error instanceof Error ? error.message : String(error)}\n`,
          failures: [{ name, error }],
        };
  }
  const excluded = new Set(query.getAll('exclude').flatMap((one) => one.split(',')));
  let text = '';
  const failures: { name: string; error: unknown }[] = [];
  for (const check of asked) {
    if (excluded.delete(check.name)) {
      text += `[+]${check.name} excluded: ok\n`;
      continue;
    }
    const error = await failureOf(check);
    if (error === undefined) text += `[+]${check.name} ok\n`;
    else {
      // The reason may name what a client has no business to know.
      text += `[-]${check.name} failed: reason withheld\n`;
      failures.push({ name: check.name, error });
    }
  }
  excluded.delete('');
  if (excluded.size > 0) {
    const names = [...excluded].map((one) => JSON.stringify(one)).join(',');
    text += `warn: some health checks cannot be excluded: no matches for ${names}\n`;
  }
  if (failures.length > 0) return { status: 500, body: `${text}${endpoint} check failed\n`, failures };
  if (!query.has('verbose')) return { status: 200, body: 'ok', failures };
  return { status: 200, body: `${text}${endpoint} check passed\n`, failures };
}

async function failureOf(check: HealthCheck): Promise<unknown> {
  try {
    await check.check();
    return undefined;
  } catch (error) {
    return error ?? new Error('failed without a reason');
  }
}
