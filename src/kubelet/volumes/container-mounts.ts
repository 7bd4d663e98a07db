// What a container sees where: its volumeMounts with sub-paths, the pod's hosts file, its termination message file.

import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Container, Pod, VolumeMount } from '../../api/types/core-v1.ts';
import type { Device, Mount } from '../../runtime/cri.ts';
import { type DnsSettings, podNames } from '../dns.ts';
import { ConfigError } from '../environment.ts';
import { expand } from '../expansion.ts';
import type { HostStorage } from '../host/host.ts';
import { hostNetworkHosts, managedHosts } from '../hosts-file.ts';
import { podPaths } from '../paths.ts';
import { DEFAULT_TERMINATION_MESSAGE_PATH, type PodContainer } from '../pod.ts';
import { messageOf } from '../text.ts';
import type { MountedVolumes } from './manager.ts';
import { bindSubpath } from './subpath.ts';

const PROPAGATION = {
  None: 'PRIVATE',
  HostToContainer: 'HOST_TO_CONTAINER',
  Bidirectional: 'BIDIRECTIONAL',
} as const;

export interface MountInputs {
  readonly pod: Pod;
  readonly member: PodContainer;
  readonly storage: HostStorage;
  readonly volumes: MountedVolumes;
  readonly environment: ReadonlyMap<string, string>;
  readonly podIPs: readonly string[];
  readonly dns: DnsSettings;
  /** Makes the termination message file's name unique. */
  readonly attempt: number;
}

/** Rejects with a ConfigError that names the mount and what is wrong with it. */
export async function containerMounts(inputs: MountInputs): Promise<Mount[]> {
  const { container } = inputs.member;
  const mounts: Mount[] = [];
  for (const [index, mount] of (container.volumeMounts ?? []).entries())
    mounts.push(await volumeMount(inputs, mount, index));
  if (!mounts.some(({ containerPath }) => containerPath === '/etc/hosts'))
    mounts.push(await hostsMount(inputs));
  mounts.push(await terminationMessageMount(inputs, container));
  return mounts;
}

/** The block devices that the container asks for. Throws a ConfigError for one that the pod does not have. */
export function containerDevices(pod: Pod, { container }: PodContainer, volumes: MountedVolumes): Device[] {
  return (container.volumeDevices ?? []).map(({ name, devicePath }) => {
    const hostPath = volumes.get(name);
    if (hostPath === undefined)
      throw new ConfigError(`cannot find volume "${name}" to pass into container "${container.name}"`);
    return { containerPath: devicePath, hostPath, permissions: isReadOnlyClaim(pod, name) ? 'r' : 'mrw' };
  });
}

function isReadOnlyClaim(pod: Pod, volumeName: string): boolean {
  const volume = pod.spec.volumes?.find(({ name }) => name === volumeName);
  return volume?.persistentVolumeClaim?.readOnly === true;
}

async function volumeMount(inputs: MountInputs, mount: VolumeMount, index: number): Promise<Mount> {
  const { pod, member, storage, volumes, environment } = inputs;
  const volume = volumes.get(mount.name);
  if (volume === undefined)
    throw new ConfigError(
      `cannot find volume "${mount.name}" to mount into container "${member.container.name}"`,
    );
  // What comes from the API is the node agent's to write, whatever the mount says.
  const source = pod.spec.volumes?.find(({ name }) => name === mount.name);
  const fromApi = source && (source.configMap || source.secret || source.downwardAPI || source.projected);
  const readOnlyVolume = isReadOnlyClaim(pod, mount.name);
  const readonly = mount.readOnly === true || fromApi !== undefined || readOnlyVolume;
  if (mount.recursiveReadOnly === 'Enabled')
    throw new ConfigError(
      `volume "${mount.name}" requested recursive read-only mode, but it is not supported by the runtime`,
    );
  let hostPath = volume;
  const subPath = mount.subPathExpr ? subPathOf(mount.subPathExpr, environment) : mount.subPath;
  if (subPath) {
    const target = join(podPaths(storage, pod).subpaths, mount.name, member.container.name, String(index));
    try {
      hostPath = await bindSubpath(volume, subPath, target, {
        mounts: storage.mounts,
        readOnly: readOnlyVolume,
      });
    } catch (error) {
      throw new ConfigError(
        `failed to prepare subPath for volumeMount "${mount.name}" of container "${member.container.name}": ${messageOf(error)}`,
        { cause: error },
      );
    }
  }
  const containerPath = mount.mountPath.startsWith('/') ? mount.mountPath : `/${mount.mountPath}`;
  return { containerPath, hostPath, readonly, propagation: PROPAGATION[mount.mountPropagation ?? 'None'] };
}

/** Unlike in commands, a variable that does not exist is an error here. */
function subPathOf(expression: string, environment: ReadonlyMap<string, string>): string {
  let missing: string | undefined;
  const path = expand(expression, (name) => {
    const value = environment.get(name);
    if (value === undefined) missing ??= name;
    return value;
  });
  if (missing !== undefined)
    throw new ConfigError(`missing value for "${missing}" in subPathExpr "${expression}"`);
  return path;
}

async function hostsMount({ pod, storage, podIPs, dns }: MountInputs): Promise<Mount> {
  const paths = podPaths(storage, pod);
  const { hostAliases = [] } = pod.spec;
  const content = pod.spec.hostNetwork
    ? hostNetworkHosts(await readFile('/etc/hosts', 'utf8').catch(() => ''), hostAliases)
    : managedHosts({ podIPs, ...podNames(pod, dns.clusterDomain), hostAliases });
  await mkdir(paths.pod, { recursive: true, mode: 0o750 });
  await writeFile(paths.etcHosts, content);
  await chmod(paths.etcHosts, 0o644);
  return { containerPath: '/etc/hosts', hostPath: paths.etcHosts, readonly: false, propagation: 'PRIVATE' };
}

async function terminationMessageMount(
  { pod, storage, attempt }: MountInputs,
  container: Container,
): Promise<Mount> {
  const directory = join(podPaths(storage, pod).containers, container.name);
  await mkdir(directory, { recursive: true, mode: 0o750 });
  const hostPath = join(directory, String(attempt));
  await writeFile(hostPath, '');
  // Whatever user the container runs as may leave its message.
  await chmod(hostPath, 0o666);
  const containerPath = container.terminationMessagePath || DEFAULT_TERMINATION_MESSAGE_PATH;
  return { containerPath, hostPath, readonly: false, propagation: 'PRIVATE' };
}
