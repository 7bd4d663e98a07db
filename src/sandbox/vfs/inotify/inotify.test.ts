import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { WatchFlag } from '../../abi/inotify.ts';
import { OpenFlag } from '../../abi/open.ts';
import { BLOCKED } from '../../kernel/contract.ts';
import { Differential, hostTmpfs, type Step } from '../testing/differential.ts';
import { createTestTree, type TestTask } from '../testing/tree.ts';
import { InotifyLimits } from './inotify.ts';

const names: readonly (readonly [number, string])[] = [
  [0x1, 'ACCESS'],
  [0x2, 'MODIFY'],
  [0x4, 'ATTRIB'],
  [0x8, 'CLOSE_WRITE'],
  [0x10, 'CLOSE_NOWRITE'],
  [0x20, 'OPEN'],
  [0x40, 'MOVED_FROM'],
  [0x80, 'MOVED_TO'],
  [0x100, 'CREATE'],
  [0x200, 'DELETE'],
  [0x400, 'DELETE_SELF'],
  [0x800, 'MOVE_SELF'],
  [0x2000, 'UNMOUNT'],
  [0x4000, 'Q_OVERFLOW'],
  [0x8000, 'IGNORED'],
  [0x40000000, 'ISDIR'],
];

/** "1 CREATE|ISDIR name" for each event; cookies are left out. */
function eventTexts(buffer: Uint8Array, length: number): string[] {
  const found: string[] = [];
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  for (let at = 0; at < length; ) {
    const size = view.getUint32(at + 12, true);
    const mask = view.getUint32(at + 4, true);
    const text = names.filter(([bit]) => mask & bit).map(([, name]) => name);
    const bytes = buffer.subarray(at + 16, at + 16 + size);
    const name = Buffer.from(bytes).toString('latin1').replace(/\0+$/, '').replace(/^#\d+/, '#');
    found.push(`${view.getInt32(at, true)} ${text.join('|')}${name === '' ? '' : ` ${name}`}`);
    at += 16 + size;
  }
  return found;
}

function events(task: TestTask, fd: number): string[] {
  const buffer = new Uint8Array(65_536);
  return eventTexts(buffer, task.call('read', fd, buffer, buffer.length));
}

function watcher(): { task: TestTask; fd: number; watch: (path: string, mask?: number) => number } {
  const task = createTestTree().task();
  const fd = task.call('inotify_init1', OpenFlag.nonBlock);
  return {
    task,
    fd,
    watch: (path, mask = WatchFlag.allEvents) => task.call('inotify_add_watch', fd, path, mask),
  };
}

/** Handle 0 is the inotify instance; all events are read at the end. */
const stories: Readonly<Record<string, readonly Step[]>> = {
  'files of a directory': [
    { name: 'mkdir', args: ['d', 0o755] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, 'd', 0xfff] },
    { name: 'open', args: ['d/f', 0o102, 0o644], opens: true },
    { name: 'write', args: [{ handle: 1 }, new Uint8Array(10), 10] },
    { name: 'write', args: [{ handle: 1 }, new Uint8Array(10), 10] },
    { name: 'pread64', args: [{ handle: 1 }, new Uint8Array(10), 10, 0] },
    { name: 'ftruncate', args: [{ handle: 1 }, 5] },
    { name: 'fchmod', args: [{ handle: 1 }, 0o600] },
    { name: 'fallocate', args: [{ handle: 1 }, 0, 0, 100] },
    { name: 'close', args: [{ handle: 1 }] },
    { name: 'chmod', args: ['d/f', 0o600] },
    { name: 'chown', args: ['d/f', 5, 5] },
    { name: 'truncate', args: ['d/f', 3] },
    { name: 'utimensat', args: [-100, 'd/f', 0, 0] },
    { name: 'setxattr', args: ['d/f', 'user.a', new Uint8Array(1), 1, 0] },
    { name: 'open', args: ['d/f', 0o1001, 0], opens: true },
    { name: 'close', args: [{ handle: 2 }] },
    { name: 'link', args: ['d/f', 'd/l'] },
    { name: 'symlink', args: ['f', 'd/s'] },
    { name: 'mkdir', args: ['d/sub', 0o755] },
    { name: 'mknod', args: ['d/fifo', 0o010644, 0] },
    { name: 'rename', args: ['d/f', 'd/g'] },
    { name: 'rename', args: ['d/l', 'd/s'] },
    { name: 'rename', args: ['d/g', 'h'] },
    { name: 'rename', args: ['h', 'd/i'] },
    { name: 'renameat2', args: [-100, 'd/i', -100, 'd/sub', 2] },
    { name: 'unlink', args: ['d/sub'] },
    { name: 'rmdir', args: ['d/i'] },
    { name: 'open', args: ['d', 0o200000, 0], opens: true },
    { name: 'getdents64', args: [{ handle: 3 }, new Uint8Array(500), 500] },
    { name: 'close', args: [{ handle: 3 }] },
    { name: 'open', args: ['d', 0o20200002, 0o600], opens: true },
    { name: 'write', args: [{ handle: 4 }, new Uint8Array(10), 10] },
    { name: 'close', args: [{ handle: 4 }] },
  ],
  'a file of its own': [
    { name: 'creat', args: ['f', 0o644], opens: true },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, 'f', 0xfff] },
    { name: 'write', args: [{ handle: 1 }, new Uint8Array(1), 1] },
    { name: 'link', args: ['f', 'g'] },
    { name: 'rename', args: ['f', 'h'] },
    { name: 'unlink', args: ['h'] },
    { name: 'unlink', args: ['g'] },
    { name: 'close', args: [{ handle: 1 }] },
    { name: 'inotify_rm_watch', args: [{ handle: 0 }, 1] },
  ],
  'the end of a file that nobody has open, with its directory watched': [
    { name: 'creat', args: ['f', 0o644], opens: true },
    { name: 'close', args: [{ handle: 1 }] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, 'f', 0xfff] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, '.', 0xfff] },
    { name: 'unlink', args: ['f'] },
  ],
  'the end of a directory': [
    { name: 'mkdir', args: ['d', 0o755] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, 'd', 0xfff] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, '.', 0xfff] },
    { name: 'mkdir', args: ['d/e', 0o755] },
    { name: 'rename', args: ['d', 'x'] },
    { name: 'rmdir', args: ['x/e'] },
    { name: 'rmdir', args: ['x'] },
  ],
  'being replaced by a rename': [
    { name: 'creat', args: ['a', 0o644], opens: true },
    { name: 'close', args: [{ handle: 1 }] },
    { name: 'creat', args: ['b', 0o644], opens: true },
    { name: 'close', args: [{ handle: 2 }] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, 'b', 0xfff] },
    { name: 'inotify_add_watch', args: [{ handle: 0 }, '.', 0xfff] },
    { name: 'rename', args: ['a', 'b'] },
  ],
};

for (const [title, steps] of Object.entries(stories))
  test(`inotify tells of ${title} what it tells on the host`, {
    skip: hostTmpfs() ? false : 'needs root and a tmpfs on /dev/shm to compare with',
  }, () => {
    const both = new Differential(Differential.raw());
    try {
      const all: readonly Step[] = [
        { name: 'inotify_init1', args: [OpenFlag.nonBlock], opens: true },
        ...steps,
        {
          name: 'read',
          args: [{ handle: 0 }, new Uint8Array(4096), 4096],
          shown: ([buffer], length) => (buffer ? eventTexts(buffer, length).join('\n') : ''),
        },
      ];
      for (const step of all) assert.equal(both.run(step), undefined);
    } finally {
      both.dispose();
    }
  });

test('a directory hears of what happens to its files, in the order of Linux', () => {
  const { task, fd, watch } = watcher();
  task.call('mkdir', '/d', 0o755);
  assert.equal(watch('/d'), 1);
  const file = task.call('open', '/d/f', OpenFlag.create | OpenFlag.readWrite, 0o644);
  task.call('write', file, new Uint8Array(10), 10);
  task.call('write', file, new Uint8Array(10), 10);
  task.call('close', file);
  task.call('chmod', '/d/f', 0o600);
  task.call('mkdir', '/d/sub', 0o755);
  task.call('rename', '/d/f', '/d/g');
  task.call('rename', '/d/g', '/h');
  task.call('rmdir', '/d/sub');
  assert.deepEqual(events(task, fd), [
    '1 CREATE f',
    '1 OPEN f',
    '1 MODIFY f',
    '1 CLOSE_WRITE f',
    '1 ATTRIB f',
    '1 CREATE|ISDIR sub',
    '1 MOVED_FROM f',
    '1 MOVED_TO g',
    '1 MOVED_FROM g',
    '1 DELETE|ISDIR sub',
  ]);
});

test('a watched file hears of its end only when its last user has closed it', () => {
  const { task, fd, watch } = watcher();
  const file = task.call('open', '/f', OpenFlag.create | OpenFlag.writeOnly, 0o644);
  assert.equal(watch('/f'), 1);
  task.call('unlink', '/f');
  assert.deepEqual(events(task, fd), ['1 ATTRIB']);
  task.call('close', file);
  assert.deepEqual(events(task, fd), ['1 CLOSE_WRITE', '1 DELETE_SELF', '1 IGNORED']);
  assert.equal(task.call('inotify_rm_watch', fd, 1), -Errno.EINVAL);
});

test('reading waits for an event, and a buffer that is too short is refused', () => {
  const { task, fd, watch } = watcher();
  assert.equal(task.call('read', fd, new Uint8Array(100), 100), -Errno.EAGAIN);
  task.call('fcntl', fd, 4, 0);
  watch('/');
  assert.equal(task.call('read', fd, new Uint8Array(100), 100), BLOCKED);
  task.call('mkdir', '/longer-than-a-structure', 0o755);
  assert.equal(task.retry(), 48);
  task.call('rmdir', '/longer-than-a-structure');
  assert.equal(task.call('read', fd, new Uint8Array(20), 20), -Errno.EINVAL);
});

test('IN_ONESHOT ends after one event, IN_MASK_ADD adds, IN_MASK_CREATE refuses what is watched', () => {
  const { task, fd, watch } = watcher();
  task.call('mkdir', '/d', 0o755);
  watch('/d', WatchFlag.oneShot | 0x100);
  task.call('mkdir', '/d/a', 0o755);
  task.call('mkdir', '/d/b', 0o755);
  assert.deepEqual(events(task, fd), ['1 CREATE|ISDIR a', '1 IGNORED']);
  assert.equal(watch('/d', 0x100), 2);
  assert.equal(watch('/d', 0x200 | WatchFlag.maskAdd), 2);
  assert.equal(watch('/d', 0x200 | WatchFlag.maskCreate), -Errno.EEXIST);
  task.call('rmdir', '/d/b');
  task.call('mkdir', '/d/b', 0o755);
  assert.deepEqual(events(task, fd), ['2 DELETE|ISDIR b', '2 CREATE|ISDIR b']);
  assert.equal(watch('/d/a/x'), -Errno.ENOENT);
  task.call('close', task.call('creat', '/f', 0o644));
  assert.equal(watch('/f', WatchFlag.onlyDirectory | 1), -Errno.ENOTDIR);
  assert.equal(watch('/f', 0), -Errno.EINVAL);
});

test('IN_EXCL_UNLINK hides what happens to a file without a name', () => {
  const { task, fd, watch } = watcher();
  const file = task.call('open', '/f', OpenFlag.create | OpenFlag.writeOnly, 0o644);
  watch('/', 0x2 | WatchFlag.excludeUnlinked);
  task.call('write', file, new Uint8Array(1), 1);
  task.call('unlink', '/f');
  task.call('write', file, new Uint8Array(1), 1);
  assert.deepEqual(events(task, fd), ['1 MODIFY f']);
});

test('a full queue ends with one overflow event', () => {
  const { task, fd, watch } = watcher();
  task.kernel.part(InotifyLimits).maximumEvents = 4;
  watch('/', 0x300);
  for (let i = 0; i < 6; i++) task.call('mkdir', `/${i}`, 0o755);
  assert.deepEqual(events(task, fd).slice(-2), ['1 CREATE|ISDIR 3', '-1 Q_OVERFLOW']);
  task.call('rmdir', '/5');
  assert.deepEqual(events(task, fd), ['1 DELETE|ISDIR 5']);
});

test('unmounting tells the watches of the file system', () => {
  const { task, fd, watch } = watcher();
  task.call('mkdir', '/m', 0o755);
  task.call('mount', 'x', '/m', 'tmpfs', 0, 0);
  watch('/m');
  assert.equal(task.call('umount2', '/m', 0), 0);
  assert.deepEqual(events(task, fd), ['1 UNMOUNT', '1 IGNORED']);
});
