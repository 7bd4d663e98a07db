// Why a backend could not be reached, in the words of Go's dialer, which kubectl users have seen before.

import type { Backend } from './relay.ts';

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  ETIMEDOUT: 'i/o timeout',
  EADDRNOTAVAIL: "connect: can't assign requested address",
};

export function dialProblem(error: unknown, { host, port }: Pick<Backend, 'host' | 'port'>): string {
  const { code, message } = error as { code?: string; message?: string };
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const known = WORDS[code ?? ''];
  if (known !== undefined) return `dial tcp ${where}: ${known}`;
  if (message === 'i/o timeout') return `dial tcp ${where}: i/o timeout`;
  if (code === 'ECONNRESET') return `read tcp ${where}: connection reset by peer`;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return `dial tcp: lookup ${host}: no such host`;
  return `${where}: ${message ?? String(error)}`;
}
