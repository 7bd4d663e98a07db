// The writes of a binding, one object at a time: volume, volume's phase, claim, claim's status, in this order, so that
// whoever comes after a crash finds a volume that points to the claim and finishes. Every write is conditional on the
// version it was made from; a conflict is the caller's to retry with fresh state.

import {
  bindVolumeToClaim,
  compareQuantities,
  isNotFound,
  isQuantity,
  timestamp,
  volumeAnnotations,
} from '../../api/index.ts';
import type { ObjectReference, PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { type Client, keyOf, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import { sameValue } from '../same-value.ts';
import type { LatestCache } from './latest-cache.ts';

export type ClaimPhase = NonNullable<PersistentVolumeClaim['status']['phase']>;
export type VolumePhase = NonNullable<PersistentVolume['status']['phase']>;

/** On a volume: its size before a resize whose file system has yet to follow. */
const PRE_RESIZE_CAPACITY = 'volume.alpha.kubernetes.io/pre-resize-capacity';

export interface BindingWritesOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly claims: LatestCache<PersistentVolumeClaim>;
  readonly volumes: LatestCache<PersistentVolume>;
}

export class BindingWrites {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #claims: LatestCache<PersistentVolumeClaim>;
  readonly #volumes: LatestCache<PersistentVolume>;

  constructor(options: BindingWritesOptions) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#claims = options.claims;
    this.#volumes = options.volumes;
  }

  /**
   * Binds both to one another; what is done already is not written again. A volume that was given up for want of the
   * claim is taken back only for a claim that the server still has: the cache may be older than whoever gave it up.
   */
  async bind(volume: PersistentVolume, claim: PersistentVolumeClaim): Promise<void> {
    if (isGivenUp(volume) && !(await this.liveClaim(claim.metadata))) return;
    const given = bindVolumeToClaim(volume, claim);
    const bound = given === volume ? volume : await this.updateVolume(given);
    const phased = await this.setVolumePhase(bound, 'Bound');
    const finished = await this.#bindClaim(claim, phased.metadata.name);
    await this.setClaimPhase(finished, 'Bound', phased);
  }

  /** The claim of this name and uid, asked of the server; undefined when it is gone. */
  async liveClaim({
    namespace,
    name = '',
    uid,
  }: ObjectReference): Promise<PersistentVolumeClaim | undefined> {
    try {
      const live = await this.#client.resource(resources.persistentVolumeClaims, namespace).get(name);
      return live.metadata.uid === uid ? live : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Takes a binding back: wholly when it was ours, its uid only when the user had reserved the volume. */
  async unbind(volume: PersistentVolume): Promise<void> {
    const { boundByController } = volumeAnnotations;
    const { claimRef, ...spec } = volume.spec;
    let next: PersistentVolume;
    if (volume.metadata.annotations?.[boundByController] === undefined) {
      const { uid: _uid, resourceVersion: _version, ...reserved } = claimRef ?? {};
      next = { ...volume, spec: { ...spec, claimRef: reserved } };
    } else {
      const { [boundByController]: _ours, ...annotations } = volume.metadata.annotations;
      next = { ...volume, metadata: { ...volume.metadata, annotations }, spec };
    }
    await this.setVolumePhase(await this.updateVolume(next), 'Available');
  }

  async updateVolume(volume: PersistentVolume): Promise<PersistentVolume> {
    return this.#volumes.wrote(await this.#client.resource(resources.persistentVolumes).update(volume));
  }

  async updateClaim(claim: PersistentVolumeClaim): Promise<PersistentVolumeClaim> {
    const api = this.#client.resource(resources.persistentVolumeClaims, claim.metadata.namespace);
    return this.#claims.wrote(await api.update(claim));
  }

  async setVolumePhase(
    volume: PersistentVolume,
    phase: VolumePhase,
    message?: string,
  ): Promise<PersistentVolume> {
    if (volume.status.phase === phase) return volume;
    const { message: _old, ...status } = volume.status;
    return this.#volumes.wrote(
      await this.#client.resource(resources.persistentVolumes).updateStatus({
        ...volume,
        status: {
          ...status,
          phase,
          ...(message === undefined ? {} : { message }),
          lastPhaseTransitionTime: timestamp(this.#clock.now()),
        },
      }),
    );
  }

  /** What a claim's status says of its volume follows it; without a volume there is nothing to say. */
  async setClaimPhase(
    claim: PersistentVolumeClaim,
    phase: ClaimPhase,
    volume?: PersistentVolume,
  ): Promise<PersistentVolumeClaim> {
    const { accessModes: _modes, capacity, ...rest } = claim.status;
    let status: PersistentVolumeClaim['status'] = { ...rest, phase };
    if (volume) {
      const attributes = volume.spec.volumeAttributesClassName;
      status = {
        ...status,
        ...(volume.spec.accessModes ? { accessModes: volume.spec.accessModes } : {}),
        // The size of a bound claim belongs to whoever resizes it.
        capacity: claim.status.phase === phase ? capacity : capacityOf(volume, capacity),
        ...(claim.status.phase === phase || attributes === undefined
          ? {}
          : { currentVolumeAttributesClassName: attributes }),
      };
    }
    if (sameValue(claim.status, status)) return claim;
    const api = this.#client.resource(resources.persistentVolumeClaims, claim.metadata.namespace);
    return this.#claims.wrote(await api.updateStatus({ ...claim, status }));
  }

  async #bindClaim(claim: PersistentVolumeClaim, volumeName: string): Promise<PersistentVolumeClaim> {
    const { annotations = {} } = claim.metadata;
    const { bindCompleted, boundByController } = volumeAnnotations;
    const chosenByUs = claim.spec.volumeName !== volumeName;
    if (!chosenByUs && annotations[bindCompleted] !== undefined) return claim;
    return this.updateClaim({
      ...claim,
      metadata: {
        ...claim.metadata,
        annotations: {
          ...(chosenByUs ? { [boundByController]: 'yes' } : {}),
          [bindCompleted]: 'yes',
          ...annotations,
        },
      },
      spec: { ...claim.spec, volumeName },
    });
  }
}

/** Its claim was found to be gone. */
export function isGivenUp({ status }: PersistentVolume): boolean {
  return status.phase === 'Released' || status.phase === 'Failed';
}

function capacityOf(
  volume: PersistentVolume,
  known: Readonly<Record<string, string>> | undefined,
): Record<string, string> | undefined {
  const storage = volume.spec.capacity?.['storage'];
  if (storage === undefined)
    throw new Error(`PersistentVolume "${keyOf(volume)}" is without a storage capacity`);
  const before = volume.metadata.annotations?.[PRE_RESIZE_CAPACITY];
  if (before !== undefined && isQuantity(before)) return { ...known, storage: before };
  if (known?.['storage'] !== undefined && compareQuantities(known['storage'], storage) === 0) return known;
  return volume.spec.capacity;
}
