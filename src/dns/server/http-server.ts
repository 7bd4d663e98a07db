// /metrics, /health and /ready, as CoreDNS's plugins of these names serve them, for whoever scrapes and probes.

import { createServer } from 'node:http';

export interface HttpServerOptions {
  readonly address: string;
  readonly port: number;
  readonly metrics: () => string;
  readonly ready: () => boolean;
}

export interface HttpServer extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
}

/** Rejects with the system's error when the address cannot be had. */
export async function serveHttp(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => {
    const send = (code: number, body: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(code, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body) });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    const path = request.url?.split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') send(405, 'Method Not Allowed\n');
    else if (path === '/metrics') send(200, options.metrics(), 'text/plain; version=0.0.4; charset=utf-8');
    else if (path === '/health') send(200, 'OK');
    else if (path === '/ready') send(options.ready() ? 200 : 503, options.ready() ? 'OK' : 'kubernetes');
    else send(404, '404 page not found\n');
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host: options.address, port: options.port, exclusive: true }, resolve);
  await promise;
  server.removeListener('error', reject);
  const bound = server.address();
  return {
    address: options.address,
    port: typeof bound === 'object' && bound !== null ? bound.port : options.port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}
