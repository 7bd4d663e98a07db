import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  DebianPackageError,
  missingPackages,
  packageFile,
  parsePackages,
  resolvePackages,
} from './debian-packages.ts';
import { assembleDebianRoot } from './debian-root.ts';

const CATALOGUE = `Package: server
Version: 2:1.0-1
Architecture: amd64
Depends: libc6 (>= 2.34), libone1 | libother1,
 adduser, server-common (= 2:1.0-1), libnew:any <!nocheck>
Pre-Depends: init-system-helpers (>= 1.54~)
Section: httpd
Filename: pool/s/server.deb
Size: 100
Description: a server
 Depends: on nothing, this line belongs to the description
SHA256: aa

Package: server
Version: 2:0.9-1
Architecture: amd64
Section: httpd
Filename: pool/s/old.deb

Package: server-common
Version: 2:1.0-1
Architecture: all
Section: httpd
Filename: pool/s/common.deb

Package: libone1
Version: 1
Architecture: amd64
Section: libs
Depends: libc6
Filename: pool/l/one.deb

Package: libnew
Version: 1
Architecture: amd64
Section: non-free/libs
Filename: pool/l/new.deb

Package: libc6
Version: 2.36
Architecture: amd64
Section: libs
Depends: libone1
Filename: pool/l/c.deb

Package: adduser
Version: 3
Architecture: all
Section: admin
Depends: passwd
Filename: pool/a/adduser.deb

Package: libinstalled1
Version: 1
Status: install ok installed
Architecture: amd64
Section: libs
`;

describe('packages for an image', () => {
  const catalogue = parsePackages(CATALOGUE);

  it('are read as apt-cache prints them: the first version of each that can be downloaded', () => {
    assert.deepEqual(
      [...catalogue.keys()],
      ['server', 'server-common', 'libone1', 'libnew', 'libc6', 'adduser'],
    );
    assert.deepEqual(catalogue.get('server'), {
      name: 'server',
      version: '2:1.0-1',
      architecture: 'amd64',
      section: 'httpd',
      depends: [
        ['init-system-helpers'],
        ['libc6'],
        ['libone1', 'libother1'],
        ['adduser'],
        ['server-common'],
        ['libnew'],
      ],
      size: 100,
      sha256: 'aa',
    });
    assert.equal(packageFile(catalogue.get('server')!), 'server_2%3a1.0-1_amd64.deb');
  });

  it('are the named ones and all shared libraries below them, in circles too; the rest is named as left out', () => {
    const { packages, leftOut } = resolvePackages(catalogue, ['server']);
    assert.deepEqual(
      packages.map(({ name }) => name),
      ['server', 'libc6', 'libone1', 'libnew'],
    );
    assert.deepEqual(leftOut, ['adduser', 'init-system-helpers', 'server-common']);
    const named = resolvePackages(catalogue, ['server', 'server-common']);
    assert.ok(named.packages.some(({ name }) => name === 'server-common'));
    assert.deepEqual(named.leftOut, ['adduser', 'init-system-helpers']);
  });

  it('refuse a name that apt does not know', () => {
    assert.throws(() => resolvePackages(catalogue, ['nothing']), DebianPackageError);
  });
});

describe('a root file system out of packages', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  const work = mkdtempSync(join(tmpdir(), 'bh-debian-'));
  after(() => rmSync(work, { recursive: true, force: true }));

  /** Builds a package; `files` are paths and contents, a content that begins with `->` makes a link. */
  const build = (name: string, files: Record<string, string>): string => {
    const tree = join(work, name);
    mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
    writeFileSync(
      join(tree, 'DEBIAN/control'),
      `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\nDescription: test\n`,
    );
    writeFileSync(join(tree, 'DEBIAN/postinst'), '#!/bin/sh\ntouch /ran\n', { mode: 0o755 });
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      if (content.startsWith('->')) symlinkSync(content.slice(2), join(tree, path));
      else writeFileSync(join(tree, path), content);
    }
    const file = join(work, `${name}.deb`);
    execFileSync('dpkg-deb', ['--root-owner-group', '--build', tree, file], { stdio: 'ignore' });
    return file;
  };

  it('merges old paths into /usr, leaves documentation but licences out, makes users, runs no script', async () => {
    const root = mkdtempSync(join(work, 'root-'));
    await assembleDebianRoot({
      root,
      packages: [
        build('one', {
          'lib/x86_64-linux-gnu/one.so': 'one',
          'usr/share/doc/one/copyright': 'free',
          'usr/share/doc/one/changelog.gz': 'old',
          'usr/share/man/man1/one.1': 'manual',
          'usr/share/one/README': 'read by the program',
        }),
        build('two', { 'usr/lib/x86_64-linux-gnu/two.so': '->one.so', 'sbin/two': 'two' }),
      ],
      users: [{ name: 'keeper', id: 777, home: '/var/lib/keeper' }],
    });
    const text = (path: string): string => readFileSync(join(root, path), 'utf8');
    assert.deepEqual(
      ['bin', 'sbin', 'lib', 'lib64'].map((name) => readlinkSync(join(root, name))),
      ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64'],
    );
    assert.equal(text('usr/lib/x86_64-linux-gnu/two.so'), 'one');
    assert.equal(text('usr/sbin/two'), 'two');
    assert.deepEqual(readdirSync(join(root, 'usr/share/doc/one')), ['copyright']);
    assert.equal(text('usr/share/one/README'), 'read by the program');
    assert.equal(existsSync(join(root, 'usr/share/man')), false);
    assert.match(text('etc/passwd'), /^root:.*\n[\s\S]*^www-data:[\s\S]*^keeper:x:777:777:/m);
    assert.equal(statSync(join(root, 'var/lib/keeper')).uid, 777);
    assert.equal(statSync(join(root, 'tmp')).mode & 0o7777, 0o1777);
    assert.equal(statSync(root).mode & 0o7777, 0o755);
    assert.ok(lstatSync(join(root, 'var/run')).isSymbolicLink());
    assert.equal(existsSync('/ran') || existsSync(join(root, 'ran')), false);
  });

  it('tells which package is broken', async () => {
    const root = mkdtempSync(join(work, 'root-'));
    const broken = join(work, 'broken.deb');
    writeFileSync(
      broken,
      readFileSync(build('three', { 'usr/share/x': 'x'.repeat(10_000) })).subarray(0, 400),
    );
    await assert.rejects(
      assembleDebianRoot({ root, packages: [broken] }),
      /broken\.deb could not be unpacked: ./,
    );
  });

  it('knows packages that are not here, or not whole, by their digests', async () => {
    const [server] = parsePackages(CATALOGUE).values();
    writeFileSync(join(work, packageFile(server!)), 'half');
    assert.deepEqual(await missingPackages([server!], work), [server]);
    const digest = execFileSync('sha256sum', [join(work, packageFile(server!))], { encoding: 'utf8' });
    assert.deepEqual(await missingPackages([{ ...server!, sha256: digest.split(' ')[0]! }], work), []);
  });
});
