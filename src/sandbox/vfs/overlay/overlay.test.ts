// The same operations on the host's own overlay (on a tmpfs of the test's) and on the sandbox's, and every difference.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { randomNumbers } from '../testing/differential.ts';
import { createTestTree, type TestTask } from '../testing/tree.ts';
import { memoryOverlay, overlayType, parseOverlayOptions } from './file-system.ts';

/** Results are numbers (negative: an errno) or what was read. */
type Result = number | string;

interface Side {
  mkdir(path: string): Result;
  rmdir(path: string): Result;
  unlink(path: string): Result;
  rename(from: string, to: string): Result;
  link(from: string, to: string): Result;
  symlink(target: string, path: string): Result;
  chmod(path: string, mode: number): Result;
  truncate(path: string, size: number): Result;
  append(path: string, text: string): Result;
  rewrite(path: string, text: string): Result;
  read(path: string): Result;
  /** Type, mode, size of what is no directory. */
  look(path: string): Result;
  number(path: string): number;
  list(path: string): Result;
}

function native(root: string): Side {
  const at = (path: string): string => join(root, path);
  const tried = (action: () => unknown): Result => {
    try {
      const result = action();
      return typeof result === 'string' ? result : 0;
    } catch (error) {
      return (error as { errno?: number }).errno ?? -1;
    }
  };
  return {
    mkdir: (path) => tried(() => fs.mkdirSync(at(path), 0o755)),
    rmdir: (path) => tried(() => fs.rmdirSync(at(path))),
    unlink: (path) => tried(() => fs.unlinkSync(at(path))),
    rename: (from, to) => tried(() => fs.renameSync(at(from), at(to))),
    link: (from, to) => tried(() => fs.linkSync(at(from), at(to))),
    symlink: (target, path) => tried(() => fs.symlinkSync(target, at(path))),
    chmod: (path, mode) => tried(() => fs.chmodSync(at(path), mode)),
    truncate: (path, size) => tried(() => fs.truncateSync(at(path), size)),
    append: (path, text) => tried(() => fs.appendFileSync(at(path), text)),
    rewrite: (path, text) => tried(() => fs.writeFileSync(at(path), text)),
    read: (path) => tried(() => fs.readFileSync(at(path), 'latin1')),
    look: (path) =>
      tried(() => {
        const stat = fs.lstatSync(at(path));
        return `${stat.mode.toString(8)} ${stat.isDirectory() ? '' : `${stat.size} ${stat.nlink}`}`;
      }),
    number: (path) => fs.lstatSync(at(path)).ino,
    list: (path) => tried(() => fs.readdirSync(at(path)).sort().join(' ')),
  };
}

function emulated(task: TestTask, root: string): Side {
  const at = (path: string): string => `${root}/${path}`;
  const withFile = (path: string, flags: number, use: (fd: number) => Result): Result => {
    const fd = task.call('open', at(path), flags, 0o666);
    if (fd < 0) return fd;
    const result = use(fd);
    task.call('close', fd);
    return result;
  };
  const write = (path: string, flags: number, text: string): Result =>
    withFile(path, flags, (fd) => Math.min(0, task.call('write', fd, Buffer.from(text), text.length)));
  const status = (path: string): DataView | number => {
    const buffer = new Uint8Array(144);
    const result = task.call('lstat', at(path), buffer);
    return result < 0 ? result : new DataView(buffer.buffer);
  };
  return {
    mkdir: (path) => task.call('mkdir', at(path), 0o755),
    rmdir: (path) => task.call('rmdir', at(path)),
    unlink: (path) => task.call('unlink', at(path)),
    rename: (from, to) => task.call('rename', at(from), at(to)),
    link: (from, to) => task.call('link', at(from), at(to)),
    symlink: (target, path) => task.call('symlink', target, at(path)),
    chmod: (path, mode) => task.call('chmod', at(path), mode),
    truncate: (path, size) => task.call('truncate', at(path), size),
    append: (path, text) => write(path, 0o2101, text),
    rewrite: (path, text) => write(path, 0o1101, text),
    read: (path) =>
      withFile(path, 0, (fd) => {
        const buffer = new Uint8Array(65_536);
        const count = task.call('read', fd, buffer, buffer.length);
        return count < 0 ? count : Buffer.from(buffer.subarray(0, count)).toString('latin1');
      }),
    look: (path) => {
      const view = status(path);
      if (typeof view === 'number') return view;
      const mode = view.getUint32(24, true);
      const isDirectory = (mode & 0o170000) === 0o040000;
      const rest = `${view.getBigUint64(48, true)} ${view.getUint32(16, true)}`;
      return `${mode.toString(8)} ${isDirectory ? '' : rest}`;
    },
    number: (path) => {
      const view = status(path);
      return typeof view === 'number' ? view : Number(view.getBigUint64(8, true));
    },
    list: (path) =>
      withFile(path, 0o200000, (fd) => {
        const names: string[] = [];
        for (;;) {
          // So small that a listing takes several calls.
          const buffer = new Uint8Array(128);
          const count = task.call('getdents64', fd, buffer, buffer.length);
          if (count < 0) return count;
          if (count === 0) return names.sort().join(' ');
          const view = new DataView(buffer.buffer);
          for (let place = 0; place < count; place += view.getUint16(place + 16, true)) {
            const end = buffer.indexOf(0, place + 19);
            const name = Buffer.from(buffer.subarray(place + 19, end)).toString('latin1');
            if (name !== '.' && name !== '..') names.push(name);
          }
        }
      }),
  };
}

/** What the lower layers have before the overlay is mounted. */
function fill(lowest: Side, higher: Side): void {
  for (const side of [lowest, higher]) for (const name of ['a', 'd', 'd/e']) side.mkdir(name);
  lowest.rewrite('f', 'lowest f');
  higher.rewrite('f', 'higher f');
  lowest.rewrite('a/x', 'a x');
  lowest.rewrite('d/g', 'lowest g'.repeat(1000));
  higher.rewrite('d/h', 'higher h');
  lowest.rewrite('d/e/f', 'deep');
  lowest.link('d/g', 'd/i');
  lowest.symlink('f', 's');
  lowest.mkdir('c');
  higher.rewrite('c', 'a file over a directory');
  higher.chmod('f', 0o640);
}

const mountPoint = '/m';

function emulatedOverlay(): { readonly task: TestTask; readonly side: Side } {
  const tree = createTestTree();
  tree.vfs.registerType(overlayType);
  const task = tree.task();
  for (const name of ['/l', '/h', '/u', '/w', mountPoint]) assert.equal(task.call('mkdir', name, 0o755), 0);
  fill(emulated(task, '/l'), emulated(task, '/h'));
  const options = 'lowerdir=/h:/l,upperdir=/u,workdir=/w';
  assert.equal(task.call('mount', 'overlay', mountPoint, 'overlay', 0, options), 0);
  return { task, side: emulated(task, mountPoint) };
}

/** Everything that can be seen below a directory. */
function describeTree(side: Side, path = '.'): string[] {
  const lines: string[] = [];
  for (const name of String(side.list(path)).split(' ')) {
    if (name === '') continue;
    const below = `${path}/${name}`;
    const look = String(side.look(below));
    const isDirectory = look.startsWith('40');
    lines.push(`${below} ${look} ${look.startsWith('100') ? side.read(below) : ''}`);
    if (isDirectory) lines.push(...describeTree(side, below));
  }
  return lines;
}

const names = ['a', 'c', 'd', 'f', 's', 'n', 'a/x', 'a/n', 'd/e', 'd/e/f', 'd/g', 'd/h', 'd/i', 'n/x', 'n/d'];

type Step = readonly [call: keyof Side, ...args: (string | number)[]];

function randomStep(random: (below: number) => number): Step {
  const name = (): string => names[random(names.length)] ?? 'a';
  switch (random(14)) {
    case 0:
    case 1:
      return ['mkdir', name()];
    case 2:
      return ['rmdir', name()];
    case 3:
    case 4:
      return ['unlink', name()];
    case 5:
    case 6:
    case 7:
      return ['rename', name(), name()];
    case 8:
      return ['link', name(), name()];
    case 9:
      return ['symlink', 'f', name()];
    case 10:
      return ['chmod', name(), 0o700 + random(0o100)];
    case 11:
      return ['truncate', name(), random(20)];
    case 12:
      return ['append', name(), 'more'];
    default:
      return ['rewrite', name(), 'new'];
  }
}

function act(side: Side, [call, ...args]: Step): Result {
  return (side[call] as (...values: (string | number)[]) => Result)(...args);
}

function hostOverlay(): string | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const base = fs.mkdtempSync(join(tmpdir(), 'overlay-test-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', base], { stdio: 'ignore' });
    return base;
  } catch {
    fs.rmdirSync(base);
    return undefined;
  }
}

describe('an overlay', () => {
  let base: string | undefined;
  let round = 0;
  before(() => {
    base = hostOverlay();
  });
  after(() => {
    if (base === undefined) return;
    execFileSync('umount', [base]);
    fs.rmdirSync(base);
  });

  /** undefined without the right to mount. */
  function withNative(use: (side: Side) => void): void {
    const at = join(base ?? '', String(round++));
    const place = (name: string): string => join(at, name);
    for (const name of ['', 'l', 'h', 'u', 'w', 'm']) fs.mkdirSync(place(name));
    fill(native(place('l')), native(place('h')));
    const options =
      `lowerdir=${place('h')}:${place('l')},upperdir=${place('u')},workdir=${place('w')},` +
      'redirect_dir=off,index=off,metacopy=off';
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, place('m')]);
    try {
      use(native(place('m')));
    } finally {
      execFileSync('umount', [place('m')]);
      fs.rmSync(at, { recursive: true });
    }
  }

  it('does what the host does in a thousand random changes', (context) => {
    if (base === undefined) {
      context.skip('it needs the right to mount');
      return;
    }
    for (let seed = 1; seed <= 25; seed++) {
      withNative((there) => {
        const { side: here } = emulatedOverlay();
        assert.deepEqual(describeTree(here), describeTree(there), 'at the beginning');
        const random = randomNumbers(seed);
        const done: string[] = [];
        for (let count = 0; count < 40; count++) {
          const step = randomStep(random);
          done.push(step.join(' '));
          assert.equal(act(here, step), act(there, step), `seed ${seed}: ${done.join('; ')}`);
          assert.deepEqual(describeTree(here), describeTree(there), `seed ${seed}: ${done.join('; ')}`);
        }
      });
    }
  });

  it('keeps the number of a file that is copied up', () => {
    const { side } = emulatedOverlay();
    for (const name of ['f', 'd', 'd/h', 'd/e']) {
      const number = side.number(name);
      side.chmod(name, 0o700);
      assert.equal(side.number(name), number, name);
    }
  });

  it('gives a file that was open for reading what is written to its copy', () => {
    const { task, side } = emulatedOverlay();
    const fd = task.call('open', '/m/f', 0, 0);
    side.rewrite('f', 'changed');
    const buffer = new Uint8Array(20);
    assert.equal(task.call('read', fd, buffer, 20), 7);
    assert.equal(Buffer.from(buffer.subarray(0, 7)).toString(), 'changed');
    task.call('close', fd);
  });

  it('leaves lower layers as they were, and nothing in its work directory', () => {
    const { task, side } = emulatedOverlay();
    const lower = emulated(task, '/l');
    const before = describeTree(lower);
    const random = randomNumbers(7);
    for (let count = 0; count < 200; count++) act(side, randomStep(random));
    assert.deepEqual(describeTree(lower), before);
    assert.equal(emulated(task, '/w/work').list('.'), '');
  });

  it('shows neither its marks nor lets programs make them', () => {
    const { task, side } = emulatedOverlay();
    assert.equal(side.unlink('f'), 0);
    assert.equal(emulated(task, '/u').look('f'), '20000 0 1');
    assert.equal(task.call('mknod', '/m/new', 0o020000, 0), -Errno.EPERM);
    assert.equal(
      task.call('setxattr', '/m/d', 'trusted.overlay.opaque', new Uint8Array([0x79]), 1, 0),
      -Errno.EOPNOTSUPP,
    );
  });

  it('exchanges names, and refuses to leave whiteouts or to move merged directories', () => {
    const { task, side } = emulatedOverlay();
    const at = -100;
    assert.equal(task.call('renameat2', at, '/m/f', at, '/m/d/h', 2), 0);
    assert.equal(side.read('f'), 'higher h');
    assert.equal(side.read('d/h'), 'higher f');
    assert.equal(task.call('renameat2', at, '/m/f', at, '/m/n', 4), -Errno.EINVAL);
    assert.equal(task.call('renameat2', at, '/m/d', at, '/m/n', 0), -Errno.EXDEV);
    assert.equal(side.mkdir('n'), 0);
    assert.equal(task.call('renameat2', at, '/m/n', at, '/m/d', 2), -Errno.EXDEV);
    assert.equal(task.call('renameat2', at, '/m/n', at, '/m/f', 2), 0);
    assert.equal(side.list('f'), '');
  });

  it('copies extended attributes and holes', () => {
    const { task, side } = emulatedOverlay();
    const tree = emulated(task, '/l');
    tree.rewrite('sparse', 'begin');
    tree.truncate('sparse', 3 << 20);
    tree.append('sparse', 'end');
    task.call('setxattr', '/l/sparse', 'user.note', new Uint8Array([1, 2]), 2, 0);
    assert.equal(side.append('sparse', '!'), 0);
    const value = new Uint8Array(2);
    assert.equal(task.call('getxattr', '/u/sparse', 'user.note', value, 2), 2);
    assert.deepEqual([...value], [1, 2]);
    const stat = new Uint8Array(144);
    task.call('stat', '/u/sparse', stat);
    const view = new DataView(stat.buffer);
    assert.equal(view.getBigUint64(48, true), BigInt((3 << 20) + 4));
    assert.ok(view.getBigUint64(64, true) <= 16n);
  });

  it('takes options as mount(8) gives them, and no features that it does not have', () => {
    assert.deepEqual(parseOverlayOptions('lowerdir=/a\\:b:/c\\,d,upperdir=/u,workdir=/w,xino=auto'), {
      lowers: ['/a:b', '/c,d'],
      upper: '/u',
      work: '/w',
      userXattr: false,
    });
    for (const text of [
      '',
      'lowerdir=',
      'lowerdir=/a,upperdir=/u',
      'lowerdir=/a,metacopy=on',
      'lowerdir=/a,x',
    ])
      assert.equal(parseOverlayOptions(text), -Errno.EINVAL, text);
  });

  it('cannot be changed without an upper layer', () => {
    const { task } = emulatedOverlay();
    assert.equal(task.call('mkdir', '/r', 0o755), 0);
    assert.equal(task.call('mount', 'overlay', '/r', 'overlay', 0, 'lowerdir=/h'), -Errno.EINVAL);
    assert.equal(task.call('mount', 'overlay', '/r', 'overlay', 0, 'lowerdir=/h:/l'), 0);
    const side = emulated(task, '/r');
    assert.equal(side.read('f'), 'higher f');
    for (const step of [
      ['mkdir', 'n'],
      ['unlink', 'f'],
      ['append', 'f', 'x'],
      ['chmod', 'f', 0o600],
    ] as const)
      assert.equal(act(side, step as unknown as Step), -Errno.EROFS, step.join(' '));
  });

  it('keeps changes in memory over a root that stays as it is', () => {
    const tree = createTestTree();
    const task = tree.task();
    emulated(task, '').rewrite('f', 'before');
    const made = memoryOverlay(tree.kernel as never, tree.root);
    assert.ok(typeof made !== 'number');
    const over = tree.vfs.namespace(made, 'none');
    task.mounts = over;
    task.fs.setRoot(over.root);
    task.fs.setCwd(over.root);
    const side = emulated(task, '');
    assert.equal(side.read('f'), 'before');
    assert.equal(side.rewrite('f', 'after'), 0);
    assert.equal(side.read('f'), 'after');
    assert.equal(side.list('.'), 'f');
    const other = tree.task();
    assert.equal(emulated(other, '').read('f'), 'before');
  });
});
