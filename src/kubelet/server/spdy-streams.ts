// exec and attach over SPDY/3.1: the client opens one stream for each channel and names it in the header streamType
// (k8s.io/kubelet/pkg/cri/streaming/remotecommand, protocol versions 1 to 4).

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { Clock } from '../../component/index.ts';
import type { TerminalSize } from '../../runtime/cri.ts';
import { parseTerminalSize, type RemoteStreams, type StreamRequest } from './remote-streams.ts';
import { SpdyConnection, type SpdyStream } from './spdy/connection.ts';

export const SPDY_PROTOCOL = 'SPDY/3.1';
const PROTOCOL_HEADER = 'X-Stream-Protocol-Version';
const STREAM_TIMEOUT_MS = 30_000;
const SIZE_LIMIT = 64 * 1024;

export const remoteCommandProtocols = [
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const;

/** The protocols that the client offers, in its order. */
export function offeredProtocols(request: IncomingMessage): string[] {
  const header = request.headers[PROTOCOL_HEADER.toLowerCase()];
  const lines = header === undefined ? [] : Array.isArray(header) ? header : [header];
  return lines
    .flatMap((line) => line.split(','))
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

/** Answers the upgrade; undefined (and the socket ended) when no protocol suits. */
export function acceptSpdy(
  request: IncomingMessage,
  socket: Duplex,
  supported: readonly string[],
): { readonly protocol: string } | undefined {
  const offered = offeredProtocols(request);
  const protocol = offered.length === 0 ? '' : offered.find((name) => supported.includes(name));
  if (protocol === undefined) {
    const body = `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${supported.join(' ')}]`;
    const accepted = supported.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}\r\n`).join('');
    socket.end(
      `HTTP/1.1 403 Forbidden\r\n${accepted}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
    return undefined;
  }
  const line = protocol === '' ? '' : `${PROTOCOL_HEADER}: ${protocol}\r\n`;
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${SPDY_PROTOCOL}\r\n${line}\r\n`,
  );
  return { protocol };
}

function expectedTypes(request: StreamRequest, protocol: string): Set<string> {
  const types = new Set(['error']);
  if (request.stdin) types.add('stdin');
  if (request.stdout) types.add('stdout');
  if (request.stderr) types.add('stderr');
  if (request.tty && (protocol.startsWith('v3') || protocol.startsWith('v4'))) types.add('resize');
  return types;
}

/** Resolves when the client has opened all of its streams; rejects when it does not in time. */
export async function spdyRemoteStreams(
  transport: Duplex,
  head: Uint8Array,
  request: StreamRequest,
  protocol: string,
  clock: Clock,
): Promise<RemoteStreams> {
  const expected = expectedTypes(request, protocol);
  const streams = new Map<string, SpdyStream>();
  const complete = Promise.withResolvers<void>();
  complete.promise.catch(() => {});
  const connection = new SpdyConnection(transport, {
    head,
    onStream(stream) {
      const type = stream.header('streamtype');
      if (!expected.has(type) || streams.has(type)) {
        stream.destroy(new Error(`unexpected stream type ${JSON.stringify(type)}`));
        return;
      }
      streams.set(type, stream);
      stream.reply().then(() => {
        if (streams.size === expected.size) complete.resolve();
      }, complete.reject);
    },
  });
  const gone = new AbortController();
  void connection.closed.then(() => {
    gone.abort(new Error('the client went away'));
    complete.reject(new Error('the client went away before it had opened its streams'));
  });
  const timer = clock.setTimer(STREAM_TIMEOUT_MS, () =>
    complete.reject(new Error('timed out waiting for client to create streams')),
  );
  try {
    await complete.promise;
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    timer.cancel();
  }
  const error = streams.get('error')!;
  error.resume();
  const outputs = ['stdout', 'stderr']
    .map((type) => streams.get(type))
    .filter((stream) => stream !== undefined);
  // What a client sends into our outputs means nothing, but its end does: a half-closed stream must not stay open.
  for (const stream of outputs) stream.resume();
  return {
    stdin: streams.get('stdin'),
    stdout: streams.get('stdout'),
    stderr: streams.get('stderr'),
    closed: gone.signal,
    onResize: (handler) => readSizes(streams.get('resize'), handler),
    async finish(status) {
      try {
        for (const stream of outputs) {
          if (stream.destroyed) continue;
          stream.end();
          await finished(stream, { readable: false }).catch(() => {});
        }
        const text = statusText(status, protocol);
        if (!error.destroyed) {
          error.end(text);
          await finished(error, { readable: false }).catch(() => {});
        }
      } finally {
        await connection.close();
      }
    },
  };
}

/** Version 4 sends the Status as JSON; before that only failures are told, in words. */
function statusText(status: Parameters<RemoteStreams['finish']>[0], protocol: string): string {
  if (protocol.startsWith('v4')) return JSON.stringify({ metadata: {}, ...status });
  return status.status === 'Success' ? '' : (status.message ?? '');
}

/** One JSON object after the other, without separators. */
function readSizes(stream: SpdyStream | undefined, handler: (size: TerminalSize) => void): void {
  if (!stream) return;
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
    for (let end = text.indexOf('}'); end >= 0; end = text.indexOf('}')) {
      const size = parseTerminalSize(text.slice(0, end + 1).trim());
      text = text.slice(end + 1);
      if (size) handler(size);
    }
    if (text.length > SIZE_LIMIT) stream.destroy(new Error('a terminal size is too long'));
  });
}
