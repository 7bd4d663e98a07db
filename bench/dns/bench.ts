// Cluster DNS against unbound with the same static names, in one run: answers a second at full load, and how long an
// answer takes at a fixed rate. dnsperf asks both over UDP on loopback for the addresses of all services in turn.
//
// Each server has one thread and one core of the machine to itself, dnsperf another, where there are two. What counts
// for "a second and core" are the answers divided by the processor time that the server used for them: it does not
// depend on how much dnsperf can ask.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { serviceAddress, serviceName } from './names.ts';

export interface DnsBenchOptions {
  readonly services?: number;
  readonly rounds?: number;
  readonly secondsPerRound?: number;
}

const BAR_PER_CORE = 20_000;
const BAR_P99_MS = 2;
/** For latencies: the load that the bar speaks of. */
const RATE = 20_000;
/** Clock ticks a second in /proc (USER_HZ). */
const TICKS = 100;

interface Server {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

interface Load {
  readonly perSecond: number;
  readonly perCoreSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly lost: number;
}

/** Prints what it measures. */
export async function run(options: DnsBenchOptions = {}): Promise<void> {
  const { services = 5000, rounds = 3, secondsPerRound = 5 } = options;
  const folder = mkdtempSync(join(tmpdir(), 'bench-dns-'));
  const [load = 0] = loadavg();
  console.log(
    `load average ${load.toFixed(1)} on ${availableParallelism()} cores: figures of a busy machine mean little`,
  );
  const servers: Server[] = [];
  try {
    const queries = join(folder, 'queries');
    writeFileSync(
      queries,
      Array.from({ length: services }, (_, i) => `${serviceName((i * 7919) % services)} A\n`).join(''),
    );
    servers.push(await startOwn(services));
    const unbound = await startUnbound(folder, services);
    if (unbound === undefined) console.log('no unbound found: cluster DNS alone is measured');
    else servers.push(unbound);
    const full = new Map<Server, Load[]>();
    const steady = new Map<Server, Load[]>();
    for (let round = 0; round < rounds; round++)
      for (const server of servers) {
        append(full, server, await measure(server, queries, secondsPerRound, undefined));
        append(steady, server, await measure(server, queries, secondsPerRound, RATE));
      }
    console.log(`${services} services, answers over UDP, median of ${rounds} rounds of ${secondsPerRound} s`);
    for (const server of servers) {
      const at = (of: Map<Server, Load[]>, figure: keyof Load): number =>
        median(of.get(server)!.map((l) => l[figure]));
      console.log(
        `  ${server.name.padEnd(12)} ${Math.round(at(full, 'perSecond'))}/s at full load, ` +
          `${Math.round(at(full, 'perCoreSecond'))}/s and core; ` +
          `at ${RATE}/s: p50 ${at(steady, 'p50').toFixed(2)} ms, p99 ${at(steady, 'p99').toFixed(2)} ms, ` +
          `${Math.round(at(steady, 'lost'))} lost`,
      );
    }
    const own = servers[0]!;
    const perCore = median(full.get(own)!.map((l) => l.perCoreSecond));
    const p99 = median(steady.get(own)!.map((l) => l.p99));
    printBar(
      `${Math.round(perCore)} answers a second and core`,
      `at least ${BAR_PER_CORE}`,
      perCore >= BAR_PER_CORE,
    );
    printBar(`p99 ${p99.toFixed(2)} ms at ${RATE}/s`, `at most ${BAR_P99_MS} ms`, p99 <= BAR_P99_MS);
    if (unbound !== undefined) {
      const ratio = perCore / median(full.get(unbound)!.map((l) => l.perCoreSecond));
      console.log(`  ${ratio.toFixed(2)} × unbound a core`);
    }
  } finally {
    for (const server of servers) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startOwn(services: number): Promise<Server> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'server.ts'), String(services)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('exit', () => reject(new Error('the server ended before it could be asked')));
  });
  const { port }: { port: number } = JSON.parse(line);
  return {
    name: 'cluster DNS',
    port,
    pid: child.pid!,
    async stop() {
      const ended = exit(child);
      child.stdin.end();
      await ended;
    },
  };
}

async function startUnbound(folder: string, services: number): Promise<Server | undefined> {
  const program = ['/usr/sbin/unbound', '/usr/bin/unbound'].find((path) => {
    try {
      execFileSync(path, ['-V'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
  if (program === undefined) return undefined;
  const port = await freePort();
  const config = join(folder, 'unbound.conf');
  writeFileSync(
    config,
    [
      'server:',
      '  num-threads: 1',
      '  interface: 127.0.0.1',
      `  port: ${port}`,
      '  chroot: ""',
      '  username: ""',
      `  directory: "${folder}"`,
      '  pidfile: ""',
      '  use-syslog: no',
      `  logfile: "${join(folder, 'unbound.log')}"`,
      '  do-ip6: no',
      '  access-control: 127.0.0.0/8 allow',
      '  module-config: "iterator"',
      '  local-zone: "cluster.local." static',
      ...Array.from(
        { length: services },
        (_, i) => `  local-data: "${serviceName(i)}. 30 IN A ${serviceAddress(i)}"`,
      ),
      'remote-control:',
      '  control-enable: no',
      '',
    ].join('\n'),
  );
  const child = spawn(program, ['-d', '-c', config], { stdio: ['ignore', 'ignore', 'inherit'] });
  await answers(child, port);
  return {
    name: 'unbound',
    port,
    pid: child.pid!,
    async stop() {
      const ended = exit(child);
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Asks until somebody answers. */
async function answers(child: ChildProcess, port: number): Promise<void> {
  const socket = createSocket('udp4');
  try {
    const answered = new Promise<void>((resolve) => socket.once('message', () => resolve()));
    const query = Buffer.from('000001000001000000000000', 'hex');
    const name = Buffer.from(`\x07cluster\x05local\0\0\x06\0\x01`, 'latin1');
    let done = false;
    void answered.then(() => {
      done = true;
    });
    for (let tries = 0; !done; tries++) {
      if (tries > 200 || child.exitCode !== null) throw new Error('unbound does not answer');
      socket.send(Buffer.concat([query, name]), port, '127.0.0.1');
      await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 50))]);
    }
  } finally {
    socket.close();
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

async function measure(
  server: Server,
  queries: string,
  seconds: number,
  rate: number | undefined,
): Promise<Load> {
  const before = cpuSeconds(server.pid);
  const output = await dnsperf([
    ...['-s', '127.0.0.1', '-p', String(server.port), '-d', queries, '-l', String(seconds)],
    // Few on their way at once: after a pause dnsperf sends at once all that its rate has made up for.
    ...['-c', '8', '-q', rate === undefined ? '100' : '32'],
    ...(rate === undefined ? [] : ['-Q', String(rate)]),
    // Each answer with its time, where times are what is wanted: printing them costs dnsperf some of its speed.
    ...(rate === undefined ? [] : ['-v']),
  ]);
  const used = cpuSeconds(server.pid) - before;
  const figure = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const completed = figure(/Queries completed:\s+(\d+)/);
  const latencies = Float64Array.from(
    output.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm),
    ([, latency]) => 1000 * Number(latency),
  ).sort();
  const percentile = (part: number): number => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  return {
    perSecond: figure(/Queries per second:\s+([\d.]+)/),
    perCoreSecond: completed / used,
    p50: percentile(0.5),
    p99: percentile(0.99),
    lost: figure(/Queries lost:\s+(\d+)/),
  };
}

async function dnsperf(words: readonly string[]): Promise<string> {
  const child = spawn('dnsperf', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await exit(child);
  if (code !== 0) throw new Error(`dnsperf ended with ${code}`);
  return Buffer.concat(chunks).toString();
}

async function exit(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}

/** Time of the processor that the process used, in user and kernel. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  map.set(key, [...(map.get(key) ?? []), value]);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function printBar(measured: string, bar: string, reached: boolean): void {
  console.log(`  ${reached ? 'reached' : 'MISSED '}  ${measured} (to reach: ${bar})`);
}

if (import.meta.main) await run();
