// HTTP probes and hooks. Certificates are not verified (the agent knows addresses, not names); redirects are followed
// while they stay on the host, and one that leads away counts as an answer. Bodies are read up to a limit.

import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Container, HTTPGetAction } from '../../api/types/core-v1.ts';
import type { ProbeAnswer } from '../host/host.ts';
import { dialError, hostPort, resolvePort } from './ports.ts';

const USER_AGENT = 'kube-probe/1.36';
const BODY_LIMIT = 10 * 1024;
const MAX_REDIRECTS = 10;

/** Who is asking shows in the User-Agent: probes and lifecycle hooks. */
export type HttpCaller = 'probe' | 'lifecycle';

export function httpUrl(action: HTTPGetAction, container: Container, podIP: string): URL {
  const scheme = (action.scheme ?? 'HTTP').toLowerCase();
  const host = action.host || podIP;
  const port = resolvePort(action.port, container);
  const path = action.path ?? '';
  const url = new URL(`${scheme}://${hostPort(host, port)}`);
  const question = path.indexOf('?');
  const hash = path.indexOf('#');
  const end = [question, hash]
    .filter((at) => at >= 0)
    .reduce((least, at) => Math.min(least, at), path.length);
  url.pathname = path.slice(0, end);
  if (question >= 0) url.search = path.slice(question, hash > question ? hash : undefined);
  return url;
}

function requestHeaders(action: HTTPGetAction, caller: HttpCaller): Map<string, string[]> {
  const headers = new Map<string, string[]>();
  for (const { name, value } of action.httpHeaders ?? []) {
    const key = name.toLowerCase();
    headers.set(key, [...(headers.get(key) ?? []), value]);
  }
  if (!headers.has('user-agent'))
    headers.set('user-agent', [caller === 'probe' ? USER_AGENT : 'kube-lifecycle/1.36']);
  else if (headers.get('user-agent')!.join('') === '') headers.delete('user-agent');
  if (!headers.has('accept')) headers.set('accept', ['*/*']);
  else if (headers.get('accept')!.join('') === '') headers.delete('accept');
  headers.set('connection', ['close']);
  return headers;
}

async function once(
  url: URL,
  headers: ReadonlyMap<string, string[]>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions & { rejectUnauthorized: boolean } = {
      method: 'GET',
      headers: Object.fromEntries(
        [...headers].map(([name, values]) => [name, name === 'host' ? values[0]! : values]),
      ),
      signal,
      agent: false,
      rejectUnauthorized: false,
    };
    const call = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = call(url, options, resolve);
    request.on('error', reject);
    request.end();
  });
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    const bytes = chunk as Buffer;
    chunks.push(bytes);
    size += bytes.length;
    if (size >= BODY_LIMIT) break;
  }
  response.destroy();
  return Buffer.concat(chunks).subarray(0, BODY_LIMIT).toString('utf8');
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  /** The answer was a redirect to another host, which was not followed. */
  readonly redirectedAway: boolean;
}

/** Rejects with an Error whose message says what went wrong in upstream's words. */
export async function httpGet(
  action: HTTPGetAction,
  container: Container,
  podIP: string,
  caller: HttpCaller,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const first = httpUrl(action, container, podIP);
  const headers = requestHeaders(action, caller);
  let url = first;
  try {
    for (let redirects = 0; ; redirects++) {
      const response = await once(url, headers, signal);
      const status = response.statusCode ?? 0;
      const { location } = response.headers;
      const isRedirect = location !== undefined && [301, 302, 303, 307, 308].includes(status);
      if (!isRedirect) return { status, body: await readBody(response), redirectedAway: false };
      const next = new URL(location, url);
      if (next.hostname !== first.hostname)
        return { status, body: await readBody(response), redirectedAway: true };
      response.destroy();
      if (redirects >= MAX_REDIRECTS) throw new Error(`stopped after ${MAX_REDIRECTS} redirects`);
      url = next;
    }
  } catch (error) {
    const address = hostPort(
      url.hostname.replace(/^\[|\]$/g, ''),
      Number(url.port || (url.protocol === 'https:' ? 443 : 80)),
    );
    const text = signal.aborted
      ? 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
      : dialError(error, address);
    throw new Error(`Get "${first.href}": ${text}`, { cause: error });
  }
}

export async function probeHttp(
  action: HTTPGetAction,
  container: Container,
  podIP: string,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  try {
    const { status, body, redirectedAway } = await httpGet(action, container, podIP, 'probe', signal);
    if (redirectedAway)
      return { verdict: 'success', output: `Probe terminated redirects, Response body: ${body}` };
    if (status >= 200 && status < 400) return { verdict: 'success', output: body };
    return { verdict: 'failure', output: `HTTP probe failed with statuscode: ${status}` };
  } catch (error) {
    return { verdict: 'failure', output: error instanceof Error ? error.message : String(error) };
  }
}
