// Kinds that this version stores and serves but that nothing acts on yet. Where silence would be dangerous (somebody
// believes that a webhook or a network policy protects them) creation is refused; where it is merely disappointing
// the client is warned. A row goes away when the feature arrives.

import type { AdmissionAttributes, AdmissionPlugin } from '../chain.ts';
import { refusal } from './refusal.ts';

interface Row {
  readonly group: string;
  readonly resource: string;
  readonly action: 'refuse' | 'warn';
  /** What does not happen, to stand between "this version of Bulkhead" and "yet". */
  readonly lacks: string;
  /** What to do instead. */
  readonly instead?: string;
  /** Limits the row to objects of which this holds. */
  readonly when?: (object: Record<string, unknown>) => boolean;
}

const ADMISSION = 'admissionregistration.k8s.io';

const spec = (object: Record<string, unknown>): Record<string, unknown> =>
  (object['spec'] ?? {}) as Record<string, unknown>;

export const NOT_ACTED_ON: readonly Row[] = [
  {
    group: ADMISSION,
    resource: 'validatingwebhookconfigurations',
    action: 'refuse',
    lacks: 'does not call admission webhooks',
  },
  {
    group: ADMISSION,
    resource: 'mutatingwebhookconfigurations',
    action: 'refuse',
    lacks: 'does not call admission webhooks',
  },
  {
    group: ADMISSION,
    resource: 'validatingadmissionpolicies',
    action: 'refuse',
    lacks: 'does not evaluate admission policies',
  },
  {
    group: ADMISSION,
    resource: 'validatingadmissionpolicybindings',
    action: 'refuse',
    lacks: 'does not evaluate admission policies',
  },
  {
    group: ADMISSION,
    resource: 'mutatingadmissionpolicies',
    action: 'refuse',
    lacks: 'does not evaluate admission policies',
  },
  {
    group: ADMISSION,
    resource: 'mutatingadmissionpolicybindings',
    action: 'refuse',
    lacks: 'does not evaluate admission policies',
  },
  {
    group: 'networking.k8s.io',
    resource: 'networkpolicies',
    action: 'refuse',
    lacks: 'does not enforce network policies',
  },
  {
    group: 'apiextensions.k8s.io',
    resource: 'customresourcedefinitions',
    action: 'refuse',
    lacks: 'does not serve custom resources',
  },
  {
    group: 'apiregistration.k8s.io',
    resource: 'apiservices',
    action: 'refuse',
    lacks: 'does not pass requests on to extension API servers',
    when: (object) => spec(object)['service'] !== undefined,
  },
  { group: '', resource: 'resourcequotas', action: 'warn', lacks: 'does not enforce resource quotas' },
  {
    group: '',
    resource: 'secrets',
    action: 'warn',
    lacks: 'does not write service account tokens into secrets',
    instead: 'ask for a token with kubectl create token',
    when: (object) => object['type'] === 'kubernetes.io/service-account-token',
  },
  {
    group: 'autoscaling',
    resource: 'horizontalpodautoscalers',
    action: 'warn',
    lacks: 'does not scale by metrics',
  },
  { group: 'networking.k8s.io', resource: 'ingresses', action: 'warn', lacks: 'has no ingress controller' },
  {
    group: 'flowcontrol.apiserver.k8s.io',
    resource: 'flowschemas',
    action: 'warn',
    lacks: 'does not classify requests by flow schemas',
  },
  {
    group: 'flowcontrol.apiserver.k8s.io',
    resource: 'prioritylevelconfigurations',
    action: 'warn',
    lacks: 'does not limit requests by priority levels',
  },
  {
    group: 'policy',
    resource: 'poddisruptionbudgets',
    action: 'warn',
    lacks: 'has no disruption controller',
  },
  {
    group: 'certificates.k8s.io',
    resource: 'certificatesigningrequests',
    action: 'warn',
    lacks: 'does not sign certificates',
  },
  {
    group: 'resource.k8s.io',
    resource: 'resourceclaims',
    action: 'warn',
    lacks: 'does not allocate devices',
  },
  {
    group: 'resource.k8s.io',
    resource: 'resourceclaimtemplates',
    action: 'warn',
    lacks: 'does not allocate devices',
  },
  { group: 'storage.k8s.io', resource: 'csidrivers', action: 'warn', lacks: 'does not use CSI drivers' },
];

const ROWS: ReadonlyMap<string, Row> = new Map(
  NOT_ACTED_ON.map((row) => [`${row.group}/${row.resource}`, row]),
);

function rowFor(attributes: AdmissionAttributes): Row | undefined {
  if (attributes.subresource !== '' || !attributes.object) return undefined;
  const row = ROWS.get(`${attributes.definition.group}/${attributes.definition.resource}`);
  return row && (row.when?.(attributes.object) ?? true) ? row : undefined;
}

export const notActedOnYetPlugin: AdmissionPlugin = {
  name: 'NotActedOnYet',
  handles: (operation) => operation === 'CREATE',
  admit(attributes) {
    const row = rowFor(attributes);
    // What the server makes for itself is no news to anybody.
    if (!row || attributes.user.name === 'system:apiserver') return;
    const { kind } = attributes.definition;
    if (row.action === 'refuse')
      throw refusal(
        attributes,
        `this version of Bulkhead ${row.lacks} yet; keeping a ${kind} that does nothing would be dangerous, so it is not stored`,
      );
    const instead = row.instead === undefined ? '' : `; ${row.instead}`;
    attributes.warn(`${kind} is stored, but this version of Bulkhead ${row.lacks} yet${instead}`);
  },
};
