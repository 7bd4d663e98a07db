// The image store: pulls and imports images, keeps their unpacked layers, gives them to containers and takes away
// what nobody uses. Contents are verified when they come in; a layer directory is complete from the moment it has
// its name, and layers are shared by all images that have them.
//
//   <directory>/images.json          what there is (records.ts)
//   <directory>/content/             manifests and configurations; layer archives only until they are unpacked
//   <directory>/layers/<diff id>/    unpacked layers
//   <directory>/unpacking/           layers on their way; leftovers are removed at the next start

import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, type Logger, silentLogger, systemClock } from '../../../component/index.ts';
import {
  type FilesystemUsage,
  type Image,
  type ImageService,
  type RegistryCredentials,
  RuntimeError,
} from '../../cri.ts';
import { ContentStore, digestOf } from './content-store.ts';
import type { ImageLayers, ImageSource, OciImageConfig } from './image-source.ts';
import {
  choosePlatform,
  type Descriptor,
  hostPlatform,
  type ImageConfiguration,
  type ImageManifest,
  MAX_CONFIG_BYTES,
  parseConfiguration,
  parseManifest,
} from './manifest.ts';
import { type ImageRecord, RecordFile } from './records.ts';
import {
  formatReference,
  type ImageReference,
  isDigest,
  parseReference,
  repositoryName,
} from './reference.ts';
import { MAX_MANIFEST_BYTES, RegistryClient, type RegistryConfig } from './registry.ts';
import { type Unpacked, unpackLayer } from './unpack.ts';

export interface ImageStoreOptions {
  readonly directory: string;
  /** The native program bulkhead-layer. */
  readonly layerProgram: string;
  readonly registries?: readonly RegistryConfig[];
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** See RegistryClientOptions. */
  readonly stallMs?: number;
  readonly retryMs?: number;
}

export interface PullOptions {
  readonly credentials?: RegistryCredentials;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: {
    readonly digest: string;
    readonly bytes: number;
    readonly total: number;
  }) => void;
}

/** Layers that are fetched and unpacked at the same time, of one image. */
const PARALLEL_LAYERS = 3;
/** No layer archive larger than this is fetched. */
const MAX_LAYER_BYTES = 32 * 1024 ** 3;
const MAX_INDEX_DEPTH = 3;
/** How long a broken-off transfer is kept to be gone on with. */
const PARTIAL_LIFETIME = 24 * 60 * 60 * 1000;

/** Where the parts of an image come from: a registry, or a layout on disk. */
export interface ImageContent {
  /** Fetches a descriptor's bytes from `offset` on. */
  fetch(descriptor: Descriptor, offset: number): ReturnType<Parameters<ContentStore['ingest']>[2]>;
}

export async function openImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const store = new ImageStore(
    options,
    await RecordFile.open(options.directory),
    await ContentStore.open(join(options.directory, 'content')),
  );
  await store.recover();
  return store;
}

export class ImageStore implements ImageService, ImageSource, AsyncDisposable {
  readonly content: ContentStore;
  readonly #options: ImageStoreOptions;
  readonly #file: RecordFile;
  readonly #registry: RegistryClient;
  readonly #logger: Logger;
  /** Layers being made, by diff id: two images that share one wait for the same work. */
  readonly #layersUnderWay = new Map<string, Promise<void>>();
  readonly #pulls = new Map<string, Promise<string>>();
  readonly #configurations = new Map<string, ImageConfiguration>();
  /** While this is above 0 nothing is collected: what comes in is not recorded yet. */
  #incoming = 0;
  #collectLater = false;
  readonly #stop = new AbortController();

  constructor(options: ImageStoreOptions, file: RecordFile, content: ContentStore) {
    this.#options = options;
    this.#file = file;
    this.content = content;
    this.#logger = options.logger ?? silentLogger;
    this.#registry = new RegistryClient({
      registries: options.registries ?? [],
      clock: options.clock ?? systemClock,
      userAgent: 'bulkhead',
      ...(options.stallMs === undefined ? {} : { stallMs: options.stallMs }),
      ...(options.retryMs === undefined ? {} : { retryMs: options.retryMs }),
    });
  }

  get #records(): RecordFile['records'] {
    return this.#file.records;
  }

  #layerDirectory(diffId: string): string {
    return join(this.#options.directory, 'layers', diffId.replace(':', '-'));
  }

  get #workDirectory(): string {
    return join(this.#options.directory, 'unpacking');
  }

  /** Removes what an earlier process left unfinished and what nothing refers to. */
  async recover(): Promise<void> {
    // The directories above layers must let the users inside containers through.
    await mkdir(join(this.#options.directory, 'layers'), { recursive: true, mode: 0o711 });
    await rm(this.#workDirectory, { recursive: true, force: true });
    await mkdir(this.#workDirectory, { recursive: true, mode: 0o711 });
    await this.#forgetLost();
    await this.#collect();
  }

  /** Somebody may have cleaned up by hand: what is not on disk any more is not here, and is pulled again when asked for. */
  async #forgetLost(): Promise<void> {
    const { images, layers } = this.#records;
    const present = new Set(await readdir(join(this.#options.directory, 'layers')));
    for (const diffId of [...layers.keys()])
      if (!present.has(diffId.replace(':', '-'))) layers.delete(diffId);
    let lost = false;
    for (const image of [...images.values()]) {
      const complete = image.layers.every((diffId) => layers.has(diffId));
      if (complete && (await this.content.size(image.id)) !== undefined) continue;
      this.#logger.warn(
        { image: image.tags[0] ?? image.id },
        'an image is not whole on disk any more and is forgotten',
      );
      images.delete(image.id);
      lost = true;
    }
    if (lost) await this.#file.save();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new RuntimeError('Unavailable', 'the image store is closing'));
    await Promise.allSettled([...this.#pulls.values(), ...this.#layersUnderWay.values()]);
    this.#registry.close();
  }

  // ---- what is here

  async listImages(): Promise<Image[]> {
    const images: Image[] = [];
    for (const record of this.#records.images.values()) images.push(await this.#image(record));
    return images;
  }

  async imageStatus(reference: string): Promise<Image | undefined> {
    const record = this.#find(reference);
    return record && this.#image(record);
  }

  async #image(record: ImageRecord): Promise<Image> {
    const user = ((await this.#configuration(record.id)).config.User ?? '').split(':')[0]!;
    return {
      id: record.id,
      repoTags: [...record.tags],
      repoDigests: [...record.digests],
      size: record.size,
      pinned: record.pinned,
      ...(/^\d+$/.test(user) ? { uid: Number(user) } : user === '' ? {} : { username: user }),
    };
  }

  /** By id (with or without sha256:, or its beginning of 12 digits and more), name or digest. */
  #find(reference: string): ImageRecord | undefined {
    const { images } = this.#records;
    const byId = images.get(reference) ?? images.get(`sha256:${reference}`);
    if (byId) return byId;
    if (/^[0-9a-f]{12,64}$/.test(reference)) {
      const matching = [...images.values()].filter((image) => image.id.startsWith(`sha256:${reference}`));
      if (matching.length === 1) return matching[0];
    }
    let parsed: ImageReference;
    try {
      parsed = parseReference(reference);
    } catch {
      return undefined; // an id that is not here
    }
    const byDigest = parsed.digest === undefined ? undefined : `${repositoryName(parsed)}@${parsed.digest}`;
    const name = formatReference(parsed);
    for (const image of images.values()) {
      if (byDigest === undefined ? image.tags.includes(name) : image.digests.includes(byDigest)) return image;
    }
    return undefined;
  }

  async #configuration(id: string): Promise<ImageConfiguration> {
    let parsed = this.#configurations.get(id);
    if (!parsed) {
      parsed = parseConfiguration(await this.content.read(id, MAX_CONFIG_BYTES));
      this.#configurations.set(id, parsed);
    }
    return parsed;
  }

  async imageFsInfo(): Promise<FilesystemUsage[]> {
    let usedBytes = 0;
    let inodesUsed = 0;
    for (const layer of this.#records.layers.values()) {
      usedBytes += layer.size;
      inodesUsed += layer.entries;
    }
    return [{ mountpoint: this.#options.directory, usedBytes, inodesUsed }];
  }

  // ---- for containers

  async layers(imageId: string): Promise<ImageLayers> {
    const record = this.#require(imageId);
    const { config } = await this.#configuration(record.id);
    const [repoDigest] = record.digests;
    return {
      layers: record.layers.map((diffId) => this.#layerDirectory(diffId)),
      config,
      ...(repoDigest !== undefined && { repoDigest }),
    };
  }

  async hold(imageId: string, owner: string): Promise<void> {
    const record = this.#require(imageId);
    if (this.#records.holds.get(owner) === record.id) return;
    this.#records.holds.set(owner, record.id);
    await this.#file.save();
  }

  async release(owner: string): Promise<void> {
    const id = this.#records.holds.get(owner);
    if (id === undefined) return;
    this.#records.holds.delete(owner);
    const record = this.#records.images.get(id);
    if (record && record.tags.length === 0 && record.digests.length === 0) await this.#drop(record);
    else await this.#file.save();
  }

  #require(imageId: string): ImageRecord {
    const record = this.#find(imageId);
    if (!record) throw new RuntimeError('NotFound', `image ${imageId} is not here`);
    return record;
  }

  // ---- coming in

  async pullImage(reference: string, options: PullOptions = {}): Promise<string> {
    const parsed = parseReference(reference);
    const name = formatReference(parsed);
    // The same image with the same credentials, asked for twice at once, is pulled once.
    const key = JSON.stringify([name, options.credentials ?? null]);
    const running = this.#pulls.get(key);
    if (running) return running;
    const signal = options.signal ? AbortSignal.any([options.signal, this.#stop.signal]) : this.#stop.signal;
    const work = this.#pull(parsed, { ...options, signal })
      .catch((error: unknown) => {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof RuntimeError)) throw error;
        throw new RuntimeError(error.code, `failed to pull and unpack image "${name}": ${error.message}`, {
          cause: error,
        });
      })
      .finally(() => this.#pulls.delete(key));
    this.#pulls.set(key, work);
    return work;
  }

  async #pull(
    reference: ImageReference,
    options: PullOptions & { readonly signal: AbortSignal },
  ): Promise<string> {
    const { credentials, signal } = options;
    const top = await this.#registry.manifest(
      reference,
      reference.digest ?? reference.tag ?? 'latest',
      credentials,
      signal,
    );
    const digest = reference.digest ?? digestOf(top.bytes);
    const content: ImageContent = {
      fetch: async (descriptor, offset) => {
        if (isManifestType(descriptor.mediaType)) {
          const { bytes } = await this.#registry.manifest(reference, descriptor.digest, credentials, signal);
          return { stream: inMemory(bytes), offset: 0 };
        }
        return this.#registry.blob(reference, descriptor.digest, offset, credentials, signal);
      },
    };
    await this.whileIncoming(async () => {
      await this.content.write(digest, top.bytes);
    });
    const descriptor: Descriptor = { mediaType: top.mediaType, digest, size: top.bytes.length };
    const names = {
      tags: reference.digest === undefined ? [formatReference(reference)] : [],
      digests: [`${repositoryName(reference)}@${digest}`],
    };
    return this.addImage(descriptor, content, names, options);
  }

  /**
   * Brings an image in, manifest first, and gives it its names. `names.digests` may be empty for images that came
   * from no registry.
   */
  async addImage(
    top: Descriptor,
    content: ImageContent,
    names: { readonly tags: readonly string[]; readonly digests: readonly string[] },
    options: PullOptions = {},
  ): Promise<string> {
    return this.whileIncoming(async () => {
      const kept = [top.digest];
      const get = async (descriptor: Descriptor, limit: number): Promise<Uint8Array> => {
        await this.content.ingest(
          descriptor.digest,
          { size: descriptor.size, limit, signal: options.signal },
          (offset) => content.fetch(descriptor, offset),
        );
        kept.push(descriptor.digest);
        return this.content.read(descriptor.digest, limit);
      };
      const manifest = await this.#resolveManifest(top, get);
      const configuration = parseConfiguration(await get(manifest.config, MAX_CONFIG_BYTES));
      const { diffIds } = configuration;
      if (diffIds.length !== manifest.layers.length) {
        throw new RuntimeError(
          'InvalidArgument',
          `the image is refused: its configuration names ${diffIds.length} layers, its manifest ${manifest.layers.length}`,
        );
      }
      await inParallel(PARALLEL_LAYERS, manifest.layers, (layer, i) =>
        this.#ensureLayer(diffIds[i]!, layer, content, options),
      );
      await this.register(manifest.config.digest, configuration, names, kept);
      return manifest.config.digest;
    });
  }

  async #resolveManifest(
    top: Descriptor,
    get: (descriptor: Descriptor, limit: number) => Promise<Uint8Array>,
  ): Promise<ImageManifest> {
    let descriptor = top;
    for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth++) {
      const parsed = parseManifest(await get(descriptor, MAX_MANIFEST_BYTES));
      if ('manifest' in parsed) return parsed.manifest;
      const next = choosePlatform(parsed.index, hostPlatform());
      descriptor = { ...next, mediaType: next.mediaType || 'application/vnd.oci.image.manifest.v1+json' };
    }
    throw new RuntimeError(
      'InvalidArgument',
      `the image is refused: its index is nested more than ${MAX_INDEX_DEPTH} deep`,
    );
  }

  async #ensureLayer(
    diffId: string,
    layer: Descriptor,
    content: ImageContent,
    options: PullOptions,
  ): Promise<void> {
    if (this.#records.layers.has(diffId)) return;
    const running = this.#layersUnderWay.get(diffId);
    if (running) return running;
    const work = (async () => {
      const { signal, onProgress } = options;
      await this.content.ingest(
        layer.digest,
        {
          size: layer.size,
          limit: MAX_LAYER_BYTES,
          ...(signal ? { signal } : {}),
          onProgress: (bytes) => onProgress?.({ digest: layer.digest, bytes, total: layer.size }),
        },
        (offset) => content.fetch(layer, offset),
      );
      await this.unpack(this.content.path(layer.digest), diffId, signal);
      // The archive has served; the unpacked layer is what is used.
      await this.content.remove(layer.digest);
    })().finally(() => this.#layersUnderWay.delete(diffId));
    this.#layersUnderWay.set(diffId, work);
    return work;
  }

  /** Unpacks an archive into the layer of its diff id, which is computed when not given. */
  async unpack(
    archive: string | AsyncIterable<Uint8Array>,
    diffId: string | undefined,
    signal?: AbortSignal,
  ): Promise<Unpacked> {
    const directory = join(this.#workDirectory, randomUUID());
    await mkdir(directory, { mode: 0o755 });
    try {
      const unpacked = await unpackLayer({
        program: this.#options.layerProgram,
        archive,
        directory,
        ...(diffId === undefined ? {} : { diffId }),
        ...(signal ? { signal } : {}),
      });
      if (unpacked.leftOut.length > 0) {
        this.#logger.warn(
          { layer: unpacked.diffId, devices: unpacked.leftOut.slice(0, 20) },
          'device nodes of a layer were left out',
        );
      }
      const target = this.#layerDirectory(unpacked.diffId);
      if (!this.#records.layers.has(unpacked.diffId)) {
        await rm(target, { recursive: true, force: true });
        await rename(directory, target);
        this.#records.layers.set(unpacked.diffId, { size: unpacked.size, entries: unpacked.entries });
      }
      return unpacked;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /** Records an image whose configuration and layers are here. */
  async register(
    id: string,
    configuration: ImageConfiguration,
    names: { readonly tags: readonly string[]; readonly digests: readonly string[] },
    content: readonly string[],
  ): Promise<void> {
    const { images, layers } = this.#records;
    for (const other of images.values()) {
      if (other.id !== id) other.tags = other.tags.filter((tag) => !names.tags.includes(tag));
    }
    const old = images.get(id);
    const unique = (a: readonly string[], b: readonly string[]): string[] => [...new Set([...a, ...b])];
    images.set(id, {
      id,
      tags: unique(old?.tags ?? [], names.tags),
      digests: unique(old?.digests ?? [], names.digests),
      layers: configuration.diffIds,
      size: configuration.diffIds.reduce((sum, diffId) => sum + (layers.get(diffId)?.size ?? 0), 0),
      pinned: old?.pinned ?? false,
      content: unique(old?.content ?? [], [id, ...content]),
    });
    this.#configurations.set(id, configuration);
    await this.#file.save();
    this.#dropNameless(id);
  }

  /** Records an image made here, of layers that are already unpacked, with this configuration. */
  async addConfiguration(config: OciImageConfig, diffIds: readonly string[], tag: string): Promise<string> {
    const { os, architecture } = hostPlatform();
    const bytes = Buffer.from(
      JSON.stringify({ architecture, os, config, rootfs: { type: 'layers', diff_ids: diffIds } }),
    );
    const id = digestOf(bytes);
    return this.whileIncoming(async () => {
      await this.content.write(id, bytes);
      await this.register(id, parseConfiguration(bytes), { tags: [tag], digests: [] }, []);
      return id;
    });
  }

  /** An image that lost its last name to another and that nobody holds goes. */
  #dropNameless(except: string): void {
    const held = new Set(this.#records.holds.values());
    for (const image of [...this.#records.images.values()]) {
      if (image.id === except || image.tags.length > 0 || image.digests.length > 0 || held.has(image.id))
        continue;
      this.#records.images.delete(image.id);
      this.#collectLater = true;
    }
  }

  async tagImage(reference: string, name: string): Promise<void> {
    const record = this.#require(reference);
    const tag = formatReference(parseReference(name));
    await this.register(record.id, await this.#configuration(record.id), { tags: [tag], digests: [] }, []);
  }

  // ---- going out

  /** Takes a name away, or, by id, the image with all its names. What a container stands on stays until it is gone. */
  async removeImage(reference: string): Promise<void> {
    const record = this.#find(reference);
    if (!record) return; // the CRI's rule: removing what is gone succeeds
    const byId = isDigest(reference) || /^[0-9a-f]{12,64}$/.test(reference);
    if (!byId) {
      const parsed = parseReference(reference);
      const name = formatReference(parsed);
      record.tags = record.tags.filter((tag) => tag !== name);
      if (parsed.digest !== undefined) {
        record.digests = record.digests.filter((d) => d !== `${repositoryName(parsed)}@${parsed.digest}`);
      }
      const stillNamed = record.tags.length > 0 || (parsed.digest !== undefined && record.digests.length > 0);
      if (stillNamed) return this.#file.save();
    }
    record.tags = [];
    record.digests = [];
    if ([...this.#records.holds.values()].includes(record.id)) return this.#file.save();
    return this.#drop(record);
  }

  async #drop(record: ImageRecord): Promise<void> {
    this.#records.images.delete(record.id);
    this.#configurations.delete(record.id);
    await this.#file.save();
    await this.#collect();
  }

  /** Keeps what comes in meanwhile from being collected before it is recorded. */
  async whileIncoming<T>(work: () => Promise<T>): Promise<T> {
    this.#incoming++;
    try {
      return await work();
    } finally {
      this.#incoming--;
      if (this.#incoming === 0 && this.#collectLater) await this.#collect();
    }
  }

  /** Removes layers and contents that no image refers to. Put off while something is coming in. */
  async #collect(): Promise<void> {
    if (this.#incoming > 0) {
      this.#collectLater = true;
      return;
    }
    this.#collectLater = false;
    const { images, layers } = this.#records;
    const usedLayers = new Set([...images.values()].flatMap((image) => image.layers));
    const usedContent = new Set([...images.values()].flatMap((image) => image.content));
    const unused = [...layers.keys()].filter((diffId) => !usedLayers.has(diffId));
    for (const diffId of unused) layers.delete(diffId);
    if (unused.length > 0) await this.#file.save();
    const directories = new Set([...layers.keys()].map((diffId) => diffId.replace(':', '-')));
    const root = join(this.#options.directory, 'layers');
    for (const name of await readdir(root)) {
      if (this.#incoming > 0) break; // a pull has begun meanwhile and will collect in its turn
      if (!directories.has(name)) await rm(join(root, name), { recursive: true, force: true });
    }
    for await (const digest of this.content.digests()) {
      if (this.#incoming > 0) break;
      if (!usedContent.has(digest)) await this.content.remove(digest);
    }
    if (this.#incoming > 0) this.#collectLater = true;
    else await this.content.removePartials(PARTIAL_LIFETIME);
  }
}

function isManifestType(mediaType: string): boolean {
  return /\.(manifest|index|manifest\.list)\.v\d\+json$/.test(mediaType);
}

function inMemory(bytes: Uint8Array): AsyncIterable<Uint8Array> & { destroy(): void } {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  return Object.assign(chunks(), { destroy: () => {} });
}

async function inParallel<T>(
  most: number,
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const i = next++;
      try {
        await work(items[i]!, i);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const lanes = Array.from({ length: Math.min(most, items.length) }, lane);
  const results = await Promise.allSettled(lanes);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
