// The API server through TLS and HTTP/2, one connection a client, as client-go has it: creates, gets, lists and
// watches of 1 KiB objects. Writes go to the journal store on disk (folder: BULKHEAD_BENCH_DIR, else the system's
// temporary one). Client and server are two processes on the same machine.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { createInterface } from 'node:readline';

interface ServerLine {
  readonly url: string;
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly answersMs: number;
  readonly readyMs: number;
}

const NAMESPACE = '/api/v1/namespaces/default/configmaps';
const SECONDS = Number(process.env['BULKHEAD_BENCH_SECONDS'] ?? 4);

class Client {
  readonly #session: ClientHttp2Session;

  private constructor(session: ClientHttp2Session) {
    this.#session = session;
  }

  static async open(server: ServerLine): Promise<Client> {
    const session = connect(server.url, {
      ca: server.ca,
      cert: server.certificate,
      key: server.key,
      settings: { initialWindowSize: 4 * 1024 * 1024, enablePush: false },
    });
    await once(session, 'connect');
    session.setLocalWindowSize(64 * 1024 * 1024);
    return new Client(session);
  }

  /** Processor seconds that the server has used so far. */
  async processorSeconds(): Promise<number> {
    const stream = this.#session.request({ ':path': '/metrics' });
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    return Number(/^process_cpu_seconds_total (.*)$/m.exec(text)?.[1]);
  }

  /** The status and the number of bytes of the answer. */
  call(method: string, path: string, body?: Buffer): Promise<{ status: number; bytes: number }> {
    return new Promise((resolve, reject) => {
      const stream = this.#session.request(
        {
          ':method': method,
          ':path': path,
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        { endStream: body === undefined },
      );
      let status = 0;
      let bytes = 0;
      stream.on('response', (headers) => {
        status = headers[':status'] ?? 0;
      });
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      stream.on('end', () => resolve({ status, bytes }));
      stream.on('error', reject);
      if (body !== undefined) stream.end(body);
    });
  }

  /** Calls back for each line until the returned function is called. */
  watch(path: string, onLine: (line: string) => void): () => void {
    const stream = this.#session.request({ ':path': path, accept: 'application/json' });
    stream.setEncoding('utf8');
    let rest = '';
    stream.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) onLine(line);
    });
    stream.on('error', () => {});
    return () => stream.close();
  }

  close(): void {
    this.#session.destroy();
  }
}

function configMap(name: string, namespace = 'default'): Buffer {
  return Buffer.from(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace, labels: { app: 'bench' } },
      data: { payload: 'x'.repeat(820) },
    }),
  );
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** `used`: processor seconds of the server. */
function report(label: string, latencies: number[], seconds: number, used: number): void {
  latencies.sort((a, b) => a - b);
  const rate = Math.round(latencies.length / seconds);
  const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
  console.log(
    `${label.padEnd(34)} ${String(rate).padStart(7)} /s   p50 ${p50.toFixed(2).padStart(7)} ms   p99 ${p99.toFixed(2).padStart(7)} ms   server ${((used / latencies.length) * 1e6).toFixed(0).padStart(6)} µs each`,
  );
}

/** `count` clients, each calling as fast as it is answered, for some seconds. */
async function load(
  server: ServerLine,
  label: string,
  count: number,
  once1: (client: Client, number: number) => Promise<unknown>,
): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => Client.open(server)));
  const latencies: number[] = [];
  let number = 0;
  // A moment to warm up both sides.
  const warm = performance.now() + 500;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() < warm) await once1(client, number++);
    }),
  );
  const used = await clients[0]!.processorSeconds();
  const start = performance.now();
  const end = start + SECONDS * 1000;
  await Promise.all(
    clients.map(async (client) => {
      for (;;) {
        const begun = performance.now();
        if (begun >= end) return;
        await once1(client, number++);
        latencies.push(performance.now() - begun);
      }
    }),
  );
  const seconds = (performance.now() - start) / 1000;
  report(label, latencies, seconds, (await clients[0]!.processorSeconds()) - used);
  for (const client of clients) client.close();
}

async function must(answer: Promise<{ status: number; bytes: number }>, status: number): Promise<number> {
  const got = await answer;
  if (got.status !== status) throw new Error(`expected ${status}, got ${got.status}`);
  return got.bytes;
}

async function benchWatches(server: ServerLine): Promise<void> {
  const WATCHERS = 100;
  const EVENTS_PER_SECOND = 100;
  const clients = await Promise.all(Array.from({ length: WATCHERS }, () => Client.open(server)));
  const sent = new Map<string, number>();
  const latencies: number[] = [];
  let seen = 0;
  const stops = clients.map((client) =>
    client.watch(
      `${NAMESPACE}?watch=true&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan`,
      (line) => {
        const name = /"name":"(watched-\d+)"/.exec(line)?.[1];
        const begun = name === undefined ? undefined : sent.get(name);
        if (begun === undefined) return;
        latencies.push(performance.now() - begun);
        seen++;
      },
    ),
  );
  const writer = await Client.open(server);
  const used = await writer.processorSeconds();
  const total = EVENTS_PER_SECOND * SECONDS;
  const start = performance.now();
  for (let i = 0; i < total; i++) {
    const due = start + (i * 1000) / EVENTS_PER_SECOND;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const name = `watched-${i}`;
    sent.set(name, performance.now());
    void must(writer.call('POST', NAMESPACE, configMap(name)), 201);
  }
  const deadline = performance.now() + 5_000;
  while (seen < total * WATCHERS && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  if (seen < total * WATCHERS) throw new Error(`only ${seen} of ${total * WATCHERS} events arrived`);
  const seconds = (performance.now() - start) / 1000;
  report(`watch: ${WATCHERS} watchers, events`, latencies, seconds, (await writer.processorSeconds()) - used);
  for (const stop of stops) stop();
  for (const client of [...clients, writer]) client.close();
}

async function startServer(): Promise<{ process: ChildProcess; line: ServerLine }> {
  const flags = (process.env['BULKHEAD_BENCH_SERVER_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '');
  const store = process.env['BULKHEAD_BENCH_STORE'] ?? 'journal';
  const child = spawn(process.execPath, [...flags, new URL('./server.ts', import.meta.url).pathname, store], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [text] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { process: child, line: JSON.parse(text) as ServerLine };
}

const only = process.env['BULKHEAD_BENCH_ONLY'];
const wanted = (what: string): boolean => only === undefined || only === what;

export async function run(): Promise<void> {
  const { process: child, line: server } = await startServer();
  try {
    console.log(
      `start on an empty store: answers after ${server.answersMs.toFixed(0)} ms, ready after ${server.readyMs.toFixed(0)} ms`,
    );
    const setup = await Client.open(server);
    await must(setup.call('POST', '/api/v1/namespaces', Buffer.from('{"metadata":{"name":"many"}}')), 201);
    await must(setup.call('POST', NAMESPACE, configMap('one')), 201);
    for (const clients of wanted('get') ? [1, 16, 64] : [])
      await load(server, `get one object, ${clients} clients`, clients, (client) =>
        must(client.call('GET', `${NAMESPACE}/one`), 200),
      );
    for (const clients of wanted('create') ? [1, 16, 64] : [])
      await load(server, `create 1 KiB, ${clients} clients`, clients, (client, number) =>
        must(client.call('POST', NAMESPACE, configMap(`c${clients}-${number}`)), 201),
      );
    const many = '/api/v1/namespaces/many/configmaps';
    for (let i = 0; wanted('list') && i < 5_000; i += 100)
      await Promise.all(
        Array.from({ length: 100 }, (_, j) =>
          must(setup.call('POST', many, configMap(`m-${i + j}`, 'many')), 201),
        ),
      );
    let bytes = 0;
    for (const clients of wanted('list') ? [1, 4] : [])
      await load(server, `list 5,000 objects, ${clients} clients`, clients, async (client) => {
        bytes = await must(client.call('GET', many), 200);
      });
    if (bytes > 0) console.log(`(a list is ${(bytes / 1e6).toFixed(1)} MB)`);
    if (wanted('watch')) await benchWatches(server);
    setup.close();
  } finally {
    child.stdin!.end();
    await once(child, 'exit');
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) await run();
