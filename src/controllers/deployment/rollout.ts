// One look at one Deployment: finds its new and old ReplicaSets, and moves replicas from the old to the new as far as
// the strategy allows at this moment. Every decision is made anew from what the ReplicaSets are now; nothing is
// remembered between looks but what stands in the objects (revision and size annotations, conditions).
//
// It writes the Deployment through `#deployment`, which always holds the newest version known to us, so that several
// writes in one look do not conflict with one another.

import {
  controllerOf,
  controllerReference,
  type Draft,
  findCondition,
  groupVersion,
  isAlreadyExists,
  isNamespaceTerminating,
  isNotFound,
  labelSelectorMatcher,
} from '../../api/index.ts';
import type { Deployment, DeploymentCondition, ReplicaSet } from '../../api/types/apps-v1.ts';
import type { Pod, PodTemplateSpec } from '../../api/types/core-v1.ts';
import {
  type Client,
  type EventRecorder,
  type ReconcileResult,
  referenceTo,
  resources,
} from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import { messageOf } from '../pods/pod-control.ts';
import { templateHash } from '../pods/template-hash.ts';
import { sameValue } from '../same-value.ts';
import {
  activeSets,
  annotationsOfNewSet,
  annotationsOfRollback,
  byCreation,
  byRevision,
  DESIRED_REPLICAS,
  findNewSet,
  highestRevision,
  integerAnnotation,
  MAX_REPLICAS,
  parseRevision,
  REVISION,
  ROLLBACK_TO,
  replicaAnnotations,
  replicaSetName,
  replicasOf,
  revisionOf,
  sameTemplate,
  TEMPLATE_HASH,
  totalReplicas,
  totalStatus,
  withoutHash,
} from './replica-sets.ts';
import {
  isRollingUpdate,
  isSaturated,
  maxSurge,
  maxUnavailable,
  newSetReplicas,
  proportionalSizes,
} from './sizing.ts';
import {
  deploymentStatus,
  hasProgressDeadline,
  isComplete,
  NO_LIMIT,
  newCondition,
  rolloutStatus,
  setCondition,
  untilDeadline,
} from './status.ts';

const type = resources.deployments;

export interface RolloutContext {
  readonly client: Client;
  readonly clock: Clock;
  readonly recorder: EventRecorder;
  /** A ReplicaSet as the cache has it now. */
  readonly cachedSet: (namespace: string | undefined, name: string) => ReplicaSet | undefined;
}

interface Sets {
  readonly newSet: ReplicaSet | undefined;
  readonly old: readonly ReplicaSet[];
}

export class Rollout {
  readonly #context: RolloutContext;
  #deployment: Deployment;
  /** All that the Deployment owns; kept at the newest version known. */
  #sets: readonly ReplicaSet[];
  /** Pods by the uid of their ReplicaSet. */
  readonly #pods: ReadonlyMap<string, readonly Pod[]>;

  constructor(
    context: RolloutContext,
    deployment: Deployment,
    sets: readonly ReplicaSet[],
    pods: ReadonlyMap<string, readonly Pod[]>,
  ) {
    this.#context = context;
    this.#deployment = deployment;
    this.#sets = sets;
    this.#pods = pods;
  }

  async run(): Promise<ReconcileResult | undefined> {
    if (this.#deployment.metadata.deletionTimestamp !== undefined) {
      await this.#writePlainStatus();
      return undefined;
    }
    await this.#notePause();
    if (this.#deployment.spec.paused) return this.#syncSize();
    if (this.#deployment.metadata.annotations?.[ROLLBACK_TO] !== undefined) return this.#rollback();
    if (this.#wasScaled()) return this.#syncSize();
    return isRollingUpdate(this.#deployment) ? this.#roll() : this.#recreate();
  }

  // ---- strategies

  async #roll(): Promise<ReconcileResult | undefined> {
    const { newSet, old } = await this.#findSets(true);
    const grown = newSet !== undefined && (await this.#sizeNewSet(newSet));
    if (!grown && newSet) {
      const shrunk = await this.#shrinkOldSets(old, newSet);
      if (!shrunk && isComplete(this.#deployment, this.#deployment.status ?? {})) await this.#cleanUp(old);
    }
    return this.#writeRolloutStatus(newSet);
  }

  async #recreate(): Promise<ReconcileResult | undefined> {
    let { newSet, old } = await this.#findSets(false);
    let shrunk = false;
    for (const set of activeSets(old)) shrunk = (await this.#scale(set, 0)) || shrunk;
    if (shrunk || this.#oldPodsRun(newSet, old)) return this.#writeRolloutStatus(newSet);
    if (!newSet) ({ newSet, old } = await this.#findSets(true));
    if (newSet) await this.#scale(newSet, replicasOf(this.#deployment));
    if (isComplete(this.#deployment, this.#deployment.status ?? {})) await this.#cleanUp(old);
    return this.#writeRolloutStatus(newSet);
  }

  /** Recreate waits until no pod of an old template is left, also of those that their set no longer counts. */
  #oldPodsRun(newSet: ReplicaSet | undefined, old: readonly ReplicaSet[]): boolean {
    if (totalStatus(old, 'replicas') > 0) return true;
    for (const [uid, pods] of this.#pods) {
      if (uid === newSet?.metadata.uid) continue;
      if (pods.some((pod) => pod.status?.phase !== 'Failed' && pod.status?.phase !== 'Succeeded'))
        return true;
    }
    return false;
  }

  async #sizeNewSet(newSet: ReplicaSet): Promise<boolean> {
    const wanted = replicasOf(this.#deployment);
    if (replicasOf(newSet) === wanted) return false;
    if (replicasOf(newSet) > wanted) return this.#scale(newSet, wanted);
    return this.#scale(newSet, newSetReplicas(this.#deployment, this.#sets, replicasOf(newSet)));
  }

  async #shrinkOldSets(old: readonly ReplicaSet[], newSet: ReplicaSet): Promise<boolean> {
    const active = activeSets(old);
    if (active.length === 0) return false;
    const least = replicasOf(this.#deployment) - maxUnavailable(this.#deployment);
    const newUnavailable = replicasOf(newSet) - (newSet.status?.availableReplicas ?? 0);
    // Not even if all of the new set's missing replicas came up would we be below the least: only that much may go.
    const spare = totalReplicas(this.#sets) - least - newUnavailable;
    if (spare <= 0) return false;
    const broken = await this.#shrinkUnhealthy(active, spare);
    const healthy = await this.#shrinkHealthy(activeSets(this.#current(old)), least);
    return broken + healthy > 0;
  }

  /** Replicas that are not available go first: they serve nobody, and would hold the rollout up. */
  async #shrinkUnhealthy(sets: readonly ReplicaSet[], most: number): Promise<number> {
    let removed = 0;
    for (const set of sets.toSorted(byCreation)) {
      if (removed >= most) break;
      const unhealthy = replicasOf(set) - (set.status?.availableReplicas ?? 0);
      const count = Math.min(most - removed, unhealthy);
      if (count <= 0) continue;
      await this.#scale(set, replicasOf(set) - count);
      removed += count;
    }
    return removed;
  }

  async #shrinkHealthy(sets: readonly ReplicaSet[], least: number): Promise<number> {
    const most = totalStatus(this.#sets, 'availableReplicas') - least;
    let removed = 0;
    for (const set of sets.toSorted(byCreation)) {
      if (removed >= most) break;
      const count = Math.min(replicasOf(set), most - removed);
      await this.#scale(set, replicasOf(set) - count);
      removed += count;
    }
    return removed;
  }

  // ---- pausing and scaling

  /** Says in the Progressing condition that the rollout is paused or resumed, so that no deadline runs meanwhile. */
  async #notePause(): Promise<void> {
    const deployment = this.#deployment;
    if (!hasProgressDeadline(deployment)) return;
    const condition = findCondition(deployment.status?.conditions, 'Progressing');
    if (condition?.reason === 'ProgressDeadlineExceeded') return;
    const noted = condition?.reason === 'DeploymentPaused';
    const paused = deployment.spec.paused === true;
    if (paused === noted) return;
    await this.#writeCondition(
      paused
        ? newCondition('Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused', this.#now())
        : newCondition('Progressing', 'Unknown', 'DeploymentResumed', 'Deployment is resumed', this.#now()),
    );
  }

  /** A set that was sized for another total: the change must be spread before a rollout goes on. */
  #wasScaled(): boolean {
    const wanted = replicasOf(this.#deployment);
    return activeSets(this.#sets).some((set) => {
      const desired = integerAnnotation(set, DESIRED_REPLICAS);
      return desired !== undefined && desired !== wanted;
    });
  }

  async #syncSize(): Promise<ReconcileResult | undefined> {
    const { newSet, old } = await this.#findSets(false);
    await this.#spread(newSet, old);
    if (this.#deployment.spec.paused && this.#deployment.metadata.annotations?.[ROLLBACK_TO] === undefined)
      await this.#cleanUp(old);
    await this.#writePlainStatus(newSet);
    return undefined;
  }

  async #spread(newSet: ReplicaSet | undefined, old: readonly ReplicaSet[]): Promise<void> {
    const wanted = replicasOf(this.#deployment);
    const all = newSet ? [...old, newSet] : [...old];
    const active = activeSets(all);
    const only = active.length === 0 ? (newSet ?? all.toSorted(byCreation).at(-1)) : active[0];
    if (active.length <= 1) {
      if (only) await this.#scale(only, wanted);
    } else if (isSaturated(this.#deployment, newSet)) {
      for (const set of activeSets(old)) await this.#scale(set, 0);
    } else if (isRollingUpdate(this.#deployment)) {
      for (const { set, size } of proportionalSizes(this.#deployment, all))
        await this.#scale(set, size, true);
    }
  }

  /**
   * Gives the set this size, with an event, and brings its size annotations up to date where it is written anyway or
   * `annotate` asks for it. True when the size changed.
   */
  async #scale(set: ReplicaSet, size: number, annotate = false): Promise<boolean> {
    const deployment = this.#deployment;
    const before = replicasOf(set);
    const wanted = replicasOf(deployment);
    const annotations = replicaAnnotations(wanted, wanted + maxSurge(deployment));
    const stale =
      set.metadata.annotations?.[DESIRED_REPLICAS] !== annotations[DESIRED_REPLICAS] ||
      set.metadata.annotations?.[MAX_REPLICAS] !== annotations[MAX_REPLICAS];
    if (before === size && !(annotate && stale)) return false;
    await this.#updateSet({
      ...set,
      metadata: { ...set.metadata, annotations: { ...set.metadata.annotations, ...annotations } },
      spec: { ...set.spec, replicas: size },
    });
    if (before === size) return false;
    this.#scaled(set.metadata.name, before, size);
    return true;
  }

  #scaled(name: string, from: number, to: number): void {
    const direction = to > from ? 'up' : 'down';
    this.#event(
      'Normal',
      'ScalingReplicaSet',
      `Scaled ${direction} replica set ${name} from ${from} to ${to}`,
    );
  }

  // ---- the new set

  async #findSets(create: boolean): Promise<Sets> {
    const existing = findNewSet(this.#deployment, this.#sets);
    const old = this.#sets.filter((set) => set.metadata.uid !== existing?.metadata.uid);
    const revision = highestRevision(old) + 1n;
    const newSet = existing
      ? await this.#refreshNewSet(existing, revision)
      : create
        ? await this.#createNewSet(old, revision)
        : undefined;
    return { newSet, old };
  }

  async #refreshNewSet(existing: ReplicaSet, revision: bigint): Promise<ReplicaSet> {
    const { annotations } = existing.metadata;
    const wanted = annotationsOfNewSet(this.#deployment, annotations, revision);
    const minReadySeconds = this.#deployment.spec.minReadySeconds ?? 0;
    if (wanted || (existing.spec.minReadySeconds ?? 0) !== minReadySeconds)
      return this.#updateSet({
        ...existing,
        metadata: { ...existing.metadata, annotations: wanted ?? { ...annotations } },
        spec: { ...existing.spec, minReadySeconds },
      });
    const known = findCondition(this.#deployment.status?.conditions, 'Progressing');
    const found = newCondition(
      'Progressing',
      'True',
      'FoundNewReplicaSet',
      `Found new replica set "${existing.metadata.name}"`,
      this.#now(),
    );
    await this.#noteRevision(
      revisionOf(existing),
      hasProgressDeadline(this.#deployment) && !known ? found : undefined,
    );
    return existing;
  }

  async #createNewSet(old: readonly ReplicaSet[], revision: bigint): Promise<ReplicaSet> {
    const deployment = this.#deployment;
    const { namespace, name } = deployment.metadata;
    const { collisionCount } = deployment.status ?? {};
    const hash = templateHash(deployment.spec.template, collisionCount);
    const template: PodTemplateSpec = {
      ...deployment.spec.template,
      metadata: {
        ...deployment.spec.template.metadata,
        labels: { ...deployment.spec.template.metadata?.labels, [TEMPLATE_HASH]: hash },
      },
    };
    const replicas = newSetReplicas(deployment, old, 0);
    const wanted = replicasOf(deployment);
    const draft: Draft<ReplicaSet> = {
      metadata: {
        name: replicaSetName(name, hash),
        ...(namespace === undefined ? {} : { namespace }),
        labels: { ...template.metadata?.labels },
        annotations: {
          ...annotationsOfNewSet(deployment, undefined, revision),
          ...replicaAnnotations(wanted, wanted + maxSurge(deployment)),
        },
        ownerReferences: [
          controllerReference(deployment, { apiVersion: groupVersion(type), kind: type.kind }),
        ],
      },
      spec: {
        replicas,
        minReadySeconds: deployment.spec.minReadySeconds ?? 0,
        selector: {
          ...deployment.spec.selector,
          matchLabels: { ...deployment.spec.selector.matchLabels, [TEMPLATE_HASH]: hash },
        },
        template,
      },
    };
    let created: ReplicaSet;
    let isNew = true;
    try {
      created = await this.#context.client.resource(resources.replicaSets, namespace).create(draft);
    } catch (error) {
      created = await this.#afterFailedCreate(draft, error);
      isNew = false;
    }
    this.#sets = [...this.#sets, created];
    if (isNew && replicas > 0) this.#scaled(created.metadata.name, 0, replicas);
    const made = newCondition(
      'Progressing',
      'True',
      'NewReplicaSetCreated',
      `Created new replica set "${created.metadata.name}"`,
      this.#now(),
    );
    await this.#noteRevision(revision, isNew && hasProgressDeadline(this.#deployment) ? made : undefined);
    return created;
  }

  /** Resolves with the set if it is ours after all (the cache was stale); otherwise notes what failed and rejects. */
  async #afterFailedCreate(draft: Draft<ReplicaSet>, error: unknown): Promise<ReplicaSet> {
    const deployment = this.#deployment;
    const name = draft.metadata.name ?? '';
    if (isAlreadyExists(error)) {
      const { namespace } = deployment.metadata;
      const existing =
        this.#context.cachedSet(namespace, name) ??
        (await this.#context.client.resource(resources.replicaSets, namespace).get(name));
      const ours = controllerOf(existing)?.uid === deployment.metadata.uid;
      if (ours && sameTemplate(existing.spec.template ?? {}, deployment.spec.template)) return existing;
      // Another template has this hash: the next look makes another one.
      const collisionCount = (deployment.status?.collisionCount ?? 0) + 1;
      await this.#writeStatus({ ...deployment.status, collisionCount });
      throw error;
    }
    if (isNamespaceTerminating(error)) throw error;
    const message = `Failed to create new replica set "${name}": ${messageOf(error)}`;
    if (hasProgressDeadline(deployment))
      await this.#writeCondition(
        newCondition('Progressing', 'False', 'ReplicaSetCreateError', message, this.#now()),
      );
    this.#event('Warning', 'ReplicaSetCreateError', message);
    throw error;
  }

  // ---- rolling back, cleaning up

  /** Obeys the annotation that stands for the rollbackTo field of extensions/v1beta1. */
  async #rollback(): Promise<ReconcileResult | undefined> {
    const { newSet, old } = await this.#findSets(true);
    const all = newSet ? [...old, newSet] : [...old];
    let target = parseRevision(this.#deployment.metadata.annotations?.[ROLLBACK_TO]);
    if (target === 0n) {
      target = all.toSorted(byRevision).map(revisionOf).at(-2) ?? 0n;
      if (target === 0n) {
        this.#event('Warning', 'DeploymentRollbackRevisionNotFound', 'Unable to find last revision.');
        return this.#finishRollback(this.#deployment);
      }
    }
    const set = all.find((candidate) => revisionOf(candidate) === target);
    if (!set) {
      this.#event(
        'Warning',
        'DeploymentRollbackRevisionNotFound',
        'Unable to find the revision to rollback to.',
      );
      return this.#finishRollback(this.#deployment);
    }
    const deployment = this.#deployment;
    const { name } = deployment.metadata;
    if (sameTemplate(deployment.spec.template, set.spec.template ?? {})) {
      this.#event(
        'Warning',
        'DeploymentRollbackTemplateUnchanged',
        `The rollback revision contains the same template as current deployment "${name}"`,
      );
      return this.#finishRollback(deployment);
    }
    this.#event('Normal', 'DeploymentRollback', `Rolled back deployment "${name}" to revision ${target}`);
    return this.#finishRollback({
      ...deployment,
      metadata: { ...deployment.metadata, annotations: annotationsOfRollback(deployment, set) },
      spec: { ...deployment.spec, template: withoutHash(set.spec.template ?? {}) },
    });
  }

  async #finishRollback(deployment: Deployment): Promise<undefined> {
    const { [ROLLBACK_TO]: _, ...annotations } = deployment.metadata.annotations ?? {};
    this.#deployment = await this.#client().update({
      ...deployment,
      metadata: { ...deployment.metadata, annotations },
    });
    return undefined;
  }

  /** Deletes old sets beyond the history that is kept, the lowest revisions first. */
  async #cleanUp(old: readonly ReplicaSet[]): Promise<void> {
    const limit = this.#deployment.spec.revisionHistoryLimit;
    if (limit === undefined || limit === NO_LIMIT) return;
    const candidates = this.#current(old).filter((set) => set.metadata.deletionTimestamp === undefined);
    const surplus = candidates.toSorted(byRevision).slice(0, Math.max(0, candidates.length - limit));
    for (const set of surplus) {
      const seen = (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0);
      if (replicasOf(set) !== 0 || (set.status?.replicas ?? 0) !== 0 || !seen) continue;
      const { namespace, name, uid } = set.metadata;
      try {
        await this.#context.client
          .resource(resources.replicaSets, namespace)
          .delete(name, { propagationPolicy: 'Background', preconditions: { uid } });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
  }

  // ---- writing

  async #writePlainStatus(known?: ReplicaSet): Promise<void> {
    const newSet = known ?? findNewSet(this.#deployment, this.#sets);
    await this.#writeStatus(deploymentStatus(this.#deployment, this.#sets, newSet, this.#now()));
  }

  async #writeRolloutStatus(newSet: ReplicaSet | undefined): Promise<ReconcileResult | undefined> {
    const fresh = this.#sets.find((set) => set.metadata.uid === newSet?.metadata.uid);
    const status = rolloutStatus(this.#deployment, this.#sets, fresh, this.#now());
    await this.#writeStatus(status);
    const wait = untilDeadline(this.#deployment, status, this.#now());
    return wait === undefined ? undefined : { requeueAfterMs: wait };
  }

  async #writeCondition(condition: DeploymentCondition): Promise<void> {
    const { status } = this.#deployment;
    await this.#writeStatus({
      ...status,
      conditions: [...setCondition(status?.conditions ?? [], condition)],
    });
  }

  async #writeStatus(status: Deployment['status']): Promise<void> {
    if (sameValue(withoutZeros(this.#deployment.status), withoutZeros(status))) return;
    this.#deployment = await this.#client().updateStatus({ ...this.#deployment, status });
  }

  /**
   * Writes the revision, and the condition if there is one, through the status: as an update of the Deployment itself
   * the annotation would count as a new generation.
   */
  async #noteRevision(revision: bigint, condition: DeploymentCondition | undefined): Promise<void> {
    const { metadata, status } = this.#deployment;
    if (revision === 0n || metadata.annotations?.[REVISION] === String(revision)) {
      if (condition) await this.#writeCondition(condition);
      return;
    }
    this.#deployment = await this.#client().updateStatus({
      ...this.#deployment,
      metadata: { ...metadata, annotations: { ...metadata.annotations, [REVISION]: String(revision) } },
      status: condition
        ? { ...status, conditions: [...setCondition(status?.conditions ?? [], condition)] }
        : status,
    });
  }

  async #updateSet(set: ReplicaSet): Promise<ReplicaSet> {
    const updated = await this.#context.client
      .resource(resources.replicaSets, set.metadata.namespace)
      .update(set);
    this.#sets = this.#sets.map((one) => (one.metadata.uid === updated.metadata.uid ? updated : one));
    return updated;
  }

  /** These sets as they are after what we have written. */
  #current(sets: readonly ReplicaSet[]): ReplicaSet[] {
    const uids = new Set(sets.map((set) => set.metadata.uid));
    return this.#sets.filter((set) => uids.has(set.metadata.uid));
  }

  #client() {
    return this.#context.client.resource(type, this.#deployment.metadata.namespace);
  }

  #event(kind: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#context.recorder.event(referenceTo(type, this.#deployment), kind, reason, message);
  }

  #now(): number {
    return this.#context.clock.now();
  }
}

/** The server may leave out counts of zero; they are not a change. */
function withoutZeros(status: Deployment['status']): unknown {
  return Object.fromEntries(
    Object.entries(status ?? {}).filter(([key, value]) => value !== 0 || key === 'terminatingReplicas'),
  );
}

/** Selects every pod of its namespace: refused, since it would adopt what is not its own. */
export function selectsEverything(deployment: Deployment): boolean {
  return labelSelectorMatcher(deployment.spec.selector).empty;
}
