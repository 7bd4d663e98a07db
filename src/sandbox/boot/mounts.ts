// The mounts of a container, as its OCI configuration asks for them: the root file system from the Gofer, what is
// mounted below it, the default devices, masked and read-only paths. Done by the container's first task before it
// executes anything, with that task's view of the tree, so that links in an image resolve inside the container.

import { Errno, errnoName } from '../abi/errno.ts';
import { At } from '../abi/file.ts';
import { MountFlag } from '../abi/mount.ts';
import { FileType } from '../abi/open.ts';
import type { ContainerSpec, MountSpec } from '../control/protocol.ts';
import { ControlError } from '../control/server.ts';
import type { GoferClient } from '../gofer/client.ts';
import type { Kernel, Task } from '../kernel/contract.ts';
import type { FileSystem, MountNamespace, Path } from '../vfs/contract.ts';
import { populateDevices } from '../vfs/dev/populate.ts';
import { GoferFileSystem } from '../vfs/gofer/file-system.ts';
import { makeDirectory, makeNode } from '../vfs/operations.ts';
import { memoryOverlay } from '../vfs/overlay/file-system.ts';
import { TmpfsFileSystem } from '../vfs/tmpfs/file-system.ts';
import { Vfs } from '../vfs/vfs.ts';
import { resolveFrom } from '../vfs/walk.ts';

/** Options of mount(8) as flags: set, or cleared. */
const options: Readonly<Record<string, readonly [flag: number, set: boolean]>> = {
  ro: [MountFlag.readOnly, true],
  rw: [MountFlag.readOnly, false],
  nosuid: [MountFlag.noSuid, true],
  suid: [MountFlag.noSuid, false],
  nodev: [MountFlag.noDevices, true],
  dev: [MountFlag.noDevices, false],
  noexec: [MountFlag.noExec, true],
  exec: [MountFlag.noExec, false],
  sync: [MountFlag.synchronous, true],
  async: [MountFlag.synchronous, false],
  dirsync: [MountFlag.dirSync, true],
  noatime: [MountFlag.noAccessTime, true],
  atime: [MountFlag.noAccessTime, false],
  nodiratime: [MountFlag.noDirectoryAccessTime, true],
  diratime: [MountFlag.noDirectoryAccessTime, false],
  relatime: [MountFlag.relativeAccessTime, true],
  norelatime: [MountFlag.relativeAccessTime, false],
  strictatime: [MountFlag.strictAccessTime, true],
  nosymfollow: [MountFlag.noSymlinkFollow, true],
};

/** They say how the host provides a bind mount, or how mounts spread, which a container of its own does not feel. */
const withoutMeaning = new Set([
  ...['bind', 'rbind', 'defaults', 'private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'],
  ...['unbindable', 'runbindable', 'z', 'Z', 'copy', 'nocopy', 'U', 'rro', 'rrw', 'tmpcopyup'],
]);

/** File systems that every configuration asks for, and that not every kernel has. */
const optionalTypes = new Set(['securityfs', 'debugfs', 'tracefs', 'bpf']);

function readOptions(mount: MountSpec): { readonly flags: number; readonly data: string } {
  let flags = 0;
  const data: string[] = [];
  for (const option of mount.options) {
    const known = options[option];
    if (known) flags = known[1] ? flags | known[0] : flags & ~known[0];
    else if (!withoutMeaning.has(option)) data.push(option);
  }
  if ((flags & (MountFlag.noAccessTime | MountFlag.strictAccessTime)) === 0)
    flags |= MountFlag.relativeAccessTime;
  return { flags, data: data.join(',') };
}

function failed(what: string, errno: number): ControlError {
  return new ControlError(`${what}: ${errnoName(errno)}`, Math.abs(errno));
}

/**
 * The container's root file system as a new mount namespace. overlay 'memory': what programs change in it stays in
 * memory, and is gone with the container.
 */
export function makeRoot(
  kernel: Kernel,
  gofer: GoferClient,
  overlay: ContainerSpec['root']['overlay'],
): MountNamespace {
  const served = GoferFileSystem.attach(kernel, gofer, 0, { exclusive: true });
  if (typeof served === 'number') throw failed('the root file system cannot be attached', served);
  const fileSystem = overlay === 'memory' ? memoryOverlay(kernel, served) : served;
  if (typeof fileSystem === 'number') throw failed('the overlay of the root cannot be made', fileSystem);
  return kernel.part(Vfs).namespace(fileSystem, 'none', MountFlag.relativeAccessTime);
}

/** Everything below the root. Throws a ControlError that names the mount that failed. */
export function mountAll(task: Task, spec: ContainerSpec, gofer: GoferClient): void {
  let devices = false;
  for (const mount of spec.mounts) {
    mountOne(task, mount, gofer);
    if (trimmed(mount.destination) === '/dev' && mount.type !== 'gofer') {
      fillDev(task);
      devices = true;
    }
  }
  if (!devices) {
    mountOne(
      task,
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      gofer,
    );
    fillDev(task);
  }
  for (const device of spec.devices) makeDevice(task, device);
  for (const path of spec.readonlyPaths) makeReadOnly(task, path);
  for (const path of spec.maskedPaths) mask(task, path);
  if (spec.root.readonly) {
    const { root } = task.mounts;
    const result = task.mounts.remount(root, root.mount.flags | MountFlag.readOnly);
    if (result < 0) throw failed('the root file system cannot be made read-only', result);
  }
}

const trimmed = (path: string): string => path.replace(/\/+$/, '') || '/';

function mountOne(task: Task, mount: MountSpec, gofer: GoferClient): void {
  const { flags, data } = readOptions(mount);
  const fileSystem = makeFileSystem(task, mount, data, gofer);
  const at = mountPoint(task, mount.destination, fileSystem.root.isDirectory);
  const result = task.mounts.mount(fileSystem, at, flags, mount.source);
  if (typeof result === 'number') throw failed(`mounting ${mount.type} on ${mount.destination}`, result);
}

function makeFileSystem(task: Task, mount: MountSpec, data: string, gofer: GoferClient): FileSystem {
  const { kernel } = task;
  if (mount.type === 'gofer') {
    const made = GoferFileSystem.attach(kernel, gofer, mount.goferRoot ?? -1, {
      exclusive: mount.shared === false,
    });
    if (typeof made === 'number') throw failed(`attaching ${mount.source} for ${mount.destination}`, made);
    return made;
  }
  const type = kernel.part(Vfs).fileSystemType(mount.type);
  // As on a machine without what they would show: programs find the directory, and nothing in it.
  if (!type && optionalTypes.has(mount.type))
    return new TmpfsFileSystem(kernel, { pages: 1, inodes: 1, mode: 0o555 });
  if (!type)
    throw new ControlError(
      `mount ${mount.destination}: the sandbox has no file system ${mount.type}`,
      Errno.ENODEV,
    );
  const made = type.mount(task, mount.source, data);
  if (typeof made === 'number')
    throw failed(`making ${mount.type} for ${mount.destination} with options "${data}"`, made);
  return made;
}

/** The place; directories on the way, and the last component, are made where they are missing. */
function mountPoint(task: Task, destination: string, directory: boolean): Path {
  const found = resolveFrom(task, destination);
  if (typeof found !== 'number') return found;
  if (found !== -Errno.ENOENT) throw failed(`the mount point ${destination}`, found);
  const names = destination.split('/').filter((name) => name !== '');
  let path = '';
  for (const [index, name] of names.entries()) {
    path += `/${name}`;
    const last = index === names.length - 1;
    const made =
      directory || !last
        ? makeDirectory(task, At.cwd, path, 0o755)
        : makeNode(task, At.cwd, path, FileType.regular | 0o644, 0);
    if (made < 0 && made !== -Errno.EEXIST) throw failed(`making the mount point ${path}`, made);
  }
  const made = resolveFrom(task, destination);
  if (typeof made === 'number') throw failed(`the mount point ${destination}`, made);
  return made;
}

function fillDev(task: Task): void {
  const dev = resolveFrom(task, '/dev');
  const inode = typeof dev === 'number' ? undefined : dev.dentry.inode;
  const result = inode ? populateDevices(inode, task.credentials) : -Errno.ENOENT;
  if (result < 0) throw failed('making the default devices in /dev', result);
}

function makeDevice(task: Task, device: ContainerSpec['devices'][number]): void {
  const type = { c: FileType.character, b: FileType.block, p: FileType.fifo }[device.type];
  const number = device.major * 256 + device.minor;
  const made = makeNode(task, At.cwd, device.path, type | device.mode, number);
  if (made < 0 && made !== -Errno.EEXIST) throw failed(`making the device ${device.path}`, made);
  const place = resolveFrom(task, device.path);
  if (typeof place === 'number') throw failed(`the device ${device.path}`, place);
  place.dentry.inode?.setAttributes(
    { uid: device.uid, gid: device.gid, mode: device.mode },
    task.credentials,
  );
}

/** A path that is not there needs no protection. */
function makeReadOnly(task: Task, path: string): void {
  const place = resolveFrom(task, path);
  if (typeof place === 'number') return;
  const bound = task.mounts.bind(place, place, true);
  if (bound < 0) throw failed(`making ${path} read-only`, bound);
  const now = resolveFrom(task, path);
  if (typeof now === 'number') throw failed(`making ${path} read-only`, now);
  const result = task.mounts.remount(now, now.mount.flags | MountFlag.readOnly);
  if (result < 0) throw failed(`making ${path} read-only`, result);
}

/** Directories show an empty read-only tmpfs, files /dev/null. */
function mask(task: Task, path: string): void {
  const place = resolveFrom(task, path);
  if (typeof place === 'number') return;
  if (place.dentry.inode?.isDirectory) {
    const empty = new TmpfsFileSystem(task.kernel, { pages: 1, inodes: 1, mode: 0o755 });
    const result = task.mounts.mount(empty, place, MountFlag.readOnly, 'tmpfs');
    if (typeof result === 'number') throw failed(`masking ${path}`, result);
    return;
  }
  const nothing = resolveFrom(task, '/dev/null');
  const result = typeof nothing === 'number' ? nothing : task.mounts.bind(nothing, place, false);
  if (result < 0) throw failed(`masking ${path}`, result);
}
