import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowJudge, leavesStaleFlows, parseFlow } from './conntrack.ts';
import type { DatagramPort, ServiceProgram } from './program.ts';

const dns: DatagramPort = {
  family: 4,
  addresses: ['10.96.0.10', '203.0.113.1'],
  port: 53,
  nodePort: 30_053,
  serving: ['10.244.0.2', '10.244.0.3'],
};

const program = (...datagrams: DatagramPort[]): ServiceProgram => ({
  frontends: [],
  clusterIps: [],
  balancerIps: [],
  hairpins: [],
  datagrams,
  health: undefined,
});

test('flows are read from what conntrack lists, of either family, answered or not', () => {
  assert.deepEqual(
    parseFlow(
      'ipv4     2 udp      17 29 src=10.0.0.2 dst=10.96.0.10 sport=56143 dport=53 [UNREPLIED] src=10.244.0.2 dst=10.0.0.2 sport=53 dport=56143 mark=0 use=1',
    ),
    { destination: '10.96.0.10', port: 53, replySource: '10.244.0.2' },
  );
  assert.deepEqual(
    parseFlow(
      'ipv6     10 udp      17 116 src=fd00::2 dst=fd00:96::a sport=5 dport=53 src=fd00:244::2 dst=fd00::2 sport=53 dport=5 [ASSURED] mark=0 use=1',
    ),
    { destination: 'fd00:96::a', port: 53, replySource: 'fd00:244::2' },
  );
  assert.equal(parseFlow(''), undefined);
  assert.equal(parseFlow('conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown.'), undefined);
});

test('a flow is stale when it leads to nobody who serves; node ports only at this node', () => {
  const judge = new FlowJudge([dns, { ...dns, addresses: ['10.96.0.11'], nodePort: 0, serving: [] }], 4);
  const ours = (address: string) => address === '192.0.2.1';
  const stale = (destination: string, port: number, replySource: string) =>
    judge.isStale({ destination, port, replySource }, ours);
  assert.equal(stale('10.96.0.10', 53, '10.244.0.2'), false);
  assert.equal(stale('10.96.0.10', 53, '10.244.0.9'), true);
  assert.equal(stale('203.0.113.1', 53, '203.0.113.1'), true, 'it began before the service had an endpoint');
  assert.equal(stale('10.96.0.10', 54, '10.244.0.9'), false);
  assert.equal(stale('192.0.2.1', 30_053, '10.244.0.9'), true);
  assert.equal(stale('198.51.100.1', 30_053, '198.51.100.1'), false, 'another machine’s port of that number');
  assert.equal(stale('10.96.0.11', 53, '10.244.0.9'), false, 'nobody serves: the flow is left as it is');
  assert.equal(new FlowJudge([dns], 6).idle, true);
});

test('the table is looked through when an endpoint left, the first came, or a frontend was added', () => {
  const before = program(dns);
  const after = (change: Partial<DatagramPort>) => leavesStaleFlows(before, program({ ...dns, ...change }));
  assert.equal(after({}), false);
  assert.equal(after({ serving: [...dns.serving, '10.244.0.4'] }), false);
  assert.equal(after({ serving: ['10.244.0.2'] }), true);
  assert.equal(after({ serving: [] }), false);
  assert.equal(after({ addresses: [...dns.addresses, '203.0.113.2'] }), true);
  assert.equal(after({ nodePort: 30_054 }), true);
  assert.equal(leavesStaleFlows(program({ ...dns, serving: [] }), before), true);
  assert.equal(leavesStaleFlows(undefined, before), true);
  assert.equal(leavesStaleFlows(before, undefined), false);
});
