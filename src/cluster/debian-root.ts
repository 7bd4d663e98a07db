// A root file system out of Debian packages, without installing them: their files are unpacked, and what their
// installation scripts and those of the base system would have made is made here: the merged /usr, users and groups,
// the directories for temporary files and run-time state, the cache of the dynamic linker. No script runs.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

export interface SystemUser {
  readonly name: string;
  /** Also the group's number. */
  readonly id: number;
  readonly home: string;
}

export interface DebianRootOptions {
  /** An empty directory. */
  readonly root: string;
  /** Paths of .deb files. */
  readonly packages: readonly string[];
  /** Users that the packages' scripts would have made; those of every Debian system (www-data, nobody) are there. */
  readonly users?: readonly SystemUser[];
}

/** What programs do not read: documentation (but licences), manuals, translations. */
const LEFT_OUT = [
  './usr/share/doc/*/changelog*',
  './usr/share/doc/*/NEWS*',
  './usr/share/doc/*/README*',
  './usr/share/doc/*/examples',
  './usr/share/man',
  './usr/share/info',
  './usr/share/locale',
  './usr/share/lintian',
  './usr/share/doc-base',
  './usr/share/bash-completion',
];

/** Since Debian 12 these are links into /usr; packages may still bring files by the old paths. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64'];

/** Where Debian keeps the users and groups that every system begins with (package base-passwd, always installed). */
const MASTERS = '/usr/share/base-passwd';

export async function assembleDebianRoot({ root, packages, users = [] }: DebianRootOptions): Promise<void> {
  await chmod(root, 0o755);
  const directories = [
    'usr',
    'etc',
    'dev',
    'proc',
    'sys',
    'run',
    'root',
    'home',
    'srv',
    'var/lib',
    'var/log',
  ];
  for (const directory of [...directories, 'var/cache', ...MERGED.map((name) => `usr/${name}`)])
    await mkdir(join(root, directory), { recursive: true });
  for (const name of MERGED) await symlink(`usr/${name}`, join(root, name));
  await symlink('/run', join(root, 'var/run'));
  for (const open of ['tmp', 'var/tmp']) {
    await mkdir(join(root, open));
    await chmod(join(root, open), 0o1777); // past the umask
  }
  for (const file of packages) await unpack(file, root);
  await writeUsers(root, users);
  await writeFile(join(root, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n');
  await copyFile('/etc/os-release', join(root, 'etc/os-release'));
  await writeFile(join(root, 'etc/ld.so.conf'), 'include /etc/ld.so.conf.d/*.conf\n');
  await promisify(execFile)('/sbin/ldconfig', ['-r', root]);
}

async function writeUsers(root: string, users: readonly SystemUser[]): Promise<void> {
  await copyFile(join(MASTERS, 'passwd.master'), join(root, 'etc/passwd'));
  await copyFile(join(MASTERS, 'group.master'), join(root, 'etc/group'));
  const append = { flag: 'a' };
  for (const { name, id, home } of users) {
    await writeFile(join(root, 'etc/passwd'), `${name}:x:${id}:${id}::${home}:/usr/sbin/nologin\n`, append);
    await writeFile(join(root, 'etc/group'), `${name}:x:${id}:\n`, append);
    await mkdir(dirname(join(root, home)), { recursive: true });
    await mkdir(join(root, home), { recursive: true });
    await chown(join(root, home), id, id);
  }
}

/** dpkg-deb knows the package's compression, tar everything about files. */
async function unpack(file: string, root: string): Promise<void> {
  const reader = spawn('dpkg-deb', ['--fsys-tarfile', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exclude = LEFT_OUT.map((pattern) => `--exclude=${pattern}`);
  const writer = spawn(
    'tar',
    ['--extract', '--directory', root, '--numeric-owner', '--keep-directory-symlink', ...exclude],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  );
  let complaints = '';
  for (const { stderr } of [reader, writer]) {
    stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(0, 4096);
    });
  }
  const ended = Promise.all(
    [reader, writer].map((child) => once(child, 'close') as Promise<[number | null]>),
  );
  // Whatever goes wrong between the two shows in their exit codes: tar fails on an archive that is cut off, and it
  // may well close its end before the padding after the archive has gone through.
  const [codes] = await Promise.all([ended, pipeline(reader.stdout, writer.stdin).catch(() => {})]);
  if (codes.some(([code]) => code !== 0))
    throw new Error(`${file} could not be unpacked: ${complaints.trim()}`);
}
