// Brings pods' statuses to the API server: one request in flight for each pod, the newest status wins, failures are
// tried again. Sends strategic merge patches of what changed, so that conditions of others stay as they are.

import { isConflict, isNotFound } from '../api/index.ts';
import type { Pod, PodCondition, PodStatus } from '../api/types/core-v1.ts';
import { type Client, delay, resources } from '../client/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import { podKey } from './pod.ts';
import { sameValue } from './same-value.ts';
import { OWN_CONDITIONS } from './status-input.ts';

const RETRY_MS = 200;
const LONGEST_RETRY_MS = 10_000;

interface Entry {
  pod: Pod;
  wanted: PodStatus;
  /** The wanted status as JSON, to see cheaply whether a new one differs. */
  wantedText: string;
  /** What the API server is known to have. */
  known: PodStatus | undefined;
  sending: Promise<void> | undefined;
}

type Patch = Record<string, unknown>;

/** The strategic merge patch that makes `wanted` of `known`; undefined when nothing differs. */
export function statusPatch(known: PodStatus | undefined, wanted: PodStatus): Patch | undefined {
  const patch: Patch = {};
  const before = (known ?? {}) as Readonly<Record<string, unknown>>;
  const after = wanted as unknown as Readonly<Record<string, unknown>>;
  for (const field of STATUS_FIELDS) {
    if (sameValue(before[field], after[field])) continue;
    if (after[field] === undefined) patch[field] = null;
    // These two merge by address upstream; the list as a whole is the agent's.
    else if (field === 'podIPs' || field === 'hostIPs')
      patch[field] = [...(after[field] as unknown[]), { $patch: 'replace' }];
    else patch[field] = after[field];
  }
  const conditions = conditionsPatch(known?.conditions ?? [], wanted.conditions ?? []);
  if (conditions.length > 0) {
    patch['conditions'] = conditions;
    patch['$setElementOrder/conditions'] = (wanted.conditions ?? []).map(({ type }) => ({ type }));
  }
  return Object.keys(patch).length > 0 ? patch : undefined;
}

const STATUS_FIELDS = [
  'observedGeneration',
  'phase',
  'message',
  'reason',
  'hostIP',
  'hostIPs',
  'podIP',
  'podIPs',
  'startTime',
  'initContainerStatuses',
  'containerStatuses',
  'ephemeralContainerStatuses',
  'qosClass',
  'allocatedResources',
] as const satisfies readonly (keyof PodStatus)[];

/** Conditions that the agent sets now and then only. */
const OCCASIONAL: ReadonlySet<string> = new Set(['DisruptionTarget']);

function conditionsPatch(known: readonly PodCondition[], wanted: readonly PodCondition[]): Patch[] {
  const patch: Patch[] = [];
  for (const condition of wanted) {
    if (!OWN_CONDITIONS.has(condition.type) && !OCCASIONAL.has(condition.type)) continue;
    const old = known.find(({ type }) => type === condition.type);
    if (old && sameValue(old, condition)) continue;
    const gone = old ? Object.keys(old).filter((field) => !(field in condition)) : [];
    patch.push({ ...condition, ...Object.fromEntries(gone.map((field) => [field, null])) });
  }
  for (const { type } of known)
    if (OWN_CONDITIONS.has(type) && !wanted.some((condition) => condition.type === type))
      patch.push({ $patch: 'delete', type });
  return patch;
}

export interface StatusManagerOptions {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class StatusManager implements AsyncDisposable {
  readonly #options: StatusManagerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #stop = new AbortController();

  constructor(options: StatusManagerOptions) {
    this.#options = options;
  }

  /** The newest status, sent or not; undefined before the first. */
  get(podUid: string): PodStatus | undefined {
    return this.#entries.get(podUid)?.wanted;
  }

  /** Takes the status for sending, unless it is what was taken last. */
  set(pod: Pod, status: PodStatus): void {
    if (this.#stop.signal.aborted) return;
    const text = JSON.stringify(status);
    const entry = this.#entries.get(pod.metadata.uid);
    if (!entry) {
      const fresh: Entry = { pod, wanted: status, wantedText: text, known: pod.status, sending: undefined };
      this.#entries.set(pod.metadata.uid, fresh);
      fresh.sending = this.#send(fresh);
      return;
    }
    if (!isOlder(pod.metadata.resourceVersion, entry.pod.metadata.resourceVersion)) entry.pod = pod;
    if (entry.wantedText === text) return;
    entry.wanted = status;
    entry.wantedText = text;
    entry.sending ??= this.#send(entry);
  }

  /**
   * Resolves when the pod's newest status is at the server, or cannot get there because the pod is gone; rejects when
   * the agent stops before that.
   */
  async flush(podUid: string): Promise<void> {
    for (;;) {
      this.#stop.signal.throwIfAborted();
      const sending = this.#entries.get(podUid)?.sending;
      if (!sending) return;
      await sending;
    }
  }

  /**
   * Takes note of the pod as the server has it. When somebody else changed what this agent reports, it is sent again.
   */
  observe(pod: Pod): void {
    const entry = this.#entries.get(pod.metadata.uid);
    if (!entry || entry.sending) return;
    // Older than the answer to the last patch: nothing new.
    if (isOlder(pod.metadata.resourceVersion, entry.pod.metadata.resourceVersion)) return;
    entry.pod = pod;
    if (sameValue(entry.known, pod.status)) return;
    entry.known = pod.status;
    if (statusPatch(entry.known, entry.wanted)) entry.sending = this.#send(entry);
  }

  forget(podUid: string): void {
    this.#entries.delete(podUid);
  }

  /** Ends the pod in the API once all of it is gone here; nothing to do when it is gone there. */
  async deletePod(pod: Pod): Promise<void> {
    const { client, logger } = this.#options;
    const { name, namespace, uid } = pod.metadata;
    let retry = RETRY_MS;
    for (;;) {
      try {
        await client
          .resource(resources.pods, namespace)
          .delete(name, { gracePeriodSeconds: 0, preconditions: { uid }, signal: this.#stop.signal });
        return;
      } catch (error) {
        if (isNotFound(error) || isConflict(error)) return;
        if (this.#stop.signal.aborted) throw error;
        logger.warn(
          { err: error, pod: podKey(pod), retryMs: retry },
          'a pod that has ended could not be deleted',
        );
      }
      await delay(this.#options.clock, retry, this.#stop.signal);
      retry = Math.min(retry * 2, LONGEST_RETRY_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const sending = [...this.#entries.values()].map((entry) => entry.sending);
    this.#stop.abort(new Error('the node agent stops'));
    await Promise.all(sending);
    this.#entries.clear();
  }

  async #send(entry: Entry): Promise<void> {
    const { clock, logger } = this.#options;
    let retry = RETRY_MS;
    // Several changes within one turn of the event loop become one request.
    await null;
    while (!this.#stop.signal.aborted && this.#entries.get(entry.pod.metadata.uid) === entry) {
      const text = entry.wantedText;
      try {
        await this.#patch(entry);
        retry = RETRY_MS;
        if (entry.wantedText === text) break;
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        if (isNotFound(error) || isConflict(error)) {
          logger.debug({ err: error, pod: podKey(entry.pod) }, 'the pod of this status is gone');
          break;
        }
        logger.warn({ err: error, pod: podKey(entry.pod), retryMs: retry }, 'a pod status could not be sent');
        await delay(clock, retry, this.#stop.signal).catch(() => {});
        retry = Math.min(retry * 2, LONGEST_RETRY_MS);
      }
    }
    entry.sending = undefined;
  }

  async #patch(entry: Entry): Promise<void> {
    const patch = statusPatch(entry.known, entry.wanted);
    if (!patch) return;
    const { name, namespace, uid } = entry.pod.metadata;
    const answer = await this.#options.client.resource(resources.pods, namespace).patch(
      name,
      // The uid makes the server refuse a status that belongs to an earlier pod of this name.
      { type: 'strategic', patch: { metadata: { uid }, status: patch } },
      { subresource: 'status', signal: this.#stop.signal },
    );
    entry.known = answer.status;
    entry.pod = answer;
  }
}

/** Resource versions of one server are numbers that grow. */
function isOlder(version: string, than: string): boolean {
  return Number(version) < Number(than);
}
