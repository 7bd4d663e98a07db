// One HTTP request and its answer, whatever the protocol below. HTTP/1.1 and HTTP/2 each have an implementation;
// nothing above them knows the difference. All methods are safe to call after the client has gone: the answer is
// then dropped and `closed` is true.

import type { Credentials } from '../chain.ts';

export type RequestHeaders = Readonly<Record<string, string | string[] | undefined>>;
/** Names in lower case. */
export type ResponseHeaders = Record<string, string | number | readonly string[]>;

/** Who is at the other end of a connection; the same value for all requests that come over it. */
export interface Peer {
  readonly remoteAddress: string;
  /** The client's certificate when TLS verified it against the client CA, until it expires. */
  readonly clientCertificate: Credentials['clientCertificate'];
  /** The client showed a certificate that is not to be trusted, and why. */
  readonly certificateProblem: string | undefined;
}

export interface Exchange {
  readonly protocol: 'HTTP/1.1' | 'HTTP/2';
  readonly method: string;
  /** Path and query as they came. */
  readonly target: string;
  /** Names in lower case. */
  readonly headers: RequestHeaders;
  readonly peer: Peer;
  /** True when the answer's head has been sent. */
  readonly answered: boolean;
  /** True when the connection or stream is gone. */
  readonly closed: boolean;
  /** Calls back once, when the stream or connection is gone, however it ended; at once when it is already. */
  onClosed(callback: () => void): void;

  /** Reads the whole body. Rejects with a StatusError 413 beyond `limit` bytes, 400 when the client breaks off. */
  body(limit: number): Promise<Buffer>;
  /** The body piece by piece, for requests that are passed on. */
  bodyStream(): AsyncIterable<Uint8Array>;

  /** Sends the whole answer, its body in pieces. */
  respond(status: number, headers: ResponseHeaders, body: readonly Uint8Array[]): void;

  /** Sends the head of an answer whose body follows through `write`. */
  begin(status: number, headers: ResponseHeaders): void;
  /** False: taken, but wait for `onDrain` before more. */
  write(chunk: Uint8Array): boolean;
  /** Calls back each time there is room again after `write` said false. */
  onDrain(callback: () => void): void;
  end(): void;
  /** Breaks the stream off, so that the client sees that the answer is not whole. */
  abort(): void;
}

export type ExchangeHandler = (exchange: Exchange) => void;

/** A connection that asked to become something else (WebSocket, SPDY/3.1). HTTP/1.1 only. */
export interface UpgradeExchange {
  readonly method: string;
  readonly target: string;
  readonly headers: RequestHeaders;
  readonly rawHeaders: readonly string[];
  readonly peer: Peer;
  readonly socket: import('node:stream').Duplex;
  readonly head: Buffer;
}

export type UpgradeHandler = (upgrade: UpgradeExchange) => void;
