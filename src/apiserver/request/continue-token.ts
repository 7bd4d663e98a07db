// The token with which a client asks for the next page of a list: base64url of
// `{"v":"meta.k8s.io/v1","rv":<revision>,"start":"<key after the last one, without the resource's prefix>"}`.

import { badRequest } from '../../api/index.ts';

export interface ContinueToken {
  /** The revision of the first page; -1: whatever is newest (after the old one was compacted away). */
  readonly revision: number;
  /** Where the next page begins, relative to the resource's key prefix. */
  readonly start: string;
}

export function encodeContinue({ revision, start }: ContinueToken): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: revision, start })).toString('base64url');
}

export function decodeContinue(text: string): ContinueToken {
  let token: { v?: unknown; rv?: unknown; start?: unknown };
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw invalidToken('illegal base64 data');
  try {
    token = JSON.parse(Buffer.from(text, 'base64url').toString()) as typeof token;
  } catch {
    throw invalidToken('it holds no JSON');
  }
  if (typeof token !== 'object' || token === null || token.v !== 'meta.k8s.io/v1')
    throw badRequest('continue key is not valid: server does not recognize this encoded version');
  const { rv, start } = token;
  if (typeof rv !== 'number' || !Number.isSafeInteger(rv) || rv === 0 || rv < -1)
    throw badRequest(
      'continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)',
    );
  if (typeof start !== 'string' || start === '')
    throw badRequest('continue key is not valid: encoded start key empty (version meta.k8s.io/v1)');
  // A token must not lead out of its own resource.
  const segments = start.split('/');
  if (start.startsWith('/') || segments.includes('..') || segments.includes('.'))
    throw badRequest(`continue key is not valid: ${start}`);
  return { revision: rv, start };
}

function invalidToken(why: string): Error {
  return badRequest(`continue key is not valid: ${why}`);
}
