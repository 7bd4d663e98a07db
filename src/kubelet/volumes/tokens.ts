// Service account tokens for projected volumes: asked for from the API server, bound to the pod, kept while they are
// young, renewed when 80 % of their life (or a day) has passed.

import type { TokenRequest } from '../../api/types/authentication-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import { type Client, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import type { TokenSource } from './payload.ts';

const LONGEST_MS = 24 * 3600 * 1000;
const RENEW_AT = 0.8;
/** Spreads the renewals of pods that were started together. */
const JITTER_MS = 10_000;

interface Kept {
  readonly token: string;
  readonly renewAt: number;
  readonly expiresAt: number;
}

export class TokenManager implements TokenSource {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #random: () => number;
  /** By pod, then by audience and lifetime. */
  readonly #kept = new Map<string, Map<string, Kept>>();

  constructor(client: Client, clock: Clock, random: () => number) {
    this.#client = client;
    this.#clock = clock;
    this.#random = random;
  }

  async token(pod: Pod, audience: string, expirationSeconds: number, signal: AbortSignal): Promise<string> {
    const { uid, name, namespace } = pod.metadata;
    const ofPod = this.#kept.get(uid) ?? new Map<string, Kept>();
    this.#kept.set(uid, ofPod);
    const account = pod.spec.serviceAccountName || 'default';
    const key = JSON.stringify([account, audience, expirationSeconds]);
    const kept = ofPod.get(key);
    const now = this.#clock.now();
    if (kept && now < kept.renewAt) return kept.token;
    try {
      const body = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        metadata: {},
        spec: {
          audiences: audience === '' ? [] : [audience],
          expirationSeconds,
          boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name, uid },
        },
      };
      const { status } = await this.#client
        .resource(resources.serviceAccounts, namespace)
        .createSubresource<TokenRequest>(account, 'token', body, { signal });
      if (!status.token)
        throw new Error(`the server gave no token for service account ${namespace}/${account}`);
      const expiresAt = status.expirationTimestamp
        ? Date.parse(status.expirationTimestamp)
        : now + expirationSeconds * 1000;
      const life = Math.min((expiresAt - now) * RENEW_AT, LONGEST_MS);
      const renewAt = now + Math.max(0, life - this.#random() * Math.min(JITTER_MS, life / 10));
      ofPod.set(key, { token: status.token, renewAt, expiresAt });
      return status.token;
    } catch (error) {
      // An old token serves until it expires; the next renewal tries again.
      if (kept && now < kept.expiresAt && !signal.aborted) return kept.token;
      throw error;
    }
  }

  /** When the first of the pod's tokens is to be renewed, ms since the epoch. */
  nextRenewal(podUid: string): number | undefined {
    const times = [...(this.#kept.get(podUid)?.values() ?? [])].map(({ renewAt }) => renewAt);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  forget(podUid: string): void {
    this.#kept.delete(podUid);
  }
}
