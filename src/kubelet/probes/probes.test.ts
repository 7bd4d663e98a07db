import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { test } from 'node:test';
import type { Container, Pod, Probe } from '../../api/types/core-v1.ts';
import { ManualClock, silentLogger, systemClock } from '../../component/index.ts';
import type { NodeEvents } from '../events.ts';
import type { ProbeAnswer } from '../host/host.ts';
import type { ContainerRecord, PodRuntimeState } from '../runtime-state.ts';
import { eventually } from '../testing/node.ts';
import { probeGrpc } from './grpc.ts';
import { httpUrl, probeHttp } from './http.ts';
import { ProbeManager } from './manager.ts';
import { resolvePort } from './ports.ts';
import { deadline } from './prober.ts';
import { probeTcp } from './tcp.ts';

const container: Container = { name: 'web', ports: [{ name: 'http', containerPort: 8080 }] };
const never = new AbortController().signal;

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

test('an HTTP probe succeeds from 200 to 399 and says the code otherwise', async () => {
  let status = 200;
  const seen: IncomingMessage['headers'][] = [];
  await using server = await listen((request, response) => {
    seen.push(request.headers);
    response.writeHead(status).end('body');
  });
  const probe = (extra = {}): Promise<ProbeAnswer> =>
    probeHttp({ port: server.port, path: '/ok?x=1', ...extra }, container, '127.0.0.1', never);
  assert.deepEqual(await probe(), { verdict: 'success', output: 'body' });
  assert.equal(seen[0]!['user-agent'], 'kube-probe/1.36');
  status = 399;
  assert.equal((await probe()).verdict, 'success');
  status = 503;
  assert.deepEqual(await probe(), { verdict: 'failure', output: 'HTTP probe failed with statuscode: 503' });
  await probe({
    httpHeaders: [
      { name: 'Host', value: 'example.com' },
      { name: 'X-A', value: '1' },
      { name: 'User-Agent', value: 'mine' },
    ],
  });
  assert.equal(seen.at(-1)!.host, 'example.com');
  assert.equal(seen.at(-1)!['x-a'], '1');
  assert.equal(seen.at(-1)!['user-agent'], 'mine');
});

test('redirects are followed on the same host only, and not for ever', async () => {
  await using server = await listen((request, response) => {
    if (request.url === '/local') response.writeHead(302, { location: '/end' }).end();
    else if (request.url === '/away')
      response.writeHead(302, { location: 'http://other.example/' }).end('gone');
    else if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end();
    else response.writeHead(200).end('end');
  });
  const probe = (path: string): Promise<ProbeAnswer> =>
    probeHttp({ port: server.port, path }, container, '127.0.0.1', never);
  assert.deepEqual(await probe('/local'), { verdict: 'success', output: 'end' });
  assert.equal((await probe('/away')).verdict, 'success');
  assert.match((await probe('/away')).output, /^Probe terminated redirects/);
  const loop = await probe('/loop');
  assert.equal(loop.verdict, 'failure');
  assert.match(loop.output, /stopped after 10 redirects/);
});

test('an HTTP probe that gets no answer in time, and one that is refused, say so', async () => {
  await using server = await listen(() => {});
  using limit = deadline(systemClock, 50);
  const slow = await probeHttp({ port: server.port }, container, '127.0.0.1', limit.signal);
  assert.equal(
    slow.output,
    `Get "http://127.0.0.1:${server.port}/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
  );
  const refused = await probeHttp({ port: 1, path: '/x' }, container, '127.0.0.1', never);
  assert.deepEqual(refused, {
    verdict: 'failure',
    output: 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused',
  });
});

test('ports go by number or by name, and a name that is not there is an error', () => {
  assert.equal(resolvePort('http', container), 8080);
  assert.equal(resolvePort('9090', container), 9090);
  assert.throws(() => resolvePort('https', container), /couldn't find port/);
  assert.throws(() => resolvePort(70000, container), /invalid port number/);
  assert.equal(
    httpUrl({ port: 'http', path: 'a b?q=1#f', scheme: 'HTTPS' }, container, 'fd00::1').href,
    'https://[fd00::1]:8080/a%20b?q=1',
  );
});

test('a TCP probe asks only whether the port is open', async () => {
  const server = createTcpServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  assert.deepEqual(await probeTcp({ port }, container, '127.0.0.1', never), {
    verdict: 'success',
    output: '',
  });
  await new Promise<void>((resolve) => server.close(() => resolve()));
  assert.deepEqual(await probeTcp({ port }, container, '127.0.0.1', never), {
    verdict: 'failure',
    output: `dial tcp 127.0.0.1:${port}: connect: connection refused`,
  });
});

test('a gRPC probe checks the health service', async () => {
  const requests: string[] = [];
  const server = createHttp2Server();
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const body: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => body.push(chunk));
    stream.on('end', () => {
      const service = Buffer.concat(body).subarray(7).toString();
      requests.push(`${headers[':path']} ${service}`);
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () =>
        stream.sendTrailers(
          service === 'none' ? { 'grpc-status': '12', 'grpc-message': 'no%20such' } : { 'grpc-status': '0' },
        ),
      );
      if (service === 'none') stream.end();
      else stream.end(Buffer.from(service === 'sick' ? '00000000020802' : '00000000020801', 'hex'));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    assert.equal((await probeGrpc({ port, service: 'well' }, '127.0.0.1', never)).verdict, 'success');
    assert.deepEqual(await probeGrpc({ port, service: 'sick' }, '127.0.0.1', never), {
      verdict: 'failure',
      output: 'service unhealthy (responded with "NOT_SERVING")',
    });
    assert.match(
      (await probeGrpc({ port, service: 'none' }, '127.0.0.1', never)).output,
      /does not implement the grpc health protocol.*: no such$/,
    );
    assert.equal(requests[0], '/grpc.health.v1.Health/Check well');
    assert.match((await probeGrpc({ port: 1 }, '127.0.0.1', never)).output, /connection refused/);
  } finally {
    for (const session of sessions) session.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
});

interface Bench {
  readonly clock: ManualClock;
  readonly manager: ProbeManager;
  readonly events: string[];
  readonly runs: string[];
  verdict: 'success' | 'failure' | 'error';
  changes: number;
  follow(): void;
}

function bench(probes: Partial<Pick<Container, 'livenessProbe' | 'readinessProbe' | 'startupProbe'>>): Bench {
  const clock = new ManualClock(1_000_000);
  const events: string[] = [];
  const runs: string[] = [];
  const kind = new Map<Probe, string>();
  for (const [name, probe] of Object.entries(probes)) kind.set(probe, name.replace('Probe', ''));
  const manager = new ProbeManager({
    clock,
    logger: silentLogger,
    events: {
      container: (_pod, _member, _type, reason, message) => events.push(`${reason}: ${message}`),
    } as Pick<NodeEvents, 'container'> as NodeEvents,
    prober: {
      async probe(_target, probe) {
        runs.push(kind.get(probe)!);
        if (self.verdict === 'error') throw new Error('no runtime');
        return { verdict: self.verdict, output: 'because' };
      },
    },
    onChange: () => self.changes++,
  });
  const pod = {
    metadata: { name: 'p', namespace: 'n', uid: 'u', resourceVersion: '1', creationTimestamp: '' },
    spec: { containers: [{ name: 'web', ...probes }] },
    status: {},
  } as Pod;
  const record = { id: 'c1', name: 'web', state: 'RUNNING', startedAt: clock.now() } as ContainerRecord;
  const state: PodRuntimeState = { sandboxes: [], containers: [record] };
  const self: Bench = {
    clock,
    manager,
    events,
    runs,
    verdict: 'success',
    changes: 0,
    follow: () => manager.follow(pod, state, 'x', '127.0.0.1'),
  };
  return self;
}

test('readiness waits for its delay, its thresholds, and comes back', async () => {
  const probe: Probe = {
    httpGet: { port: 1 },
    initialDelaySeconds: 5,
    periodSeconds: 2,
    failureThreshold: 2,
    successThreshold: 2,
  };
  const b = bench({ readinessProbe: probe });
  b.follow();
  const ready = (): boolean | undefined => b.manager.ready({ name: 'web', readinessProbe: probe }, 'c1');
  assert.equal(ready(), false);
  await b.clock.advance(4999);
  assert.equal(b.runs.length, 0);
  await b.clock.advance(1);
  assert.equal(b.runs.length, 1);
  assert.equal(ready(), false);
  await b.clock.advance(2000);
  assert.equal(ready(), true);
  b.verdict = 'failure';
  await b.clock.advance(2000);
  assert.equal(ready(), true);
  await b.clock.advance(2000);
  assert.equal(ready(), false);
  assert.deepEqual(b.events, [
    'Unhealthy: Readiness probe failed: because',
    'Unhealthy: Readiness probe failed: because',
  ]);
  b.verdict = 'success';
  await b.clock.advance(4000);
  assert.equal(ready(), true);
  assert.equal(b.changes, 3);
  b.manager.stop();
});

test('who was asked too early whether it is ready is asked again after a second, and then each period', async () => {
  const probe: Probe = { httpGet: { port: 1 }, periodSeconds: 10 };
  const b = bench({ readinessProbe: probe });
  const runsAfter = async (ms: number): Promise<number> => {
    await b.clock.advance(ms);
    return b.runs.length;
  };
  b.verdict = 'failure';
  b.follow();
  assert.equal(await runsAfter(0), 1);
  assert.equal(await runsAfter(999), 1);
  assert.equal(await runsAfter(1), 2);
  assert.equal(await runsAfter(8999), 2);
  assert.equal(await runsAfter(1), 3);
  assert.equal(await runsAfter(9999), 3);
  assert.equal(await runsAfter(1), 4);
  b.manager.stop();
  for (const other of [
    { readinessProbe: { ...probe, initialDelaySeconds: 2 } },
    { livenessProbe: probe },
    { startupProbe: probe },
  ]) {
    const c = bench(other);
    c.verdict = 'failure';
    c.follow();
    await c.clock.advance(2000);
    await c.clock.advance(9999);
    assert.equal(c.runs.length, 'readinessProbe' in other ? 1 : 2, JSON.stringify(other));
    c.manager.stop();
  }
});

test('liveness fails after its threshold and is not asked again', async () => {
  const b = bench({ livenessProbe: { httpGet: { port: 1 }, periodSeconds: 1, failureThreshold: 3 } });
  b.follow();
  assert.equal(b.manager.liveness('c1'), 'success');
  b.verdict = 'failure';
  await b.clock.advance(2000);
  assert.equal(b.manager.liveness('c1'), 'failure');
  const { length } = b.runs;
  await b.clock.advance(10_000);
  assert.equal(b.runs.length, length);
  b.manager.stop();
});

test('nothing else is probed before the startup probe has succeeded', async () => {
  const b = bench({
    startupProbe: { httpGet: { port: 1 }, periodSeconds: 1, failureThreshold: 30 },
    livenessProbe: { httpGet: { port: 2 }, periodSeconds: 1 },
    readinessProbe: { httpGet: { port: 3 }, periodSeconds: 1 },
  });
  b.verdict = 'failure';
  b.follow();
  await b.clock.advance(5000);
  assert.deepEqual([...new Set(b.runs)], ['startup']);
  b.verdict = 'success';
  await b.clock.advance(1000);
  assert.equal(b.manager.startup('c1'), 'success');
  await b.clock.advance(1000);
  assert.deepEqual([...new Set(b.runs)].sort(), ['liveness', 'readiness', 'startup']);
  b.manager.stop();
});

test('a probe that cannot be run says nothing about the container', async () => {
  const b = bench({ livenessProbe: { httpGet: { port: 1 }, periodSeconds: 1, failureThreshold: 1 } });
  b.verdict = 'error';
  b.follow();
  await b.clock.advance(0);
  await eventually(() =>
    assert.deepEqual(b.events, [
      'Unhealthy: Liveness probe errored and resulted in unknown state: no runtime',
    ]),
  );
  assert.equal(b.manager.liveness('c1'), 'success');
  b.manager.stop();
});
