// Rules for runtime classes. After pkg/apis/node/validation.

import { dns1123Label } from '../names.ts';
import type { Toleration } from '../types/core-v1.ts';
import type { RuntimeClass } from '../types/node-v1.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { validateTolerations } from './pod-scheduling.ts';
import { validateContainerResourceName, validateResourceAmount } from './resources.ts';

function keyOf({ key, operator, value, effect }: Toleration): string {
  return JSON.stringify([key ?? '', operator ?? '', value ?? '', effect ?? '']);
}

const runtimeClass: KindRules<RuntimeClass> = {
  validate(object, findings) {
    findings.text('handler', object.handler ?? '', dns1123Label);
    for (const [name, amount] of Object.entries(object.overhead?.podFixed ?? {})) {
      const at = `overhead.limits[${name}]`;
      validateContainerResourceName(findings, at, name);
      validateResourceAmount(findings, at, name, amount);
    }
    if (object.scheduling === undefined) return;
    findings.labels('scheduling.nodeSelector', object.scheduling.nodeSelector);
    const tolerations = object.scheduling.tolerations ?? [];
    validateTolerations(findings, 'scheduling.tolerations', tolerations);
    const seen = new Set<string>();
    for (const [i, toleration] of tolerations.entries()) {
      if (seen.has(keyOf(toleration))) findings.duplicate(`scheduling.tolerations[${i}]`, toleration);
      seen.add(keyOf(toleration));
    }
  },
  validateUpdate(object, old, findings) {
    findings.immutable('handler', object.handler, old.handler);
  },
};

export const nodeRules: Readonly<Record<string, AnyRules>> = { RuntimeClass: runtimeClass };
