// Defaults of the autoscaling group (pkg/apis/autoscaling/v1 and v2 upstream).

import type { MutableObject } from '../definition.ts';
import type { HorizontalPodAutoscaler as V1 } from '../types/autoscaling-v1.ts';
import type { HorizontalPodAutoscaler, HPAScalingRules } from '../types/autoscaling-v2.ts';

const CPU_UTILIZATION_PERCENT = 80;
const PERIOD_SECONDS = 15;

/** Version 1 gets no target here: a target that comes by default is seen in version 2 only. */
export function defaultHorizontalPodAutoscalerV1(autoscaler: V1): void {
  autoscaler.spec.minReplicas ??= 1;
}

function scaleUp(rules: HPAScalingRules | undefined): HPAScalingRules {
  return {
    ...rules,
    stabilizationWindowSeconds: rules?.stabilizationWindowSeconds ?? 0,
    selectPolicy: rules?.selectPolicy ?? 'Max',
    policies: rules?.policies ?? [
      { type: 'Pods', value: 4, periodSeconds: PERIOD_SECONDS },
      { type: 'Percent', value: 100, periodSeconds: PERIOD_SECONDS },
    ],
  };
}

/** The stabilisation window stays unset: the controller's own setting decides. */
function scaleDown(rules: HPAScalingRules | undefined): HPAScalingRules {
  return {
    ...rules,
    selectPolicy: rules?.selectPolicy ?? 'Max',
    policies: rules?.policies ?? [{ type: 'Percent', value: 100, periodSeconds: PERIOD_SECONDS }],
  };
}

export function defaultHorizontalPodAutoscalerV2(object: MutableObject): void {
  const { spec } = object as unknown as HorizontalPodAutoscaler;
  spec.minReplicas ??= 1;
  if (!spec.metrics?.length)
    spec.metrics = [
      {
        type: 'Resource',
        resource: {
          name: 'cpu',
          target: { type: 'Utilization', averageUtilization: CPU_UTILIZATION_PERCENT },
        },
      },
    ];
  if (spec.behavior) {
    spec.behavior.scaleUp = scaleUp(spec.behavior.scaleUp);
    spec.behavior.scaleDown = scaleDown(spec.behavior.scaleDown);
  }
}
