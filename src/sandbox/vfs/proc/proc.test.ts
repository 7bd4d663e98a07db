import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { At } from '../../abi/file.ts';
import { MountFlag } from '../../abi/mount.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import { TaskCredentials } from '../../kernel/credentials/credentials.ts';
import { Clone, dataAddress, Sandbox } from '../../kernel/signal/fixture.ts';
import { SystemIdentity } from '../../kernel/system-identity.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import type { MemoryManager, Vma } from '../../mm/contract.ts';
import { VmFlag } from '../../mm/vma.ts';
import type { FakeContext } from '../../testing/fake-platform.ts';
import type { MountNamespace, Path } from '../contract.ts';
import { DescriptorTable } from '../fd-table.ts';
import type { FileDescription } from '../file-description.ts';
import { FileSystemContext } from '../fs-context.ts';
import { UserIo } from '../io.ts';
import { PipeFileSystem } from '../pipe/file-system.ts';
import { TmpfsFileSystem } from '../tmpfs/file-system.ts';
import { Vfs } from '../vfs.ts';
import { Lookup, resolvePath } from '../walk.ts';
import { ProcFileSystem } from './file-system.ts';
import { ProcRegistry } from './registry.ts';

const buffer = 0x50_0000;

function books(layout: Partial<MemoryManager['layout']>, vmas: readonly Partial<Vma>[]): MemoryManager {
  const manager = {
    users: 1,
    dumpable: 1,
    layout: {
      codeStart: 0x40_1000,
      codeEnd: 0x40_2500,
      dataStart: 0x40_3000,
      dataEnd: 0x40_3800,
      brkStart: 0x50_0000,
      brk: 0x52_1000,
      stackStart: 0x20_7f00,
      argumentsStart: 0,
      argumentsEnd: 0,
      environmentStart: 0,
      environmentEnd: 0,
      auxiliaryVector: new Uint8Array([6, 0, 0]),
      ...layout,
    },
    vmas: () => vmas.values(),
    memoryOf: (context: FakeContext) => context.memory,
    acquire: () => {
      manager.users++;
      return manager;
    },
    release: () => {
      manager.users--;
    },
    fork: () => manager,
    usage: () => ({
      total: 2_998_272,
      locked: 0,
      data: 229_376,
      stack: 135_168,
      executable: 1_589_248,
      resident: 1_699_840,
      peakTotal: 2_998_272,
    }),
  };
  return manager as unknown as MemoryManager;
}

function mounted(options = '') {
  const sandbox = new Sandbox();
  const { kernel } = sandbox;
  const thread = sandbox.process();
  const vfs = kernel.part(Vfs);
  const rootFs = new TmpfsFileSystem(kernel, { mode: 0o755 });
  const directory = rootFs.root.makeDirectory('proc', 0o755, thread.credentials);
  assert(typeof directory !== 'number');
  const namespace = vfs.namespace(rootFs, 'none', MountFlag.relativeAccessTime);
  kernel.namespaceUsers.hold(namespace);
  equip(thread, namespace);
  const proc = new ProcFileSystem(kernel, kernel.rootPidNamespace);
  assert.equal(proc.reconfigure(thread, options), 0);
  const superBlock = vfs.superBlock(proc, 0);
  const flags = MountFlag.noSuid | MountFlag.noDevices | MountFlag.noExec | MountFlag.relativeAccessTime;
  assert.equal(
    namespace.attach(vfs.newMount(superBlock, superBlock.root, flags, 'proc'), place(thread, '/proc')),
    0,
  );
  return { sandbox, kernel, thread, namespace, proc };
}

/** Real files, places and mounts for a thread of the fixture. */
function equip(thread: Thread, namespace: MountNamespace): Thread {
  thread.files = new DescriptorTable();
  thread.fs = new FileSystemContext(namespace.root);
  thread.mounts = namespace;
  thread.network = { interfaces: [], userNamespace: thread.credentials.userNamespace } as never;
  thread.mm = books({}, []);
  (thread.context as FakeContext).memory.allocate(buffer, 65_536);
  return thread;
}

function place(thread: Thread, path: string, flags: number = Lookup.follow): Path {
  const found = resolvePath(thread, At.cwd, path, flags);
  assert(typeof found !== 'number', `${path}: errno ${found}`);
  return found;
}

function open(thread: Thread, path: string, flags: number = OpenFlag.readOnly): FileDescription | number {
  const found = resolvePath(thread, At.cwd, path, Lookup.follow);
  if (typeof found === 'number') return found;
  return found.dentry.inode?.open(thread, found, flags) ?? -Errno.ENOENT;
}

function cat(thread: Thread, path: string): string {
  const file = open(thread, path);
  assert(typeof file !== 'number', `${path}: errno ${file}`);
  let text = '';
  for (;;) {
    const count = file.read(thread, new UserIo(thread.memory, [buffer, 4096]), undefined);
    assert(count >= 0, `${path}: errno ${count}`);
    if (count === 0) break;
    const bytes = new Uint8Array(count);
    thread.memory.peek(buffer, bytes, 0, count);
    text += Buffer.from(bytes).toString('latin1');
  }
  file.unreference();
  return text;
}

function write(thread: Thread, path: string, text: string): number {
  const file = open(thread, path, OpenFlag.writeOnly);
  if (typeof file === 'number') return file;
  thread.memory.poke(buffer, Buffer.from(text), 0, text.length);
  const result = file.write(thread, new UserIo(thread.memory, [buffer, text.length]), undefined);
  file.unreference();
  return result;
}

function list(thread: Thread, path: string): string[] {
  const file = open(thread, path, OpenFlag.directory);
  assert(typeof file !== 'number', `${path}: errno ${file}`);
  const names: string[] = [];
  file.readDirectory(thread, ({ name }) => names.push(name) > 0);
  return names;
}

function readLink(thread: Thread, path: string): string | number {
  return place(thread, path, 0).dentry.inode?.readLink(thread) ?? -Errno.ENOENT;
}

/** A text with its values left out, for comparing forms. */
const form = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/:.*/, ':').replace(/\s.*/, ''));

test('stat has the 52 fields of Linux, and the numbers of this PID namespace', () => {
  const { thread } = mounted();
  thread.name = 'a) (b';
  const text = cat(thread, '/proc/self/stat');
  assert.match(text, /^1 \(a\) \(b\) R 0 1 1 0 -1 /);
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  assert.equal(
    fields.length + 2,
    readFileSync('/proc/self/stat', 'latin1')
      .replace(/\(.*\)/, 'x')
      .split(' ').length,
  );
  assert.equal(fields[20], '2998272');
  assert.equal(fields[21], '415');
  assert.equal(fields[22], '18446744073709551615');
});

test('status has the rows of the host’s own kernel in the same order', () => {
  const { thread } = mounted();
  const ours = form(cat(thread, '/proc/self/status'));
  const theirs = form(readFileSync('/proc/self/status', 'latin1')).filter((name) => !name.startsWith('x86_'));
  assert.deepEqual(ours, theirs);
});

test('texts of the machine have the rows of the host’s own kernel', () => {
  const { thread, kernel } = mounted();
  const memory = form(cat(thread, '/proc/meminfo'));
  for (const name of form(readFileSync('/proc/meminfo', 'latin1'))) {
    if (/^(Balloon|DirectMap|Cma|Hardware|Huge|GPU)/.test(name)) continue;
    assert(memory.includes(name), name);
  }
  for (const file of [
    'net/tcp',
    'net/tcp6',
    'net/udp',
    'net/udp6',
    'net/unix',
    'net/raw',
    'net/route',
    'net/netlink',
  ])
    assert.equal(
      cat(thread, `/proc/${file}`).split('\n')[0],
      readFileSync(`/proc/${file}`, 'latin1').split('\n')[0],
      file,
    );
  for (const file of ['sysvipc/shm', 'sysvipc/sem', 'sysvipc/msg', 'swaps'])
    assert.equal(
      cat(thread, `/proc/${file}`),
      readFileSync(`/proc/${file}`, 'latin1').replace(/\n.*$/s, '\n'),
      file,
    );
  assert.deepEqual(
    cat(thread, '/proc/self/limits')
      .split('\n')
      .map((line) => line.slice(0, 26)),
    readFileSync('/proc/self/limits', 'latin1')
      .split('\n')
      .map((line) => line.slice(0, 26)),
  );
  kernel.part(SystemIdentity).processorInformation = readFileSync('/proc/cpuinfo', 'latin1');
  const processors = cat(thread, '/proc/cpuinfo');
  assert.equal(processors.match(/^processor\t: /gm)?.length, kernel.cpus);
  assert.match(processors, /^siblings\t: 1$/m);
  assert(processors.endsWith('\n\n'));
  assert.match(cat(thread, '/proc/version'), /^Linux version 6\.12\.0 /);
  assert.match(cat(thread, '/proc/uptime'), /^\d+\.\d\d \d+\.\d\d\n$/);
  assert.match(cat(thread, '/proc/loadavg'), /^\d\.\d\d \d\.\d\d \d\.\d\d \d\/1 1\n$/);
  assert.match(cat(thread, '/proc/stat'), /^cpu {2}\d+ 0 \d+ \d+ 0 0 0 0 0 0\ncpu0 \d+ /);
});

test('self and thread-self are whoever reads', () => {
  const { sandbox, thread, namespace } = mounted();
  const second = equip(sandbox.clone(thread), namespace);
  assert.equal(readLink(thread, '/proc/self'), '1');
  assert.equal(readLink(second, '/proc/self'), '2');
  assert.equal(readLink(second, '/proc/thread-self'), '2/task/2');
  assert.match(cat(second, '/proc/self/stat'), /^2 \(program\) R 1 1 1 /);
  assert.deepEqual(
    list(thread, '/proc').filter((name) => /^\d/.test(name)),
    ['1', '2'],
  );
});

test('threads are listed below their process, and found in the root without being listed', () => {
  const { sandbox, thread, namespace } = mounted();
  const other = equip(sandbox.clone(thread, Clone.vm | Clone.sighand | Clone.thread), namespace);
  assert.deepEqual(list(thread, '/proc/1/task'), ['.', '..', '1', '2']);
  assert.match(cat(thread, `/proc/1/task/${other.tid}/stat`), /^2 /);
  assert.match(cat(thread, '/proc/2/status'), /^Tgid:\t1$/m);
  assert(!list(thread, '/proc').includes('2'));
});

test('what a process leaves behind is gone with it', () => {
  const { sandbox, thread, namespace } = mounted();
  const child = equip(sandbox.clone(thread), namespace);
  const file = open(thread, '/proc/2/status');
  assert(typeof file !== 'number');
  assert.match(cat(thread, '/proc/2/comm'), /program/);
  child.exitGroup(0);
  sandbox.settle();
  assert.match(cat(thread, '/proc/2/stat'), /^2 \(program\) Z 1 /);
  assert.equal(cat(thread, '/proc/2/cmdline'), '');
  child.process.reaped = true;
  child.id.thread = undefined;
  child.id.process = undefined;
  assert.equal(open(thread, '/proc/2/status'), -Errno.ENOENT);
  assert.equal(file.read(thread, new UserIo(thread.memory, [buffer, 100]), undefined), -Errno.ESRCH);
});

test('cmdline, environ and auxv are read from the program’s memory as it is now', () => {
  const { thread } = mounted();
  const put = (at: number, text: string): void => {
    thread.memory.poke(at, Buffer.from(text), 0, text.length);
  };
  thread.mm = books(
    {
      argumentsStart: dataAddress,
      argumentsEnd: dataAddress + 8,
      environmentStart: dataAddress + 8,
      environmentEnd: dataAddress + 24,
    },
    [],
  );
  put(dataAddress, 'ls\0-l\0x\0HOME=/\0PATH=/b\0');
  assert.equal(cat(thread, '/proc/self/cmdline'), 'ls\0-l\0x\0');
  assert.equal(cat(thread, '/proc/self/environ'), 'HOME=/\0PATH=/b\0\0');
  put(dataAddress, 'nginx: worker process\0');
  assert.equal(cat(thread, '/proc/self/cmdline'), 'nginx: worker process\0');
  assert.equal(cat(thread, '/proc/self/auxv'), '\x06\0\0');
});

test('maps has the form of Linux, with names in their column', () => {
  const { thread } = mounted();
  thread.mm = books({}, [
    {
      start: 0x5555_5555_4000,
      end: 0x5555_5555_6000,
      protection: 5,
      shared: false,
      flags: VmFlag.read | VmFlag.exec | VmFlag.mayRead,
      file: undefined,
      fileOffset: 0,
      label: '[heap]',
    },
    {
      start: 0x1_0000,
      end: 0x1_1000,
      protection: 3,
      shared: true,
      flags: VmFlag.read,
      label: '',
      fileOffset: 0,
    },
  ]);
  assert.equal(
    cat(thread, '/proc/self/maps'),
    '555555554000-555555556000 r-xp 00000000 00:00 0                          [heap]\n' +
      '00010000-00011000 rw-s 00000000 00:00 0 \n',
  );
  assert.deepEqual(
    form(cat(thread, '/proc/self/smaps')).slice(1, 24),
    form(readFileSync('/proc/self/smaps', 'latin1')).slice(1, 24),
  );
  assert.deepEqual(
    form(cat(thread, '/proc/self/smaps_rollup')).slice(1),
    form(readFileSync('/proc/self/smaps_rollup', 'latin1')).slice(1),
  );
});

test('fd shows what is open, with its rights, and leads to the file itself, pipes too', () => {
  const { thread, kernel } = mounted();
  const ends = kernel.part(PipeFileSystem).create(thread, 0);
  assert(typeof ends !== 'number');
  assert.equal(thread.files.install(thread, ends.reader, false), 0);
  assert.equal(thread.files.install(thread, ends.writer, true), 1);
  const directory = open(thread, '/proc');
  assert(typeof directory !== 'number');
  thread.files.install(thread, directory, false);
  assert.deepEqual(list(thread, '/proc/self/fd'), ['.', '..', '0', '1', '2']);
  assert.equal(readLink(thread, '/proc/self/fd/1'), ends.writer.describe());
  assert.equal(readLink(thread, '/proc/self/fd/2'), '/proc');
  const link = place(thread, '/proc/self/fd/1', 0).dentry.inode?.stat();
  assert(typeof link === 'object');
  assert.equal(link.mode, FileType.symlink | 0o300);
  assert.equal(write(thread, '/proc/self/fd/1', 'through the link'), 16);
  assert.equal(ends.reader.pipe.available, 16);
  const stat = place(thread, '/proc/self/fd/0').dentry.inode?.stat();
  assert(typeof stat === 'object');
  assert.equal(stat.mode, FileType.fifo | 0o600);
  assert.match(cat(thread, '/proc/self/fdinfo/1'), /^pos:\t0\nflags:\t02000001\nmnt_id:\t\d+\nino:\t\d+\n$/);
  thread.files.close(thread, 1);
  assert.equal(open(thread, '/proc/self/fd/1'), -Errno.ENOENT);
});

test('cwd, root and exe lead to places; mounts and mountinfo tell of them', () => {
  const { thread, namespace } = mounted();
  assert.equal(readLink(thread, '/proc/self/cwd'), '/');
  thread.fs.setCwd(place(thread, '/proc'));
  assert.equal(readLink(thread, '/proc/self/cwd'), '/proc');
  assert.equal(place(thread, '/proc/self/cwd').dentry, place(thread, '/proc').dentry);
  const lines = cat(thread, '/proc/mounts').split('\n');
  assert.match(lines[0] ?? '', /^none \/ tmpfs rw,relatime,.*mode=755.* 0 0$/);
  assert.equal(lines[1], 'proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0');
  assert.match(
    cat(thread, '/proc/self/mountinfo'),
    /^\d+ \d+ 0:\d+ \/ \/proc rw,nosuid,nodev,noexec,relatime - proc proc rw$/m,
  );
  const file = open(thread, '/proc/self/mounts');
  assert(typeof file !== 'number');
  assert.equal(file.readiness(Poll.pri | Poll.in, thread), Poll.in);
  namespace.vfs.unmountAt(namespace.mounts()[1]?.mountPoint ?? assert.fail());
  assert.equal(file.readiness(Poll.pri | Poll.in, thread) & (Poll.pri | Poll.err), Poll.pri | Poll.err);
  assert.equal(file.readiness(Poll.pri, thread), 0);
});

test('another user’s process shows neither its files nor its memory, but its status', () => {
  const { sandbox, thread, namespace } = mounted();
  const other = equip(sandbox.clone(thread), namespace);
  other.credentials = TaskCredentials.of(sandbox.kernel.rootUserNamespace, 1000, 1000, []);
  assert.match(cat(other, '/proc/1/status'), /^Uid:\t0\t0\t0\t0$/m);
  assert.match(cat(other, '/proc/1/stat'), / 1 1 0 0 0 /);
  for (const name of ['maps', 'environ', 'auxv', 'mem'])
    assert.equal(open(other, `/proc/1/${name}`), -Errno.EACCES, name);
  assert.equal(readLink(other, '/proc/1/exe'), -Errno.EACCES);
  assert.equal(resolvePath(other, At.cwd, '/proc/1/fd/0', 0), -Errno.EACCES);
  assert.equal(place(other, '/proc/sys/kernel/pid_max').dentry.inode?.permission(2, other), -Errno.EACCES);
});

test('hidepid hides others’ processes, except from the group that sees all', () => {
  const { sandbox, thread, namespace, proc } = mounted('hidepid=2');
  const other = equip(sandbox.clone(thread), namespace);
  other.credentials = TaskCredentials.of(sandbox.kernel.rootUserNamespace, 1000, 1000, [77]);
  const processes = (): string[] => list(other, '/proc').filter((name) => /^\d/.test(name));
  assert.deepEqual(processes(), ['2']);
  assert.equal(open(other, '/proc/1/status'), -Errno.ENOENT);
  assert.equal(proc.reconfigure(thread, 'hidepid=nonsense'), -Errno.EINVAL);
  assert.equal(proc.reconfigure(thread, 'gid=77'), 0);
  assert.equal(proc.options, 'gid=77,hidepid=invisible');
  assert.deepEqual(processes(), ['1', '2']);
});

test('names, scores and settings are written where that has an effect, and only there', () => {
  const { thread, kernel } = mounted();
  assert.equal(write(thread, '/proc/self/comm', 'a name that is too long'), 23);
  assert.equal(thread.name, 'a name that is ');
  assert.equal(write(thread, '/proc/self/oom_score_adj', '-500\n'), 5);
  assert.equal(cat(thread, '/proc/self/oom_adj'), '-8\n');
  assert.equal(write(thread, '/proc/self/oom_score_adj', '2000'), -Errno.EINVAL);
  assert.equal(write(thread, '/proc/sys/kernel/hostname', 'box\n'), 4);
  assert.equal(thread.uts.hostname, 'box');
  assert.equal(write(thread, '/proc/sys/fs/pipe-max-size', '70000'), 5);
  assert.equal(cat(thread, '/proc/sys/fs/pipe-max-size'), '131072\n');
  assert.equal(kernel.part(PipeFileSystem).maximumSize, 131_072);
  assert.equal(write(thread, '/proc/sys/kernel/pid_max', 'many'), -Errno.EINVAL);
  const setting = place(thread, '/proc/sys/vm/overcommit_memory').dentry.inode;
  assert.equal(setting?.permission(2, thread), -Errno.EACCES);
  assert.match(cat(thread, '/proc/sys/kernel/random/uuid'), /^[0-9a-f-]{36}\n$/);
  assert.notEqual(cat(thread, '/proc/sys/kernel/random/uuid'), cat(thread, '/proc/sys/kernel/random/uuid'));
  assert.equal(
    cat(thread, '/proc/sys/kernel/random/boot_id'),
    cat(thread, '/proc/sys/kernel/random/boot_id'),
  );
});

test('a text stays the same while it is read in pieces, and is made anew at its beginning', () => {
  const { thread } = mounted();
  const file = open(thread, '/proc/self/comm');
  assert(typeof file !== 'number');
  const read = (length: number): string => {
    const count = file.read(thread, new UserIo(thread.memory, [buffer, length]), undefined);
    const bytes = new Uint8Array(count);
    thread.memory.peek(buffer, bytes, 0, count);
    return Buffer.from(bytes).toString();
  };
  assert.equal(read(3), 'pro');
  thread.name = 'other';
  assert.equal(read(100), 'gram\n');
  assert.equal(file.seek(thread, 0, 0), 0);
  assert.equal(read(100), 'other\n');
  assert.equal(file.seek(thread, 0, 2), -Errno.EINVAL);
});

test('mem reads and writes at addresses, and gives EIO where nothing is', () => {
  const { thread } = mounted();
  thread.memory.poke(dataAddress, Buffer.from('secret'), 0, 6);
  const file = open(thread, '/proc/self/mem', OpenFlag.readWrite);
  assert(typeof file !== 'number');
  assert.equal(file.read(thread, new UserIo(thread.memory, [buffer, 6]), dataAddress), 6);
  const bytes = new Uint8Array(6);
  thread.memory.peek(buffer, bytes, 0, 6);
  assert.equal(Buffer.from(bytes).toString(), 'secret');
  assert.equal(file.read(thread, new UserIo(thread.memory, [buffer, 6]), 0x7000_0000), -Errno.EIO);
  assert.equal(file.write(thread, new UserIo(thread.memory, [buffer, 3]), dataAddress + 3), 3);
  thread.memory.peek(dataAddress, bytes, 0, 6);
  assert.equal(Buffer.from(bytes).toString(), 'secsec');
});

test('other parts show their tables', () => {
  const { thread, kernel } = mounted();
  const registry = kernel.part(ProcRegistry);
  registry.showNetwork('tcp', () => 'head\nrow\n');
  registry.showSysvipc('shm', () => 'segments\n');
  assert.equal(cat(thread, '/proc/net/tcp'), 'head\nrow\n');
  assert.equal(cat(thread, '/proc/sysvipc/shm'), 'segments\n');
  assert(list(thread, '/proc/net').includes('tcp'));
});

test('namespaces are links with their numbers, and can be opened', () => {
  const { thread } = mounted();
  assert.match(String(readLink(thread, '/proc/self/ns/uts')), /^uts:\[\d+\]$/);
  const file = open(thread, '/proc/self/ns/uts');
  assert(typeof file !== 'number');
  assert.equal(file.describe(), readLink(thread, '/proc/self/ns/uts'));
});

test('every file of a process and of the root can be looked at, and read or refused', () => {
  const { thread } = mounted();
  const visit = (path: string, depth: number): void => {
    for (const name of list(thread, path)) {
      if (name === '.' || name === '..') continue;
      const found = resolvePath(thread, At.cwd, `${path}/${name}`, 0);
      assert(typeof found !== 'number', `${path}/${name}: errno ${found}`);
      const { inode } = found.dentry;
      const stat = inode?.stat();
      assert(typeof stat === 'object', `${path}/${name}`);
      if (inode?.isDirectory && depth > 0) visit(`${path}/${name}`, depth - 1);
      if (!inode?.isRegular || (inode.mode & 0o400) === 0) continue;
      const file = open(thread, `${path}/${name}`);
      if (typeof file === 'number') continue;
      const count = file.read(thread, new UserIo(thread.memory, [buffer, 65_536]), undefined);
      assert(count >= 0 || [-Errno.EINVAL, -Errno.EIO].includes(count), `${path}/${name}: ${count}`);
    }
  };
  visit('/proc', 4);
});

test('whatever is written anywhere in proc gives a count or an error', () => {
  const { thread } = mounted();
  let seed = 7;
  const random = (limit: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * limit);
  };
  const alphabet = '0123456789-+ \t\n\0,=:abcxyz\\/\xff';
  const files: FileDescription[] = [];
  const collect = (path: string, depth: number): void => {
    for (const name of list(thread, path)) {
      if (name === '.' || name === '..') continue;
      const found = resolvePath(thread, At.cwd, `${path}/${name}`, 0);
      if (typeof found === 'number') continue;
      const { inode } = found.dentry;
      if (inode?.isDirectory && depth > 0) collect(`${path}/${name}`, depth - 1);
      if (!inode?.isRegular || (inode.mode & 0o222) === 0 || name === 'mem') continue;
      const file = inode.open(thread, found, OpenFlag.readWrite);
      if (typeof file !== 'number') files.push(file);
    }
  };
  collect('/proc', 4);
  assert(files.length > 10);
  for (let round = 0; round < 200; round++)
    for (const file of files) {
      const length = random(40);
      const text = Array.from({ length }, () => alphabet[random(alphabet.length)]).join('');
      thread.memory.poke(buffer, Buffer.from(text, 'latin1'), 0, length);
      const result = file.write(thread, new UserIo(thread.memory, [buffer, length]), random(3) || undefined);
      assert(Number.isInteger(result) && result <= length, text);
    }
});
