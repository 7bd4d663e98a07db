// Carries out what was decided about a pod's volumes before the pod itself is bound: writes the choice of a volume
// into the volume and the choice of a node into the claim, then waits until the binder (and a provisioner) have done
// the rest. What was written stays when the wait fails: the next attempt finds it and goes on from there.

import { isClaimFullyBound, volumeAnnotations, volumeFitsNode } from '../../api/index.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { type Client, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import type { VolumeDecision } from './pod-volumes.ts';
import { claimKey, type VolumeState } from './volume-state.ts';

/** kube-scheduler's VolumeBindingArgs.bindTimeoutSeconds. */
const BIND_TIMEOUT_MS = 600_000;

export interface VolumeBinderOptions {
  readonly state: VolumeState;
  readonly client: Client;
  readonly clock: Clock;
  readonly node: (name: string) => Node | undefined;
  readonly bindTimeoutMs?: number;
}

interface Binding {
  readonly claim: PersistentVolumeClaim;
  readonly volume: PersistentVolume;
  /** The volume is not yet given to the claim in the API. */
  readonly toWrite: boolean;
}

interface Provisioning {
  readonly claim: PersistentVolumeClaim;
  readonly toWrite: boolean;
}

/** What was set aside for one pod, as it is to be written. */
export interface Reservation {
  readonly bindings: readonly Binding[];
  readonly provisions: readonly Provisioning[];
}

export class VolumeBinder {
  readonly state: VolumeState;
  readonly #options: VolumeBinderOptions;

  node(name: string): Node | undefined {
    return this.#options.node(name);
  }

  constructor(options: VolumeBinderOptions) {
    this.state = options.state;
    this.#options = options;
  }

  /** Until it is released or seen in the API, no other pod is given these volumes. */
  reserve(decision: VolumeDecision, nodeName: string): Reservation {
    const { state } = this;
    const bindings = decision.bindings.map(({ claim, volume }) => {
      const given = state.assumeBinding(volume, claim);
      return { claim, volume: given, toWrite: given !== volume };
    });
    const provisions = decision.provisions.map((claim) => {
      const selected = state.assumeProvisioning(claim, nodeName);
      return { claim: selected, toWrite: selected !== claim };
    });
    return { bindings, provisions };
  }

  release({ bindings, provisions }: Reservation): void {
    for (const { volume } of bindings) this.state.forgetBinding(volume);
    for (const { claim } of provisions) this.state.forgetProvisioning(claim);
  }

  /** Resolves when all claims are bound to volumes that the node can use; rejects with why they will not be. */
  async bind(reservation: Reservation, nodeName: string, signal: AbortSignal): Promise<void> {
    const written = await this.#write(reservation, signal);
    try {
      await this.#wait(written, nodeName, signal);
    } catch (error) {
      throw new Error(`binding volumes: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }

  /** With the versions that were looked at: whoever was faster wins, and the pod is tried again. */
  async #write({ bindings, provisions }: Reservation, signal: AbortSignal): Promise<Reservation> {
    const { client } = this.#options;
    const volumes = client.resource(resources.persistentVolumes);
    const written: { bindings: Binding[]; provisions: Provisioning[] } = { bindings: [], provisions: [] };
    for (const binding of bindings) {
      const volume = binding.toWrite ? await volumes.update(binding.volume, { signal }) : binding.volume;
      written.bindings.push({ ...binding, volume });
    }
    for (const { claim, toWrite } of provisions) {
      const claims = client.resource(resources.persistentVolumeClaims, claim.metadata.namespace);
      written.provisions.push({ claim: toWrite ? await claims.update(claim, { signal }) : claim, toWrite });
    }
    return written;
  }

  #wait(reservation: Reservation, nodeName: string, signal: AbortSignal): Promise<void> {
    const { clock, bindTimeoutMs = BIND_TIMEOUT_MS } = this.#options;
    const claims = [...reservation.bindings, ...reservation.provisions].map(({ claim }) => claim);
    const held: Disposable[] = [];
    return new Promise<void>((resolve, reject) => {
      const check = (): void => {
        try {
          if (this.#isDone(reservation, nodeName)) resolve();
        } catch (error) {
          reject(error);
        }
      };
      const abort = (): void => reject(signal.reason);
      for (const { metadata } of claims)
        held.push(this.state.watch(claimKey(metadata.namespace, metadata.name), check));
      const timer = clock.setTimer(bindTimeoutMs, () => reject(new Error('context deadline exceeded')));
      signal.addEventListener('abort', abort, { once: true });
      held.push({
        [Symbol.dispose]: () => {
          timer.cancel();
          signal.removeEventListener('abort', abort);
        },
      });
      if (signal.aborted) abort();
      else check();
    }).finally(() => {
      for (const one of held) one[Symbol.dispose]();
    });
  }

  /** True: bound. False: not yet. Throws when it is not going to be. Looks only at what the API server shows. */
  #isDone({ bindings, provisions }: Reservation, nodeName: string): boolean {
    const { volumes, claims } = this.state.sources;
    const node = this.#options.node(nodeName);
    if (!node) throw new Error(`failed to get node "${nodeName}": node "${nodeName}" not found`);
    const usable = (volume: PersistentVolume): void => {
      if (volumeFitsNode(volume, node.metadata.labels)) return;
      const { name } = volume.metadata;
      throw new Error(
        `pv "${name}" node affinity doesn't match node "${nodeName}": no matching NodeSelectorTerms`,
      );
    };
    const claimNow = ({ metadata: { namespace, name, uid } }: PersistentVolumeClaim, what: string) => {
      const claim = claims.find(namespace, name);
      if (claim?.metadata.uid !== uid)
        throw new Error(`failed to check ${what}: persistentvolumeclaim "${namespace}/${name}" not found`);
      return claim;
    };
    let done = true;
    for (const { claim, volume: written } of bindings) {
      const { name } = written.metadata;
      const volume = volumes.get(name);
      if (!volume) throw new Error(`failed to check binding: persistentvolume "${name}" not found`);
      const current = claimNow(claim, 'binding');
      if (isOlder(volume, written) || isBeingWritten(volume, written, this.state.volume(name))) {
        done = false;
        continue;
      }
      usable(volume);
      if (!volume.spec.claimRef?.uid) throw new Error(`ClaimRef got reset for pv "${name}"`);
      if (!isClaimFullyBound(current)) done = false;
    }
    for (const { claim: written } of provisions) {
      const claim = claimNow(written, 'provisioning pvc');
      const { name, annotations = {} } = claim.metadata;
      const assumed = this.state.claim(claim.metadata.namespace, name);
      if (isOlder(claim, written) || isBeingWritten(claim, written, assumed)) {
        done = false;
        continue;
      }
      // A provisioner that cannot do it takes the choice of the node back.
      if (annotations[volumeAnnotations.selectedNode] !== nodeName)
        throw new Error(`provisioning failed for PVC "${name}"`);
      const volume = claim.spec.volumeName ? volumes.get(claim.spec.volumeName) : undefined;
      if (volume) usable(volume);
      if (!isClaimFullyBound(claim) || !volume) done = false;
    }
    return done;
  }
}

interface Versioned {
  readonly metadata: { readonly resourceVersion?: string };
}

/**
 * Whether what this pod waits for is what another pod, of the same claim, is about to write: pods that come together
 * find the choice made, and the API server does not show it yet.
 */
function isBeingWritten(cached: Versioned, written: Versioned, assumed: Versioned | undefined): boolean {
  return written !== cached && written === assumed;
}

/** Whether the cache has not caught up with what we wrote. */
function isOlder(cached: Versioned, written: Versioned): boolean {
  const [a = '0', b = '0'] = [cached.metadata.resourceVersion, written.metadata.resourceVersion];
  return BigInt(a) < BigInt(b);
}
