// Persistent volumes of this node's pods: directories and block devices of the node itself (local, hostPath). A local
// directory is bind-mounted below the pod's, so that all its containers see the same place, with the volume's mount
// options, whatever happens to the path; a hostPath is used where it is.
//
// The data is not the agent's. What it makes it takes away with umount(2) and rmdir(2), which cannot delete a file:
// see mount-points.ts.

import { mkdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PersistentVolume, Pod, Volume } from '../../api/types/core-v1.ts';
import type { HostStorage } from '../host/host.ts';
import { LOCAL_VOLUME_PLUGIN, podPaths, volumePath } from '../paths.ts';
import { messageOf } from '../text.ts';
import {
  ClaimError,
  type ClaimedVolume,
  type ClaimSources,
  checkNodeAffinity,
  claimedVolume,
  SetUpError,
} from './claims.ts';
import { isErrno } from './errno.ts';
import { prepareHostPath } from './host-path.ts';
import { setVolumeOwnership } from './ownership.ts';

export interface PersistentVolumesOptions extends ClaimSources {
  /** Absent: claims are checked, nothing is mounted. */
  readonly storage: HostStorage | undefined;
  readonly warn: (pod: Pod, reason: string, message: string) => void;
}

/** A volume that a pod has, and what stands for it in the API. */
export interface PodClaim {
  /** The volume's name in the pod. */
  readonly volume: string;
  readonly namespace: string;
  readonly claim: string;
  /** Where a file system is mounted that can be measured; undefined for devices and hostPaths, as upstream. */
  readonly measured: string | undefined;
  /** The group that may use it, as an annotation of the volume says. */
  readonly group: number | undefined;
}

/** What mount(8) can change about a directory that is mounted already: flags of the mount, not of the file system. */
const BIND_OPTIONS: ReadonlySet<string> = new Set([
  'defaults',
  'ro',
  'rw',
  'suid',
  'nosuid',
  'dev',
  'nodev',
  'exec',
  'noexec',
  'atime',
  'noatime',
  'diratime',
  'nodiratime',
  'relatime',
  'norelatime',
  'strictatime',
  'nostrictatime',
]);

const GROUP_ANNOTATION = 'pv.beta.kubernetes.io/gid';

const SUPPORTED = ['local', 'hostPath'];

/** Fields of a volume's spec that are not its source. */
const NO_SOURCES: ReadonlySet<string> = new Set([
  'capacity',
  'accessModes',
  'claimRef',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'mountOptions',
  'volumeMode',
  'nodeAffinity',
  'volumeAttributesClassName',
]);

function sourceOf({ spec }: PersistentVolume): string {
  const name = Object.keys(spec).find((field) => !NO_SOURCES.has(field)) ?? 'none';
  return name === 'csi' ? `csi (driver ${spec.csi?.driver ?? ''})` : name;
}

export class PersistentVolumes {
  readonly #options: PersistentVolumesOptions;
  /** One set-up at a time for each volume: who comes second must see that somebody has it. */
  readonly #busy = new Map<string, Promise<unknown>>();

  constructor(options: PersistentVolumesOptions) {
    this.#options = options;
  }

  /**
   * Makes the volume of a claim ready for the pod. Resolves with where it is (a directory, or a device for a volume of
   * mode Block); undefined when nothing is mounted here. Rejects with ClaimError or SetUpError.
   */
  async setUp(
    pod: Pod,
    volume: Volume,
    signal: AbortSignal,
  ): Promise<{ readonly path: string | undefined; readonly claim: PodClaim }> {
    const { storage } = this.#options;
    const inUse = async (persistent: PersistentVolume): Promise<boolean> =>
      storage !== undefined && (await isMounted(storage, localTarget(storage, pod, persistent)));
    const claimed = await claimedVolume(pod, volume, this.#options, inUse, signal);
    const { spec, metadata } = claimed.volume;
    if (!spec.local && !spec.hostPath)
      throw new ClaimError(
        `PersistentVolume "${metadata.name}" is of type ${sourceOf(claimed.volume)}, which this node agent does not support (supported: ${SUPPORTED.join(', ')})`,
      );
    // Labels that have changed since are no reason to break off a pod that has the volume.
    if (!(await inUse(claimed.volume))) checkNodeAffinity(claimed.volume, this.#options.nodeLabels());
    const path = storage && (await this.#alone(metadata.name, () => this.#make(storage, pod, claimed)));
    const measured = claimed.block || !spec.local ? undefined : path;
    const { namespace = '', name } = claimed.claim.metadata;
    const group = groupOf(claimed.volume);
    return { path, claim: { volume: volume.name, namespace, claim: name, measured, group } };
  }

  async #make(storage: HostStorage, pod: Pod, claimed: ClaimedVolume): Promise<string> {
    const { volume, block } = claimed;
    const { local, hostPath, mountOptions = [] } = volume.spec;
    if (block) return devicePath(volume);
    if (local) return this.#bind(storage, pod, claimed, local.path);
    if (mountOptions.length > 0)
      throw new SetUpError(
        'MountVolume.MountOptionSupport check',
        volume,
        'Mount options are not supported for this volume type',
      );
    try {
      return await prepareHostPath(hostPath!);
    } catch (error) {
      throw new SetUpError('MountVolume.SetUp', volume, messageOf(error), error);
    }
  }

  async #bind(
    storage: HostStorage,
    pod: Pod,
    { volume, readOnly }: ClaimedVolume,
    path: string,
  ): Promise<string> {
    const target = localTarget(storage, pod, volume);
    const options = [...(volume.spec.mountOptions ?? []), ...(readOnly ? ['ro'] : [])];
    const unknown = options.filter((option) => !BIND_OPTIONS.has(option));
    if (unknown.length > 0)
      throw new SetUpError(
        'MountVolume.SetUp',
        volume,
        `mount option ${unknown.map((option) => JSON.stringify(option)).join(', ')} cannot be given to a directory of a file system that is mounted already (possible: ${[...BIND_OPTIONS].join(', ')})`,
      );
    try {
      // Mounted before the agent was restarted: whatever became of the path, this is the pod's volume.
      if (!(await isMounted(storage, target))) {
        const source = await directoryOf(volume, path);
        // Ownership first: a mount means that all is done.
        if (!readOnly) await this.#setOwnership(storage, pod, volume, source);
        await mkdir(target, { recursive: true, mode: 0o750 });
        await storage.mounts.bind(source, target);
      }
      if (options.length > 0) await storage.mounts.remountBind(target, options);
      return target;
    } catch (error) {
      if (error instanceof SetUpError) throw error;
      throw new SetUpError('MountVolume.SetUp', volume, messageOf(error), error);
    }
  }

  /** fsGroup: once, by the first pod that uses the volume; files must not change hands under those that come later. */
  async #setOwnership(
    storage: HostStorage,
    pod: Pod,
    volume: PersistentVolume,
    source: string,
  ): Promise<void> {
    const { fsGroup, fsGroupChangePolicy = 'Always' } = pod.spec.securityContext ?? {};
    if (fsGroup === undefined) return;
    const suffix = `/volumes/${LOCAL_VOLUME_PLUGIN}/${volume.metadata.name}`;
    const mounts = await storage.mounts.mountsUnder(join(storage.rootDirectory, 'pods'));
    if (!mounts.some((mount) => mount.endsWith(suffix))) {
      await setVolumeOwnership(source, fsGroup, { readOnly: false, policy: fsGroupChangePolicy });
      return;
    }
    const { gid } = await stat(source);
    if (gid !== fsGroup)
      this.#options.warn(
        pod,
        'AlreadyMountedVolume',
        `The requested fsGroup is ${fsGroup}, but the volume ${volume.metadata.name} has GID ${gid}. The volume may not be shareable.`,
      );
  }

  async #alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(name);
    const mine = (before ?? Promise.resolve()).catch(() => {}).then(work);
    this.#busy.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#busy.get(name) === mine) this.#busy.delete(name);
    }
  }
}

function groupOf({ metadata }: PersistentVolume): number | undefined {
  const text = metadata.annotations?.[GROUP_ANNOTATION];
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

function localTarget(storage: HostStorage, pod: Pod, volume: PersistentVolume): string {
  return volumePath(podPaths(storage, pod), 'local-volume', volume.metadata.name);
}

async function isMounted(storage: HostStorage, path: string): Promise<boolean> {
  return (await storage.mounts.mountsUnder(path)).includes(path);
}

async function statOf(step: string, volume: PersistentVolume, path: string) {
  if (!path.startsWith('/') || path.split('/').includes('..'))
    throw new SetUpError(step, volume, `invalid path: ${path} must be absolute and must not contain '..'`);
  try {
    const real = await realpath(path);
    return { real, status: await stat(real) };
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR'))
      throw new SetUpError(step, volume, `path "${path}" does not exist`, error);
    throw new SetUpError(step, volume, messageOf(error), error);
  }
}

async function directoryOf(volume: PersistentVolume, path: string): Promise<string> {
  const step = 'MountVolume.NewMounter initialization';
  const { real, status } = await statOf(step, volume, path);
  if (status.isDirectory()) return real;
  if (status.isBlockDevice())
    throw new SetUpError(
      step,
      volume,
      `path "${path}" is a block device; this node agent makes and mounts no file systems: mount it and name the directory, or use volumeMode Block`,
    );
  throw new SetUpError(step, volume, `path "${path}" is not a directory`);
}

async function devicePath(volume: PersistentVolume): Promise<string> {
  const step = 'MapVolume.SetUpDevice';
  const path = volume.spec.local?.path;
  if (path === undefined)
    throw new SetUpError(step, volume, 'volumes of type hostPath cannot be of volumeMode Block');
  const { real, status } = await statOf(step, volume, path);
  if (!status.isBlockDevice()) throw new SetUpError(step, volume, `path "${path}" is not a block device`);
  return real;
}
