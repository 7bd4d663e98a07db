// What nodes and pods get so that a node that is not ready holds no new pods, and a pod on a node that fails leaves it
// after five minutes: TaintNodesByCondition and DefaultTolerationSeconds.

import type { Node, Pod, Toleration } from '../../api/types/core-v1.ts';
import type { AdmissionPlugin } from '../chain.ts';
import { isFor, objectAs } from './refusal.ts';

const NOT_READY = 'node.kubernetes.io/not-ready';
const UNREACHABLE = 'node.kubernetes.io/unreachable';
const TOLERATION_SECONDS = 300;

/** A new node is tainted until the node lifecycle controller has seen it ready. */
export const taintNodesByConditionPlugin: AdmissionPlugin = {
  name: 'TaintNodesByCondition',
  handles: (operation) => operation === 'CREATE',
  admit(attributes) {
    if (!isFor(attributes, '', 'nodes')) return;
    const node = objectAs<Node>(attributes);
    const taints = node.spec?.taints ?? [];
    if (taints.some(({ key, effect }) => key === NOT_READY && effect === 'NoSchedule')) return;
    node.spec = { ...node.spec, taints: [...taints, { key: NOT_READY, effect: 'NoSchedule' }] };
  },
};

const covers = (toleration: Toleration, key: string): boolean =>
  (!toleration.key || toleration.key === key) && (!toleration.effect || toleration.effect === 'NoExecute');

export const defaultTolerationSecondsPlugin: AdmissionPlugin = {
  name: 'DefaultTolerationSeconds',
  handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
  admit(attributes) {
    if (!isFor(attributes, '', 'pods')) return;
    const { spec } = objectAs<Pod>(attributes);
    const tolerations = spec.tolerations ?? [];
    const missing = [NOT_READY, UNREACHABLE].filter((key) => !tolerations.some((t) => covers(t, key)));
    if (missing.length === 0) return;
    spec.tolerations = [
      ...tolerations,
      ...missing.map(
        (key): Toleration => ({
          key,
          operator: 'Exists',
          effect: 'NoExecute',
          tolerationSeconds: TOLERATION_SECONDS,
        }),
      ),
    ];
  },
};
