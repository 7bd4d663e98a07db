// The ConfigMaps and Secrets that pods of this node refer to, each followed with a watch of its own for as long as some
// pod refers to it. Claims are followed only until a pod has their volumes: what becomes of them later is the controllers'
// to deal with. Nothing else is read: a node sees only what its pods need.

import type {
  ConfigMap,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
} from '../api/types/core-v1.ts';
import { type Client, type Informer, type ResourceType, resources } from '../client/index.ts';
import { containersOf } from './pod.ts';

export type ReferenceKind = 'configmap' | 'secret' | 'claim';

type Referenced = ConfigMap | Secret | PersistentVolumeClaim;

interface Followed {
  readonly informer: Informer<ConfigMap> | Informer<Secret> | Informer<PersistentVolumeClaim>;
  readonly holders: Set<string>;
}

/** `kind/namespace/name` of everything the pod's environment, volumes and pull secrets name. */
export function referencesOf(pod: Pod): Set<string> {
  const namespace = pod.metadata.namespace ?? '';
  const keys = new Set<string>();
  const add = (kind: ReferenceKind, name: string | undefined): void => {
    if (name) keys.add(`${kind}/${namespace}/${name}`);
  };
  for (const { container } of containersOf(pod)) {
    for (const { configMapRef, secretRef } of container.envFrom ?? []) {
      add('configmap', configMapRef?.name);
      add('secret', secretRef?.name);
    }
    for (const { valueFrom } of container.env ?? []) {
      add('configmap', valueFrom?.configMapKeyRef?.name);
      add('secret', valueFrom?.secretKeyRef?.name);
    }
  }
  for (const volume of pod.spec.volumes ?? []) {
    add('configmap', volume.configMap?.name);
    add('secret', volume.secret?.secretName);
    for (const source of volume.projected?.sources ?? []) {
      add('configmap', source.configMap?.name);
      add('secret', source.secret?.name);
    }
  }
  for (const { name } of pod.spec.imagePullSecrets ?? []) add('secret', name);
  return keys;
}

export class References implements AsyncDisposable {
  readonly #client: Client;
  /** Tells which pods refer to an object that changed. */
  readonly #onChange: (podUids: Iterable<string>) => void;
  readonly #followed = new Map<string, Followed>();
  readonly #byPod = new Map<string, ReadonlySet<string>>();
  /** Claims that a pod waits for. */
  readonly #claimsByPod = new Map<string, Set<string>>();
  readonly #closing = new Set<Promise<void>>();

  constructor(client: Client, onChange: (podUids: Iterable<string>) => void) {
    this.#client = client;
    this.#onChange = onChange;
  }

  /** Follows what the pod refers to, and no longer what only an older version of it referred to. */
  hold(pod: Pod): void {
    const { uid } = pod.metadata;
    const wanted = referencesOf(pod);
    const before = this.#byPod.get(uid);
    for (const key of wanted) if (!before?.has(key)) this.#hold(key, uid);
    this.#byPod.set(uid, wanted);
    for (const key of before ?? []) if (!wanted.has(key)) this.#release(key, uid);
  }

  release(podUid: string): void {
    for (const key of this.#byPod.get(podUid) ?? []) this.#release(key, podUid);
    this.#byPod.delete(podUid);
    this.releaseClaims(podUid);
  }

  /** The pod has its volumes: it no longer matters what happens to the objects. */
  releaseClaims(podUid: string): void {
    for (const key of this.#claimsByPod.get(podUid) ?? []) this.#release(key, podUid);
    this.#claimsByPod.delete(podUid);
  }

  /** The object as it is now, or undefined when there is none. The pod must hold it. */
  async configMap(namespace: string, name: string, signal: AbortSignal): Promise<ConfigMap | undefined> {
    return (await this.#get(`configmap/${namespace}/${name}`, signal)) as ConfigMap | undefined;
  }

  async secret(namespace: string, name: string, signal: AbortSignal): Promise<Secret | undefined> {
    return (await this.#get(`secret/${namespace}/${name}`, signal)) as Secret | undefined;
  }

  /** The claim in the pod's namespace; followed for the pod from now on until `releaseClaims`. */
  async persistentVolumeClaim(
    pod: Pod,
    name: string,
    signal: AbortSignal,
  ): Promise<PersistentVolumeClaim | undefined> {
    const key = `claim/${pod.metadata.namespace ?? ''}/${name}`;
    const held = this.#claimsByPod.get(pod.metadata.uid) ?? new Set();
    this.#claimsByPod.set(pod.metadata.uid, held.add(key));
    this.#hold(key, pod.metadata.uid);
    return (await this.#get(key, signal)) as PersistentVolumeClaim | undefined;
  }

  /**
   * The volume to which a claim of a pod is bound, as the API has it now. Rejects with a StatusError. A node may read it
   * only once volume and claim name one another; then there is nothing left to wait for.
   */
  persistentVolume(name: string, signal: AbortSignal): Promise<PersistentVolume> {
    return this.#client.resource(resources.persistentVolumes).get(name, { signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { informer } of this.#followed.values()) this.#close(informer);
    this.#followed.clear();
    this.#byPod.clear();
    this.#claimsByPod.clear();
    await Promise.all(this.#closing);
  }

  #hold(key: string, podUid: string): void {
    const followed = this.#followed.get(key) ?? this.#follow(key);
    this.#followed.set(key, followed);
    followed.holders.add(podUid);
  }

  async #get(key: string, signal: AbortSignal): Promise<Referenced | undefined> {
    const followed = this.#followed.get(key);
    if (!followed) throw new Error(`${key} is not followed: no pod of this node holds it`);
    const { informer } = followed;
    if (!informer.hasSynced) await abortable(informer.synced, signal);
    const [, namespace, name] = key.split('/');
    return informer.lister.find(namespace, name!);
  }

  #follow(key: string): Followed {
    const [kind, namespace, name] = key.split('/');
    const options = { namespace: namespace!, fieldSelector: { 'metadata.name': name! } };
    const holders = new Set<string>();
    const start = <T extends Referenced>(type: ResourceType<T>): Informer<T> => {
      const informer = this.#client.informers.informer(type, options);
      const changed = (): void => this.#onChange(holders);
      informer.addHandler({ added: changed, updated: changed, deleted: changed });
      return informer;
    };
    const types = {
      configmap: () => start(resources.configMaps),
      secret: () => start(resources.secrets),
      claim: () => start(resources.persistentVolumeClaims),
    } satisfies Record<ReferenceKind, () => unknown>;
    return { informer: types[kind as ReferenceKind](), holders };
  }

  #release(key: string, podUid: string): void {
    const followed = this.#followed.get(key);
    followed?.holders.delete(podUid);
    if (followed?.holders.size !== 0) return;
    this.#followed.delete(key);
    this.#close(followed.informer);
  }

  #close(informer: AsyncDisposable): void {
    const closing = Promise.resolve(informer[Symbol.asyncDispose]()).finally(() =>
      this.#closing.delete(closing),
    );
    this.#closing.add(closing);
  }
}

/** Rejects with the signal's reason as soon as it aborts. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let abort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort!);
  }
}
