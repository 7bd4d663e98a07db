// What a container finds in /dev (the OCI runtime specification's default devices and links), made in the directory of
// any file system that has device nodes: a tmpfs that the caller mounts there, with devpts on pts, a tmpfs on shm and
// mqueue on mqueue.

import { Device } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { Credentials } from '../../kernel/contract.ts';
import type { Inode } from '../inode.ts';

const devices: readonly (readonly [name: string, device: number])[] = [
  ['null', Device.null],
  ['zero', Device.zero],
  ['full', Device.full],
  ['random', Device.random],
  ['urandom', Device.urandom],
  ['tty', Device.tty],
];

const links: readonly (readonly [name: string, target: string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
];

const directories: readonly (readonly [name: string, mode: number])[] = [
  ['pts', 0o755],
  ['shm', 0o1777],
  ['mqueue', 0o1777],
];

/** 0, or the first error that is not -EEXIST: what an image brought along stays. */
export function populateDevices(directory: Inode, owner: Credentials): number {
  const failed = (result: Inode | number): number =>
    typeof result === 'number' && result !== -Errno.EEXIST ? result : 0;
  for (const [name, device] of devices) {
    const result = failed(directory.create(name, FileType.character | 0o666, device, owner));
    if (result < 0) return result;
  }
  for (const [name, target] of links) {
    const result = failed(directory.symlink(name, target, owner));
    if (result < 0) return result;
  }
  for (const [name, mode] of directories) {
    const result = failed(directory.makeDirectory(name, mode, owner));
    if (result < 0) return result;
  }
  return 0;
}
