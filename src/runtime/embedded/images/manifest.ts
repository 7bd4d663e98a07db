// Image manifests, indexes and configurations (image-spec; Docker schema 2), read with distrust: every field that is
// used is checked, and what cannot be used is refused with its name.

import { RuntimeError } from '../../cri.ts';
import type { OciImageConfig } from './image-source.ts';
import { isDigest } from './reference.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface ImageManifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface ImageConfiguration {
  readonly config: OciImageConfig;
  /** The digests of the uncompressed layers, the lowest first. */
  readonly diffIds: readonly string[];
  readonly platform: Platform;
}

/** More layers than overlayfs can stack are of no use. */
const MAX_LAYERS = 500;
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024;

function refuse(what: string): RuntimeError {
  return new RuntimeError('InvalidArgument', `the image is refused: ${what}`);
}

function parseObject(bytes: Uint8Array, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw refuse(`${what} is not JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse(`${what} is not a JSON object`);
  return value as Record<string, unknown>;
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse(`${what} is missing or of a wrong type`);
  return value as Record<string, unknown>;
}

function descriptor(value: unknown, what: string): Descriptor {
  const { mediaType, digest, size, platform, annotations } = object(value, what);
  if (typeof digest !== 'string' || !isDigest(digest)) throw refuse(`${what} has no valid digest`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    throw refuse(`${what} has no valid size`);
  const p = platform as Partial<Platform> | undefined | null;
  return {
    mediaType: typeof mediaType === 'string' ? mediaType : '',
    digest,
    size,
    ...(p && typeof p.os === 'string' && typeof p.architecture === 'string'
      ? {
          platform: {
            os: p.os,
            architecture: p.architecture,
            ...(typeof p.variant === 'string' ? { variant: p.variant } : {}),
          },
        }
      : {}),
    ...(typeof annotations === 'object' && annotations !== null
      ? { annotations: annotations as Record<string, string> }
      : {}),
  };
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw refuse(`${what} is missing or not a list`);
  return value;
}

/** A manifest, or an index whose descriptors point to manifests. */
export function parseManifest(
  bytes: Uint8Array,
): { readonly manifest: ImageManifest } | { readonly index: Descriptor[] } {
  const value = parseObject(bytes, 'its manifest');
  if (value['schemaVersion'] !== 2) {
    throw refuse(
      value['schemaVersion'] === 1
        ? 'it has a Docker schema 1 manifest, which registries no longer accept; push it again with a current client'
        : 'its manifest has no schemaVersion 2',
    );
  }
  // Both forms in one document could mean one thing to us and another to whoever verified it.
  if (value['manifests'] !== undefined && value['layers'] !== undefined)
    throw refuse('its manifest is ambiguous');
  if (value['manifests'] !== undefined) {
    return { index: list(value['manifests'], 'its index').map((d, i) => descriptor(d, `manifests[${i}]`)) };
  }
  const layers = list(value['layers'], 'layers').map((d, i) => descriptor(d, `layers[${i}]`));
  if (layers.length > MAX_LAYERS)
    throw refuse(`it has ${layers.length} layers, more than the ${MAX_LAYERS} that can be stacked`);
  return { manifest: { config: descriptor(value['config'], 'config'), layers } };
}

export function hostPlatform(): Platform {
  const architectures: Readonly<Record<string, string>> = {
    x64: 'amd64',
    arm64: 'arm64',
    ia32: '386',
    arm: 'arm',
  };
  return { os: 'linux', architecture: architectures[process.arch] ?? process.arch };
}

/** The manifest of an index that fits this machine; one without a platform is taken when it is the only one. */
export function choosePlatform(index: readonly Descriptor[], wanted: Platform): Descriptor {
  const fitting = index.filter(
    (d) => d.platform?.os === wanted.os && d.platform.architecture === wanted.architecture,
  );
  // v8 is what every arm64 has; v1 what every amd64 has.
  const plain = fitting.find(
    (d) => !d.platform?.variant || d.platform.variant === 'v8' || d.platform.variant === 'v1',
  );
  const chosen = plain ?? fitting[0] ?? (index.length === 1 && !index[0]!.platform ? index[0] : undefined);
  if (chosen) return chosen;
  const there = index.flatMap((d) => (d.platform ? [`${d.platform.os}/${d.platform.architecture}`] : []));
  throw new RuntimeError(
    'NotFound',
    `no match for platform in manifest: the image is for ${[...new Set(there)].join(', ') || 'no platform'}, not for ${wanted.os}/${wanted.architecture}`,
  );
}

function strings(value: unknown, what: string): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  const all = list(value, what);
  if (!all.every((one) => typeof one === 'string')) throw refuse(`${what} holds something else than text`);
  return all as string[];
}

function text(value: unknown, what: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw refuse(`${what} is not text`);
  return value;
}

function emptyObjects(value: unknown, what: string): Record<string, Record<string, never>> | undefined {
  if (value === undefined || value === null) return undefined;
  return Object.fromEntries(Object.keys(object(value, what)).map((key) => [key, {}]));
}

function textMap(value: unknown, what: string): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  return Object.fromEntries(
    Object.entries(object(value, what)).map(([key, one]) => [key, text(one, what) ?? '']),
  );
}

export function parseConfiguration(bytes: Uint8Array): ImageConfiguration {
  const value = parseObject(bytes, 'its configuration');
  const rootfs = object(value['rootfs'], 'rootfs');
  const diffIds = strings(rootfs['diff_ids'], 'rootfs.diff_ids') ?? [];
  for (const diffId of diffIds)
    if (!isDigest(diffId)) throw refuse('rootfs.diff_ids holds something that is no digest');
  const c =
    value['config'] === undefined || value['config'] === null ? {} : object(value['config'], 'config');
  const present = <T>(key: string, one: T | undefined): Record<string, T> =>
    one === undefined ? {} : { [key]: one };
  return {
    diffIds,
    platform: {
      os: text(value['os'], 'os') ?? '',
      architecture: text(value['architecture'], 'architecture') ?? '',
    },
    config: {
      ...present('User', text(c['User'], 'config.User')),
      ...present('Env', strings(c['Env'], 'config.Env')),
      ...present('Entrypoint', strings(c['Entrypoint'], 'config.Entrypoint')),
      ...present('Cmd', strings(c['Cmd'], 'config.Cmd')),
      ...present('WorkingDir', text(c['WorkingDir'], 'config.WorkingDir')),
      ...present('StopSignal', text(c['StopSignal'], 'config.StopSignal')),
      ...present('Volumes', emptyObjects(c['Volumes'], 'config.Volumes')),
      ...present('ExposedPorts', emptyObjects(c['ExposedPorts'], 'config.ExposedPorts')),
      ...present('Labels', textMap(c['Labels'], 'config.Labels')),
    },
  };
}
