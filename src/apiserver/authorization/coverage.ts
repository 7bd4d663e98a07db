// Whether a set of RBAC rules covers another: what privilege escalation prevention and the reconciliation of the
// default roles ask. A rule is broken down into its smallest grants and each is looked for in the owner's rules, as
// upstream's validation.Covers does; what is missing is given back, joined again for the error message.

import { goQuote } from '../../api/index.ts';
import type { PolicyRule } from '../../api/types/rbac-v1.ts';

const coversAll = (owner: readonly string[] | undefined, wanted: readonly string[] | undefined): boolean =>
  (owner ?? []).includes('*') || (wanted ?? []).every((entry) => (owner ?? []).includes(entry));

function resourcesCover(owner: readonly string[], wanted: readonly string[]): boolean {
  if (owner.includes('*')) return true;
  return wanted.every((resource) => {
    if (owner.includes(resource)) return true;
    const slash = resource.indexOf('/');
    return slash >= 0 && owner.includes(`*${resource.slice(slash)}`);
  });
}

const pathsCover = (owner: readonly string[], wanted: readonly string[]): boolean =>
  wanted.every((path) =>
    owner.some(
      (url) => url === '*' || url === path || (url.endsWith('*') && path.startsWith(url.replace(/\*+$/, ''))),
    ),
  );

function namesCover(owner: readonly string[] | undefined, wanted: readonly string[] | undefined): boolean {
  if (!owner || owner.length === 0) return true;
  return wanted !== undefined && wanted.length > 0 && wanted.every((name) => owner.includes(name));
}

function ruleCovers(owner: PolicyRule, grant: PolicyRule): boolean {
  return (
    coversAll(owner.verbs, grant.verbs) &&
    coversAll(owner.apiGroups, grant.apiGroups) &&
    resourcesCover(owner.resources ?? [], grant.resources ?? []) &&
    pathsCover(owner.nonResourceURLs ?? [], grant.nonResourceURLs ?? []) &&
    namesCover(owner.resourceNames, grant.resourceNames)
  );
}

/** The rule as its smallest grants: one verb on one resource (of one name), or on one path. */
function* grantsOf(rule: PolicyRule): Generator<PolicyRule> {
  for (const group of rule.apiGroups ?? [])
    for (const resource of rule.resources ?? [])
      for (const verb of rule.verbs) {
        const grant = { verbs: [verb], apiGroups: [group], resources: [resource] };
        if (!rule.resourceNames || rule.resourceNames.length === 0) yield grant;
        else for (const name of rule.resourceNames) yield { ...grant, resourceNames: [name] };
      }
  for (const url of rule.nonResourceURLs ?? [])
    for (const verb of rule.verbs) yield { verbs: [verb], nonResourceURLs: [url] };
}

/** The grants of `wanted` that none of the owner's rules covers; empty when all are. */
export function uncoveredGrants(owner: readonly PolicyRule[], wanted: readonly PolicyRule[]): PolicyRule[] {
  const missing: PolicyRule[] = [];
  for (const rule of wanted) {
    // Whole rules are usually covered whole; only the others are taken apart.
    if (owner.some((mine) => ruleCovers(mine, rule))) continue;
    for (const grant of grantsOf(rule)) {
      if (!owner.some((mine) => ruleCovers(mine, grant))) missing.push(grant);
    }
  }
  return missing;
}

/** Joins grants on the same resource and name into one rule with several verbs. */
export function compactRules(rules: readonly PolicyRule[]): PolicyRule[] {
  const simple = new Map<string, PolicyRule>();
  const others: PolicyRule[] = [];
  for (const rule of rules) {
    const single =
      rule.apiGroups?.length === 1 &&
      rule.resources?.length === 1 &&
      (rule.resourceNames?.length ?? 0) <= 1 &&
      (rule.nonResourceURLs?.length ?? 0) === 0;
    if (!single) {
      others.push(rule);
      continue;
    }
    const key = JSON.stringify([rule.apiGroups, rule.resources, rule.resourceNames ?? []]);
    const known = simple.get(key);
    simple.set(key, known ? { ...known, verbs: [...new Set([...known.verbs, ...rule.verbs])] } : rule);
  }
  return [...simple.values(), ...others];
}

const quotedList = (list: readonly string[]): string => `[${list.map((entry) => goQuote(entry)).join(' ')}]`;

/** `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`, as clients know it from upstream. */
export function ruleText(rule: PolicyRule): string {
  const parts: string[] = [];
  const part = (name: string, list: readonly string[] | undefined): void => {
    if (list && list.length > 0) parts.push(`${name}:${quotedList(list)}`);
  };
  part('APIGroups', rule.apiGroups);
  part('Resources', rule.resources);
  part('NonResourceURLs', rule.nonResourceURLs);
  part('ResourceNames', rule.resourceNames);
  part('Verbs', rule.verbs);
  return `{${parts.join(', ')}}`;
}

/** A list as Go's %q prints it. */
export const quotedNames = quotedList;
