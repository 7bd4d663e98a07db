// An external provisioner in the sense of Kubernetes (as sig-storage-lib-external-provisioner is): makes volumes for
// claims that the binder has handed to it, and deletes what volumes stand for when they are released. Runs on every
// node and acts for that node alone; what concerns no node or several is told by the one whose name comes first.
//
// Order of doing: directory, volume object, and in the end directory gone, volume object gone. Whatever a crash leaves
// is found again by the claim or the volume; a directory without either is reported when the provisioner starts.

import {
  claimClass,
  isAlreadyExists,
  isDelayedBinding,
  isNotFound,
  topologyAllows,
  volumeAnnotations,
  volumeFitsNode,
} from '../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '../api/types/core-v1.ts';
import type { StorageClass } from '../api/types/storage-v1.ts';
import {
  type Client,
  createEventRecorder,
  type EventRecorder,
  type Informer,
  keyOf,
  type ReconcileResult,
  referenceTo,
  resources,
  startController,
} from '../client/index.ts';
import type { Clock, Logger, Running } from '../component/index.ts';
import type { VolumeDirectories } from './directories.ts';
import { expand, needsExpansion } from './expansion.ts';
import { candidateNodes, failed, refusalOf, volumeFor } from './judgement.ts';
import { FINALIZER, HOSTNAME_LABEL, volumeNameFor } from './names.ts';

export interface ProvisionerOptions {
  readonly client: Client;
  readonly provisionerName: string;
  /** The node whose disk this is; absent: every node's. */
  readonly nodeName: string | undefined;
  readonly directories: VolumeDirectories;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Key = `claim ${string}` | `volume ${string}`;

/** Where a claim's volume belongs. */
type Placement =
  | { readonly kind: 'here'; readonly hostname: string }
  | { readonly kind: 'refused'; readonly why: string }
  /** The scheduler has to choose another node. */
  | { readonly kind: 'wrong node'; readonly why: string }
  /** Somebody else's business, or nobody's yet. */
  | { readonly kind: 'elsewhere' };

const ELSEWHERE: Placement = { kind: 'elsewhere' };

const CONCURRENCY = 4;
/** How often a claim that cannot be served is told so: events are kept for an hour only. */
const TELL_AGAIN_MS = 300_000;

const claimsType = resources.persistentVolumeClaims;
const volumesType = resources.persistentVolumes;

export function startProvisioner(options: ProvisionerOptions): Running {
  return new Provisioner(options);
}

class Provisioner implements Running {
  readonly ready: Promise<void>;
  readonly #options: ProvisionerOptions;
  readonly #recorder: EventRecorder;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #volumes: Informer<PersistentVolume>;
  readonly #classes: Informer<StorageClass>;
  readonly #nodes: Informer<Node>;
  readonly #controller: ReturnType<typeof startController<Key>>;
  /** Claims whose directory was made and that have no volume yet, by uid. */
  readonly #unfinished = new Map<string, PersistentVolumeClaim>();

  constructor(options: ProvisionerOptions) {
    this.#options = options;
    const { client, clock, nodeName } = options;
    const logger = options.logger.child({ component: 'provisioner' });
    this.#recorder = createEventRecorder({
      client,
      component: options.provisionerName,
      ...(nodeName === undefined ? {} : { host: nodeName }),
      clock,
      logger,
    });
    this.#claims = client.informers.informer(claimsType);
    this.#volumes = client.informers.informer(volumesType);
    this.#classes = client.informers.informer(resources.storageClasses);
    this.#nodes = client.informers.informer(resources.nodes);
    const synced = Promise.all([
      this.#claims.synced,
      this.#volumes.synced,
      this.#classes.synced,
      this.#nodes.synced,
    ]);
    this.#controller = startController<Key>({
      name: 'local-path-provisioner',
      clock,
      logger,
      concurrency: CONCURRENCY,
      ready: synced,
      reconcile: (key, signal) => this.#reconcile(key, signal),
    });
    this.#follow();
    this.ready = synced.then(() => this.#reportLeftovers(logger));
    // Whoever needs it awaits it.
    this.ready.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#controller[Symbol.asyncDispose]();
    for (const part of [this.#claims, this.#volumes, this.#classes, this.#nodes, this.#recorder])
      await part[Symbol.asyncDispose]();
  }

  // ---- what is looked at, and when

  #follow(): void {
    const { queue } = this.#controller;
    const claim = (one: PersistentVolumeClaim): void => {
      if (this.#isHandedToUs(one) || this.#isOurs(this.#volumes.lister.get(one.spec.volumeName ?? '')))
        queue.add(`claim ${keyOf(one)}`);
    };
    this.#claims.addHandler({
      added: claim,
      updated: claim,
      deleted: (one) => {
        if (this.#unfinished.has(one.metadata.uid)) queue.add(`claim ${keyOf(one)}`);
      },
    });
    const volume = (one: PersistentVolume): void => {
      if (!this.#isOurs(one)) return;
      queue.add(`volume ${one.metadata.name}`);
      const { namespace, name = '' } = one.spec.claimRef ?? {};
      const user = this.#claims.lister.find(namespace, name);
      if (user && needsExpansion(user)) claim(user);
    };
    this.#volumes.addHandler({ added: volume, updated: volume });
    this.#classes.addHandler({ added: () => this.#lookAtClaims() });
    this.#nodes.addHandler({
      added: () => this.#lookAtAll(),
      deleted: () => this.#lookAtAll(),
      updated: (now, before) => {
        if (!sameLabels(now, before)) this.#lookAtAll();
      },
    });
  }

  #lookAtClaims(): void {
    for (const claim of this.#claims.lister.values())
      if (this.#isHandedToUs(claim)) this.#controller.queue.add(`claim ${keyOf(claim)}`);
  }

  /** A node came, went, or is called otherwise: whose business a claim or volume is may have changed. */
  #lookAtAll(): void {
    this.#lookAtClaims();
    for (const volume of this.#volumes.lister.values())
      if (this.#isOurs(volume)) this.#controller.queue.add(`volume ${volume.metadata.name}`);
  }

  #isHandedToUs({ metadata, spec }: PersistentVolumeClaim): boolean {
    const { storageProvisioner, betaStorageProvisioner } = volumeAnnotations;
    const provisioner =
      metadata.annotations?.[storageProvisioner] ?? metadata.annotations?.[betaStorageProvisioner];
    return !spec.volumeName && provisioner === this.#options.provisionerName;
  }

  #isOurs(volume: PersistentVolume | undefined): boolean {
    return volume?.metadata.annotations?.[volumeAnnotations.provisionedBy] === this.#options.provisionerName;
  }

  /** Whether this node's directory holds the volume. */
  #isHere(volume: PersistentVolume): boolean {
    if (!this.#isOurs(volume)) return false;
    const { nodeName } = this.#options;
    if (nodeName === undefined) return true;
    const node = this.#nodes.lister.get(nodeName);
    return node !== undefined && volumeFitsNode(volume, node.metadata.labels);
  }

  /** Whether it is for us to tell what concerns no single node. */
  #speaksForAll(): boolean {
    const { nodeName } = this.#options;
    if (nodeName === undefined) return true;
    let first = true;
    for (const { metadata } of this.#nodes.lister.values()) if (metadata.name < nodeName) first = false;
    return first;
  }

  async #reconcile(key: Key, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    const name = key.slice(key.indexOf(' ') + 1);
    if (key.startsWith('volume ')) {
      const volume = this.#volumes.lister.get(name);
      if (volume && this.#isOurs(volume)) await this.#syncVolume(volume, signal);
      return undefined;
    }
    const claim = this.#claims.lister.get(name);
    await this.#discardUnfinished(name, claim);
    if (!claim) return undefined;
    if (this.#isHandedToUs(claim)) return this.#syncClaim(claim);
    const volume = this.#volumes.lister.get(claim.spec.volumeName ?? '');
    if (volume && this.#isHere(volume) && needsExpansion(claim))
      await expand({ client: this.#options.client, recorder: this.#recorder }, claim, volume);
    return undefined;
  }

  // ---- provisioning

  async #syncClaim(claim: PersistentVolumeClaim): Promise<ReconcileResult | undefined> {
    // No pod starts with a claim that is being deleted.
    if (claim.metadata.deletionTimestamp !== undefined) return undefined;
    if (this.#volumes.lister.has(volumeNameFor(claim))) return undefined;
    const storageClass = this.#classes.lister.get(claimClass(claim));
    if (storageClass?.provisioner !== this.#options.provisionerName) return undefined;
    const place = this.#placeFor(claim, storageClass);
    if (place.kind === 'elsewhere') return undefined;
    if (place.kind === 'wrong node') {
      await this.#chooseNodeAgain(claim);
      this.#tell(claim, 'Warning', 'ProvisioningFailed', failed(claim, place.why));
      return undefined;
    }
    const refusal = place.kind === 'refused' ? failed(claim, place.why) : refusalOf(claim, storageClass);
    if (place.kind === 'refused' || refusal !== undefined) {
      this.#tell(claim, 'Warning', 'ProvisioningFailed', refusal ?? '');
      return { requeueAfterMs: TELL_AGAIN_MS };
    }
    await this.#provision(claim, storageClass, place.hostname);
    return undefined;
  }

  #placeFor(claim: PersistentVolumeClaim, storageClass: StorageClass): Placement {
    const { nodeName } = this.#options;
    const nodes = this.#nodes.lister;
    // Until the node is registered nothing can be said about it.
    if (nodes.size === 0 || (nodeName !== undefined && !nodes.has(nodeName))) return ELSEWHERE;
    const selected = claim.metadata.annotations?.[volumeAnnotations.selectedNode];
    if (selected) {
      const node = nodes.get(selected);
      if (node && nodeName !== undefined && selected !== nodeName) return ELSEWHERE;
      if (node && topologyAllows(storageClass.allowedTopologies, node.metadata.labels)) return placeOn(node);
      if (!node && !this.#speaksForAll()) return ELSEWHERE;
      return {
        kind: 'wrong node',
        why: node
          ? `allowedTopologies of the class do not match node "${selected}"`
          : `node "${selected}" not found`,
      };
    }
    if (isDelayedBinding(storageClass)) return ELSEWHERE;
    const candidates = candidateNodes(storageClass, nodes.values());
    const [only, ...others] = candidates;
    if (only && others.length === 0)
      return nodeName === undefined || only.metadata.name === nodeName ? placeOn(only) : ELSEWHERE;
    if (!this.#speaksForAll()) return ELSEWHERE;
    return {
      kind: 'refused',
      why: `a directory lies on one node, and ${candidates.length} nodes are allowed: use a class with volumeBindingMode WaitForFirstConsumer, or with allowedTopologies that match one node`,
    };
  }

  async #chooseNodeAgain(claim: PersistentVolumeClaim): Promise<void> {
    const { [volumeAnnotations.selectedNode]: _gone, ...annotations } = claim.metadata.annotations ?? {};
    await this.#options.client
      .resource(claimsType, claim.metadata.namespace)
      .update({ ...claim, metadata: { ...claim.metadata, annotations } });
  }

  async #provision(
    claim: PersistentVolumeClaim,
    storageClass: StorageClass,
    hostname: string,
  ): Promise<void> {
    const { client, directories } = this.#options;
    const { uid } = claim.metadata;
    this.#tell(
      claim,
      'Normal',
      'Provisioning',
      `External provisioner is provisioning volume for claim "${keyOf(claim)}"`,
    );
    try {
      this.#unfinished.set(uid, claim);
      const path = await directories.create(claim);
      const draft = volumeFor(claim, storageClass, { path, hostname });
      try {
        await client.resource(volumesType).create(draft);
      } catch (error) {
        // Made by an earlier try whose answer was lost; the name holds the claim's uid.
        if (!isAlreadyExists(error)) throw error;
      }
      this.#unfinished.delete(uid);
      this.#tell(
        claim,
        'Normal',
        'ProvisioningSucceeded',
        `Successfully provisioned volume ${draft.metadata.name}`,
      );
    } catch (error) {
      this.#tell(claim, 'Warning', 'ProvisioningFailed', failed(claim, messageOf(error)));
      throw error;
    }
  }

  /** A claim that went before its volume was there leaves an empty directory. */
  async #discardUnfinished(key: string, claim: PersistentVolumeClaim | undefined): Promise<void> {
    for (const [uid, unfinished] of this.#unfinished) {
      if (keyOf(unfinished) !== key || claim?.metadata.uid === uid) continue;
      if (!this.#volumes.lister.has(volumeNameFor(unfinished)))
        await this.#options.directories.discard(unfinished);
      this.#unfinished.delete(uid);
    }
  }

  #tell(claim: PersistentVolumeClaim, type: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#recorder.event(referenceTo(claimsType, claim), type, reason, message);
  }

  // ---- deleting

  async #syncVolume(volume: PersistentVolume, signal: AbortSignal): Promise<void> {
    if (!this.#isHere(volume)) {
      this.#tellOfMissingNode(volume);
      return;
    }
    const { metadata, spec, status } = volume;
    const leaving = metadata.deletionTimestamp !== undefined;
    const held = metadata.finalizers?.includes(FINALIZER) === true;
    if (spec.persistentVolumeReclaimPolicy !== 'Delete') {
      if (held) await this.#setFinalizer(volume, false);
      return;
    }
    if (!held && !leaving && status.phase === 'Bound') await this.#setFinalizer(volume, true);
    // One that nobody claims and that a user deletes goes with all that it stands for, as its policy says.
    const unclaimed = status.phase === 'Available' && leaving;
    if ((status.phase !== 'Released' && !unclaimed) || (leaving && !held)) return;
    await this.#delete(volume, signal);
  }

  async #delete(volume: PersistentVolume, signal: AbortSignal): Promise<void> {
    const { client, directories } = this.#options;
    const { name, uid } = volume.metadata;
    const path = volume.spec.local?.path;
    try {
      if (path === undefined)
        throw new Error(`volume ${name} says that it was made by us, but it has no spec.local.path`);
      // A tree may be huge, and whoever stops us does not wait for it: the next start goes on.
      await unlessAborted(directories.remove(name, path), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      this.#recorder.event(
        referenceTo(volumesType, volume),
        'Warning',
        'VolumeFailedDelete',
        messageOf(error),
      );
      throw error;
    }
    const api = client.resource(volumesType);
    try {
      if (volume.metadata.deletionTimestamp === undefined) await api.delete(name, { preconditions: { uid } });
      const now = await api.get(name);
      if (now.metadata.uid === uid) await this.#setFinalizer(now, false);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    this.#recorder.event(
      referenceTo(volumesType, volume),
      'Normal',
      'VolumeDeleted',
      `Deleted ${path} of volume ${name}`,
    );
  }

  async #setFinalizer(volume: PersistentVolume, wanted: boolean): Promise<void> {
    const { name, uid, resourceVersion, finalizers = [] } = volume.metadata;
    const others = finalizers.filter((one) => one !== FINALIZER);
    const next = wanted ? [...others, FINALIZER] : others;
    if (next.length === finalizers.length) return;
    await this.#options.client.resource(volumesType).patch(name, {
      type: 'merge',
      patch: { metadata: { uid, resourceVersion, finalizers: next.length > 0 ? next : null } },
    });
  }

  /** Nobody will ever delete a directory on a node that has left the cluster. */
  #tellOfMissingNode(volume: PersistentVolume): void {
    const { spec, status, metadata } = volume;
    if (status.phase !== 'Released' || spec.persistentVolumeReclaimPolicy !== 'Delete') return;
    if (!this.#speaksForAll()) return;
    for (const node of this.#nodes.lister.values()) if (volumeFitsNode(volume, node.metadata.labels)) return;
    const [term] = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
    const where = term?.matchExpressions?.flatMap(({ values = [] }) => values).join(', ') ?? '';
    this.#recorder.event(
      referenceTo(volumesType, volume),
      'Warning',
      'VolumeFailedDelete',
      `the node that holds ${spec.local?.path ?? metadata.name} (${where}) is not in the cluster; when it will not come back, remove the finalizer ${FINALIZER} and delete the volume`,
    );
  }

  // ---- leftovers

  /** Directories of volumes that the API does not know (any more): told, and left for people to judge. */
  async #reportLeftovers(logger: Logger): Promise<void> {
    const present = await this.#options.directories.list();
    const expected = new Set<string>();
    for (const claim of this.#claims.lister.values()) expected.add(volumeNameFor(claim));
    const leftovers = present.filter(
      ({ volumeName }) => !this.#volumes.lister.has(volumeName) && !expected.has(volumeName),
    );
    if (leftovers.length === 0) return;
    const paths = leftovers.map(({ path }) => path);
    logger.warn({ paths }, 'directories of volumes that the cluster does not know; they are left alone');
    const node = this.#nodes.lister.get(this.#options.nodeName ?? '');
    if (!node) return;
    const shown = paths.slice(0, 5).join(', ');
    const more = paths.length > 5 ? ` and ${paths.length - 5} more` : '';
    this.#recorder.event(
      referenceTo(resources.nodes, node),
      'Warning',
      'LeftoverVolumes',
      `directories without a PersistentVolume are left alone: ${shown}${more}; delete those that are not needed`,
    );
  }
}

function placeOn(node: Node): Placement {
  const hostname = node.metadata.labels?.[HOSTNAME_LABEL];
  if (hostname !== undefined) return { kind: 'here', hostname };
  return { kind: 'refused', why: `node "${node.metadata.name}" has no label ${HOSTNAME_LABEL}` };
}

async function unlessAborted<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function sameLabels(a: Node, b: Node): boolean {
  const left = a.metadata.labels ?? {};
  const right = b.metadata.labels ?? {};
  const keys = Object.keys(left);
  return keys.length === Object.keys(right).length && keys.every((key) => left[key] === right[key]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
