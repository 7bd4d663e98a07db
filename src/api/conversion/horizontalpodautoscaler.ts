// HorizontalPodAutoscalers are stored as autoscaling/v2. Version 1 knows the CPU target only: all else travels in
// annotations, in the shapes of v1's MetricSpec and MetricStatus, as upstream does (pkg/apis/autoscaling/v1 and
// annotations.go there), so that a v1 client that writes back what it read loses nothing.

import { defaultHorizontalPodAutoscalerV2 } from '../defaults/autoscaling.ts';
import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { QuantityError } from '../quantity.ts';
import { typeSchema } from '../schema/builtin.ts';
import { normalise, TypeMismatchError } from '../schema/normalise.ts';
import { TimeFormatError } from '../schema/time.ts';

const METRICS = 'autoscaling.alpha.kubernetes.io/metrics';
const CURRENT_METRICS = 'autoscaling.alpha.kubernetes.io/current-metrics';
const CONDITIONS = 'autoscaling.alpha.kubernetes.io/conditions';
const BEHAVIOR = 'autoscaling.alpha.kubernetes.io/behavior';
const ROUND_TRIP = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

type Json = Record<string, unknown>;

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function member(from: unknown, name: string): Json | undefined {
  const value = isJson(from) ? from[name] : undefined;
  return isJson(value) ? value : undefined;
}

/** The given members that are not undefined. */
function made(members: Json): Json {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** A target of v2 from what v1 has under one or two names. */
function target(utilization: unknown, averageValue: unknown, value?: unknown): Json {
  const type =
    utilization !== undefined ? 'Utilization' : averageValue !== undefined ? 'AverageValue' : 'Value';
  return made({ type, value, averageValue, averageUtilization: utilization });
}

/** One form of a metric: how a spec and a status of it change from v1 to v2 and back. */
interface MetricForm {
  specToV2(v1: Json): Json;
  specToV1(v2: Json): Json;
  statusToV2(v1: Json): Json;
  statusToV1(v2: Json): Json;
}

const resourceForm: MetricForm = {
  specToV2: (v1) =>
    made({
      name: v1['name'],
      target: target(v1['targetAverageUtilization'], v1['targetAverageValue']),
      container: v1['container'],
    }),
  specToV1: (v2) =>
    made({
      name: v2['name'],
      targetAverageUtilization: member(v2, 'target')?.['averageUtilization'],
      targetAverageValue: member(v2, 'target')?.['averageValue'],
      container: v2['container'],
    }),
  statusToV2: (v1) =>
    made({
      name: v1['name'],
      current: made({
        averageValue: v1['currentAverageValue'],
        averageUtilization: v1['currentAverageUtilization'],
      }),
      container: v1['container'],
    }),
  statusToV1: (v2) =>
    made({
      name: v2['name'],
      currentAverageUtilization: member(v2, 'current')?.['averageUtilization'],
      currentAverageValue: member(v2, 'current')?.['averageValue'] ?? '0',
      container: v2['container'],
    }),
};

const identifier = (name: unknown, selector: unknown): Json => made({ name: name ?? '', selector });

const FORMS: Readonly<Record<string, MetricForm>> = {
  resource: resourceForm,
  containerResource: resourceForm,
  pods: {
    specToV2: (v1) => ({
      metric: identifier(v1['metricName'], v1['selector']),
      target: target(undefined, v1['targetAverageValue']),
    }),
    specToV1: (v2) =>
      made({
        metricName: member(v2, 'metric')?.['name'],
        targetAverageValue: member(v2, 'target')?.['averageValue'] ?? '0',
        selector: member(v2, 'metric')?.['selector'],
      }),
    statusToV2: (v1) => ({
      metric: identifier(v1['metricName'], v1['selector']),
      current: made({ averageValue: v1['currentAverageValue'] }),
    }),
    statusToV1: (v2) =>
      made({
        metricName: member(v2, 'metric')?.['name'],
        currentAverageValue: member(v2, 'current')?.['averageValue'] ?? '0',
        selector: member(v2, 'metric')?.['selector'],
      }),
  },
  object: {
    specToV2: (v1) => ({
      describedObject: v1['target'] ?? { kind: '', name: '' },
      target:
        v1['averageValue'] === undefined
          ? target(undefined, undefined, v1['targetValue'])
          : target(undefined, v1['averageValue']),
      metric: identifier(v1['metricName'], v1['selector']),
    }),
    specToV1: (v2) =>
      made({
        target: v2['describedObject'],
        metricName: member(v2, 'metric')?.['name'],
        targetValue: member(v2, 'target')?.['value'] ?? '0',
        selector: member(v2, 'metric')?.['selector'],
        averageValue: member(v2, 'target')?.['averageValue'],
      }),
    statusToV2: (v1) => ({
      metric: identifier(v1['metricName'], v1['selector']),
      current: made({ value: v1['currentValue'], averageValue: v1['averageValue'] }),
      describedObject: v1['target'] ?? { kind: '', name: '' },
    }),
    statusToV1: (v2) =>
      made({
        target: v2['describedObject'],
        metricName: member(v2, 'metric')?.['name'],
        currentValue: member(v2, 'current')?.['value'] ?? '0',
        selector: member(v2, 'metric')?.['selector'],
        averageValue: member(v2, 'current')?.['averageValue'],
      }),
  },
  external: {
    specToV2: (v1) => ({
      metric: identifier(v1['metricName'], v1['metricSelector']),
      target: target(undefined, v1['targetAverageValue'], v1['targetValue']),
    }),
    specToV1: (v2) =>
      made({
        metricName: member(v2, 'metric')?.['name'],
        metricSelector: member(v2, 'metric')?.['selector'],
        targetValue: member(v2, 'target')?.['value'],
        targetAverageValue: member(v2, 'target')?.['averageValue'],
      }),
    statusToV2: (v1) => ({
      metric: identifier(v1['metricName'], v1['metricSelector']),
      current: made({ value: v1['currentValue'], averageValue: v1['currentAverageValue'] }),
    }),
    statusToV1: (v2) =>
      made({
        metricName: member(v2, 'metric')?.['name'],
        metricSelector: member(v2, 'metric')?.['selector'],
        currentValue: member(v2, 'current')?.['value'] ?? '0',
        currentAverageValue: member(v2, 'current')?.['averageValue'],
      }),
  },
};

function convertMetric(metric: Json, step: keyof MetricForm): Json {
  const out: Json = { type: metric['type'] };
  for (const [name, form] of Object.entries(FORMS)) {
    const source = member(metric, name);
    if (source) out[name] = form[step](source);
  }
  return out;
}

function isCpuUtilization(metric: unknown, where: 'target' | 'current'): boolean {
  const resource = member(metric, 'resource');
  return (
    isJson(metric) &&
    metric['type'] === 'Resource' &&
    resource?.['name'] === 'cpu' &&
    member(resource, where)?.['averageUtilization'] !== undefined
  );
}

function metricsOf(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter(isJson) : [];
}

/** An annotation's JSON; undefined when there is none or it is not JSON (upstream ignores it then). */
function annotation(annotations: Readonly<Record<string, string>>, name: string): unknown {
  const text = annotations[name];
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function withAnnotations(
  metadata: MutableObject['metadata'],
  annotations: Record<string, string>,
): MutableObject['metadata'] {
  const { annotations: _, ...rest } = metadata;
  return Object.keys(annotations).length === 0 ? rest : { ...rest, annotations };
}

function withoutRoundTrip(annotations: Readonly<Record<string, string>> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(annotations ?? {}).filter(([name]) => !ROUND_TRIP.includes(name)));
}

function toV2(object: MutableObject, annotations: Readonly<Record<string, string>>): MutableObject {
  const { targetCPUUtilizationPercentage: cpu, ...spec } = (object['spec'] ?? {}) as Json;
  const { currentCPUUtilizationPercentage: currentCpu, ...status } = (object['status'] ?? {}) as Json;

  const metrics = metricsOf(annotation(annotations, METRICS)).map((m) => convertMetric(m, 'specToV2'));
  if (cpu !== undefined)
    metrics.push({
      type: 'Resource',
      resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: cpu } },
    });
  if (metrics.length > 0) spec['metrics'] = metrics;
  const behavior = annotation(annotations, BEHAVIOR);
  if (isJson(behavior)) spec['behavior'] = behavior;

  const currentMetrics = metricsOf(annotation(annotations, CURRENT_METRICS)).map((m) =>
    convertMetric(m, 'statusToV2'),
  );
  if (currentCpu !== undefined && !currentMetrics.some((m) => isCpuUtilization(m, 'current')))
    currentMetrics.push({
      type: 'Resource',
      resource: { name: 'cpu', current: { averageUtilization: currentCpu } },
    });
  status['currentMetrics'] = currentMetrics;
  const conditions = metricsOf(annotation(annotations, CONDITIONS));
  if (conditions.length > 0) status['conditions'] = conditions;

  const out: MutableObject = {
    kind: 'HorizontalPodAutoscaler',
    apiVersion: 'autoscaling/v2',
    metadata: withAnnotations(object.metadata, withoutRoundTrip(object.metadata.annotations)),
    spec,
    status,
  };
  return out;
}

function inForm(object: MutableObject): MutableObject {
  const out: MutableObject = { kind: '', apiVersion: '', metadata: {} };
  normalise(typeSchema('io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler'), object, out, { strict: false });
  return out;
}

export const autoscalerConversion: NonNullable<ResourceDefinition['conversion']> = {
  toStorage(object: MutableObject): MutableObject {
    let out: MutableObject;
    try {
      out = inForm(toV2(object, object.metadata.annotations ?? {}));
    } catch (error) {
      // What stands in an annotation is the client's text, checked by nobody: when it does not fit, it is ignored.
      if (
        !(
          error instanceof TypeMismatchError ||
          error instanceof QuantityError ||
          error instanceof TimeFormatError
        )
      )
        throw error;
      out = inForm(toV2(object, {}));
    }
    defaultHorizontalPodAutoscalerV2(out);
    return out;
  },

  fromStorage(object: MutableObject): MutableObject {
    const { metrics, behavior, ...spec } = (object['spec'] ?? {}) as Json;
    const { currentMetrics, conditions, ...status } = (object['status'] ?? {}) as Json;
    const annotations = withoutRoundTrip(object.metadata.annotations);

    const specs = metricsOf(metrics);
    const cpu = specs.find((m) => isCpuUtilization(m, 'target'));
    if (cpu)
      spec['targetCPUUtilizationPercentage'] = member(member(cpu, 'resource'), 'target')?.[
        'averageUtilization'
      ];
    const others = specs.filter((m) => !isCpuUtilization(m, 'target'));
    if (others.length > 0)
      annotations[METRICS] = JSON.stringify(others.map((m) => convertMetric(m, 'specToV1')));
    if (isJson(behavior)) annotations[BEHAVIOR] = JSON.stringify(behavior);

    // The status of the CPU goes into the annotation too: it carries the raw value.
    const current = metricsOf(currentMetrics);
    const currentCpu = current.find((m) => isCpuUtilization(m, 'current'));
    if (currentCpu)
      status['currentCPUUtilizationPercentage'] = member(member(currentCpu, 'resource'), 'current')?.[
        'averageUtilization'
      ];
    if (current.length > 0)
      annotations[CURRENT_METRICS] = JSON.stringify(current.map((m) => convertMetric(m, 'statusToV1')));
    const conditionList = metricsOf(conditions);
    if (conditionList.length > 0) annotations[CONDITIONS] = JSON.stringify(conditionList);
    status['currentReplicas'] ??= 0;

    return {
      kind: 'HorizontalPodAutoscaler',
      apiVersion: 'autoscaling/v1',
      metadata: withAnnotations(object.metadata, annotations),
      spec,
      status,
    };
  },
};
