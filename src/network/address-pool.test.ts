import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseAddress, parseCidr } from '../component/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import { AddressPool } from './address-pool.ts';

test('a pool gives neither the first, the gateway nor the broadcast address, and each other one once', () => {
  const pool = new AddressPool(parseCidr('10.1.0.0/29')!);
  const given = Array.from({ length: pool.capacity }, () => formatAddress(pool.allocate()));
  assert.deepEqual(given, ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '10.1.0.6']);
  assert.equal(pool.gateway, '10.1.0.1');
  assert.throws(
    () => pool.allocate(),
    (error: unknown) =>
      error instanceof RuntimeError && /all 5 addresses of the pod range 10\.1\.0\.0\/29/.test(error.message),
  );
  pool.release(parseAddress('10.1.0.4')!);
  assert.equal(formatAddress(pool.allocate()), '10.1.0.4');
});

test('an address that was given back is the last to be given again, also after a restart', () => {
  const cidr = parseCidr('10.1.0.0/29')!;
  const pool = new AddressPool(cidr);
  const first = pool.allocate();
  pool.release(first);
  assert.equal(formatAddress(pool.allocate()), '10.1.0.3');
  const again = new AddressPool(cidr, parseAddress(pool.next));
  assert.equal(formatAddress(again.allocate()), '10.1.0.4');
});

test('a range too small for pods is refused', () => {
  for (const text of ['10.1.0.0/31', '10.1.0.0/32', 'fd00::/128'])
    assert.throws(() => new AddressPool(parseCidr(text)!), /has no address left for pods/);
  assert.equal(new AddressPool(parseCidr('fd00::/64')!).capacity, 2 ** 32 - 2);
});
