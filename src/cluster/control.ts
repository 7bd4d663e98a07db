// The control socket: how `bulkhead status`, `down` and `image …` reach the running process. HTTP with JSON bodies
// over a Unix socket that only the owner may open. One request is one call of a named handler.

import { mkdir, rm } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';

export type ControlHandler = (argument: unknown) => Promise<unknown>;

/** Nobody listens: the cluster is not running (or died without taking its socket along). */
export class NotRunningError extends Error {
  override readonly name = 'NotRunningError';
}

/** The other side ran the call and it failed; the message is its own. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
}

/** Requests are small: an image is named by its path, not sent. */
const MAX_BODY = 1024 * 1024;

async function readBody(message: IncomingMessage): Promise<unknown> {
  let size = 0;
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new ControlError(`the request is larger than ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  return size === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

/**
 * Listens at `path` and answers `POST /<name>` with the handler of that name. A socket left by a process that died
 * is replaced; a live one is an error (EADDRINUSE), which callers turn into "already running".
 */
export async function serveControl(
  path: string,
  handlers: Readonly<Record<string, ControlHandler>>,
): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const server = createServer((request, response) => {
    const name = (request.url ?? '/').slice(1);
    const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined;
    const answer = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body ?? null));
    };
    if (request.method !== 'POST' || !handler) {
      answer(404, { error: `the running cluster has no call "${name}"; it may be of another version` });
      return;
    }
    readBody(request)
      .then(handler)
      .then(
        (result) => answer(200, result),
        (error: unknown) => answer(500, { error: error instanceof Error ? error.message : String(error) }),
      );
  });
  const listen = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ path, readableAll: false, writableAll: false }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  const umask = process.umask(0o177);
  try {
    await listen().catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE' || (await isAnswering(path))) throw error;
      await rm(path, { force: true });
      await listen();
    });
  } finally {
    process.umask(umask);
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      await closed;
    },
  };
}

async function isAnswering(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = httpRequest({ socketPath: path, path: '/', method: 'GET' }, (response) => {
      response.resume();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
    probe.end();
  });
}

/** Calls a handler of the running cluster. Rejects with NotRunningError or ControlError. */
export async function callControl(path: string, name: string, argument?: unknown): Promise<unknown> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = httpRequest(
      { socketPath: path, path: `/${name}`, method: 'POST', agent: false },
      resolve,
    );
    request.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
        reject(new NotRunningError('no cluster is running here; start one with: bulkhead up'));
      } else if (error.code === 'EACCES') {
        reject(
          new ControlError(
            `the cluster was started by another user; its socket ${path} is closed to this one`,
          ),
        );
      } else reject(error);
    });
    request.end(argument === undefined ? undefined : JSON.stringify(argument));
  });
  const body = JSON.parse(await text(response)) as { error?: string };
  if (response.statusCode !== 200) throw new ControlError(body.error ?? `status ${response.statusCode}`);
  return body;
}
