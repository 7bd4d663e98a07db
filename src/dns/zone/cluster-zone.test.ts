import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import { questionKey } from '../answer.ts';
import { TYPE } from '../message/constants.ts';
import { parseName } from '../message/name.ts';
import { ClusterZone } from './cluster-zone.ts';

function zone(): ClusterZone {
  const made = new ClusterZone({
    zone: parseName('cluster.local'),
    ttl: 30,
    service: { namespace: 'kube-system', name: 'kube-dns' },
    ownAddresses: ['10.0.0.1'],
    reverseRanges: [],
    now: () => 1_700_000_000_000,
  });
  made.synced = true;
  made.namespaces.added({ metadata: { name: 'ns' } });
  return made;
}

const metadata = (name: string, labels?: Record<string, string>) => ({
  name,
  namespace: 'ns',
  uid: `uid-${name}`,
  resourceVersion: '1',
  creationTimestamp: '2026-01-01T00:00:00Z',
  ...(labels && { labels }),
});

const service = (name: string, address: string): Service => ({
  metadata: metadata(name),
  spec: { clusterIP: address, clusterIPs: [address], ports: [{ port: 80 }] },
  status: {},
});

const slice = (of: string, ...addresses: string[]): EndpointSlice => ({
  metadata: metadata(`${of}-1`, { 'kubernetes.io/service-name': of }),
  addressType: 'IPv4',
  endpoints: addresses.map((address) => ({ addresses: [address] })),
  ports: [{ port: 80 }],
});

function ask(of: ClusterZone, text: string, type: number): string {
  const name = parseName(text);
  const key = questionKey(name, type);
  of.reply(key, name, type);
  return key;
}

test('a change throws out the answers of what changed, and no others', () => {
  const known = zone();
  for (let i = 0; i < 100; i++) known.services.added(service(`s${i}`, `10.96.0.${i}`));
  const keys = Array.from({ length: 100 }, (_, i) => ask(known, `s${i}.ns.svc.cluster.local`, TYPE.A));
  const denied = ask(known, 'new.ns.svc.cluster.local', TYPE.A);
  const reverse = ask(known, '7.0.96.10.in-addr.arpa', TYPE.PTR);
  assert.equal(known.size, 102);
  known.slices.added(slice('s5', '10.244.0.1'));
  assert.equal(known.kept(keys[5]!), undefined);
  assert.equal(known.size, 101);
  known.services.updated(service('s7', '10.96.1.7'));
  assert.equal(known.kept(keys[7]!), undefined);
  assert.equal(known.kept(reverse), undefined);
  assert.equal(known.size, 99);
  known.services.added(service('new', '10.96.1.8'));
  assert.equal(known.kept(denied), undefined);
  assert.equal(known.size, 98);
  known.namespaces.deleted({ metadata: { name: 'ns' } });
  assert.deepEqual([known.size, known.dependencies], [0, 0]);
});

test('a flood of names that do not exist is bounded and leaves nothing behind', () => {
  const known = zone();
  for (let i = 0; i < 30_000; i++) ask(known, `x${i}.ns.svc.cluster.local`, TYPE.A);
  assert.ok(known.size <= 20_000);
  // One for each name and one for the namespace.
  assert.equal(known.dependencies, known.size + 1);
  known.namespaces.deleted({ metadata: { name: 'ns' } });
  assert.deepEqual([known.size, known.dependencies], [0, 0]);
});

test('a slice that changes its service leaves the old one', () => {
  const known = zone();
  for (const name of ['a', 'b'])
    known.services.added({
      metadata: metadata(name),
      spec: { clusterIP: 'None', clusterIPs: ['None'] },
      status: {},
    });
  const moving = slice('a', '10.244.0.1');
  known.slices.added(moving);
  const rcode = (name: string): number => {
    const reply = known.reply(questionKey(parseName(name), 1), parseName(name), 1);
    return reply.kind === 'answer' ? reply.answer.rcode : -1;
  };
  assert.deepEqual([rcode('a.ns.svc.cluster.local'), rcode('b.ns.svc.cluster.local')], [0, 3]);
  known.slices.updated({
    ...moving,
    metadata: { ...moving.metadata, labels: { 'kubernetes.io/service-name': 'b' } },
  });
  assert.deepEqual([rcode('a.ns.svc.cluster.local'), rcode('b.ns.svc.cluster.local')], [3, 0]);
  known.slices.deleted(moving);
  assert.equal(rcode('b.ns.svc.cluster.local'), 3);
});

test('before it is known, names of the zone are neither there nor not there', () => {
  const known = zone();
  known.synced = false;
  const name = parseName('a.ns.svc.cluster.local');
  assert.equal(known.reply(questionKey(name, 1), name, 1).kind, 'unsynced');
  const other = parseName('example.com');
  assert.equal(known.reply(questionKey(other, 1), other, 1).kind, 'foreign');
});
