// Headers of requests and answers that are passed on. Credentials were for this server and stay here, as do the
// headers that belong to one connection (RFC 9110 §7.6.1).

import { isWebSocketToken } from '../authentication/request.ts';

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

const isPrivate = (name: string): boolean =>
  name === 'authorization' ||
  name === 'host' ||
  name === 'expect' ||
  name.startsWith('impersonate-') ||
  name.startsWith('x-remote-') ||
  name.startsWith(':');

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** What of a request's headers goes on to another server. */
export function forwardedHeaders(headers: Headers): Record<string, string | string[]> {
  const result: Record<string, string | string[]> = {};
  const connection = String(headers['connection'] ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase());
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase();
    if (value === undefined || isPrivate(lower) || HOP_BY_HOP.has(lower) || connection.includes(lower))
      continue;
    result[lower] = typeof value === 'string' ? value : [...value];
  }
  return result;
}

/** What of an answer's headers goes back to the client. */
export function returnedHeaders(headers: Headers): Record<string, string | string[]> {
  const result: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase();
    // A proxied program must not speak for this server's origin.
    if (value === undefined || HOP_BY_HOP.has(lower) || lower.startsWith('access-control-')) continue;
    result[lower] = typeof value === 'string' ? value : [...value];
  }
  return result;
}

/**
 * The headers of a request to upgrade, for the server that will speak the protocol: everything that the protocol is
 * agreed on by, without credentials. Repeated headers stay repeated.
 */
export function upgradeHeaders(rawHeaders: readonly string[]): Record<string, string[]> {
  const result: Record<string, string[]> = {};
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    let value = rawHeaders[i + 1]!;
    if (isPrivate(name)) continue;
    if (name === 'sec-websocket-protocol') {
      value = value
        .split(',')
        .map((protocol) => protocol.trim())
        .filter((protocol) => protocol !== '' && !isWebSocketToken(protocol))
        .join(', ');
      if (value === '') continue;
    }
    const values = result[name];
    if (values) values.push(value);
    else result[name] = [value];
  }
  return result;
}
