// hostPath volumes: nothing is made or removed except what the type asks for; the path is checked against its type.

import { constants } from 'node:fs';
import { mkdir, open, stat } from 'node:fs/promises';
import type { HostPathVolumeSource } from '../../api/types/core-v1.ts';
import { isErrno } from './errno.ts';
import { VolumeError } from './payload.ts';

export async function prepareHostPath({ path, type = '' }: HostPathVolumeSource): Promise<string> {
  if (path.split('/').includes('..')) throw new VolumeError(`hostPath ${path} must not contain '..'`);
  if (type === '') return path;
  const found = await stat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  });
  const refuse = (what: string): never => {
    throw new VolumeError(`hostPath type check failed: ${path} is not ${what}`);
  };
  switch (type) {
    case 'DirectoryOrCreate':
      if (!found) await mkdir(path, { recursive: true, mode: 0o755 });
      else if (!found.isDirectory()) refuse('a directory');
      return path;
    case 'FileOrCreate':
      if (!found) await (await open(path, constants.O_CREAT | constants.O_RDWR, 0o644)).close();
      else if (!found.isFile()) refuse('a file');
      return path;
    case 'Directory':
      return found?.isDirectory() ? path : refuse('a directory');
    case 'File':
      return found?.isFile() ? path : refuse('a file');
    case 'Socket':
      return found?.isSocket() ? path : refuse('a socket file');
    case 'CharDevice':
      return found?.isCharacterDevice() ? path : refuse('a character device');
    case 'BlockDevice':
      return found?.isBlockDevice() ? path : refuse('a block device');
    default:
      throw new VolumeError(`${type} is an invalid volume type`);
  }
}
