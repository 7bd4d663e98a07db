import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { NetworkInterface } from '../../net/contract.ts';
import type { DirectoryEntry } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { FakeKernel, FakeTask, fakePath } from '../testing/fake-task.ts';
import { sysfsType } from './file-system.ts';
import { maskText } from './processors.ts';

const loopback: NetworkInterface = {
  index: 1,
  name: 'lo',
  flags: 0x49,
  mtu: 65_536,
  type: 772,
  hardwareAddress: new Uint8Array(6),
  addresses: [],
};

function mountSysfs() {
  const kernel = Object.assign(new FakeKernel(), {
    rootPidNamespace: { *processes() {} },
  });
  Object.assign(kernel.host, { cpuTime: () => 0 });
  const fake = new FakeTask(kernel);
  const interfaces = [loopback];
  const task = Object.assign(fake, { network: { interfaces } }).task;
  const fileSystem = sysfsType.mount(task, 'sysfs', '');
  assert.ok(typeof fileSystem !== 'number');
  const find = (path: string): Inode => {
    let inode = fileSystem.root;
    for (const name of path.split('/')) {
      const next = inode.lookup(name, task);
      assert.ok(typeof next !== 'number', `${path}: ${name}`);
      inode = next;
    }
    return inode;
  };
  const read = (path: string): string | number => {
    const inode = find(path);
    const file = inode.open(task, fakePath(inode), 0);
    assert.ok(typeof file !== 'number');
    return fake.read(file, 4096);
  };
  const list = (path: string, from = 0): DirectoryEntry[] => {
    const inode = find(path);
    const file = inode.open(task, fakePath(inode), 0);
    assert.ok(typeof file !== 'number');
    file.position = from;
    const entries: DirectoryEntry[] = [];
    file.readDirectory(task, (entry) => entries.push(entry) > 0);
    return entries;
  };
  return { task, fileSystem, find, read, list, interfaces };
}

describe('sysfs', () => {
  it('says how many processors there are in the words of the kernel', () => {
    const { read } = mountSysfs();
    assert.equal(read('devices/system/cpu/online'), '0-1\n');
    assert.equal(read('devices/system/cpu/possible'), '0-1\n');
    assert.equal(read('devices/system/cpu/offline'), '\n');
    assert.equal(read('devices/system/cpu/cpu1/topology/thread_siblings_list'), '1\n');
    assert.equal(read('devices/system/cpu/cpu1/topology/core_cpus'), '2\n');
    assert.equal(read('devices/system/cpu/cpu1/topology/package_cpus'), '3\n');
    assert.equal(read('devices/system/node/node0/cpulist'), '0-1\n');
  });

  it('writes masks in words of 32 bits, the highest as short as its bits', () => {
    assert.equal(
      maskText(() => true, 4),
      'f',
    );
    assert.equal(
      maskText(() => true, 33),
      '1,ffffffff',
    );
    assert.equal(
      maskText((processor) => processor === 31, 40),
      '00,80000000',
    );
  });

  it('tells the memory of its node in the columns of the kernel', () => {
    const text = String(mountSysfs().read('devices/system/node/node0/meminfo'));
    assert.match(text, /^Node 0 MemTotal: {8}1048576 kB\nNode 0 MemFree: {9}1048576 kB\n/);
    assert.match(text, /\nNode 0 Inactive\(anon\): {8}0 kB\n/);
    assert.ok(text.endsWith('Node 0 HugePages_Surp:      0\n'));
  });

  it('shows the interfaces of the network namespace, as they come and go', () => {
    const { task, fileSystem, find, read, list, interfaces } = mountSysfs();
    assert.equal(find('class/net/lo').readLink(task), '../../devices/virtual/net/lo');
    const loopbackFiles = find('devices/virtual/net/lo');
    assert.equal(read('devices/virtual/net/lo/address'), '00:00:00:00:00:00\n');
    assert.equal(read('devices/virtual/net/lo/flags'), '0x9\n');
    assert.equal(read('devices/virtual/net/lo/operstate'), 'unknown\n');
    assert.equal(read('devices/virtual/net/lo/statistics/rx_bytes'), '0\n');
    assert.equal(read('devices/virtual/net/lo/speed'), -Errno.EINVAL);
    interfaces.push({ ...loopback, index: 2, name: 'eth0', flags: 0x1043, type: 1, mtu: 1500 });
    assert.deepEqual(
      list('class/net').map(({ name }) => name),
      ['.', '..', 'lo', 'eth0'],
    );
    assert.equal(find('devices/virtual/net/lo'), loopbackFiles);
    const links = find('class/net');
    const eth0 = find('class/net/eth0');
    assert.equal(links.revalidate('eth0', eth0, task), true);
    interfaces.pop();
    assert.equal(links.revalidate('eth0', eth0, task), false);
    assert.equal(links.lookup('eth0', task), -Errno.ENOENT);
    assert.equal(fileSystem.type, 'sysfs');
  });

  it('goes on listing behind a position though names before it went', () => {
    const { list, interfaces } = mountSysfs();
    interfaces.push({ ...loopback, index: 2, name: 'eth0' }, { ...loopback, index: 3, name: 'eth1' });
    const after = list('class/net')[3]?.next ?? 0;
    interfaces.splice(0, 1);
    assert.deepEqual(
      list('class/net', after).map(({ name }) => name),
      ['eth1'],
    );
  });

  it('has texts of a page, links of directories, and refuses every change', () => {
    const { task, find, fileSystem } = mountSysfs();
    const online = find('devices/system/cpu/online');
    const stat = online.stat();
    assert.ok(typeof stat !== 'number');
    assert.equal(stat.size, 4096);
    assert.equal(stat.mode, FileType.regular | 0o444);
    assert.equal(online.open(task, fakePath(online), 1), -Errno.EACCES);
    const statfs = fileSystem.statfs();
    assert.ok(typeof statfs !== 'number');
    assert.equal(statfs.type, 0x62656572);
    const { root } = fileSystem;
    assert.equal(root.makeDirectory('x', 0o755, task.credentials), -Errno.EPERM);
    assert.equal(root.create('x', FileType.regular, 0, task.credentials), -Errno.EACCES);
    const kernel = find('kernel').stat();
    assert.ok(typeof kernel !== 'number');
    assert.equal(kernel.nlink, 3);
  });
});
