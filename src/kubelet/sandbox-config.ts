// What the runtime is told about a pod's sandbox.

import { isSidecar } from '../api/index.ts';
import type { Pod } from '../api/types/core-v1.ts';
import type { PodSandboxConfig, PortMapping } from '../runtime/cri.ts';
import { type DnsSettings, type DnsWarning, podDnsConfig, sandboxHostname } from './dns.ts';
import { labels } from './pod.ts';
import { podCgroup } from './resources.ts';
import { isPrivileged, namespaceOptions, seccompProfile, supplementalGroups } from './security.ts';

export interface SandboxEnvironment {
  readonly dns: DnsSettings;
  readonly cgroupRoot: string;
  /** '' where nothing is written. */
  readonly logDirectory: string;
  readonly seccompDirectory: string | undefined;
}

function portMappings(pod: Pod): PortMapping[] {
  const lasting = [...pod.spec.containers, ...(pod.spec.initContainers ?? []).filter(isSidecar)];
  return lasting.flatMap(({ ports = [] }) =>
    ports.map(({ protocol = 'TCP', containerPort, hostPort = 0, hostIP }) => ({
      protocol,
      containerPort,
      hostPort,
      ...(hostIP && { hostIp: hostIP }),
    })),
  );
}

/** Throws Error for what cannot be had: a name that is too long, user namespaces. */
export function sandboxConfig(
  pod: Pod,
  attempt: number,
  environment: SandboxEnvironment,
  warn: DnsWarning,
): PodSandboxConfig {
  const { name, namespace = '', uid } = pod.metadata;
  const context = pod.spec.securityContext ?? {};
  if (pod.spec.hostUsers === false)
    throw new Error(
      'the container runtime of this node does not support user namespaces (spec.hostUsers: false)',
    );
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  return {
    metadata: { name, namespace, uid, attempt },
    hostname: sandboxHostname(pod, environment.dns.clusterDomain),
    logDirectory: environment.logDirectory,
    dns: podDnsConfig(pod, environment.dns, warn),
    portMappings: pod.spec.hostNetwork ? [] : portMappings(pod),
    labels: {
      ...pod.metadata.labels,
      [labels.podName]: name,
      [labels.podNamespace]: namespace,
      [labels.podUid]: uid,
    },
    annotations: pod.metadata.annotations ?? {},
    namespaces: namespaceOptions(pod),
    cgroupParent: podCgroup(environment.cgroupRoot, pod),
    sysctls: Object.fromEntries(
      (context.sysctls ?? []).map((sysctl) => [sysctl.name.replaceAll('/', '.'), sysctl.value]),
    ),
    security: {
      privileged: all.some(isPrivileged),
      ...(context.runAsUser !== undefined && { runAsUser: context.runAsUser }),
      ...(context.runAsGroup !== undefined && { runAsGroup: context.runAsGroup }),
      supplementalGroups: supplementalGroups(pod),
      seccomp: seccompProfile(
        context.seccompProfile ?? { type: 'RuntimeDefault' },
        environment.seccompDirectory,
      ),
    },
  };
}
