// The demonstration's image, made from what Debian's busybox-static package brings: one program and links to it.

import { execFileSync } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ImportRequest } from '../../cluster/image-operations.ts';
import { CommandError } from '../command.ts';

const BUSYBOX = '/bin/busybox';

/** Builds the root file system in a temporary directory, hands it to `use`, and removes it. */
export async function withBusyboxRoot<T>(
  use: (request: ImportRequest) => Promise<T>,
  name: string,
): Promise<T> {
  const root = await mkdtemp(join(tmpdir(), 'bulkhead-busybox-'));
  try {
    for (const directory of ['bin', 'etc', 'proc', 'sys', 'dev', 'var/www', 'home']) {
      await mkdir(join(root, directory), { recursive: true });
    }
    await mkdir(join(root, 'tmp'), { mode: 0o1777 });
    await chmod(join(root, 'tmp'), 0o1777);
    await chmod(root, 0o755);
    await copyFile(BUSYBOX, join(root, 'bin/busybox')).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw new CommandError(`${BUSYBOX} is missing; install it: apt-get install busybox-static`);
    });
    await chmod(join(root, 'bin/busybox'), 0o755);
    const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n');
    for (const applet of applets)
      if (applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
    await writeFile(
      join(root, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
    );
    await writeFile(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
    return await use({ path: root, name, rootfs: { Cmd: ['/bin/sh'], Env: ['PATH=/bin'], WorkingDir: '/' } });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
