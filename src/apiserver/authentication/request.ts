// Who is asking: the authenticators of one request in their order. A verified client certificate comes first, then a
// bearer token, and who shows neither is system:anonymous. A token that is shown and does not hold is a 401, never
// anonymous. Everybody else is a member of system:authenticated.

import { createHash } from 'node:crypto';
import { unauthorized } from '../../api/index.ts';
import type { Authenticator, Credentials, UserInfo } from '../chain.ts';
import { type AuthenticatedToken, type TokenAuthenticator, TokenError } from './tokens.ts';

export const AUTHENTICATED = 'system:authenticated';
export const UNAUTHENTICATED = 'system:unauthenticated';
export const ANONYMOUS = 'system:anonymous';

const ANONYMOUS_USER: UserInfo = { name: ANONYMOUS, groups: [UNAUTHENTICATED] };
const WEBSOCKET_TOKEN = 'base64url.bearer.authorization.k8s.io.';

/** The header's value when it was sent once; several values are joined as HTTP has it. */
export function headerValue(headers: Credentials['headers'], name: string): string {
  const value = headers[name];
  return value === undefined ? '' : typeof value === 'string' ? value : value.join(', ');
}

/**
 * CN is the user, O are the groups: TLS has verified the chain against the client CA. The answer is kept for as long
 * as the connection's certificate object lives.
 */
export function certificateAuthenticator(): Authenticator {
  const known = new WeakMap<object, UserInfo>();
  return {
    async authenticate({ clientCertificate }) {
      if (!clientCertificate || clientCertificate.commonName === '') return undefined;
      let user = known.get(clientCertificate);
      if (!user) {
        const fingerprint = createHash('sha256').update(clientCertificate.der).digest('hex');
        user = {
          name: clientCertificate.commonName,
          groups: withAuthenticatedGroup(clientCertificate.organizations),
          extra: { 'authentication.kubernetes.io/credential-id': [`X509SHA256=${fingerprint}`] },
        };
        known.set(clientCertificate, user);
      }
      return user;
    },
  };
}

/** The token of an `Authorization: Bearer` header, or of a browser's WebSocket, which can set no such header. */
export function bearerToken(headers: Credentials['headers']): string | undefined {
  const authorization = headerValue(headers, 'authorization').trim();
  const bearer = /^bearer +(\S.*)$/i.exec(authorization);
  if (bearer) return bearer[1];
  for (const protocol of headerValue(headers, 'sec-websocket-protocol').split(',')) {
    const name = protocol.trim();
    if (!name.startsWith(WEBSOCKET_TOKEN)) continue;
    return Buffer.from(name.slice(WEBSOCKET_TOKEN.length), 'base64url').toString('utf8');
  }
  return undefined;
}

export const isWebSocketToken = (protocol: string): boolean => protocol.startsWith(WEBSOCKET_TOKEN);

/** All token authenticators as one: the first that knows the token decides; errors are kept until nobody does. */
export function unionTokenAuthenticator(authenticators: readonly TokenAuthenticator[]): TokenAuthenticator {
  return {
    async authenticateToken(token, audiences): Promise<AuthenticatedToken | undefined> {
      let refusal: TokenError | undefined;
      for (const authenticator of authenticators) {
        try {
          const found = await authenticator.authenticateToken(token, audiences);
          if (found) return found;
        } catch (error) {
          if (!(error instanceof TokenError)) throw error;
          refusal ??= error;
        }
      }
      if (refusal) throw refusal;
      return undefined;
    },
  };
}

export interface RequestAuthenticatorOptions {
  readonly tokens: TokenAuthenticator;
  /** For whom a token must be to be used here. */
  readonly apiAudiences: readonly string[];
  /** False: a request without credentials is a 401. */
  readonly anonymous: boolean;
}

export function requestAuthenticator(options: RequestAuthenticatorOptions): Authenticator {
  const certificates = certificateAuthenticator();
  return {
    async authenticate(credentials) {
      const certified = await certificates.authenticate(credentials);
      if (certified) return certified;
      const token = bearerToken(credentials.headers);
      if (token !== undefined) {
        const user = await userOfToken(options, token);
        return { ...user, groups: withAuthenticatedGroup(user.groups) };
      }
      return options.anonymous ? ANONYMOUS_USER : undefined;
    },
  };
}

async function userOfToken(options: RequestAuthenticatorOptions, token: string): Promise<UserInfo> {
  try {
    const found = await options.tokens.authenticateToken(token, options.apiAudiences);
    if (found) return found.user;
  } catch (error) {
    // Why it does not hold is for the audit log, not for whoever tries tokens.
    if (!(error instanceof TokenError)) throw error;
  }
  throw unauthorized('Unauthorized');
}

function withAuthenticatedGroup(groups: readonly string[]): readonly string[] {
  return groups.includes(AUTHENTICATED) || groups.includes(UNAUTHENTICATED)
    ? groups
    : [...groups, AUTHENTICATED];
}
