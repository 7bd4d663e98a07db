// The directories of volumes on this node's disk. All lie directly in one directory that only root can write; nothing
// outside is ever made or removed, and no symbolic link is followed, whatever somebody put in a volume's place.

import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, realpath, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { PersistentVolumeClaim } from '../api/types/core-v1.ts';
import { directoryNameFor, isDirectoryOf, volumeNameOf } from './names.ts';

export interface VolumeDirectories {
  /** Makes the claim's directory, or finds that it is there; resolves with its path, durable. */
  create(claim: PersistentVolumeClaim): Promise<string>;
  /** Takes an empty directory of a claim back that got no volume. */
  discard(claim: PersistentVolumeClaim): Promise<void>;
  /** Deletes a volume's directory with all in it; one that is gone already is no error. */
  remove(volumeName: string, path: string): Promise<void>;
  /** What lies there, by the name of the volume that it was made for. */
  list(): Promise<readonly { readonly path: string; readonly volumeName: string }[]>;
}

/** Deletes a tree without following links or crossing into other file systems, away from the event loop. */
export type RemoveTree = (path: string) => Promise<void>;

/** Directories of any user's pods: those who may use a volume are chosen by the API, not by its mode. */
const VOLUME_MODE = 0o777;
/** Can be passed through but not read: the mode above is for whoever got the volume. */
const PARENT_MODE = 0o711;

function isErrno(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** `directory` is made when it is not there; a symbolic link to it is resolved now and never again. */
export async function openVolumeDirectories(
  directory: string,
  removeTree: RemoveTree,
): Promise<VolumeDirectories> {
  await mkdir(directory, { recursive: true, mode: PARENT_MODE });
  const root = await realpath(directory);

  /** The directory that we started with may since have been replaced by a link to somewhere else. */
  async function checkRoot(): Promise<void> {
    const now = await realpath(root);
    if (now !== root) throw new Error(`${root} has become a symbolic link to ${now}`);
  }

  async function isDirectory(path: string): Promise<boolean> {
    try {
      const found = await lstat(path);
      if (found.isDirectory()) return true;
      throw new Error(
        `${path} is ${found.isSymbolicLink() ? 'a symbolic link' : 'a file'}, not a directory; it is left alone`,
      );
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    }
  }

  return {
    async create(claim) {
      await checkRoot();
      const path = join(root, directoryNameFor(claim));
      try {
        await mkdir(path, VOLUME_MODE);
      } catch (error) {
        if (!isErrno(error, 'EEXIST')) throw error;
        await isDirectory(path);
      }
      const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
      await using made = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      // mkdir's mode is subject to the umask.
      await made.chmod(VOLUME_MODE);
      await made.sync();
      await using parent = await open(root, O_RDONLY | O_DIRECTORY);
      await parent.sync();
      return path;
    },

    async discard(claim) {
      await checkRoot();
      await rmdir(join(root, directoryNameFor(claim))).catch((error: unknown) => {
        if (!isErrno(error, 'ENOENT')) throw error;
      });
    },

    async remove(volumeName, path) {
      if (dirname(path) !== root || !isDirectoryOf(basename(path), volumeName))
        throw new Error(
          `${path} is not the directory of ${volumeName} in ${root}; it is left alone: delete it by hand if it is not needed, and then the volume`,
        );
      await checkRoot();
      if (await isDirectory(path)) await removeTree(path);
    },

    async list() {
      const entries = await readdir(root);
      return entries.flatMap((name) => {
        const volumeName = volumeNameOf(name);
        return volumeName === undefined ? [] : [{ path: join(root, name), volumeName }];
      });
    },
  };
}

/** Where there is no disk: every path is as good as made and as good as gone. */
export function simulatedDirectories(directory: string): VolumeDirectories {
  return {
    create: async (claim) => join(directory, directoryNameFor(claim)),
    discard: async () => {},
    remove: async () => {},
    list: async () => [],
  };
}
