// Service account tokens: issued for the TokenRequest API and verified as bearer tokens (KEP-1205, bound tokens).
// A token holds as long as its signature and times do, its audience is wanted, and the service account, and the pod,
// secret or node it is bound to, still exist with the same uid. Tokens in Secrets of type
// kubernetes.io/service-account-token, which have no expiry, are accepted while the Secret is there.

import { randomUUID } from 'node:crypto';
import type { KubeObject } from '../../api/object.ts';
import type { Secret, ServiceAccount } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import type { ObjectReader, UserInfo } from '../chain.ts';
import {
  type JwtClaims,
  JwtError,
  type SigningKey,
  signToken,
  unverifiedIssuer,
  type VerificationKey,
  verifyToken,
} from './jwt.ts';
import { TokenCache } from './token-cache.ts';
import { type AuthenticatedToken, type TokenAuthenticator, TokenError } from './tokens.ts';

const LEGACY_ISSUER = 'kubernetes/serviceaccount';
const LEGACY = 'kubernetes.io/serviceaccount/';
/** Clocks of two machines differ; upstream's JWT library allows a minute too. */
const LEEWAY_MS = 60_000;

export interface ObjectIdentity {
  readonly name: string;
  readonly uid: string;
}

export interface ServiceAccountTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: ObjectIdentity;
  readonly audiences: readonly string[];
  readonly expirationSeconds: number;
  readonly pod?: ObjectIdentity;
  readonly secret?: ObjectIdentity;
  /** The node a bound pod runs on, or the node that the token itself is bound to. */
  readonly node?: { readonly name: string; readonly uid?: string };
}

export interface ServiceAccountTokenOptions {
  readonly issuer: string;
  readonly signingKey: SigningKey;
  /** Keys that are still accepted, beside the signing key (rotation). */
  readonly verificationKeys?: readonly VerificationKey[];
  /** For whom tokens without an audience (those in Secrets) are; the issuer when absent. */
  readonly apiAudiences?: readonly string[];
  readonly reader: ObjectReader;
  readonly clock: Clock;
}

export function serviceAccountUserName(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}

export function serviceAccountGroups(namespace: string): readonly string[] {
  return ['system:serviceaccounts', `system:serviceaccounts:${namespace}`];
}

/** Namespace and name of a service account's user name; undefined for any other user. */
export function parseServiceAccountUserName(user: string): { namespace: string; name: string } | undefined {
  const match = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user);
  return match ? { namespace: match[1]!, name: match[2]! } : undefined;
}

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function identity(value: unknown): ObjectIdentity | undefined {
  const { name, uid } = record(value);
  return typeof name === 'string' && name !== '' ? { name, uid: text(uid) } : undefined;
}

export class ServiceAccountTokens implements TokenAuthenticator {
  readonly issuer: string;
  readonly #signingKey: SigningKey;
  readonly #keys: readonly VerificationKey[];
  readonly #apiAudiences: readonly string[];
  readonly #reader: ObjectReader;
  readonly #clock: Clock;
  readonly #cache: TokenCache;

  constructor(options: ServiceAccountTokenOptions) {
    this.issuer = options.issuer;
    this.#signingKey = options.signingKey;
    this.#keys = [options.signingKey, ...(options.verificationKeys ?? [])];
    this.#apiAudiences = options.apiAudiences ?? [options.issuer];
    this.#reader = options.reader;
    this.#clock = options.clock;
    this.#cache = new TokenCache(options.clock, 4096, 300_000);
  }

  /** The public halves of all accepted keys, for the discovery documents. */
  get keys(): readonly VerificationKey[] {
    return this.#keys;
  }

  issue(request: ServiceAccountTokenRequest): { readonly token: string; readonly expiresAt: Date } {
    const now = Math.floor(this.#clock.now() / 1000);
    const exp = now + request.expirationSeconds;
    const { pod, secret, node } = request;
    const token = signToken(this.#signingKey, {
      aud: request.audiences,
      exp,
      iat: now,
      iss: this.issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace: request.namespace,
        ...(node && { node }),
        ...(pod && { pod }),
        ...(secret && { secret }),
        serviceaccount: request.serviceAccount,
      },
      nbf: now,
      sub: serviceAccountUserName(request.namespace, request.serviceAccount.name),
    });
    return { token, expiresAt: new Date(exp * 1000) };
  }

  async authenticateToken(
    token: string,
    audiences: readonly string[],
  ): Promise<AuthenticatedToken | undefined> {
    let claims = this.#cache.get(token);
    if (!claims) {
      const issuer = unverifiedIssuer(token);
      if (issuer !== this.issuer && issuer !== LEGACY_ISSUER) return undefined;
      try {
        claims = verifyToken(token, this.#keys);
      } catch (error) {
        if (error instanceof JwtError) throw new TokenError(error.message);
        throw error;
      }
      this.#cache.set(token, claims);
    }
    return claims['iss'] === LEGACY_ISSUER
      ? this.#checkLegacy(token, claims, audiences)
      : this.#checkBound(claims, audiences);
  }

  async #checkBound(claims: JwtClaims, wanted: readonly string[]): Promise<AuthenticatedToken> {
    this.#checkTimes(claims);
    const aud = claims['aud'];
    const held =
      typeof aud === 'string' ? [aud] : Array.isArray(aud) ? aud.filter((a) => typeof a === 'string') : [];
    const audiences = matchingAudiences(held, wanted);

    const own = record(claims['kubernetes.io']);
    const namespace = text(own['namespace']);
    const account = identity(own['serviceaccount']);
    if (!account || claims['sub'] !== serviceAccountUserName(namespace, account.name))
      throw new TokenError("the token's subject does not name its service account");
    await this.#mustLive('serviceaccounts', namespace, account, 'service account');

    const pod = identity(own['pod']);
    const secret = identity(own['secret']);
    const node = identity(own['node']);
    if (secret) await this.#mustLive('secrets', namespace, secret, 'secret');
    if (pod) await this.#mustLive('pods', namespace, pod, 'pod');
    // A pod's node stands in the token as information; only a token bound to the node itself dies with it.
    else if (node && !secret) await this.#mustLive('nodes', '', node, 'node');

    const extra: Record<string, string[]> = {};
    const put = (key: string, value: string): void => {
      if (value !== '') extra[`authentication.kubernetes.io/${key}`] = [value];
    };
    const jti = text(claims['jti']);
    put('credential-id', jti === '' ? '' : `JTI=${jti}`);
    put('node-name', node?.name ?? '');
    put('node-uid', node?.uid ?? '');
    put('pod-name', pod?.name ?? '');
    put('pod-uid', pod?.uid ?? '');
    return { user: accountUser(namespace, account, extra), audiences };
  }

  async #checkLegacy(
    token: string,
    claims: JwtClaims,
    wanted: readonly string[],
  ): Promise<AuthenticatedToken> {
    // These tokens are for this API server alone.
    const audiences = matchingAudiences(this.#apiAudiences, wanted);
    const namespace = text(claims[`${LEGACY}namespace`]);
    const secretName = text(claims[`${LEGACY}secret.name`]);
    const account = {
      name: text(claims[`${LEGACY}service-account.name`]),
      uid: text(claims[`${LEGACY}service-account.uid`]),
    };
    if (claims['sub'] !== serviceAccountUserName(namespace, account.name))
      throw new TokenError("the token's subject does not name its service account");
    const secret = await this.#find<Secret>('secrets', namespace, secretName);
    if (!secret || secret.metadata.deletionTimestamp !== undefined)
      throw new TokenError('service account token has been invalidated');
    const kept = Buffer.from(secret.data?.['token'] ?? '', 'base64').toString('utf8');
    if (secret.type !== 'kubernetes.io/service-account-token' || kept !== token)
      throw new TokenError('service account token has been invalidated');
    await this.#mustLive('serviceaccounts', namespace, account, 'service account');
    return { user: accountUser(namespace, account, {}), audiences };
  }

  #checkTimes(claims: JwtClaims): void {
    const now = this.#clock.now();
    const { exp, nbf, iat } = claims;
    if (typeof exp !== 'number') throw new TokenError('the service account token has no expiry');
    if (now - LEEWAY_MS > exp * 1000) throw new TokenError('service account token has expired');
    if (typeof nbf === 'number' && now + LEEWAY_MS < nbf * 1000)
      throw new TokenError('service account token is not valid yet');
    if (typeof iat === 'number' && now + LEEWAY_MS < iat * 1000)
      throw new TokenError('service account token was issued in the future');
  }

  /** The cache first; what it does not have, or has with another uid, is looked for in the store. */
  async #find<T extends KubeObject>(
    resource: string,
    namespace: string,
    name: string,
    uid?: string,
  ): Promise<T | undefined> {
    const cached = this.#reader.get<T>('', resource, namespace, name);
    if (cached && (uid === undefined || cached.metadata.uid === uid)) return cached;
    return (await this.#reader.getFresh<T>('', resource, namespace, name)) ?? undefined;
  }

  async #mustLive(resource: string, namespace: string, wanted: ObjectIdentity, what: string): Promise<void> {
    const object = await this.#find<ServiceAccount>(resource, namespace, wanted.name, wanted.uid);
    if (!object) throw new TokenError('service account token has been invalidated');
    if (object.metadata.uid !== wanted.uid)
      throw new TokenError(
        `${what} UID (${object.metadata.uid}) does not match the token's claim (${wanted.uid})`,
      );
    // A deleted pod may use its token while it shuts down, and a minute longer.
    const deleted = object.metadata.deletionTimestamp;
    if (deleted !== undefined && Date.parse(deleted) < this.#clock.now() - LEEWAY_MS)
      throw new TokenError('service account token has been invalidated');
  }
}

function matchingAudiences(held: readonly string[], wanted: readonly string[]): readonly string[] {
  const both = wanted.filter((audience) => held.includes(audience));
  if (both.length > 0) return both;
  throw new TokenError(
    `token audiences ${JSON.stringify(held)} is invalid for the target audiences ${JSON.stringify(wanted)}`,
  );
}

function accountUser(namespace: string, account: ObjectIdentity, extra: Record<string, string[]>): UserInfo {
  return {
    name: serviceAccountUserName(namespace, account.name),
    uid: account.uid,
    groups: serviceAccountGroups(namespace),
    ...(Object.keys(extra).length > 0 && { extra }),
  };
}
