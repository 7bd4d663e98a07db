// Rules for priority classes. After pkg/apis/scheduling/validation.

import type { PriorityClass } from '../types/scheduling-v1.ts';
import type { AnyRules, KindRules } from './kind.ts';

const SYSTEM_PREFIX = 'system-';
const HIGHEST_OF_USERS = 1_000_000_000;

/** The classes that every cluster has, with the only value that they may have. */
const systemClasses: Readonly<Record<string, number>> = {
  'system-cluster-critical': 2_000_000_000,
  'system-node-critical': 2_000_001_000,
};

function whyNoSystemClass(object: PriorityClass): string | undefined {
  const name = object.metadata.name ?? '';
  if (!Object.hasOwn(systemClasses, name)) return `${name} is not a known system priority class`;
  if (object.value !== systemClasses[name])
    return `value of ${name} PriorityClass must be ${systemClasses[name]}`;
  return object.globalDefault === true ? `globalDefault of ${name} PriorityClass must be false` : undefined;
}

const priorityClass: KindRules<PriorityClass> = {
  validate(object, findings) {
    const value = object.value ?? 0;
    if (object.metadata.name?.startsWith(SYSTEM_PREFIX)) {
      const why = whyNoSystemClass(object);
      if (why !== undefined)
        findings.forbidden(
          'metadata.name',
          `priority class names with '${SYSTEM_PREFIX}' prefix are reserved for system use only. error: ${why}`,
        );
    } else if (value > HIGHEST_OF_USERS) {
      findings.forbidden('value', `maximum allowed value of a user defined priority is ${HIGHEST_OF_USERS}`);
    }
    findings.oneOf('preemptionPolicy', object.preemptionPolicy, ['PreemptLowerPriority', 'Never'], {
      required: true,
    });
  },
  validateUpdate(object, old, findings) {
    if ((object.value ?? 0) !== (old.value ?? 0))
      findings.forbidden('value', 'may not be changed in an update.');
    findings.immutable('preemptionPolicy', object.preemptionPolicy, old.preemptionPolicy);
  },
};

export const schedulingRules: Readonly<Record<string, AnyRules>> = { PriorityClass: priorityClass };
