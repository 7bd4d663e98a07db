// Priority: a pod's priorityClassName becomes the number that scheduling and eviction compare. There is at most one
// default class.

import type { Pod } from '../../api/types/core-v1.ts';
import type { PriorityClass } from '../../api/types/scheduling-v1.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, nameOf, objectAs, oldObjectAs, refusal } from './refusal.ts';

const GROUP = 'scheduling.k8s.io';

type Preemption = NonNullable<Pod['spec']['preemptionPolicy']>;

interface Computed {
  readonly className: string;
  readonly priority: number;
  readonly preemptionPolicy: Preemption;
}

export function priorityPlugin(reader: ObjectReader): AdmissionPlugin {
  const defaultClass = (): PriorityClass | undefined => {
    let least: PriorityClass | undefined;
    for (const candidate of reader.list<PriorityClass>(GROUP, 'priorityclasses')) {
      // Two of them can only come from a race; the lower one harms less.
      if (candidate.globalDefault && (!least || (candidate.value ?? 0) < (least.value ?? 0)))
        least = candidate;
    }
    return least;
  };

  const compute = async (attributes: AdmissionAttributes, className: string): Promise<Computed> => {
    const found =
      className === ''
        ? defaultClass()
        : (reader.get<PriorityClass>(GROUP, 'priorityclasses', '', className) ??
          (await reader.getFresh<PriorityClass>(GROUP, 'priorityclasses', '', className)));
    if (!found && className !== '')
      throw refusal(attributes, `no PriorityClass with name ${className} was found`);
    return {
      className: found?.metadata.name ?? '',
      priority: found?.value ?? 0,
      preemptionPolicy: (found?.preemptionPolicy as Preemption | undefined) ?? 'PreemptLowerPriority',
    };
  };

  const admitPod = async (attributes: AdmissionAttributes): Promise<void> => {
    const { spec } = objectAs<Pod>(attributes);
    if (attributes.operation === 'UPDATE') {
      // Neither can change; a client that leaves them out means to keep them.
      const old = oldObjectAs<Pod>(attributes);
      spec.priority ??= old?.spec.priority;
      spec.preemptionPolicy ??= old?.spec.preemptionPolicy;
      return;
    }
    const { className, priority, preemptionPolicy } = await compute(attributes, spec.priorityClassName ?? '');
    if (spec.priority !== undefined && spec.priority !== priority)
      throw refusal(
        attributes,
        `the integer value of priority (${spec.priority}) must not be provided in pod spec; priority admission controller computed ${priority} from the given PriorityClass name`,
      );
    if (spec.preemptionPolicy !== undefined && spec.preemptionPolicy !== preemptionPolicy)
      throw refusal(
        attributes,
        `the string value of PreemptionPolicy (${spec.preemptionPolicy}) must not be provided in pod spec; priority admission controller computed ${preemptionPolicy} from the given PriorityClass name`,
      );
    if (className !== '') spec.priorityClassName = className;
    spec.priority = priority;
    spec.preemptionPolicy = preemptionPolicy;
  };

  return {
    name: 'Priority',
    handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
    admit(attributes) {
      return isFor(attributes, '', 'pods') ? admitPod(attributes) : undefined;
    },
    validate(attributes) {
      if (!isFor(attributes, GROUP, 'priorityclasses')) return;
      if (!objectAs<PriorityClass>(attributes).globalDefault) return;
      const other = defaultClass();
      if (other && other.metadata.name !== nameOf(attributes))
        throw refusal(
          attributes,
          `PriorityClass ${other.metadata.name} is already marked as default. Only one default can exist`,
        );
    },
  };
}
