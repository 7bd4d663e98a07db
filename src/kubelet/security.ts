// From security contexts to what the runtime is told, container's fields before the pod's, with upstream's defaults
// (pkg/securitycontext) and its refusals: a container that must not run as root is not started as root.

import type { Container, Pod, SeccompProfile } from '../api/types/core-v1.ts';
import type { ContainerSecurity, Image, NamespaceOptions, SecurityProfile } from '../runtime/cri.ts';

/** What is hidden from containers unless procMount is Unmasked: the runtime-spec's defaults. */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export function isPrivileged(container: Container): boolean {
  return container.securityContext?.privileged === true;
}

export function namespaceOptions(pod: Pod, targetId?: string): NamespaceOptions {
  const { hostNetwork, hostPID, hostIPC, shareProcessNamespace } = pod.spec;
  const pid = hostPID ? 'NODE' : shareProcessNamespace ? 'POD' : 'CONTAINER';
  return {
    network: hostNetwork ? 'NODE' : 'POD',
    ipc: hostIPC ? 'NODE' : 'POD',
    ...(targetId === undefined || pid !== 'CONTAINER' ? { pid } : { pid: 'TARGET', targetId }),
  };
}

/** Profiles named Localhost are files under `directory` (upstream: <root>/seccomp). */
export function seccompProfile(
  profile: SeccompProfile | undefined,
  directory: string | undefined,
): SecurityProfile {
  if (!profile) return { type: 'Unconfined' };
  if (profile.type !== 'Localhost') return { type: profile.type };
  const { localhostProfile = '' } = profile;
  if (
    localhostProfile === '' ||
    localhostProfile.startsWith('/') ||
    localhostProfile.split('/').includes('..')
  )
    throw new Error(
      `seccompProfile.localhostProfile ${JSON.stringify(localhostProfile)} must be a relative path below the seccomp directory`,
    );
  if (directory === undefined) throw new Error('this node has no directory of seccomp profiles');
  return { type: 'Localhost', localhostRef: `${directory}/${localhostProfile}` };
}

/** The groups of every process in the pod: supplemental ones and the volumes' group. */
export function supplementalGroups(pod: Pod): number[] {
  const { supplementalGroups: groups = [], fsGroup } = pod.spec.securityContext ?? {};
  return fsGroup === undefined ? [...groups] : [...new Set([fsGroup, ...groups])];
}

/** Throws with upstream's words when the container must not run as root and would. */
export function verifyNonRoot(pod: Pod, container: Container, image: Pick<Image, 'uid' | 'username'>): void {
  const nonRoot = container.securityContext?.runAsNonRoot ?? pod.spec.securityContext?.runAsNonRoot;
  if (!nonRoot) return;
  const name = `pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name}`;
  const user = container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser;
  if (user !== undefined) {
    if (user === 0) throw new Error(`container's runAsUser breaks non-root policy (${name})`);
    return;
  }
  if (image.uid !== undefined) {
    if (image.uid === 0) throw new Error(`container has runAsNonRoot and image will run as root (${name})`);
    return;
  }
  if (image.username)
    throw new Error(
      `container has runAsNonRoot and image has non-numeric user (${image.username}), cannot verify user is non-root (${name})`,
    );
  throw new Error(`container has runAsNonRoot and image will run as root (${name})`);
}

export interface SecurityEnvironment {
  readonly seccompDirectory: string | undefined;
  /** The id of the container whose processes an ephemeral container joins. */
  readonly targetId: string | undefined;
  /** Groups that persistent volumes ask for. */
  readonly volumeGroups: readonly number[];
}

export function containerSecurity(
  pod: Pod,
  container: Container,
  image: Pick<Image, 'uid' | 'username'>,
  environment: SecurityEnvironment,
): ContainerSecurity {
  const own = container.securityContext ?? {};
  const shared = pod.spec.securityContext ?? {};
  verifyNonRoot(pod, container, image);
  const user = own.runAsUser ?? shared.runAsUser ?? image.uid;
  const group = own.runAsGroup ?? shared.runAsGroup;
  const privileged = own.privileged === true;
  const unmasked = own.procMount === 'Unmasked' || privileged;
  const policy = shared.supplementalGroupsPolicy;
  return {
    capabilities: { add: own.capabilities?.add ?? [], drop: own.capabilities?.drop ?? [] },
    privileged,
    namespaces: namespaceOptions(pod, environment.targetId),
    ...(user !== undefined && { runAsUser: user }),
    ...(user === undefined && image.username && { runAsUsername: image.username }),
    ...(group !== undefined && { runAsGroup: group }),
    supplementalGroups: [...new Set([...supplementalGroups(pod), ...environment.volumeGroups])],
    ...(policy && { supplementalGroupsPolicy: policy }),
    readonlyRootfs: own.readOnlyRootFilesystem === true,
    // Privilege escalation is always possible for those who are privileged already.
    noNewPrivileges: own.allowPrivilegeEscalation === false,
    maskedPaths: unmasked ? [] : MASKED_PATHS,
    readonlyPaths: unmasked ? [] : READONLY_PATHS,
    seccomp: privileged
      ? { type: 'Unconfined' }
      : seccompProfile(own.seccompProfile ?? shared.seccompProfile, environment.seccompDirectory),
  };
}
