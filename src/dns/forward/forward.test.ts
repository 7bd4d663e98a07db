// Names that are not the cluster's, over real sockets: what an upstream answers, and what happens when it does not or
// lies.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { eventually, settle } from '../../client/testing/eventually.ts';
import { type Clock, ManualClock, silentLogger, systemClock } from '../../component/index.ts';
import { FLAG, RCODE, TYPE } from '../message/constants.ts';
import { decodeMessage } from '../message/decode.ts';
import { encodeQuery } from '../message/encode.ts';
import { parseName } from '../message/name.ts';
import { cnameRecord, formatRecord } from '../message/record.ts';
import { DnsMetrics } from '../metrics.ts';
import { exchangeUdp, lines, startDnsFixture, udpClient } from '../testing/dns-fixture.ts';
import { addressOf, bomb, denial, honest, LOOPBACK, startFakeUpstream } from '../testing/fake-upstream.ts';
import { Forwarder } from './forwarder.ts';
import { UpstreamSet } from './upstream-set.ts';

/** The system's clock, set forward by hand: for what lasts seconds. */
class AheadClock implements Clock {
  #ahead = 0;
  now = (): number => systemClock.now() + this.#ahead;
  monotonic = (): number => systemClock.monotonic() + this.#ahead;
  setTimer = systemClock.setTimer;
  advance(ms: number): void {
    this.#ahead += ms;
  }
}

const EXAMPLE = ['NOERROR', 'www.example.com. 30 IN A 192.0.2.1'];
const example = () => ({ answers: [addressOf('www.example.com', '192.0.2.1')] });

test('an answer is asked for once, kept, and its TTL counts down', async () => {
  const clock = new AheadClock();
  await using upstream = await startFakeUpstream(example);
  await using dns = await startDnsFixture({ upstreams: [upstream.address], clock });
  assert.deepEqual(await dns.ask('www.example.com', 'A'), EXAMPLE);
  assert.deepEqual(await dns.ask('WWW.example.com', 'A'), ['NOERROR', 'WWW.example.com. 30 IN A 192.0.2.1']);
  assert.equal(upstream.asked.length, 1);
  const message = await dns.query('www.example.com', 'A');
  assert.equal(message.flags & (FLAG.AA | FLAG.RA | FLAG.RD), FLAG.RA | FLAG.RD);
  clock.advance(10_500);
  const [record] = (await dns.query('www.example.com', 'A')).answers;
  assert.equal(record!.ttl, 20);
  clock.advance(20_000);
  assert.deepEqual(await dns.ask('www.example.com', 'A'), EXAMPLE);
  assert.equal(upstream.asked.length, 2);
  assert.match(dns.dns.metrics(), /coredns_cache_hits_total\{.*type="success"\} 3/);
});

test('names of the cluster never leave it', async () => {
  await using upstream = await startFakeUpstream(() => ({ rcode: RCODE.NXDOMAIN }));
  await using dns = await startDnsFixture({ upstreams: [upstream.address], reverseRanges: ['10.96.0.0/12'] });
  for (const name of [
    'a.b.svc.cluster.local',
    'www.example.com.ns.svc.cluster.local',
    'cluster.local',
    '1.0.96.10.in-addr.arpa',
  ])
    await dns.ask(name, 'PTR');
  assert.deepEqual(upstream.asked, []);
  await dns.ask('local', 'A');
  await dns.ask('1.0.0.10.in-addr.arpa', 'PTR');
  assert.deepEqual(upstream.asked, ['local 1 udp', '1.0.0.10.in-addr.arpa 12 udp']);
});

test('denials are kept as long as their SOA says, and not at all without one', async () => {
  const clock = new AheadClock();
  await using upstream = await startFakeUpstream(({ name }) => ({
    rcode: name.startsWith('no') ? RCODE.NXDOMAIN : RCODE.NOERROR,
    authority: name.includes('soa') ? [denial('example.com', 20, 10)] : [],
  }));
  await using dns = await startDnsFixture({ upstreams: [upstream.address], clock });
  for (const [name, rcode, times] of [
    ['no-soa.example.com', 'NXDOMAIN', 1],
    ['data-soa.example.com', 'NOERROR', 1],
    ['no.example.com', 'NXDOMAIN', 2],
  ] as const) {
    upstream.asked.length = 0;
    for (let i = 0; i < 2; i++) assert.deepEqual(await dns.ask(name, 'A'), [rcode]);
    assert.equal(upstream.asked.length, times, name);
  }
  clock.advance(10_100);
  await dns.ask('no-soa.example.com', 'A');
  assert.equal(upstream.asked.at(-1), 'no-soa.example.com 1 udp');
});

test('an answer with TTL 0 is given on and not kept', async () => {
  await using upstream = await startFakeUpstream(() => ({
    answers: [addressOf('a.example', '192.0.2.1', 0)],
  }));
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  for (let i = 0; i < 2; i++)
    assert.deepEqual(await dns.ask('a.example', 'A'), ['NOERROR', 'a.example. 0 IN A 192.0.2.1']);
  assert.equal(upstream.asked.length, 2);
});

test('the same question by many at once is asked once', async () => {
  const gate = Promise.withResolvers<void>();
  await using upstream = await startFakeUpstream(async () => {
    await gate.promise;
    return example();
  });
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  const answers = Array.from({ length: 50 }, () => dns.ask('www.example.com', 'A'));
  await eventually('it is asked', () => upstream.asked.length === 1);
  gate.resolve();
  for (const answer of await Promise.all(answers)) assert.deepEqual(answer, EXAMPLE);
  assert.equal(upstream.asked.length, 1);
});

test('an answer cut over UDP is asked for again over TCP, and cut for the client', async () => {
  const all = Array.from({ length: 200 }, (_, i) => addressOf('big.example', `192.0.2.${i}`));
  await using upstream = await startFakeUpstream(({ tcp }) =>
    tcp ? { answers: all } : { flags: FLAG.QR | FLAG.TC },
  );
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  const small = await dns.query('big.example', 'A');
  assert.notEqual(small.flags & FLAG.TC, 0);
  assert.ok(small.answers.length > 25 && small.answers.length < 32);
  const more = await dns.query('big.example', 'A', { edns: { udpBytes: 4096 } });
  assert.ok(more.answers.length > 60 && more.answers.length < 80);
  assert.equal(more.edns?.udpBytes, 1232);
  const whole = await dns.query('big.example', 'A', { tcp: true });
  assert.deepEqual([whole.answers.length, whole.flags & FLAG.TC], [200, 0]);
  assert.deepEqual(upstream.asked, ['big.example 1 udp', 'big.example 1 tcp']);
});

test('a resolver that is dead is passed over, and found again when it is back', async () => {
  const dead = await startFakeUpstream(example);
  await dead[Symbol.asyncDispose]();
  await using alive = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '192.0.2.2')] }));
  const clock = new ManualClock();
  await using dns = await startDnsFixture({
    upstreams: [dead.address, alive.address],
    policy: 'sequential',
    clock,
  });
  // Time stands still: a refused connection is no reason to wait.
  assert.deepEqual(await dns.ask('a.example', 'A'), ['NOERROR', 'a.example. 30 IN A 192.0.2.2']);
  await eventually('it counts as down', async () => {
    await clock.advance(100);
    return /healthcheck_failures_total\{.*\} [2-9]/.test(dns.dns.metrics());
  });
  await using back = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '192.0.2.1')] }), {
    port: dead.port,
  });
  await eventually('a probe finds it', async () => {
    await clock.advance(100);
    return back.received > 0;
  });
  let questions = 0;
  await eventually('it is asked first again', async () => {
    await clock.advance(100);
    await dns.ask(`x${questions++}.example`, 'A');
    return back.asked.length > 0;
  });
});

test('a resolver that says nothing costs two seconds, and others are asked', async () => {
  const clock = new ManualClock();
  await using silent = await startFakeUpstream(() => []);
  await using alive = await startFakeUpstream(example);
  await using dns = await startDnsFixture({
    upstreams: [silent.address, alive.address],
    policy: 'sequential',
    clock,
  });
  const answer = dns.ask('www.example.com', 'A');
  await eventually('it is asked', () => silent.asked.length === 1);
  await clock.advance(1900);
  await settle();
  assert.equal(alive.asked.length, 0);
  await clock.advance(100);
  assert.deepEqual(await answer, EXAMPLE);
});

test('when all are silent the client has SERVFAIL before it gives up, and others need not wait', async () => {
  const clock = new ManualClock();
  await using silent = await startFakeUpstream(() => []);
  await using dns = await startDnsFixture({ upstreams: [silent.address], clock });
  // Resolvers in C libraries give up after five seconds.
  const answer = dns.ask('www.example.com', 'A');
  for (const times of [1, 2]) {
    await eventually(`it is asked the ${times}. time`, () => silent.asked.length === times);
    await clock.advance(2000);
  }
  assert.deepEqual(await answer, ['SERVFAIL']);
  // The failure is kept for a second (RFC 9520).
  assert.deepEqual(await dns.ask('www.example.com', 'A'), ['SERVFAIL']);
  assert.equal(silent.asked.length, 2);
});

test('without any resolver the answer is SERVFAIL at once', async () => {
  await using dns = await startDnsFixture({ clock: new ManualClock() });
  assert.deepEqual(await dns.ask('www.example.com', 'A'), ['SERVFAIL']);
});

test('a resolver in trouble is asked, and then another one', async () => {
  for (const rcode of [RCODE.SERVFAIL, RCODE.REFUSED]) {
    await using bad = await startFakeUpstream(() => ({ rcode }));
    await using good = await startFakeUpstream(example);
    await using dns = await startDnsFixture({ upstreams: [bad.address, good.address], policy: 'sequential' });
    assert.deepEqual(await dns.ask('www.example.com', 'A'), EXAMPLE);
    assert.equal(bad.asked.length, 1);
    await using alone = await startDnsFixture({ upstreams: [bad.address] });
    assert.deepEqual(await alone.ask('www.example.com', 'A'), [
      rcode === RCODE.SERVFAIL ? 'SERVFAIL' : 'REFUSED',
    ]);
  }
});

test('a resolver that does not know EDNS is asked without', async () => {
  await using old = await startFakeUpstream(({ message }) =>
    message.edns ? { rcode: RCODE.FORMERR } : example(),
  );
  await using dns = await startDnsFixture({ upstreams: [old.address] });
  assert.deepEqual(await dns.ask('www.example.com', 'A'), EXAMPLE);
});

test('DO and CD are passed on, answers with them kept apart, and AD told to those who ask', async () => {
  await using upstream = await startFakeUpstream(({ message }) => ({
    ...example(),
    flags: FLAG.QR | FLAG.RA | FLAG.AD | (message.flags & FLAG.CD),
  }));
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  const plain = await dns.query('www.example.com', 'A');
  assert.equal(plain.flags & FLAG.AD, 0);
  const secured = await dns.query('www.example.com', 'A', { edns: { udpBytes: 1232, dnssecOk: true } });
  assert.notEqual(secured.flags & FLAG.AD, 0);
  assert.equal(secured.edns!.flags, 0x8000);
  await dns.query('www.example.com', 'A', { checkingDisabled: true });
  assert.equal(upstream.asked.length, 3);
});

test('external names of services bring what upstream knows of them', async () => {
  await using upstream = await startFakeUpstream(({ name, type }) =>
    name === 'www.example.com' && type === TYPE.A
      ? {
          answers: [
            cnameRecord(parseName(name), 300, parseName('cdn.example.net')),
            addressOf('cdn.example.net', '192.0.2.1'),
          ],
        }
      : name === 'broken.example'
        ? { rcode: RCODE.SERVFAIL }
        : {
            rcode: name === 'www.example.com' ? RCODE.NOERROR : RCODE.NXDOMAIN,
            authority: [denial('example.com', 60, 60)],
          },
  );
  await using dns = await startDnsFixture({ upstreams: [upstream.address] });
  await dns.namespace('ns');
  for (const [name, externalName] of [
    ['ext', 'www.Example.com'],
    ['gone', 'gone.example'],
    ['broken', 'broken.example'],
  ] as const)
    await dns.service(`ns/${name}`, { type: 'ExternalName', externalName });
  const own = 'ext.ns.svc.cluster.local';
  await eventually('it is known', async () => (await dns.ask(own, 'CNAME')).length > 1);
  const message = await dns.query(own, 'A');
  assert.deepEqual(message.answers.map(formatRecord), [
    `${own}. 30 IN CNAME www.Example.com.`,
    'www.Example.com. 30 IN CNAME cdn.example.net.'.replace('www.Example', 'www.example'),
    'cdn.example.net. 30 IN A 192.0.2.1',
  ]);
  const none = await dns.query(own, 'AAAA');
  assert.deepEqual(lines(none), ['NOERROR', `${own}. 30 IN CNAME www.Example.com.`]);
  assert.equal(none.authority[0]!.type, TYPE.SOA);
  assert.deepEqual(await dns.ask('gone.ns.svc.cluster.local', 'A'), [
    'NXDOMAIN',
    'gone.ns.svc.cluster.local. 30 IN CNAME gone.example.',
  ]);
  assert.deepEqual(await dns.ask('broken.ns.svc.cluster.local', 'A'), ['SERVFAIL']);
  // An alias alone asks nobody.
  upstream.asked.length = 0;
  await dns.ask(own, 'CNAME');
  assert.deepEqual(upstream.asked, []);
});

test('stub domains have resolvers of their own, the closest one counts', async () => {
  await using corp = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '10.1.0.1')] }));
  await using lab = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '10.2.0.1')] }));
  await using rest = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '10.3.0.1')] }));
  await using dns = await startDnsFixture({
    upstreams: [rest.address],
    stubDomains: { 'Corp.Example': [corp.address], 'lab.corp.example.': [lab.address] },
  });
  for (const [name, address] of [
    ['corp.example', '10.1.0.1'],
    ['a.b.corp.example', '10.1.0.1'],
    ['x.lab.corp.example', '10.2.0.1'],
    ['xcorp.example', '10.3.0.1'],
    ['example', '10.3.0.1'],
  ] as const)
    assert.deepEqual(await dns.ask(name, 'A'), ['NOERROR', `${name}. 30 IN A ${address}`]);
});

test('beyond a thousand questions under way more are refused, and none is forgotten', async () => {
  const gates: (() => void)[] = [];
  let open = false;
  await using upstream = await startFakeUpstream(async ({ name }) => {
    if (!open) await new Promise<void>((resolve) => gates.push(resolve));
    return { answers: [addressOf(name, '192.0.2.1')] };
  });
  // Time stands still, so that nobody's patience ends.
  await using dns = await startDnsFixture({ upstreams: [upstream.address], clock: new ManualClock() });
  const codes = new Map<number, number>();
  await using client = await udpClient(dns.port, (packet) => {
    const code = packet[3]! & 15;
    codes.set(code, (codes.get(code) ?? 0) + 1);
  });
  const refused = (): number => codes.get(RCODE.REFUSED) ?? 0;
  for (let i = 0; i < 1200; i += 100) {
    for (let j = i; j < i + 100; j++) client.send(encodeQuery(j, parseName(`x${j}.example`), TYPE.A));
    await eventually('they are asked or refused', () => upstream.asked.length + refused() >= i + 100);
  }
  assert.equal(refused(), 200);
  open = true;
  // Not all at once: so many answers would not find room at this client.
  for (let answered = 100; answered <= 1000; answered += 100) {
    for (const resolve of gates.splice(0, 100)) resolve();
    await eventually('they are answered', () => codes.get(RCODE.NOERROR) === answered, 20_000);
  }
  assert.deepEqual(await dns.ask('x1150.example', 'A'), ['NOERROR', 'x1150.example. 30 IN A 192.0.2.1']);
  assert.match(dns.dns.metrics(), /\ncoredns_forward_max_concurrent_rejects_total 200\n/);
});

test('when resolv.conf changes the new resolvers are asked, also for what was known', async () => {
  await using one = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '192.0.2.1')] }));
  await using two = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '192.0.2.2')] }));
  const set = new Map([
    ['one', one],
    ['two', two],
  ]);
  let now = 'one';
  const metrics = new DnsMetrics();
  using upstreams = new UpstreamSet({
    clock: systemClock,
    logger: silentLogger,
    metrics,
    random: Math.random,
    policy: 'random',
  });
  const forwarder = new Forwarder({
    clock: systemClock,
    logger: silentLogger,
    metrics,
    upstreamsFor: () => upstreams,
  });
  const query = { name: parseName('a.example'), type: TYPE.A, dnssecOk: false, checkingDisabled: false };
  for (now of ['one', 'two']) {
    assert.equal(upstreams.replace([{ address: LOOPBACK, port: set.get(now)!.port }]), true);
    forwarder.clear();
    assert.equal(forwarder.cached(query), undefined);
    await forwarder.resolve(query);
    assert.notEqual(forwarder.cached(query), undefined);
    assert.equal(set.get(now)!.asked.length, 1);
  }
  assert.equal(upstreams.replace([{ address: LOOPBACK, port: two.port }]), false);
});

test('options that make no sense are refused with what is wrong', async () => {
  for (const [options, message] of [
    [{ upstreams: ['dns.example'] }, /"dns.example" is no resolver/],
    [{ upstreams: ['10.0.0.1:99999'] }, /no resolver/],
    [{ stubDomains: { 'a.cluster.local': ['10.0.0.1'] } }, /lies in the cluster's own domain/],
    [{ stubDomains: { 'a.example': [] } }, /names no resolvers/],
    [{ clusterDomain: '' }, /cluster domain/],
    [{ clusterDomain: 'a..b' }, /empty label/],
    [{ reverseRanges: ['10.0.0.0'] }, /no range/],
  ] as const)
    await assert.rejects(startDnsFixture(options), message);
});

// ---- resolvers that lie ----

/** Each sends this first and, if `then` is set, the right answer after it. */
const lies: readonly {
  readonly what: string;
  readonly lie: Parameters<typeof startFakeUpstream>[0];
  readonly expected: readonly string[];
}[] = [
  {
    what: 'another identification, then the right one',
    lie: ({ message }) => [
      honest({ ...message, id: message.id ^ 1 }, { answers: [addressOf('www.example.com', '203.0.113.66')] }),
      honest(message, example()),
    ],
    expected: EXAMPLE,
  },
  {
    what: 'an answer to another question, then the right one',
    lie: ({ message }) => [
      honest(message, {
        questions: [{ name: parseName('evil.example'), type: 1, class: 1 }],
        answers: [addressOf('www.example.com', '203.0.113.66')],
      }),
      honest(message, { questions: [{ ...message.questions[0]!, type: 28 }] }),
      honest(message, example()),
    ],
    expected: EXAMPLE,
  },
  {
    what: 'its query back, then the right answer',
    lie: ({ message }) => [
      encodeQuery(message.id, parseName('www.example.com'), 1),
      honest(message, example()),
    ],
    expected: EXAMPLE,
  },
  {
    what: 'garbage with the right identification',
    lie: ({ message }) => [
      Buffer.concat([honest(message, {}).subarray(0, 12), Buffer.from('ffffffffff', 'hex')]),
    ],
    expected: ['SERVFAIL'],
  },
  {
    what: 'a longer answer than was asked for',
    lie: ({ name, message }) => [
      honest(message, {
        answers: Array.from({ length: 1500 }, (_, i) => addressOf(name, `10.0.${i >> 8}.${i & 255}`)).slice(
          0,
          800,
        ),
      }),
    ],
    expected: ['NOERROR'],
  },
  {
    what: 'names that unpack to much more than they are',
    lie: ({ message }) => [bomb(message, 3000)],
    expected: ['NOERROR'],
  },
  {
    what: 'TC and nothing over UDP, nothing over TCP',
    lie: ({ tcp, message }) => (tcp ? [Buffer.alloc(0)] : [honest(message, { flags: FLAG.QR | FLAG.TC })]),
    expected: ['SERVFAIL'],
  },
  {
    what: 'TC and half a message over UDP, the whole over TCP',
    lie: ({ tcp, message }) => {
      const whole = honest(message, { ...example(), flags: FLAG.QR | (tcp ? 0 : FLAG.TC) });
      return [tcp ? whole : whole.subarray(0, whole.length - 15)];
    },
    expected: EXAMPLE,
  },
  {
    what: 'another identification over TCP',
    lie: ({ tcp, message }) => [
      honest(tcp ? { ...message, id: message.id ^ 1 } : message, { flags: FLAG.QR | (tcp ? 0 : FLAG.TC) }),
    ],
    expected: ['SERVFAIL'],
  },
];

for (const { what, lie, expected } of lies)
  test(`an upstream that sends ${what}: ${expected[0]}`, { timeout: 20_000 }, async () => {
    await using upstream = await startFakeUpstream(lie);
    await using dns = await startDnsFixture({ upstreams: [upstream.address] });
    const answer = await dns.ask('www.example.com', 'A', { tcp: true });
    assert.deepEqual(answer.slice(0, expected.length), expected);
    // The server is none the worse.
    upstream.behave = ({ name }) => ({ answers: [addressOf(name, '192.0.2.7')] });
    assert.deepEqual(await dns.ask('next.example', 'A'), ['NOERROR', 'next.example. 30 IN A 192.0.2.7']);
  });

test('an upstream that announces more over TCP than it sends is given up', { timeout: 20_000 }, async () => {
  await using upstream = await startFakeUpstream(() => ({ flags: FLAG.QR | FLAG.TC }), { tcp: false });
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(Buffer.from('ffff00', 'hex'));
  });
  await new Promise<void>((resolve) => server.listen(upstream.port, LOOPBACK, resolve));
  try {
    await using dns = await startDnsFixture({ upstreams: [upstream.address] });
    assert.deepEqual(await dns.ask('www.example.com', 'A'), ['SERVFAIL']);
  } finally {
    server.close();
  }
});

test('answers from another address than the upstream’s are not heard', async () => {
  const upstream = createSocket('udp4');
  const stranger = createSocket('udp4');
  for (const socket of [upstream, stranger])
    await new Promise<void>((resolve) => socket.bind(0, LOOPBACK, resolve));
  upstream.on('message', (packet, { port, address }) => {
    const message = decodeMessage(packet);
    const forged = { answers: [addressOf('www.example.com', '203.0.113.66')] };
    // It knows everything that a forger must guess, and has only the wrong address.
    stranger.send(honest(message, forged), port, address, () =>
      upstream.send(honest(message, example()), port, address),
    );
  });
  try {
    await using dns = await startDnsFixture({ upstreams: [`${LOOPBACK}:${upstream.address().port}`] });
    assert.deepEqual(await dns.ask('www.example.com', 'A'), EXAMPLE);
  } finally {
    upstream.close();
    stranger.close();
  }
});

// ---- loops ----

test('an upstream that is this very server is not asked', async () => {
  const probe = await startFakeUpstream(() => []);
  await probe[Symbol.asyncDispose]();
  await using dns = await startDnsFixture({
    listen: [{ address: LOOPBACK, port: probe.port }],
    upstreams: [probe.address],
    // Time stands still: nothing is waited for.
    clock: new ManualClock(),
  });
  assert.deepEqual(await dns.ask('www.example.com', 'A'), ['SERVFAIL']);
});

test('an upstream that sends questions back here is found out and not asked', async () => {
  const relay = createSocket('udp4');
  await new Promise<void>((resolve) => relay.bind(0, LOOPBACK, resolve));
  const reserved = await startFakeUpstream(() => []);
  await reserved[Symbol.asyncDispose]();
  let relayed = 0;
  relay.on('message', (packet, from) => {
    relayed++;
    exchangeUdp(reserved.port, packet)
      .then((answer) => relay.send(answer, from.port, from.address))
      // After the test nobody answers any more.
      .catch(() => {});
  });
  try {
    await using dns = await startDnsFixture({
      listen: [{ address: LOOPBACK, port: reserved.port }],
      upstreams: [`${LOOPBACK}:${relay.address().port}`],
    });
    await eventually('the probe comes back', () => /responses_total\{.*SERVFAIL/.test(dns.dns.metrics()));
    const before = relayed;
    assert.deepEqual(await dns.ask('www.example.com', 'A'), ['SERVFAIL']);
    assert.equal(relayed, before);
  } finally {
    relay.close();
  }
});
