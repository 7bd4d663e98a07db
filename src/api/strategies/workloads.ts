// Strategies of apps, batch, autoscaling and policy.

import type { MutableObject } from '../definition.ts';
import type { JobSpec } from '../types/batch-v1.ts';
import type { StrategyRow } from './strategy.ts';

/** Labels that tie a job's pods to the job, each under its old and its new name. */
const jobNameLabels = ['job-name', 'batch.kubernetes.io/job-name'];
const jobUidLabels = ['controller-uid', 'batch.kubernetes.io/controller-uid'];

/** A job selects its pods by its own uid, unless the client says that it brings a selector of its own. */
function createJob(object: MutableObject): void {
  const spec = object['spec'] as JobSpec | undefined;
  if (spec?.template === undefined || spec.manualSelector === true) return;
  const { uid = '', name = '' } = object.metadata;
  spec.template.metadata ??= {};
  spec.template.metadata.labels ??= {};
  const { labels } = spec.template.metadata;
  for (const label of jobNameLabels) labels[label] ??= name;
  for (const label of jobUidLabels) labels[label] ??= uid;
  spec.selector ??= {};
  spec.selector.matchLabels ??= {};
  spec.selector.matchLabels['batch.kubernetes.io/controller-uid'] ??= uid;
}

export const appsRows: Readonly<Record<string, StrategyRow>> = {
  // Annotations are copied to the replica sets, so the controller must notice when they change.
  Deployment: { generation: true, generationCountsAnnotations: true },
  ReplicaSet: { generation: true, fields: ['status.replicas'] },
  DaemonSet: { generation: true },
  StatefulSet: { generation: true },
  ControllerRevision: {},
};

export const batchRows: Readonly<Record<string, StrategyRow>> = {
  Job: { generation: true, orphansByDefault: true, fields: ['status.successful'], create: createJob },
  CronJob: { generation: true },
};

export const autoscalingRows: Readonly<Record<string, StrategyRow>> = {
  HorizontalPodAutoscaler: {},
};

export const policyRows: Readonly<Record<string, StrategyRow>> = {
  PodDisruptionBudget: { generation: true, unconditionalUpdate: false },
};
