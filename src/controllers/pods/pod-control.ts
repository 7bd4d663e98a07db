// Creating and deleting pods on behalf of a controller, with the events that people look for in `kubectl describe`.

import {
  controllerReference,
  type Draft,
  groupVersion,
  isNamespaceTerminating,
  isNotFound,
  type KubeObject,
} from '../../api/index.ts';
import type { Pod, PodTemplateSpec } from '../../api/types/core-v1.ts';
import {
  type Client,
  type EventRecorder,
  type ResourceType,
  referenceTo,
  resources,
} from '../../client/index.ts';

export interface PodControl<O extends KubeObject> {
  readonly client: Client;
  readonly recorder: EventRecorder;
  readonly ownerType: ResourceType<O>;
}

/** A pod made from a template, owned by `owner`. */
export function podFromTemplate<O extends KubeObject>(
  template: PodTemplateSpec,
  owner: O,
  ownerType: ResourceType<O>,
): Draft<Pod> {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    metadata: {
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(finalizers ? { finalizers } : {}),
      generateName: `${owner.metadata.name}-`,
      namespace: owner.metadata.namespace,
      ownerReferences: [
        controllerReference(owner, { apiVersion: groupVersion(ownerType), kind: ownerType.kind }),
      ],
    },
    spec: template.spec ?? { containers: [] },
  };
}

/** Rejects with what the server said, after an event about it (none while the namespace ends). */
export async function createPod<O extends KubeObject>(
  control: PodControl<O>,
  owner: O,
  draft: Draft<Pod>,
): Promise<Pod> {
  const about = referenceTo(control.ownerType, owner);
  try {
    const pod = await control.client.resource(resources.pods, owner.metadata.namespace).create(draft);
    control.recorder.event(about, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
    return pod;
  } catch (error) {
    if (!isNamespaceTerminating(error))
      control.recorder.event(about, 'Warning', 'FailedCreate', `Error creating: ${messageOf(error)}`);
    throw error;
  }
}

/** A pod that is gone already counts as deleted (rejects with its NotFound, without an event). */
export async function deletePod<O extends KubeObject>(
  control: PodControl<O>,
  owner: O,
  pod: Pod,
): Promise<void> {
  const about = referenceTo(control.ownerType, owner);
  try {
    await control.client.resource(resources.pods, pod.metadata.namespace).delete(pod.metadata.name, {
      preconditions: { uid: pod.metadata.uid },
    });
    control.recorder.event(about, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
  } catch (error) {
    if (isNotFound(error)) throw error;
    control.recorder.event(about, 'Warning', 'FailedDelete', `Error deleting: ${messageOf(error)}`);
    throw error;
  }
}

/**
 * Calls `task` `count` times, 1 at once, then 2, 4, 8, … as long as all succeed: when something is wrong for all
 * (quota, admission) the server is not asked a thousand times. Resolves with how many succeeded and the first error.
 */
export async function slowStart(
  count: number,
  task: () => Promise<void>,
): Promise<{ readonly succeeded: number; readonly error?: unknown }> {
  let succeeded = 0;
  let left = count;
  for (let batch = Math.min(1, left); batch > 0; batch = Math.min(2 * batch, left)) {
    const results = await Promise.allSettled(Array.from({ length: batch }, task));
    const failed = results.filter((result) => result.status === 'rejected');
    succeeded += batch - failed.length;
    if (failed[0]) return { succeeded, error: failed[0].reason };
    left -= batch;
  }
  return { succeeded };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
