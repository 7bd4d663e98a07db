// JSON Web Tokens (RFC 7515, 7519) as the API server needs them: compact form, signed with an EC or RSA key, verified
// against a set of keys by key id. Hostile tokens are the normal case: nothing is decoded before sizes are checked,
// the algorithm is the key's own and never the header's wish, and `none` and shared secrets do not exist here.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';

export type JwtAlgorithm = 'ES256' | 'ES384' | 'ES512' | 'RS256';

/** Longer tokens are refused unread; a token of ours has about 1 KiB. */
const LONGEST_TOKEN = 16 * 1024;

const CURVES: Readonly<Record<string, { readonly algorithm: JwtAlgorithm; readonly hash: string }>> = {
  prime256v1: { algorithm: 'ES256', hash: 'sha256' },
  secp384r1: { algorithm: 'ES384', hash: 'sha384' },
  secp521r1: { algorithm: 'ES512', hash: 'sha512' },
};

export interface VerificationKey {
  readonly keyId: string;
  readonly algorithm: JwtAlgorithm;
  readonly hash: string;
  readonly publicKey: KeyObject;
}

export interface SigningKey extends VerificationKey {
  readonly privateKey: KeyObject;
}

export class JwtError extends Error {
  override readonly name = 'JwtError';
}

/** The claims of a token whose signature holds. Times are not checked here. */
export type JwtClaims = Readonly<Record<string, unknown>>;

function describe(publicKey: KeyObject): Omit<VerificationKey, 'publicKey'> {
  const der = publicKey.export({ type: 'spki', format: 'der' });
  const keyId = createHash('sha256').update(der).digest('base64url');
  if (publicKey.asymmetricKeyType === 'rsa') {
    const bits = publicKey.asymmetricKeyDetails?.modulusLength ?? 0;
    if (bits < 2048)
      throw new JwtError(`an RSA key of ${bits} bits is too short to sign tokens with; 2048 are needed`);
    return { keyId, algorithm: 'RS256', hash: 'sha256' };
  }
  const curve = CURVES[publicKey.asymmetricKeyDetails?.namedCurve ?? ''];
  if (publicKey.asymmetricKeyType !== 'ec' || !curve)
    throw new JwtError('a token key must be RSA or an elliptic curve key on P-256, P-384 or P-521');
  return { keyId, ...curve };
}

/** A public or private key, or a certificate, in PEM. */
export function loadVerificationKey(pem: string): VerificationKey {
  const publicKey = createPublicKey(pem);
  return { publicKey, ...describe(publicKey) };
}

/** A private key in PEM. */
export function loadSigningKey(pem: string): SigningKey {
  const privateKey = createPrivateKey(pem);
  const publicKey = createPublicKey(privateKey);
  return { privateKey, publicKey, ...describe(publicKey) };
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

export function signToken(key: SigningKey, claims: JwtClaims): string {
  const signed = `${encode({ alg: key.algorithm, kid: key.keyId })}.${encode(claims)}`;
  const signature = sign(key.hash, Buffer.from(signed), { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

/** base64url without padding and without slack: one text for one value. */
const BASE64URL = /^[A-Za-z0-9_-]+$/;

function decodeObject(part: string, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
  } catch {
    throw new JwtError(`the token's ${what} is not JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new JwtError(`the token's ${what} is not an object`);
  return value as Record<string, unknown>;
}

interface TokenParts {
  readonly header: string;
  readonly claims: string;
  readonly signature: string;
}

function split(token: string): TokenParts | undefined {
  if (token.length > LONGEST_TOKEN) return undefined;
  const [header, claims, signature, ...rest] = token.split('.');
  if (rest.length > 0 || !header || !claims || !signature) return undefined;
  if (![header, claims, signature].every((part) => BASE64URL.test(part))) return undefined;
  return { header, claims, signature };
}

/** The `iss` of a token that was NOT verified, to find out whose it is; undefined when it is no JWT. */
export function unverifiedIssuer(token: string): string | undefined {
  const parts = split(token);
  if (!parts) return undefined;
  try {
    const { iss } = decodeObject(parts.claims, 'payload');
    return typeof iss === 'string' ? iss : undefined;
  } catch (error) {
    if (error instanceof JwtError) return undefined;
    throw error;
  }
}

/** The claims of a token that one of the keys signed; a JwtError otherwise. */
export function verifyToken(token: string, keys: readonly VerificationKey[]): JwtClaims {
  const parts = split(token);
  if (!parts) throw new JwtError('the token is not a signed JWT in compact form');
  const header = decodeObject(parts.header, 'header');
  if (header['crit'] !== undefined) throw new JwtError('the token demands extensions that are not known');
  const kid = header['kid'];
  if (kid !== undefined && typeof kid !== 'string') throw new JwtError("the token's key id is not a string");
  const candidates = kid === undefined ? keys : keys.filter((key) => key.keyId === kid);
  const signed = Buffer.from(`${parts.header}.${parts.claims}`);
  const signature = Buffer.from(parts.signature, 'base64url');
  for (const key of candidates) {
    if (header['alg'] !== key.algorithm) continue;
    if (verify(key.hash, signed, { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, signature))
      return decodeObject(parts.claims, 'payload');
  }
  throw new JwtError('failed to verify the signature of the token');
}

/** The key set document (RFC 7517) of the keys. */
export function jsonWebKeySet(keys: readonly VerificationKey[]): { readonly keys: readonly JsonWebKey[] } {
  return {
    keys: keys.map((key) => ({
      use: 'sig',
      kid: key.keyId,
      alg: key.algorithm,
      ...key.publicKey.export({ format: 'jwk' }),
    })),
  };
}
