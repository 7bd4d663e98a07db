// What the runtime is told about one container: its process, environment, mounts, limits and identity.

import type { Container, Pod } from '../api/types/core-v1.ts';
import type { ContainerConfig, Device, Image, Mount } from '../runtime/cri.ts';
import { expand } from './expansion.ts';
import {
  annotations,
  containerHash,
  DEFAULT_TERMINATION_MESSAGE_PATH,
  labels,
  type PodContainer,
} from './pod.ts';
import { containerResources } from './resources.ts';
import { containerSecurity, type SecurityEnvironment } from './security.ts';

export interface ContainerInputs {
  readonly pod: Pod;
  readonly member: PodContainer;
  readonly restartCount: number;
  readonly image: Image;
  readonly environment: ReadonlyMap<string, string>;
  readonly mounts: readonly Mount[];
  readonly devices: readonly Device[];
  readonly memoryCapacity: number;
  readonly security: SecurityEnvironment;
}

function expanded(
  items: readonly string[] | undefined,
  environment: ReadonlyMap<string, string>,
): string[] | undefined {
  if (!items || items.length === 0) return undefined;
  return items.map((item) => expand(item, (name) => environment.get(name)));
}

/** Relative to the pod's log directory: `<container>/<restart count>.log`. */
export function containerLogPath(container: string, restartCount: number): string {
  return `${container}/${restartCount}.log`;
}

export function containerConfig(inputs: ContainerInputs): ContainerConfig {
  const { pod, member, restartCount, image, environment, mounts } = inputs;
  const { container, kind } = member;
  const command = expanded(container.command, environment);
  const args = expanded(container.args, environment);
  const resources = containerResources(pod, container, inputs.memoryCapacity);
  const stopSignal = container.lifecycle?.stopSignal;
  return {
    metadata: { name: container.name, attempt: restartCount },
    image: image.id,
    imageReference: container.image ?? '',
    ...(command && { command }),
    ...(args && { args }),
    ...(container.workingDir && { workingDir: container.workingDir }),
    env: [...environment].map(([key, value]) => ({ key, value })),
    mounts,
    devices: inputs.devices,
    labels: {
      [labels.podName]: pod.metadata.name,
      [labels.podNamespace]: pod.metadata.namespace ?? '',
      [labels.podUid]: pod.metadata.uid,
      [labels.containerName]: container.name,
    },
    annotations: recordedAnnotations(pod, container, kind, restartCount),
    logPath: containerLogPath(container.name, restartCount),
    stdin: container.stdin === true,
    stdinOnce: container.stdinOnce === true,
    tty: container.tty === true,
    resources,
    security: containerSecurity(pod, container, image, inputs.security),
    ...(stopSignal && { stopSignal }),
  };
}

/** What the agent must know of a container when it finds it again without its pod. */
function recordedAnnotations(
  pod: Pod,
  container: Container,
  kind: string,
  restartCount: number,
): Record<string, string> {
  const preStop = container.lifecycle?.preStop;
  return {
    [annotations.kind]: kind,
    [annotations.hash]: containerHash(container),
    [annotations.restartCount]: String(restartCount),
    [annotations.terminationMessagePath]:
      container.terminationMessagePath ?? DEFAULT_TERMINATION_MESSAGE_PATH,
    [annotations.terminationMessagePolicy]: container.terminationMessagePolicy ?? 'File',
    [annotations.grace]: String(pod.spec.terminationGracePeriodSeconds ?? 30),
    ...(preStop && { [annotations.preStop]: JSON.stringify(preStop) }),
  };
}
