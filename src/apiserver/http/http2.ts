// HTTP/2 exchanges over node:http2's stream API (the compatibility API costs half the requests a second).

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { badRequest, requestEntityTooLarge } from '../../api/index.ts';
import type { Exchange, Peer, RequestHeaders, ResponseHeaders } from './exchange.ts';

export class Http2Exchange implements Exchange {
  readonly protocol = 'HTTP/2';
  readonly method: string;
  readonly target: string;
  readonly headers: RequestHeaders;
  readonly peer: Peer;
  readonly #stream: ServerHttp2Stream;
  readonly #bodyless: boolean;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, peer: Peer) {
    this.#stream = stream;
    this.method = headers[':method'] as string;
    this.target = headers[':path'] as string;
    this.headers = headers;
    this.peer = peer;
    this.#bodyless = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    // A reset by the client is reported as an error too; 'close' follows and tells all that matters here.
    stream.on('error', ignore);
  }

  get answered(): boolean {
    return this.#stream.headersSent;
  }

  get closed(): boolean {
    return this.#stream.closed || this.#stream.destroyed;
  }

  onClosed(callback: () => void): void {
    if (this.closed) callback();
    else this.#stream.once('close', callback);
  }

  body(limit: number): Promise<Buffer> {
    if (this.#bodyless) return Promise.resolve(EMPTY);
    const stream = this.#stream;
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      stream.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= limit) {
          chunks.push(chunk);
          return;
        }
        // Whatever is still under way is thrown away; the answer goes out at once.
        stream.removeAllListeners('data');
        stream.resume();
        reject(requestEntityTooLarge(`limit is ${limit}`));
      });
      let whole = false;
      stream.once('end', () => {
        whole = true;
        resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
      });
      stream.once('close', () => {
        if (!whole) reject(badRequest('the client broke off its request'));
      });
    });
  }

  bodyStream(): AsyncIterable<Uint8Array> {
    return this.#stream;
  }

  respond(status: number, headers: ResponseHeaders, body: readonly Uint8Array[]): void {
    const stream = this.#stream;
    if (this.closed || stream.headersSent) return;
    const head = headers as Record<string, string | number | string[]>;
    head[':status'] = status;
    const last = body.at(-1);
    if (last === undefined || (body.length === 1 && last.length === 0) || this.method === 'HEAD') {
      stream.respond(head, { endStream: true });
      return;
    }
    stream.respond(head);
    for (let i = 0; i < body.length - 1; i++) stream.write(body[i]);
    stream.end(last);
  }

  begin(status: number, headers: ResponseHeaders): void {
    if (this.closed || this.#stream.headersSent) return;
    const head = headers as Record<string, string | number | string[]>;
    head[':status'] = status;
    this.#stream.respond(head);
  }

  write(chunk: Uint8Array): boolean {
    return this.closed ? true : this.#stream.write(chunk);
  }

  onDrain(callback: () => void): void {
    this.#stream.on('drain', callback);
  }

  end(): void {
    if (!this.closed) this.#stream.end();
  }

  abort(): void {
    if (!this.closed) this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}

const EMPTY = Buffer.alloc(0);

function ignore(): void {
  // See the constructor of Http2Exchange.
}
