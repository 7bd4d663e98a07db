// The templates that a DaemonSet or StatefulSet has had, each kept in a ControllerRevision, so that pods can be told
// old from new and `kubectl rollout undo` has something to go back to. The newest revision is the one in force; going
// back to an earlier template raises its number instead of making another.

import {
  controllerReference,
  groupVersion,
  isAlreadyExists,
  isNotFound,
  type KubeObject,
  type LabelMatcher,
} from '../../api/index.ts';
import type { ControllerRevision } from '../../api/types/apps-v1.ts';
import type { PodTemplateSpec } from '../../api/types/core-v1.ts';
import { type Client, type ResourceType, resources } from '../../client/index.ts';
import { claim } from '../pods/claim.ts';
import { canonical, valueHash } from '../pods/template-hash.ts';
import { sameValue } from '../same-value.ts';

export const REVISION_HASH = 'controller-revision-hash';

export interface HistoryOptions<O extends KubeObject> {
  readonly client: Client;
  readonly owner: O;
  readonly ownerType: ResourceType<O>;
  readonly selector: LabelMatcher;
  readonly template: PodTemplateSpec;
  /** The owner's status.collisionCount. */
  readonly collisionCount: number | undefined;
  /** The label of a revision that holds its hash: controller-revision-hash unless told. */
  readonly hashLabel?: string;
}

export interface History {
  /** The revision of the template as it is now. */
  readonly current: ControllerRevision;
  /** All others, by rising number. */
  readonly old: readonly ControllerRevision[];
  /** To be written into the owner's status when it has changed. */
  readonly collisionCount: number | undefined;
}

export function byNumber(a: ControllerRevision, b: ControllerRevision): number {
  return a.revision - b.revision || (a.metadata.name < b.metadata.name ? -1 : 1);
}

/** The value by which pods of this revision are labelled. */
export function hashOf(revision: ControllerRevision): string {
  return revision.metadata.labels?.[REVISION_HASH] ?? '';
}

/** The template of a revision, as applying its patch would give it. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec {
  const { spec } = (revision.data ?? {}) as {
    readonly spec?: { readonly template?: Record<string, unknown> };
  };
  const { $patch: _, ...template } = spec?.template ?? {};
  return template as PodTemplateSpec;
}

/** Finds or makes the revision of the current template; claims those that match by the way. */
export async function syncHistory<O extends KubeObject>(
  candidates: Iterable<ControllerRevision>,
  options: HistoryOptions<O>,
): Promise<History> {
  const { client, owner, ownerType, selector, template } = options;
  const owned = await claim(candidates, {
    client,
    owner,
    ownerType,
    type: resources.controllerRevisions,
    selector,
  });
  const equal: ControllerRevision[] = [];
  const old: ControllerRevision[] = [];
  for (const revision of owned.toSorted(byNumber))
    (sameValue(templateOf(revision), template) ? equal : old).push(revision);
  const next = (old.at(-1)?.revision ?? 0) + 1;
  const current = equal.pop();
  if (!current) {
    const made = await createRevision(options, next);
    return { current: made.revision, old, collisionCount: made.collisionCount };
  }
  // Of several with the same template (two of us were at it at once) the newest stays.
  for (const double of equal) await deleteRevision(client, double);
  const raised =
    current.revision < next
      ? await client
          .resource(resources.controllerRevisions, owner.metadata.namespace)
          .update({ ...current, revision: next })
      : current;
  return { current: raised, old, collisionCount: options.collisionCount };
}

/** Deletes the oldest of `old` beyond the limit, sparing those that are still in use. */
export async function pruneHistory(
  client: Client,
  old: readonly ControllerRevision[],
  limit: number,
  inUse: (revision: ControllerRevision) => boolean,
): Promise<void> {
  const unused = old.filter((revision) => !inUse(revision));
  for (const revision of unused.slice(0, Math.max(0, unused.length - limit)))
    await deleteRevision(client, revision);
}

async function createRevision<O extends KubeObject>(
  options: HistoryOptions<O>,
  number: number,
): Promise<{ readonly revision: ControllerRevision; readonly collisionCount: number | undefined }> {
  const { client, owner, ownerType, template } = options;
  const { namespace, name, annotations } = owner.metadata;
  const revisions = client.resource(resources.controllerRevisions, namespace);
  // With sorted keys: kubectl and others tell whether a revision is the current one by comparing bytes.
  const data = JSON.parse(canonical({ spec: { template: { ...template, $patch: 'replace' } } }));
  for (let { collisionCount } = options; ; collisionCount = (collisionCount ?? 0) + 1) {
    const hash = valueHash(template, collisionCount);
    const revisionName = `${name.slice(0, 252 - hash.length)}-${hash}`;
    try {
      const revision = await revisions.create({
        metadata: {
          name: revisionName,
          ...(namespace === undefined ? {} : { namespace }),
          labels: { ...template.metadata?.labels, [options.hashLabel ?? REVISION_HASH]: hash },
          ...(annotations === undefined ? {} : { annotations: { ...annotations } }),
          ownerReferences: [
            controllerReference(owner, { apiVersion: groupVersion(ownerType), kind: ownerType.kind }),
          ],
        },
        data,
        revision: number,
      });
      return { revision, collisionCount };
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await revisions.get(revisionName);
      // Made by us a moment ago, before the cache knew. Otherwise the name is taken: try the next.
      const ours = existing.metadata.ownerReferences?.some((ref) => ref.uid === owner.metadata.uid);
      if (ours && sameValue(templateOf(existing), template)) return { revision: existing, collisionCount };
    }
  }
}

async function deleteRevision(client: Client, revision: ControllerRevision): Promise<void> {
  const { namespace, name, uid } = revision.metadata;
  try {
    await client.resource(resources.controllerRevisions, namespace).delete(name, { preconditions: { uid } });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
