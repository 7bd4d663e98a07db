// Which credentials a pull may use: the pod's imagePullSecrets (dockerconfigjson and dockercfg), matched against the
// image by host with wildcards, port and path, the most specific first (kubelet's pkg/credentialprovider/keyring.go).

import type { Secret } from '../../api/types/core-v1.ts';
import type { RegistryCredentials } from '../../runtime/cri.ts';
import { parseReference } from './reference.ts';

interface Entry {
  readonly hostParts: readonly string[];
  readonly port: string;
  readonly path: string;
  readonly credentials: RegistryCredentials;
}

interface AuthConfig {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function credentialsOf(config: AuthConfig): RegistryCredentials | undefined {
  let username = text(config.username);
  let password = text(config.password);
  const auth = text(config.auth);
  if (auth !== undefined && username === undefined) {
    const decoded = Buffer.from(auth, 'base64').toString('utf8');
    const colon = decoded.indexOf(':');
    if (colon < 0) return undefined;
    username = decoded.slice(0, colon);
    password = decoded.slice(colon + 1).replace(/\0+$/, '');
  }
  const identityToken = text(config.identitytoken);
  const registryToken = text(config.registrytoken);
  if (username === undefined && identityToken === undefined && registryToken === undefined) return undefined;
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(identityToken !== undefined && { identityToken }),
    ...(registryToken !== undefined && { registryToken }),
  };
}

/** `https://index.docker.io/v1/` → host index.docker.io, path '' (the registry API's own prefixes do not count). */
function parseKey(key: string): Omit<Entry, 'credentials'> | undefined {
  const withoutScheme = key.replace(/^https?:\/\//, '');
  const slash = withoutScheme.indexOf('/');
  const authority = slash < 0 ? withoutScheme : withoutScheme.slice(0, slash);
  let path = slash < 0 ? '' : withoutScheme.slice(slash + 1);
  path = path.replace(/^v[12](?:\/|$)/, '').replace(/\/+$/, '');
  const colon = authority.lastIndexOf(':');
  const port = colon < 0 ? '' : authority.slice(colon + 1);
  const host = colon < 0 ? authority : authority.slice(0, colon);
  if (host === '') return undefined;
  return { hostParts: host.split('.'), port, path };
}

/** One label of a host against a glob: `*` stands for any run of characters within it. */
function matchesLabel(pattern: string, label: string): boolean {
  const pieces = pattern.split('*');
  if (pieces.length === 1) return pattern === label;
  if (!label.startsWith(pieces[0]!)) return false;
  let at = pieces[0]!.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = label.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  const last = pieces.at(-1)!;
  return label.length - last.length >= at && label.endsWith(last);
}

function matches(entry: Entry, host: string, port: string, path: string): boolean {
  const parts = host.split('.');
  if (parts.length !== entry.hostParts.length || entry.port !== port) return false;
  if (!entry.hostParts.every((pattern, i) => matchesLabel(pattern, parts[i]!))) return false;
  return entry.path === '' || path === entry.path || path.startsWith(`${entry.path}/`);
}

export class Keyring {
  readonly #entries: Entry[] = [];

  /** Takes in the credentials of a pull secret; `problem` hears of what cannot be read. */
  add(secret: Secret, problem: (message: string) => void): void {
    const encoded =
      secret.type === 'kubernetes.io/dockerconfigjson'
        ? secret.data?.['.dockerconfigjson']
        : secret.type === 'kubernetes.io/dockercfg'
          ? secret.data?.['.dockercfg']
          : undefined;
    const name = `${secret.metadata.namespace}/${secret.metadata.name}`;
    if (encoded === undefined) {
      problem(`secret ${name} of type ${secret.type ?? 'Opaque'} is not a pull secret`);
      return;
    }
    let auths: unknown;
    try {
      const parsed: unknown = JSON.parse(Buffer.from(encoded, 'base64').toString('utf8'));
      auths = secret.type === 'kubernetes.io/dockercfg' ? parsed : (parsed as { auths?: unknown })?.auths;
    } catch {
      problem(`pull secret ${name} is not valid JSON`);
      return;
    }
    if (typeof auths !== 'object' || auths === null) return;
    for (const [key, config] of Object.entries(auths)) {
      const place = parseKey(key);
      const credentials = typeof config === 'object' && config !== null ? credentialsOf(config) : undefined;
      if (place && credentials) this.#entries.push({ ...place, credentials });
    }
  }

  /** What to try for an image, best first; empty: anonymous only. */
  lookup(image: string): RegistryCredentials[] {
    const reference = parseReference(image);
    if (!reference) return [];
    const authority = reference.domain === 'docker.io' ? 'index.docker.io' : reference.domain;
    const colon = authority.lastIndexOf(':');
    const host = colon < 0 ? authority : authority.slice(0, colon);
    const port = colon < 0 ? '' : authority.slice(colon + 1);
    const found = this.#entries.filter(
      (entry) =>
        matches(entry, host, port, reference.path) ||
        (reference.domain === 'docker.io' && matches(entry, 'docker.io', port, reference.path)),
    );
    return found.toSorted((a, b) => b.path.length - a.path.length).map(({ credentials }) => credentials);
  }
}
