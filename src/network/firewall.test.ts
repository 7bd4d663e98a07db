import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../component/index.ts';
import type { HostOperations, RunResult } from '../host/index.ts';
import { applyRules, droppingChains, firewallWarning } from './firewall.ts';
import { ruleset } from './ruleset.ts';

/** nft with a fixed answer. */
function nft(answer: Partial<RunResult> & { readonly text?: string }): HostOperations {
  const result = { exitCode: 0, stdout: Buffer.from(answer.text ?? ''), stderr: Buffer.alloc(0), ...answer };
  return { run: async () => result } as unknown as HostOperations;
}

test('chains of other firewalls that drop what pods send are found, ours and harmless ones are not', async () => {
  const chain = (table: string, name: string, hook: string, policy: string) => ({
    chain: { family: 'ip', table, name, handle: 1, type: 'filter', hook, prio: 0, policy },
  });
  const text = JSON.stringify({
    nftables: [
      { metainfo: { version: '1.0.6' } },
      chain('filter', 'FORWARD', 'forward', 'drop'),
      chain('filter', 'INPUT', 'input', 'drop'),
      chain('other', 'forward', 'forward', 'accept'),
      chain('bulkhead', 'forward', 'forward', 'drop'),
      { chain: { family: 'ip', table: 'filter', name: 'DOCKER', handle: 2 } },
    ],
  });
  assert.deepEqual(await droppingChains(nft({ text }), 'bulkhead'), [
    { family: 'ip', table: 'filter', chain: 'FORWARD', hook: 'forward' },
    { family: 'ip', table: 'filter', chain: 'INPUT', hook: 'input' },
  ]);
  const told = firewallWarning(await droppingChains(nft({ text }), 'bulkhead'), 'br0') ?? '';
  assert.match(told, /packets to this machine .*\(ip filter FORWARD, ip filter INPUT\)/);
  assert.deepEqual(told.match(/nft insert [^;]*/g), [
    'nft insert rule ip filter FORWARD iifname "br0" accept',
    'nft insert rule ip filter FORWARD oifname "br0" accept',
    'nft insert rule ip filter INPUT iifname "br0" accept',
  ]);
  assert.equal(firewallWarning([], 'br0'), undefined);
  const failing = nft({ exitCode: 1, stderr: Buffer.from('Operation not supported') });
  await assert.rejects(droppingChains(failing, 'bulkhead'), /cannot list .*Operation not supported/);
  await assert.rejects(
    applyRules(failing, ''),
    /nft refused the pod network's rules: Operation not supported/,
  );
});

test('ranges that lie in one another are entered once, and mapped ports with their protocol and address', () => {
  const cidr = (text: string) => parseCidr(text)!;
  const text = ruleset(
    {
      table: 't',
      bridge: 'b0',
      podCidrs: [cidr('10.244.1.0/24')],
      clusterCidrs: [cidr('10.244.0.0/16'), cidr('10.96.0.0/12'), cidr('fd00::/48')],
    },
    [
      {
        sandboxId: 's',
        pod: 'a/b',
        ips: ['10.244.1.2', 'fd00::2'],
        hostPorts: [
          { protocol: 'tcp', hostIp: '', hostPort: 80, containerPort: 8080 },
          { protocol: 'udp', hostIp: '192.0.2.1', hostPort: 53, containerPort: 5353 },
        ],
      },
    ],
  );
  for (const line of [
    'add element inet t pods_v4 { 10.244.1.0/24 }',
    'add element inet t cluster_v4 { 10.96.0.0/12, 10.244.0.0/16 }',
    'add element inet t cluster_v6 { fd00::/48 }',
    'add element inet t host_ports_v4 { tcp . 80 : 10.244.1.2 . 8080 }',
    'add element inet t host_ports_v6 { tcp . 80 : fd00::2 . 8080 }',
    'add element inet t host_address_ports_v4 { 192.0.2.1 . udp . 53 : 10.244.1.2 . 5353 }',
    'add element inet t hairpin_v4 { 10.244.1.2 . 10.244.1.2 }',
  ])
    assert.ok(text.split('\n').includes(line), line);
  assert.doesNotMatch(text, /host_address_ports_v6 \{ 192/);
});
