// What the command says of itself.

import { capabilityNumbers } from './config.ts';
import { hookNames } from './hooks.ts';

export const version = '0.1.0';
const specification = '1.2.0';

export function versionText(): string {
  return `bulkhead-sandbox version ${version}\nspec: ${specification}\nnode: ${process.version}\n`;
}

/** runtime-spec, features.md. */
export function features(): object {
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: specification,
    hooks: hookNames,
    mountOptions: [
      ...['async', 'atime', 'bind', 'dev', 'diratime', 'dirsync', 'exec', 'noatime', 'nodev', 'nodiratime'],
      ...['noexec', 'norelatime', 'nosuid', 'nosymfollow', 'private', 'rbind', 'relatime', 'ro', 'rprivate'],
      ...['rshared', 'rslave', 'rw', 'shared', 'slave', 'strictatime', 'suid', 'sync'],
    ],
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'uts'],
      capabilities: [...capabilityNumbers.keys()],
      cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: false },
      seccomp: {
        enabled: true,
        actions: [
          ...['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_KILL', 'SCMP_ACT_KILL_PROCESS'],
          ...['SCMP_ACT_KILL_THREAD', 'SCMP_ACT_LOG', 'SCMP_ACT_TRACE', 'SCMP_ACT_TRAP'],
        ],
        operators: [
          ...['SCMP_CMP_EQ', 'SCMP_CMP_GE', 'SCMP_CMP_GT', 'SCMP_CMP_LE', 'SCMP_CMP_LT'],
          ...['SCMP_CMP_MASKED_EQ', 'SCMP_CMP_NE'],
        ],
        archs: ['SCMP_ARCH_X86_64'],
        knownFlags: [
          'SECCOMP_FILTER_FLAG_LOG',
          'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
          'SECCOMP_FILTER_FLAG_TSYNC',
        ],
      },
      apparmor: { enabled: false },
      selinux: { enabled: false },
      mountExtensions: { idmap: { enabled: false } },
    },
    annotations: { 'org.bulkhead.sandbox.version': version },
    potentiallyUnsafeConfigAnnotations: [
      ...['io.kubernetes.cri.sandbox-id', 'io.kubernetes.cri-o.SandboxID'],
    ],
  };
}
