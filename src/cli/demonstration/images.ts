// The demonstration's images, made on this machine out of Debian packages: nothing is pulled from anywhere else.

import {
  type DebianImage,
  makeDebianImage,
  type PreparedImage,
  prepareDebianImages,
} from '../../cluster/debian-image.ts';
import type { DebianPackage } from '../../cluster/debian-packages.ts';
import { withImages } from '../../cluster/image-operations.ts';
import type { ClusterPaths } from '../../cluster/state.ts';
import { bytes } from '../terminal.ts';
import { withBusyboxRoot } from './busybox-image.ts';

const DEBIAN_IMAGES: readonly DebianImage[] = [
  {
    name: 'localhost/demo/web:debian',
    packages: ['nginx', 'nginx-common'],
    // SIGQUIT is how nginx is told to finish its requests before it ends.
    config: { Cmd: ['nginx', '-e', 'stderr', '-g', 'daemon off;'], StopSignal: 'SIGQUIT' },
  },
  {
    name: 'localhost/demo/cache:debian',
    packages: ['redis-server', 'redis-tools'],
    users: [{ name: 'redis', id: 999, home: '/var/lib/redis' }],
    config: { Cmd: ['redis-server'], User: '999:999', WorkingDir: '/var/lib/redis' },
  },
];

/** All that the worker needs is one program, which npm start has installed: busybox. */
const WORKER = 'localhost/demo/worker:debian';

export const DEMO_IMAGES: readonly string[] = [...DEBIAN_IMAGES.map(({ name }) => name), WORKER];

/** Those that the image store does not have. */
export async function missingImages(paths: ClusterPaths): Promise<string[]> {
  const present = await withImages(paths, (images) => images['image-list']());
  const names = new Set(present.flatMap((image) => image.names));
  return DEMO_IMAGES.filter((name) => !names.has(name));
}

/** Finds and downloads the packages of the named images; `announce` hears of the downloads. Needs no running cluster. */
export function preparePackages(
  paths: ClusterPaths,
  names: readonly string[],
  announce: (packages: readonly DebianPackage[]) => void,
): Promise<PreparedImage[]> {
  return prepareDebianImages(
    paths,
    DEBIAN_IMAGES.filter(({ name }) => names.includes(name)),
    announce,
  );
}

/** Makes the images that were prepared, and the worker's when it is asked for; resolves with what is to be said. */
export async function makeImages(
  paths: ClusterPaths,
  names: readonly string[],
  prepared: readonly PreparedImage[],
): Promise<string[]> {
  const made = await Promise.all(
    prepared.map(async (one) => {
      await makeDebianImage(paths, one);
      const [{ name, version }] = one.packages as [DebianPackage];
      return `image ${one.image.name} made from ${name} ${version} and what it needs, ${one.packages.length} packages`;
    }),
  );
  if (names.includes(WORKER)) {
    await withBusyboxRoot(
      (request) => withImages(paths, (images) => images['image-import'](request)),
      WORKER,
    );
    made.push(`image ${WORKER} made from busybox-static`);
  }
  return made;
}

/** Two lines about packages that are going to be downloaded. */
export function describeDownload(packages: readonly DebianPackage[]): string[] {
  const size = bytes(packages.reduce((sum, one) => sum + one.size, 0));
  return [
    `downloading ${packages.length} Debian packages (${size}), once; they go into images and are not installed:`,
    packages.map(({ name }) => name).join(' '),
  ];
}
