// The documents by which others learn to verify this cluster's service account tokens (OpenID Connect Discovery 1.0):
// /.well-known/openid-configuration and /openid/v1/jwks.

import type { PathHandler } from '../chain.ts';
import { jsonWebKeySet, type VerificationKey } from './jwt.ts';

const MAX_AGE = 'public, max-age=3600';

/** `jwksUri`: the absolute URL under which outsiders reach /openid/v1/jwks; known once the server listens. */
export function issuerDiscovery(options: {
  readonly issuer: string;
  readonly jwksUri: () => string;
  readonly keys: readonly VerificationKey[];
}): readonly PathHandler[] {
  const configuration = (): string =>
    JSON.stringify({
      issuer: options.issuer,
      jwks_uri: options.jwksUri(),
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: [...new Set(options.keys.map((key) => key.algorithm))],
    });
  const keySet = (): string => JSON.stringify(jsonWebKeySet(options.keys));
  const document = (path: string, contentType: string, body: () => string): PathHandler => ({
    paths: [path],
    handle: async () => ({
      status: 200,
      headers: { 'content-type': contentType, 'cache-control': MAX_AGE },
      body: body(),
    }),
  });
  return [
    document('/.well-known/openid-configuration', 'application/json', configuration),
    document('/openid/v1/jwks', 'application/jwk-set+json', keySet),
  ];
}
