// Tables of apps, batch, autoscaling and policy.

import { formatLabelSelector, formatLabels } from '../labels.ts';
import { controllerOf, isConditionTrue, timestampMs } from '../meta.ts';
import { parseGroupVersion } from '../object.ts';
import type { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet } from '../types/apps-v1.ts';
import type { HorizontalPodAutoscaler as AutoscalerV1, Scale } from '../types/autoscaling-v1.ts';
import type { HorizontalPodAutoscaler, MetricSpec, MetricStatus } from '../types/autoscaling-v2.ts';
import type { CronJob, Job } from '../types/batch-v1.ts';
import type { PodDisruptionBudget } from '../types/policy-v1.ts';
import { humanDuration, since } from './age.ts';
import { containerCells, type KindTable, name, table, yesNo } from './table.ts';

export const appsTables: Readonly<Record<string, KindTable>> = {
  Deployment: table<Deployment>(
    [
      name,
      'Ready',
      ['Up-to-date', 'string'],
      ['Available', 'string'],
      'Age',
      '+Containers',
      '+Images',
      '+Selector',
    ],
    (object, now) => [
      object.metadata.name,
      `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`,
      object.status?.updatedReplicas ?? 0,
      object.status?.availableReplicas ?? 0,
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.template.spec),
      formatLabelSelector(object.spec?.selector),
    ],
  ),
  ReplicaSet: table<ReplicaSet>(
    [
      name,
      ['Desired', 'integer'],
      ['Current', 'integer'],
      ['Ready', 'integer'],
      'Age',
      '+Containers',
      '+Images',
      '+Selector',
    ],
    (object, now) => [
      object.metadata.name,
      object.spec?.replicas ?? 0,
      object.status?.replicas ?? 0,
      object.status?.readyReplicas ?? 0,
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.template?.spec),
      formatLabelSelector(object.spec?.selector),
    ],
  ),
  DaemonSet: table<DaemonSet>(
    [
      name,
      ['Desired', 'integer'],
      ['Current', 'integer'],
      ['Ready', 'integer'],
      ['Up-to-date', 'integer'],
      ['Available', 'integer'],
      'Node Selector',
      'Age',
      '+Containers',
      '+Images',
      '+Selector',
    ],
    (object, now) => [
      object.metadata.name,
      object.status?.desiredNumberScheduled ?? 0,
      object.status?.currentNumberScheduled ?? 0,
      object.status?.numberReady ?? 0,
      object.status?.updatedNumberScheduled ?? 0,
      object.status?.numberAvailable ?? 0,
      formatLabels(object.spec?.template.spec?.nodeSelector),
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.template.spec),
      formatLabelSelector(object.spec?.selector),
    ],
  ),
  StatefulSet: table<StatefulSet>([name, 'Ready', 'Age', '+Containers', '+Images'], (object, now) => [
    object.metadata.name,
    `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`,
    since(object.metadata.creationTimestamp, now),
    ...containerCells(object.spec?.template.spec),
  ]),
  ControllerRevision: table<ControllerRevision>([name, 'Controller', 'Revision', 'Age'], (object, now) => {
    const owner = controllerOf(object);
    const group = owner === undefined ? '' : parseGroupVersion(owner.apiVersion).group;
    return [
      object.metadata.name,
      owner === undefined
        ? '<none>'
        : `${[owner.kind, group]
            .filter((part) => part !== '')
            .join('.')
            .toLowerCase()}/${owner.name}`,
      object.revision,
      since(object.metadata.creationTimestamp, now),
    ];
  }),
};

function jobStatus(job: Job): string {
  const conditions = job.status?.conditions;
  if (isConditionTrue(conditions, 'Complete')) return 'Complete';
  if (isConditionTrue(conditions, 'Failed')) return 'Failed';
  if (job.metadata.deletionTimestamp !== undefined) return 'Terminating';
  for (const type of ['Suspended', 'FailureTarget', 'SuccessCriteriaMet'])
    if (isConditionTrue(conditions, type)) return type;
  return 'Running';
}

function jobCompletions(job: Job): string {
  const succeeded = job.status?.succeeded ?? 0;
  if (job.spec?.completions !== undefined) return `${succeeded}/${job.spec.completions}`;
  const parallelism = job.spec?.parallelism ?? 0;
  return parallelism > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`;
}

function jobDuration(job: Job, now: number): string {
  const start = timestampMs(job.status?.startTime);
  if (start === undefined) return '';
  return humanDuration((timestampMs(job.status?.completionTime) ?? now) - start);
}

export const batchTables: Readonly<Record<string, KindTable>> = {
  Job: table<Job>(
    [name, 'Status', 'Completions', 'Duration', 'Age', '+Containers', '+Images', '+Selector'],
    (object, now) => [
      object.metadata.name,
      jobStatus(object),
      jobCompletions(object),
      jobDuration(object, now),
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.template.spec),
      formatLabelSelector(object.spec?.selector),
    ],
  ),
  CronJob: table<CronJob>(
    [
      name,
      'Schedule',
      'Timezone',
      ['Suspend', 'boolean'],
      ['Active', 'integer'],
      'Last Schedule',
      'Age',
      '+Containers',
      '+Images',
      '+Selector',
    ],
    (object, now) => [
      object.metadata.name,
      object.spec?.schedule ?? '',
      object.spec?.timeZone ?? '<none>',
      yesNo(object.spec?.suspend),
      (object.status?.active ?? []).length,
      object.status?.lastScheduleTime === undefined ? '<none>' : since(object.status.lastScheduleTime, now),
      since(object.metadata.creationTimestamp, now),
      ...containerCells(object.spec?.jobTemplate.spec?.template.spec),
      formatLabelSelector(object.spec?.jobTemplate.spec?.selector),
    ],
  ),
};

/** What a metric is, and what it should be. */
function metricText(spec: MetricSpec, status: MetricStatus | undefined): string {
  switch (spec.type) {
    case 'External':
    case 'Object': {
      const field = spec.type === 'External' ? 'external' : 'object';
      const target = spec[field]?.target;
      const current = status?.[field]?.current;
      return target?.averageValue !== undefined
        ? `${current?.averageValue ?? '<unknown>'}/${target.averageValue} (avg)`
        : `${current?.value ?? '<unknown>'}/${target?.value ?? '<unknown>'}`;
    }
    case 'Pods':
      return `${status?.pods?.current.averageValue ?? '<unknown>'}/${spec.pods?.target.averageValue ?? ''}`;
    case 'Resource':
    case 'ContainerResource': {
      const field = spec.type === 'Resource' ? 'resource' : 'containerResource';
      const target = spec[field]?.target;
      const current = status?.[field]?.current;
      const label = spec[field]?.name ?? '';
      if (target?.averageValue !== undefined)
        return `${label}: ${current?.averageValue ?? '<unknown>'}/${target.averageValue}`;
      const now = current?.averageUtilization;
      const wanted = target?.averageUtilization;
      return `${label}: ${now === undefined ? '<unknown>' : `${now}%`}/${wanted === undefined ? '<auto>' : `${wanted}%`}`;
    }
    default:
      return '<unknown type>';
  }
}

function metricsText(object: HorizontalPodAutoscaler & AutoscalerV1): string {
  const cpu = object.spec?.targetCPUUtilizationPercentage;
  if (cpu !== undefined) {
    const current = object.status?.currentCPUUtilizationPercentage;
    return `cpu: ${current === undefined ? '<unknown>' : `${current}%`}/${cpu}%`;
  }
  const specs = object.spec?.metrics ?? [];
  if (specs.length === 0) return '<none>';
  const texts = specs.slice(0, 2).map((spec, i) => metricText(spec, object.status?.currentMetrics?.[i]));
  return specs.length > 2 ? `${texts.join(', ')} + ${specs.length - 2} more...` : texts.join(', ');
}

export const autoscalingTables: Readonly<Record<string, KindTable>> = {
  // Rows of both versions are made here: v1 has one metric, as a field of its own.
  HorizontalPodAutoscaler: table<HorizontalPodAutoscaler & AutoscalerV1>(
    [name, 'Reference', 'Targets', 'MinPods', 'MaxPods', 'Replicas', 'Age'],
    (object, now) => [
      object.metadata.name,
      `${object.spec?.scaleTargetRef.kind ?? ''}/${object.spec?.scaleTargetRef.name ?? ''}`,
      metricsText(object),
      object.spec?.minReplicas === undefined ? '<unset>' : String(object.spec.minReplicas),
      object.spec?.maxReplicas ?? 0,
      object.status?.currentReplicas ?? 0,
      since(object.metadata.creationTimestamp, now),
    ],
  ),
  Scale: table<Scale>(['Name', ['Desired', 'integer'], ['Available', 'integer'], 'Age'], (object, now) => [
    object.metadata?.name ?? '',
    object.spec?.replicas ?? 0,
    object.status?.replicas ?? 0,
    since(object.metadata?.creationTimestamp, now),
  ]),
};

export const policyTables: Readonly<Record<string, KindTable>> = {
  PodDisruptionBudget: table<PodDisruptionBudget>(
    [name, 'Min Available', 'Max Unavailable', ['Allowed Disruptions', 'integer'], 'Age'],
    (object, now) => [
      object.metadata.name,
      object.spec?.minAvailable === undefined ? 'N/A' : String(object.spec.minAvailable),
      object.spec?.maxUnavailable === undefined ? 'N/A' : String(object.spec.maxUnavailable),
      object.status?.disruptionsAllowed ?? 0,
      since(object.metadata.creationTimestamp, now),
    ],
  ),
};
