// Images made on this machine out of Debian packages: found and downloaded first, which needs no running cluster, then
// unpacked into a root file system and imported.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DebianPackage,
  DebianPackageError,
  downloadPackages,
  missingPackages,
  packageFile,
  type Resolution,
  readCatalogue,
  resolvePackages,
  updateLists,
} from './debian-packages.ts';
import { assembleDebianRoot, type SystemUser } from './debian-root.ts';
import { type ImportRequest, withImages } from './image-operations.ts';
import type { ClusterPaths } from './state.ts';

export interface DebianImage {
  /** With its tag. */
  readonly name: string;
  /** The packages with the programs; their shared libraries follow. */
  readonly packages: readonly string[];
  readonly users?: readonly SystemUser[];
  readonly config: NonNullable<ImportRequest['rootfs']>;
}

/** All that an image is made of is on this machine. */
export interface PreparedImage extends Resolution {
  readonly image: DebianImage;
}

/** Where programs are, for images that do not say it themselves. */
export const DEBIAN_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Downloads what is not here yet, after `announce` has been told of it. Machines are often older than the mirror's
 * latest update: when it no longer has what the package lists name, the lists are renewed, once.
 */
export async function prepareDebianImages(
  paths: ClusterPaths,
  images: readonly DebianImage[],
  announce: (packages: readonly DebianPackage[]) => void,
): Promise<PreparedImage[]> {
  if (images.length === 0) return [];
  try {
    return await prepareOnce(paths, images, announce);
  } catch (error) {
    if (!(error instanceof DebianPackageError && error.outdated)) throw error;
    await updateLists();
    return await prepareOnce(paths, images, announce);
  }
}

async function prepareOnce(
  paths: ClusterPaths,
  images: readonly DebianImage[],
  announce: (packages: readonly DebianPackage[]) => void,
): Promise<PreparedImage[]> {
  const catalogue = await readCatalogue(images.flatMap(({ packages }) => packages));
  const prepared = images.map((image) => ({ image, ...resolvePackages(catalogue, image.packages) }));
  const all = new Map(prepared.flatMap(({ packages }) => packages).map((one) => [one.name, one]));
  const missing = await missingPackages([...all.values()], paths.packages);
  if (missing.length > 0) {
    announce(missing);
    await downloadPackages(missing, paths.packages);
  }
  return prepared;
}

/** Resolves with the image's id. */
export async function makeDebianImage(
  paths: ClusterPaths,
  { image, packages }: PreparedImage,
): Promise<string> {
  const { name, users, config } = image;
  const work = join(paths.state, 'work');
  await mkdir(work, { recursive: true, mode: 0o700 });
  const root = await mkdtemp(join(work, 'debian-'));
  try {
    const files = packages.map((one) => join(paths.packages, packageFile(one)));
    await assembleDebianRoot({ root, packages: files, ...(users ? { users } : {}) });
    const [imported] = await withImages(paths, (images) =>
      images['image-import']({
        path: root,
        name,
        rootfs: { ...config, Env: [DEBIAN_PATH, ...(config.Env ?? [])] },
      }),
    );
    return imported!.id;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
