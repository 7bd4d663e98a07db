// The image half of the simulated runtime: every well-formed reference can be pulled, at once, and gets an id that
// follows from the reference alone. Nothing is fetched and nothing is kept on disk. A test can make a reference fail.

import { createHash } from 'node:crypto';
import { type FilesystemUsage, type Image, type ImageService, RuntimeError } from '../cri.ts';

/** Reported for every simulated image; images have no bytes here, but lists and garbage collection want a size. */
const SIZE = 1 << 20;

const REFERENCE =
  /^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::\d+)?\/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?$/;

function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** `nginx` → `docker.io/library/nginx:latest`, as registries and runtimes agree to read short names. */
function normalize(reference: string): string {
  const slash = reference.indexOf('/');
  const first = slash < 0 ? '' : reference.slice(0, slash);
  const hasDomain = first.includes('.') || first.includes(':') || first === 'localhost';
  let full = reference;
  if (!hasDomain) full = `docker.io/${slash < 0 ? 'library/' : ''}${reference}`;
  if (full.includes('@')) return full;
  return /:[^/]*$/.test(full) ? full : `${full}:latest`;
}

export class SimulatedImages implements ImageService {
  readonly #images = new Map<string, Image>();
  readonly #byReference = new Map<string, string>();
  readonly #failures = new Map<string, RuntimeError>();

  /** Makes pulls of `reference` fail with `error` until called again without one. */
  failPulls(reference: string, error?: RuntimeError): void {
    if (error) this.#failures.set(normalize(reference), error);
    else this.#failures.delete(normalize(reference));
  }

  async listImages(): Promise<Image[]> {
    return [...this.#images.values()];
  }

  async imageStatus(reference: string): Promise<Image | undefined> {
    return this.#images.get(reference) ?? this.#images.get(this.#byReference.get(normalize(reference)) ?? '');
  }

  async pullImage(reference: string, options?: { readonly signal?: AbortSignal }): Promise<string> {
    options?.signal?.throwIfAborted();
    if (!REFERENCE.test(reference))
      throw new RuntimeError(
        'InvalidArgument',
        `${JSON.stringify(reference)} is not a valid image reference`,
      );
    const name = normalize(reference);
    const failure = this.#failures.get(name);
    if (failure) throw failure;
    const known = this.#byReference.get(name);
    if (known !== undefined) return known;
    const id = digestOf(name);
    const at = name.indexOf('@');
    const repository = at >= 0 ? name.slice(0, at).replace(/:[^/:]*$/, '') : name.replace(/:[^/:]*$/, '');
    this.#images.set(id, {
      id,
      repoTags: at >= 0 ? [] : [name],
      repoDigests: [at >= 0 ? name : `${repository}@${digestOf(`${name} manifest`)}`],
      size: SIZE,
      uid: 0,
      pinned: false,
    });
    this.#byReference.set(name, id);
    return id;
  }

  async removeImage(reference: string): Promise<void> {
    const id = this.#images.has(reference) ? reference : this.#byReference.get(normalize(reference));
    if (id === undefined) return;
    this.#images.delete(id);
    for (const [name, image] of this.#byReference) if (image === id) this.#byReference.delete(name);
  }

  async imageFsInfo(): Promise<FilesystemUsage[]> {
    return [{ mountpoint: '/simulated', usedBytes: this.#images.size * SIZE, inodesUsed: this.#images.size }];
  }
}
