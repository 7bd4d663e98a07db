// HTTP/1.1 exchanges over node:http.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { badRequest, requestEntityTooLarge } from '../../api/index.ts';
import type { Exchange, Peer, RequestHeaders, ResponseHeaders } from './exchange.ts';

export class Http1Exchange implements Exchange {
  readonly protocol = 'HTTP/1.1';
  readonly method: string;
  readonly target: string;
  readonly headers: RequestHeaders;
  readonly peer: Peer;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse, peer: Peer) {
    this.#request = request;
    this.#response = response;
    this.method = request.method ?? 'GET';
    this.target = request.url ?? '/';
    this.headers = request.headers;
    this.peer = peer;
    // The connection's end is told by 'close'; an error beside it says nothing that could be acted on.
    response.on('error', ignore);
    request.on('error', ignore);
  }

  get answered(): boolean {
    return this.#response.headersSent;
  }

  get closed(): boolean {
    return this.#response.closed || this.#response.destroyed;
  }

  onClosed(callback: () => void): void {
    if (this.closed) callback();
    else this.#response.once('close', callback);
  }

  body(limit: number): Promise<Buffer> {
    const request = this.#request;
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > limit) {
      this.#closeAfterAnswer();
      return Promise.reject(requestEntityTooLarge(`limit is ${limit}`));
    }
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      request.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= limit) {
          chunks.push(chunk);
          return;
        }
        request.removeAllListeners('data');
        this.#closeAfterAnswer();
        reject(requestEntityTooLarge(`limit is ${limit}`));
      });
      request.once('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length)));
      request.once('close', () => {
        if (!request.complete) reject(badRequest('the client broke off its request'));
      });
    });
  }

  bodyStream(): AsyncIterable<Uint8Array> {
    return this.#request;
  }

  respond(status: number, headers: ResponseHeaders, body: readonly Uint8Array[]): void {
    const response = this.#response;
    if (this.closed || response.headersSent) return;
    let length = 0;
    for (const piece of body) length += piece.length;
    headers['content-length'] = length;
    response.writeHead(status, headers as Record<string, string | number | string[]>);
    if (this.method === 'HEAD') {
      response.end();
      return;
    }
    for (let i = 0; i < body.length - 1; i++) response.write(body[i]);
    response.end(body.at(-1));
  }

  begin(status: number, headers: ResponseHeaders): void {
    if (this.closed || this.#response.headersSent) return;
    this.#response.writeHead(status, headers as Record<string, string | number | string[]>);
    this.#response.flushHeaders();
  }

  write(chunk: Uint8Array): boolean {
    return this.closed ? true : this.#response.write(chunk);
  }

  onDrain(callback: () => void): void {
    this.#response.on('drain', callback);
  }

  end(): void {
    if (!this.closed) this.#response.end();
  }

  abort(): void {
    this.#response.destroy();
  }

  /** The rest of an oversized body is not read: the connection cannot be used again. */
  #closeAfterAnswer(): void {
    const { socket } = this.#request;
    this.#request.resume();
    this.#response.setHeader('connection', 'close');
    this.#response.once('finish', () => socket.destroySoon());
  }
}

function ignore(): void {
  // See the constructor of Http1Exchange.
}
