// What the scheduler knows of claims, volumes and classes: the informers' caches, and over them what it has decided
// itself but the API server has not shown yet ("assumed"). An assumption is about one version of an object and ends by
// itself when another one arrives: the newer version shows the decision, or that somebody else was first.

import { bindVolumeToClaim, volumeAnnotations, volumeClass } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { CSIDriver, CSINode, CSIStorageCapacity, StorageClass } from '../../api/types/storage-v1.ts';
import { type Client, type Index, type Informer, type Lister, resources } from '../../client/index.ts';
import { hostnamesOf } from './volume-hosts.ts';

/** The caches that decisions about volumes are made from. */
export interface VolumeSources {
  readonly claims: Lister<PersistentVolumeClaim>;
  readonly volumes: Lister<PersistentVolume>;
  readonly volumesByClass: Index<PersistentVolume>;
  readonly storageClasses: Lister<StorageClass>;
  readonly csiNodes: Lister<CSINode>;
  readonly csiDrivers: Lister<CSIDriver>;
  readonly capacitiesByClass: Index<CSIStorageCapacity>;
}

export interface VolumeInformers extends AsyncDisposable {
  readonly claims: Informer<PersistentVolumeClaim>;
  readonly volumes: Informer<PersistentVolume>;
  readonly storageClasses: Informer<StorageClass>;
  readonly csiNodes: Informer<CSINode>;
  readonly csiDrivers: Informer<CSIDriver>;
  readonly capacities: Informer<CSIStorageCapacity>;
  readonly synced: Promise<unknown>;
  readonly sources: VolumeSources;
}

const byClass = (volume: PersistentVolume): readonly string[] => [volumeClass(volume)];
const byStorageClass = (capacity: CSIStorageCapacity): readonly string[] => [capacity.storageClassName];

export function volumeInformers({ informers }: Client): VolumeInformers {
  const claims = informers.informer(resources.persistentVolumeClaims);
  const volumes = informers.informer(resources.persistentVolumes);
  const storageClasses = informers.informer(resources.storageClasses);
  const csiNodes = informers.informer(resources.csiNodes);
  const csiDrivers = informers.informer(resources.csiDrivers);
  const capacities = informers.informer(resources.csiStorageCapacities);
  const all = [claims, volumes, storageClasses, csiNodes, csiDrivers, capacities];
  return {
    claims,
    volumes,
    storageClasses,
    csiNodes,
    csiDrivers,
    capacities,
    synced: Promise.all(all.map(({ synced }) => synced)),
    sources: {
      claims: claims.lister,
      volumes: volumes.lister,
      volumesByClass: volumes.index(byClass),
      storageClasses: storageClasses.lister,
      csiNodes: csiNodes.lister,
      csiDrivers: csiDrivers.lister,
      capacitiesByClass: capacities.index(byStorageClass),
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((informer) => informer[Symbol.asyncDispose]()));
    },
  };
}

interface Versioned {
  readonly metadata: { readonly resourceVersion?: string };
}

/** Objects as they are expected to become, by key. */
class Assumptions<T extends Versioned> {
  readonly #assumed = new Map<string, { readonly object: T; readonly base: string | undefined }>();

  get size(): number {
    return this.#assumed.size;
  }

  /** `known` is the object in the cache. */
  apply(key: string, known: T): T {
    const assumed = this.#assumed.get(key);
    if (!assumed) return known;
    if (assumed.base === known.metadata.resourceVersion) return assumed.object;
    this.#assumed.delete(key);
    return known;
  }

  set(key: string, object: T, base: T): void {
    this.#assumed.set(key, { object, base: base.metadata.resourceVersion });
  }

  /** Only this assumption: another pod may have made a newer one. */
  delete(key: string, object: T): void {
    if (this.#assumed.get(key)?.object === object) this.#assumed.delete(key);
  }
}

export const claimKey = (namespace: string | undefined, name: string | undefined): string =>
  `${namespace ?? ''}/${name ?? ''}`;

export class VolumeState {
  readonly sources: VolumeSources;
  readonly #claims = new Assumptions<PersistentVolumeClaim>();
  readonly #volumes = new Assumptions<PersistentVolume>();
  readonly #hostnames = new WeakMap<PersistentVolume, ReadonlySet<string> | null>();
  /** Who wants to know of changes, by the key of the claim. */
  readonly #watchers = new Map<string, Set<() => void>>();

  constructor(sources: VolumeSources) {
    this.sources = sources;
  }

  claim(namespace: string | undefined, name: string): PersistentVolumeClaim | undefined {
    const known = this.sources.claims.find(namespace, name);
    return known && this.#claims.apply(claimKey(namespace, name), known);
  }

  volume(name: string): PersistentVolume | undefined {
    const known = this.sources.volumes.get(name);
    return known && this.#volumes.apply(name, known);
  }

  *volumesOfClass(name: string): Generator<PersistentVolume> {
    const plain = this.#volumes.size === 0;
    for (const volume of this.sources.volumesByClass.get(name))
      yield plain ? volume : this.#volumes.apply(volume.metadata.name, volume);
  }

  /** See volume-hosts.ts; found out once for each version of a volume. */
  hostnamesOf(volume: PersistentVolume): ReadonlySet<string> | undefined {
    const known = this.#hostnames.get(volume);
    if (known !== undefined) return known ?? undefined; // null: it names none
    const hostnames = hostnamesOf(volume);
    this.#hostnames.set(volume, hostnames ?? null);
    return hostnames;
  }

  /** The volume is to be the claim's: nobody else is given it. Returns it as it is to be written. */
  assumeBinding(volume: PersistentVolume, claim: PersistentVolumeClaim): PersistentVolume {
    const bound = bindVolumeToClaim(volume, claim);
    if (bound !== volume) this.#volumes.set(volume.metadata.name, bound, volume);
    return bound;
  }

  /** The claim's volume is to be provisioned for the node. Returns the claim as it is to be written. */
  assumeProvisioning(claim: PersistentVolumeClaim, nodeName: string): PersistentVolumeClaim {
    const { annotations = {} } = claim.metadata;
    if (annotations[volumeAnnotations.selectedNode] === nodeName) return claim;
    const selected = {
      ...claim,
      metadata: {
        ...claim.metadata,
        annotations: { ...annotations, [volumeAnnotations.selectedNode]: nodeName },
      },
    };
    this.#claims.set(claimKey(claim.metadata.namespace, claim.metadata.name), selected, claim);
    return selected;
  }

  forgetBinding(volume: PersistentVolume): void {
    this.#volumes.delete(volume.metadata.name, volume);
    this.volumeChanged(volume);
  }

  forgetProvisioning(claim: PersistentVolumeClaim): void {
    this.#claims.delete(claimKey(claim.metadata.namespace, claim.metadata.name), claim);
    this.claimChanged(claim);
  }

  /** Calls back after changes of the claim or of a volume given to it. */
  watch(key: string, changed: () => void): Disposable {
    const watchers = this.#watchers.get(key) ?? new Set();
    this.#watchers.set(key, watchers.add(changed));
    return {
      [Symbol.dispose]: () => {
        watchers.delete(changed);
        if (watchers.size === 0 && this.#watchers.get(key) === watchers) this.#watchers.delete(key);
      },
    };
  }

  claimChanged({ metadata }: PersistentVolumeClaim): void {
    this.#tell(claimKey(metadata.namespace, metadata.name));
  }

  volumeChanged(volume: PersistentVolume, old?: PersistentVolume): void {
    const keys = [volume, old]
      .map((one) => one?.spec.claimRef)
      .filter((reference) => reference !== undefined)
      .map(({ namespace, name }) => claimKey(namespace, name));
    for (const key of new Set(keys)) this.#tell(key);
  }

  /** Something that any of them may depend on: a node's labels. */
  nodesChanged(): void {
    for (const key of [...this.#watchers.keys()]) this.#tell(key);
  }

  #tell(key: string): void {
    for (const changed of [...(this.#watchers.get(key) ?? [])]) changed();
  }
}
