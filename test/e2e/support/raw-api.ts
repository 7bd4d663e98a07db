// The API as bytes on the wire: requests over HTTP/1.1 and HTTP/2 that no client library has touched, for what a
// library would hide (status codes, headers, error bodies, framing of watches).

import { connect as connectHttp2, constants } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import { parse } from 'yaml';

export interface RawRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as it is when a string or bytes, otherwise as JSON. */
  readonly body?: unknown;
  /** A bearer token in place of the administrator's certificate; '' for no credentials at all. */
  readonly token?: string;
}

export interface RawHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface RawAnswer extends RawHead {
  readonly text: string;
  /** Parsed anew at each call. */
  json<T = Record<string, unknown>>(): T;
}

export interface RawStream extends RawHead, AsyncDisposable {
  /** The lines of the body, as they come; ends when the server ends the answer. */
  readonly lines: AsyncIterableIterator<string>;
}

export type HttpVersion = '1.1' | '2';

export interface RawApi extends AsyncDisposable {
  request(path: string, options?: RawRequest): Promise<RawAnswer>;
  /** An answer without a foreseeable end. */
  stream(path: string, options?: RawRequest): Promise<RawStream>;
}

interface Body {
  readonly head: RawHead;
  readonly chunks: AsyncIterable<Buffer>;
  close(): void;
}

interface Credentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

interface Kubeconfig {
  readonly clusters: [{ cluster: { server: string; 'certificate-authority-data': string } }];
  readonly users: [{ user: { 'client-certificate-data': string; 'client-key-data': string } }];
}

type Send = (
  path: string,
  method: string,
  headers: Record<string, string>,
  body: string | Uint8Array | undefined,
  asAdmin: boolean,
) => Promise<Body>;

/** Connections as the administrator of this kubeconfig; opened when first needed, closed at dispose. */
export function rawApi(kubeconfig: string, version: HttpVersion = '2'): RawApi {
  const { clusters, users } = parse(kubeconfig) as Kubeconfig;
  const { cluster } = clusters[0];
  const { user } = users[0];
  const decode = (base64: string): Buffer => Buffer.from(base64, 'base64');
  const credentials: Credentials = {
    ca: decode(cluster['certificate-authority-data']),
    cert: decode(user['client-certificate-data']),
    key: decode(user['client-key-data']),
  };
  const wire =
    version === '2' ? overHttp2(cluster.server, credentials) : overHttp1(cluster.server, credentials);
  const open = (path: string, options: RawRequest): Promise<Body> => {
    const { method = options.body === undefined ? 'GET' : 'POST', body, token } = options;
    const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
    const headers: Record<string, string> = {
      ...(raw ? {} : { 'content-type': 'application/json' }),
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...options.headers,
    };
    return wire.send(path, method, headers, raw ? body : JSON.stringify(body), token === undefined);
  };
  return {
    async request(path, options = {}) {
      const { head, chunks } = await open(path, options);
      const parts: Buffer[] = [];
      for await (const chunk of chunks) parts.push(chunk);
      const text = Buffer.concat(parts).toString();
      return { ...head, text, json: <T>() => JSON.parse(text) as T };
    },
    async stream(path, options = {}) {
      const { head, chunks, close } = await open(path, options);
      const lines = linesOf(chunks);
      return {
        ...head,
        lines,
        async [Symbol.asyncDispose]() {
          close();
          await lines.return(undefined).catch(() => {});
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await wire.close();
    },
  };
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string, undefined> {
  let rest = '';
  for await (const chunk of chunks) {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  if (rest !== '') yield rest;
}

interface Wire {
  readonly send: Send;
  close(): Promise<void>;
}

function overHttp1(server: string, credentials: Credentials): Wire {
  const { ca } = credentials;
  const agents = {
    admin: new Agent({ keepAlive: true, ...credentials }),
    other: new Agent({ keepAlive: true, ca }),
  };
  return {
    send: (path, method, headers, body, asAdmin) =>
      new Promise((resolve, reject) => {
        const agent = asAdmin ? agents.admin : agents.other;
        const request = httpsRequest(new URL(path, server), { method, headers, agent });
        request.on('error', reject);
        request.on('response', (response) =>
          resolve({
            head: { status: response.statusCode ?? 0, headers: response.headers },
            chunks: response,
            close: () => response.destroy(),
          }),
        );
        request.end(body);
      }),
    async close() {
      agents.admin.destroy();
      agents.other.destroy();
    },
  };
}

function overHttp2(server: string, credentials: Credentials): Wire {
  const { ca } = credentials;
  const sessions = new Map<boolean, ReturnType<typeof connectHttp2>>();
  const session = (asAdmin: boolean) => {
    const open = sessions.get(asAdmin);
    if (open && !open.closed && !open.destroyed) return open;
    const made = connectHttp2(server, asAdmin ? credentials : { ca });
    made.on('error', () => {}); // the request that it carries tells
    sessions.set(asAdmin, made);
    return made;
  };
  return {
    send: (path, method, headers, body, asAdmin) =>
      new Promise((resolve, reject) => {
        const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_STATUS } = constants;
        const stream = session(asAdmin).request({
          [HTTP2_HEADER_METHOD]: method,
          [HTTP2_HEADER_PATH]: path,
          ...headers,
        });
        stream.on('error', reject);
        stream.on('response', (answer) =>
          resolve({
            head: {
              status: Number(answer[HTTP2_HEADER_STATUS]),
              headers: answer as Record<string, string | string[] | undefined>,
            },
            chunks: stream,
            close: () => stream.close(constants.NGHTTP2_CANCEL),
          }),
        );
        stream.end(body);
      }),
    async close() {
      await Promise.all(
        [...sessions.values()].map(
          (open) =>
            new Promise<void>((resolve) => {
              if (open.destroyed) resolve();
              else open.once('close', resolve).destroy();
            }),
        ),
      );
    },
  };
}
