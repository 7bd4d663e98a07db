// A registry for tests, in this process and on loopback, that behaves as badly as it is told to.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestImage } from './archives.ts';

export interface Misbehaviour {
  /** Answers this many requests for blobs with this status before answering well. */
  failures?: { count: number; status: number; retryAfter?: string };
  /** Cuts the connection after this many bytes of a blob, this many times. */
  cut?: { after: number; times: number };
  /** Sends this instead of the blob. */
  corrupt?: (bytes: Buffer) => Buffer;
  /** Never sends more than the first half of a blob, and never ends. */
  stall?: boolean;
  /** Blobs are served by this other server. */
  redirectTo?: string;
  ranges?: boolean;
}

export type Authentication =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly type: 'token';
      readonly username?: string;
      readonly password?: string;
      readonly identityToken?: string;
    };

export interface TestRegistry extends AsyncDisposable {
  /** 127.0.0.1:port */
  readonly host: string;
  readonly requests: {
    readonly method: string;
    readonly url: string;
    readonly headers: IncomingMessage['headers'];
  }[];
  readonly misbehaviour: Misbehaviour;
  push(repository: string, tag: string, image: TestImage): void;
  /** Puts any document where a manifest would be. */
  pushManifest(repository: string, which: string, bytes: Buffer, mediaType: string): void;
}

export async function startTestRegistry(
  authentication: Authentication = { type: 'none' },
): Promise<TestRegistry> {
  const manifests = new Map<string, { bytes: Buffer; mediaType: string }>();
  const blobs = new Map<string, Buffer>();
  const requests: TestRegistry['requests'] = [];
  const misbehaviour: Misbehaviour = { ranges: true };
  let host = '';

  const refuse = (
    response: ServerResponse,
    status: number,
    code: string,
    headers: Record<string, string> = {},
  ): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify({ errors: [{ code, message: `the test registry says ${code}` }] }));
  };

  const serveToken = (request: IncomingMessage, response: ServerResponse, body: string): void => {
    if (authentication.type !== 'token') {
      refuse(response, 404, 'NOT_FOUND');
      return;
    }
    const basic = `Basic ${Buffer.from(`${authentication.username}:${authentication.password}`).toString('base64')}`;
    const good =
      request.method === 'POST'
        ? new URLSearchParams(body).get('refresh_token') === authentication.identityToken
        : authentication.username === undefined || request.headers.authorization === basic;
    if (!good) {
      refuse(response, 401, 'UNAUTHORIZED');
      return;
    }
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ token: 'letmein', expires_in: 300 }));
  };

  const authorized = (request: IncomingMessage, response: ServerResponse, repository: string): boolean => {
    const given = request.headers.authorization;
    if (authentication.type === 'basic') {
      const { username, password } = authentication;
      if (given === `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`) return true;
      refuse(response, 401, 'UNAUTHORIZED', { 'www-authenticate': 'Basic realm="test"' });
      return false;
    }
    if (authentication.type === 'token' && given !== 'Bearer letmein') {
      const challenge = `Bearer realm="http://${host}/token",service="test registry",scope="repository:${repository}:pull"`;
      refuse(response, 401, 'UNAUTHORIZED', { 'www-authenticate': challenge });
      return false;
    }
    return true;
  };

  const serveBlob = (request: IncomingMessage, response: ServerResponse, digest: string): void => {
    const whole = blobs.get(digest);
    if (!whole) {
      refuse(response, 404, 'BLOB_UNKNOWN');
      return;
    }
    const { failures, cut, corrupt, stall, redirectTo, ranges } = misbehaviour;
    if (redirectTo !== undefined) {
      response.writeHead(307, { location: `${redirectTo}${request.url}` });
      response.end();
      return;
    }
    if (failures && failures.count-- > 0) {
      const headers: Record<string, string> =
        failures.retryAfter === undefined ? {} : { 'retry-after': failures.retryAfter };
      refuse(response, failures.status, 'UNAVAILABLE', headers);
      return;
    }
    let bytes = corrupt ? corrupt(whole) : whole;
    const from = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    if (from > 0) {
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
      bytes = bytes.subarray(from);
    }
    response.setHeader('content-length', bytes.length);
    if (stall) {
      response.write(bytes.subarray(0, bytes.length >> 1));
      return;
    }
    if (cut && cut.times > 0) {
      cut.times--;
      response.write(bytes.subarray(0, cut.after), () => setImmediate(() => response.destroy()));
      return;
    }
    response.end(bytes);
  };

  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    requests.push({ method, url, headers });
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      if (url.startsWith('/token')) {
        serveToken(request, response, body);
        return;
      }
      const match = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(url);
      if (!match) {
        refuse(response, 404, 'NOT_FOUND');
        return;
      }
      const [, repository = '', what, which = ''] = match;
      if (!authorized(request, response, repository)) return;
      if (what === 'blobs') {
        serveBlob(request, response, which);
        return;
      }
      const manifest = manifests.get(`${repository} ${which}`);
      if (!manifest) {
        refuse(response, 404, 'MANIFEST_UNKNOWN');
        return;
      }
      response.setHeader('content-type', manifest.mediaType);
      response.end(manifest.bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  const registry: TestRegistry = {
    host,
    requests,
    misbehaviour,
    push(repository, tag, image) {
      for (const [digest, bytes] of image.blobs) blobs.set(digest, bytes);
      registry.pushManifest(repository, tag, image.manifest, image.mediaType);
      registry.pushManifest(repository, image.manifestDigest, image.manifest, image.mediaType);
    },
    pushManifest(repository, which, bytes, mediaType) {
      manifests.set(`${repository} ${which}`, { bytes, mediaType });
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return registry;
}
