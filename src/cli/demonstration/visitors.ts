// Visitors of a page: a few of them fetch it one time after the other, each time on a new connection, so that every
// fetch finds its own way through the service, until they are told to stop.

import { get } from 'node:http';

export interface Visits {
  readonly requests: number;
  /** What went wrong with those that got no page, in words, and how often. */
  readonly failures: ReadonlyMap<string, number>;
  /** How often each kind of answer came. */
  readonly answers: ReadonlyMap<string, number>;
}

/** A page that has not come after this time has not come. */
const TIMEOUT_MS = 5000;

/** Resolves with the body of an answer with status 200, which comes on a connection of its own. */
export function fetchPage(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolve(Buffer.concat(chunks).toString('utf8'));
        else reject(new Error(`status ${response.statusCode}`));
      });
    });
    request.on('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    request.on('error', reject);
  });
}

export interface Visitors {
  /** Resolves when so many answers in a row have been of that kind that no other is to be expected, or none comes. */
  untilSteady(kind: string): Promise<void>;
  /** Resolves when the last fetch has ended. */
  stop(): Promise<Visits>;
}

const STEADY = 40;

/** Starts `count` visitors; `kind` names an answer for the counts. */
export function startVisitors(url: string, count: number, kind: (page: string) => string): Visitors {
  const failures = new Map<string, number>();
  const answers = new Map<string, number>();
  let requests = 0;
  let stopped = false;
  let last = { kind: '', inARow: 0 };
  let awaited: { readonly kind: string; resolve(): void } | undefined;
  const answered = (answer: string): void => {
    add(answers, answer);
    last = { kind: answer, inARow: answer === last.kind ? last.inARow + 1 : 1 };
    if (last.inARow >= STEADY && last.kind === awaited?.kind) awaited.resolve();
  };
  const add = (counts: Map<string, number>, key: string): void => {
    counts.set(key, (counts.get(key) ?? 0) + 1);
  };
  const visit = async (): Promise<void> => {
    while (!stopped) {
      requests++;
      try {
        answered(kind(await fetchPage(url)));
      } catch (error) {
        add(failures, (error as Error).message);
      }
    }
  };
  const visitors = Promise.all(Array.from({ length: count }, visit));
  return {
    async untilSteady(wanted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      awaited = { kind: wanted, resolve };
      const timer = setTimeout(resolve, TIMEOUT_MS);
      await promise;
      clearTimeout(timer);
    },
    async stop() {
      stopped = true;
      await visitors;
      return { requests, failures, answers };
    },
  };
}
