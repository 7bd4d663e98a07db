// The mounts of a container: the file systems that every container has, the pod's own files, the volumes that the
// image declares, and what the pod mounts. A mount of the pod's takes the place of any other at the same path.

import { mkdir, readFile, realpath } from 'node:fs/promises';
import { posix } from 'node:path';
import { type Mount, RuntimeError } from '../../cri.ts';
import { errorCode } from '../cgroup-files.ts';
import type { OciMount } from './oci.ts';

const GUARDED = ['nosuid', 'noexec', 'nodev'];

/** What containerd gives to every container. */
function systemMounts(privileged: boolean): OciMount[] {
  const sys = privileged ? 'rw' : 'ro';
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: GUARDED },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: GUARDED },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...GUARDED, sys] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [...GUARDED, 'relatime', sys],
    },
  ];
}

export interface PodFiles {
  readonly shm: string;
  readonly resolvConf: string;
  /** Absent with the host's UTS namespace where the host has no such file. */
  readonly hostname?: string;
}

export interface MountRequest {
  readonly privileged: boolean;
  readonly readonlyRootfs: boolean;
  readonly files: PodFiles;
  /** Volumes that the image declares, with the directories made for them. */
  readonly volumes: readonly { readonly path: string; readonly directory: string }[];
  readonly mounts: readonly Mount[];
}

export interface Mounts {
  readonly mounts: readonly OciMount[];
  readonly rootfsPropagation?: 'rslave' | 'rshared';
}

/** Absolute and without . and .. and doubled slashes. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(posix.join('/', path));
  return clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
}

function depth(path: string): number {
  return path.split('/').filter(Boolean).length;
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

/** The paths of an image's volumes that no mount of the pod's covers. */
export function imageVolumes(
  declared: Readonly<Record<string, unknown>> | null | undefined,
  mounts: readonly Mount[],
): string[] {
  const taken = new Set(mounts.map((mount) => cleanPath(mount.containerPath)));
  return [...new Set(Object.keys(declared ?? {}).map(cleanPath))].filter(
    (path) => path !== '/' && !taken.has(path),
  );
}

/** The real path of what is mounted; a directory that is not there yet is made, as Docker did. */
async function sourceOf(hostPath: string): Promise<string> {
  if (!posix.isAbsolute(hostPath))
    throw new RuntimeError('InvalidArgument', `"${hostPath}" is mounted but is no absolute path`);
  try {
    return await realpath(hostPath);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT')
      throw new RuntimeError('FailedPrecondition', `${hostPath} cannot be mounted: ${String(error)}`, {
        cause: error,
      });
    await mkdir(hostPath, { recursive: true, mode: 0o755 });
    return realpath(hostPath);
  }
}

/** Whether what is mounted at the path's mount point is shared, or shared or a slave (mount_namespaces(7)). */
export function propagationOf(
  path: string,
  mountinfo: string,
): { readonly mountPoint: string; readonly shared: boolean; readonly slave: boolean } {
  let best = { mountPoint: '', shared: false, slave: false };
  for (const line of mountinfo.split('\n')) {
    const [before] = line.split(' - ');
    const fields = before?.split(' ') ?? [];
    const mountPoint = fields[4]?.replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    if (mountPoint === undefined || !(mountPoint === '/' || isBelow(path, mountPoint))) continue;
    // The last one of several at the same point is the one that is seen.
    if (mountPoint.length < best.mountPoint.length) continue;
    const optional = fields.slice(6);
    best = {
      mountPoint,
      shared: optional.some((word) => word.startsWith('shared:')),
      slave: optional.some((word) => word.startsWith('master:')),
    };
  }
  return best;
}

async function checkPropagation(source: string, propagation: Mount['propagation']): Promise<void> {
  const { mountPoint, shared, slave } = propagationOf(source, await readFile('/proc/self/mountinfo', 'utf8'));
  if (shared || (propagation === 'HOST_TO_CONTAINER' && slave)) return;
  throw new RuntimeError(
    'FailedPrecondition',
    `path "${source}" is mounted on "${mountPoint}" but it is not a shared${propagation === 'BIDIRECTIONAL' ? '' : ' or slave'} mount; ` +
      `make it one: mount --make-rshared ${mountPoint}`,
  );
}

async function podMount(mount: Mount): Promise<OciMount> {
  const source = await sourceOf(mount.hostPath);
  const options = ['rbind'];
  if (mount.propagation === 'PRIVATE') options.push('rprivate');
  else {
    await checkPropagation(source, mount.propagation);
    options.push(mount.propagation === 'BIDIRECTIONAL' ? 'rshared' : 'rslave');
  }
  if (mount.recursiveReadOnly && (!mount.readonly || mount.propagation !== 'PRIVATE'))
    throw new RuntimeError(
      'InvalidArgument',
      `the mount at ${mount.containerPath} is recursively read-only, so it must be read-only and private`,
    );
  options.push(mount.recursiveReadOnly ? 'rro' : mount.readonly ? 'ro' : 'rw');
  return { destination: cleanPath(mount.containerPath), type: 'bind', source, options };
}

export async function containerMounts(request: MountRequest): Promise<Mounts> {
  const { files, privileged, readonlyRootfs, mounts } = request;
  const access = readonlyRootfs ? 'ro' : 'rw';
  const file = (destination: string, source: string): OciMount => ({
    destination,
    type: 'bind',
    source,
    options: ['rbind', 'rprivate', access],
  });
  const pod: OciMount[] = [
    ...(files.hostname ? [file('/etc/hostname', files.hostname)] : []),
    file('/etc/resolv.conf', files.resolvConf),
    { destination: '/dev/shm', type: 'bind', source: files.shm, options: ['rbind', 'rprivate', 'rw'] },
  ];
  const volumes = request.volumes.map(
    ({ path, directory }): OciMount => ({
      destination: path,
      type: 'bind',
      source: directory,
      options: ['rbind', 'rprivate', 'rw'],
    }),
  );
  const asked = await Promise.all(mounts.map(podMount));
  const taken = new Set(asked.map((mount) => mount.destination));
  const given = [...systemMounts(privileged), ...pod].filter(
    ({ destination }) => !taken.has(destination) && !(taken.has('/dev') && isBelow(destination, '/dev')),
  );
  // Parents before children, so that none hides another; the order of equals is kept.
  const ordered = [...volumes, ...asked].sort((a, b) => depth(a.destination) - depth(b.destination));
  const shared = mounts.some((mount) => mount.propagation === 'BIDIRECTIONAL');
  const slave = mounts.some((mount) => mount.propagation === 'HOST_TO_CONTAINER');
  return {
    mounts: [...given, ...ordered],
    ...(shared
      ? { rootfsPropagation: 'rshared' as const }
      : slave
        ? { rootfsPropagation: 'rslave' as const }
        : {}),
  };
}
