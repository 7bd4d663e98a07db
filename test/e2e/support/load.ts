// Load from Debian's wrk, for as long as something lasts, and what it counted: every request that got no page.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { eventually } from './eventually.ts';

export interface LoadResult {
  readonly requests: number;
  /** Answers that are neither 2xx nor 3xx. */
  readonly refused: number;
  /** Connections that could not be made, broke, or brought nothing in time. */
  readonly broken: number;
  readonly report: string;
}

/** Longer than any test; wrk is told to stop before. */
const LONGEST = '300s';

export interface LoadOptions {
  /** Kept open at the same time, and made anew when they close. */
  readonly connections: number;
}

/** Runs wrk against the URL while `work` runs; rejects when wrk cannot do its part, or with what `work` rejects with. */
export async function underLoad(
  url: string,
  { connections }: LoadOptions,
  work: () => Promise<void>,
): Promise<LoadResult> {
  const args = ['--threads', '1', '--connections', String(connections), '--duration', LONGEST, url];
  const wrk = spawn('wrk', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let report = '';
  for (const stream of [wrk.stdout, wrk.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      report += text;
    });
  const ended = once(wrk, 'close');
  ended.catch(() => {}); // told below
  try {
    const port = Number(new URL(url).port);
    await eventually('wrk has made its connections', () => {
      assert.equal(wrk.exitCode, null, report);
      assert.ok(connectionsTo(port) >= connections / 2);
    });
    await work();
  } finally {
    // It ends with its report.
    wrk.kill('SIGINT');
    await ended;
  }
  const requests = Number(/(\d+) requests in/.exec(report)?.[1]);
  assert.ok(requests > 0, `wrk got no answer at all from ${url}:\n${report}`);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(report);
  const broken = (errors ?? []).slice(1).reduce((sum, count) => sum + Number(count), 0);
  return {
    requests,
    refused: Number(/Non-2xx or 3xx responses: (\d+)/.exec(report)?.[1] ?? 0),
    broken,
    report,
  };
}

/** How many connections this machine has open to a port; over IPv4. */
function connectionsTo(port: number): number {
  const ESTABLISHED = '01';
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , remote, state]) => remote?.endsWith(suffix) && state === ESTABLISHED).length;
}
