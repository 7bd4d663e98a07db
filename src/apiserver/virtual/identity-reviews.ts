// The reviews of authentication.k8s.io: whose is this token (TokenReview, which webhooks and kubelets ask), and who am
// I (SelfSubjectReview, `kubectl auth whoami`).

import { badRequest, timestamp } from '../../api/index.ts';
import type { SelfSubjectReview, TokenReview, TokenReviewStatus } from '../../api/types/authentication-v1.ts';
import type { Clock } from '../../component/index.ts';
import { AUTHENTICATED } from '../authentication/request.ts';
import { type TokenAuthenticator, TokenError } from '../authentication/tokens.ts';
import type { UserInfo, VirtualResource } from '../chain.ts';
import { bodyAs } from './body.ts';

const GROUP = 'authentication.k8s.io';

export interface IdentityReviewOptions {
  readonly tokens: TokenAuthenticator;
  readonly apiAudiences: readonly string[];
  readonly clock: Clock;
}

type WireUser = NonNullable<TokenReviewStatus['user']>;

function wireUser(user: UserInfo): WireUser {
  return {
    username: user.name,
    ...(user.uid && { uid: user.uid }),
    groups: [...user.groups],
    ...(user.extra && {
      extra: Object.fromEntries(Object.entries(user.extra).map(([key, values]) => [key, [...values]])),
    }),
  };
}

async function reviewToken(
  options: IdentityReviewOptions,
  token: string,
  wanted: readonly string[],
): Promise<TokenReviewStatus> {
  try {
    const found = await options.tokens.authenticateToken(
      token,
      wanted.length > 0 ? wanted : options.apiAudiences,
    );
    if (!found) return { error: 'invalid bearer token' };
    const groups = found.user.groups.includes(AUTHENTICATED)
      ? found.user.groups
      : [...found.user.groups, AUTHENTICATED];
    // A token that knows no audience is for this server, and for nobody else.
    const audiences =
      found.audiences ?? options.apiAudiences.filter((a) => wanted.length === 0 || wanted.includes(a));
    if (audiences.length === 0) return { error: 'the token is not for any of the wanted audiences' };
    return { authenticated: true, user: wireUser({ ...found.user, groups }), audiences: [...audiences] };
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return { error: `[invalid bearer token, ${error.message}]` };
  }
}

export function identityReviews(options: IdentityReviewOptions): readonly VirtualResource[] {
  return [
    {
      group: GROUP,
      resource: 'tokenreviews',
      subresource: '',
      verbs: ['create'],
      async handle(context) {
        const body = bodyAs<TokenReview>(context);
        if ((body.spec.token ?? '') === '')
          throw badRequest('token is required for TokenReview in authentication');
        const status = await reviewToken(options, body.spec.token, body.spec.audiences ?? []);
        return { status: 201, object: { ...body, status } };
      },
    },
    {
      group: GROUP,
      resource: 'selfsubjectreviews',
      subresource: '',
      verbs: ['create'],
      async handle(context) {
        const review: Omit<SelfSubjectReview, 'metadata'> & { metadata: object } = {
          kind: 'SelfSubjectReview',
          apiVersion: `${GROUP}/v1`,
          metadata: { creationTimestamp: timestamp(options.clock.now()) },
          status: { userInfo: wireUser(context.user) },
        };
        return { status: 201, object: review };
      },
    },
  ];
}
