import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually } from '../../client/testing/eventually.ts';
import { silentLogger } from '../../component/index.ts';
import { followResolvConf, parseNameservers } from './resolv-conf.ts';
import { formatUpstream } from './upstream.ts';

test('name servers are read as resolv.conf(5) has them', () => {
  const text =
    '# nameserver 1.1.1.1\nsearch a b\nnameserver 9.9.9.9\n  nameserver\tfe80::1%eth0 trailing\nnameserver x\nnameserver\n';
  const { addresses, rejected } = parseNameservers(text);
  assert.deepEqual(addresses.map(formatUpstream), ['9.9.9.9:53', '[fe80::1%eth0]:53']);
  assert.deepEqual(rejected, ['x']);
});

test('a resolv.conf is followed through writing, renaming, links and absence', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'resolv-conf-'));
  try {
    const path = join(folder, 'resolv.conf');
    let now: string | undefined;
    await using _follower = await followResolvConf({
      path,
      logger: silentLogger,
      changed: (addresses) => {
        now = addresses.map(formatUpstream).join();
      },
    });
    assert.equal(now, '');
    const becomes = (expected: string) => eventually(`upstreams are ${expected}`, () => now === expected);
    await writeFile(path, 'nameserver 10.0.0.1\n');
    await becomes('10.0.0.1:53');
    await writeFile(path, 'nameserver 10.0.0.2\n');
    await becomes('10.0.0.2:53');
    await writeFile(`${path}.new`, 'nameserver 10.0.0.3\n');
    await rename(`${path}.new`, path);
    await becomes('10.0.0.3:53');
    await writeFile(path, 'nameserver 10.0.0.4\n');
    await becomes('10.0.0.4:53');
    await mkdir(join(folder, 'run'));
    const target = join(folder, 'run/stub.conf');
    await writeFile(target, 'nameserver 10.0.0.5\n');
    await unlink(path);
    await becomes('');
    await symlink('run/stub.conf', path);
    await becomes('10.0.0.5:53');
    await writeFile(`${target}.new`, 'nameserver 10.0.0.6\n');
    await rename(`${target}.new`, target);
    await becomes('10.0.0.6:53');
    await writeFile(target, 'nameserver 10.0.0.7\n');
    await becomes('10.0.0.7:53');
  } finally {
    await rm(folder, { recursive: true });
  }
});
