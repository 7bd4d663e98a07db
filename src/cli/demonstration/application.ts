// The demonstration's application: the manifests in examples/primes, as they are there, applied and rolled from one
// version of its front to the other.

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { type Draft, isAlreadyExists, isNotFound, type KubeObject } from '../../api/index.ts';
import type { Deployment } from '../../api/types/apps-v1.ts';
import type { Volume } from '../../api/types/core-v1.ts';
import { type Client, type ResourceType, resources } from '../../client/index.ts';
import { CommandError } from '../command.ts';

export const NAMESPACE = 'demo';
/** In the order in which they depend on one another. */
export const DEPLOYMENTS = ['cache', 'worker', 'web'] as const;
export const DIRECTORY = 'examples/primes';
export type Version = '1' | '2';

/** What kubectl apply compares with: a later one by hand then knows which fields came from a file. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

type Manifest = Omit<Draft<KubeObject>, 'status'>;

/** What version/N.yaml changes in the front's Deployment. */
interface VersionPatch {
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: { readonly volumes: readonly Volume[] };
    };
  };
}

/** Beside the bundle, or above the sources. */
export function applicationDirectory(): string {
  for (let directory = import.meta.dirname; ; directory = dirname(directory)) {
    const candidate = join(directory, DIRECTORY);
    if (existsSync(candidate)) return candidate;
    if (directory === dirname(directory))
      throw new CommandError(`${DIRECTORY} is missing; it comes with the sources`);
  }
}

/** The manifests in the order of the files' names, as kubectl takes a directory. */
export async function readManifests(directory: string): Promise<Manifest[]> {
  const files = (await readdir(directory)).filter((name) => name.endsWith('.yaml')).sort();
  const texts = await Promise.all(files.map((name) => readFile(join(directory, name), 'utf8')));
  return texts.flatMap((text, i) =>
    parseAllDocuments(text).map((document) => {
      const [error] = document.errors;
      if (error) throw new CommandError(`${DIRECTORY}/${files[i]}: ${error.message}`);
      return document.toJS() as Manifest;
    }),
  );
}

async function readVersion(directory: string, version: Version): Promise<VersionPatch> {
  return parse(await readFile(join(directory, 'version', `${version}.yaml`), 'utf8')) as VersionPatch;
}

/** The version that the front is at, or undefined when there is no front yet. */
export async function versionOfFront(client: Client): Promise<Version | undefined> {
  try {
    const { spec } = await client.resource(resources.deployments, NAMESPACE).get('web');
    return spec.template.metadata?.labels?.['version'] === '2' ? '2' : '1';
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * Creates what is not there and brings the rest to what the files say, but for the front's version, which stays what
 * it is. Resolves with the applied objects' names by kind.
 */
export async function applyApplication(client: Client): Promise<Map<string, string[]>> {
  const directory = applicationDirectory();
  const version = await versionOfFront(client);
  const applied = new Map<string, string[]>();
  for (const manifest of await readManifests(directory)) {
    const kind = manifest.kind ?? '';
    const name = manifest.metadata.name ?? '';
    const annotation = { [LAST_APPLIED]: lastApplied(manifest) };
    const wanted: Manifest =
      version !== undefined && kind === 'Deployment' && name === 'web'
        ? atVersion(manifest as Draft<Deployment>, await readVersion(directory, version))
        : manifest;
    await apply(client, {
      ...wanted,
      metadata: { ...wanted.metadata, annotations: { ...wanted.metadata.annotations, ...annotation } },
    });
    applied.set(kind, [...(applied.get(kind) ?? []), name]);
  }
  return applied;
}

/** As kubectl writes it, byte by byte, so that it finds nothing to change: keys in order, HTML's characters escaped. */
function lastApplied(manifest: Manifest): string {
  const { metadata } = manifest;
  const whole = { ...manifest, metadata: { ...metadata, annotations: metadata.annotations ?? {} } };
  const inOrder = (_key: string, value: unknown): unknown =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  const text = JSON.stringify(whole, inOrder).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `${text}\n`;
}

/** What a strategic merge of the patch into the manifest gives: labels by their keys, volumes by their names. */
function atVersion(front: Draft<Deployment>, { spec: { template } }: VersionPatch): Draft<Deployment> {
  const { spec } = front;
  const changed = new Map(template.spec.volumes.map((volume) => [volume.name, volume]));
  const labels = { ...spec.template.metadata?.labels, ...template.metadata.labels };
  const volumes = spec.template.spec?.volumes?.map((volume) => changed.get(volume.name) ?? volume);
  return {
    ...front,
    spec: {
      ...spec,
      template: {
        ...spec.template,
        metadata: { ...spec.template.metadata, labels },
        spec: { ...spec.template.spec!, volumes },
      },
    },
  };
}

/** As `kubectl patch --patch-file` does with the version's file. */
export async function rollTo(client: Client, version: Version): Promise<void> {
  const patch = await readVersion(applicationDirectory(), version);
  await client.resource(resources.deployments, NAMESPACE).patch('web', { type: 'strategic', patch });
}

async function apply(client: Client, manifest: Manifest): Promise<void> {
  const { apiVersion, kind, metadata } = manifest;
  const type = Object.values<ResourceType>(resources).find(
    (one) => one.kind === kind && apiVersion === (one.group ? `${one.group}/${one.version}` : one.version),
  );
  if (type === undefined) throw new CommandError(`${DIRECTORY}: there is no kind ${kind} in ${apiVersion}`);
  const collection = client.resource(type, metadata.namespace);
  try {
    await collection.create(manifest);
  } catch (error) {
    if (!isAlreadyExists(error)) throw refused(error);
    await collection.patch(metadata.name!, { type: 'strategic', patch: manifest }).catch((reason) => {
      throw refused(reason);
    });
  }

  function refused(error: unknown): Error {
    return new CommandError(`${kind} ${metadata.name} could not be applied: ${(error as Error).message}`);
  }
}
