// Questions about a pod's spec that many parts of the node agent ask: which containers it has, which of them may
// restart, how long it gets to end. Pure; the rules are those of upstream's pkg/api/v1/pod and pkg/kubelet/container.

import { isSidecar } from '../api/index.ts';
import type {
  Container,
  ContainerRestartRuleOnExitCodes,
  EphemeralContainer,
  Pod,
} from '../api/types/core-v1.ts';

export type ContainerKind = 'container' | 'init' | 'sidecar' | 'ephemeral';

/** The labels and annotations under which the agent finds its own in the runtime after a restart. */
export const labels = {
  podName: 'io.kubernetes.pod.name',
  podNamespace: 'io.kubernetes.pod.namespace',
  podUid: 'io.kubernetes.pod.uid',
  containerName: 'io.kubernetes.container.name',
} as const;

export const annotations = {
  hash: 'io.kubernetes.container.hash',
  restartCount: 'io.kubernetes.container.restartCount',
  terminationMessagePath: 'io.kubernetes.container.terminationMessagePath',
  terminationMessagePolicy: 'io.kubernetes.container.terminationMessagePolicy',
  preStop: 'io.kubernetes.container.preStopHandler',
  grace: 'io.kubernetes.pod.terminationGracePeriod',
  /** What the container is to its pod; the simulated runtime lets init containers end by themselves. */
  kind: 'kubelet.bulkhead.dev/container-kind',
} as const;

export const DEFAULT_TERMINATION_MESSAGE_PATH = '/dev/termination-log';

/** `namespace/name`, for logs and messages. */
export function podKey(pod: Pod): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}

/** As upstream's messages name a pod: `name_namespace(uid)`. */
export function podFormat(pod: Pod): string {
  return `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
}

/** One container of a pod, whatever list it stands in. */
export interface PodContainer {
  readonly kind: ContainerKind;
  readonly container: Container;
  /** Its place in its list. */
  readonly index: number;
}

/** All containers in the order they start: init containers and sidecars, regular ones, ephemeral ones. */
export function containersOf(pod: Pod): PodContainer[] {
  const { initContainers = [], containers, ephemeralContainers = [] } = pod.spec;
  return [
    ...initContainers.map((container, index): PodContainer => {
      return { kind: isSidecar(container) ? 'sidecar' : 'init', container, index };
    }),
    ...containers.map((container, index): PodContainer => ({ kind: 'container', container, index })),
    ...ephemeralContainers.map((container, index): PodContainer => ({ kind: 'ephemeral', container, index })),
  ];
}

export function findContainer(pod: Pod, name: string): PodContainer | undefined {
  return containersOf(pod).find(({ container }) => container.name === name);
}

export function targetOf(container: Container): string | undefined {
  return (container as EphemeralContainer).targetContainerName;
}

function matchesRule({ operator, values = [] }: ContainerRestartRuleOnExitCodes, exitCode: number): boolean {
  return values.includes(exitCode) === (operator === 'In');
}

/** Whether a container that ended with `exitCode` is to be started again: its rules, its policy, its pod's policy. */
export function restartsAfter(container: Container, pod: Pod, exitCode: number): boolean {
  for (const rule of container.restartPolicyRules ?? []) {
    if (rule.exitCodes && matchesRule(rule.exitCodes, exitCode)) return true;
  }
  switch (container.restartPolicy ?? pod.spec.restartPolicy ?? 'Always') {
    case 'Never':
      return false;
    case 'OnFailure':
      return exitCode !== 0;
    default:
      return true;
  }
}

/** Whether the end of this container with this code is to start the whole pod over, in its place (KEP-5532). */
export function restartsWholePod(container: Container, exitCode: number): boolean {
  return (container.restartPolicyRules ?? []).some(
    ({ action, exitCodes }) =>
      action === 'RestartAllContainers' && exitCodes !== undefined && matchesRule(exitCodes, exitCode),
  );
}

export function isTerminalPhase(phase: string | undefined): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}

/** Seconds the pod's containers get to end: what the deletion asked for, else the spec. */
export function gracePeriod(pod: Pod): number {
  return pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30;
}

/** The field path by which events name a container: `spec.containers{web}`. */
export function containerFieldPath({ kind, container }: PodContainer): string {
  const list = {
    container: 'containers',
    init: 'initContainers',
    sidecar: 'initContainers',
    ephemeral: 'ephemeralContainers',
  };
  return `spec.${list[kind]}{${container.name}}`;
}

/** Tells whether two versions of a container need different processes; only the image can change in place. */
export function containerHash(container: Container): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(JSON.stringify({ name: container.name, image: container.image ?? '' }))) {
    hash ^= byte;
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  return hash.toString(16);
}
