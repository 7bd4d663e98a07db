// Failures as StatusErrors, whatever body the server (or a proxy before it) sent along.

import { StatusError, statusErrorFrom } from '../api/index.ts';

/** What an answer without a Status in its body means, by its code. */
const GENERIC: Readonly<Record<number, { readonly reason: string; readonly message: string }>> = {
  400: { reason: 'BadRequest', message: 'the server rejected our request for an unknown reason' },
  401: {
    reason: 'Unauthorized',
    message: 'the server has asked for the client to provide credentials',
  },
  403: { reason: 'Forbidden', message: 'the server does not allow access to the requested resource' },
  404: { reason: 'NotFound', message: 'the server could not find the requested resource' },
  405: {
    reason: 'MethodNotAllowed',
    message: 'the server does not allow this method on the requested resource',
  },
  406: {
    reason: 'NotAcceptable',
    message: 'the server was unable to respond with a content type that the client supports',
  },
  409: { reason: 'Conflict', message: 'the server reported a conflict' },
  410: { reason: 'Gone', message: 'the requested resource is gone' },
  413: { reason: 'RequestEntityTooLarge', message: 'the request is too large for the server' },
  415: {
    reason: 'UnsupportedMediaType',
    message: 'the server was unable to process the content type of the request',
  },
  422: { reason: 'Invalid', message: 'the server rejected our request due to an error in our request' },
  429: {
    reason: 'TooManyRequests',
    message: 'the server has received too many requests and has asked us to try again later',
  },
  503: {
    reason: 'ServiceUnavailable',
    message: 'the server is currently unable to handle the request',
  },
  504: {
    reason: 'Timeout',
    message:
      'the server was unable to return a response in the time allotted, but may still be processing the request',
  },
};

/** `what` names the request in the message when the server said nothing of its own: `get pods "web-1"`. */
export function statusErrorFromResponse(
  answer: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
  },
  what: string,
): StatusError {
  const text = new TextDecoder().decode(answer.body);
  const known = statusErrorFrom(parseObject(text), answer.status);
  if (known) return known;
  const generic = GENERIC[answer.status];
  const retryAfter = Number(answer.headers['retry-after']);
  return new StatusError({
    code: answer.status,
    reason: generic?.reason ?? (answer.status >= 500 ? 'InternalError' : 'Unknown'),
    message: `${
      generic?.message ??
      `an error on the server (${JSON.stringify(text.slice(0, 1024).trim() || 'unknown')}) has prevented the request from succeeding`
    } (${what})`,
    details: {
      ...(text.trim() === ''
        ? {}
        : { causes: [{ reason: 'UnexpectedServerResponse', message: text.slice(0, 2048) }] }),
      ...(Number.isFinite(retryAfter) ? { retryAfterSeconds: retryAfter } : {}),
    },
  });
}

function parseObject(text: string): unknown {
  if (!text.startsWith('{')) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON after all: the caller quotes the text as it came.
    return undefined;
  }
}

/** A read or watch at a version that the server has not reached (yet): it lost its data, or another one answers. */
export function isTooLargeResourceVersion(error: unknown): boolean {
  if (!(error instanceof StatusError)) return false;
  const { causes } = error.status.details ?? {};
  return error.reason === 'Timeout' && causes?.some((c) => c.reason === 'ResourceVersionTooLarge') === true;
}
