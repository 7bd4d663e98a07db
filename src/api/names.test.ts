import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as names from './names.ts';

test('names of the usual kinds are accepted and refused as upstream does', () => {
  const check = (rule: (value: string) => readonly string[], good: string[], bad: string[]) => {
    for (const value of good) assert.deepEqual(rule(value), [], `${rule.name} ${value}`);
    for (const value of bad) assert.notDeepEqual(rule(value), [], `${rule.name} ${value}`);
  };
  const a63 = 'a'.repeat(63);
  check(
    names.dns1123Label,
    ['a', '0', 'a--b', '1-a', a63],
    ['', 'A', '-a', 'a-', 'a.b', 'a_b', `${a63}a`, 'a\n'],
  );
  check(
    names.dns1123Subdomain,
    ['a.b', '1.2', 'a'.repeat(253)],
    ['', '.a', 'a.', 'a..b', 'A.b', 'a'.repeat(254)],
  );
  check(names.dns1035Label, ['a', 'a-1'], ['1', '1a', '-a', 'a.b']);
  check(names.wildcardDns1123Subdomain, ['*.a', '*.a.b'], ['*', 'a', '*.', '*.*.a', 'a.*']);
  check(
    names.qualifiedName,
    ['a', 'A_b.c', 'x.io/y', '1'],
    ['', '/a', 'a/', 'a/b/c', '-a', 'X/y', `${a63}a`],
  );
  check(names.labelValue, ['', 'a', 'A_b.c'], ['-', 'a b', `${a63}a`, 'a/b']);
  check(names.portName, ['http', 'a-1'], ['', '80', 'a--b', '-a', 'a-', 'A', 'a'.repeat(16)]);
  check(names.configMapKey, ['a', '.a', 'A-b_c.d', '...a'.slice(2)], ['', '.', '..', '..a', 'a/b', 'é']);
  check(names.environmentVariableName, ['A', 'a.b-c', '1', 'a b'], ['', 'a=b', 'é', 'a\n']);
  check(names.cIdentifier, ['a', '_1'], ['', '1a', 'a-b']);
  check(names.percent, ['1%', '100%'], ['', '1', '%', '-1%', '1.5%']);
  check(names.pathSegmentName, ['a:b', 'system:x'], ['.', '..', 'a/b', 'a%b']);
});

test('complaints are worded as upstream words them', () => {
  assert.deepEqual(names.dns1123Label('Bad'), [
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
  ]);
  assert.deepEqual(names.dns1123Label('a.b'), ['must not contain dots']);
  assert.deepEqual(names.dns1123Subdomain('a'.repeat(254)), ['must be no more than 253 characters']);
  assert.deepEqual(names.qualifiedName('/a'), ['prefix part must be non-empty']);
  assert.deepEqual(names.portNumber(0), ['must be between 1 and 65535, inclusive']);
});

test('hostile names cost linear time', () => {
  const start = performance.now();
  const long = 'a-'.repeat(500_000);
  for (const rule of [names.dns1123Label, names.dns1123Subdomain, names.qualifiedName, names.labelValue])
    assert.notDeepEqual(rule(`${long}!`), []);
  assert.ok(performance.now() - start < 2_000);
});
