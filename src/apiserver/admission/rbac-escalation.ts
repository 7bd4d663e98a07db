// Nobody grants what they do not hold: who writes a role must have all its rules, who writes a binding must have all
// rules of the role it names, unless they may `escalate` or `bind` it. Upstream does this in the registry of the RBAC
// kinds; here it is a validating admission plugin, which sees the same objects at the same moment.

import { isDeepStrictEqual } from 'node:util';
import { forbidden, goQuote, notFound } from '../../api/index.ts';
import type { ClusterRole, PolicyRule, RoleBinding } from '../../api/types/rbac-v1.ts';
import { compactRules, quotedNames, ruleText, uncoveredGrants } from '../authorization/coverage.ts';
import type { RbacAuthorizer } from '../authorization/rbac.ts';
import { SYSTEM_MASTERS } from '../authorization/union.ts';
import type { AdmissionAttributes, AdmissionPlugin, Authorizer } from '../chain.ts';
import { nameOf, objectAs, oldObjectAs, refusal } from './refusal.ts';

const GROUP = 'rbac.authorization.k8s.io';
const EVERYTHING: readonly PolicyRule[] = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
];

export function rbacEscalationPlugin(rbac: RbacAuthorizer, authorizer: Authorizer): AdmissionPlugin {
  const mayDo = async (
    attributes: AdmissionAttributes,
    verb: 'escalate' | 'bind',
    resource: string,
    name: string,
  ): Promise<boolean> => {
    const { decision } = await authorizer.authorize({
      user: attributes.user,
      verb,
      resourceRequest: true,
      path: '',
      group: GROUP,
      version: 'v1',
      resource,
      subresource: '',
      namespace: attributes.namespace,
      name,
    });
    return decision === 'allow';
  };

  /** Undefined when the user holds all of `wanted`; else the message that says what is missing. */
  const escalation = (attributes: AdmissionAttributes, wanted: readonly PolicyRule[]): string | undefined => {
    const { user, namespace } = attributes;
    const { rules, errors } = rbac.rulesFor(user, namespace);
    const missing = uncoveredGrants(rules, wanted);
    if (missing.length === 0) return undefined;
    const lines = [...new Set(compactRules(missing).map(ruleText))].sort().join('\n');
    const unresolved = errors.length > 0 ? `; resolution errors: [${errors.join(', ')}]` : '';
    return `user ${goQuote(user.name)} (groups=${quotedNames(user.groups)}) is attempting to grant RBAC permissions not currently held:\n${lines}${unresolved}`;
  };

  const checkRole = async (attributes: AdmissionAttributes): Promise<void> => {
    const role = objectAs<ClusterRole>(attributes);
    const old = oldObjectAs<ClusterRole>(attributes);
    if (
      old &&
      isDeepStrictEqual(plain(old.rules ?? []), plain(role.rules ?? [])) &&
      isDeepStrictEqual(plain(old.aggregationRule), plain(role.aggregationRule))
    )
      return;
    if (await mayDo(attributes, 'escalate', attributes.definition.resource, attributes.name)) return;
    if (role.aggregationRule && escalation(attributes, EVERYTHING) !== undefined)
      throw refusal(attributes, 'must have cluster-admin privileges to use the aggregationRule');
    const why = escalation(attributes, role.rules ?? []);
    if (why !== undefined) throw refusal(attributes, why);
  };

  const checkBinding = async (attributes: AdmissionAttributes): Promise<void> => {
    const binding = objectAs<RoleBinding>(attributes);
    const old = oldObjectAs<RoleBinding>(attributes);
    if (
      old &&
      isDeepStrictEqual(plain(old.roleRef), plain(binding.roleRef)) &&
      isDeepStrictEqual(plain(old.subjects ?? []), plain(binding.subjects ?? []))
    )
      return;
    const { kind, name } = binding.roleRef;
    const resource = kind === 'ClusterRole' ? 'clusterroles' : 'roles';
    if (await mayDo(attributes, 'bind', resource, name)) return;
    const rules = rbac.rulesOfRole(binding.roleRef, attributes.namespace);
    if (rules === undefined) throw notFound({ group: GROUP, name: resource }, name);
    const why = escalation(attributes, rules);
    if (why !== undefined)
      throw forbidden({ group: GROUP, name: attributes.definition.resource }, nameOf(attributes), why);
  };

  return {
    name: 'RBACEscalation',
    handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
    async validate(attributes) {
      if (attributes.definition.group !== GROUP || attributes.subresource !== '') return;
      if (attributes.user.groups.includes(SYSTEM_MASTERS)) return;
      switch (attributes.definition.resource) {
        case 'roles':
        case 'clusterroles':
          return checkRole(attributes);
        case 'rolebindings':
        case 'clusterrolebindings':
          return checkBinding(attributes);
      }
    },
  };
}

/** Comparable whatever prototype the decoder gave its objects. */
const plain = (value: unknown): unknown =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value));
