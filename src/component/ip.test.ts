import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contains, formatAddress, formatCidr, overlap, parseAddress, parseCidr } from './ip.ts';

test('addresses of both versions are read and written in their canonical form', () => {
  for (const [text, canonical] of [
    ['10.244.0.1', '10.244.0.1'],
    ['255.255.255.255', '255.255.255.255'],
    ['::', '::'],
    ['::1', '::1'],
    ['fd00:0:0:1::', 'fd00:0:0:1::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:0:2:0:3:0:4:0', '1:0:2:0:3:0:4:0'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
  ] as const) {
    const address = parseAddress(text);
    assert.ok(address, text);
    assert.equal(formatAddress(address), canonical);
  }
  for (const text of ['10.0.0', '10.0.0.256', 'fe80::1%eth0', '1::2::3', ''])
    assert.equal(parseAddress(text), undefined);
});

test('writing and reading any address gives the same address', () => {
  let seed = 42n;
  for (let i = 0; i < 2000; i++) {
    seed = (seed * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n);
    // Groups of zeros are what the short form is about.
    const mask = (seed >> 7n) % 3n === 0n ? 0xffff0000ffff00000000ffff0000ffffn : (1n << 128n) - 1n;
    const value = ((seed << 64n) | (seed * 3n)) & mask & ((1n << 128n) - 1n);
    assert.deepEqual(parseAddress(formatAddress({ family: 6, value })), { family: 6, value });
    const v4 = { family: 4, value: seed & 0xffffffffn } as const;
    assert.deepEqual(parseAddress(formatAddress(v4)), v4);
  }
});

test('a range with host bits, a wrong length or no length is refused', () => {
  for (const text of ['10.244.0.1/24', '10.244.0.0/33', '10.244.0.0', 'fd00::/129', 'x/8', '10.0.0.0/-1'])
    assert.equal(parseCidr(text), undefined, text);
  assert.equal(formatCidr(parseCidr('fd00:1::/64')!), 'fd00:1::/64');
});

test('ranges overlap exactly when one holds an address of the other', () => {
  const cidr = (text: string) => parseCidr(text)!;
  assert.ok(overlap(cidr('10.0.0.0/8'), cidr('10.244.0.0/24')));
  assert.ok(overlap(cidr('10.244.0.0/24'), cidr('10.0.0.0/8')));
  assert.ok(!overlap(cidr('10.244.0.0/24'), cidr('10.244.1.0/24')));
  assert.ok(!overlap(cidr('0.0.0.0/0'), cidr('::/0')));
  assert.ok(contains(cidr('10.244.0.0/24'), parseAddress('10.244.0.255')!));
  assert.ok(!contains(cidr('10.244.0.0/24'), parseAddress('10.244.1.0')!));
});
