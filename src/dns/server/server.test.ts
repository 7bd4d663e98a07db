// The server's edge: hostile packets over UDP, slow and greedy clients over TCP, starting and stopping.

import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { createClient } from '../../client/index.ts';
import { eventually } from '../../client/testing/eventually.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { silentLogger, systemClock } from '../../component/index.ts';
import { startClusterDns } from '../cluster-dns.ts';
import { FLAG, RCODE, TYPE } from '../message/constants.ts';
import { decodeMessage } from '../message/decode.ts';
import { encodeMessage, encodeQuery } from '../message/encode.ts';
import { parseName } from '../message/name.ts';
import { DnsMetrics } from '../metrics.ts';
import {
  type DnsFixture,
  exchange,
  exchangeUdp,
  framed,
  HTTP_PORT,
  lines,
  startDnsFixture,
  udpClient,
} from '../testing/dns-fixture.ts';
import { LOOPBACK, startFakeUpstream } from '../testing/fake-upstream.ts';
import { mutated, randomBytes, randomMessage, sequence } from '../testing/random-messages.ts';
import { listenTcp } from './tcp-listener.ts';

let fixture: DnsFixture;
const NAME = 'web.ns.svc.cluster.local';
const WEB = ['NOERROR', `${NAME}. 30 IN A 10.96.0.1`];

before(async () => {
  fixture = await startDnsFixture({ http: { address: LOOPBACK, port: 0 } });
  await fixture.namespace('ns');
  await fixture.service('ns/web', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ports: HTTP_PORT });
  await eventually('it is known', async () => (await fixture.ask(NAME, 'A')).length > 1);
});

after(() => fixture[Symbol.asyncDispose]());

const query = encodeQuery(0x1234, parseName(NAME), TYPE.A, { edns: { udpBytes: 4096 } });

function changed(at: number, ...bytes: number[]): Buffer {
  const copy = Buffer.from(query);
  copy.set(bytes, at);
  return copy;
}

test('hostile packets are answered with a code or not at all, and the server goes on', {
  timeout: 60_000,
}, async () => {
  const random = sequence(5);
  let answered = 0;
  await using client = await udpClient(fixture.port, (bytes) => {
    answered++;
    // Whatever comes back is a DNS message and an answer.
    assert.notEqual(decodeMessage(bytes).flags & FLAG.QR, 0);
  });
  for (let i = 0; i < 20_000; i++) {
    const kind = random(5);
    const packet =
      kind === 0
        ? randomBytes(random, random(100))
        : kind === 1
          ? mutated(random, encodeMessage(randomMessage(random)))
          : kind === 2
            ? encodeMessage({ ...randomMessage(random), flags: 0, opcode: 0 })
            : mutated(random, query);
    client.send(packet);
    if (i % 200 === 0) assert.deepEqual(await fixture.ask(NAME, 'A'), WEB);
  }
  assert.ok(answered > 1000);
  assert.deepEqual(await fixture.ask(NAME, 'A'), WEB);
});

test('answers sent as queries, and packets without a header, get silence', async () => {
  const seen: number[] = [];
  await using client = await udpClient(fixture.port, (bytes) => seen.push(bytes.readUInt16BE(0)));
  for (const packet of [changed(2, 0x84), changed(2, 0xff), Buffer.alloc(0), query.subarray(0, 11)])
    client.send(packet);
  const last = Buffer.from(query);
  last.writeUInt16BE(0x9999, 0);
  client.send(last);
  await eventually('the last is answered', () => seen.includes(0x9999));
  assert.deepEqual(seen, [0x9999]);
});

test('what cannot be answered is told by its code', async () => {
  const rcode = async (packet: Buffer): Promise<number> => (await exchange(fixture.port, packet)).rcode;
  assert.equal(await rcode(changed(4, 0, 0)), RCODE.FORMERR);
  assert.equal(await rcode(changed(4, 0, 2)), RCODE.FORMERR);
  assert.equal(await rcode(query.subarray(0, query.length - 3)), RCODE.FORMERR);
  assert.equal(await rcode(changed(2, 0x28)), RCODE.NOTIMP);
  const versionOne = await exchange(fixture.port, changed(query.length - 5, 1));
  assert.deepEqual([versionOne.rcode, versionOne.edns?.version], [RCODE.BADVERS, 0]);
  // Another class: version.bind and the like.
  assert.equal(await rcode(changed(query.length - 12, 3)), RCODE.REFUSED);
  const header = await exchangeUdp(fixture.port, changed(4, 0, 2));
  assert.deepEqual([header.length, header.readUInt16BE(0)], [12, 0x1234]);
});

test('EDNS is answered with EDNS and its absence with absence', async () => {
  const without = await fixture.query(NAME, 'A');
  assert.equal(without.edns, undefined);
  const withIt = await fixture.query(NAME, 'A', { edns: { udpBytes: 100, dnssecOk: true } });
  assert.deepEqual([withIt.edns?.udpBytes, withIt.edns?.flags, withIt.edns?.version], [1232, 0x8000, 0]);
  // A cookie (RFC 7873) is an option that may be ignored.
  const message = decodeMessage(query);
  const cookie = Buffer.from('000a00081122334455667788', 'hex');
  const answer = await exchange(
    fixture.port,
    encodeMessage({ ...message, edns: { ...message.edns!, options: cookie } }),
  );
  assert.deepEqual([lines(answer), answer.edns?.options.length], [WEB, 0]);
});

test('a long answer is cut at what the client takes, and whole over TCP', async () => {
  const count = 300;
  await fixture.service('ns/many', { clusterIP: 'None', clusterIPs: ['None'], ports: HTTP_PORT });
  for (let part = 0; part < 3; part++)
    await fixture.slice(
      'ns/many',
      Array.from({ length: 100 }, (_, i) => ({ addresses: [`10.244.${part}.${i + 1}`] })),
      { name: `many-${part}` },
    );
  const many = 'many.ns.svc.cluster.local';
  await eventually(
    'all are known',
    async () => (await fixture.query(many, 'A', { tcp: true })).answers.length === count,
  );
  for (const [edns, least, most] of [
    [undefined, 480, 512],
    [512, 480, 512],
    [1000, 960, 1000],
    [65_535, 1200, 1232],
  ] as const) {
    const ask = encodeQuery(
      1,
      parseName(many),
      TYPE.A,
      edns === undefined ? {} : { edns: { udpBytes: edns } },
    );
    const bytes = await exchangeUdp(fixture.port, ask);
    assert.ok(bytes.length >= least && bytes.length <= most, `${bytes.length} for ${edns}`);
    const message = decodeMessage(bytes);
    assert.notEqual(message.flags & FLAG.TC, 0);
    assert.ok(message.answers.every(({ data }) => data[0]!.length === 4));
  }
  const srv = decodeMessage(
    await exchangeUdp(fixture.port, encodeQuery(1, parseName(many), TYPE.SRV, { edns: { udpBytes: 1232 } })),
  );
  assert.notEqual(srv.flags & FLAG.TC, 0);
  // Every address has its turn, even where they do not all fit.
  const seen = new Set<string>();
  for (let i = 0; i < count; i++)
    for (const { data } of (await fixture.query(many, 'A')).answers)
      seen.add(Buffer.from(data[0] as Uint8Array).toString('hex'));
  assert.equal(seen.size, count);
});

// ---- TCP ----

interface TcpClient extends AsyncDisposable {
  readonly socket: Socket;
  /** Whole messages, without their lengths. */
  received(): Buffer[];
  closed(): boolean;
}

async function connected(port = fixture.port): Promise<TcpClient> {
  const socket = connect(port, LOOPBACK);
  let bytes = Buffer.alloc(0);
  let closed = false;
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  return {
    socket,
    received: () => {
      const messages: Buffer[] = [];
      for (let at = 0; at + 2 <= bytes.length && at + 2 + bytes.readUInt16BE(at) <= bytes.length; ) {
        messages.push(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at)));
        at += 2 + bytes.readUInt16BE(at);
      }
      return messages;
    },
    closed: () => closed,
    async [Symbol.asyncDispose]() {
      socket.destroy();
    },
  };
}

test('many queries on one connection, in pieces of any size, are all answered', async () => {
  const random = sequence(6);
  await using client = await connected();
  const { socket, received } = client;
  const all = Buffer.concat(
    Array.from({ length: 500 }, (_, id) => framed(encodeQuery(id, parseName(NAME), TYPE.A))),
  );
  for (let at = 0; at < all.length; ) {
    const size = 1 + random(300);
    socket.write(all.subarray(at, at + size));
    at += size;
    if (random(5) === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await eventually('all are answered', () => received().length === 500);
  assert.deepEqual(new Set(received().map((bytes) => bytes.readUInt16BE(0))).size, 500);
});

test('a client that ends its side still has its answers, then the end', async () => {
  await using client = await connected();
  const { socket, received, closed } = client;
  socket.end(Buffer.concat([framed(query), framed(query)]));
  await eventually('the connection ends', closed);
  assert.equal(received().length, 2);
});

test('what is no DNS ends the connection', async () => {
  await using client = await connected();
  const { socket, closed } = client;
  socket.write(Buffer.from('0003474554', 'hex'));
  await eventually('it is closed', closed);
});

test('a quick answer overtakes a slow one on the same connection', async () => {
  const gate = Promise.withResolvers<void>();
  await using upstream = await startFakeUpstream(async () => {
    await gate.promise;
    return { rcode: RCODE.NXDOMAIN };
  });
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  await using client = await connected(dns.port);
  const { socket, received } = client;
  socket.write(
    Buffer.concat([
      framed(encodeQuery(1, parseName('slow.example'), 1)),
      framed(encodeQuery(2, parseName('cluster.local'), 1)),
    ]),
  );
  await eventually('the second is answered', () => received().length === 1);
  assert.equal(received()[0]!.readUInt16BE(0), 2);
  gate.resolve();
  await eventually('the first is answered', () => received().length === 2);
});

test('connections that do nothing, drip or do not read are closed; there is a limit to those of one address', async () => {
  const metrics = new DnsMetrics();
  await using listener = await listenTcp({
    address: LOOPBACK,
    port: 0,
    clock: systemClock,
    logger: silentLogger,
    idleMs: 300,
    metrics: () => metrics.listener('dns://test', 'tcp', '1'),
    responder: {
      receive(_packet, _udp, _metrics, reply) {
        reply(Buffer.alloc(60_000));
        return true;
      },
    },
  });
  await using idle = await connected(listener.port);
  await using dripping = await connected(listener.port);
  const drip = setInterval(() => dripping.socket.write(Buffer.from([0])), 50);
  dripping.socket.write(Buffer.from('ffff', 'hex'));
  await using greedy = await connected(listener.port);
  greedy.socket.pause();
  const questions = Buffer.concat(Array.from({ length: 2000 }, () => framed(query)));
  greedy.socket.write(questions);
  await eventually('all are closed', () => idle.closed() && dripping.closed() && listener.connections === 0);
  clearInterval(drip);
  greedy.socket.destroy();
  const many = await Promise.all(Array.from({ length: 230 }, () => connected(listener.port)));
  await eventually(
    'those beyond the limit are closed',
    () => many.filter(({ closed }) => closed()).length >= 30,
  );
  for (const { socket } of many) socket.destroy();
  await eventually('none is left', () => listener.connections === 0);
});

// ---- the whole ----

test('before the zone is known its names get SERVFAIL, and ready waits', async () => {
  const api = new FakeApi();
  const gate = Promise.withResolvers<void>();
  api.intercept = async (call) => {
    if (call.verb === 'list' || call.verb === 'watch') await gate.promise;
    return undefined;
  };
  await using client = createClient(api);
  await using dns = await startClusterDns({
    client,
    nodeName: 'node',
    listen: [{ address: LOOPBACK, port: 0 }],
    clusterDomain: 'cluster.local',
    reverseRanges: ['10.96.0.0/12'],
    http: { address: LOOPBACK, port: 0 },
  });
  const { port } = dns.addresses[0]!;
  const ask = async (name: string) => lines(await exchange(port, encodeQuery(1, parseName(name), TYPE.A)));
  const probe = async (path: string) => (await fetch(`http://${LOOPBACK}:${dns.http!.port}${path}`)).status;
  assert.deepEqual(await ask('kubernetes.default.svc.cluster.local'), ['SERVFAIL']);
  assert.deepEqual(await ask('1.0.96.10.in-addr.arpa'), ['SERVFAIL']);
  assert.deepEqual([await probe('/health'), await probe('/ready')], [200, 503]);
  gate.resolve();
  await dns.ready;
  assert.deepEqual(await ask('kubernetes.default.svc.cluster.local'), ['NXDOMAIN']);
  assert.equal(await probe('/ready'), 200);
});

test('while the API server is away, what was known is answered', async () => {
  fixture.api.intercept = () => {
    throw new Error('away');
  };
  fixture.api.dropWatches();
  try {
    for (let i = 0; i < 20; i++) assert.deepEqual(await fixture.ask(NAME, 'A'), WEB);
    assert.deepEqual(await fixture.ask(NAME, 'SRV'), ['NOERROR', `${NAME}. 30 IN SRV 0 100 80 ${NAME}.`]);
  } finally {
    fixture.api.intercept = undefined;
  }
});

test('UDP and TCP share a port that is chosen, and a taken one is an error that leaves nothing open', async () => {
  assert.deepEqual(await fixture.ask(NAME, 'A', { tcp: true }), WEB);
  await assert.rejects(
    startDnsFixture({
      listen: [
        { address: LOOPBACK, port: 0 },
        { address: LOOPBACK, port: fixture.port },
      ],
    }),
    { code: 'EADDRINUSE' },
  );
  // A TCP port of its own does not make the UDP one of the same number ours.
  const tcpOnly = await startFakeUpstream(() => []);
  await assert.rejects(startDnsFixture({ listen: [{ address: LOOPBACK, port: tcpOnly.port }] }), {
    code: 'EADDRINUSE',
  });
  await tcpOnly[Symbol.asyncDispose]();
  await using again = await startDnsFixture({ listen: [{ address: LOOPBACK, port: tcpOnly.port }] });
  assert.equal(again.port, tcpOnly.port);
});

test('stopping under load closes all and throws nothing', async () => {
  await using upstream = await startFakeUpstream(() => []);
  const dns = await startDnsFixture({ upstreams: [upstream.address] });
  await using client = await udpClient(dns.port, () => {});
  await using tcp = await connected(dns.port);
  for (let i = 0; i < 200; i++) {
    const packet = encodeQuery(i, parseName(i % 2 === 0 ? `x${i}.example` : NAME), TYPE.A);
    client.send(packet);
    tcp.socket.write(framed(packet));
  }
  await eventually('some are under way', () => upstream.asked.length > 10);
  await dns[Symbol.asyncDispose]();
  await eventually('connections are closed', tcp.closed);
  for (let i = 0; i < 10; i++) client.send(query);
  await using after = await startDnsFixture({ listen: [{ address: LOOPBACK, port: dns.port }] });
  assert.equal(after.port, dns.port);
});

test('metrics are CoreDNS’s', async () => {
  const response = await fetch(`http://${LOOPBACK}:${fixture.dns.http!.port}/metrics`);
  assert.match(response.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
  const page = await response.text();
  const server = `server="dns://${LOOPBACK}:${fixture.port}",zone=".",view=""`;
  for (const line of [
    `coredns_dns_requests_total{${server},proto="udp",family="1",type="A"} `,
    `coredns_dns_responses_total{${server},rcode="NOERROR",plugin="kubernetes"} `,
    `coredns_dns_request_duration_seconds_bucket{${server},proto="tcp",le="0.00025"} `,
    `coredns_dns_response_size_bytes_count{${server},proto="udp"} `,
    'coredns_cache_entries{server=',
    'coredns_forward_max_concurrent_rejects_total 0',
  ])
    assert.ok(page.includes(`\n${line}`), line);
  for (const line of page.trimEnd().split('\n'))
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+)$/);
  assert.equal((await fetch(`http://${LOOPBACK}:${fixture.dns.http!.port}/x`)).status, 404);
});
