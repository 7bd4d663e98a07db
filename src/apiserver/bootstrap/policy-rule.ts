// The notation in which the default roles are written down: one rule a line, words separated by blanks.
// `core` stands for the group whose name is empty. Lists come out sorted, as upstream's rule builder leaves them.

import type { PolicyRule } from '../../api/types/rbac-v1.ts';

export const READ = 'get list watch';
export const WRITE = 'create update patch delete deletecollection';
export const READ_WRITE = `${READ} ${WRITE}`;
export const READ_UPDATE = 'get list watch update patch';

const words = (list: string): string[] => list.split(' ').sort();

/** A rule about resources: `rule('get list', 'core', 'pods pods/log')`. */
export function rule(verbs: string, groups: string, resources: string, resourceNames?: string): PolicyRule {
  return {
    verbs: words(verbs),
    apiGroups: groups
      .split(' ')
      .map((group) => (group === 'core' ? '' : group))
      .sort(),
    resources: words(resources),
    ...(resourceNames === undefined ? {} : { resourceNames: words(resourceNames) }),
  };
}

/** A rule about paths outside the resources. */
export function paths(verbs: string, urls: string): PolicyRule {
  return { verbs: words(verbs), nonResourceURLs: words(urls) };
}

/** What every component that records events needs. */
export const EVENTS: PolicyRule = rule('create update patch', 'core events.k8s.io', 'events');
