// Deletes objects whose owners are gone, and carries out the deletions that wait for dependents (foreground) or leave
// them behind (orphan). Kubernetes' rules (architecture/garbage-collection, KEP-1847):
//
// - An object goes when it had owners and none of them exists any more. As long as one does, only the references to
//   the absent ones are taken away.
// - Foreground: an owner with the finalizer foregroundDeletion stays until no dependent that blocks it is left; its
//   dependents are deleted, in the foreground where they have dependents themselves.
// - Orphan: before an owner with the finalizer orphan goes, its dependents lose their references to it.
// - An owner is cluster-scoped or in the namespace of its dependent; a reference across namespaces counts as absent.
//
// The graph says whom to look at; what is done is decided on what the server says at that moment, never on the cache
// alone, and every delete carries the uid and version that the decision was made on.

import { isNotFound, parseGroupVersion } from '../../api/index.ts';
import type { OwnerReference } from '../../api/types/meta-v1.ts';
import {
  createEventRecorder,
  type MetadataObject,
  type PropagationPolicy,
  type ResourceClient,
  retryOnConflict,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { type ControllerContext, disposeAll } from '../context.ts';
import { FOREGROUND, type GraphNode, type Identity, ORPHAN, OwnerGraph } from './graph.ts';
import { Monitors } from './monitors.ts';

/** How many owners that do not exist are remembered: a deleted owner of a thousand is asked for once. */
const ABSENT_MEMORY = 500;
const WORKERS = 20;

/** The kind of an owner is not served: it cannot be known whether it exists, so nothing is deleted. */
class UnknownKindError extends Error {
  override readonly name = 'UnknownKindError';
}

export function startGarbageCollector(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const recorder = createEventRecorder({ client, component: 'garbage-collector-controller', clock, logger });
  const absent = new Set<string>();

  const graph = new OwnerGraph({
    check: (node) => checks.queue.add(node.uid),
    orphan: (node) => orphans.queue.add(node.uid),
    misplaced: reportMisplaced,
  });
  const monitors = new Monitors(context, {
    changed: (type, object) => graph.upsert(type, object),
    removed(object) {
      graph.remove(object.metadata.uid);
    },
  });
  const common = { clock, logger, concurrency: WORKERS, ready: monitors.ready };
  const checks = startController({ ...common, name: 'garbage-collector-controller', reconcile: check });
  const orphans = startController({
    ...common,
    name: 'garbage-collector-controller-orphans',
    reconcile: orphanDependents,
  });

  function objectsOf({ type, namespace }: Identity): ResourceClient<MetadataObject> {
    return client.resource<MetadataObject>(type, namespace);
  }

  /** The object as the server has it; undefined when it is gone (also when another bears its name). */
  async function latestOf(identity: Identity): Promise<MetadataObject | undefined> {
    try {
      const object = await objectsOf(identity).get(identity.name);
      return object.metadata.uid === identity.uid ? object : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  // ---- looking at one object

  async function check(uid: string): Promise<void> {
    const node = graph.get(uid);
    const identity = node?.identity;
    if (!node || !identity) return;
    if (node.beingDeleted && !node.waitsForDependents) return;
    if (!node.waitsForDependents && hasLivingOwners(node, identity)) return;
    const latest = await latestOf(identity);
    if (!latest) {
      graph.remove(uid);
      return;
    }
    if (node.waitsForDependents) {
      await continueForeground(node, identity);
      return;
    }
    const references = latest.metadata.ownerReferences ?? [];
    if (references.length === 0) return;
    const { solid, dangling, waiting } = await classify(identity, references);
    if (solid.length > 0) {
      const gone = [...dangling, ...waiting];
      if (gone.length > 0) await keepReferences(identity, latest, solid);
    } else if (waiting.length > 0 && graph.dependents(node).size > 0) {
      // Two that own one another would wait for one another for ever: let the owner go first.
      const circle = [...graph.dependents(node)].some((dependent) => dependent.waitsForDependents);
      const current = circle ? await unblockOwners(identity, latest) : latest;
      if (current) await remove(identity, current, 'Foreground');
    } else {
      const { finalizers = [] } = latest.metadata;
      const policy = finalizers.includes(ORPHAN)
        ? 'Orphan'
        : finalizers.includes(FOREGROUND)
          ? 'Foreground'
          : 'Background';
      await remove(identity, latest, policy);
    }
  }

  /** All owners have been seen where they belong and none waits for its dependents: no need to ask the server. */
  function hasLivingOwners(node: GraphNode, identity: Identity): boolean {
    return node.owners.every((reference) => {
      const owner = graph.seen(identity, reference);
      return owner !== undefined && !owner.waitsForDependents;
    });
  }

  async function classify(identity: Identity, references: readonly OwnerReference[]) {
    const solid: OwnerReference[] = [];
    const dangling: OwnerReference[] = [];
    const waiting: OwnerReference[] = [];
    for (const reference of references) {
      const owner = await ownerOf(identity, reference);
      if (!owner) dangling.push(reference);
      else if (owner.metadata.deletionTimestamp && owner.metadata.finalizers?.includes(FOREGROUND))
        waiting.push(reference);
      else solid.push(reference);
    }
    return { solid, dangling, waiting };
  }

  /** The owner that the reference means, from the server; undefined when there is none. */
  async function ownerOf(
    dependent: Identity,
    reference: OwnerReference,
  ): Promise<MetadataObject | undefined> {
    const { apiVersion, kind, name, uid } = reference;
    const clusterKey = JSON.stringify([apiVersion, kind, name, uid]);
    const key = JSON.stringify([apiVersion, kind, name, uid, dependent.namespace]);
    if (absent.has(clusterKey) || absent.has(key)) return undefined;
    const { group, version } = parseGroupVersion(apiVersion);
    let type = monitors.resourceOf(group, version, kind);
    if (!type) {
      await monitors.resync();
      type = monitors.resourceOf(group, version, kind);
    }
    if (!type)
      throw new UnknownKindError(
        `unable to get REST mapping for ${apiVersion}/${kind}, the kind of an owner of ${describe(dependent)}`,
      );
    if (type.namespaced && dependent.namespace === undefined)
      throw new UnknownKindError(
        `cluster-scoped objects cannot refer to namespaced owners: ${describe(dependent)} names ${kind} ${name}`,
      );
    const owner = await latestOf({
      type,
      name,
      uid,
      namespace: type.namespaced ? dependent.namespace : undefined,
    });
    if (!owner) remember(type.namespaced ? key : clusterKey);
    return owner;
  }

  function remember(key: string): void {
    absent.add(key);
    if (absent.size <= ABSENT_MEMORY) return;
    const [oldest] = absent;
    if (oldest !== undefined) absent.delete(oldest);
  }

  // ---- foreground and orphan

  async function continueForeground(node: GraphNode, identity: Identity): Promise<void> {
    const blocking = [...graph.blockingDependents(node)];
    if (blocking.length === 0) {
      await removeFinalizer(identity, FOREGROUND);
      return;
    }
    for (const dependent of blocking) if (!dependent.waitsForDependents) checks.queue.add(dependent.uid);
  }

  async function orphanDependents(uid: string): Promise<void> {
    const node = graph.get(uid);
    const identity = node?.identity;
    if (!node || !identity || !node.orphansDependents) return;
    const results = await Promise.allSettled(
      [...graph.dependents(node)].map(async (dependent) => {
        if (!dependent.identity) return;
        const latest = await latestOf(dependent.identity);
        const references = latest?.metadata.ownerReferences ?? [];
        const kept = references.filter((reference) => reference.uid !== uid);
        if (latest && kept.length < references.length) await keepReferences(dependent.identity, latest, kept);
      }),
    );
    const failures = results.filter((result) => result.status === 'rejected').map((result) => result.reason);
    if (failures.length > 0)
      throw new AggregateError(
        failures,
        `failed to orphan dependents of owner ${describe(identity)}, got errors: ${failures.map(String).join('; ')}`,
      );
    await removeFinalizer(identity, ORPHAN);
  }

  // ---- writing

  async function remove(
    identity: Identity,
    latest: MetadataObject,
    policy: PropagationPolicy,
  ): Promise<void> {
    const { uid, resourceVersion } = latest.metadata;
    logger.debug({ object: describe(identity), uid, policy }, 'deleting an object whose owners are gone');
    try {
      await objectsOf(identity).delete(identity.name, {
        propagationPolicy: policy,
        preconditions: { uid, resourceVersion },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async function keepReferences(
    identity: Identity,
    latest: MetadataObject,
    kept: readonly OwnerReference[],
  ): Promise<void> {
    await patchMetadata(identity, latest, { ownerReferences: kept.length > 0 ? kept : null });
  }

  async function unblockOwners(
    identity: Identity,
    latest: MetadataObject,
  ): Promise<MetadataObject | undefined> {
    const ownerReferences = latest.metadata.ownerReferences?.map((ref) =>
      ref.blockOwnerDeletion ? { ...ref, blockOwnerDeletion: false } : ref,
    );
    return patchMetadata(identity, latest, { ownerReferences });
  }

  /** A merge patch, which every kind takes, refused when the object has changed since; undefined when it is gone. */
  async function patchMetadata(
    identity: Identity,
    latest: MetadataObject,
    metadata: Readonly<Record<string, unknown>>,
  ): Promise<MetadataObject | undefined> {
    const { uid, resourceVersion } = latest.metadata;
    try {
      return await objectsOf(identity).patch(identity.name, {
        type: 'merge',
        patch: { metadata: { uid, resourceVersion, ...metadata } },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return undefined;
    }
  }

  async function removeFinalizer(identity: Identity, finalizer: string): Promise<void> {
    await retryOnConflict(
      async () => {
        const latest = await latestOf(identity);
        const finalizers = latest?.metadata.finalizers ?? [];
        if (!latest || !finalizers.includes(finalizer)) return;
        await patchMetadata(identity, latest, {
          finalizers: finalizers.filter((name) => name !== finalizer),
        });
      },
      { clock },
    );
  }

  function reportMisplaced(dependent: GraphNode, reference: OwnerReference): void {
    const { identity } = dependent;
    if (!identity) return;
    const { type, namespace, name, uid } = identity;
    const { apiVersion, kind } = reference;
    const owner = `[${apiVersion}/${kind}, namespace: ${namespace ?? ''}, name: ${reference.name}, uid: ${reference.uid}]`;
    recorder.event(
      {
        kind: type.kind,
        apiVersion: type.group === '' ? type.version : `${type.group}/${type.version}`,
        ...(namespace === undefined ? {} : { namespace }),
        name,
        uid,
      },
      'Warning',
      'OwnerRefInvalidNamespace',
      `ownerRef ${owner} does not exist in namespace "${namespace ?? ''}"`,
    );
  }

  return {
    ready: monitors.ready,
    async [Symbol.asyncDispose]() {
      await disposeAll([monitors, recorder, orphans, checks]);
    },
  };
}

function describe({ type, namespace, name }: Identity): string {
  const group = type.group === '' ? '' : `.${type.group}`;
  return `${type.resource}${group} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}
