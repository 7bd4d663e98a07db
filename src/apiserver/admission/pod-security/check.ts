// What one check of the Pod Security Standards is, and the words that its results are put into. The wording follows
// k8s.io/pod-security-admission, whose messages people search for.

import type { Container, EphemeralContainer, PodSpec } from '../../../api/types/core-v1.ts';

/** 1.<minor>; `latest` is Infinity. */
export type PolicyVersion = number;

export interface PodUnderCheck {
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec: PodSpec;
}

export interface Violation {
  readonly reason: string;
  readonly detail: string;
}

export type Check = (pod: PodUnderCheck, version: PolicyVersion) => Violation | undefined;

export type AnyContainer = Container | EphemeralContainer;

export function* containersOf(spec: PodSpec): Generator<AnyContainer> {
  yield* spec.initContainers ?? [];
  yield* spec.containers;
  yield* spec.ephemeralContainers ?? [];
}

export const quoted = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(', ');

/** `container "a" must …`, `containers "a", "b" must …`. */
export const containersText = (names: readonly string[]): string =>
  `${names.length === 1 ? 'container' : 'containers'} ${quoted(names)}`;

export const plural = (word: string, count: number): string => (count === 1 ? word : `${word}s`);

/** Names of the containers for which the predicate holds. */
export function offenders(spec: PodSpec, predicate: (container: AnyContainer) => boolean): string[] {
  return [...containersOf(spec)].filter(predicate).map(({ name }) => name);
}

/** The violation of a rule that the pod or its containers can break, or undefined when nobody does. */
export function violation(
  reason: string,
  podBreaks: boolean,
  containers: readonly string[],
  rule: string,
): Violation | undefined {
  const subjects = [
    ...(podBreaks ? ['pod'] : []),
    ...(containers.length > 0 ? [containersText(containers)] : []),
  ];
  return subjects.length === 0 ? undefined : { reason, detail: `${subjects.join(' and ')} ${rule}` };
}

/** Distinct, in order. */
export const distinct = (values: Iterable<string>): string[] => [...new Set(values)].sort();

/** From 1.25 on, rules that mean nothing on Windows do not bind its pods. */
export const isWindows = (pod: PodUnderCheck, version: PolicyVersion): boolean =>
  version >= 25 && pod.spec.os?.name === 'windows';

/** Pods in a user namespace may be root there (KEP-127). */
export const inUserNamespace = (pod: PodUnderCheck): boolean => pod.spec.hostUsers === false;
