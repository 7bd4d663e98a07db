// The containers of a pod: names, images, ports, environment, mounts, probes, hooks. What init containers, sidecars
// and ephemeral containers may and may not have is here too.

import { dns1123Label, httpHeaderName, portName, portNumber, qualifiedName } from '../names.ts';
import type {
  Container,
  ContainerPort,
  EphemeralContainer,
  HTTPGetAction,
  Lifecycle,
  LifecycleHandler,
  PodSpec,
  Probe,
  Volume,
  VolumeDevice,
  VolumeMount,
} from '../types/core-v1.ts';
import type { Findings } from './findings.ts';
import { validateDescendingPath } from './paths.ts';
import { validateEnvironment, validateEnvironmentFrom } from './pod-environment.ts';
import { validateContainerSecurity } from './pod-security.ts';
import { validateResourceRequirements } from './resources.ts';

export const protocols = ['SCTP', 'TCP', 'UDP'];

/** What the checks of one container need to know of its pod. */
export interface PodContext {
  readonly spec: PodSpec;
  readonly volumes: ReadonlyMap<string, Volume>;
  readonly claimNames: ReadonlySet<string>;
  /** A pod of its own; false: the template of one. */
  readonly isPod: boolean;
}

export function validatePortNumberOrName(findings: Findings, field: string, port: number | string): void {
  if (typeof port === 'number')
    for (const complaint of portNumber(port)) findings.invalid(field, port, complaint);
  else findings.text(field, port, portName);
}

function validatePorts(findings: Findings, field: string, ports: readonly ContainerPort[] | undefined): void {
  const names = new Set<string>();
  ports?.forEach((port, i) => {
    const at = `${field}[${i}]`;
    if (port.name) {
      const complaints = portName(port.name);
      for (const complaint of complaints) findings.invalid(`${at}.name`, port.name, complaint);
      if (complaints.length === 0) {
        if (names.has(port.name)) findings.duplicate(`${at}.name`, port.name);
        names.add(port.name);
      }
    }
    if (!port.containerPort) findings.required(`${at}.containerPort`);
    else findings.range(`${at}.containerPort`, port.containerPort, 1, 65535);
    if (port.hostPort) findings.range(`${at}.hostPort`, port.hostPort, 1, 65535);
    findings.oneOf(`${at}.protocol`, port.protocol, protocols, { required: true });
  });
}

function validateMountPropagation(
  findings: Findings,
  field: string,
  mount: VolumeMount,
  container: Container,
): void {
  const { mountPropagation: mode } = mount;
  if (mode === undefined) return;
  findings.oneOf(field, mode, ['Bidirectional', 'HostToContainer', 'None']);
  if (mode === 'Bidirectional' && container.securityContext?.privileged !== true)
    findings.forbidden(field, 'Bidirectional mount propagation is available only to privileged containers');
}

function validateRecursiveReadOnly(findings: Findings, field: string, mount: VolumeMount): void {
  const mode = mount.recursiveReadOnly;
  if (mode === undefined || mode === 'Disabled') return;
  if (mode !== 'Enabled' && mode !== 'IfPossible') {
    findings.notSupported(field, mode, ['Disabled', 'Enabled', 'IfPossible']);
    return;
  }
  if (mount.readOnly !== true) findings.forbidden(field, 'may only be specified when readOnly is true');
  if (mount.mountPropagation !== undefined && mount.mountPropagation !== 'None')
    findings.forbidden(field, 'may only be specified when mountPropagation is None or not specified');
}

function validateMounts(findings: Findings, field: string, container: Container, pod: PodContext): void {
  const devices = container.volumeDevices ?? [];
  const paths = new Set<string>();
  container.volumeMounts?.forEach((mount, i) => {
    const at = `${field}[${i}]`;
    if (!mount.name) findings.required(`${at}.name`);
    if (!pod.volumes.has(mount.name)) findings.notFound(`${at}.name`, mount.name);
    if (!mount.mountPath) findings.required(`${at}.mountPath`);
    if (paths.has(mount.mountPath)) findings.invalid(`${at}.mountPath`, mount.mountPath, 'must be unique');
    paths.add(mount.mountPath);
    if (devices.some((device) => device.name === mount.name))
      findings.invalid(`${at}.name`, mount.name, 'must not already exist in volumeDevices');
    if (devices.some((device) => device.devicePath === mount.mountPath))
      findings.invalid(
        `${at}.mountPath`,
        mount.mountPath,
        'must not already exist as a path in volumeDevices',
      );
    if (mount.subPath) validateDescendingPath(findings, `${field}.subPath`, mount.subPath);
    if (mount.subPathExpr) {
      if (mount.subPath)
        findings.invalid(
          `${at}.subPathExpr`,
          mount.subPathExpr,
          'subPathExpr and subPath are mutually exclusive',
        );
      validateDescendingPath(findings, `${field}.subPathExpr`, mount.subPathExpr);
    }
    validateMountPropagation(findings, `${field}.mountPropagation`, mount, container);
    validateRecursiveReadOnly(findings, `${field}.recursiveReadOnly`, mount);
    const volume = pod.volumes.get(mount.name);
    if (volume?.image !== undefined && (mount.subPathExpr ?? '') !== '')
      findings.invalid(`${at}.subPathExpr`, mount.subPathExpr, 'not allowed in image volume sources');
  });
}

function validateDevices(findings: Findings, field: string, container: Container, pod: PodContext): void {
  const mounts = container.volumeMounts ?? [];
  const paths = new Set<string>();
  const names = new Set<string>();
  container.volumeDevices?.forEach((device: VolumeDevice, i) => {
    const at = `${field}[${i}]`;
    const { name, devicePath } = device;
    const volume = pod.volumes.get(name);
    if (!name) findings.required(`${at}.name`);
    if (names.has(name)) findings.invalid(`${at}.name`, name, 'must be unique');
    if (volume === undefined) findings.notFound(`${at}.name`, name);
    else if (volume.persistentVolumeClaim === undefined && volume.ephemeral === undefined)
      findings.invalid(
        `${at}.name`,
        name,
        'can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode',
      );
    if (!devicePath) findings.required(`${at}.devicePath`);
    if (paths.has(devicePath)) findings.invalid(`${at}.devicePath`, devicePath, 'must be unique');
    if (devicePath.split('/').includes('..'))
      findings.invalid(`${at}.devicePath`, devicePath, "can not contain backsteps ('..')");
    else paths.add(devicePath);
    if (mounts.some((mount) => mount.name === name))
      findings.invalid(`${at}.name`, name, 'must not already exist in volumeMounts');
    if (mounts.some((mount) => mount.mountPath === devicePath))
      findings.invalid(`${at}.devicePath`, devicePath, 'must not already exist as a path in volumeMounts');
    if (name) names.add(name);
  });
}

function validateHttpGet(findings: Findings, field: string, action: HTTPGetAction): void {
  if (!action.path) findings.required(`${field}.path`);
  validatePortNumberOrName(findings, `${field}.port`, action.port);
  const schemes = ['HTTP', 'HTTPS'];
  if (!schemes.includes(action.scheme ?? ''))
    findings.notSupported(`${field}.scheme`, action.scheme ?? '', schemes);
  for (const header of action.httpHeaders ?? [])
    findings.text(`${field}.httpHeaders`, header.name, httpHeaderName);
}

type Handler = Pick<Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'grpc'> & Pick<LifecycleHandler, 'sleep'>;

function validateHandler(
  findings: Findings,
  field: string,
  handler: Handler,
  gracePeriod: number | undefined,
): void {
  let found = 0;
  for (const name of ['exec', 'httpGet', 'tcpSocket', 'grpc', 'sleep'] as const) {
    if (handler[name] === undefined) continue;
    const at = `${field}.${name}`;
    if (found++ > 0) {
      findings.forbidden(at, 'may not specify more than 1 handler type');
      continue;
    }
    const { exec, httpGet, tcpSocket, grpc, sleep } = handler;
    if (name === 'exec' && (exec?.command ?? []).length === 0) findings.required(`${at}.command`);
    if (name === 'httpGet' && httpGet !== undefined) validateHttpGet(findings, at, httpGet);
    if (name === 'tcpSocket' && tcpSocket !== undefined)
      validatePortNumberOrName(findings, `${at}.port`, tcpSocket.port);
    if (name === 'grpc' && grpc !== undefined) validatePortNumberOrName(findings, `${at}.port`, grpc.port);
    if (name === 'sleep' && sleep !== undefined && gracePeriod !== undefined)
      if (sleep.seconds < 0 || sleep.seconds > gracePeriod)
        findings.invalid(
          at,
          sleep.seconds,
          `must be non-negative and less than terminationGracePeriodSeconds (${gracePeriod})`,
        );
  }
  if (found === 0) findings.required(field, 'must specify a handler type');
}

function validateProbe(
  findings: Findings,
  field: string,
  probe: Probe | undefined,
  kind: 'liveness' | 'readiness' | 'startup',
  gracePeriod: number | undefined,
): void {
  if (probe === undefined) return;
  validateHandler(findings, field, probe, gracePeriod);
  for (const name of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const)
    findings.notNegative(`${field}.${name}`, probe[name]);
  const seconds = probe.terminationGracePeriodSeconds;
  if (seconds !== undefined && seconds <= 0)
    findings.invalid(`${field}.terminationGracePeriodSeconds`, seconds, 'must be greater than 0');
  if (kind === 'readiness') {
    if (seconds !== undefined)
      findings.invalid(
        `${field}.terminationGracePeriodSeconds`,
        seconds,
        'must not be set for readinessProbes',
      );
  } else if (probe.successThreshold !== 1) {
    findings.invalid(`${field}.successThreshold`, probe.successThreshold ?? 0, 'must be 1');
  }
}

function validateProbes(findings: Findings, field: string, container: Container, pod: PodContext): void {
  const grace = pod.spec.terminationGracePeriodSeconds;
  if (container.lifecycle !== undefined)
    validateLifecycle(findings, `${field}.lifecycle`, container.lifecycle, pod.spec);
  validateProbe(findings, `${field}.livenessProbe`, container.livenessProbe, 'liveness', grace);
  validateProbe(findings, `${field}.readinessProbe`, container.readinessProbe, 'readiness', grace);
  validateProbe(findings, `${field}.startupProbe`, container.startupProbe, 'startup', grace);
}

function validateLifecycle(findings: Findings, field: string, lifecycle: Lifecycle, spec: PodSpec): void {
  const grace = spec.terminationGracePeriodSeconds;
  if (lifecycle.postStart !== undefined)
    validateHandler(findings, `${field}.postStart`, lifecycle.postStart, grace);
  if (lifecycle.preStop !== undefined)
    validateHandler(findings, `${field}.preStop`, lifecycle.preStop, grace);
  if (lifecycle.stopSignal !== undefined && spec.os?.name === undefined)
    findings.forbidden(`${field}.stopSignal`, 'may not be set for containers with empty `spec.os.name`');
}

function validateResizePolicies(
  findings: Findings,
  field: string,
  container: Container,
  spec: PodSpec,
): void {
  const seen = new Set<string>();
  container.resizePolicy?.forEach((policy, i) => {
    if (seen.has(policy.resourceName)) findings.duplicate(`${field}[${i}]`, policy.resourceName);
    seen.add(policy.resourceName);
    findings.oneOf(field, policy.resourceName, ['cpu', 'memory'], { required: true });
    findings.oneOf(field, policy.restartPolicy, ['NotRequired', 'RestartContainer'], { required: true });
    if (spec.restartPolicy === 'Never' && policy.restartPolicy !== 'NotRequired')
      findings.invalid(field, policy.restartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'");
  });
}

const MOST_RESTART_RULES = 20;

/** A container may have a restart policy of its own, with rules by exit code (KEP-5307). */
function validateContainerRestart(findings: Findings, field: string, container: Container): void {
  const { restartPolicy, restartPolicyRules } = container;
  findings.oneOf(`${field}.restartPolicy`, restartPolicy, ['Always', 'Never', 'OnFailure']);
  if (restartPolicyRules === undefined || restartPolicyRules.length === 0) return;
  const at = `${field}.restartPolicyRules`;
  if (restartPolicy === undefined)
    findings.required(`${field}.restartPolicy`, 'must specify restartPolicy when restart rules are used');
  if (restartPolicyRules.length > MOST_RESTART_RULES)
    findings.tooMany(at, restartPolicyRules.length, MOST_RESTART_RULES);
  restartPolicyRules.forEach((rule, i) => {
    findings.oneOf(`${at}[${i}].action`, rule.action, ['Restart'], { required: true });
    if (rule.exitCodes === undefined) {
      findings.required(`${at}[${i}].exitCodes`, 'must be specified');
      return;
    }
    findings.oneOf(`${at}[${i}].exitCodes.operator`, rule.exitCodes.operator, ['In', 'NotIn'], {
      required: true,
    });
    const values = rule.exitCodes.values ?? [];
    if (values.length === 0)
      findings.invalid(`${at}[${i}].exitCodes.values`, values, 'at least one value is required');
    if (values.length > 255) findings.tooMany(`${at}[${i}].exitCodes.values`, values.length, 255);
  });
}

function validateCommon(findings: Findings, field: string, container: Container, pod: PodContext): void {
  findings.name(`${field}.name`, container.name, dns1123Label);
  const image = container.image ?? '';
  if (image === '') findings.required(`${field}.image`);
  else if (pod.isPod && image.trim() !== image)
    findings.invalid(`${field}.image`, image, 'must not have leading or trailing whitespace');
  findings.oneOf(
    `${field}.terminationMessagePolicy`,
    container.terminationMessagePolicy,
    ['File', 'FallbackToLogsOnError'],
    { required: true },
  );
  validatePorts(findings, `${field}.ports`, container.ports);
  validateEnvironment(findings, `${field}.env`, container.env);
  validateEnvironmentFrom(findings, `${field}.envFrom`, container.envFrom);
  validateMounts(findings, `${field}.volumeMounts`, container, pod);
  validateDevices(findings, `${field}.volumeDevices`, container, pod);
  findings.oneOf(`${field}.imagePullPolicy`, container.imagePullPolicy, ['Always', 'IfNotPresent', 'Never'], {
    required: true,
  });
  validateResourceRequirements(findings, `${field}.resources`, container.resources, pod.claimNames);
  validateResizePolicies(findings, `${field}.resizePolicy`, container, pod.spec);
  validateContainerSecurity(findings, `${field}.securityContext`, container.securityContext, pod.spec);
}

/** No two of the containers may want the same port of the node. */
function validateHostPorts(findings: Findings, field: string, containers: readonly Container[]): void {
  const taken = new Set<string>();
  for (const [i, container] of containers.entries())
    for (const [j, port] of (container.ports ?? []).entries()) {
      if (!port.hostPort) continue;
      const key = `${port.protocol ?? ''}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (taken.has(key)) findings.duplicate(`${field}[${i}].ports[${j}].hostPort`, key);
      taken.add(key);
    }
}

export function validateContainers(findings: Findings, field: string, pod: PodContext): void {
  const { containers } = pod.spec;
  if (containers.length === 0) {
    findings.required(field);
    return;
  }
  const names = new Set<string>();
  for (const [i, container] of containers.entries()) {
    const at = `${field}[${i}]`;
    validateCommon(findings, at, container, pod);
    if (names.has(container.name)) findings.duplicate(`${at}.name`, container.name);
    names.add(container.name);
    validateProbes(findings, at, container, pod);
    validateContainerRestart(findings, at, container);
  }
  validateHostPorts(findings, field, containers);
}

const ONLY_SIDECARS = 'may not be set for init containers without restartPolicy=Always';

export function validateInitContainers(findings: Findings, field: string, pod: PodContext): void {
  const names = new Set(pod.spec.containers.map((container) => container.name));
  for (const [i, container] of (pod.spec.initContainers ?? []).entries()) {
    const at = `${field}[${i}]`;
    validateCommon(findings, at, container, pod);
    validateContainerRestart(findings, at, container);
    if (names.has(container.name)) findings.duplicate(`${at}.name`, container.name);
    else if (container.name) names.add(container.name);
    validateHostPorts(findings, field, [container]);
    if (container.restartPolicy === 'Always') {
      validateProbes(findings, at, container, pod);
      continue;
    }
    for (const name of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const)
      if (container[name] !== undefined) findings.forbidden(`${at}.${name}`, ONLY_SIDECARS);
    if ((container.resizePolicy ?? []).length > 0)
      findings.invalid(`${at}.resizePolicy`, container.resizePolicy, 'must not be set for init containers');
  }
}

/** A container for looking at a pod takes no part in its work, so it has no probes, ports or resources. */
const notForEphemeral = [
  'ports',
  'livenessProbe',
  'readinessProbe',
  'startupProbe',
  'lifecycle',
  'resources',
  'resizePolicy',
  'restartPolicy',
  'restartPolicyRules',
] as const;

export function validateEphemeralContainers(findings: Findings, field: string, pod: PodContext): void {
  const others = new Set(
    [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].map((container) => container.name),
  );
  const names = new Set(others);
  for (const [i, container] of (pod.spec.ephemeralContainers ?? []).entries()) {
    const at = `${field}[${i}]`;
    validateCommon(findings, at, container as Container, pod);
    if (names.has(container.name)) findings.duplicate(`${at}.name`, container.name);
    names.add(container.name);
    validateEphemeral(findings, at, container, others);
  }
}

function validateEphemeral(
  findings: Findings,
  field: string,
  container: EphemeralContainer,
  others: ReadonlySet<string>,
): void {
  const target = container.targetContainerName;
  if (target && !others.has(target)) findings.notFound(`${field}.targetContainerName`, target);
  for (const name of notForEphemeral) {
    const value = container[name];
    const empty = value === undefined || (typeof value === 'object' && Object.keys(value).length === 0);
    if (!empty) findings.forbidden(`${field}.${name}`, 'cannot be set for an Ephemeral Container');
  }
  for (const [i, mount] of (container.volumeMounts ?? []).entries())
    for (const name of ['subPath', 'subPathExpr'] as const)
      if (mount[name])
        findings.forbidden(`${field}.volumeMounts[${i}].${name}`, 'cannot be set for an Ephemeral Container');
}

export function validateHostNetworkPorts(findings: Findings, field: string, pod: PodContext): void {
  if (pod.spec.hostNetwork !== true) return;
  for (const [i, container] of pod.spec.containers.entries())
    for (const [j, port] of (container.ports ?? []).entries()) {
      const host = port.hostPort ?? 0;
      // In a template the port of the node may be left open: it is filled in when the pod is made.
      if ((pod.isPod || host !== 0) && host !== port.containerPort)
        findings.invalid(
          `${field}.containers[${i}].ports[${j}].hostPort`,
          host,
          'must match `containerPort` when `hostNetwork` is true',
        );
    }
}

export function validateReadinessGates(findings: Findings, field: string, spec: PodSpec): void {
  for (const [i, gate] of (spec.readinessGates ?? []).entries())
    findings.text(`${field}[${i}].conditionType`, gate.conditionType, qualifiedName);
}
