// The validation of every built-in kind: what a kind's group says about it, with the schema and the scope that the
// kind is served in. Kinds without rules of their own are held to the rules for metadata and to their schema.

import { RESOURCES } from '../resources.ts';
import { schemaOfKind } from '../schema/builtin.ts';
import { appsRules } from './apps.ts';
import { batchRules } from './batch.ts';
import { coreRules } from './core.ts';
import { type AnyRules, KindValidation } from './kind.ts';
import { pathName } from './object-meta.ts';

export type { KindValidation } from './kind.ts';
export { labelName, type NameRule, pathName, subdomainName, validateObjectMeta } from './object-meta.ts';

const groups: Readonly<Record<string, Readonly<Record<string, AnyRules>>>> = {
  '': coreRules,
  apps: appsRules,
  batch: batchRules,
  'events.k8s.io': { Event: coreRules['Event']! },
  'rbac.authorization.k8s.io': {
    ClusterRole: { name: pathName },
    ClusterRoleBinding: { name: pathName },
    Role: { name: pathName },
    RoleBinding: { name: pathName },
  },
};

/** The kind that events.k8s.io events are stored as; its rules and its schema are the ones that count. */
function storedGroup(group: string): string {
  return group === 'events.k8s.io' ? '' : group;
}

/** How objects of a kind are validated, in the version that they are stored in. */
export function validationFor(group: string, version: string, kind: string): KindValidation {
  const rules = Object.hasOwn(groups, group) ? groups[group]! : {};
  const row = RESOURCES.find((one) => one.group === group && one.kind === kind);
  return new KindValidation(
    Object.hasOwn(rules, kind) ? rules[kind]! : {},
    row?.namespaced ?? true,
    schemaOfKind(storedGroup(group), version, kind),
  );
}
