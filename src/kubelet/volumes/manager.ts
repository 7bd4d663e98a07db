// The volumes of this node's pods: makes them before containers start, keeps those that come from the API up to date,
// and takes them away when the pod has ended; persistent volumes (persistent.ts) are only let go. Files that come from the API lie on one tmpfs of the node: Secrets and
// tokens must not touch a disk, none of them needs to, and this way a pod costs no mount of its own.

import { chmod, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { claimNameOf, podLimits, quantityToNumber } from '../../api/index.ts';
import type { Pod, Volume } from '../../api/types/core-v1.ts';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import type { HostStorage } from '../host/host.ts';
import { LOCAL_VOLUME_PLUGIN, podPaths, type VolumePlugin, volumePath } from '../paths.ts';
import type { References } from '../references.ts';
import type { ResourceList } from '../resources.ts';
import { writePayload } from './atomic-writer.ts';
import { ClaimError, SetUpError, usesOf } from './claims.ts';
import { isErrno } from './errno.ts';
import { prepareHostPath } from './host-path.ts';
import { removeMountPoints } from './mount-points.ts';
import { setVolumeOwnership } from './ownership.ts';
import { type Payload, type PayloadSources, VolumeError, volumePayload } from './payload.ts';
import { PersistentVolumes, type PodClaim } from './persistent.ts';
import type { TokenManager } from './tokens.ts';

/** By volume name: where the volume lies on the host. Empty where nothing is written. */
export type MountedVolumes = ReadonlyMap<string, string>;

/** Sub-paths are mounted at <volume>/<container>/<number of the mount>. */
const SUBPATH_LEVELS = 3;

/** After a failed update of a volume's content. */
const UPDATE_RETRY_MS = 10_000;

interface Mounted {
  pod: Pod;
  readonly paths: Map<string, string>;
  /** The claims among them. */
  readonly claims: Map<string, PodClaim>;
  /** Names of volumes that were made, also where nothing is written. */
  readonly made: Set<string>;
  timer: Timer | undefined;
  /** One update at a time; another asked for meanwhile runs after it. */
  updating: Promise<void> | undefined;
  again: boolean;
}

export interface VolumeManagerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly storage: HostStorage | undefined;
  readonly references: References;
  readonly tokens: TokenManager;
  readonly allocatable: ResourceList;
  /** Undefined before the node is known. */
  readonly nodeLabels: () => Readonly<Record<string, string>> | undefined;
  /** Tells the user of something that does not stop the pod. */
  readonly warn: (pod: Pod, reason: string, message: string) => void;
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: unknown) => {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    },
  );
}

function typeOf(volume: Volume): string {
  const { name: _, ...source } = volume;
  return Object.keys(source)[0] ?? 'emptyDir';
}

function pluginOf(volume: Volume): VolumePlugin | undefined {
  if (volume.configMap) return 'configmap';
  if (volume.secret) return 'secret';
  if (volume.downwardAPI) return 'downward-api';
  if (volume.projected) return 'projected';
  if (volume.emptyDir || typeOf(volume) === 'emptyDir') return 'empty-dir';
  return undefined;
}

/** As upstream, a claim that no container uses is left alone; other volumes cost little. */
function neededVolumes(pod: Pod): Volume[] {
  return (pod.spec.volumes ?? []).filter((volume) => {
    if (claimNameOf(pod, volume) === undefined) return true;
    const { mounted, device } = usesOf(pod, volume.name);
    return mounted || device;
  });
}

const SUPPORTED = new Set([
  'emptyDir',
  'configMap',
  'secret',
  'downwardAPI',
  'projected',
  'hostPath',
  'persistentVolumeClaim',
  'ephemeral',
]);

export class VolumeManager implements AsyncDisposable {
  readonly #options: VolumeManagerOptions;
  readonly #mounted = new Map<string, Mounted>();
  readonly #stop = new AbortController();
  readonly #persistent: PersistentVolumes;
  #memory: Promise<string> | undefined;

  constructor(options: VolumeManagerOptions) {
    this.#options = options;
    this.#persistent = new PersistentVolumes(options);
  }

  /**
   * Makes all volumes that the pod's containers mount; what is there already is brought up to date. Rejects with a
   * VolumeError that names the volume and what is wrong with it.
   */
  async mount(pod: Pod, signal: AbortSignal): Promise<MountedVolumes> {
    const { uid } = pod.metadata;
    let mounted = this.#mounted.get(uid);
    if (!mounted) {
      mounted = {
        pod,
        paths: new Map(),
        claims: new Map(),
        made: new Set(),
        timer: undefined,
        updating: undefined,
        again: false,
      };
      this.#mounted.set(uid, mounted);
    }
    mounted.pod = pod;
    const missing = neededVolumes(pod).filter(({ name }) => !mounted.made.has(name));
    const results = await Promise.allSettled(
      missing.map((volume) => this.#mountOne(mounted, volume, signal)),
    );
    if (missing.length > 0) this.#scheduleRenewal(mounted);
    const failures = results.filter((result) => result.status === 'rejected').map(({ reason }) => reason);
    if (failures.length === 0) this.#options.references.releaseClaims(uid);
    else throw this.#unprocessed(mounted, results, missing) ?? failures[0];
    return mounted.paths;
  }

  /** The claims that the pod has volumes of, for statistics. */
  claimsOf(podUid: string): readonly PodClaim[] {
    return [...(this.#mounted.get(podUid)?.claims.values() ?? [])];
  }

  /** The groups that the pod's persistent volumes want their users to have. */
  groupsOf(podUid: string): readonly number[] {
    return this.claimsOf(podUid)
      .map(({ group }) => group)
      .filter((group) => group !== undefined);
  }

  /** What keeps volumes from being worked on at all comes first, all of it in one message, as upstream's. */
  #unprocessed(
    { pod, made }: Mounted,
    results: readonly PromiseSettledResult<void>[],
    volumes: readonly Volume[],
  ): VolumeError | undefined {
    const failed: string[] = [];
    const why: string[] = [];
    results.forEach((result, i) => {
      if (result.status === 'fulfilled' || !(result.reason instanceof ClaimError)) return;
      failed.push(volumes[i]!.name);
      why.push(result.reason.message);
    });
    if (failed.length === 0) return undefined;
    const unmounted = neededVolumes(pod)
      .map(({ name }) => name)
      .filter((name) => !made.has(name));
    return new VolumeError(
      `Unable to attach or mount volumes: unmounted volumes=[${unmounted.join(' ')}], unattached volumes=[], failed to process volumes=[${failed.join(' ')}]: ${why.join('; ')}`,
    );
  }

  async #mountOne(mounted: Mounted, volume: Volume, signal: AbortSignal): Promise<void> {
    try {
      const path = await this.#make(mounted, volume, signal);
      if (path !== undefined) mounted.paths.set(volume.name, path);
      mounted.made.add(volume.name);
    } catch (error) {
      if (signal.aborted || !(error instanceof Error)) throw error;
      if (error instanceof ClaimError || error instanceof SetUpError) throw error;
      const message = `MountVolume.SetUp failed for volume "${volume.name}" : ${error.message}`;
      throw new VolumeError(message, { cause: error });
    }
  }

  /** A ConfigMap, Secret or the pod itself changed: brings the files up to date in the background. */
  refresh(podUid: string): void {
    const mounted = this.#mounted.get(podUid);
    if (!mounted || !this.#options.storage || this.#stop.signal.aborted) return;
    if (mounted.updating) {
      mounted.again = true;
      return;
    }
    mounted.updating = this.#update(mounted).finally(() => {
      mounted.updating = undefined;
      if (!mounted.again) return;
      mounted.again = false;
      this.refresh(podUid);
    });
  }

  /** Takes note of a newer version of the pod: its labels and annotations may stand in files. */
  observe(pod: Pod): void {
    const mounted = this.#mounted.get(pod.metadata.uid);
    if (!mounted) return;
    mounted.pod = pod;
    this.refresh(pod.metadata.uid);
  }

  /** Takes all of the pod's volumes away, and what they held. */
  async unmount(pod: Pod): Promise<void> {
    const { uid } = pod.metadata;
    const mounted = this.#mounted.get(uid);
    this.#mounted.delete(uid);
    mounted?.timer?.cancel();
    await mounted?.updating;
    this.#options.tokens.forget(uid);
    await this.removeOrphan(uid);
  }

  /** The same for a pod of which only the directory is left. */
  async removeOrphan(podUid: string): Promise<void> {
    const { storage } = this.#options;
    if (!storage) return;
    const directory = join(storage.rootDirectory, 'pods', podUid);
    const mounts = await storage.mounts.mountsUnder(directory);
    // Deepest first.
    for (const mount of mounts.toSorted((a, b) => b.length - a.length)) await storage.mounts.unmount(mount);
    const left = await storage.mounts.mountsUnder(directory);
    if (left.length > 0)
      throw new VolumeError(`${left[0]} is still mounted: nothing below ${directory} was removed`);
    await removeMountPoints(join(directory, 'volume-subpaths'), SUBPATH_LEVELS);
    await removeMountPoints(join(directory, 'volumes', LOCAL_VOLUME_PLUGIN), 1);
    // Never follows what is still mounted: a host's directory may be behind it.
    for (const name of ['volume-subpaths', 'volumes'])
      if (await exists(join(directory, name))) await storage.removeTree(join(directory, name));
    await rm(join(storage.rootDirectory, 'memory', podUid), { recursive: true, force: true });
  }

  /** Uids of pods that have something on the disk. */
  async podsOnDisk(): Promise<Set<string>> {
    const { storage } = this.#options;
    const uids = new Set<string>();
    for (const directory of storage ? ['pods', 'memory'] : []) {
      const names = await readdir(join(storage!.rootDirectory, directory)).catch((error: unknown) => {
        if (isErrno(error, 'ENOENT')) return [];
        throw error;
      });
      for (const name of names) uids.add(name);
    }
    return uids;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the node agent stops'));
    const updates = [...this.#mounted.values()].map(({ timer, updating }) => {
      timer?.cancel();
      return updating;
    });
    await Promise.allSettled(updates);
    this.#mounted.clear();
  }

  #sources(): PayloadSources {
    const { references, tokens, storage, allocatable } = this.#options;
    return { references, tokens: storage ? tokens : undefined, allocatable };
  }

  async #make(mounted: Mounted, volume: Volume, signal: AbortSignal): Promise<string | undefined> {
    const { storage, clock } = this.#options;
    const { pod } = mounted;
    const type = typeOf(volume);
    if (!SUPPORTED.has(type))
      throw new VolumeError(
        `volumes of type ${type} are not supported by this node agent (supported: ${[...SUPPORTED].join(', ')})`,
      );
    if (claimNameOf(pod, volume) !== undefined) {
      const done = await this.#persistent.setUp(pod, volume, signal);
      mounted.claims.set(volume.name, done.claim);
      return done.path;
    }
    if (!storage) {
      await volumePayload(pod, volume, this.#sources(), signal);
      return undefined;
    }
    if (volume.hostPath) return prepareHostPath(volume.hostPath);
    const path = await this.#place(storage, pod, volume);
    let payload: Payload | undefined;
    try {
      payload = await volumePayload(pod, volume, this.#sources(), signal);
    } catch (error) {
      // Made before the agent was restarted, and its object deleted since: running containers keep what they have.
      if (error instanceof VolumeError && (await exists(join(path, '..data')))) return path;
      throw error;
    }
    await mkdir(path, { recursive: true });
    const fsGroup = pod.spec.securityContext?.fsGroup;
    if (payload) {
      await chmod(path, 0o755);
      writePayload(path, payload, fsGroup === undefined ? {} : { gid: fsGroup }, clock.now());
      return path;
    }
    await this.#makeEmptyDir(storage, pod, volume, path);
    if (fsGroup !== undefined) {
      const policy = pod.spec.securityContext?.fsGroupChangePolicy ?? 'Always';
      await setVolumeOwnership(path, fsGroup, { readOnly: false, policy });
    }
    return path;
  }

  async #place(storage: HostStorage, pod: Pod, volume: Volume): Promise<string> {
    const plugin = pluginOf(volume)!;
    const paths = podPaths(storage, pod);
    if (plugin === 'empty-dir') return volumePath(paths, plugin, volume.name);
    const memory = await this.#memoryDirectory(storage);
    return join(memory, pod.metadata.uid, `kubernetes.io~${plugin}`, volume.name);
  }

  /** The node's tmpfs; mounted once, and found mounted after a restart of the agent. */
  #memoryDirectory(storage: HostStorage): Promise<string> {
    this.#memory ??= (async () => {
      const path = join(storage.rootDirectory, 'memory');
      await mkdir(path, { recursive: true, mode: 0o700 });
      if (!(await storage.mounts.mountsUnder(path)).includes(path)) await storage.mounts.mountTmpfs(path, {});
      // Containers reach their volumes by bind mounts; nobody else has business here.
      await chmod(path, 0o700);
      return path;
    })();
    this.#memory.catch(() => (this.#memory = undefined));
    return this.#memory;
  }

  async #makeEmptyDir(storage: HostStorage, pod: Pod, volume: Volume, path: string): Promise<void> {
    const { medium = '', sizeLimit } = volume.emptyDir ?? {};
    if (medium === 'Memory') {
      const limits = [
        sizeLimit === undefined ? undefined : quantityToNumber(sizeLimit),
        podLimits(pod).get('memory'),
      ];
      const bounds = limits.filter((limit) => limit !== undefined && limit > 0) as number[];
      const mounted = (await storage.mounts.mountsUnder(path)).includes(path);
      if (!mounted)
        await storage.mounts.mountTmpfs(path, bounds.length > 0 ? { sizeBytes: Math.min(...bounds) } : {});
    } else if (medium !== '')
      throw new VolumeError(`emptyDir medium ${JSON.stringify(medium)} is not supported by this node agent`);
    await chmod(path, 0o777);
  }

  async #update(mounted: Mounted): Promise<void> {
    const { clock, logger } = this.#options;
    const { pod } = mounted;
    try {
      for (const volume of pod.spec.volumes ?? []) {
        const path = mounted.paths.get(volume.name);
        if (path === undefined) continue;
        const payload = await volumePayload(pod, volume, this.#sources(), this.#stop.signal);
        if (!payload || this.#mounted.get(pod.metadata.uid) !== mounted) continue;
        const gid = pod.spec.securityContext?.fsGroup;
        writePayload(path, payload, gid === undefined ? {} : { gid }, clock.now());
      }
      this.#scheduleRenewal(mounted);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      // What was written before stays: a running pod keeps the last good content. An object that is missing is
      // followed, and its return brings us here again.
      if (error instanceof VolumeError) {
        logger.debug({ err: error, pod: pod.metadata.name }, 'a volume keeps its content');
        return;
      }
      logger.warn(
        { err: error, pod: pod.metadata.name },
        'the content of a volume could not be brought up to date',
      );
      this.#schedule(mounted, UPDATE_RETRY_MS);
    }
  }

  #scheduleRenewal(mounted: Mounted): void {
    const due = this.#options.tokens.nextRenewal(mounted.pod.metadata.uid);
    if (due !== undefined) this.#schedule(mounted, Math.max(0, due - this.#options.clock.now()));
  }

  #schedule(mounted: Mounted, delay: number): void {
    mounted.timer?.cancel();
    if (this.#stop.signal.aborted || this.#mounted.get(mounted.pod.metadata.uid) !== mounted) return;
    mounted.timer = this.#options.clock.setTimer(delay, () => this.refresh(mounted.pod.metadata.uid));
  }
}
