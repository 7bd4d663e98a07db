// The default FlowSchemas and PriorityLevelConfigurations of API priority and fairness (KEP-1040).
// Every field that the server would default is written out, so that comparing specs at start finds no difference.

import type {
  FlowSchemaSpec,
  NonResourcePolicyRule,
  PolicyRulesWithSubjects,
  PriorityLevelConfigurationSpec,
  ResourcePolicyRule,
  Subject,
} from '../../api/types/flowcontrol-v1.ts';

const EXEMPT: PriorityLevelConfigurationSpec = {
  type: 'Exempt',
  exempt: { nominalConcurrencyShares: 0, lendablePercent: 0 },
};

const queued = (
  nominalConcurrencyShares: number,
  lendablePercent: number,
  queues: number,
  handSize: number,
): PriorityLevelConfigurationSpec => ({
  type: 'Limited',
  limited: {
    nominalConcurrencyShares,
    limitResponse: { type: 'Queue', queuing: { queues, handSize, queueLengthLimit: 50 } },
    lendablePercent,
  },
});

export const PRIORITY_LEVELS: readonly (readonly [name: string, spec: PriorityLevelConfigurationSpec])[] = [
  ['exempt', EXEMPT],
  ['system', queued(30, 33, 64, 6)],
  ['node-high', queued(40, 25, 64, 6)],
  ['leader-election', queued(10, 0, 16, 4)],
  ['workload-high', queued(40, 50, 128, 6)],
  ['workload-low', queued(100, 90, 128, 6)],
  ['global-default', queued(20, 50, 128, 6)],
  [
    'catch-all',
    {
      type: 'Limited',
      limited: { nominalConcurrencyShares: 5, limitResponse: { type: 'Reject' }, lendablePercent: 0 },
    },
  ],
];

const users = (...names: string[]): Subject[] => names.map((name) => ({ kind: 'User', user: { name } }));
const groups = (...names: string[]): Subject[] => names.map((name) => ({ kind: 'Group', group: { name } }));
const systemAccounts = (...names: string[]): Subject[] =>
  names.map((name) => ({ kind: 'ServiceAccount', serviceAccount: { namespace: 'kube-system', name } }));

const EVERY_RESOURCE: ResourcePolicyRule = {
  verbs: ['*'],
  apiGroups: ['*'],
  resources: ['*'],
  clusterScope: true,
  namespaces: ['*'],
};
const EVERY_PATH: NonResourcePolicyRule = { verbs: ['*'], nonResourceURLs: ['*'] };
const LEASES: ResourcePolicyRule = {
  verbs: ['get', 'create', 'update'],
  apiGroups: ['coordination.k8s.io'],
  resources: ['leases'],
  namespaces: ['*'],
};
const lockObjects = (namespace: string): ResourcePolicyRule => ({
  verbs: ['get', 'create', 'update'],
  apiGroups: [''],
  resources: ['endpoints', 'configmaps'],
  namespaces: [namespace],
});

const all = (subjects: Subject[]): PolicyRulesWithSubjects => ({
  subjects,
  resourceRules: [EVERY_RESOURCE],
  nonResourceRules: [EVERY_PATH],
});

const schema = (
  level: string,
  matchingPrecedence: number,
  distinguisher: 'ByUser' | 'ByNamespace' | undefined,
  rule: PolicyRulesWithSubjects,
): FlowSchemaSpec => ({
  priorityLevelConfiguration: { name: level },
  matchingPrecedence,
  ...(distinguisher === undefined ? {} : { distinguisherMethod: { type: distinguisher } }),
  rules: [rule],
});

const CONTROLLER_MANAGER = 'system:kube-controller-manager';
const SCHEDULER = 'system:kube-scheduler';
const EVERYBODY = groups('system:unauthenticated', 'system:authenticated');

export const FLOW_SCHEMAS: readonly (readonly [name: string, spec: FlowSchemaSpec])[] = [
  ['exempt', schema('exempt', 1, undefined, all(groups('system:masters')))],
  [
    'probes',
    schema('exempt', 2, undefined, {
      subjects: EVERYBODY,
      nonResourceRules: [{ verbs: ['get'], nonResourceURLs: ['/healthz', '/readyz', '/livez'] }],
    }),
  ],
  [
    'system-leader-election',
    schema('leader-election', 100, 'ByUser', {
      subjects: [...users(CONTROLLER_MANAGER, SCHEDULER), ...systemAccounts('*')],
      resourceRules: [lockObjects('kube-system'), LEASES],
    }),
  ],
  [
    'endpoint-controller',
    schema('workload-high', 150, 'ByUser', {
      subjects: [
        ...users(CONTROLLER_MANAGER),
        ...systemAccounts('endpoint-controller', 'endpointslicemirroring-controller'),
      ],
      resourceRules: [
        { verbs: ['get', 'create', 'update'], apiGroups: [''], resources: ['endpoints'], namespaces: ['*'] },
      ],
    }),
  ],
  [
    'workload-leader-election',
    schema('leader-election', 200, 'ByUser', {
      subjects: systemAccounts('*'),
      resourceRules: [lockObjects('*'), LEASES],
    }),
  ],
  [
    'system-node-high',
    schema('node-high', 400, 'ByUser', {
      subjects: groups('system:nodes'),
      resourceRules: [
        {
          verbs: ['*'],
          apiGroups: [''],
          resources: ['nodes', 'nodes/status'],
          clusterScope: true,
          namespaces: ['*'],
        },
        { verbs: ['*'], apiGroups: ['coordination.k8s.io'], resources: ['leases'], namespaces: ['*'] },
      ],
    }),
  ],
  ['system-nodes', schema('system', 500, 'ByUser', all(groups('system:nodes')))],
  ['kube-controller-manager', schema('workload-high', 800, 'ByNamespace', all(users(CONTROLLER_MANAGER)))],
  ['kube-scheduler', schema('workload-high', 800, 'ByNamespace', all(users(SCHEDULER)))],
  ['kube-system-service-accounts', schema('workload-high', 900, 'ByNamespace', all(systemAccounts('*')))],
  ['service-accounts', schema('workload-low', 9000, 'ByUser', all(groups('system:serviceaccounts')))],
  ['global-default', schema('global-default', 9900, 'ByUser', all(EVERYBODY))],
  ['catch-all', schema('catch-all', 10000, 'ByUser', all(EVERYBODY))],
];
