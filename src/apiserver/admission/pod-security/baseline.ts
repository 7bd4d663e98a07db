// The baseline level of the Pod Security Standards: prevents known privilege escalations, allows the default pod.
// In the order in which upstream reports them.

import type { Probe, SELinuxOptions, SeccompProfile } from '../../../api/types/core-v1.ts';
import {
  type AnyContainer,
  type Check,
  containersOf,
  containersText,
  distinct,
  inUserNamespace,
  offenders,
  type PodUnderCheck,
  plural,
  quoted,
  violation,
} from './check.ts';

const APPARMOR = 'container.apparmor.security.beta.kubernetes.io/';

const appArmorProfile: Check = ({ spec, annotations }) => {
  const bad = (type: string | undefined): boolean => type === 'Unconfined';
  const details: string[] = [];
  const values: string[] = [];
  const podBad = bad(spec.securityContext?.appArmorProfile?.type);
  const containers = offenders(spec, (c) => bad(c.securityContext?.appArmorProfile?.type));
  const subjects = [
    ...(podBad ? ['pod'] : []),
    ...(containers.length > 0 ? [containersText(containers)] : []),
  ];
  if (subjects.length > 0) {
    values.push('Unconfined');
    details.push(`${subjects.join(' and ')} must not set AppArmor profile type to "Unconfined"`);
  }
  const forbidden = Object.entries(annotations)
    .filter(([key, value]) => key.startsWith(APPARMOR) && !/^(|runtime\/default|localhost\/.*)$/.test(value))
    .map(([key, value]) => `${key}="${value}"`)
    .sort();
  if (forbidden.length > 0) {
    values.push(...forbidden);
    details.push(`${plural('annotation', forbidden.length)} ${forbidden.join(', ')}`);
  }
  return details.length === 0
    ? undefined
    : { reason: `forbidden AppArmor ${plural('profile', values.length)}`, detail: details.join(' and ') };
};

const BASELINE_CAPABILITIES = new Set([
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'MKNOD',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
]);

const capabilities: Check = ({ spec }) => {
  const names: string[] = [];
  const added: string[] = [];
  for (const container of containersOf(spec)) {
    const wrong = (container.securityContext?.capabilities?.add ?? []).filter(
      (cap) => !BASELINE_CAPABILITIES.has(cap),
    );
    if (wrong.length === 0) continue;
    names.push(container.name);
    added.push(...wrong);
  }
  return names.length === 0
    ? undefined
    : {
        reason: 'non-default capabilities',
        detail: `${containersText(names)} must not include ${quoted(distinct(added))} in securityContext.capabilities.add`,
      };
};

const hostNamespaces: Check = ({ spec }) => {
  const used = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((field) => spec[field] === true);
  return used.length === 0
    ? undefined
    : { reason: 'host namespaces', detail: used.map((field) => `${field}=true`).join(', ') };
};

const hostPathVolumes: Check = ({ spec }) => {
  const names = (spec.volumes ?? []).filter(({ hostPath }) => hostPath).map(({ name }) => name);
  return names.length === 0
    ? undefined
    : { reason: 'hostPath volumes', detail: `${plural('volume', names.length)} ${quoted(names)}` };
};

const hostPorts: Check = ({ spec }) => {
  const names: string[] = [];
  const ports = new Set<number>();
  for (const container of containersOf(spec)) {
    const used = (container.ports ?? []).map(({ hostPort }) => hostPort ?? 0).filter((port) => port !== 0);
    if (used.length === 0) continue;
    names.push(container.name);
    for (const port of used) ports.add(port);
  }
  if (names.length === 0) return undefined;
  const listed = [...ports].sort((a, b) => a - b).join(', ');
  return {
    reason: 'hostPort',
    detail: `${containersText(names)} ${names.length === 1 ? 'uses' : 'use'} ${plural('hostPort', ports.size)} ${listed}`,
  };
};

function* probesOf(container: AnyContainer): Generator<Pick<Probe, 'httpGet' | 'tcpSocket'> | undefined> {
  yield container.livenessProbe;
  yield container.readinessProbe;
  yield container.startupProbe;
  yield container.lifecycle?.postStart;
  yield container.lifecycle?.preStop;
}

const LOCAL_HOSTS = new Set(['', '127.0.0.1', '::1', 'localhost']);

const hostProbesAndLifecycle: Check = ({ spec }, version) => {
  if (version < 34) return undefined;
  const names: string[] = [];
  const hosts = new Set<string>();
  for (const container of containersOf(spec)) {
    const used = [...probesOf(container)]
      .flatMap((probe) => [probe?.httpGet?.host ?? '', probe?.tcpSocket?.host ?? ''])
      .filter((host) => !LOCAL_HOSTS.has(host));
    if (used.length === 0) continue;
    names.push(container.name);
    for (const host of used) hosts.add(host);
  }
  return names.length === 0
    ? undefined
    : {
        reason: 'probe or lifecycle host',
        detail: `${containersText(names)} ${names.length === 1 ? 'uses' : 'use'} probe or lifecycle ${plural('host', hosts.size)} ${quoted([...hosts].sort())}`,
      };
};

const privileged: Check = ({ spec }) =>
  violation(
    'privileged',
    false,
    offenders(spec, (c) => c.securityContext?.privileged === true),
    'must not set securityContext.privileged=true',
  );

const procMount: Check = (pod) => {
  const types: string[] = [];
  const names = offenders(pod.spec, ({ securityContext }) => {
    const type = securityContext?.procMount ?? 'Default';
    if (type === 'Default') return false;
    types.push(type);
    return true;
  });
  return names.length === 0 || inUserNamespace(pod)
    ? undefined
    : {
        reason: 'procMount',
        detail: `${containersText(names)} must not set securityContext.procMount to ${quoted(distinct(types))}`,
      };
};

const SELINUX_TYPES = new Set(['', 'container_t', 'container_init_t', 'container_kvm_t']);

const seLinuxOptions: Check = ({ spec }, version) => {
  const types: string[] = [];
  const problems = new Set<string>();
  const breaks = (options: SELinuxOptions | undefined): boolean => {
    if (!options) return false;
    let wrong = false;
    const type = options.type ?? '';
    if (!SELINUX_TYPES.has(type) && !(version >= 31 && type === 'container_engine_t')) {
      types.push(type);
      wrong = true;
    }
    for (const field of ['user', 'role'] as const) {
      if (!options[field]) continue;
      problems.add(`${field} may not be set`);
      wrong = true;
    }
    return wrong;
  };
  const podBad = breaks(spec.securityContext?.seLinuxOptions);
  const names = offenders(spec, (c) => breaks(c.securityContext?.seLinuxOptions));
  const bad = [
    ...(types.length > 0 ? [`${plural('type', new Set(types).size)} ${quoted(distinct(types))}`] : []),
    ...['user may not be set', 'role may not be set'].filter((problem) => problems.has(problem)),
  ];
  return violation(
    'seLinuxOptions',
    podBad,
    names,
    `set forbidden securityContext.seLinuxOptions: ${bad.join('; ')}`,
  );
};

const seccompProfile: Check = ({ spec, annotations }, version) => {
  if (version < 19) {
    const keys = Object.keys(annotations).filter(
      (key) =>
        /^(seccomp|container\.seccomp)\.security\.alpha\.kubernetes\.io\//.test(key) &&
        annotations[key] === 'unconfined',
    );
    return keys.length === 0
      ? undefined
      : {
          reason: 'seccompProfile',
          detail: `forbidden ${plural('annotation', keys.length)} ${keys.map((key) => `${key}="unconfined"`).join(', ')}`,
        };
  }
  const bad = (profile: SeccompProfile | undefined): boolean => profile?.type === 'Unconfined';
  return violation(
    'seccompProfile',
    bad(spec.securityContext?.seccompProfile),
    offenders(spec, (c) => bad(c.securityContext?.seccompProfile)),
    'must not set securityContext.seccompProfile.type to "Unconfined"',
  );
};

/** Sysctls that touch only the pod's own namespaces, with the release that began to allow each. */
const SAFE_SYSCTLS: ReadonlyMap<string, number> = new Map([
  ['kernel.shm_rmid_forced', 0],
  ['net.ipv4.ip_local_port_range', 0],
  ['net.ipv4.tcp_syncookies', 0],
  ['net.ipv4.ping_group_range', 0],
  ['net.ipv4.ip_unprivileged_port_start', 0],
  ['net.ipv4.ip_local_reserved_ports', 27],
  ['net.ipv4.tcp_keepalive_time', 29],
  ['net.ipv4.tcp_fin_timeout', 29],
  ['net.ipv4.tcp_keepalive_intvl', 29],
  ['net.ipv4.tcp_keepalive_probes', 29],
  ['net.ipv4.tcp_rmem', 32],
  ['net.ipv4.tcp_wmem', 32],
]);

const sysctls: Check = ({ spec }, version) => {
  const names = (spec.securityContext?.sysctls ?? [])
    .map(({ name }) => name)
    .filter(
      (name) => (SAFE_SYSCTLS.get(name) ?? Number.POSITIVE_INFINITY) > version || !SAFE_SYSCTLS.has(name),
    );
  return names.length === 0 ? undefined : { reason: 'forbidden sysctls', detail: names.join(', ') };
};

const windowsHostProcess: Check = ({ spec }) =>
  violation(
    'hostProcess',
    spec.securityContext?.windowsOptions?.hostProcess === true,
    offenders(spec, (c) => c.securityContext?.windowsOptions?.hostProcess === true),
    'must not set securityContext.windowsOptions.hostProcess=true',
  );

export const BASELINE = {
  appArmorProfile,
  capabilities,
  hostNamespaces,
  hostPathVolumes,
  hostPorts,
  hostProbesAndLifecycle,
  privileged,
  procMount,
  seLinuxOptions,
  seccompProfile,
  sysctls,
  windowsHostProcess,
} as const satisfies Record<string, Check>;

export type { PodUnderCheck };
