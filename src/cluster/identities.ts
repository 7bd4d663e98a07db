// Who the parts of a node are that the API server does not know by itself, and what each may do: cluster DNS, the
// volume provisioner and the load-balancer controller come as the users that they are elsewhere, with roles that say
// what they need and no more.

import { type Draft, isAlreadyExists, type KubeObject } from '../api/index.ts';
import type { PolicyRule } from '../api/types/rbac-v1.ts';
import type { UserInfo } from '../apiserver/index.ts';
import { type Client, type ResourceType, resources } from '../client/index.ts';

const account = (name: string): UserInfo => ({
  name: `system:serviceaccount:kube-system:${name}`,
  groups: ['system:serviceaccounts', 'system:serviceaccounts:kube-system', 'system:authenticated'],
});

export const SERVICE_PROXY: UserInfo = { name: 'system:kube-proxy', groups: ['system:authenticated'] };
export const CLUSTER_DNS = account('coredns');
export const PROVISIONER = account('local-path-provisioner');
export const LOAD_BALANCERS = account('cloud-controller-manager');

const rule = (verbs: string, group: string, names: string): PolicyRule => ({
  verbs: verbs.split(' '),
  apiGroups: [group],
  resources: names.split(' '),
});

const READ = 'get list watch';
const EVENTS = [
  rule('create patch update', '', 'events'),
  rule('create patch update', 'events.k8s.io', 'events'),
];

interface Grant {
  readonly role: string;
  readonly to: UserInfo;
  /** In the whole cluster. */
  readonly rules: PolicyRule[];
  /** In kube-system alone. */
  readonly inSystem?: PolicyRule[];
}

const GRANTS: readonly Grant[] = [
  {
    role: 'system:coredns',
    to: CLUSTER_DNS,
    rules: [
      rule('list watch', '', 'services namespaces endpoints pods'),
      rule(READ, '', 'nodes'),
      rule('list watch', 'discovery.k8s.io', 'endpointslices'),
      ...EVENTS,
    ],
    inSystem: [
      rule('get create update patch', '', 'services'),
      rule('get create update patch delete', 'discovery.k8s.io', 'endpointslices'),
    ],
  },
  {
    role: 'system:local-path-provisioner',
    to: PROVISIONER,
    rules: [
      rule('get list watch create update patch delete', '', 'persistentvolumes'),
      rule('get list watch update patch', '', 'persistentvolumeclaims'),
      rule(READ, '', 'nodes pods'),
      rule(READ, 'storage.k8s.io', 'storageclasses'),
      ...EVENTS,
    ],
  },
  {
    role: 'system:cloud-controller-manager',
    to: LOAD_BALANCERS,
    rules: [
      rule('get list watch update patch', '', 'services'),
      rule('update patch', '', 'services/status'),
      rule(READ, '', 'nodes'),
      ...EVENTS,
    ],
  },
];

/**
 * Makes the roles and their bindings, or makes those that are there what they should be: what a part of the system
 * may do is not for an older version, or a hand, to decide.
 */
export async function grantIdentities(administrator: Client): Promise<void> {
  await Promise.all(
    GRANTS.flatMap(({ role, to, rules, inSystem }) => {
      const metadata = { name: role };
      const subjects = [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: to.name }];
      const roleRef = (kind: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name: role });
      const system = 'kube-system';
      return [
        keep(administrator, resources.clusterRoles, undefined, { metadata, rules }),
        keep(administrator, resources.clusterRoleBindings, undefined, {
          metadata,
          subjects,
          roleRef: roleRef('ClusterRole'),
        }),
        ...(inSystem === undefined
          ? []
          : [
              keep(administrator, resources.roles, system, { metadata, rules: inSystem }),
              keep(administrator, resources.roleBindings, system, {
                metadata,
                subjects,
                roleRef: roleRef('Role'),
              }),
            ]),
      ];
    }),
  );
}

async function keep<T extends KubeObject>(
  client: Client,
  type: ResourceType<T>,
  namespace: string | undefined,
  draft: Draft<T> & { readonly metadata: { readonly name: string } },
): Promise<void> {
  const api = client.resource(type, namespace);
  try {
    await api.create(draft);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    // Changes nothing, and no revision, when it is as it should be.
    const { metadata: _, ...patch } = draft as Record<string, unknown>;
    await api.patch(draft.metadata.name, { type: 'merge', patch });
  }
}
