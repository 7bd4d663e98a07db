// exec and attach over WebSocket: one message carries one channel's bytes behind a channel number (0 stdin, 1 stdout,
// 2 stderr, 3 error, 4 resize). Version 5 adds channel 255, by which the client closes its side of a channel. The
// base64 forms carry the number as a digit and the bytes as text.

import { Readable, Writable } from 'node:stream';
import type { RawData, WebSocket } from 'ws';
import type { TerminalSize } from '../../runtime/cri.ts';
import { parseTerminalSize, type RemoteStreams, type StreamRequest } from './remote-streams.ts';

export const webSocketProtocols = [
  'v5.channel.k8s.io',
  'v4.channel.k8s.io',
  'v4.base64.channel.k8s.io',
  'channel.k8s.io',
  'base64.channel.k8s.io',
] as const;

const channels = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** From the client, not yet consumed; then the socket is not read any further. */
const MAX_BUFFERED = 1 << 20;

function bytesOf(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}

class ChannelWriter extends Writable {
  readonly #send: (chunk: Buffer, done: (error?: Error | null) => void) => void;

  constructor(send: (chunk: Buffer, done: (error?: Error | null) => void) => void) {
    super();
    this.#send = send;
    // Who writes hears of it through finished() or the callback.
    this.on('error', () => {});
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#send(chunk, done);
  }
}

export function webSocketRemoteStreams(
  socket: WebSocket,
  protocol: string,
  request: StreamRequest,
): RemoteStreams {
  const base64 = protocol.includes('base64');
  const hasStatus = protocol.startsWith('v4') || protocol.startsWith('v5');
  const gone = new AbortController();
  const resizeHandlers = new Set<(size: TerminalSize) => void>();

  const send = (channel: number, chunk: Buffer, done: (error?: Error | null) => void): void => {
    if (socket.readyState !== socket.OPEN) {
      done(new Error('the client went away'));
      return;
    }
    if (base64) socket.send(`${channel}${chunk.toString('base64')}`, { binary: false }, done);
    else socket.send(Buffer.concat([Buffer.from([channel]), chunk]), { binary: true }, done);
  };
  const stdin = request.stdin ? new Readable({ read: () => socket.resume() }) : undefined;
  const stdout = request.stdout
    ? new ChannelWriter((chunk, done) => send(channels.stdout, chunk, done))
    : undefined;
  const stderr = request.stderr
    ? new ChannelWriter((chunk, done) => send(channels.stderr, chunk, done))
    : undefined;
  stdin?.on('error', () => {});

  let stdinEnded = false;
  const endStdin = (): void => {
    if (stdinEnded) return;
    stdinEnded = true;
    stdin?.push(null);
  };
  const receive = (channel: number, payload: Buffer): void => {
    if (channel === channels.stdin && stdin && !stdinEnded) {
      if (payload.length > 0) stdin.push(payload);
      if (stdin.readableLength > MAX_BUFFERED) socket.pause();
    } else if (channel === channels.resize) {
      const size = parseTerminalSize(payload.toString('utf8'));
      if (size) for (const handler of resizeHandlers) handler(size);
    } else if (channel === channels.close && protocol.startsWith('v5') && payload[0] === channels.stdin)
      endStdin();
  };
  socket.on('message', (data, isBinary) => {
    const bytes = bytesOf(data);
    if (bytes.length === 0) return;
    if (base64) receive(bytes[0]! - 0x30, Buffer.from(bytes.toString('latin1', 1), 'base64'));
    else if (isBinary) receive(bytes[0]!, bytes.subarray(1));
  });
  socket.on('close', () => {
    endStdin();
    gone.abort(new Error('the client went away'));
  });
  socket.on('error', () => {});
  // An empty message on the first channel that is ours tells the client that the connection stands.
  send(
    request.stdout ? channels.stdout : request.stderr ? channels.stderr : channels.error,
    Buffer.alloc(0),
    () => {},
  );

  return {
    stdin,
    stdout,
    stderr,
    closed: gone.signal,
    onResize(handler) {
      resizeHandlers.add(handler);
    },
    async finish(status) {
      for (const stream of [stdout, stderr]) {
        if (!stream || stream.destroyed) continue;
        await new Promise<void>((resolve) => {
          stream.once('close', resolve);
          stream.end();
        });
      }
      const text = hasStatus
        ? JSON.stringify({ metadata: {}, ...status })
        : status.status === 'Success'
          ? ''
          : (status.message ?? '');
      if (text !== '')
        await new Promise<void>((resolve) => send(channels.error, Buffer.from(text), () => resolve()));
      socket.close(1000);
    },
  };
}
