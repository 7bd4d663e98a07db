// Ownership by controller reference: which of some objects a controller owns, adopting orphans that match its selector
// and releasing its own that no longer do. Two controllers may want one object; the API server settles that, because
// both the object's uid and the controller's own life are checked there.

import {
  controllerOf,
  controllerReference,
  groupVersion,
  isInvalid,
  isNotFound,
  type KubeObject,
  type LabelMatcher,
} from '../../api/index.ts';
import type { Client, ResourceType } from '../../client/index.ts';

export interface ClaimOptions<O extends KubeObject, C extends KubeObject> {
  readonly client: Client;
  readonly owner: O;
  readonly ownerType: ResourceType<O>;
  readonly type: ResourceType<C>;
  readonly selector: LabelMatcher;
  /** What may be adopted at all; the selector must match besides. */
  readonly adoptable?: (object: C) => boolean;
  /** Set on what is adopted. */
  readonly finalizer?: string;
}

/**
 * The candidates that the owner owns in the end. Rejects when one could not be adopted or released, after all have
 * been tried.
 */
export async function claim<O extends KubeObject, C extends KubeObject>(
  candidates: Iterable<C>,
  options: ClaimOptions<O, C>,
): Promise<C[]> {
  const { owner, selector, adoptable = () => true } = options;
  const claimed: C[] = [];
  const failures: unknown[] = [];
  let mayAdopt: Promise<void> | undefined;
  for (const candidate of candidates) {
    const controller = controllerOf(candidate);
    const matches = selector.matches(candidate.metadata.labels);
    const deleting = owner.metadata.deletionTimestamp !== undefined;
    if (controller) {
      if (controller.uid !== owner.metadata.uid) continue;
      if (matches) claimed.push(candidate);
      else if (!deleting) await release(candidate, options).catch((error) => failures.push(error));
      continue;
    }
    if (deleting || !matches || candidate.metadata.deletionTimestamp !== undefined) continue;
    if (candidate.metadata.namespace !== owner.metadata.namespace || !adoptable(candidate)) continue;
    try {
      mayAdopt ??= checkOwnerAlive(options);
      await mayAdopt;
      if (await adopt(candidate, options)) claimed.push(candidate);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, failures.map(String).join('; '));
  return claimed;
}

/** The cache may be stale: an owner that is being deleted, or was replaced, must not adopt. Asked of the server once. */
async function checkOwnerAlive<O extends KubeObject, C extends KubeObject>(
  options: ClaimOptions<O, C>,
): Promise<void> {
  const { client, owner, ownerType } = options;
  const { namespace, name, uid } = owner.metadata;
  const fresh = await client.resource(ownerType, namespace).get(name);
  if (fresh.metadata.uid !== uid)
    throw new Error(
      `original ${ownerType.kind} ${namespace}/${name} not found: got uid ${fresh.metadata.uid}, wanted ${uid}`,
    );
  if (fresh.metadata.deletionTimestamp !== undefined)
    throw new Error(`${namespace}/${name} has just been deleted at ${fresh.metadata.deletionTimestamp}`);
}

async function adopt<O extends KubeObject, C extends KubeObject>(
  object: C,
  { client, owner, ownerType, type, finalizer }: ClaimOptions<O, C>,
): Promise<boolean> {
  const reference = controllerReference(owner, { apiVersion: groupVersion(ownerType), kind: ownerType.kind });
  const { namespace, name, uid } = object.metadata;
  try {
    // The uid in the patch makes the server refuse when another object bears the name by now.
    await client.resource(type, namespace).patch(name, {
      type: 'strategic',
      patch: {
        metadata: { uid, ownerReferences: [reference], ...(finalizer ? { finalizers: [finalizer] } : {}) },
      },
    });
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

async function release<O extends KubeObject, C extends KubeObject>(
  object: C,
  { client, owner, type }: ClaimOptions<O, C>,
): Promise<void> {
  const { namespace, name, uid } = object.metadata;
  try {
    await client.resource(type, namespace).patch(name, {
      type: 'strategic',
      patch: { metadata: { uid, ownerReferences: [{ $patch: 'delete', uid: owner.metadata.uid }] } },
    });
  } catch (error) {
    // Gone, or no longer ours, or another object by now: released in any case.
    if (!isNotFound(error) && !isInvalid(error)) throw error;
  }
}
