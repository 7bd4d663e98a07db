// A real etcd to compare with, and a client that costs as little as can be.
//
// The client speaks gRPC over hand-made HTTP/2 frames: headers are encoded once, a request is one write to the
// socket, an answer is read just as far as to know that it succeeded. No gRPC library is as cheap, so what is measured
// is etcd and not its client. Requests are spread over several connections, as client-go's would be.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Undefined when there is no etcd on this machine. */
export function findEtcd(): string | undefined {
  const named = process.env['ETCD'];
  if (named !== undefined) {
    if (!existsSync(named)) throw new Error(`ETCD names ${named}, which does not exist`);
    return named;
  }
  const root = join(import.meta.dirname, '../..');
  return [join(root, '.cache/peers/usr/bin/etcd'), '/opt/peers/usr/bin/etcd'].find((path) =>
    existsSync(path),
  );
}

export class Etcd implements AsyncDisposable {
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #directory: string;

  private constructor(process: ChildProcess, port: number, directory: string) {
    this.#process = process;
    this.port = port;
    this.#directory = directory;
  }

  /** One member with its default settings, data in `directory`. */
  static async start(path: string, directory: string): Promise<Etcd> {
    const [client, peer] = [await freePort(), await freePort()];
    const child = spawn(
      path,
      [
        ...['--data-dir', directory, '--log-level', 'error'],
        ...['--listen-client-urls', `http://127.0.0.1:${client}`],
        ...['--advertise-client-urls', `http://127.0.0.1:${client}`],
        ...['--listen-peer-urls', `http://127.0.0.1:${peer}`],
        ...['--initial-advertise-peer-urls', `http://127.0.0.1:${peer}`],
        ...['--initial-cluster', `default=http://127.0.0.1:${peer}`],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    const etcd = new Etcd(child, client, directory);
    const deadline = performance.now() + 30_000;
    while (!(await etcd.#healthy())) {
      if (child.exitCode !== null || performance.now() > deadline) {
        await etcd[Symbol.asyncDispose]();
        throw new Error(`${path} did not become healthy within 30 s`);
      }
      await delay(50);
    }
    return etcd;
  }

  async #healthy(): Promise<boolean> {
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/health`)).ok;
    } catch {
      return false;
    }
  }

  /** Count and sum in seconds of the syncs of its write-ahead log, as etcd measures them. */
  async walSyncs(): Promise<{ count: number; seconds: number }> {
    const metrics = await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
    const read = (name: string) =>
      Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1] ?? Number.NaN);
    return {
      count: read('etcd_disk_wal_fsync_duration_seconds_count'),
      seconds: read('etcd_disk_wal_fsync_duration_seconds_sum'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGTERM');
      await once(this.#process, 'exit');
    }
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

// HTTP/2, RFC 9113: frame types and flags.
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const END_STREAM = 1;
const END_HEADERS = 4;
const ACK = 1;
/** The connection's window is opened again after so many bytes of answers. */
const WINDOW_STEP = 16_384;

interface Call {
  resolve(): void;
  reject(error: Error): void;
  answered: boolean;
}

/** One connection. */
export class EtcdClient {
  readonly #socket: Socket;
  readonly #headers: Buffer;
  readonly #calls = new Map<number, Call>();
  #nextStream = 1;
  #rest: Buffer = Buffer.alloc(0);
  #unacknowledged = 0;

  private constructor(socket: Socket, port: number) {
    this.#socket = socket;
    this.#headers = putHeaders(`127.0.0.1:${port}`);
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('close', () => this.#fail(new Error('etcd closed the connection')));
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
  }

  static async connect(port: number): Promise<EtcdClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new EtcdClient(socket, port);
  }

  /** etcdserverpb.KV/Put. Resolves when etcd has answered that it is done. */
  put(key: Buffer, value: Buffer): Promise<void> {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const message = Buffer.concat([field(1, key.length), key, field(2, value.length), value]);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    this.#socket.write(
      Buffer.concat([
        frame(HEADERS, END_HEADERS, stream, this.#headers),
        frame(DATA, END_STREAM, stream, Buffer.concat([prefix, message])),
      ]),
    );
    return new Promise((resolve, reject) => {
      this.#calls.set(stream, { resolve, reject, answered: false });
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 9) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) break;
      this.#frame(bytes[3]!, bytes[4]!, bytes.readUInt32BE(5) & 0x7fffffff, bytes.subarray(9, 9 + length));
      bytes = bytes.subarray(9 + length);
    }
    this.#rest = bytes;
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === SETTINGS && (flags & ACK) === 0)
      this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    else if (type === PING && (flags & ACK) === 0) this.#socket.write(frame(PING, ACK, 0, payload));
    else if (type === GOAWAY) this.#fail(new Error(`etcd says goodbye: ${payload.subarray(8)}`));
    else if (type === DATA) this.#data(stream, payload.length);
    else if (type === RST_STREAM) this.#end(stream, false);
    else if (type === HEADERS && (flags & END_STREAM) !== 0) this.#end(stream, true);
  }

  #data(stream: number, length: number): void {
    const call = this.#calls.get(stream);
    if (call !== undefined) call.answered = true;
    this.#unacknowledged += length;
    if (this.#unacknowledged < WINDOW_STEP) return;
    const increment = Buffer.alloc(4);
    increment.writeUInt32BE(this.#unacknowledged);
    this.#socket.write(frame(WINDOW_UPDATE, 0, 0, increment));
    this.#unacknowledged = 0;
  }

  /** A failed gRPC call ends with headers alone, without a message before them. */
  #end(stream: number, finished: boolean): void {
    const call = this.#calls.get(stream);
    this.#calls.delete(stream);
    if (call === undefined) return;
    if (finished && call.answered) call.resolve();
    else call.reject(new Error('etcd refused a put'));
  }

  #fail(error: Error): void {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** The header block of a Put in HPACK (RFC 7541): indices of the static table, plain literals, nothing remembered. */
function putHeaders(authority: string): Buffer {
  const text = (value: string) => Buffer.from([value.length, ...Buffer.from(value)]);
  return Buffer.concat([
    Buffer.from([0x83, 0x86]), // :method POST, :scheme http
    Buffer.from([0x04]), // :path
    text('/etcdserverpb.KV/Put'),
    Buffer.from([0x01]), // :authority
    text(authority),
    Buffer.from([0x0f, 0x10]), // content-type
    text('application/grpc'),
    Buffer.from([0x00]),
    text('te'),
    text('trailers'),
  ]);
}

/** Tag and length of a protobuf field of bytes. */
function field(number: number, length: number): Buffer {
  const bytes = [(number << 3) | 2];
  let rest = length;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}
