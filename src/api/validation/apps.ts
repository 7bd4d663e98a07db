// Rules for the workloads of the apps group: a selector that finds the pods of the template, counts and strategies
// that make sense, and what may not change once pods exist. After pkg/apis/apps/validation.

import { labelSelectorMatcher, SelectorError } from '../labels.ts';
import type {
  ControllerRevision,
  DaemonSet,
  DaemonSetUpdateStrategy,
  Deployment,
  DeploymentStrategy,
  ReplicaSet,
  StatefulSet,
  StatefulSetSpec,
} from '../types/apps-v1.ts';
import type { PodTemplateSpec, Volume } from '../types/core-v1.ts';
import type { LabelSelector } from '../types/meta-v1.ts';
import { validateAlwaysRestarts, validateReplicaStatus } from './core.ts';
import { equal, type Findings } from './findings.ts';
import { amountOf, validateAtMostAll, validateIntOrPercent } from './int-or-percent.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { labelName } from './object-meta.ts';
import { validatePodTemplateSpec } from './pod.ts';

/** Whether the template's pods are among those that the selector finds; an empty selector is told elsewhere. */
export function validateSelectedTemplate(
  findings: Findings,
  field: string,
  selector: LabelSelector | undefined,
  template: PodTemplateSpec,
): void {
  let matcher: ReturnType<typeof labelSelectorMatcher>;
  try {
    matcher = labelSelectorMatcher(selector);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    return;
  }
  const labels = template.metadata?.labels;
  if (matcher.nothing || !matcher.matches(labels))
    findings.invalid(
      `${field}.metadata.labels`,
      labels ?? null,
      '`selector` does not match template `labels`',
    );
}

function validateSelector(
  findings: Findings,
  selector: LabelSelector | undefined,
  template: PodTemplateSpec | undefined,
  owner: string,
): void {
  const field = 'spec.selector';
  if (selector === undefined) {
    findings.required(field);
    return;
  }
  findings.labelSelector(field, selector);
  const empty =
    Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0;
  if (empty) findings.invalid(field, selector, `empty selector is invalid for ${owner}`);
  else validateSelectedTemplate(findings, 'spec.template', selector, template ?? {});
}

function validateNoDeadline(findings: Findings, template: PodTemplateSpec, owner: string): void {
  if (template.spec?.activeDeadlineSeconds !== undefined)
    findings.forbidden(
      'spec.template.spec.activeDeadlineSeconds',
      `activeDeadlineSeconds in ${owner} is not Supported`,
    );
}

/** A disk of this kind can be on several machines only to be read. */
function validateReadOnlyDisks(findings: Findings, volumes: readonly Volume[] | undefined): void {
  for (const [i, volume] of (volumes ?? []).entries())
    if (volume.gcePersistentDisk !== undefined && volume.gcePersistentDisk.readOnly !== true)
      findings.invalid(
        `spec.template.spec.volumes[${i}].gcePersistentDisk.readOnly`,
        false,
        'must be read-only for replicated pods > 1; GCE PD can only be mounted on multiple machines if it is read-only',
      );
}

function validateReplicatedTemplate(
  findings: Findings,
  template: PodTemplateSpec | undefined,
  replicated: boolean,
  owner: string,
): void {
  if (template === undefined) {
    findings.required('spec.template');
    return;
  }
  validatePodTemplateSpec(findings, 'spec.template', template);
  if (replicated) validateReadOnlyDisks(findings, template.spec?.volumes);
  validateAlwaysRestarts(findings, 'spec.template', template.spec);
  validateNoDeadline(findings, template, owner);
}

/** A counter of name clashes only grows: names made from an old value would come back. */
function validateCollisionCount(
  findings: Findings,
  now: number | undefined,
  before: number | undefined,
): void {
  findings.notNegative('status.collisionCount', now);
  if (before !== undefined && (now ?? -1) < before)
    findings.invalid('status.collisionCount', now ?? 0, 'cannot be decremented');
}

function validateCounters(
  findings: Findings,
  status: object,
  counters: readonly string[],
  whole: readonly string[] = [],
): void {
  const values = status as Readonly<Record<string, number | undefined>>;
  for (const name of counters) findings.notNegative(`status.${name}`, values[name]);
  for (const name of whole)
    if ((values[name] ?? 0) > (values['replicas'] ?? 0))
      findings.invalid(`status.${name}`, values[name], 'cannot be greater than status.replicas');
}

function validateDeploymentStrategy(findings: Findings, strategy: DeploymentStrategy): void {
  const field = 'spec.strategy';
  switch (strategy.type) {
    case 'Recreate':
      if (strategy.rollingUpdate !== undefined)
        findings.forbidden(
          `${field}.rollingUpdate`,
          "may not be specified when strategy `type` is 'Recreate'",
        );
      break;
    case 'RollingUpdate': {
      const at = `${field}.rollingUpdate`;
      if (strategy.rollingUpdate === undefined) {
        findings.required(at, 'this should be defaulted and never be nil');
        break;
      }
      const { maxUnavailable, maxSurge } = strategy.rollingUpdate;
      validateIntOrPercent(findings, `${at}.maxUnavailable`, maxUnavailable);
      validateIntOrPercent(findings, `${at}.maxSurge`, maxSurge);
      if (amountOf(maxUnavailable) === 0 && amountOf(maxSurge) === 0)
        findings.invalid(`${at}.maxUnavailable`, maxUnavailable ?? 0, 'may not be 0 when `maxSurge` is 0');
      validateAtMostAll(findings, `${at}.maxUnavailable`, maxUnavailable);
      break;
    }
    default:
      findings.notSupported(field, strategy, ['Recreate', 'RollingUpdate']);
  }
}

const deployment: KindRules<Deployment> = {
  validate({ spec }, findings) {
    findings.notNegative('spec.replicas', spec?.replicas);
    validateSelector(findings, spec?.selector, spec?.template, 'deployment');
    validateReplicatedTemplate(findings, spec?.template, (spec?.replicas ?? 1) > 1, 'ReplicaSet');
    validateDeploymentStrategy(findings, spec?.strategy ?? {});
    findings.notNegative('spec.minReadySeconds', spec?.minReadySeconds);
    findings.notNegative('spec.revisionHistoryLimit', spec?.revisionHistoryLimit);
    const deadline = spec?.progressDeadlineSeconds;
    if (deadline === undefined) return;
    findings.notNegative('spec.progressDeadlineSeconds', deadline);
    if (deadline <= (spec?.minReadySeconds ?? 0))
      findings.invalid('spec.progressDeadlineSeconds', deadline, 'must be greater than minReadySeconds');
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec.selector', object.spec.selector, old.spec.selector);
  },
  validateStatusUpdate({ status = {} }, old, findings) {
    validateCounters(
      findings,
      status,
      [
        'observedGeneration',
        'replicas',
        'updatedReplicas',
        'readyReplicas',
        'availableReplicas',
        'unavailableReplicas',
        'terminatingReplicas',
      ],
      ['updatedReplicas', 'readyReplicas', 'availableReplicas'],
    );
    const available = status.availableReplicas ?? 0;
    if (available > (status.readyReplicas ?? 0))
      findings.invalid('status.availableReplicas', available, 'cannot be greater than readyReplicas');
    validateCollisionCount(findings, status.collisionCount, old.status?.collisionCount);
  },
};

const replicaSet: KindRules<ReplicaSet> = {
  validate({ spec }, findings) {
    findings.notNegative('spec.replicas', spec?.replicas);
    findings.notNegative('spec.minReadySeconds', spec?.minReadySeconds);
    // The word is upstream's: the rule was written for deployments first.
    validateSelector(findings, spec?.selector, spec?.template, 'deployment');
    validateReplicatedTemplate(findings, spec?.template, (spec?.replicas ?? 1) > 1, 'ReplicaSet');
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec.selector', object.spec.selector, old.spec.selector);
  },
  validateStatusUpdate(object, _old, findings) {
    const status = object.status ?? { replicas: 0 };
    validateReplicaStatus(findings, status);
    findings.notNegative('status.terminatingReplicas', status.terminatingReplicas);
  },
};

function validateDaemonSetStrategy(findings: Findings, strategy: DaemonSetUpdateStrategy): void {
  const field = 'spec.updateStrategy';
  if (strategy.type === 'OnDelete') return;
  if (strategy.type !== 'RollingUpdate') {
    findings.notSupported(field, strategy, ['OnDelete', 'RollingUpdate']);
    return;
  }
  const at = `${field}.rollingUpdate`;
  if (strategy.rollingUpdate === undefined) {
    findings.required(at);
    return;
  }
  const parts = {
    maxUnavailable: strategy.rollingUpdate.maxUnavailable,
    maxSurge: strategy.rollingUpdate.maxSurge,
  };
  for (const [name, value] of Object.entries(parts)) validateIntOrPercent(findings, `${at}.${name}`, value);
  for (const [name, value] of Object.entries(parts)) validateAtMostAll(findings, `${at}.${name}`, value);
  const surges = amountOf(parts.maxSurge) !== 0;
  const spares = amountOf(parts.maxUnavailable) !== 0;
  if (surges && spares)
    findings.invalid(`${at}.maxSurge`, parts.maxSurge, 'may not be set when maxUnavailable is non-zero');
  if (!surges && !spares) findings.required(`${at}.maxUnavailable`, 'cannot be 0 when maxSurge is 0');
}

const daemonSet: KindRules<DaemonSet> = {
  validate({ spec }, findings) {
    validateSelector(findings, spec?.selector, spec?.template, 'daemonset');
    // Daemons run on many nodes.
    validateReplicatedTemplate(findings, spec?.template, true, 'DaemonSet');
    findings.notNegative('spec.minReadySeconds', spec?.minReadySeconds);
    validateDaemonSetStrategy(findings, spec?.updateStrategy ?? {});
    findings.notNegative('spec.revisionHistoryLimit', spec?.revisionHistoryLimit);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec.selector', object.spec.selector, old.spec.selector);
  },
  validateStatusUpdate({ status }, old, findings) {
    validateCounters(findings, status ?? {}, [
      'currentNumberScheduled',
      'numberMisscheduled',
      'desiredNumberScheduled',
      'numberReady',
      'observedGeneration',
      'updatedNumberScheduled',
      'numberAvailable',
      'numberUnavailable',
    ]);
    validateCollisionCount(findings, status?.collisionCount, old.status?.collisionCount);
  },
};

function validateStatefulSetStrategy(findings: Findings, spec: StatefulSetSpec): void {
  const field = 'spec.updateStrategy';
  const { type, rollingUpdate } = spec.updateStrategy ?? {};
  switch (type) {
    case undefined:
      findings.required(field);
      break;
    case 'OnDelete':
      if (rollingUpdate !== undefined)
        findings.invalid(
          `${field}.rollingUpdate`,
          rollingUpdate,
          "only allowed for updateStrategy 'RollingUpdate'",
        );
      break;
    case 'RollingUpdate': {
      const at = `${field}.rollingUpdate`;
      findings.notNegative(`${at}.partition`, rollingUpdate?.partition);
      const most = rollingUpdate?.maxUnavailable;
      if (most === undefined) break;
      validateIntOrPercent(findings, `${at}.maxUnavailable`, most);
      if (amountOf(most) === 0) findings.invalid(`${at}.maxUnavailable`, most, 'cannot be 0');
      validateAtMostAll(findings, `${at}.maxUnavailable`, most);
      break;
    }
    default:
      findings.invalid(field, spec.updateStrategy, "must be 'RollingUpdate' or 'OnDelete'");
  }
}

/** The template with the volumes that the claim templates will put into each pod. */
function withClaimedVolumes(spec: StatefulSetSpec): PodTemplateSpec {
  const { template, volumeClaimTemplates = [] } = spec;
  if (template.spec === undefined || volumeClaimTemplates.length === 0) return template;
  const claimed = volumeClaimTemplates
    .map((claim) => claim.metadata?.name ?? '')
    .filter((name) => name !== '');
  const own = (template.spec.volumes ?? []).filter((volume) => !claimed.includes(volume.name));
  const volumes: Volume[] = [
    ...own,
    ...claimed.map((name) => ({ name, persistentVolumeClaim: { claimName: name } })),
  ];
  return { ...template, spec: { ...template.spec, volumes } };
}

const retentions = ['Delete', 'Retain'];

const statefulSet: KindRules<StatefulSet> = {
  // Its pods are called after it, and a pod's name is its host name.
  name: labelName,
  validate({ spec = { template: {} } as StatefulSetSpec }, findings) {
    const policy: string | undefined = spec.podManagementPolicy;
    if (!policy) findings.required('spec.podManagementPolicy');
    else if (policy !== 'OrderedReady' && policy !== 'Parallel')
      findings.invalid('spec.podManagementPolicy', policy, "must be 'OrderedReady' or 'Parallel'");
    validateStatefulSetStrategy(findings, spec);
    const kept = spec.persistentVolumeClaimRetentionPolicy;
    if (kept !== undefined)
      for (const when of ['whenDeleted', 'whenScaled'] as const) {
        const value = kept[when] ?? '';
        if (!retentions.includes(value))
          findings.notSupported(`spec.persistentVolumeClaimRetentionPolicy.${when}`, value, retentions);
      }
    findings.notNegative('spec.replicas', spec.replicas);
    findings.notNegative('spec.minReadySeconds', spec.minReadySeconds);
    findings.notNegative('spec.ordinals.start', spec.ordinals?.start);
    findings.notNegative('spec.revisionHistoryLimit', spec.revisionHistoryLimit);
    if (spec.serviceName)
      for (const complaint of labelName(spec.serviceName, false))
        findings.invalid('spec.serviceName', spec.serviceName, complaint);
    validateSelector(findings, spec.selector, spec.template, 'statefulset');
    if (spec.template === undefined) {
      findings.required('spec.template');
      return;
    }
    validatePodTemplateSpec(findings, 'spec.template', withClaimedVolumes(spec));
    validateAlwaysRestarts(findings, 'spec.template', spec.template.spec);
    validateNoDeadline(findings, spec.template, 'StatefulSet');
  },
  validateUpdate(object, old, findings) {
    const rest = (spec: StatefulSetSpec) => {
      const {
        replicas: _replicas,
        ordinals: _ordinals,
        template: _template,
        updateStrategy: _strategy,
        revisionHistoryLimit: _limit,
        persistentVolumeClaimRetentionPolicy: _policy,
        minReadySeconds: _seconds,
        ...others
      } = spec;
      return others;
    };
    if (!equal(rest(object.spec), rest(old.spec)))
      findings.forbidden(
        'spec',
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
      );
  },
  validateStatusUpdate({ status = { replicas: 0 } }, old, findings) {
    validateCounters(
      findings,
      status,
      [
        'replicas',
        'readyReplicas',
        'currentReplicas',
        'updatedReplicas',
        'availableReplicas',
        'observedGeneration',
      ],
      ['readyReplicas', 'currentReplicas', 'updatedReplicas', 'availableReplicas'],
    );
    const available = status.availableReplicas ?? 0;
    if (available > (status.readyReplicas ?? 0))
      findings.invalid('status.availableReplicas', available, 'cannot be greater than status.readyReplicas');
    validateCollisionCount(findings, status.collisionCount, old.status?.collisionCount);
  },
};

const controllerRevision: KindRules<ControllerRevision> = {
  validate(object, findings) {
    if (object.data === undefined) findings.required('data', 'data is mandatory');
    findings.notNegative('revision', object.revision);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('data', object.data, old.data);
  },
};

export const appsRules: Readonly<Record<string, AnyRules>> = {
  Deployment: deployment,
  ReplicaSet: replicaSet,
  DaemonSet: daemonSet,
  StatefulSet: statefulSet,
  ControllerRevision: controllerRevision,
};
