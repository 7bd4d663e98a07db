// Device nodes of containers: those that a container names, or all of the host's for privileged ones.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Device, RuntimeError } from '../../cri.ts';
import { errorCode } from '../cgroup-files.ts';
import type { OciDevice, OciDeviceRule } from './oci.ts';

/** Below /dev, but not the host's devices: file systems that a container has of its own. */
const OWN = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev', 'console']);

/** gnu_dev_major and gnu_dev_minor of libc. */
function numbers(rdev: number): { readonly major: number; readonly minor: number } {
  const device = BigInt(rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return { major: Number(major & 0xffffffffn), minor: Number(minor & 0xffffffffn) };
}

/** Undefined when the path is no device. */
async function describe(hostPath: string, containerPath: string): Promise<OciDevice | undefined> {
  const status = await stat(hostPath);
  if (!status.isCharacterDevice() && !status.isBlockDevice()) return undefined;
  return {
    path: containerPath,
    type: status.isCharacterDevice() ? 'c' : 'b',
    ...numbers(status.rdev),
    fileMode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
  };
}

/** The device at a path, or all devices below a directory. */
async function collect(
  hostPath: string,
  containerPath: string,
  skip: ReadonlySet<string>,
): Promise<OciDevice[]> {
  const entries = await readdir(hostPath, { withFileTypes: true }).catch((error: unknown) => {
    if (errorCode(error) === 'ENOTDIR') return undefined;
    throw error;
  });
  if (!entries) {
    const device = await describe(hostPath, containerPath);
    return device ? [device] : [];
  }
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = join(hostPath, entry.name);
      if (skip.has(entry.name)) return [];
      if (entry.isDirectory()) return collect(path, join(containerPath, entry.name), new Set());
      if (!entry.isCharacterDevice() && !entry.isBlockDevice()) return [];
      const device = await describe(path, join(containerPath, entry.name)).catch(() => undefined);
      return device ? [device] : [];
    }),
  );
  return found.flat();
}

/** What privileged containers see in /dev. */
export function hostDevices(): Promise<OciDevice[]> {
  return collect('/dev', '/dev', OWN);
}

/** The devices that a container names, with the access that it asks for. */
export async function namedDevices(
  devices: readonly Device[],
): Promise<{ readonly devices: OciDevice[]; readonly rules: OciDeviceRule[] }> {
  const all: OciDevice[] = [];
  const rules: OciDeviceRule[] = [];
  for (const { hostPath, containerPath, permissions } of devices) {
    if (!/^[rwm]{1,3}$/.test(permissions))
      throw new RuntimeError(
        'InvalidArgument',
        `"${permissions}" of device ${hostPath} is no access; use r, w and m`,
      );
    let found: OciDevice[];
    try {
      found = await collect(hostPath, containerPath, new Set());
    } catch (error) {
      throw new RuntimeError('FailedPrecondition', `device ${hostPath}: ${String(error)}`, { cause: error });
    }
    if (found.length === 0)
      throw new RuntimeError('InvalidArgument', `${hostPath} is no device and has none below it`);
    all.push(...found);
    for (const { type, major, minor } of found)
      rules.push({ allow: true, type: type === 'p' ? 'c' : type, major, minor, access: permissions });
  }
  return { devices: all, rules };
}
