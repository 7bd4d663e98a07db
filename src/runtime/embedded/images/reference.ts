// Image references as users write them, and what they mean: the grammar of distribution/reference with docker.io's
// rules (`nginx` is docker.io/library/nginx:latest).

import { RuntimeError } from '../../cri.ts';

export interface ImageReference {
  /** Host and port of the registry: docker.io, localhost:5000. */
  readonly registry: string;
  /** The path below it: library/nginx. */
  readonly repository: string;
  readonly tag?: string;
  /** sha256:… or sha512:… */
  readonly digest?: string;
}

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const REGISTRY = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`);
/** Longer ones could not be told from an attack on whoever stores them. */
const MAX_LENGTH = 255 + 128 + 200;

export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

function invalid(text: string, why: string): RuntimeError {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return new RuntimeError('InvalidArgument', `couldn't parse image name "${shown}": ${why}`);
}

/**
 * Reads a reference; throws RuntimeError 'InvalidArgument' when it is none. A reference without tag and digest gets
 * the tag latest.
 */
export function parseReference(text: string): ImageReference {
  if (text.length === 0 || text.length > MAX_LENGTH) throw invalid(text, 'invalid reference format');
  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (!isDigest(digest))
      throw invalid(text, 'invalid digest; it must be sha256: or sha512: and lower-case hex');
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(':');
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!TAG.test(tag)) throw invalid(text, 'invalid tag');
  }
  const slash = rest.indexOf('/');
  const first = slash < 0 ? '' : rest.slice(0, slash);
  // The first part names a registry only when it could not be a path: docker's rule.
  const named = first === 'localhost' || /[.:[]/.test(first) || first.toLowerCase() !== first;
  let registry = named ? first : 'docker.io';
  let repository = named ? rest.slice(slash + 1) : rest;
  if (registry === 'index.docker.io' || registry === 'registry-1.docker.io') registry = 'docker.io';
  if (registry === 'docker.io' && !repository.includes('/')) repository = `library/${repository}`;
  if (!REGISTRY.test(registry)) throw invalid(text, 'invalid registry host');
  if (repository !== repository.toLowerCase()) throw invalid(text, 'repository name must be lowercase');
  if (!REPOSITORY.test(repository) || repository.length > 255)
    throw invalid(text, 'invalid reference format');
  if (tag === undefined && digest === undefined) tag = 'latest';
  return {
    registry,
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** registry/repository, in full. */
export function repositoryName(reference: ImageReference): string {
  return `${reference.registry}/${reference.repository}`;
}

/** The reference in full, as it is kept: docker.io/library/nginx:latest. */
export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${repositoryName(reference)}${tag}${digest}`;
}
