// The programs at both ends of test traffic, run in network namespaces:
//   peer.ts serve NAME PORT...      answers whatever comes, by TCP and UDP, with its name and who it was asked by
//   peer.ts dial OPTIONS            asks, and prints what came back as JSON
//   peer.ts hold OPTIONS            keeps connections open and busy until it is told to end, and prints which broke

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface DialOptions {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  /** How often; 1 when absent. */
  readonly count?: number;
  readonly concurrency?: number;
  readonly timeoutMs?: number;
  /** UDP: the same for all, so that they are one flow. */
  readonly sourcePort?: number;
}

export interface DialResult {
  /** How often each answer came: "p10 8080 from 10.244.0.11". */
  readonly answers: Readonly<Record<string, number>>;
  /** How often each error came, by its code. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface HoldOptions {
  readonly address: string;
  readonly port: number;
  readonly connections: number;
  /** How many, beside those, make new connections one after the other; none when absent. */
  readonly asking?: number;
}

export interface HoldResult {
  /** Over the connections that were held; each has had one more after the end was asked for, or is broken. */
  readonly exchanges: number;
  /** The codes of what broke them. */
  readonly broken: readonly string[];
  /** New connections that were answered. */
  readonly asked: number;
  readonly failed: readonly string[];
}

/** Long enough for the busiest machine; a lost packet would come again within a second. */
const PATIENCE_MS = 10_000;

const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');

const codeOf = (error: unknown): string => String((error as { readonly code?: unknown }).code ?? error);

function serve(name: string, ports: readonly number[]): void {
  let waiting = 2 * ports.length;
  const ready = (): void => {
    if (--waiting === 0) process.stdout.write('ready\n');
  };
  for (const port of ports) {
    createServer((socket) => {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('data', () => socket.write(`${name} ${port} from ${plain(socket.remoteAddress)}\n`));
    }).listen({ port, host: '::', backlog: 4096 }, ready);
    const datagrams = createSocket('udp6');
    datagrams.on('message', (_, from) =>
      datagrams.send(`${name} ${port} from ${plain(from.address)}\n`, from.port, from.address),
    );
    datagrams.bind(port, '::', ready);
  }
}

function ask(socket: Socket, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(Object.assign(new Error('timeout'), { code: 'TIMEOUT' })), timeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      socket.off('data', answered).off('error', fail).off('close', closed);
    };
    const answered = (text: Buffer): void => {
      settle();
      resolve(text.toString().trim());
    };
    const fail = (error: unknown): void => {
      settle();
      reject(error);
    };
    const closed = (): void => fail(Object.assign(new Error('closed'), { code: 'CLOSED' }));
    socket.on('data', answered).on('error', fail).on('close', closed);
    socket.write('?');
  });
}

async function dialTcp({ address, port, timeoutMs = PATIENCE_MS }: DialOptions): Promise<string> {
  const socket = connect({ host: address, port });
  socket.setNoDelay(true);
  try {
    return await ask(socket, timeoutMs);
  } finally {
    socket.on('error', () => {}).destroy();
  }
}

function dialUdp({ address, port, sourcePort = 0, timeoutMs = PATIENCE_MS }: DialOptions): Promise<string> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  return new Promise<string>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(Object.assign(new Error('timeout'), { code: 'TIMEOUT' })),
      timeoutMs,
    );
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      reject(error);
    };
    socket.on('error', fail);
    socket.on('message', (text) => {
      clearTimeout(timer);
      resolve(text.toString().trim());
    });
    socket.bind(sourcePort, () => {
      socket.connect(port, address, () => {
        // What is answered by ICMP is told at the next call.
        socket.send('?', (error) => error && fail(error));
      });
    });
  }).finally(() => socket.close());
}

async function dial(options: DialOptions): Promise<DialResult> {
  const answers: Record<string, number> = {};
  const errors: Record<string, number> = {};
  let left = options.count ?? 1;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      try {
        const answer = await (options.protocol === 'tcp' ? dialTcp(options) : dialUdp(options));
        answers[answer] = (answers[answer] ?? 0) + 1;
      } catch (error) {
        const code = codeOf(error);
        errors[code] = (errors[code] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: options.concurrency ?? 1 }, worker));
  return { answers, errors };
}

/** `control` is a Unix socket: it is told when every connection stands, and its end is the end. */
async function hold(
  { address, port, connections, asking = 0 }: HoldOptions,
  control: string,
): Promise<HoldResult> {
  const broken: string[] = [];
  const failed: string[] = [];
  let exchanges = 0;
  let asked = 0;
  let standing = 0;
  let ending = false;
  const controller = connect(control);
  await once(controller, 'connect');
  controller.resume().once('close', () => {
    ending = true;
  });
  const held = async (): Promise<void> => {
    const socket = connect({ host: address, port });
    socket.setNoDelay(true);
    try {
      for (let first = true, last = false; !last; first = false) {
        last = ending;
        await ask(socket, PATIENCE_MS);
        exchanges++;
        if (first && ++standing === connections) controller.write('ready');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    } catch (error) {
      broken.push(codeOf(error));
    } finally {
      socket.on('error', () => {}).destroy();
    }
  };
  const anew = async (): Promise<void> => {
    while (!ending)
      await dialTcp({ protocol: 'tcp', address, port }).then(
        () => asked++,
        (error: unknown) => failed.push(codeOf(error)),
      );
  };
  await Promise.all([...Array.from({ length: connections }, held), ...Array.from({ length: asking }, anew)]);
  return { exchanges, broken, asked, failed };
}

const [role, ...args] = process.argv.slice(2);
if (role === 'serve') serve(args[0] ?? '', args.slice(1).map(Number));
else if (role === 'dial') console.log(JSON.stringify(await dial(JSON.parse(args[0] ?? '{}') as DialOptions)));
else if (role === 'hold')
  console.log(JSON.stringify(await hold(JSON.parse(args[0] ?? '{}') as HoldOptions, args[1] ?? '')));
