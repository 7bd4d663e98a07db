// Claims, volumes and classes for tests of decisions: plain maps where the scheduler has informers.

import { type KubeObject, volumeClass } from '../../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { CSIDriver, CSINode, CSIStorageCapacity, StorageClass } from '../../api/types/storage-v1.ts';
import { type Client, createClient, type Lister } from '../../client/index.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { systemClock } from '../../component/index.ts';
import { VolumeBinder } from '../volumes/volume-binder.ts';
import { type VolumeSources, VolumeState } from '../volumes/volume-state.ts';

class Objects<T extends KubeObject> implements Lister<T> {
  readonly #objects = new Map<string, T>();
  get size(): number {
    return this.#objects.size;
  }
  put(object: T): void {
    const { namespace, name } = object.metadata;
    this.#objects.set(namespace ? `${namespace}/${name}` : name, object);
  }
  has(key: string): boolean {
    return this.#objects.has(key);
  }
  get(key: string): T | undefined {
    return this.#objects.get(key);
  }
  find(namespace: string | undefined, name: string): T | undefined {
    return this.#objects.get(namespace ? `${namespace}/${name}` : name);
  }
  values(namespace?: string): Iterable<T> {
    return this.list(namespace);
  }
  list(namespace?: string): T[] {
    const all = [...this.#objects.values()];
    return namespace === undefined ? all : all.filter(({ metadata }) => metadata.namespace === namespace);
  }
  by(value: (object: T) => string) {
    const list = (wanted: string): T[] => this.list().filter((object) => value(object) === wanted);
    return {
      get: list,
      list,
      count: (wanted: string): number => list(wanted).length,
      values: (): string[] => this.list().map(value),
    };
  }
}

export class TestVolumes {
  readonly claims = new Objects<PersistentVolumeClaim>();
  readonly volumes = new Objects<PersistentVolume>();
  readonly storageClasses = new Objects<StorageClass>();
  readonly csiNodes = new Objects<CSINode>();
  readonly csiDrivers = new Objects<CSIDriver>();
  readonly capacities = new Objects<CSIStorageCapacity>();
  readonly sources: VolumeSources = {
    claims: this.claims,
    volumes: this.volumes,
    volumesByClass: this.volumes.by(volumeClass),
    storageClasses: this.storageClasses,
    csiNodes: this.csiNodes,
    csiDrivers: this.csiDrivers,
    capacitiesByClass: this.capacities.by(({ storageClassName }) => storageClassName),
  };
  readonly state = new VolumeState(this.sources);
  /** Nothing is written through it: decisions end before that. */
  readonly #client: Client = createClient(new FakeApi());

  binder(node: (name: string) => Node | undefined = () => undefined): VolumeBinder {
    return new VolumeBinder({ state: this.state, client: this.#client, clock: systemClock, node });
  }
}

export type ClaimSpec = PersistentVolumeClaim['spec'];

export function testClaim(
  name: string,
  spec: ClaimSpec = {},
  metadata: Partial<PersistentVolumeClaim['metadata']> = {},
): PersistentVolumeClaim {
  return {
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: '1',
      creationTimestamp: '',
      ...metadata,
    },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...spec },
    status: { phase: 'Pending' },
  };
}

export function testVolume(
  name: string,
  spec: PersistentVolume['spec'] = {},
  labels: Record<string, string> = {},
): PersistentVolume {
  return {
    metadata: { name, uid: `uid-${name}`, resourceVersion: '1', creationTimestamp: '', labels },
    spec: { accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, ...spec },
    status: { phase: 'Available' },
  };
}

export function testClass(name: string, rest: Partial<StorageClass> = {}): StorageClass {
  return {
    metadata: { name, uid: `uid-${name}`, resourceVersion: '1', creationTimestamp: '' },
    provisioner: 'kubernetes.io/no-provisioner',
    volumeBindingMode: 'WaitForFirstConsumer',
    ...rest,
  };
}

export const onNodesWith = (key: string, ...values: string[]) => ({
  nodeAffinity: {
    required: { nodeSelectorTerms: [{ matchExpressions: [{ key, operator: 'In' as const, values }] }] },
  },
});
