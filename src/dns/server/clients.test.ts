// The server as other people's resolvers see it: dig, which judges every message that it gets, and Node's own.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { Resolver } from 'node:dns/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { eventually } from '../../client/testing/eventually.ts';
import { type DnsFixture, HTTP_PORT, startDnsFixture } from '../testing/dns-fixture.ts';
import { addressOf, type FakeUpstream, LOOPBACK, startFakeUpstream } from '../testing/fake-upstream.ts';

let fixture: DnsFixture;
let upstream: FakeUpstream;

before(async () => {
  upstream = await startFakeUpstream(({ name }) => ({ answers: [addressOf(name, '192.0.2.1')] }));
  fixture = await startDnsFixture({ upstreams: [upstream.address] });
  await fixture.namespace('ns');
  await fixture.service('ns/web', {
    clusterIP: '10.96.0.1',
    clusterIPs: ['10.96.0.1', 'fd00::1'],
    ports: HTTP_PORT,
  });
  await fixture.service('ns/db', { clusterIP: 'None', clusterIPs: ['None'], ports: HTTP_PORT });
  const endpoints = Array.from({ length: 90 }, (_, i) => ({
    addresses: [`10.244.0.${i + 1}`],
    ...(i === 0 && { hostname: 'db-0' }),
  }));
  await fixture.slice('ns/db', endpoints);
  await fixture.service('ns/ext', { type: 'ExternalName', externalName: 'www.example.com' });
  await eventually(
    'all is known',
    async () => (await fixture.ask('ext.ns.svc.cluster.local', 'A')).length === 3,
  );
});

after(async () => {
  await fixture[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

async function dig(...words: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    'dig',
    [`@${LOOPBACK}`, '-p', String(fixture.port), '+tries=1', '+time=5', ...words],
    { timeout: 10_000 },
  );
  assert.doesNotMatch(stdout, /malformed|Warning: Message parser|extra bytes|mismatch|unexpected/i, stdout);
  return stdout;
}

const short = async (...words: string[]): Promise<string[]> =>
  (await dig('+short', ...words)).trim().split('\n').sort();

test('dig finds services, endpoints, ports and reverse names', async () => {
  assert.deepEqual(await short('web.ns.svc.cluster.local', 'A'), ['10.96.0.1']);
  assert.deepEqual(await short('web.ns.svc.cluster.local', 'AAAA'), ['fd00::1']);
  assert.deepEqual(await short('+search', '+ndots=5', '+domain=ns.svc.cluster.local', 'db-0.db'), [
    '10.244.0.1',
  ]);
  assert.deepEqual(await short('_http._tcp.web.ns.svc.cluster.local', 'SRV'), [
    '0 50 80 web.ns.svc.cluster.local.',
  ]);
  assert.deepEqual(await short('-x', '10.96.0.1'), ['web.ns.svc.cluster.local.']);
  assert.deepEqual(await short('-x', 'fd00::1'), ['web.ns.svc.cluster.local.']);
  assert.deepEqual(await short('dns-version.cluster.local', 'TXT'), ['"1.1.0"']);
  assert.deepEqual(await short('ext.ns.svc.cluster.local', 'CNAME'), ['www.example.com.']);
  assert.deepEqual(await short('ext.ns.svc.cluster.local', 'A'), ['192.0.2.1', 'www.example.com.']);
});

test('dig sees the flags and codes that it expects of a server', async () => {
  assert.match(await dig('web.ns.svc.cluster.local'), /status: NOERROR.*\n;; flags: qr aa rd ra;/);
  assert.match(
    await dig('gone.ns.svc.cluster.local'),
    /status: NXDOMAIN.*\n;; flags: qr aa rd ra; QUERY: 1, ANSWER: 0, AUTHORITY: 1/,
  );
  assert.match(await dig('www.example.com'), /status: NOERROR.*\n;; flags: qr rd ra;/);
  assert.match(
    await dig('+dnssec', '+cdflag', 'web.ns.svc.cluster.local'),
    /flags: qr aa rd ra cd;[\s\S]*flags: do; udp: 1232/,
  );
  assert.match(await dig('+noedns', 'web.ns.svc.cluster.local'), /ADDITIONAL: 0/);
  assert.match(await dig('+edns=1', '+noednsnegotiation', 'web.ns.svc.cluster.local'), /status: BADVERS/);
  assert.match(
    await dig('+cookie', '+nsid', '+subnet=10.0.0.0/8', 'web.ns.svc.cluster.local'),
    /status: NOERROR/,
  );
  assert.match(await dig('CH', 'version.bind', 'TXT'), /status: REFUSED/);
  assert.match(await dig('+opcode=NOTIFY', 'cluster.local', 'SOA'), /status: NOTIMP/);
  assert.match(await dig('+header-only'), /status: FORMERR/);
  assert.match(await dig('cluster.local', 'AXFR'), /Transfer failed/);
});

test('dig comes again over TCP when an answer was cut, and keeps its connection', async () => {
  const all = await dig('+bufsize=512', 'db.ns.svc.cluster.local');
  assert.match(all, /Truncated, retrying in TCP mode/);
  assert.match(all, /ANSWER: 90,/);
  assert.match(await dig('+ignore', '+bufsize=1232', 'db.ns.svc.cluster.local'), /flags: qr aa tc rd ra;/);
  const kept = await dig(
    '+tcp',
    '+keepopen',
    'web.ns.svc.cluster.local',
    '+short',
    'db-0.db.ns.svc.cluster.local',
  );
  assert.match(kept, /10\.244\.0\.1/);
});

test('Node’s resolver finds the same', async () => {
  const resolver = new Resolver({ tries: 1, timeout: 5000 });
  resolver.setServers([`${LOOPBACK}:${fixture.port}`]);
  assert.deepEqual(await resolver.resolve4('web.ns.svc.cluster.local', { ttl: true }), [
    { address: '10.96.0.1', ttl: 30 },
  ]);
  const [srv] = await resolver.resolveSrv('_http._tcp.web.ns.svc.cluster.local');
  assert.deepEqual([srv?.weight, srv?.port, srv?.name], [50, 80, 'web.ns.svc.cluster.local']);
  assert.deepEqual(await resolver.reverse('10.96.0.1'), ['web.ns.svc.cluster.local']);
  assert.equal((await resolver.resolve4('db.ns.svc.cluster.local')).length, 90);
  assert.deepEqual(await resolver.resolveCname('ext.ns.svc.cluster.local'), ['www.example.com']);
  assert.equal((await resolver.resolveSoa('cluster.local')).nsname, 'ns.dns.cluster.local');
  await assert.rejects(resolver.resolve4('gone.ns.svc.cluster.local'), { code: 'ENOTFOUND' });
  await assert.rejects(resolver.resolveMx('web.ns.svc.cluster.local'), { code: 'ENODATA' });
});
