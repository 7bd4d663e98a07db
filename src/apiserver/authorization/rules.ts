// What one RBAC rule says about one request, after k8s.io/kubernetes/pkg/apis/rbac: verbs, groups and resources with
// `*`, `*/scale` for a subresource of anything, resource names, paths with a trailing `*`. Pure.

import type { PolicyRule } from '../../api/types/rbac-v1.ts';
import type { AuthorizerAttributes } from '../chain.ts';

type Ruled = Pick<
  AuthorizerAttributes,
  'verb' | 'resourceRequest' | 'path' | 'group' | 'resource' | 'subresource' | 'name'
>;

const hasOrAll = (list: readonly string[] | undefined, wanted: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(wanted));

function resourceMatches(rule: PolicyRule, resource: string, subresource: string): boolean {
  const resources = rule.resources;
  if (resources === undefined) return false;
  const combined = subresource === '' ? resource : `${resource}/${subresource}`;
  for (const entry of resources) {
    if (entry === '*' || entry === combined) return true;
    if (subresource !== '' && entry === `*/${subresource}`) return true;
  }
  return false;
}

function pathMatches(rule: PolicyRule, path: string): boolean {
  return (rule.nonResourceURLs ?? []).some(
    (url) => url === '*' || url === path || (url.endsWith('*') && path.startsWith(url.replace(/\*+$/, ''))),
  );
}

/** True when the rule grants the request. */
export function ruleAllows(rule: PolicyRule, request: Ruled): boolean {
  if (!hasOrAll(rule.verbs, request.verb)) return false;
  if (!request.resourceRequest) return pathMatches(rule, request.path);
  return (
    hasOrAll(rule.apiGroups, request.group) &&
    resourceMatches(rule, request.resource, request.subresource) &&
    (rule.resourceNames === undefined ||
      rule.resourceNames.length === 0 ||
      rule.resourceNames.includes(request.name))
  );
}
