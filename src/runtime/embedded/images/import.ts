// Images from files: an OCI layout and what `docker save` writes (each as a directory or a tar archive), and root
// file systems. Archives are first unpacked, by the same careful hands as layers, into a directory of their own.

import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, mkdtemp, readFile, realpath, rm, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { RuntimeError } from '../../cri.ts';
import { digestOf } from './content-store.ts';
import type { OciImageConfig } from './image-source.ts';
import type { ImageContent, ImageStore } from './image-store.ts';
import { type Descriptor, MAX_CONFIG_BYTES, parseConfiguration } from './manifest.ts';
import { formatReference, parseReference } from './reference.ts';
import { MAX_MANIFEST_BYTES } from './registry.ts';
import { unpackLayer } from './unpack.ts';

export interface ImportOptions {
  /** Names for images that bring none, or instead of theirs when there is just one. */
  readonly name?: string;
  /** A directory on the store's disk for unpacking archives. */
  readonly workDirectory: string;
  readonly layerProgram: string;
  readonly signal?: AbortSignal;
}

export interface Imported {
  readonly id: string;
  readonly tags: readonly string[];
}

function refuse(path: string, why: string): RuntimeError {
  return new RuntimeError('InvalidArgument', `cannot import ${path}: ${why}`);
}

/** Imports an OCI layout or a docker archive; which of them it is shows in what it holds. */
export async function importImages(
  store: ImageStore,
  path: string,
  options: ImportOptions,
): Promise<Imported[]> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw refuse(path, 'there is no such file or directory');
  if (found.isDirectory()) return importDirectory(store, path, path, options);
  await mkdir(options.workDirectory, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(options.workDirectory, 'import-'));
  try {
    await unpackLayer({
      program: options.layerProgram,
      archive: path,
      directory,
      ...(options.signal ? { signal: options.signal } : {}),
    }).catch((error: Error) => {
      throw refuse(path, error.message);
    });
    return await importDirectory(store, directory, path, options);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function importDirectory(
  store: ImageStore,
  root: string,
  shown: string,
  options: ImportOptions,
): Promise<Imported[]> {
  const has = (name: string): Promise<boolean> =>
    lstat(join(root, name)).then(
      () => true,
      () => false,
    );
  if (await has('oci-layout')) return importOciLayout(store, root, shown, options);
  if (await has('manifest.json')) return importDockerArchive(store, root, shown, options);
  throw refuse(
    shown,
    'it holds neither an OCI layout (oci-layout, index.json) nor a docker archive (manifest.json). ' +
      'For a root file system use: bulkhead image import --rootfs --name NAME PATH',
  );
}

/** A file of the archive; symbolic links are followed only while they stay inside it. */
async function inside(root: string, name: string, shown: string): Promise<string> {
  const base = await realpath(root);
  const path = await realpath(join(base, name)).catch(() => {
    throw refuse(shown, `it lacks ${name.slice(0, 200)}`);
  });
  if (path !== base && !path.startsWith(base + sep))
    throw refuse(shown, `${name.slice(0, 200)} leads out of it`);
  return path;
}

async function readJson(root: string, name: string, shown: string): Promise<unknown> {
  const path = await inside(root, name, shown);
  if ((await stat(path)).size > MAX_MANIFEST_BYTES) throw refuse(shown, `${name} is too large`);
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    throw refuse(shown, `${name} is not JSON`);
  }
}

// ---- OCI layout

async function importOciLayout(
  store: ImageStore,
  root: string,
  shown: string,
  options: ImportOptions,
): Promise<Imported[]> {
  const index = (await readJson(root, 'index.json', shown)) as { manifests?: Descriptor[] };
  const manifests = index.manifests;
  if (!Array.isArray(manifests) || manifests.length === 0)
    throw refuse(shown, 'its index.json names no image');
  const content: ImageContent = {
    fetch: async ({ digest }, offset) => {
      const path = await inside(root, join('blobs', ...digest.split(':')), shown);
      return { stream: createReadStream(path, { start: offset, highWaterMark: 256 * 1024 }), offset };
    },
  };
  const imported: Imported[] = [];
  for (const descriptor of manifests) {
    if (typeof descriptor?.digest !== 'string' || typeof descriptor.size !== 'number') {
      throw refuse(shown, 'its index.json holds something that is no descriptor');
    }
    const annotation =
      descriptor.annotations?.['io.containerd.image.name'] ??
      descriptor.annotations?.['org.opencontainers.image.ref.name'];
    const name = manifests.length === 1 ? (options.name ?? annotation) : annotation;
    const tag =
      name === undefined ? undefined : formatReference(parseReference(fullName(name, options.name)));
    const id = await store.addImage(
      descriptor,
      content,
      {
        tags: tag === undefined ? [] : [tag],
        digests: tag === undefined ? [`${shownName(shown)}@${descriptor.digest}`] : [],
      },
      options.signal ? { signal: options.signal } : {},
    );
    imported.push({ id, tags: tag === undefined ? [] : [tag] });
  }
  return imported;
}

/** The annotation may hold a tag only (`latest`); then the name that the user gave, if any, says of what. */
function fullName(annotation: string, given: string | undefined): string {
  if (annotation === given || /[/:]/.test(annotation)) return annotation;
  return given === undefined ? annotation : `${given}:${annotation}`;
}

/** An image without any name is kept under where it came from, so that it can be listed and removed. */
function shownName(path: string): string {
  const name = path
    .split(sep)
    .at(-1)
    ?.toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return `localhost/imported/${name || 'image'}`;
}

// ---- docker archive

interface DockerManifest {
  readonly Config?: unknown;
  readonly RepoTags?: unknown;
  readonly Layers?: unknown;
}

async function importDockerArchive(
  store: ImageStore,
  root: string,
  shown: string,
  options: ImportOptions,
): Promise<Imported[]> {
  const manifests = (await readJson(root, 'manifest.json', shown)) as readonly DockerManifest[];
  if (!Array.isArray(manifests) || manifests.length === 0)
    throw refuse(shown, 'its manifest.json names no image');
  const imported: Imported[] = [];
  for (const { Config, RepoTags, Layers } of manifests) {
    if (typeof Config !== 'string' || !Array.isArray(Layers) || !Layers.every((l) => typeof l === 'string')) {
      throw refuse(shown, 'its manifest.json is malformed');
    }
    const configPath = await inside(root, Config, shown);
    if ((await stat(configPath)).size > MAX_CONFIG_BYTES) throw refuse(shown, `${Config} is too large`);
    const bytes = await readFile(configPath);
    const configuration = parseConfiguration(bytes);
    if (configuration.diffIds.length !== Layers.length) {
      throw refuse(
        shown,
        `its configuration names ${configuration.diffIds.length} layers, its manifest.json ${Layers.length}`,
      );
    }
    const own = Array.isArray(RepoTags) ? RepoTags.filter((tag) => typeof tag === 'string') : [];
    const names = options.name !== undefined && manifests.length === 1 ? [options.name] : own;
    const tags = names.map((name) => formatReference(parseReference(name)));
    const id = digestOf(bytes);
    await store.whileIncoming(async () => {
      for (const [i, layer] of (Layers as string[]).entries()) {
        const path = await inside(root, layer, shown);
        await store.unpack(path, configuration.diffIds[i]!, options.signal);
      }
      await store.content.write(id, bytes);
      await store.register(
        id,
        configuration,
        { tags, digests: tags.length > 0 ? [] : [`${shownName(shown)}@${id}`] },
        [],
      );
    });
    imported.push({ id, tags });
  }
  return imported;
}

// ---- root file systems

/** Makes a one-layer image of a directory or a tar archive. */
export async function importRootfs(
  store: ImageStore,
  path: string,
  options: ImportOptions & { readonly name: string; readonly config: OciImageConfig },
): Promise<Imported> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw refuse(path, 'there is no such file or directory');
  const tag = formatReference(parseReference(options.name));
  return store.whileIncoming(async () => {
    const archive = found.isDirectory() ? tarOf(path) : path;
    const { diffId } = await store.unpack(archive, undefined, options.signal).catch((error: Error) => {
      throw refuse(path, error.message);
    });
    return { id: await store.addConfiguration(options.config, [diffId], tag), tags: [tag] };
  });
}

/** The directory as an archive, by the system's tar, which knows all that a file can have. */
async function* tarOf(directory: string): AsyncIterable<Uint8Array> {
  const args = [
    '--create',
    '--directory',
    directory,
    '--numeric-owner',
    '--sort=name',
    '--format=pax',
    '--xattrs',
    '--xattrs-include=security.capability',
    '.',
  ];
  const tar = spawn('tar', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  tar.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(0, 4096);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.on('error', reject);
    tar.on('close', resolve);
  });
  ended.catch(() => {});
  try {
    yield* tar.stdout as AsyncIterable<Uint8Array>;
    if ((await ended) !== 0) throw new Error(`tar failed: ${complaints.trim()}`);
  } finally {
    tar.kill();
  }
}
