// What every controller is given, and the shape of its start function. Controllers know the cluster only through the
// client; they share its informers.

import type { Client } from '../client/index.ts';
import type { Clock, Logger, Running } from '../component/index.ts';

export interface ControllerContext {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly settings: ControllerSettings;
}

/** What differs between clusters; each controller reads its own part. Durations in ms. */
export interface ControllerSettings {
  /** PEM of the CA that signed the API server's certificate; absent: no kube-root-ca.crt is published. */
  readonly rootCa?: string;
  /** How long a deleted namespace is left alone, for other API servers to learn of it. 0 with a single one. */
  readonly namespaceDeletionDelayMs: number;
  /** How long a node may be silent before it is Unknown. */
  readonly nodeMonitorGraceMs: number;
  /** The same before its first status. */
  readonly nodeStartupGraceMs: number;
  /** Nodes a second that are tainted NoExecute in a zone, and in a disrupted zone of a large cluster. */
  readonly nodeEvictionRate: number;
  readonly secondaryNodeEvictionRate: number;
  /** A zone with more nodes is large. */
  readonly largeClusterSize: number;
  /** The part of a zone's nodes that must be down for it to count as disrupted. */
  readonly unhealthyZoneThreshold: number;
  /** Terminated pods beyond this number are deleted, the oldest first; 0: none is. */
  readonly terminatedPodThreshold: number;
}

export const defaultSettings: ControllerSettings = {
  namespaceDeletionDelayMs: 0,
  nodeMonitorGraceMs: 50_000,
  nodeStartupGraceMs: 60_000,
  nodeEvictionRate: 0.1,
  secondaryNodeEvictionRate: 0.01,
  largeClusterSize: 50,
  unhealthyZoneThreshold: 0.55,
  terminatedPodThreshold: 12_500,
};

export type StartController = (context: ControllerContext) => Running;

/** Disposes several things in the reverse order of their making; all of them, even when some fail. */
export async function disposeAll(parts: readonly AsyncDisposable[]): Promise<void> {
  const failures: unknown[] = [];
  for (const part of parts.toReversed()) {
    try {
      await part[Symbol.asyncDispose]();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, 'several parts could not be stopped');
}

/** Resolves when all informers are filled. Never an unhandled rejection: whoever stops early need not await it. */
export function allSynced(...informers: readonly { readonly synced: Promise<void> }[]): Promise<void> {
  const all = Promise.all(informers.map((informer) => informer.synced)).then(() => {});
  all.catch(() => {});
  return all;
}
