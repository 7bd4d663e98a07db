// Where a probe or hook knocks: ports by number or by the container's names for them.

import type { Container } from '../../api/types/core-v1.ts';

/** Throws Error for a name that the container does not have and for numbers that are no port. */
export function resolvePort(port: number | string, container: Container): number {
  let number = typeof port === 'number' ? port : Number(/^\d+$/.test(port) ? port : Number.NaN);
  if (Number.isNaN(number)) {
    const named = container.ports?.find(({ name }) => name === port);
    if (!named) throw new Error(`couldn't find port: ${port} in container ${container.name}`);
    number = named.containerPort;
  }
  if (number < 1 || number > 65535) throw new Error(`invalid port number: ${number}`);
  return number;
}

/** `10.0.0.1:80`, `[::1]:80` */
export function hostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

const REFUSALS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  ECONNRESET: 'read: connection reset by peer',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  ETIMEDOUT: 'connect: connection timed out',
};

/** A socket's failure in the words that users of upstream know. */
export function dialError(error: unknown, address: string): string {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const text = REFUSALS[code];
  if (text) return `dial tcp ${address}: ${text}`;
  return error instanceof Error ? error.message : String(error);
}
