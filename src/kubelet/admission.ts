// Whether a pod that was bound to this node can run on it. The scheduler has asked most of this before; a pod may have
// been bound by hand, or the node may have changed since. Reasons and messages are upstream's (pkg/kubelet/lifecycle).

import { findUntoleratedTaint, matchesRequiredNodeAffinity, podQos, podRequests } from '../api/index.ts';
import type { Container, Node, Pod } from '../api/types/core-v1.ts';
import type { Pressure } from './node-status.ts';
import { safeSysctls } from './options.ts';
import type { Rejection } from './pod-worker.ts';
import { amount, isCriticalPod, type ResourceList } from './resources.ts';

export interface AdmissionInput {
  readonly pod: Pod;
  /** Pods that are admitted and have not ended. */
  readonly others: readonly Pod[];
  readonly node: Node | undefined;
  readonly allocatable: ResourceList;
  readonly pressure: Pressure;
  readonly operatingSystem: string;
  readonly allowedUnsafeSysctls: readonly string[];
}

/** Undefined: admitted. */
export function admitPod(input: AdmissionInput): Rejection | undefined {
  return (
    checkPressure(input) ??
    checkSysctls(input) ??
    checkAppArmor(input) ??
    checkOperatingSystem(input) ??
    checkResources(input) ??
    checkNode(input) ??
    checkPorts(input)
  );
}

function checkPressure({ pod, pressure }: AdmissionInput): Rejection | undefined {
  if (isCriticalPod(pod)) return undefined;
  const conditions: string[] = [];
  if (pressure.disk) conditions.push('DiskPressure');
  if (pressure.pid) conditions.push('PIDPressure');
  if (pressure.memory) {
    const tolerates = pod.spec.tolerations?.some(
      ({ key, operator, effect }) =>
        (key === 'node.kubernetes.io/memory-pressure' || (!key && operator === 'Exists')) &&
        (!effect || effect === 'NoSchedule'),
    );
    const onlyMemory = conditions.length === 0;
    if (!onlyMemory || (podQos(pod.spec) === 'BestEffort' && !tolerates))
      conditions.unshift('MemoryPressure');
  }
  if (conditions.length === 0) return undefined;
  return { reason: 'Evicted', message: `The node had condition: [${conditions.join(' ')}]. ` };
}

/** `net.*` and `kernel.shm*` belong to namespaces that a pod may share with the host. */
function checkSysctls({ pod, allowedUnsafeSysctls }: AdmissionInput): Rejection | undefined {
  const allowed = [...safeSysctls, ...allowedUnsafeSysctls];
  for (const { name } of pod.spec.securityContext?.sysctls ?? []) {
    const dotted = name.replaceAll('/', '.');
    const refuse = (why: string): Rejection => ({
      reason: 'SysctlForbidden',
      message: `forbidden sysctl: "${dotted}" ${why}`,
    });
    const ok = allowed.some((pattern) =>
      pattern.endsWith('*') ? dotted.startsWith(pattern.slice(0, -1)) : pattern === dotted,
    );
    if (!ok) return refuse('not allowlisted');
    if (dotted.startsWith('net.') && pod.spec.hostNetwork) return refuse('not allowed with host net enabled');
    const isIpc = /^(kernel\.(shm|msg|sem)|fs\.mqueue\.)/.test(dotted);
    if (isIpc && pod.spec.hostIPC) return refuse('not allowed with host ipc enabled');
  }
  return undefined;
}

/** The CRI contract of this agent has no AppArmor: a profile that would not be enforced is refused. */
function checkAppArmor({ pod }: AdmissionInput): Rejection | undefined {
  const wants = (container: Container): boolean => {
    const profile = container.securityContext?.appArmorProfile ?? pod.spec.securityContext?.appArmorProfile;
    return profile !== undefined && profile.type !== 'Unconfined';
  };
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  if (!all.some(wants)) return undefined;
  return { reason: 'AppArmor', message: 'Cannot enforce AppArmor: AppArmor is not enabled on the host' };
}

function checkOperatingSystem({ pod, operatingSystem }: AdmissionInput): Rejection | undefined {
  const wanted = pod.spec.os?.name;
  if (wanted !== undefined && wanted !== operatingSystem)
    return {
      reason: 'PodOSNotSupported',
      message: "Failed to admit pod as the OS field doesn't match node OS",
    };
  const label = pod.spec.nodeSelector?.['kubernetes.io/os'];
  if (label !== undefined && label !== operatingSystem)
    return {
      reason: 'PodOSSelectorNodeLabelDoesNotMatch',
      message: `Failed to admit pod as the \`kubernetes.io/os\` label doesn't match node label`,
    };
  return undefined;
}

function checkResources({ pod, others, allocatable }: AdmissionInput): Rejection | undefined {
  const used = new Map<string, number>([['pods', others.length]]);
  for (const other of others)
    for (const [name, value] of podRequests(other)) used.set(name, (used.get(name) ?? 0) + value);
  const wanted = new Map(podRequests(pod)).set('pods', 1);
  const short: { name: string; requested: number; taken: number; capacity: number }[] = [];
  for (const [name, requested] of wanted) {
    if (requested === 0) continue;
    const capacity = amount(name, allocatable[name]);
    const taken = used.get(name) ?? 0;
    // What the node has none of is a device or an extended resource that a plugin would have brought.
    if (taken + requested > capacity) short.push({ name, requested, taken, capacity });
  }
  const [first] = short;
  if (!first) return undefined;
  const reason = `OutOf${first.name}`;
  const message = `Node didn't have enough resource: ${first.name}, requested: ${first.requested}, used: ${first.taken}, capacity: ${first.capacity}`;
  return { reason, message };
}

function checkNode({ pod, node }: AdmissionInput): Rejection | undefined {
  if (!node) return undefined;
  if (pod.spec.nodeName !== undefined && pod.spec.nodeName !== node.metadata.name)
    return {
      reason: 'NodeName',
      message: "Predicate NodeName failed: node(s) didn't match the requested node name",
    };
  if (!matchesRequiredNodeAffinity(pod.spec, node))
    return {
      reason: 'NodeAffinity',
      message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    };
  const taint = findUntoleratedTaint(node.spec.taints, pod.spec.tolerations, ['NoExecute']);
  if (taint)
    return {
      reason: 'TaintToleration',
      message: "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    };
  return undefined;
}

interface HostPort {
  readonly ip: string;
  readonly protocol: string;
  readonly port: number;
}

function hostPorts(pod: Pod): HostPort[] {
  const lasting = [
    ...pod.spec.containers,
    ...(pod.spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always'),
  ];
  return lasting.flatMap(({ ports = [] }) =>
    ports
      .filter(({ hostPort }) => hostPort !== undefined && hostPort > 0)
      .map(({ hostIP, protocol = 'TCP', hostPort }) => ({
        ip: hostIP || '0.0.0.0',
        protocol,
        port: hostPort!,
      })),
  );
}

function checkPorts({ pod, others }: AdmissionInput): Rejection | undefined {
  const wanted = hostPorts(pod);
  if (wanted.length === 0) return undefined;
  const any = (ip: string): boolean => ip === '0.0.0.0' || ip === '::';
  const taken = others.flatMap(hostPorts);
  const conflict = wanted.some((port) =>
    taken.some(
      (other) =>
        other.port === port.port &&
        other.protocol === port.protocol &&
        (other.ip === port.ip || any(other.ip) || any(port.ip)),
    ),
  );
  if (!conflict) return undefined;
  return {
    reason: 'NodePorts',
    message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
  };
}
