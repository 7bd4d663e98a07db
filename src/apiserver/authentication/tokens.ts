// What a bearer token authenticator is, whatever stands behind it.

import type { UserInfo } from '../chain.ts';

export interface AuthenticatedToken {
  readonly user: UserInfo;
  /** Those of the wanted audiences that the token is for. Absent: the authenticator knows nothing of audiences. */
  readonly audiences?: readonly string[];
}

export interface TokenAuthenticator {
  /**
   * Undefined: not a token of mine. Throws a TokenError when it is mine and does not hold.
   * `audiences`: for whom the token must be; one match is enough.
   */
  authenticateToken(token: string, audiences: readonly string[]): Promise<AuthenticatedToken | undefined>;
}

/** A token of this authenticator's that is expired, revoked, or for somebody else. The client only learns 401. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}
