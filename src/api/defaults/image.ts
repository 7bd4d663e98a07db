// Image references as far as defaulting needs them: which tag a reference names. The grammar is that of the
// distribution project's reference package.

const NAME =
  /^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const LONGEST_NAME = 255;

/** The tag of an image reference: `latest` when it names neither tag nor digest, '' when it has a digest only or is malformed. */
export function imageTag(reference: string): string {
  const at = reference.indexOf('@');
  const digest = at < 0 ? undefined : reference.slice(at + 1);
  if (digest !== undefined && !DIGEST.test(digest)) return '';
  const rest = at < 0 ? reference : reference.slice(0, at);
  const colon = rest.lastIndexOf(':');
  // A colon before the last slash belongs to the registry's port.
  const tagged = colon > rest.lastIndexOf('/');
  const name = tagged ? rest.slice(0, colon) : rest;
  if (name === '' || name.length > LONGEST_NAME || !NAME.test(name)) return '';
  if (!tagged) return digest === undefined ? 'latest' : '';
  const tag = rest.slice(colon + 1);
  return TAG.test(tag) ? tag : '';
}

/** The pull policy of a container or image volume that names none. */
export function imagePullPolicy(reference: string | undefined): 'Always' | 'IfNotPresent' {
  return imageTag(reference ?? '') === 'latest' ? 'Always' : 'IfNotPresent';
}
