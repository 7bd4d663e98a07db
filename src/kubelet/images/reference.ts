// Image references: the distribution reference grammar, and how short names are completed (docker.io, library, latest).

export interface ImageReference {
  /** `docker.io`, `registry.example.com:5000` */
  readonly domain: string;
  /** `library/nginx` */
  readonly path: string;
  readonly tag: string | undefined;
  /** `sha256:…` */
  readonly digest: string | undefined;
}

const DOMAIN_PART = /^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$/;
const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const PATH_LIMIT = 255;

function isDomain(text: string): boolean {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+))(?::\d+)?$/.exec(text);
  if (!match) return false;
  return match[1] !== undefined || match[2]!.split('.').every((part) => DOMAIN_PART.test(part));
}

/** Undefined when the text is no valid reference. */
export function parseReference(text: string): ImageReference | undefined {
  if (/^[0-9a-f]{64}$/.test(text)) return undefined;
  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    if (!DIGEST.test(digest)) return undefined;
    rest = rest.slice(0, at);
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(':');
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1);
    if (!TAG.test(tag)) return undefined;
    rest = rest.slice(0, colon);
  }
  const slash = rest.indexOf('/');
  const first = slash < 0 ? '' : rest.slice(0, slash);
  const named = /[.:[]/.test(first) || first === 'localhost' || first.toLowerCase() !== first;
  let domain = named ? first : 'docker.io';
  let path = named ? rest.slice(slash + 1) : rest;
  if (domain === 'index.docker.io') domain = 'docker.io';
  if (domain === 'docker.io' && !path.includes('/')) path = `library/${path}`;
  if (!isDomain(domain) || path.length > PATH_LIMIT) return undefined;
  // Linear: each part is tested by itself.
  if (!path.split('/').every((part) => part.length > 0 && PATH_PART.test(part))) return undefined;
  return { domain, path, tag, digest };
}

/** What an absent imagePullPolicy means: pull what may move, keep what is pinned. */
export function defaultPullPolicy(image: string): 'Always' | 'IfNotPresent' {
  const reference = parseReference(image);
  if (!reference || reference.digest !== undefined) return 'IfNotPresent';
  return reference.tag === undefined || reference.tag === 'latest' ? 'Always' : 'IfNotPresent';
}
