// Passing an upgrade on (SPDY/3.1, WebSocket, whatever else) and joining the two connections byte by byte. Nothing is
// left behind: when one of them goes, the other is let go.

import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { StreamingUpgrade } from '../chain.ts';
import { dialProblem } from './dial-problem.ts';
import { upgradeHeaders } from './headers.ts';
import type { Backends, ForwardOptions } from './relay.ts';

/** An answer that refuses an upgrade is passed back up to this size. */
const LONGEST_REFUSAL = 64 * 1024;

/**
 * Passes an upgrade on and joins the two connections when the backend agrees. Resolves when both are closed; rejects
 * (before anything was written to the client) when the backend cannot be reached. A backend's refusal goes back as it
 * came.
 */
export async function proxyUpgrade(
  backends: Backends,
  upgrade: StreamingUpgrade,
  options: ForwardOptions,
): Promise<void> {
  const request = backends.open(options.backend, {
    ...options,
    alone: true,
    headers: { ...upgradeHeaders(upgrade.rawHeaders), ...options.headers },
  });
  const outcome = await new Promise<{
    readonly answer: IncomingMessage;
    readonly socket?: Duplex;
    readonly head?: Buffer;
  }>((resolve, reject) => {
    request.once('upgrade', (answer, socket, head) => resolve({ answer, socket, head }));
    request.once('response', (answer) => resolve({ answer }));
    request.on('error', (error) => reject(options.unreachable(dialProblem(error, options.backend))));
    request.end();
  });
  const { answer, socket, head } = outcome;
  if (!socket) return refuseAs(answer, upgrade.socket);
  upgrade.socket.write(headOf(answer));
  await splice(upgrade.socket, socket, upgrade.head, head ?? Buffer.alloc(0));
}

function headOf(answer: IncomingMessage): string {
  const status = answer.statusCode ?? 502;
  const lines = [`HTTP/1.1 ${status} ${answer.statusMessage || STATUS_CODES[status] || 'Unknown'}`];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2)
    lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

async function refuseAs(answer: IncomingMessage, client: Duplex): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > LONGEST_REFUSAL) break;
  }
  answer.destroy();
  const body = Buffer.concat(chunks).subarray(0, LONGEST_REFUSAL);
  const status = answer.statusCode ?? 502;
  // What is neither an upgrade nor an error must not be taken for an answer to the request.
  const code = status < 400 ? 500 : status;
  const text = status < 400 ? Buffer.from(`invalid upgrade response: status code ${status}`) : body;
  const lines = [
    `HTTP/1.1 ${code} ${STATUS_CODES[code] ?? 'Error'}`,
    `content-type: ${answer.headers['content-type'] ?? 'text/plain; charset=utf-8'}`,
    `content-length: ${text.length}`,
    'connection: close',
  ];
  client.write(`${lines.join('\r\n')}\r\n\r\n`);
  client.end(text);
}

/** What was still to be written to a side whose partner has gone gets this long. */
const LINGER_MS = 10_000;
/**
 * How long a connection that one side has ended may stay silent. A client that was killed looks like one that only
 * has nothing more to say; what speaks SPDY or WebSocket ends both ways at once.
 */
const HALF_OPEN_MS = 30_000;

/**
 * Joins two connections until both are closed. An end that one side sends is sent on (half-close); an error or a
 * close of one ends the other after what was under way has been written.
 */
export function splice(a: Duplex, b: Duplex, headOfA: Uint8Array, headOfB: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    let silence: NodeJS.Timeout | undefined;
    const closed = (other: Duplex): void => {
      if (--open === 0) {
        clearTimeout(silence);
        resolve();
      } else if (!other.destroyed) letGo(other);
    };
    const join = (from: Duplex, to: Duplex, head: Uint8Array): void => {
      // What was upgraded may end one way and go on the other.
      from.allowHalfOpen = true;
      if (head.length > 0) to.write(head);
      from.on('data', (chunk: Buffer) => {
        silence?.refresh();
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('end', () => {
        to.end();
        silence ??= setTimeout(() => {
          a.destroy();
          b.destroy();
        }, HALF_OPEN_MS).unref();
      });
      // `close` follows, and tells the other side.
      from.on('error', () => from.destroy());
      if (from.closed) closed(to);
      else from.once('close', () => closed(to));
    };
    join(a, b, headOfA);
    join(b, a, headOfB);
  });
}

/** Ends a connection whose partner has gone: what is under way is written, then nothing more is waited for. */
function letGo(side: Duplex): void {
  const linger = setTimeout(() => side.destroy(), LINGER_MS).unref();
  side.once('close', () => clearTimeout(linger));
  side.end();
  if (side.writableFinished) side.destroy();
  else side.once('finish', () => side.destroy());
}
