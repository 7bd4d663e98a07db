// Root file systems with real programs out of Debian packages, for running them in the sandbox and, for comparison,
// under runc. Made once for each list of packages and kept below .cache; tests mount them and never write to them.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  downloadPackages,
  missingPackages,
  packageFile,
  readCatalogue,
  resolvePackages,
} from '../../../src/cluster/debian-packages.ts';
import { assembleDebianRoot, type SystemUser } from '../../../src/cluster/debian-root.ts';

const cache = join(import.meta.dirname, '../../../.cache');

/** What the program tests run. Packages whose dependencies are not shared libraries are named too. */
export const programPackages: readonly string[] = [
  'bash',
  'coreutils',
  'diffutils',
  'findutils',
  'grep',
  'sed',
  'gawk',
  'mawk',
  'tar',
  'gzip',
  'xz-utils',
  'bzip2',
  'util-linux',
  'procps',
  'hostname',
  'libc-bin',
  'busybox-static',
  'dash',
  'make',
  'gcc',
  'gcc-12',
  'cpp',
  'cpp-12',
  'binutils',
  'binutils-x86-64-linux-gnu',
  'libbinutils',
  'libctf0',
  'libctf-nobfd0',
  'libgcc-12-dev',
  'libc6-dev',
  'libc-dev-bin',
  'linux-libc-dev',
  'libcrypt-dev',
  'python3',
  'python3-minimal',
  'python3.11',
  'python3.11-minimal',
  'libpython3.11-minimal',
  'libpython3.11-stdlib',
  'libpython3.11-testsuite',
  'perl',
  'perl-base',
  'perl-modules-5.36',
  'git',
  'git-man',
  'sqlite3',
  'redis-server',
  'redis-tools',
  'openssl',
  'nginx',
  'nginx-core',
  'nginx-common',
  'curl',
  'postgresql-15',
  'postgresql-client-15',
  'strace',
  'gdb',
  'libboost-regex1.74.0',
  'libpython3.11',
  'file',
  'psmisc',
  'iperf3',
  'apache2-utils',
  'netcat-openbsd',
  'iproute2',
  'media-types',
  'tzdata',
  'ca-certificates',
];

const users: readonly SystemUser[] = [
  { name: 'redis', id: 107, home: '/var/lib/redis' },
  { name: 'postgres', id: 108, home: '/var/lib/postgresql' },
];

/** The path of a root with these packages; downloads and unpacks them the first time. */
export async function debianRoot(packages: readonly string[] = programPackages): Promise<string> {
  const resolved = resolvePackages(await readCatalogue(packages), packages).packages;
  const digest = createHash('sha256');
  for (const one of [...resolved].map(packageFile).sort()) digest.update(`${one}\n`);
  const root = join(cache, 'sandbox-roots', digest.digest('hex').slice(0, 16));
  if (existsSync(root)) return root;
  const store = join(cache, 'sandbox-packages');
  const missing = await missingPackages(resolved, store);
  await mkdir(join(cache, 'sandbox-roots'), { recursive: true });
  await downloadPackages(missing, store);
  const unfinished = await mkdtemp(`${root}.`);
  try {
    await assembleDebianRoot({
      root: unfinished,
      packages: resolved.map((one) => join(store, packageFile(one))),
      users,
    });
    await rename(unfinished, root);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    // Another process made the same one meanwhile.
    if (!existsSync(root)) throw error;
  }
  return root;
}
