// A bare HTTP client for tests, over HTTP/1.1 or HTTP/2: what a test sends is what goes over the wire.

import { type ClientHttp2Session, connect } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import type { TestKeyPair } from './certificates.ts';

/** What a client must know of a server; a TestServer has it. */
export interface HttpTarget {
  readonly server: { readonly url: string };
  /** Whoever signed the server's certificate. */
  readonly authority: { readonly certificate: string };
  readonly adminPair: TestKeyPair;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  json<T = Record<string, unknown>>(): T;
}

export interface HttpCall {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | object;
}

export interface HttpStream extends AsyncIterable<Buffer> {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  close(): void;
}

export interface HttpClient extends AsyncDisposable {
  readonly protocol: 'HTTP/1.1' | 'HTTP/2';
  call(call: HttpCall): Promise<HttpAnswer>;
  /** Resolves with the answer's head. */
  open(call: HttpCall): Promise<HttpStream>;
}

export interface HttpClientOptions {
  readonly protocol: 'HTTP/1.1' | 'HTTP/2';
  /** A bearer token; absent: the admin's certificate. `false`: neither. */
  readonly token?: string | false;
}

function bytesOf(body: HttpCall['body']): Buffer | undefined {
  if (body === undefined) return undefined;
  if (typeof body === 'string') return Buffer.from(body);
  return Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
}

function headersOf({ headers, body }: HttpCall, token: HttpClientOptions['token']): Record<string, string> {
  return {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(typeof token === 'string' ? { authorization: `Bearer ${token}` } : {}),
    ...headers,
  };
}

async function whole(stream: HttpStream): Promise<HttpAnswer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const { status, headers } = stream;
  return { status, headers, body, json: <T>() => JSON.parse(body.toString()) as T };
}

export function httpClient(server: HttpTarget, options: HttpClientOptions): HttpClient {
  const { authority, adminPair } = server;
  const pair = options.token === undefined ? { cert: adminPair.certificate, key: adminPair.key } : {};
  const tls = { ca: authority.certificate, ...pair };
  const open =
    options.protocol === 'HTTP/2'
      ? http2Opener(connect(server.server.url, tls), options.token)
      : http1Opener(new URL(server.server.url), new Agent({ keepAlive: true, ...tls }), options.token);
  return {
    protocol: options.protocol,
    open: open.call,
    call: async (call) => whole(await open.call(call)),
    [Symbol.asyncDispose]: open.close,
  };
}

interface Opener {
  call(call: HttpCall): Promise<HttpStream>;
  close(): Promise<void>;
}

function http2Opener(session: ClientHttp2Session, token: HttpClientOptions['token']): Opener {
  session.on('error', () => {});
  return {
    call: (call) =>
      new Promise((resolve, reject) => {
        const body = bytesOf(call.body);
        const stream = session.request(
          { ':method': call.method ?? 'GET', ':path': call.path, ...headersOf(call, token) },
          { endStream: body === undefined },
        );
        stream.once('response', (head) => {
          const headers = head as Record<string, string | string[] | undefined>;
          resolve({
            status: Number(head[':status']),
            headers,
            close: () => stream.close(),
            [Symbol.asyncIterator]: () => stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>,
          });
        });
        stream.once('error', reject);
        if (body !== undefined) stream.end(body);
      }),
    close: async () => session.destroy(),
  };
}

function http1Opener(url: URL, agent: Agent, token: HttpClientOptions['token']): Opener {
  return {
    call: (call) =>
      new Promise((resolve, reject) => {
        const body = bytesOf(call.body);
        const request = httpsRequest(
          {
            host: url.hostname,
            port: url.port,
            agent,
            method: call.method ?? 'GET',
            path: call.path,
            headers: headersOf(call, token),
          },
          (response) => {
            response.on('error', () => {});
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              close: () => response.destroy(),
              [Symbol.asyncIterator]: () => response[Symbol.asyncIterator]() as AsyncIterator<Buffer>,
            });
          },
        );
        request.once('error', reject);
        request.end(body);
      }),
    close: async () => agent.destroy(),
  };
}

/** The lines of a watch, parsed. */
export async function* jsonLines<T = Record<string, unknown>>(stream: HttpStream): AsyncGenerator<T> {
  let rest = '';
  for await (const chunk of stream) {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as T;
  }
}
