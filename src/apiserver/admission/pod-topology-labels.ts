// PodTopologyLabels: a pod that gets a node gets the node's zone and region as labels (KEP-4742), so that it can read
// them through the downward API. What the pod says itself stays.

import type { Binding, Node, Pod } from '../../api/types/core-v1.ts';
import type { AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs } from './refusal.ts';

const LABELS = ['topology.kubernetes.io/zone', 'topology.kubernetes.io/region'] as const;

export function podTopologyLabelsPlugin(reader: ObjectReader): AdmissionPlugin {
  const addLabels = (object: Pod | Binding, nodeName: string): void => {
    const labels = reader.get<Node>('', 'nodes', '', nodeName)?.metadata.labels;
    for (const name of LABELS) {
      const value = labels?.[name];
      if (value === undefined || object.metadata.labels?.[name] !== undefined) continue;
      object.metadata.labels = { ...object.metadata.labels, [name]: value };
    }
  };
  return {
    name: 'PodTopologyLabels',
    handles: (operation) => operation === 'CREATE',
    admit(attributes) {
      if (isFor(attributes, '', 'pods', 'binding')) {
        // The registry copies a binding's labels to the pod.
        const binding = objectAs<Binding>(attributes);
        if (binding.target?.kind === 'Node') addLabels(binding, binding.target.name ?? '');
      } else if (isFor(attributes, '', 'pods')) {
        const pod = objectAs<Pod>(attributes);
        if (pod.spec.nodeName) addLabels(pod, pod.spec.nodeName);
      }
    },
  };
}
