// Rules for disruption budgets. After pkg/apis/policy/validation.

import { qualifiedName } from '../names.ts';
import type { PodDisruptionBudget } from '../types/policy-v1.ts';
import { validateAtMostAll, validateIntOrPercent } from './int-or-percent.ts';
import type { AnyRules, KindRules } from './kind.ts';

const podDisruptionBudget: KindRules<PodDisruptionBudget> = {
  validate({ spec = {} }, findings) {
    if (spec.minAvailable !== undefined && spec.maxUnavailable !== undefined)
      findings.invalid('spec', spec, 'minAvailable and maxUnavailable cannot be both set');
    for (const name of ['minAvailable', 'maxUnavailable'] as const) {
      validateIntOrPercent(findings, `spec.${name}`, spec[name]);
      validateAtMostAll(findings, `spec.${name}`, spec[name]);
    }
    findings.labelSelector('spec.selector', spec.selector);
    findings.oneOf('spec.unhealthyPodEvictionPolicy', spec.unhealthyPodEvictionPolicy, [
      'AlwaysAllow',
      'IfHealthyBudget',
    ]);
  },
  validateStatusUpdate({ status = {} }, _old, findings) {
    for (const [i, condition] of (status.conditions ?? []).entries()) {
      const at = `status.conditions[${i}]`;
      findings.name(`${at}.type`, condition.type, qualifiedName);
      findings.oneOf(`${at}.status`, condition.status, ['False', 'True', 'Unknown'], { required: true });
      if (!condition.lastTransitionTime) findings.required(`${at}.lastTransitionTime`, 'must be set');
      if (!condition.reason) findings.required(`${at}.reason`);
    }
    for (const name of ['disruptionsAllowed', 'currentHealthy', 'desiredHealthy', 'expectedPods'] as const)
      findings.notNegative(`status.${name}`, status[name]);
  },
};

export const policyRules: Readonly<Record<string, AnyRules>> = {
  PodDisruptionBudget: podDisruptionBudget,
};
