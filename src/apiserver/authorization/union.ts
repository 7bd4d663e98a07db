// Authorizers in a row: the first that allows or denies decides. And the one that lets system:masters do anything,
// which no role can take away.

import type { Authorizer, AuthorizerAttributes, AuthorizerDecision } from '../chain.ts';

export const SYSTEM_MASTERS = 'system:masters';

const MASTERS: AuthorizerDecision = { decision: 'allow', reason: '' };
const NO_OPINION: AuthorizerDecision = { decision: 'no-opinion', reason: '' };

/** Allows members of system:masters everything. */
export const mastersAuthorizer: Authorizer = {
  authorize: (attributes) => (attributes.user.groups.includes(SYSTEM_MASTERS) ? MASTERS : NO_OPINION),
};

/** Asks in order; without an answer from anybody: no opinion, with all the reasons. */
export function unionAuthorizer(authorizers: readonly Authorizer[]): Authorizer {
  const ask = (
    attributes: AuthorizerAttributes,
    start: number,
    reasons: readonly string[],
  ): AuthorizerDecision | Promise<AuthorizerDecision> => {
    const heard = [...reasons];
    for (let i = start; i < authorizers.length; i++) {
      const answer = authorizers[i]!.authorize(attributes);
      // Most authorizers decide at once; only a remote one makes this asynchronous.
      if (answer instanceof Promise) {
        return answer.then((decision) =>
          decision.decision === 'no-opinion'
            ? ask(attributes, i + 1, decision.reason === '' ? heard : [...heard, decision.reason])
            : decision,
        );
      }
      if (answer.decision !== 'no-opinion') return answer;
      if (answer.reason !== '') heard.push(answer.reason);
    }
    return { decision: 'no-opinion', reason: heard.join('\n') };
  };
  return { authorize: (attributes) => ask(attributes, 0, []) };
}
