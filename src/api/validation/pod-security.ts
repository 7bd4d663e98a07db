// Security contexts of pods and containers: user and group numbers, seccomp and AppArmor profiles, sysctls, and what
// cannot stand beside what.

import { groupId, userId } from '../names.ts';
import type {
  AppArmorProfile,
  PodSpec,
  SeccompProfile,
  SecurityContext,
  WindowsSecurityContextOptions,
} from '../types/core-v1.ts';
import type { Findings } from './findings.ts';
import { validateDescendingPath } from './paths.ts';

type NumberRule = (value: number) => readonly string[];

function number(findings: Findings, field: string, value: number | undefined, rule: NumberRule): void {
  if (value !== undefined) for (const complaint of rule(value)) findings.invalid(field, value, complaint);
}

const seccompTypes = ['Localhost', 'RuntimeDefault', 'Unconfined'];

function validateSeccomp(findings: Findings, field: string, profile: SeccompProfile | undefined): void {
  if (profile === undefined) return;
  findings.oneOf(`${field}.type`, profile.type, seccompTypes, {
    required: 'type is required when seccompProfile is set',
  });
  const file = profile.localhostProfile;
  if (profile.type === 'Localhost') {
    if (file === undefined)
      findings.required(`${field}.localhostProfile`, 'must be set when seccomp type is Localhost');
    else validateDescendingPath(findings, `${field}.localhostProfile`, file);
  } else if (file !== undefined) {
    findings.invalid(`${field}.localhostProfile`, profile, 'can only be set when seccomp type is Localhost');
  }
}

const MOST_PROFILE_LENGTH = 4095;

function validateAppArmor(findings: Findings, field: string, profile: AppArmorProfile | undefined): void {
  if (profile === undefined) return;
  const name = profile.localhostProfile;
  const at = `${field}.localhostProfile`;
  findings.oneOf(`${field}.type`, profile.type, seccompTypes, {
    required: 'type is required when appArmorProfile is set',
  });
  if (profile.type !== 'Localhost') {
    if (name !== undefined) findings.invalid(at, name, 'can only be set when AppArmor type is Localhost');
    return;
  }
  if (name === undefined || name === '') findings.required(at, 'must be set when AppArmor type is Localhost');
  else if (name.trim() !== name) findings.invalid(at, name, 'must not be padded with whitespace');
  if (name !== undefined && name.length > MOST_PROFILE_LENGTH) findings.tooLong(at, MOST_PROFILE_LENGTH);
}

function validateWindows(
  findings: Findings,
  field: string,
  options: WindowsSecurityContextOptions | undefined,
): void {
  if (options === undefined) return;
  const user = options.runAsUserName;
  if (user === undefined) return;
  const at = `${field}.runAsUserName`;
  if (user === '') findings.required(at, 'runAsUserName cannot be an empty string');
  else if ((user.match(/\\/g) ?? []).length > 1)
    findings.invalid(at, user, 'runAsUserName cannot contain more than one backslash');
}

export function validateContainerSecurity(
  findings: Findings,
  field: string,
  context: SecurityContext | undefined,
  spec: PodSpec,
): void {
  if (context === undefined) return;
  number(findings, `${field}.runAsUser`, context.runAsUser, userId);
  number(findings, `${field}.runAsGroup`, context.runAsGroup, groupId);
  findings.oneOf(`${field}.procMount`, context.procMount, ['Default', 'Unmasked']);
  if (context.procMount === 'Unmasked' && spec.hostUsers !== false)
    findings.invalid(`${field}.procMount`, context.procMount, '`hostUsers` must be false to use `Unmasked`');
  validateSeccomp(findings, `${field}.seccompProfile`, context.seccompProfile);
  if (context.allowPrivilegeEscalation === false) {
    if (context.privileged === true)
      findings.invalid(
        field,
        context,
        'cannot set `allowPrivilegeEscalation` to false and `privileged` to true',
      );
    if (context.capabilities?.add?.includes('CAP_SYS_ADMIN'))
      findings.invalid(
        field,
        context,
        'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN',
      );
  }
  validateWindows(findings, `${field}.windowsOptions`, context.windowsOptions);
  validateAppArmor(findings, `${field}.appArmorProfile`, context.appArmorProfile);
}

const segment = '[a-z0-9]([-_a-z0-9]*[a-z0-9])?';
const sysctlFormat = `^(${segment}[\\./])*${segment}$`;
const sysctlName = new RegExp(sysctlFormat);
const MOST_SYSCTL_LENGTH = 253;

/** The namespace that a sysctl belongs to, when it has one. */
function sysctlNamespace(name: string): 'net' | 'ipc' | undefined {
  const dotted = name.replaceAll('/', '.');
  if (dotted.startsWith('net.')) return 'net';
  if (/^(kernel\.(sem|shm|msg)|fs\.mqueue\.)/.test(dotted)) return 'ipc';
  return undefined;
}

function validateSysctls(findings: Findings, field: string, spec: PodSpec): void {
  const seen = new Set<string>();
  for (const [i, { name }] of (spec.securityContext?.sysctls ?? []).entries()) {
    const at = `${field}[${i}].name`;
    if (!name) findings.required(at);
    else if (name.length > MOST_SYSCTL_LENGTH || !sysctlName.test(name))
      findings.invalid(
        at,
        name,
        `must have at most ${MOST_SYSCTL_LENGTH} characters and match regex ${sysctlFormat}`,
      );
    else if (seen.has(name)) findings.duplicate(at, name);
    const namespace = sysctlNamespace(name);
    if (spec.hostNetwork === true && namespace === 'net')
      findings.invalid(at, name, "may not be specified when 'hostNetwork' is true");
    if (spec.hostIPC === true && namespace === 'ipc')
      findings.invalid(at, name, "may not be specified when 'hostIPC' is true");
    seen.add(name);
  }
}

export function validatePodSecurity(findings: Findings, field: string, spec: PodSpec): void {
  const context = spec.securityContext;
  if (context === undefined) return;
  number(findings, `${field}.fsGroup`, context.fsGroup, groupId);
  number(findings, `${field}.runAsUser`, context.runAsUser, userId);
  number(findings, `${field}.runAsGroup`, context.runAsGroup, groupId);
  for (const [i, group] of (context.supplementalGroups ?? []).entries())
    number(findings, `${field}.supplementalGroups[${i}]`, group, groupId);
  if (spec.shareProcessNamespace === true && spec.hostPID === true)
    findings.invalid(
      `${field}.shareProcessNamespace`,
      true,
      'ShareProcessNamespace and HostPID cannot both be enabled',
    );
  validateSysctls(findings, `${field}.sysctls`, spec);
  findings.oneOf(`${field}.fsGroupChangePolicy`, context.fsGroupChangePolicy, ['Always', 'OnRootMismatch']);
  validateSeccomp(findings, `${field}.seccompProfile`, context.seccompProfile);
  validateWindows(findings, `${field}.windowsOptions`, context.windowsOptions);
  validateAppArmor(findings, `${field}.appArmorProfile`, context.appArmorProfile);
  findings.oneOf(`${field}.supplementalGroupsPolicy`, context.supplementalGroupsPolicy, ['Merge', 'Strict']);
  findings.oneOf(`${field}.seLinuxChangePolicy`, context.seLinuxChangePolicy, ['MountOption', 'Recursive']);
}

/** A pod in a user namespace of its own cannot share other namespaces of the node (KEP-127). */
export function validateHostUsers(findings: Findings, field: string, spec: PodSpec): void {
  if (spec.hostUsers !== false) return;
  for (const name of ['hostNetwork', 'hostPID', 'hostIPC'] as const)
    if (spec[name] === true) findings.forbidden(`${field}.${name}`, 'when `hostUsers` is false');
}

const WINDOWS = 'cannot be set for a windows pod';
const LINUX = 'windows options cannot be set for a linux pod';
const podFieldsNotOfWindows = ['hostUsers', 'hostPID', 'hostIPC', 'shareProcessNamespace'] as const;
const contextFieldsNotOfWindows = [
  'appArmorProfile',
  'seLinuxOptions',
  'seccompProfile',
  'fsGroup',
  'fsGroupChangePolicy',
  'sysctls',
  'runAsUser',
  'runAsGroup',
  'supplementalGroups',
  'supplementalGroupsPolicy',
] as const;
const containerFieldsNotOfWindows = [
  'appArmorProfile',
  'seLinuxOptions',
  'seccompProfile',
  'capabilities',
  'readOnlyRootFilesystem',
  'privileged',
  'allowPrivilegeEscalation',
  'procMount',
  'runAsUser',
  'runAsGroup',
] as const;

/** spec.os says what the pod is made for; what the other system has is then out of place. */
export function validateOperatingSystem(findings: Findings, field: string, spec: PodSpec): void {
  if (spec.os === undefined) return;
  const before = findings.errors.length;
  findings.oneOf(`${field}.os.name`, spec.os.name, ['linux', 'windows'], { required: true });
  if (findings.errors.length > before) return;
  const windows = spec.os.name === 'windows';
  const context = spec.securityContext;
  if (windows) {
    for (const name of podFieldsNotOfWindows)
      if (spec[name] !== undefined && spec[name] !== false) findings.forbidden(`${field}.${name}`, WINDOWS);
    for (const name of contextFieldsNotOfWindows)
      if (context?.[name] !== undefined) findings.forbidden(`${field}.securityContext.${name}`, WINDOWS);
  } else if (context?.windowsOptions !== undefined) {
    findings.forbidden(`${field}.securityContext.windowsOptions`, LINUX);
  }
  for (const kind of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    for (const [i, container] of (spec[kind] ?? []).entries()) {
      const at = `${field}.${kind}[${i}].securityContext`;
      const own = container.securityContext;
      if (windows) {
        for (const name of containerFieldsNotOfWindows)
          if (own?.[name] !== undefined) findings.forbidden(`${at}.${name}`, WINDOWS);
      } else if (own?.windowsOptions !== undefined) {
        findings.forbidden(`${at}.windowsOptions`, LINUX);
      }
    }
}
