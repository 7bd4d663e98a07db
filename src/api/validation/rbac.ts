// Rules for roles and their bindings. After pkg/apis/rbac/validation.

import { dns1123Subdomain, pathSegmentName } from '../names.ts';
import type {
  ClusterRole,
  ClusterRoleBinding,
  PolicyRule,
  Role,
  RoleBinding,
  Subject,
} from '../types/rbac-v1.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { pathName } from './object-meta.ts';

const GROUP = 'rbac.authorization.k8s.io';

function validateRule(findings: Findings, field: string, rule: PolicyRule, namespaced: boolean): void {
  const { verbs = [], apiGroups = [], resources = [], resourceNames = [], nonResourceURLs = [] } = rule;
  if (verbs.length === 0) findings.required(`${field}.verbs`, 'verbs must contain at least one value');
  if (nonResourceURLs.length > 0) {
    const at = `${field}.nonResourceURLs`;
    if (namespaced)
      findings.invalid(at, nonResourceURLs, 'namespaced rules cannot apply to non-resource URLs');
    if (apiGroups.length + resources.length + resourceNames.length > 0)
      findings.invalid(
        at,
        nonResourceURLs,
        'rules cannot apply to both regular resources and non-resource URLs',
      );
    return;
  }
  if (apiGroups.length === 0)
    findings.required(`${field}.apiGroups`, 'resource rules must supply at least one api group');
  if (resources.length === 0)
    findings.required(`${field}.resources`, 'resource rules must supply at least one resource');
}

function validateSubject(findings: Findings, field: string, subject: Subject, namespaced: boolean): void {
  const { name = '', apiGroup = '' } = subject;
  if (name === '') findings.required(`${field}.name`);
  switch (subject.kind) {
    case 'ServiceAccount':
      if (name !== '') findings.text(`${field}.name`, name, dns1123Subdomain);
      if (apiGroup !== '') findings.notSupported(`${field}.apiGroup`, apiGroup, ['']);
      if (!namespaced && !subject.namespace) findings.required(`${field}.namespace`);
      break;
    case 'User':
    case 'Group':
      if (apiGroup !== GROUP) findings.notSupported(`${field}.apiGroup`, apiGroup, [GROUP]);
      break;
    default:
      findings.notSupported(`${field}.kind`, subject.kind ?? '', ['ServiceAccount', 'User', 'Group']);
  }
}

const role: KindRules<Role> = {
  name: pathName,
  validate(object, findings) {
    for (const [i, rule] of (object.rules ?? []).entries()) validateRule(findings, `rules[${i}]`, rule, true);
  },
};

const clusterRole: KindRules<ClusterRole> = {
  name: pathName,
  validate(object, findings) {
    for (const [i, rule] of (object.rules ?? []).entries())
      validateRule(findings, `rules[${i}]`, rule, false);
    if (object.aggregationRule === undefined) return;
    const field = 'aggregationRule.clusterRoleSelectors';
    const selectors = object.aggregationRule.clusterRoleSelectors ?? [];
    if (selectors.length === 0)
      findings.required(field, 'at least one clusterRoleSelector required if aggregationRule is non-nil');
    for (const [i, selector] of selectors.entries()) findings.labelSelector(`${field}[${i}]`, selector);
  },
};

function bindingRules(namespaced: boolean): KindRules<RoleBinding | ClusterRoleBinding> {
  const kinds = namespaced ? ['Role', 'ClusterRole'] : ['ClusterRole'];
  return {
    name: pathName,
    validate(object, findings) {
      const { apiGroup = '', kind = '', name } = object.roleRef ?? {};
      if (apiGroup !== GROUP) findings.notSupported('roleRef.apiGroup', apiGroup, [GROUP]);
      if (!kinds.includes(kind)) findings.notSupported('roleRef.kind', kind, kinds);
      findings.name('roleRef.name', name, pathSegmentName);
      for (const [i, subject] of (object.subjects ?? []).entries())
        validateSubject(findings, `subjects[${i}]`, subject, namespaced);
    },
    validateUpdate(object, old, findings) {
      if (!equal(object.roleRef, old.roleRef))
        findings.invalid('roleRef', object.roleRef, 'cannot change roleRef');
    },
  };
}

export const rbacRules: Readonly<Record<string, AnyRules>> = {
  Role: role,
  ClusterRole: clusterRole,
  RoleBinding: bindingRules(true),
  ClusterRoleBinding: bindingRules(false),
};
