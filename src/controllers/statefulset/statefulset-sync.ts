// One look at one StatefulSet. Ordered sets take one step at a time: a pod is created, replaced or removed only when
// all before it are healthy; parallel ones take all steps at once. Scaling comes before updating, and updates go from
// the highest ordinal down to the partition.

import { isAlreadyExists, isNamespaceTerminating, isNotFound } from '../../api/index.ts';
import type { ControllerRevision, StatefulSet, StatefulSetStatus } from '../../api/types/apps-v1.ts';
import type { PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import { type Client, type EventRecorder, referenceTo, resources } from '../../client/index.ts';
import { templateOf } from '../history/controller-revisions.ts';
import { scaled } from '../int-or-percent.ts';
import { messageOf } from '../pods/pod-control.ts';
import { sameValue } from '../same-value.ts';
import {
  claimOwners,
  claimsFor,
  identityLabels,
  identityMatches,
  isCreated,
  isHealthy,
  isInRange,
  isRunningAndReady,
  isTerminating,
  ordinalOf,
  podFor,
  revisionLabel,
  startOrdinal,
} from './identity.ts';

const type = resources.statefulSets;

export interface StatefulSetContext {
  readonly client: Client;
  readonly recorder: EventRecorder;
  readonly now: number;
  readonly cachedClaim: (namespace: string | undefined, name: string) => PersistentVolumeClaim | undefined;
}

export interface Revisions {
  readonly current: ControllerRevision;
  readonly update: ControllerRevision;
  readonly collisionCount: number | undefined;
}

/** 'wait': nothing more may be done in this look. */
type Step = 'go on' | 'wait';

export class StatefulSetSync {
  readonly #context: StatefulSetContext;
  readonly #set: StatefulSet;
  readonly #revisions: Revisions;
  readonly #pods: readonly Pod[];
  /** By ordinal, of those that should be there. */
  readonly #replicas = new Map<number, Pod>();
  /** Those that should not, the highest ordinal first. */
  readonly #condemned: Pod[];

  constructor(context: StatefulSetContext, set: StatefulSet, revisions: Revisions, pods: readonly Pod[]) {
    this.#context = context;
    this.#set = set;
    this.#revisions = revisions;
    this.#pods = pods;
    const condemned: { readonly pod: Pod; readonly ordinal: number }[] = [];
    for (const pod of pods) {
      const ordinal = ordinalOf(set, pod);
      if (ordinal === undefined) continue;
      if (isInRange(set, ordinal)) this.#replicas.set(ordinal, pod);
      else condemned.push({ pod, ordinal });
    }
    this.#condemned = condemned.toSorted((a, b) => b.ordinal - a.ordinal).map(({ pod }) => pod);
  }

  async run(): Promise<void> {
    let failure: unknown;
    try {
      if (this.#set.metadata.deletionTimestamp === undefined) await this.#step();
    } catch (error) {
      failure = error;
    }
    await this.#writeStatus();
    if (failure !== undefined) throw failure;
  }

  async #step(): Promise<void> {
    const ordered = this.#set.spec.podManagementPolicy !== 'Parallel';
    if ((await this.#forAll(this.#ordinals(), (ordinal) => this.#tend(ordinal, ordered), ordered)) === 'wait')
      return;
    for (const pod of this.#condemned) await this.#keepClaims(pod, true);
    const firstUnhealthy = this.#firstUnhealthy();
    const condemn = (pod: Pod): Promise<Step> => this.#condemn(pod, ordered, firstUnhealthy);
    if ((await this.#forAll(this.#condemned, condemn, ordered)) === 'wait') return;
    if (this.#set.spec.updateStrategy?.type !== 'OnDelete') await this.#update();
  }

  /** One after the other until one says wait, or all at once. */
  async #forAll<V>(all: readonly V[], step: (one: V) => Promise<Step>, ordered: boolean): Promise<Step> {
    if (ordered) {
      for (const one of all) if ((await step(one)) === 'wait') return 'wait';
      return 'go on';
    }
    const results = await Promise.allSettled(all.map(step));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return results.some((result) => result.status === 'fulfilled' && result.value === 'wait')
      ? 'wait'
      : 'go on';
  }

  #ordinals(): number[] {
    const start = startOrdinal(this.#set);
    return Array.from({ length: this.#set.spec.replicas ?? 1 }, (_, i) => start + i);
  }

  #firstUnhealthy(): Pod | undefined {
    const unhealthy = (pod: Pod): boolean => !isHealthy(this.#set, pod, this.#context.now);
    return (
      [...this.#replicas]
        .toSorted(([a], [b]) => a - b)
        .map(([, pod]) => pod)
        .find(unhealthy) ?? this.#condemned.toReversed().find(unhealthy)
    );
  }

  // ---- single pods

  /** Makes the pod of this ordinal be there and be right. */
  async #tend(ordinal: number, ordered: boolean): Promise<Step> {
    const pod = this.#replicas.get(ordinal);
    if (!pod) return this.#create(ordinal, ordered);
    const { phase } = pod.status ?? {};
    if ((phase === 'Failed' || phase === 'Succeeded') && !isTerminating(pod)) {
      const { namespace, name } = this.#set.metadata;
      const text = `StatefulSet ${namespace}/${name} is recreating`;
      if (phase === 'Failed')
        this.#event('Warning', 'RecreatingFailedPod', `${text} failed Pod ${pod.metadata.name}`);
      else this.#event('Normal', 'RecreatingTerminatedPod', `${text} terminated Pod ${pod.metadata.name}`);
      await this.#delete(pod);
      return 'wait';
    }
    if (isTerminating(pod)) return ordered ? 'wait' : 'go on';
    // Claims that somebody deleted before the pod could start.
    if (phase === 'Pending') await this.#createClaims(ordinal, pod.metadata.name);
    if (ordered && !isHealthy(this.#set, pod, this.#context.now)) return 'wait';
    if (!identityMatches(pod, ordinal)) {
      const { namespace, name, uid } = pod.metadata;
      await this.#context.client.resource(resources.pods, namespace).patch(name, {
        type: 'merge',
        patch: { metadata: { uid, labels: identityLabels(pod, ordinal) } },
      });
    }
    await this.#keepClaims(pod, false);
    return 'go on';
  }

  async #create(ordinal: number, ordered: boolean): Promise<Step> {
    const set = this.#set;
    const { namespace } = set.metadata;
    const { current, update } = this.#revisions;
    const { type: strategy, rollingUpdate } = set.spec.updateStrategy ?? {};
    // Below the partition a pod comes back as it was.
    const old = strategy !== 'OnDelete' && ordinal < startOrdinal(set) + (rollingUpdate?.partition ?? 0);
    const revision = old ? current : update;
    const draft = podFor(
      set,
      old ? templateOf(revision) : set.spec.template,
      revision.metadata.name,
      ordinal,
    );
    const { name } = draft.metadata;
    if (this.#hasStaleClaim(ordinal, name)) return 'wait';
    try {
      const leaving = await this.#createClaims(ordinal, name);
      if (leaving !== undefined) {
        // When it has gone we are woken.
        this.#failed('create', name, `pvc ${leaving} is being deleted`);
        return 'wait';
      }
      await this.#context.client.resource(resources.pods, namespace).create(draft);
      this.#event(
        'Normal',
        'SuccessfulCreate',
        `create Pod ${name} in StatefulSet ${set.metadata.name} successful`,
      );
    } catch (error) {
      // The cache is behind: the event of the pod that is there brings us back.
      if (isAlreadyExists(error) || isNamespaceTerminating(error)) return 'wait';
      this.#failed('create', name, messageOf(error));
      throw error;
    }
    return ordered ? 'wait' : 'go on';
  }

  /** Ends a pod beyond the wanted number, the highest first and only when those below it are healthy. */
  async #condemn(pod: Pod, ordered: boolean, firstUnhealthy: Pod | undefined): Promise<Step> {
    if (isTerminating(pod)) return ordered ? 'wait' : 'go on';
    if (ordered && firstUnhealthy && firstUnhealthy !== pod && !isHealthy(this.#set, pod, this.#context.now))
      return 'wait';
    await this.#delete(pod);
    return ordered ? 'wait' : 'go on';
  }

  async #update(): Promise<void> {
    const { rollingUpdate } = this.#set.spec.updateStrategy ?? {};
    const wanted = this.#set.spec.replicas ?? 1;
    const start = startOrdinal(this.#set);
    const partition = rollingUpdate?.partition ?? 0;
    const most = Math.max(1, scaled(rollingUpdate?.maxUnavailable ?? 1, wanted, true));
    const outdated = (pod: Pod): boolean =>
      revisionLabel(pod) !== this.#revisions.update.metadata.name && !isTerminating(pod);
    let budget = most;
    for (const pod of this.#replicas.values())
      if (!outdated(pod) && !isHealthy(this.#set, pod, this.#context.now)) budget--;
    for (let ordinal = start + wanted - 1; ordinal >= start + partition && budget > 0; ordinal--) {
      const pod = this.#replicas.get(ordinal);
      if (!pod || !outdated(pod)) continue;
      await this.#delete(pod);
      budget--;
    }
  }

  async #delete(pod: Pod): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    const what = `delete Pod ${name} in StatefulSet ${this.#set.metadata.name}`;
    try {
      await this.#context.client.resource(resources.pods, namespace).delete(name, { preconditions: { uid } });
      this.#event('Normal', 'SuccessfulDelete', `${what} successful`);
    } catch (error) {
      if (isNotFound(error)) return;
      this.#failed('delete', name, messageOf(error));
      throw error;
    }
  }

  // ---- claims

  /**
   * A claim that is owned by an earlier pod of this name is about to go: the new pod must not take it. Claims that are
   * retained are meant to be taken.
   */
  #hasStaleClaim(ordinal: number, podName: string): boolean {
    if (this.#set.spec.persistentVolumeClaimRetentionPolicy?.whenScaled !== 'Delete') return false;
    return claimsFor(this.#set, ordinal).some(({ metadata }) =>
      this.#context
        .cachedClaim(this.#set.metadata.namespace, metadata.name)
        ?.metadata.ownerReferences?.some((ref) => ref.kind === 'Pod' && ref.name === podName),
    );
  }

  /** Makes those that are missing; resolves with the name of one that is being deleted. */
  async #createClaims(ordinal: number, podName: string): Promise<string | undefined> {
    const set = this.#set;
    let leaving: string | undefined;
    const { namespace, name } = set.metadata;
    for (const draft of claimsFor(set, ordinal)) {
      const claimName = draft.metadata.name;
      const known = this.#context.cachedClaim(namespace, claimName);
      if (known) {
        if (known.metadata.deletionTimestamp !== undefined) leaving ??= claimName;
        continue;
      }
      const ownerReferences = claimOwners(set, undefined, false, undefined);
      try {
        await this.#context.client.resource(resources.persistentVolumeClaims, namespace).create({
          ...draft,
          metadata: { ...draft.metadata, ...(ownerReferences.length > 0 ? { ownerReferences } : {}) },
        });
        this.#event(
          'Normal',
          'SuccessfulCreate',
          `create Claim ${claimName} Pod ${podName} in StatefulSet ${name} success`,
        );
      } catch (error) {
        if (isAlreadyExists(error)) continue;
        this.#event(
          'Warning',
          'FailedCreate',
          `create Claim ${claimName} for Pod ${podName} in StatefulSet ${name} failed error: ${messageOf(error)}`,
        );
        throw error;
      }
    }
    return leaving;
  }

  /** Lets the pod's claims be owned as the retention policy wants it. */
  async #keepClaims(pod: Pod, condemned: boolean): Promise<void> {
    const set = this.#set;
    const ordinal = ordinalOf(set, pod);
    if (ordinal === undefined) return;
    for (const { metadata } of claimsFor(set, ordinal)) {
      const claim = this.#context.cachedClaim(set.metadata.namespace, metadata.name);
      if (!claim) continue;
      const owners = claimOwners(set, pod, condemned, claim.metadata.ownerReferences);
      if (sameValue(owners, claim.metadata.ownerReferences)) continue;
      const { namespace, name, uid, resourceVersion } = claim.metadata;
      await this.#context.client.resource(resources.persistentVolumeClaims, namespace).patch(name, {
        type: 'merge',
        patch: { metadata: { uid, resourceVersion, ownerReferences: owners.length > 0 ? owners : null } },
      });
    }
  }

  // ---- status

  async #writeStatus(): Promise<void> {
    const set = this.#set;
    const { current, update, collisionCount } = this.#revisions;
    const created = this.#pods.filter(isCreated);
    const staying = created.filter((pod) => !isTerminating(pod));
    const ready = this.#pods.filter(isRunningAndReady);
    const count = (pods: readonly Pod[], revision: ControllerRevision): number =>
      pods.filter((pod) => revisionLabel(pod) === revision.metadata.name).length;
    let status: StatefulSetStatus = {
      ...set.status,
      observedGeneration: set.metadata.generation ?? 0,
      replicas: created.length,
      readyReplicas: ready.length,
      availableReplicas: ready.filter((pod) => isHealthy(set, pod, this.#context.now)).length,
      currentReplicas: count(staying, current),
      updatedReplicas: count(staying, update),
      currentRevision: current.metadata.name,
      updateRevision: update.metadata.name,
      collisionCount: collisionCount ?? 0,
    };
    const wanted = set.spec.replicas ?? 1;
    const rolled = [status.updatedReplicas, status.readyReplicas, status.replicas].every((n) => n === wanted);
    if (set.spec.updateStrategy?.type !== 'OnDelete' && rolled)
      status = {
        ...status,
        currentReplicas: status.updatedReplicas ?? 0,
        currentRevision: update.metadata.name,
      };
    if (sameValue(nonZero(set.status), nonZero(status))) return;
    await this.#context.client.resource(type, set.metadata.namespace).updateStatus({ ...set, status });
  }

  #failed(verb: 'create' | 'delete', podName: string, why: string): void {
    this.#event(
      'Warning',
      verb === 'create' ? 'FailedCreate' : 'FailedDelete',
      `${verb} Pod ${podName} in StatefulSet ${this.#set.metadata.name} failed error: ${why}`,
    );
  }

  #event(kind: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#context.recorder.event(referenceTo(type, this.#set), kind, reason, message);
  }
}

function nonZero(status: StatefulSetStatus | undefined): unknown {
  return Object.fromEntries(Object.entries(status ?? {}).filter(([, value]) => value !== 0));
}
