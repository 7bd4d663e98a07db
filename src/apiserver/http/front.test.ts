import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import { before, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { silentLogger } from '../../component/index.ts';
import { type TestAuthority, type TestKeyPair, testAuthority } from '../testing/certificates.ts';
import type { Exchange } from './exchange.ts';
import { type Front, openFront } from './front.ts';

let authority: TestAuthority;
let admin: TestKeyPair;
let server: TestKeyPair;

before(async () => {
  authority = await testAuthority();
  [admin, server] = await Promise.all([
    authority.client('admin', ['system:masters', 'other']),
    authority.server(),
  ]);
});

async function openTestFront(onExchange: (exchange: Exchange) => void): Promise<Front> {
  return openFront({
    host: '127.0.0.1',
    port: 0,
    certificate: server.certificate,
    key: server.key,
    clientCa: authority.certificate,
    logger: silentLogger,
    onExchange,
    onUpgrade: ({ socket }) => socket.destroy(),
  });
}

function http2Client(front: Front, pair?: TestKeyPair): ClientHttp2Session {
  return connectHttp2(`https://127.0.0.1:${front.address.port}`, {
    ca: authority.certificate,
    ...(pair ? { cert: pair.certificate, key: pair.key } : {}),
  });
}

async function http2Call(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<{ status: number; body: string }> {
  const stream = session.request(headers, { endStream: body === undefined });
  const [head] = await Promise.all([once(stream, 'response'), body && stream.end(body)]);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return {
    status: Number((head[0] as Record<string, unknown>)[':status']),
    body: Buffer.concat(chunks).toString(),
  };
}

function http1Call(
  front: Front,
  options: { method?: string; path?: string; body?: Buffer; pair?: TestKeyPair },
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: '127.0.0.1',
        port: front.address.port,
        ca: authority.certificate,
        method: options.method ?? 'GET',
        path: options.path ?? '/',
        agent: false,
        ...(options.pair ? { cert: options.pair.certificate, key: options.pair.key } : {}),
      },
      async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk as Buffer);
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

/** Answers with what it saw. */
function echo(exchange: Exchange): void {
  exchange.body(1024).then(
    (body) =>
      exchange.respond(200, { 'content-type': 'application/json' }, [
        Buffer.from(
          JSON.stringify({
            protocol: exchange.protocol,
            method: exchange.method,
            target: exchange.target,
            body: body.toString(),
            user: exchange.peer.clientCertificate?.commonName,
            groups: exchange.peer.clientCertificate?.organizations,
            problem: exchange.peer.certificateProblem !== undefined,
          }),
        ),
      ]),
    (error: Error & { code?: number }) =>
      exchange.respond(error.code ?? 500, {}, [Buffer.from(error.message)]),
  );
}

test('HTTP/1.1 and HTTP/2 requests come in as the same kind of exchange, with the client certificate', async () => {
  const front = await openTestFront(echo);
  const session = http2Client(front, admin);
  const expected = {
    method: 'POST',
    target: '/a/b?c=d',
    body: 'hello',
    user: 'admin',
    groups: ['system:masters', 'other'],
    problem: false,
  };
  const two = await http2Call(session, { ':method': 'POST', ':path': '/a/b?c=d' }, Buffer.from('hello'));
  assert.deepEqual(JSON.parse(two.body), { protocol: 'HTTP/2', ...expected });
  const one = await http1Call(front, {
    method: 'POST',
    path: '/a/b?c=d',
    body: Buffer.from('hello'),
    pair: admin,
  });
  assert.deepEqual(JSON.parse(one.body), { protocol: 'HTTP/1.1', ...expected });
  session.close();
  await front.close(1_000);
});

test('a certificate of another authority is a problem of the peer, no broken handshake', async () => {
  const front = await openTestFront(echo);
  const stranger = await (await testAuthority('other-ca')).client('admin', ['system:masters']);
  const answer = await http1Call(front, { pair: stranger });
  const seen = JSON.parse(answer.body) as { user?: string; problem: boolean };
  assert.equal(seen.user, undefined);
  assert.equal(seen.problem, true);
  await front.close(1_000);
});

test('a certificate counts until it expires, on a connection that lives longer too', async (context) => {
  const front = await openTestFront(echo);
  const session = http2Client(front, admin);
  const seen = async (): Promise<unknown> => {
    const { user, problem } = JSON.parse((await http2Call(session, { ':path': '/' })).body);
    return { user, problem };
  };
  assert.deepEqual(await seen(), { user: 'admin', problem: false });
  context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 25 * 3_600_000 });
  assert.deepEqual(await seen(), { user: undefined, problem: true });
  session.close();
  await front.close(1_000);
});

test('a body beyond the limit is answered with 413 in both protocols and the server goes on', async () => {
  const front = await openTestFront(echo);
  const session = http2Client(front);
  const big = Buffer.alloc(200_000, 'x');
  assert.equal((await http2Call(session, { ':method': 'POST', ':path': '/' }, big)).status, 413);
  assert.equal((await http2Call(session, { ':path': '/' })).status, 200);
  assert.equal((await http1Call(front, { method: 'POST', body: big })).status, 413);
  assert.equal((await http1Call(front, {})).status, 200);
  session.close();
  await front.close(1_000);
});

test('garbage instead of HTTP closes that connection and no other', async () => {
  const front = await openTestFront(echo);
  const socket = connectTls({ host: '127.0.0.1', port: front.address.port, ca: authority.certificate });
  await once(socket, 'secureConnect');
  socket.write('\x00\x01\x02 not http at all\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  assert.match(Buffer.concat(chunks).toString(), /^HTTP\/1\.1 400 /);
  assert.equal((await http1Call(front, {})).status, 200);
  await front.close(1_000);
});

test('close waits for answers under way and cuts those that do not end in time', async () => {
  const exchanges: Exchange[] = [];
  const arrived = Promise.withResolvers<void>();
  const front = await openTestFront((exchange) => {
    exchanges.push(exchange);
    if (exchanges.length === 2) arrived.resolve();
  });
  const session = http2Client(front);
  session.on('error', () => {});
  const stuck = session.request({ ':path': '/stuck' });
  stuck.on('error', () => {});
  const stuckClosed = once(stuck, 'close');
  const good = http1Call(front, { path: '/good' });
  await arrived.promise;
  const closing = front.close(300);
  const byTarget = exchanges.find((e) => e.target === '/good')!;
  byTarget.respond(200, {}, [Buffer.from('done')]);
  assert.equal((await good).body, 'done');
  await closing;
  await stuckClosed;
  assert.ok(exchanges.find((e) => e.target === '/stuck')!.closed);
});

test('close does not wait for connections that were kept alive', async () => {
  const waiting: Exchange[] = [];
  const arrived = Promise.withResolvers<void>();
  const front = await openTestFront((exchange) => {
    if (exchange.target === '/slow') {
      waiting.push(exchange);
      arrived.resolve();
    } else exchange.respond(200, {}, []);
  });
  const agent = new Agent({ keepAlive: true, ca: authority.certificate });
  const call = (path: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const request = httpsRequest(
        { host: '127.0.0.1', port: front.address.port, path, agent },
        (response) => {
          response.resume();
          response.once('end', () => resolve(response.statusCode ?? 0));
        },
      );
      request.once('error', reject);
      request.end();
    });
  await call('/quick');
  const slow = call('/slow');
  await arrived.promise;
  const begun = performance.now();
  const closed = front.close(30_000);
  waiting[0]!.respond(200, {}, [Buffer.from('x')]);
  assert.equal(await slow, 200);
  await closed;
  assert.ok(performance.now() - begun < 10_000);
  agent.destroy();
});
