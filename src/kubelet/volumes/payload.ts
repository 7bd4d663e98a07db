// The files that ConfigMaps, Secrets, the downward API, tokens and projections of them put into a volume: which path,
// which bytes, which mode. Missing objects and keys are errors that name them, unless the volume says optional.

import type {
  ConfigMap,
  DownwardAPIVolumeFile,
  KeyToPath,
  Pod,
  ProjectedVolumeSource,
  Secret,
  Volume,
} from '../../api/types/core-v1.ts';
import { fieldValue, resourceValue } from '../downward.ts';
import type { References } from '../references.ts';
import type { ResourceList } from '../resources.ts';

export interface PayloadFile {
  readonly data: Uint8Array;
  readonly mode: number;
  /** Owner of the file when the pod's containers all run as one user. */
  readonly uid?: number;
}

/** By path relative to the volume. */
export type Payload = Map<string, PayloadFile>;

export interface TokenSource {
  token(pod: Pod, audience: string, expirationSeconds: number, signal: AbortSignal): Promise<string>;
}

export interface PayloadSources {
  readonly references: Pick<References, 'configMap' | 'secret'>;
  /** Absent where nothing is written: tokens are then not asked for. */
  readonly tokens: TokenSource | undefined;
  readonly allocatable: ResourceList;
}

const DEFAULT_MODE = 0o644;
const DEFAULT_TOKEN_SECONDS = 3600;

/** A volume that cannot be made as it is asked for; the pod waits, and an event says why. */
export class VolumeError extends Error {
  override readonly name = 'VolumeError';
}

/** Paths must stay inside the volume and out of the way of its own links. */
export function checkPath(path: string): void {
  const parts = path.split('/');
  if (
    path === '' ||
    path.startsWith('/') ||
    parts.includes('..') ||
    parts.includes('') ||
    parts[0]!.startsWith('..')
  )
    throw new VolumeError(
      `invalid path ${JSON.stringify(path)} in a volume: it must be relative, without '..'`,
    );
}

function pick(
  values: ReadonlyMap<string, Uint8Array>,
  items: readonly KeyToPath[] | undefined,
  defaultMode: number,
  optional: boolean,
): Payload {
  const payload: Payload = new Map();
  if (!items || items.length === 0) {
    for (const [key, data] of values) payload.set(key, { data, mode: defaultMode });
    return payload;
  }
  for (const { key, path, mode } of items) {
    const data = values.get(key);
    if (data) payload.set(path, { data, mode: mode ?? defaultMode });
    else if (!optional) throw new VolumeError(`references non-existent config key: ${key}`);
  }
  return payload;
}

function configMapValues(map: ConfigMap | undefined): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  for (const [key, text] of Object.entries(map?.data ?? {})) values.set(key, Buffer.from(text));
  for (const [key, text] of Object.entries(map?.binaryData ?? {}))
    values.set(key, Buffer.from(text, 'base64'));
  return values;
}

function secretValues(secret: Secret | undefined): Map<string, Uint8Array> {
  return new Map(Object.entries(secret?.data ?? {}).map(([key, text]) => [key, Buffer.from(text, 'base64')]));
}

interface Reference {
  readonly name: string;
  readonly items: readonly KeyToPath[] | undefined;
  readonly optional: boolean;
}

async function fromConfigMap(
  pod: Pod,
  { name, items, optional }: Reference,
  mode: number,
  sources: PayloadSources,
  signal: AbortSignal,
): Promise<Payload> {
  const map = await sources.references.configMap(pod.metadata.namespace ?? '', name, signal);
  if (!map && !optional) throw new VolumeError(`configmap "${name}" not found`);
  return pick(configMapValues(map), items, mode, optional);
}

async function fromSecret(
  pod: Pod,
  { name, items, optional }: Reference,
  mode: number,
  sources: PayloadSources,
  signal: AbortSignal,
): Promise<Payload> {
  const secret = await sources.references.secret(pod.metadata.namespace ?? '', name, signal);
  if (!secret && !optional) throw new VolumeError(`secret "${name}" not found`);
  return pick(secretValues(secret), items, mode, optional);
}

function fromDownward(
  pod: Pod,
  items: readonly DownwardAPIVolumeFile[],
  defaultMode: number,
  allocatable: ResourceList,
): Payload {
  const payload: Payload = new Map();
  for (const { path, fieldRef, resourceFieldRef, mode } of items) {
    const text = fieldRef
      ? fieldValue(pod, fieldRef, { podIPs: [], hostIPs: [] })
      : resourceFieldRef
        ? resourceValue(pod, resourceFieldRef, resourceFieldRef.containerName ?? '', allocatable)
        : undefined;
    if (text !== undefined) payload.set(path, { data: Buffer.from(text), mode: mode ?? defaultMode });
  }
  return payload;
}

/** The one user that all of the pod's containers run as, if there is one: tokens then belong to it. */
export function commonUser(pod: Pod): number | undefined {
  const shared = pod.spec.securityContext?.runAsUser;
  const all = [
    ...(pod.spec.initContainers ?? []),
    ...pod.spec.containers,
    ...(pod.spec.ephemeralContainers ?? []),
  ];
  const users = new Set(all.map((container) => container.securityContext?.runAsUser ?? shared));
  return users.size === 1 ? [...users][0] : undefined;
}

async function fromProjected(
  pod: Pod,
  source: ProjectedVolumeSource,
  sources: PayloadSources,
  signal: AbortSignal,
): Promise<Payload> {
  const mode = source.defaultMode ?? DEFAULT_MODE;
  const payload: Payload = new Map();
  const problems: string[] = [];
  for (const part of source.sources ?? []) {
    try {
      for (const [path, file] of await fromProjection(pod, part, mode, sources, signal))
        payload.set(path, file);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      problems.push(error.message);
    }
  }
  if (problems.length === 1) throw new VolumeError(problems[0]);
  if (problems.length > 1) throw new VolumeError(`[${problems.join(', ')}]`);
  return payload;
}

async function fromProjection(
  pod: Pod,
  part: NonNullable<ProjectedVolumeSource['sources']>[number],
  mode: number,
  sources: PayloadSources,
  signal: AbortSignal,
): Promise<Payload> {
  const { configMap, secret, downwardAPI, serviceAccountToken } = part;
  if (configMap)
    return fromConfigMap(
      pod,
      { name: configMap.name ?? '', items: configMap.items, optional: configMap.optional === true },
      mode,
      sources,
      signal,
    );
  if (secret)
    return fromSecret(
      pod,
      { name: secret.name ?? '', items: secret.items, optional: secret.optional === true },
      mode,
      sources,
      signal,
    );
  if (downwardAPI) return fromDownward(pod, downwardAPI.items ?? [], mode, sources.allocatable);
  if (serviceAccountToken) {
    const { audience = '', expirationSeconds = DEFAULT_TOKEN_SECONDS, path } = serviceAccountToken;
    if (!sources.tokens) return new Map();
    const token = await sources.tokens.token(pod, audience, expirationSeconds, signal);
    const uid = commonUser(pod);
    const restricted = uid !== undefined || pod.spec.securityContext?.fsGroup !== undefined;
    return new Map([
      [
        path,
        { data: Buffer.from(token), mode: restricted ? 0o600 : mode, ...(uid !== undefined && { uid }) },
      ],
    ]);
  }
  if (part.clusterTrustBundle)
    throw new VolumeError('clusterTrustBundle projections are not supported by this node agent');
  if (part.podCertificate)
    throw new VolumeError('podCertificate projections are not supported by this node agent');
  return new Map();
}

/** Undefined for volumes that are not made of files from the API. */
export async function volumePayload(
  pod: Pod,
  volume: Volume,
  sources: PayloadSources,
  signal: AbortSignal,
): Promise<Payload | undefined> {
  const { configMap, secret, downwardAPI, projected } = volume;
  let payload: Payload;
  if (configMap) {
    const { name = '', items, optional = false, defaultMode = DEFAULT_MODE } = configMap;
    payload = await fromConfigMap(pod, { name, items, optional }, defaultMode, sources, signal);
  } else if (secret) {
    const { secretName = '', items, optional = false, defaultMode = DEFAULT_MODE } = secret;
    payload = await fromSecret(pod, { name: secretName, items, optional }, defaultMode, sources, signal);
  } else if (downwardAPI) {
    payload = fromDownward(
      pod,
      downwardAPI.items ?? [],
      downwardAPI.defaultMode ?? DEFAULT_MODE,
      sources.allocatable,
    );
  } else if (projected) {
    payload = await fromProjected(pod, projected, sources, signal);
  } else return undefined;
  for (const path of payload.keys()) checkPath(path);
  return payload;
}
