// Who a StatefulSet's pod is: its ordinal, name, labels and the claims that stay with that name. Pure.

import {
  controllerReference,
  type Draft,
  groupVersion,
  isConditionTrue,
  isPodAvailable,
} from '../../api/index.ts';
import type { StatefulSet } from '../../api/types/apps-v1.ts';
import type { PersistentVolumeClaim, Pod, PodTemplateSpec, Volume } from '../../api/types/core-v1.ts';
import type { OwnerReference } from '../../api/types/meta-v1.ts';
import { resources } from '../../client/index.ts';
import { REVISION_HASH } from '../history/controller-revisions.ts';
import { podFromTemplate } from '../pods/pod-control.ts';

const POD_NAME = 'statefulset.kubernetes.io/pod-name';
const POD_INDEX = 'apps.kubernetes.io/pod-index';
const type = resources.statefulSets;

/** The number in the pod's name; undefined when the name is not one that this set gives. */
export function ordinalOf(set: StatefulSet, pod: Pod): number | undefined {
  const match = /^(.*)-(\d+)$/.exec(pod.metadata.name);
  return match?.[1] === set.metadata.name ? Number(match[2]) : undefined;
}

export function startOrdinal(set: StatefulSet): number {
  return set.spec.ordinals?.start ?? 0;
}

export function isInRange(set: StatefulSet, ordinal: number): boolean {
  const start = startOrdinal(set);
  return ordinal >= start && ordinal < start + (set.spec.replicas ?? 1);
}

export function revisionLabel(pod: Pod): string {
  return pod.metadata.labels?.[REVISION_HASH] ?? '';
}

export function isCreated(pod: Pod): boolean {
  return Boolean(pod.status?.phase);
}

export function isTerminating(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp !== undefined;
}

export function isRunningAndReady(pod: Pod): boolean {
  return pod.status?.phase === 'Running' && isConditionTrue(pod.status.conditions, 'Ready');
}

/** Up and staying: what its successors wait for. */
export function isHealthy(set: StatefulSet, pod: Pod, now: number): boolean {
  return (
    isRunningAndReady(pod) && isPodAvailable(pod, set.spec.minReadySeconds ?? 0, now) && !isTerminating(pod)
  );
}

export function podFor(
  set: StatefulSet,
  template: PodTemplateSpec,
  revision: string,
  ordinal: number,
): Draft<Pod> & { readonly metadata: { readonly name: string } } {
  const name = `${set.metadata.name}-${ordinal}`;
  const { metadata, ...draft } = podFromTemplate(template, set, type);
  const { generateName: _, ...rest } = metadata;
  return {
    ...draft,
    metadata: {
      ...rest,
      name,
      labels: { ...rest.labels, [POD_NAME]: name, [POD_INDEX]: String(ordinal), [REVISION_HASH]: revision },
    },
    spec: {
      ...draft.spec,
      hostname: name,
      ...(set.spec.serviceName ? { subdomain: set.spec.serviceName } : {}),
      volumes: volumesFor(set, draft.spec.volumes ?? [], ordinal),
    },
  };
}

function claimName(set: StatefulSet, template: PersistentVolumeClaim, ordinal: number): string {
  return `${template.metadata.name}-${set.metadata.name}-${ordinal}`;
}

/** The template's volumes, with those of the claim templates in place of any of the same name. */
function volumesFor(set: StatefulSet, volumes: readonly Volume[], ordinal: number): Volume[] {
  const templates = set.spec.volumeClaimTemplates ?? [];
  const claimed = templates.map(
    (template): Volume => ({
      name: template.metadata.name,
      persistentVolumeClaim: { claimName: claimName(set, template, ordinal), readOnly: false },
    }),
  );
  return [...claimed, ...volumes.filter((volume) => !claimed.some((other) => other.name === volume.name))];
}

/** The identity labels and volumes are as they should be (somebody may have changed the labels). */
export function identityMatches(pod: Pod, ordinal: number): boolean {
  return (
    pod.metadata.labels?.[POD_NAME] === pod.metadata.name &&
    pod.metadata.labels[POD_INDEX] === String(ordinal)
  );
}

export function identityLabels(pod: Pod, ordinal: number): Record<string, string> {
  return { [POD_NAME]: pod.metadata.name, [POD_INDEX]: String(ordinal) };
}

/** The claims that the pod of this ordinal mounts. */
export function claimsFor(
  set: StatefulSet,
  ordinal: number,
): (Draft<PersistentVolumeClaim> & { metadata: { name: string } })[] {
  return (set.spec.volumeClaimTemplates ?? []).map((template) => ({
    metadata: {
      name: claimName(set, template, ordinal),
      namespace: set.metadata.namespace,
      labels: { ...template.metadata.labels, ...set.spec.selector.matchLabels },
      ...(template.metadata.annotations ? { annotations: template.metadata.annotations } : {}),
    },
    spec: template.spec,
  }));
}

/**
 * Who should own a claim, by the retention policy (KEP-1847): the set, so that it goes with it, or a pod that was
 * scaled away, so that it goes with that; references of others are left alone.
 */
export function claimOwners(
  set: StatefulSet,
  pod: Pod | undefined,
  condemned: boolean,
  current: readonly OwnerReference[] | undefined,
): OwnerReference[] {
  const { whenDeleted = 'Retain', whenScaled = 'Retain' } =
    set.spec.persistentVolumeClaimRetentionPolicy ?? {};
  const byPod = whenScaled === 'Delete' && condemned && pod !== undefined;
  const bySet = whenDeleted === 'Delete' && !byPod;
  const others = (current ?? []).filter(
    (ref) => ref.uid !== set.metadata.uid && (pod === undefined || ref.uid !== pod.metadata.uid),
  );
  const ours: OwnerReference[] = [];
  if (bySet) ours.push(controllerReference(set, { apiVersion: groupVersion(type), kind: type.kind }));
  if (byPod) ours.push(controllerReference(pod, { apiVersion: 'v1', kind: 'Pod' }));
  return [...others, ...ours];
}
