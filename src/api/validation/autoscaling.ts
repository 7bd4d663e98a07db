// Rules for autoscalers, in the shape of version 2: what may be measured, and what of it may be aimed at. After
// pkg/apis/autoscaling/validation.

import { dns1123Label, pathSegmentName } from '../names.ts';
import { isQuantity, parseQuantity, quantitySign } from '../quantity.ts';
import type {
  CrossVersionObjectReference,
  HorizontalPodAutoscaler,
  HPAScalingRules,
  MetricIdentifier,
  MetricSpec,
  MetricTarget,
} from '../types/autoscaling-v2.ts';
import { type Findings, POSITIVE } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { validateContainerResourceName, validateNotNegative } from './resources.ts';

const LONGEST_PERIOD = 1800;
const LONGEST_WINDOW = 3600;

function validateTargetReference(
  findings: Findings,
  field: string,
  reference: CrossVersionObjectReference | undefined,
): void {
  findings.name(`${field}.kind`, reference?.kind, pathSegmentName);
  findings.name(`${field}.name`, reference?.name, pathSegmentName);
}

function validateIdentifier(findings: Findings, field: string, metric: MetricIdentifier | undefined): void {
  if (!metric?.name) findings.required(`${field}.name`, 'must specify a metric name');
  else findings.text(`${field}.name`, metric.name, pathSegmentName);
}

function validatePositive(findings: Findings, field: string, amount: string | undefined): void {
  if (amount === undefined) return;
  if (!isQuantity(amount) || quantitySign(parseQuantity(amount)) <= 0)
    findings.invalid(field, amount, 'must be positive');
}

function validateTarget(findings: Findings, field: string, target: MetricTarget | undefined): MetricTarget {
  const type = target?.type ?? '';
  if (type === '') findings.required(`${field}.type`, 'must specify a metric target type');
  if (!['Utilization', 'Value', 'AverageValue'].includes(type))
    findings.invalid(`${field}.type`, type, 'must be either Utilization, Value, or AverageValue');
  validatePositive(findings, `${field}.value`, target?.value);
  validatePositive(findings, `${field}.averageValue`, target?.averageValue);
  const utilization = target?.averageUtilization;
  if (utilization !== undefined && utilization < 1)
    findings.invalid(`${field}.averageUtilization`, utilization, 'must be greater than 0');
  return target ?? { type };
}

function validateResourceTarget(findings: Findings, field: string, target: MetricTarget | undefined): void {
  const { averageUtilization, averageValue } = validateTarget(findings, field, target);
  if (averageUtilization === undefined && averageValue === undefined)
    findings.required(
      `${field}.averageUtilization`,
      'must set either a target raw value or a target utilization',
    );
  if (averageUtilization !== undefined && averageValue !== undefined)
    findings.forbidden(
      `${field}.averageValue`,
      'may not set both a target raw value and a target utilization',
    );
}

/** Each source of metrics, under the field that it is written in. */
const sources: Readonly<Record<string, (findings: Findings, field: string, metric: MetricSpec) => void>> = {
  object(findings, field, { object }) {
    validateTargetReference(findings, `${field}.describedObject`, object?.describedObject);
    validateIdentifier(findings, `${field}.metric`, object?.metric);
    const { value, averageValue } = validateTarget(findings, `${field}.target`, object?.target);
    if (value === undefined && averageValue === undefined)
      findings.required(`${field}.target.averageValue`, 'must set either a target value or averageValue');
  },
  external(findings, field, { external }) {
    validateIdentifier(findings, `${field}.metric`, external?.metric);
    const { value, averageValue } = validateTarget(findings, `${field}.target`, external?.target);
    if (value === undefined && averageValue === undefined)
      findings.required(
        `${field}.target.averageValue`,
        'must set either a target value for metric or a per-pod target',
      );
    if (value !== undefined && averageValue !== undefined)
      findings.forbidden(
        `${field}.target.value`,
        'may not set both a target value for metric and a per-pod target',
      );
  },
  pods(findings, field, { pods }) {
    validateIdentifier(findings, `${field}.metric`, pods?.metric);
    const { averageValue } = validateTarget(findings, `${field}.target`, pods?.target);
    if (averageValue === undefined)
      findings.required(`${field}.target.averageValue`, 'must specify a positive target averageValue');
  },
  resource(findings, field, { resource }) {
    if (!resource?.name) findings.required(`${field}.name`, 'must specify a resource name');
    validateResourceTarget(findings, `${field}.target`, resource?.target);
  },
  containerResource(findings, field, { containerResource }) {
    const { name, container } = containerResource ?? {};
    if (!name) findings.required(`${field}.name`, 'must specify a resource name');
    else validateContainerResourceName(findings, `${field}.name`, name);
    if (!container) findings.required(`${field}.container`, 'must specify a container');
    else findings.text(`${field}.container`, container, dns1123Label);
    validateResourceTarget(findings, `${field}.target`, containerResource?.target);
  },
};

/** The field of each type of metric. */
const metricTypes: Readonly<Record<string, string>> = {
  ContainerResource: 'containerResource',
  External: 'external',
  Object: 'object',
  Pods: 'pods',
  Resource: 'resource',
};

function validateMetric(findings: Findings, field: string, metric: MetricSpec): void {
  const { type = '' } = metric;
  if (type === '') findings.required(`${field}.type`, 'must specify a metric source type');
  const expected = Object.hasOwn(metricTypes, type) ? metricTypes[type] : undefined;
  if (expected === undefined) findings.notSupported(`${field}.type`, type, Object.keys(metricTypes));
  const present = Object.keys(sources).filter((name) => metric[name as keyof MetricSpec] !== undefined);
  if (present[0] !== undefined) sources[present[0]]!(findings, `${field}.${present[0]}`, metric);
  if (expected !== undefined && !present.includes(expected))
    findings.required(`${field}.${expected}`, 'must populate information for the given metric source');
  if (present.length > 1)
    for (const name of present)
      if (name !== expected)
        findings.forbidden(`${field}.${name}`, 'must populate the given metric source only');
}

function validateScaling(findings: Findings, field: string, rules: HPAScalingRules | undefined): void {
  if (rules === undefined) return;
  const window = rules.stabilizationWindowSeconds;
  if (window !== undefined && window < 0)
    findings.invalid(`${field}.stabilizationWindowSeconds`, window, 'must be greater than or equal to zero');
  if (window !== undefined && window > LONGEST_WINDOW)
    findings.invalid(
      `${field}.stabilizationWindowSeconds`,
      window,
      `must be less than or equal to ${LONGEST_WINDOW}`,
    );
  findings.oneOf(`${field}.selectPolicy`, rules.selectPolicy, ['Disabled', 'Max', 'Min']);
  const policies = rules.policies ?? [];
  if (policies.length === 0) findings.required(`${field}.policies`, 'must specify at least one Policy');
  for (const [i, policy] of policies.entries()) {
    const at = `${field}.policies[${i}]`;
    if (policy.type !== 'Pods' && policy.type !== 'Percent')
      findings.notSupported(`${at}.type`, policy.type ?? '', ['Percent', 'Pods']);
    for (const name of ['value', 'periodSeconds'] as const)
      if ((policy[name] ?? 0) <= 0) findings.invalid(`${at}.${name}`, policy[name] ?? 0, POSITIVE);
    if ((policy.periodSeconds ?? 0) > LONGEST_PERIOD)
      findings.invalid(
        `${at}.periodSeconds`,
        policy.periodSeconds,
        `must be less than or equal to ${LONGEST_PERIOD}`,
      );
  }
  validateNotNegative(findings, `${field}.tolerance`, rules.tolerance);
}

const horizontalPodAutoscaler: KindRules<HorizontalPodAutoscaler> = {
  validate({ spec }, findings) {
    const least = spec?.minReplicas;
    const most = spec?.maxReplicas ?? 0;
    if (least !== undefined && least < 1)
      findings.invalid('spec.minReplicas', least, 'must be greater than or equal to 1');
    if (most < 1) findings.invalid('spec.maxReplicas', most, 'must be greater than 0');
    if (least !== undefined && most < least)
      findings.invalid('spec.maxReplicas', most, 'must be greater than or equal to `minReplicas`');
    validateTargetReference(findings, 'spec.scaleTargetRef', spec?.scaleTargetRef);
    for (const [i, metric] of (spec?.metrics ?? []).entries())
      validateMetric(findings, `spec.metrics[${i}]`, metric);
    validateScaling(findings, 'spec.behavior.scaleUp', spec?.behavior?.scaleUp);
    validateScaling(findings, 'spec.behavior.scaleDown', spec?.behavior?.scaleDown);
  },
  validateStatusUpdate(object, _old, findings) {
    findings.notNegative('status.currentReplicas', object.status?.currentReplicas);
    findings.notNegative('status.desiredReplicas', object.status?.desiredReplicas);
  },
};

export const autoscalingRules: Readonly<Record<string, AnyRules>> = {
  HorizontalPodAutoscaler: horizontalPodAutoscaler,
};
