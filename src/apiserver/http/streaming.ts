// Streaming subresources (log, exec, attach, port-forward, proxy) as plain requests: an exchange in the shape that
// their handlers know.

import { badRequest } from '../../api/errors.ts';
import type { HandlerContext, StreamingRequest, StreamingResource } from '../chain.ts';
import { methodNotAllowed } from '../registry/registry.ts';
import type { Exchange, ResponseHeaders } from './exchange.ts';

/** Throws 405 for a method that the subresource does not take. */
export function checkMethod(streaming: StreamingResource, method: string): void {
  if (!streaming.methods.has(method)) throw methodNotAllowed();
}

/** Resolves when the handler is done. Rejects with a StatusError when it refuses before it answers. */
export async function serveStream(
  streaming: StreamingResource,
  context: HandlerContext & { readonly rest: string },
  exchange: Exchange,
  headers: ResponseHeaders,
): Promise<void> {
  if (streaming.request === undefined) throw badRequest('Upgrade request required');
  await streaming.request(context, streamingRequest(exchange, headers));
}

function streamingRequest(exchange: Exchange, own: ResponseHeaders): StreamingRequest {
  let resume: (() => void) | undefined;
  const release = (): void => {
    resume?.();
    resume = undefined;
  };
  exchange.onDrain(release);
  exchange.onClosed(release);
  return {
    method: exchange.method,
    url: exchange.target,
    headers: exchange.headers,
    remoteAddress: exchange.peer.remoteAddress,
    body: { [Symbol.asyncIterator]: () => exchange.bodyStream()[Symbol.asyncIterator]() },
    respond(status, headers) {
      const all: ResponseHeaders = { ...own };
      for (const [name, value] of Object.entries(headers)) all[name.toLowerCase()] = value;
      exchange.begin(status, all);
    },
    async write(chunk) {
      if (exchange.write(chunk) || exchange.closed) return;
      await new Promise<void>((resolve) => {
        resume = resolve;
      });
    },
    end: () => exchange.end(),
    abort: () => exchange.abort(),
  };
}
