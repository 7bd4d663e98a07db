// Removes images that no container uses when the disk fills: above the high threshold, the least recently used ones
// first, until the low one is reached (upstream's image_gc_manager.go). An image is left alone for its first minutes.

import type { Clock, Logger, Timer } from '../../component/index.ts';
import type { Image, ImageService, RuntimeService } from '../../runtime/cri.ts';
import type { NodeEvents } from '../events.ts';
import type { KubeletHost } from '../host/host.ts';
import { messageOf } from '../text.ts';

const PERIOD_MS = 300_000;
const LEAST_AGE_MS = 120_000;

export interface ImageCollectorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly events: NodeEvents;
  readonly host: KubeletHost;
  readonly images: ImageService;
  readonly runtime: RuntimeService;
  readonly highPercent: number;
  readonly lowPercent: number;
  /** The node's list of images changed. */
  readonly onRemoved: () => void;
}

interface Seen {
  readonly firstSeen: number;
  lastUsed: number;
}

export class ImageCollector {
  readonly #options: ImageCollectorOptions;
  readonly #seen = new Map<string, Seen>();
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #stopped = false;

  constructor(options: ImageCollectorOptions) {
    this.#options = options;
  }

  start(): void {
    this.#schedule();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
  }

  /** Removes every image that no container uses, whatever the disk looks like. */
  async removeUnused(): Promise<void> {
    await this.#free(Number.POSITIVE_INFINITY);
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.setTimer(
      PERIOD_MS,
      () => {
        this.#round = this.collect()
          .catch((error: unknown) => {
            this.#options.logger.error({ err: error }, 'images could not be collected');
            this.#options.events.node('Warning', 'ImageGCFailed', messageOf(error));
          })
          .finally(() => this.#schedule());
      },
      { unref: true },
    );
  }

  /** Looks at the disk and frees what the thresholds ask for. Rejects when not enough could be freed. */
  async collect(): Promise<void> {
    const { host, highPercent, lowPercent, events } = this.#options;
    await this.#notice();
    const { capacityBytes, availableBytes } = (await host.usage()).imageFilesystem;
    if (capacityBytes === 0) return;
    const usedPercent = 100 - Math.floor((availableBytes * 100) / capacityBytes);
    if (usedPercent < highPercent) return;
    const wanted = Math.ceil((capacityBytes * (100 - lowPercent)) / 100 - availableBytes);
    const freed = await this.#free(wanted);
    if (freed >= wanted) return;
    const message = `Insufficient free disk space on the node's image filesystem (${usedPercent}% of ${capacityBytes} bytes used). Failed to free sufficient space by deleting unused images (freed ${freed} bytes). Consider resizing the disk or deleting unused files.`;
    events.node('Warning', 'FreeDiskSpaceFailed', message);
    throw new Error(message);
  }

  /** Takes note of what is there and what is in use; resolves with the images in use. */
  async #notice(): Promise<{ readonly listed: readonly Image[]; readonly used: ReadonlySet<string> }> {
    const { images, runtime, clock } = this.#options;
    const now = clock.now();
    const listed = await images.listImages();
    const used = new Set((await runtime.listContainers()).map(({ imageId }) => imageId));
    for (const image of listed) {
      const inUse = isUsed(image, used);
      const seen = this.#seen.get(image.id);
      if (!seen) this.#seen.set(image.id, { firstSeen: now, lastUsed: inUse ? now : 0 });
      else if (inUse) seen.lastUsed = now;
    }
    const present = new Set(listed.map(({ id }) => id));
    for (const id of this.#seen.keys()) if (!present.has(id)) this.#seen.delete(id);
    return { listed, used };
  }

  /** Resolves with the bytes that were freed. */
  async #free(wanted: number): Promise<number> {
    const { images, clock, logger, onRemoved } = this.#options;
    const { listed, used } = await this.#notice();
    const now = clock.now();
    const unused = listed
      .filter((image) => !image.pinned && !isUsed(image, used))
      .map((image) => ({ image, seen: this.#seen.get(image.id)! }))
      .filter(({ seen }) => now - seen.firstSeen >= LEAST_AGE_MS)
      .sort((a, b) => a.seen.lastUsed - b.seen.lastUsed || a.seen.firstSeen - b.seen.firstSeen);
    let freed = 0;
    for (const { image } of unused) {
      if (freed >= wanted) break;
      try {
        await images.removeImage(image.id);
        this.#seen.delete(image.id);
        freed += image.size;
        logger.info(
          { image: image.id, tags: image.repoTags, bytes: image.size },
          'an unused image was removed',
        );
      } catch (error) {
        logger.warn({ err: error, image: image.id }, 'an unused image could not be removed');
      }
    }
    if (freed > 0) onRemoved();
    return freed;
  }
}

/** Runtimes name a container's image by its id or by a repository digest. */
function isUsed(image: Image, used: ReadonlySet<string>): boolean {
  return (
    used.has(image.id) ||
    image.repoDigests.some((digest) => used.has(digest)) ||
    image.repoTags.some((tag) => used.has(tag))
  );
}
