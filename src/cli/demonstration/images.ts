// The demonstration's images, made on this machine out of Debian packages: nothing is pulled from anywhere else.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DebianPackage,
  downloadPackages,
  missingPackages,
  packageFile,
  readCatalogue,
  resolvePackages,
} from '../../cluster/debian-packages.ts';
import { assembleDebianRoot, type SystemUser } from '../../cluster/debian-root.ts';
import { type ImportRequest, withImages } from '../../cluster/image-operations.ts';
import type { ClusterPaths } from '../../cluster/state.ts';
import { bytes } from '../terminal.ts';
import { withBusyboxRoot } from './busybox-image.ts';

interface DebianImage {
  readonly name: string;
  /** The packages with the programs; their shared libraries follow. */
  readonly packages: readonly string[];
  readonly users?: readonly SystemUser[];
  readonly config: NonNullable<ImportRequest['rootfs']>;
}

const Env = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];

const DEBIAN_IMAGES: readonly DebianImage[] = [
  {
    name: 'localhost/demo/web:debian',
    packages: ['nginx', 'nginx-common'],
    // SIGQUIT is how nginx is told to finish its requests before it ends.
    config: { Env, Cmd: ['nginx', '-e', 'stderr', '-g', 'daemon off;'], StopSignal: 'SIGQUIT' },
  },
  {
    name: 'localhost/demo/cache:debian',
    packages: ['redis-server', 'redis-tools'],
    users: [{ name: 'redis', id: 999, home: '/var/lib/redis' }],
    config: { Env, Cmd: ['redis-server'], User: '999:999', WorkingDir: '/var/lib/redis' },
  },
];

/** All that the worker needs is one program, which npm start has installed: busybox. */
const WORKER = 'localhost/demo/worker:debian';

export const DEMO_IMAGES: readonly string[] = [...DEBIAN_IMAGES.map(({ name }) => name), WORKER];

export type Say = (text: string) => void;

/** Those that the image store does not have. */
export async function missingImages(paths: ClusterPaths): Promise<string[]> {
  const present = await withImages(paths, (images) => images['image-list']());
  const names = new Set(present.flatMap((image) => image.names));
  return DEMO_IMAGES.filter((name) => !names.has(name));
}

/** What must be at hand to make an image: resolved and downloaded, nothing made yet. */
export interface Prepared {
  readonly image: DebianImage;
  readonly packages: readonly DebianPackage[];
}

/** Finds and downloads the packages of the named images; says which ones before it does. Needs no running cluster. */
export async function preparePackages(
  paths: ClusterPaths,
  names: readonly string[],
  say: Say,
): Promise<Prepared[]> {
  const images = DEBIAN_IMAGES.filter(({ name }) => names.includes(name));
  if (images.length === 0) return [];
  const catalogue = await readCatalogue(images.flatMap(({ packages }) => packages));
  const prepared = images.map((image) => ({
    image,
    packages: resolvePackages(catalogue, image.packages).packages,
  }));
  const all = new Map(prepared.flatMap(({ packages }) => packages).map((one) => [one.name, one]));
  const missing = await missingPackages([...all.values()], paths.packages);
  if (missing.length > 0) {
    const size = bytes(missing.reduce((sum, one) => sum + one.size, 0));
    say(`downloading ${missing.length} Debian packages (${size}) for images, once; nothing is installed:`);
    say(missing.map(({ name }) => name).join(' '));
    await downloadPackages(missing, paths.packages);
  }
  return prepared;
}

/** Makes the images that were prepared, and the worker's when it is asked for; resolves with what is to be said. */
export async function makeImages(
  paths: ClusterPaths,
  names: readonly string[],
  prepared: readonly Prepared[],
): Promise<string[]> {
  const importImage = (request: ImportRequest): Promise<readonly { readonly id: string }[]> =>
    withImages(paths, (images) => images['image-import'](request));
  const work = join(paths.state, 'work');
  const makeOne = async ({ image, packages }: Prepared): Promise<string> => {
    await mkdir(work, { recursive: true, mode: 0o700 });
    const root = await mkdtemp(join(work, 'debian-'));
    try {
      const files = packages.map((one) => join(paths.packages, packageFile(one)));
      await assembleDebianRoot({ root, packages: files, ...(image.users ? { users: image.users } : {}) });
      await importImage({ path: root, name: image.name, rootfs: image.config });
      const { version } = packages[0]!;
      return `image ${image.name} made from ${image.packages[0]} ${version} and what it needs, ${packages.length} packages`;
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  };
  const made = await Promise.all(prepared.map(makeOne));
  if (names.includes(WORKER)) {
    await withBusyboxRoot(importImage, WORKER);
    made.push(`image ${WORKER} made from busybox-static`);
  }
  return made;
}
