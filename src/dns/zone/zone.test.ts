// The cluster's names as a client sees them, over UDP: the specification's records and CoreDNS's where it is silent.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { resources } from '../../client/index.ts';
import { eventually } from '../../client/testing/eventually.ts';
import { FLAG, type TYPE } from '../message/constants.ts';
import { formatName } from '../message/name.ts';
import { formatRecord, soaMinimum } from '../message/record.ts';
import { type DnsFixture, HTTP_PORT, lines, startDnsFixture } from '../testing/dns-fixture.ts';
import { LOOPBACK } from '../testing/fake-upstream.ts';

let fixture: DnsFixture;

before(async () => {
  fixture = await startDnsFixture({ reverseRanges: ['10.96.0.0/12', 'fd00:96::/108'] });
  const { namespace, service, slice } = fixture;
  await namespace('ns', 'kube-system');
  await service('ns/web', {
    type: 'ClusterIP',
    clusterIP: '10.96.0.1',
    clusterIPs: ['10.96.0.1', 'fd00:96::1'],
    ports: [
      { name: 'http', protocol: 'TCP', port: 80 },
      { name: 'dns', protocol: 'UDP', port: 53 },
    ],
  });
  await slice('ns/web', [{ addresses: ['10.244.0.9'], conditions: { ready: true }, hostname: 'web-9' }]);
  await service('ns/plain', { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'], ports: [{ port: 81 }] });
  await service('ns/headless', { clusterIP: 'None', clusterIPs: ['None'], ports: HTTP_PORT });
  await slice('ns/headless', [
    { addresses: ['10.244.0.2'], conditions: { ready: true }, hostname: 'db-0' },
    { addresses: ['10.244.0.3'], conditions: {} },
    { addresses: ['10.244.0.4'], conditions: { ready: false, serving: true, terminating: true } },
  ]);
  await slice('ns/headless', [{ addresses: ['fd00::2'], hostname: 'db-0' }], { addressType: 'IPv6' });
  await service('ns/portless', { clusterIP: 'None', clusterIPs: ['None'] });
  await slice('ns/portless', [{ addresses: ['10.244.0.5'] }], { ports: [] });
  await service('ns/nobody', { clusterIP: 'None', clusterIPs: ['None'], ports: HTTP_PORT });
  await slice('ns/nobody', [{ addresses: ['10.244.0.6'], conditions: { ready: false } }]);
  const external = (name: string, externalName: string) =>
    service(name, { type: 'ExternalName', externalName });
  await external('ns/inside', 'web.ns.svc.cluster.local.');
  await external('ns/twice', 'inside.ns.svc.Cluster.local');
  await external('ns/dangling', 'gone.ns.svc.cluster.local');
  await external('ns/circle', 'round.ns.svc.cluster.local');
  await external('ns/round', 'circle.ns.svc.cluster.local');
  await external('ns/myself', 'myself.ns.svc.cluster.local');
  await external('ns/numeric', '10.0.0.1');
  // Both sides of a race: a service of a namespace that is not there, and slices of no service.
  await service('lost/web', { clusterIP: '10.96.0.3', clusterIPs: ['10.96.0.3'], ports: HTTP_PORT });
  await slice('ns/orphan', [{ addresses: ['10.244.0.7'] }]);
  await eventually(
    'the fixture is known',
    async () => (await fixture.ask('round.ns.svc.cluster.local', 'CNAME')).length > 1,
  );
});

after(() => fixture[Symbol.asyncDispose]());

const answers: readonly [name: string, type: keyof typeof TYPE, expected: readonly string[]][] = [
  // Services with an address.
  ['web.ns.svc.cluster.local', 'A', ['NOERROR', 'web.ns.svc.cluster.local. 30 IN A 10.96.0.1']],
  ['web.ns.svc.cluster.local', 'AAAA', ['NOERROR', 'web.ns.svc.cluster.local. 30 IN AAAA fd00:96::1']],
  ['plain.ns.svc.cluster.local', 'AAAA', ['NOERROR']],
  ['web.ns.svc.cluster.local', 'TXT', ['NOERROR']],
  ['web.ns.svc.cluster.local', 'MX', ['NOERROR']],
  ['gone.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  ['gone.ns.svc.cluster.local', 'TXT', ['NXDOMAIN']],
  ['web.lost.svc.cluster.local', 'A', ['NXDOMAIN']],
  ['orphan.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  [
    '_http._tcp.web.ns.svc.cluster.local',
    'SRV',
    ['NOERROR', '_http._tcp.web.ns.svc.cluster.local. 30 IN SRV 0 50 80 web.ns.svc.cluster.local.'],
  ],
  [
    'web.ns.svc.cluster.local',
    'SRV',
    [
      'NOERROR',
      'web.ns.svc.cluster.local. 30 IN SRV 0 25 53 web.ns.svc.cluster.local.',
      'web.ns.svc.cluster.local. 30 IN SRV 0 25 80 web.ns.svc.cluster.local.',
    ],
  ],
  ['_http._tcp.web.ns.svc.cluster.local', 'A', ['NOERROR']],
  ['_tcp.web.ns.svc.cluster.local', 'SRV', ['NOERROR']],
  ['_sctp.web.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  ['_http._udp.web.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  ['_._tcp.plain.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  ['http.tcp.web.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  ['x._http._tcp.web.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  [
    'plain.ns.svc.cluster.local',
    'SRV',
    ['NOERROR', 'plain.ns.svc.cluster.local. 30 IN SRV 0 100 81 plain.ns.svc.cluster.local.'],
  ],
  ['web-9.web.ns.svc.cluster.local', 'A', ['NOERROR', 'web-9.web.ns.svc.cluster.local. 30 IN A 10.244.0.9']],
  // Headless services.
  [
    'headless.ns.svc.cluster.local',
    'A',
    [
      'NOERROR',
      'headless.ns.svc.cluster.local. 30 IN A 10.244.0.2',
      'headless.ns.svc.cluster.local. 30 IN A 10.244.0.3',
    ],
  ],
  ['headless.ns.svc.cluster.local', 'AAAA', ['NOERROR', 'headless.ns.svc.cluster.local. 30 IN AAAA fd00::2']],
  [
    'db-0.headless.ns.svc.cluster.local',
    'A',
    ['NOERROR', 'db-0.headless.ns.svc.cluster.local. 30 IN A 10.244.0.2'],
  ],
  [
    'db-0.headless.ns.svc.cluster.local',
    'AAAA',
    ['NOERROR', 'db-0.headless.ns.svc.cluster.local. 30 IN AAAA fd00::2'],
  ],
  [
    '10-244-0-3.headless.ns.svc.cluster.local',
    'A',
    ['NOERROR', '10-244-0-3.headless.ns.svc.cluster.local. 30 IN A 10.244.0.3'],
  ],
  ['10-244-0-3.headless.ns.svc.cluster.local', 'AAAA', ['NOERROR']],
  ['10-244-0-2.headless.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  ['10-244-0-4.headless.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  [
    '_http._tcp.headless.ns.svc.cluster.local',
    'SRV',
    [
      'NOERROR',
      '_http._tcp.headless.ns.svc.cluster.local. 30 IN SRV 0 33 80 10-244-0-3.headless.ns.svc.cluster.local.',
      '_http._tcp.headless.ns.svc.cluster.local. 30 IN SRV 0 33 80 db-0.headless.ns.svc.cluster.local.',
    ],
  ],
  ['portless.ns.svc.cluster.local', 'A', ['NOERROR', 'portless.ns.svc.cluster.local. 30 IN A 10.244.0.5']],
  ['portless.ns.svc.cluster.local', 'SRV', ['NOERROR']],
  ['nobody.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  ['_http._tcp.nobody.ns.svc.cluster.local', 'SRV', ['NXDOMAIN']],
  // External names.
  [
    'twice.ns.svc.cluster.local',
    'A',
    [
      'NOERROR',
      'inside.ns.svc.cluster.local. 30 IN CNAME web.ns.svc.cluster.local.',
      'twice.ns.svc.cluster.local. 30 IN CNAME inside.ns.svc.Cluster.local.',
      'web.ns.svc.cluster.local. 30 IN A 10.96.0.1',
    ],
  ],
  [
    'twice.ns.svc.cluster.local',
    'CNAME',
    ['NOERROR', 'twice.ns.svc.cluster.local. 30 IN CNAME inside.ns.svc.Cluster.local.'],
  ],
  ['twice.ns.svc.cluster.local', 'SRV', ['NOERROR']],
  ['x.twice.ns.svc.cluster.local', 'CNAME', ['NXDOMAIN']],
  [
    'dangling.ns.svc.cluster.local',
    'A',
    ['NXDOMAIN', 'dangling.ns.svc.cluster.local. 30 IN CNAME gone.ns.svc.cluster.local.'],
  ],
  [
    'circle.ns.svc.cluster.local',
    'A',
    ['NOERROR', 'circle.ns.svc.cluster.local. 30 IN CNAME round.ns.svc.cluster.local.'],
  ],
  ['myself.ns.svc.cluster.local', 'A', ['NOERROR']],
  ['numeric.ns.svc.cluster.local', 'A', ['NXDOMAIN']],
  // Pods.
  ['10-1-2-3.ns.pod.cluster.local', 'A', ['NOERROR', '10-1-2-3.ns.pod.cluster.local. 30 IN A 10.1.2.3']],
  ['10-1-2-3.ns.pod.cluster.local', 'AAAA', ['NOERROR']],
  ['fd00--2.ns.pod.cluster.local', 'AAAA', ['NOERROR', 'fd00--2.ns.pod.cluster.local. 30 IN AAAA fd00::2']],
  ['10-1-2-300.ns.pod.cluster.local', 'A', ['NXDOMAIN']],
  ['blah.ns.pod.cluster.local', 'A', ['NXDOMAIN']],
  ['10-1-2-3.lost.pod.cluster.local', 'A', ['NXDOMAIN']],
  ['x.10-1-2-3.ns.pod.cluster.local', 'A', ['NXDOMAIN']],
  // Names that are there because of those below them, and the zone's own.
  ['cluster.local', 'A', ['NOERROR']],
  ['svc.cluster.local', 'A', ['NOERROR']],
  ['pod.cluster.local', 'A', ['NOERROR']],
  ['ns.svc.cluster.local', 'A', ['NOERROR']],
  ['ns.pod.cluster.local', 'NS', ['NOERROR']],
  ['lost.svc.cluster.local', 'A', ['NXDOMAIN']],
  ['foo.cluster.local', 'NS', ['NXDOMAIN']],
  ['www.example.com.cluster.local', 'A', ['NXDOMAIN']],
  ['dns-version.cluster.local', 'TXT', ['NOERROR', 'dns-version.cluster.local. 28800 IN TXT "1.1.0"']],
  ['dns-version.cluster.local', 'A', ['NOERROR']],
  ['x.dns-version.cluster.local', 'TXT', ['NXDOMAIN']],
  ['dns.cluster.local', 'A', ['NOERROR']],
  ['ns.dns.cluster.local', 'A', ['NOERROR', `ns.dns.cluster.local. 30 IN A ${LOOPBACK}`]],
  ['web.ns.svc.cluster.local', 'ANY', ['NOERROR', 'web.ns.svc.cluster.local. 8482 IN HINFO "RFC8482" ""']],
  ['gone.ns.svc.cluster.local', 'ANY', ['NXDOMAIN']],
  ['cluster.local', 'AXFR', ['REFUSED']],
  ['cluster.local', 'IXFR', ['REFUSED']],
  ['cluster.local', 'MAILB', ['NOTIMP']],
  // Reverse names.
  [
    '1.0.96.10.in-addr.arpa',
    'PTR',
    ['NOERROR', '1.0.96.10.in-addr.arpa. 30 IN PTR web.ns.svc.cluster.local.'],
  ],
  ['1.0.96.10.in-addr.arpa', 'A', ['NOERROR']],
  [
    '2.0.244.10.in-addr.arpa',
    'PTR',
    ['NOERROR', '2.0.244.10.in-addr.arpa. 30 IN PTR db-0.headless.ns.svc.cluster.local.'],
  ],
  [
    '3.0.244.10.in-addr.arpa',
    'PTR',
    ['NOERROR', '3.0.244.10.in-addr.arpa. 30 IN PTR 10-244-0-3.headless.ns.svc.cluster.local.'],
  ],
  ['99.0.96.10.in-addr.arpa', 'PTR', ['NXDOMAIN']],
  ['0.96.10.in-addr.arpa', 'PTR', ['NOERROR']],
  ['3.0.96.10.in-addr.arpa', 'PTR', ['NXDOMAIN']],
  // Not ready, and not in a range that is the cluster's: nobody knows, for there is no upstream.
  ['4.0.244.10.in-addr.arpa', 'PTR', ['SERVFAIL']],
  ['x.in-addr.arpa', 'PTR', ['SERVFAIL']],
];

for (const [name, type, expected] of answers)
  test(`${name} ${type}: ${expected.join(' | ')}`, async () => {
    assert.deepEqual(await fixture.ask(name, type), expected);
    // The second time the answer may come from what was kept.
    assert.deepEqual(await fixture.ask(name, type), expected);
    assert.deepEqual(await fixture.ask(name, type, { tcp: true }), expected);
  });

test('a denial carries the zone’s SOA, whose minimum is how long it may be kept', async () => {
  for (const name of ['gone.ns.svc.cluster.local', 'web.ns.svc.cluster.local']) {
    const { authority, flags } = await fixture.query(name, 'TXT');
    assert.equal(authority.length, 1);
    assert.match(
      formatRecord(authority[0]!),
      /^cluster\.local\. 30 IN SOA ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\. \d{10} 7200 1800 86400 30$/,
    );
    assert.equal(soaMinimum(authority[0]!), 30);
    assert.notEqual(flags & FLAG.AA, 0);
  }
  const reverse = await fixture.query('99.0.96.10.in-addr.arpa', 'PTR');
  assert.equal(formatName(reverse.authority[0]!.name), 'in-addr.arpa.');
});

test('SRV answers bring the addresses of their targets', async () => {
  const { additional } = await fixture.query('_http._tcp.headless.ns.svc.cluster.local', 'SRV');
  assert.deepEqual(additional.map(formatRecord).sort(), [
    '10-244-0-3.headless.ns.svc.cluster.local. 30 IN A 10.244.0.3',
    'db-0.headless.ns.svc.cluster.local. 30 IN A 10.244.0.2',
    'db-0.headless.ns.svc.cluster.local. 30 IN AAAA fd00::2',
  ]);
});

test('names have no case, and come back as they were asked', async () => {
  const message = await fixture.query('WEB.ns.SVC.Cluster.Local', 'A');
  assert.equal(formatName(message.questions[0]!.name), 'WEB.ns.SVC.Cluster.Local.');
  assert.deepEqual(lines(message), ['NOERROR', 'WEB.ns.SVC.Cluster.Local. 30 IN A 10.96.0.1']);
});

test('addresses of a headless service take turns', async () => {
  const first = async () =>
    formatRecord((await fixture.query('headless.ns.svc.cluster.local', 'A')).answers[0]!);
  const seen = new Set([await first(), await first(), await first()]);
  assert.equal(seen.size, 2);
});

test('the name server of the zone is the DNS service once that is there', async () => {
  assert.deepEqual(await fixture.ask('cluster.local', 'NS'), [
    'NOERROR',
    'cluster.local. 30 IN NS ns.dns.cluster.local.',
  ]);
  await fixture.service('kube-system/kube-dns', {
    clusterIP: '10.96.0.10',
    clusterIPs: ['10.96.0.10'],
    ports: HTTP_PORT,
  });
  await eventually('the answer is made anew', async () => {
    const { answers: records, additional } = await fixture.query('cluster.local', 'NS');
    return (
      formatRecord(records[0]!) === 'cluster.local. 30 IN NS kube-dns.kube-system.svc.cluster.local.' &&
      additional.map(formatRecord).join() === 'kube-dns.kube-system.svc.cluster.local. 30 IN A 10.96.0.10'
    );
  });
  assert.deepEqual(await fixture.ask('ns.dns.cluster.local', 'A'), [
    'NOERROR',
    'ns.dns.cluster.local. 30 IN A 10.96.0.10',
  ]);
});

test('every change is seen in the next answer', async () => {
  const { client, ask, service, slice, namespace } = fixture;
  const becomes = (name: string, type: keyof typeof TYPE, expected: string) =>
    eventually(`${name} ${type} is ${expected}`, async () => (await ask(name, type)).join(' ') === expected);
  const name = 'web.late.svc.cluster.local';
  await becomes(name, 'A', 'NXDOMAIN');
  await service('late/web', { clusterIP: '10.96.1.1', clusterIPs: ['10.96.1.1'], ports: HTTP_PORT });
  await becomes(name, 'A', 'NXDOMAIN');
  await namespace('late');
  await becomes(name, 'A', `NOERROR ${name}. 30 IN A 10.96.1.1`);
  await becomes('1.1.96.10.in-addr.arpa', 'PTR', `NOERROR 1.1.96.10.in-addr.arpa. 30 IN PTR ${name}.`);
  const services = client.resource(resources.services, 'late');
  await services.update({
    ...(await services.get('web')),
    spec: { clusterIP: 'None', clusterIPs: ['None'], ports: HTTP_PORT },
  });
  await becomes(name, 'A', 'NXDOMAIN');
  await becomes('1.1.96.10.in-addr.arpa', 'PTR', 'NXDOMAIN');
  await slice('late/web', [{ addresses: ['10.97.0.1'], hostname: 'a' }]);
  await becomes(name, 'A', `NOERROR ${name}. 30 IN A 10.97.0.1`);
  await becomes(`a.${name}`, 'A', `NOERROR a.${name}. 30 IN A 10.97.0.1`);
  await becomes('1.0.97.10.in-addr.arpa', 'PTR', `NOERROR 1.0.97.10.in-addr.arpa. 30 IN PTR a.${name}.`);
  const slices = client.resource(resources.endpointSlices, 'late');
  await slices.update({
    ...(await slices.get('web-ipv4')),
    endpoints: [
      { addresses: ['10.97.0.1'], hostname: 'b' },
      { addresses: ['10.97.0.2'], conditions: { ready: false } },
    ],
  });
  await becomes(`a.${name}`, 'A', 'NXDOMAIN');
  await becomes('1.0.97.10.in-addr.arpa', 'PTR', `NOERROR 1.0.97.10.in-addr.arpa. 30 IN PTR b.${name}.`);
  await slices.delete('web-ipv4');
  await becomes(name, 'A', 'NXDOMAIN');
  await services.delete('web');
  await becomes(name, 'SRV', 'NXDOMAIN');
  const namespaces = client.resource(resources.namespaces);
  await namespaces.delete('late');
  const terminating = await namespaces.get('late');
  await becomes('late.svc.cluster.local', 'A', 'NOERROR');
  await namespaces.updateSubresource('late', 'finalize', { ...terminating, spec: { finalizers: [] } });
  await becomes('late.svc.cluster.local', 'A', 'NXDOMAIN');
});
