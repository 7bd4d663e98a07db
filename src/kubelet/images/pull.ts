// Makes sure that a container's image is here before the container is made: pull policy, credentials, back-off, and
// upstream's events and reasons (pkg/kubelet/images/image_manager.go). Two pulls of one image at a time become one.

import type { Container, Pod } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import { type Image, type ImageService, type RegistryCredentials, RuntimeError } from '../../runtime/cri.ts';
import { Backoff } from '../backoff.ts';
import type { NodeEvents } from '../events.ts';
import type { PodContainer } from '../pod.ts';
import { formatDuration, messageOf } from '../text.ts';
import type { Keyring } from './keyring.ts';
import { defaultPullPolicy, parseReference } from './reference.ts';

/** Why a container cannot be started: the reason and message of its waiting state. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly reason: string;
  /** When it is worth trying again, ms from now; absent: by the pod's own back-off. */
  readonly retryAfterMs: number | undefined;
  constructor(reason: string, message: string, retryAfterMs?: number) {
    super(message);
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

const INITIAL_BACKOFF_MS = 10_000;
const LONGEST_BACKOFF_MS = 300_000;
/** Enough that a slow registry does not hold up the others, few enough to leave disk and link to each. */
const PARALLEL_PULLS = 4;
/** A failed pull shows as ErrImagePull for this long before it shows as backing off. */
const SHOW_FAILURE_MS = 1000;

interface Pulling {
  readonly done: Promise<string>;
  readonly abort: AbortController;
  waiters: number;
}

export interface ImagePullerOptions {
  readonly images: ImageService;
  readonly clock: Clock;
  readonly events: NodeEvents;
  /** An image came: the node's list of images changed. */
  readonly onPulled: () => void;
}

export class ImagePuller {
  readonly #options: ImagePullerOptions;
  readonly #backoff: Backoff;
  readonly #pulling = new Map<string, Pulling>();
  /** Pulls waiting for their turn, in the order they came. */
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  readonly #failures = new Map<string, { readonly at: number; readonly message: string }>();

  constructor(options: ImagePullerOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock, INITIAL_BACKOFF_MS, LONGEST_BACKOFF_MS);
  }

  /** Resolves with the image; rejects with a StartError that says why it cannot be had. */
  async ensure(pod: Pod, member: PodContainer, keyring: Keyring, signal: AbortSignal): Promise<Image> {
    const { images, events } = this.#options;
    const { container } = member;
    const reference = container.image ?? '';
    const policy = container.imagePullPolicy ?? defaultPullPolicy(reference);
    if (!parseReference(reference)) {
      const message = `Failed to apply default image tag "${reference}": couldn't parse image name "${reference}": invalid reference format`;
      events.container(pod, member, 'Warning', 'InspectFailed', message);
      throw new StartError('InvalidImageName', message);
    }
    let present: Image | undefined;
    try {
      present = await images.imageStatus(reference);
    } catch (error) {
      const message = `Failed to inspect image "${reference}": ${messageOf(error)}`;
      events.container(pod, member, 'Warning', 'InspectFailed', message);
      throw new StartError('ImageInspectError', message);
    }
    if (present && policy !== 'Always') {
      const message = `Container image "${reference}" already present on machine and can be accessed by the pod`;
      events.container(pod, member, 'Normal', 'Pulled', message);
      return present;
    }
    if (policy === 'Never') {
      const message = `Container image "${reference}" is not present with pull policy of Never`;
      events.container(pod, member, 'Warning', 'ErrImageNeverPull', message);
      throw new StartError('ErrImageNeverPull', message);
    }
    const key = `${pod.metadata.uid}_${reference}`;
    const wait = this.#backoff.remainingSinceFailure(key);
    if (wait > 0) {
      const failed = this.#failures.get(key);
      const shown = failed && failed.at + SHOW_FAILURE_MS - this.#options.clock.now();
      if (shown && shown > 0) throw new StartError('ErrImagePull', failed.message, shown);
      events.container(pod, member, 'Normal', 'BackOff', `Back-off pulling image "${reference}"`);
      throw new StartError('ImagePullBackOff', this.#backoffMessage(key, reference), wait);
    }
    return this.#pull(pod, member, container, key, keyring, signal);
  }

  /** Forgets the pod's failures. */
  forget(podUid: string): void {
    this.#backoff.resetPrefix(`${podUid}_`);
    for (const key of this.#failures.keys()) if (key.startsWith(`${podUid}_`)) this.#failures.delete(key);
  }

  #backoffMessage(key: string, reference: string): string {
    const failed = this.#failures.get(key);
    return `Back-off pulling image "${reference}"${failed ? `: ErrImagePull: ${failed.message}` : ''}`;
  }

  async #pull(
    pod: Pod,
    member: PodContainer,
    container: Container,
    key: string,
    keyring: Keyring,
    signal: AbortSignal,
  ): Promise<Image> {
    const { images, events, clock } = this.#options;
    const reference = container.image ?? '';
    events.container(pod, member, 'Normal', 'Pulling', `Pulling image "${reference}"`);
    const requested = clock.monotonic();
    let started = requested;
    try {
      const id = await this.#shared(reference, keyring.lookup(reference), signal, () => {
        started = clock.monotonic();
      });
      const image = await images.imageStatus(id);
      if (!image)
        throw new RuntimeError('NotFound', `image ${reference} was removed right after it was pulled`);
      const ended = clock.monotonic();
      events.container(
        pod,
        member,
        'Normal',
        'Pulled',
        `Successfully pulled image "${reference}" in ${formatDuration(Math.round(ended - started))} (${formatDuration(
          Math.round(ended - requested),
        )} including waiting). Image size: ${image.size} bytes.`,
      );
      this.#backoff.reset(key);
      this.#failures.delete(key);
      this.#options.onPulled();
      return image;
    } catch (error) {
      signal.throwIfAborted();
      const message = messageOf(error);
      const text = `Failed to pull image "${reference}": ${message}`;
      events.container(pod, member, 'Warning', 'Failed', text);
      this.#backoff.next(key, clock.now());
      this.#failures.set(key, { at: clock.now(), message });
      throw new StartError('ErrImagePull', message, SHOW_FAILURE_MS);
    }
  }

  /** Joins a pull of the same image by the same credentials; the last waiter to leave cancels it. */
  async #shared(
    reference: string,
    credentials: readonly RegistryCredentials[],
    signal: AbortSignal,
    onStart: () => void,
  ): Promise<string> {
    const key = JSON.stringify([reference, credentials]);
    let pulling = this.#pulling.get(key);
    if (!pulling) {
      const abort = new AbortController();
      const done = this.#next(abort.signal, () => {
        onStart();
        return this.#tryAll(reference, credentials, abort.signal);
      }).finally(() => this.#pulling.delete(key));
      done.catch(() => {});
      pulling = { done, abort, waiters: 0 };
      this.#pulling.set(key, pulling);
    }
    const joined = pulling;
    joined.waiters++;
    const leave = Promise.withResolvers<never>();
    leave.promise.catch(() => {});
    const onAbort = (): void => leave.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([joined.done, leave.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
      if (--joined.waiters === 0) joined.abort.abort(new Error('nobody waits for this image any more'));
    }
  }

  /** Runs `work` when fewer than the allowed number of pulls are under way. */
  async #next<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.#running >= PARALLEL_PULLS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running++;
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      this.#running--;
      this.#waiting.shift()?.();
    }
  }

  async #tryAll(
    reference: string,
    credentials: readonly RegistryCredentials[],
    signal: AbortSignal,
  ): Promise<string> {
    const { images } = this.#options;
    if (credentials.length === 0) return images.pullImage(reference, { signal });
    const errors: unknown[] = [];
    for (const each of credentials) {
      try {
        return await images.pullImage(reference, { credentials: each, signal });
      } catch (error) {
        signal.throwIfAborted();
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    throw new AggregateError(errors, `[${errors.map(messageOf).join(', ')}]`);
  }
}
