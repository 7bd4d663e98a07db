// RuntimeClass: a pod that names one gets its overhead, node selector and tolerations (KEP-585, KEP-688).

import { isDeepStrictEqual } from 'node:util';
import { compareQuantities, goQuote } from '../../api/index.ts';
import type { Pod, Toleration } from '../../api/types/core-v1.ts';
import type { RuntimeClass } from '../../api/types/node-v1.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs, refusal } from './refusal.ts';

type Amounts = Readonly<Record<string, string>>;

const sameAmounts = (a: Amounts, b: Amounts): boolean =>
  Object.keys(a).length === Object.keys(b).length &&
  Object.entries(a).every(([name, text]) => b[name] !== undefined && compareQuantities(text, b[name]) === 0);

export function runtimeClassPlugin(reader: ObjectReader): AdmissionPlugin {
  const classOf = async (attributes: AdmissionAttributes, pod: Pod): Promise<RuntimeClass | undefined> => {
    const name = pod.spec.runtimeClassName ?? '';
    if (name === '') return undefined;
    const found =
      reader.get<RuntimeClass>('node.k8s.io', 'runtimeclasses', '', name) ??
      (await reader.getFresh<RuntimeClass>('node.k8s.io', 'runtimeclasses', '', name));
    if (!found) throw refusal(attributes, `pod rejected: RuntimeClass ${goQuote(name)} not found`);
    return found;
  };
  return {
    name: 'RuntimeClass',
    handles: (operation) => operation === 'CREATE',
    async admit(attributes) {
      if (!isFor(attributes, '', 'pods')) return;
      const { spec } = objectAs<Pod>(attributes);
      const runtimeClass = await classOf(attributes, objectAs<Pod>(attributes));
      if (!runtimeClass) return;
      const overhead = runtimeClass.overhead?.podFixed;
      if (overhead) {
        if (spec.overhead && Object.keys(spec.overhead).length > 0 && !sameAmounts(spec.overhead, overhead))
          throw refusal(
            attributes,
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
          );
        spec.overhead = { ...overhead };
      }
      const scheduling = runtimeClass.scheduling;
      if (!scheduling) return;
      for (const [key, value] of Object.entries(scheduling.nodeSelector ?? {})) {
        const own = spec.nodeSelector?.[key];
        if (own !== undefined && own !== value)
          throw refusal(
            attributes,
            `conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`,
          );
      }
      if (Object.keys(scheduling.nodeSelector ?? {}).length > 0)
        spec.nodeSelector = { ...spec.nodeSelector, ...scheduling.nodeSelector };
      const added = (scheduling.tolerations ?? []).filter(
        (toleration: Toleration) =>
          !(spec.tolerations ?? []).some((own) => isDeepStrictEqual({ ...own }, { ...toleration })),
      );
      if (added.length > 0) spec.tolerations = [...(spec.tolerations ?? []), ...added.map((t) => ({ ...t }))];
    },
    async validate(attributes) {
      if (!isFor(attributes, '', 'pods')) return;
      const pod = objectAs<Pod>(attributes);
      const overhead = pod.spec.overhead;
      if (!overhead || Object.keys(overhead).length === 0) return;
      const runtimeClass = await classOf(attributes, pod);
      if (!runtimeClass?.overhead)
        throw refusal(
          attributes,
          'pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead',
        );
    },
  };
}
