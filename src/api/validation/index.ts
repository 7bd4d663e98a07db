// The validation of every built-in kind: what a kind's group says about it, with the schema and the scope that the
// kind is served in. Kinds without rules of their own are held to the rules for metadata and to their schema.

import { RESOURCES } from '../resources.ts';
import { schemaOfKind } from '../schema/builtin.ts';
import { admissionRegistrationRules } from './admissionregistration.ts';
import { apiExtensionsRules } from './apiextensions.ts';
import { apiRegistrationRules } from './apiregistration.ts';
import { appsRules } from './apps.ts';
import { autoscalingRules } from './autoscaling.ts';
import { batchRules } from './batch.ts';
import { certificatesRules } from './certificates.ts';
import { coordinationRules } from './coordination.ts';
import { coreRules } from './core.ts';
import { discoveryRules } from './discovery.ts';
import { flowControlRules } from './flowcontrol.ts';
import { type AnyRules, KindValidation } from './kind.ts';
import { networkingRules } from './networking.ts';
import { nodeRules } from './node.ts';
import { policyRules } from './policy.ts';
import { rbacRules } from './rbac.ts';
import { resourceRules } from './resource.ts';
import { schedulingRules } from './scheduling.ts';
import { storageRules } from './storage.ts';

export { Findings } from './findings.ts';
export type { KindValidation } from './kind.ts';
export { labelName, type NameRule, pathName, subdomainName, validateObjectMeta } from './object-meta.ts';

const groups: Readonly<Record<string, Readonly<Record<string, AnyRules>>>> = {
  '': coreRules,
  'admissionregistration.k8s.io': admissionRegistrationRules,
  'apiextensions.k8s.io': apiExtensionsRules,
  'apiregistration.k8s.io': apiRegistrationRules,
  apps: appsRules,
  autoscaling: autoscalingRules,
  batch: batchRules,
  'certificates.k8s.io': certificatesRules,
  'coordination.k8s.io': coordinationRules,
  'discovery.k8s.io': discoveryRules,
  // Its events are stored as those of the core group, and held to the same rules.
  'events.k8s.io': { Event: coreRules['Event']! },
  'flowcontrol.apiserver.k8s.io': flowControlRules,
  'networking.k8s.io': networkingRules,
  'node.k8s.io': nodeRules,
  policy: policyRules,
  'rbac.authorization.k8s.io': rbacRules,
  'resource.k8s.io': resourceRules,
  'scheduling.k8s.io': schedulingRules,
  'storage.k8s.io': storageRules,
};

/** How objects of a kind are validated, in the version that they are stored in. */
export function validationFor(group: string, version: string, kind: string): KindValidation {
  const rules = Object.hasOwn(groups, group) ? groups[group]! : {};
  const row = RESOURCES.find((one) => one.group === group && one.kind === kind);
  return new KindValidation(
    Object.hasOwn(rules, kind) ? rules[kind]! : {},
    row?.namespaced ?? true,
    schemaOfKind(group === 'events.k8s.io' ? '' : group, version, kind),
  );
}
