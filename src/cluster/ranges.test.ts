import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddressRange } from '../cloud/index.ts';
import { loadBalancerRangesProblem } from './ranges.ts';

test('load-balancer ranges that hold addresses of pods or Services are refused by name', () => {
  const problem = (...ranges: string[]) =>
    loadBalancerRangesProblem(
      ranges.map((text) => parseAddressRange(text)!),
      ['10.244.0.0/24', 'fd00:244::/64', '10.96.0.0/16'],
    );
  assert.equal(problem(), undefined);
  assert.equal(
    problem('192.0.2.0/24', '10.243.255.0-10.243.255.255', '10.244.1.0/24', 'fd00:245::/64'),
    undefined,
  );
  assert.equal(
    problem('192.0.2.0/24', '10.96.3.0/24'),
    "the load-balancer range 10.96.3.0-10.96.3.255 holds addresses of the cluster's own range 10.96.0.0/16",
  );
  assert.match(problem('10.0.0.0/8')!, /range 10\.244\.0\.0\/24$/);
  assert.match(problem('10.244.0.255-10.244.1.9')!, /10\.244\.0\.255-10\.244\.1\.9/);
  assert.match(problem('fd00:244::5')!, /fd00:244::\/64$/);
});
