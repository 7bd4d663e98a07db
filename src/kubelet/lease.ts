// The node's heartbeat: a Lease in kube-node-lease, renewed every 10 s. While renewals fail they are tried again sooner,
// and the control plane calls the node unreachable when none came for the grace period. Times on the agent's clock.

import { isAlreadyExists, isConflict, isNotFound, microTimestamp } from '../api/index.ts';
import type { Lease } from '../api/types/coordination-v1.ts';
import type { Node } from '../api/types/core-v1.ts';
import { type Client, delay, resources } from '../client/index.ts';
import type { Clock, Logger } from '../component/index.ts';

const NAMESPACE = 'kube-node-lease';
const DURATION_SECONDS = 40;
const RENEW_MS = 10_000;
const RETRY_MS = 200;
const LONGEST_RETRY_MS = 7_000;

export interface LeaseOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly nodeName: string;
  /** The Node as last seen: the lease belongs to it and goes with it. */
  readonly node: () => Node | undefined;
  readonly signal: AbortSignal;
}

/** Renews until `signal` aborts; never rejects. */
export async function keepLease(options: LeaseOptions): Promise<void> {
  const { clock, logger, signal } = options;
  let held: Lease | undefined;
  let retry = RETRY_MS;
  while (!signal.aborted) {
    let wait = RENEW_MS;
    try {
      held = await renew(options, held);
      retry = RETRY_MS;
    } catch (error) {
      if (signal.aborted) return;
      held = undefined;
      // A lease that somebody else wrote is read and written again at once.
      wait = isConflict(error) || isAlreadyExists(error) ? 0 : retry;
      retry = Math.min(retry * 2, LONGEST_RETRY_MS);
      if (wait > 0) logger.warn({ err: error, retryMs: wait }, 'the node lease could not be renewed');
    }
    await delay(clock, wait, signal).catch(() => {});
  }
}

async function renew(options: LeaseOptions, held: Lease | undefined): Promise<Lease> {
  const { client, clock, nodeName, signal } = options;
  const leases = client.resource(resources.leases, NAMESPACE);
  const node = options.node();
  const ownerReferences = node
    ? [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid: node.metadata.uid }]
    : undefined;
  const spec = {
    holderIdentity: nodeName,
    leaseDurationSeconds: DURATION_SECONDS,
    renewTime: microTimestamp(clock.now()),
  };
  const current =
    held ??
    (await leases.get(nodeName, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    }));
  if (!current)
    return leases.create(
      {
        metadata: { name: nodeName, namespace: NAMESPACE, ...(ownerReferences && { ownerReferences }) },
        spec,
      },
      { signal },
    );
  const owned = current.metadata.ownerReferences?.some(({ uid }) => uid === node?.metadata.uid);
  const metadata = owned || !ownerReferences ? current.metadata : { ...current.metadata, ownerReferences };
  return leases.update({ ...current, metadata, spec: { ...current.spec, ...spec } }, { signal });
}
