// The table of admission plugins in their order, which is upstream's (AllOrderedPlugins) for those that upstream has.
// The others do what upstream does elsewhere in its registry and stand where nothing after them can undo their work.

import type { Clock, Logger } from '../../component/index.ts';
import type { RbacAuthorizer } from '../authorization/rbac.ts';
import type { AdmissionPlugin, Authorizer, ObjectReader } from '../chain.ts';
import {
  certificateApprovalPlugin,
  certificateRequesterPlugin,
  certificateSigningPlugin,
  certificateSubjectRestrictionPlugin,
} from './certificates.ts';
import { defaultIngressClassPlugin, defaultStorageClassPlugin } from './default-classes.ts';
import { limitRangerPlugin } from './limit-ranger.ts';
import { namespaceLifecyclePlugin } from './namespace-lifecycle.ts';
import { nodeRestrictionPlugin } from './node-restriction.ts';
import { notActedOnYetPlugin } from './not-acted-on-yet.ts';
import { podSecurityPlugin } from './pod-security/plugin.ts';
import { podTopologyLabelsPlugin } from './pod-topology-labels.ts';
import { priorityPlugin } from './priority.ts';
import { rbacEscalationPlugin } from './rbac-escalation.ts';
import { runtimeClassPlugin } from './runtime-class.ts';
import { serviceAccountPlugin } from './service-account.ts';
import { type Exhaustion, ServiceAddresses } from './service-addresses.ts';
import { persistentVolumeClaimResizePlugin, storageObjectInUseProtectionPlugin } from './storage-objects.ts';
import { defaultTolerationSecondsPlugin, taintNodesByConditionPlugin } from './tolerations.ts';

export interface AdmissionOptions {
  readonly reader: ObjectReader;
  readonly authorizer: Authorizer;
  readonly rbac: RbacAuthorizer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly serviceCidrs: readonly string[];
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /** Told whenever a Service is refused because no address or node port is left. */
  readonly exhausted?: (exhaustion: Exhaustion) => void;
  /**
   * Puts the in-use finalizers on claims and volumes. Only where the protection controllers run: nobody else takes
   * them away again.
   */
  readonly protectStorageObjects: boolean;
  /** Times how long a pod waits for its service account to come; the system's clock when absent. */
  readonly patience?: Clock;
}

type Plugin = AdmissionPlugin & Partial<Disposable>;
type Row = readonly [name: string, make: (options: AdmissionOptions) => Plugin | undefined];

const PLUGINS: readonly Row[] = [
  ['NamespaceLifecycle', ({ reader }) => namespaceLifecyclePlugin(reader)],
  ['NotActedOnYet', () => notActedOnYetPlugin],
  ['LimitRanger', ({ reader }) => limitRangerPlugin(reader)],
  ['ServiceAccount', (options) => serviceAccountPlugin(options)],
  ['NodeRestriction', ({ reader }) => nodeRestrictionPlugin(reader)],
  ['TaintNodesByCondition', () => taintNodesByConditionPlugin],
  ['PodSecurity', ({ reader, logger }) => podSecurityPlugin(reader, logger)],
  ['Priority', ({ reader }) => priorityPlugin(reader)],
  ['DefaultTolerationSeconds', () => defaultTolerationSecondsPlugin],
  ['DefaultStorageClass', ({ reader }) => defaultStorageClassPlugin(reader)],
  [
    'StorageObjectInUseProtection',
    ({ protectStorageObjects }) => (protectStorageObjects ? storageObjectInUseProtectionPlugin : undefined),
  ],
  ['PersistentVolumeClaimResize', ({ reader }) => persistentVolumeClaimResizePlugin(reader)],
  ['RuntimeClass', ({ reader }) => runtimeClassPlugin(reader)],
  ['CertificateRequester', () => certificateRequesterPlugin],
  ['CertificateApproval', ({ authorizer }) => certificateApprovalPlugin(authorizer)],
  ['CertificateSigning', ({ authorizer }) => certificateSigningPlugin(authorizer)],
  ['CertificateSubjectRestriction', () => certificateSubjectRestrictionPlugin],
  ['DefaultIngressClass', ({ reader }) => defaultIngressClassPlugin(reader)],
  ['PodTopologyLabels', ({ reader }) => podTopologyLabelsPlugin(reader)],
  ['RBACEscalation', ({ rbac, authorizer }) => rbacEscalationPlugin(rbac, authorizer)],
  ['ServiceAddresses', (options) => new ServiceAddresses(options)],
];

/** Names of all plugins, in their order. */
export const ADMISSION_PLUGINS: readonly string[] = PLUGINS.map(([name]) => name);

/** The plugins in their order, less those named in `disabled`; a TypeError when one of the names is none. */
export function admissionPlugins(
  options: AdmissionOptions,
  disabled: readonly string[] = [],
): readonly Plugin[] {
  const unknown = disabled.filter((name) => !ADMISSION_PLUGINS.includes(name));
  if (unknown.length > 0)
    throw new TypeError(
      `unknown admission plugins: ${unknown.join(', ')}; there are ${ADMISSION_PLUGINS.join(', ')}`,
    );
  return PLUGINS.filter(([name]) => !disabled.includes(name))
    .map(([, make]) => make(options))
    .filter((plugin) => plugin !== undefined);
}
