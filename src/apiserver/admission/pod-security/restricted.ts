// The restricted level of the Pod Security Standards: current pod hardening practice. On top of baseline, two of whose
// checks it replaces by stricter ones. In the order in which upstream reports them.

import type { SeccompProfile, Volume } from '../../../api/types/core-v1.ts';
import { BASELINE } from './baseline.ts';
import {
  type Check,
  containersOf,
  containersText,
  distinct,
  inUserNamespace,
  isWindows,
  offenders,
  plural,
  quoted,
  type Violation,
  violation,
} from './check.ts';

const allowPrivilegeEscalation: Check = (pod, version) =>
  version < 8 || isWindows(pod, version)
    ? undefined
    : violation(
        'allowPrivilegeEscalation != false',
        false,
        offenders(pod.spec, (c) => c.securityContext?.allowPrivilegeEscalation !== false),
        'must set securityContext.allowPrivilegeEscalation=false',
      );

const capabilities: Check = (pod, version) => {
  if (version < 22) return BASELINE.capabilities(pod, version);
  if (isWindows(pod, version)) return undefined;
  const notDropping: string[] = [];
  const adding: string[] = [];
  const added: string[] = [];
  for (const { name, securityContext } of containersOf(pod.spec)) {
    if (!securityContext?.capabilities?.drop?.includes('ALL')) notDropping.push(name);
    const wrong = (securityContext?.capabilities?.add ?? []).filter((cap) => cap !== 'NET_BIND_SERVICE');
    if (wrong.length === 0) continue;
    adding.push(name);
    added.push(...wrong);
  }
  const details: string[] = [];
  if (notDropping.length > 0)
    details.push(`${containersText(notDropping)} must set securityContext.capabilities.drop=["ALL"]`);
  if (adding.length > 0)
    details.push(
      `${containersText(adding)} must not include ${quoted(distinct(added))} in securityContext.capabilities.add`,
    );
  return details.length === 0
    ? undefined
    : { reason: 'unrestricted capabilities', detail: details.join('; ') };
};

const ALLOWED_VOLUMES = new Set<string>([
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'image',
  'persistentVolumeClaim',
  'projected',
  'secret',
]);

const typeOf = (volume: Volume): string =>
  Object.entries(volume).find(([field, value]) => field !== 'name' && value !== undefined)?.[0] ?? 'emptyDir';

const restrictedVolumes: Check = ({ spec }) => {
  const wrong = (spec.volumes ?? []).filter((volume) => !ALLOWED_VOLUMES.has(typeOf(volume)));
  if (wrong.length === 0) return undefined;
  const types = distinct(wrong.map(typeOf));
  return {
    reason: 'restricted volume types',
    detail: `${plural('volume', wrong.length)} ${quoted(wrong.map(({ name }) => name))} ${wrong.length === 1 ? 'uses' : 'use'} restricted volume ${plural('type', types.length)} ${quoted(types)}`,
  };
};

const runAsNonRoot: Check = (pod) => {
  if (inUserNamespace(pod)) return undefined;
  const { spec } = pod;
  const podSays = spec.securityContext?.runAsNonRoot;
  const explicit = offenders(spec, (c) => c.securityContext?.runAsNonRoot === false);
  const silent = offenders(spec, (c) => c.securityContext?.runAsNonRoot === undefined);
  const rule = 'must not set securityContext.runAsNonRoot=false';
  const bad = violation('runAsNonRoot != true', podSays === false && silent.length > 0, explicit, rule);
  if (bad) return bad;
  if (podSays === true || silent.length === 0) return undefined;
  return {
    reason: 'runAsNonRoot != true',
    detail: `pod or ${containersText(silent)} must set securityContext.runAsNonRoot=true`,
  };
};

const runAsUser: Check = (pod, version) =>
  version < 23 || inUserNamespace(pod)
    ? undefined
    : violation(
        'runAsUser=0',
        pod.spec.securityContext?.runAsUser === 0,
        offenders(pod.spec, (c) => c.securityContext?.runAsUser === 0),
        'must not set runAsUser=0',
      );

const seccompProfile: Check = (pod, version): Violation | undefined => {
  if (version < 19) return BASELINE.seccompProfile(pod, version);
  if (isWindows(pod, version)) return undefined;
  const { spec } = pod;
  const good = (profile: SeccompProfile | undefined): boolean =>
    profile?.type === 'RuntimeDefault' || profile?.type === 'Localhost';
  const podProfile = spec.securityContext?.seccompProfile;
  const explicit: string[] = [];
  const silent: string[] = [];
  const values: string[] = [];
  for (const { name, securityContext } of containersOf(spec)) {
    const profile = securityContext?.seccompProfile;
    if (profile && !good(profile)) {
      explicit.push(name);
      values.push(profile.type);
    } else if (!profile && !good(podProfile)) silent.push(name);
  }
  const podBad = podProfile !== undefined && !good(podProfile);
  if (podBad) values.push(podProfile.type);
  const bad = violation(
    'seccompProfile',
    podBad,
    explicit,
    `must not set securityContext.seccompProfile.type to ${quoted(distinct(values))}`,
  );
  if (bad) return bad;
  if (silent.length === 0) return undefined;
  return {
    reason: 'seccompProfile',
    detail: `pod or ${containersText(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"`,
  };
};

export const RESTRICTED = {
  allowPrivilegeEscalation,
  capabilities,
  restrictedVolumes,
  runAsNonRoot,
  runAsUser,
  seccompProfile,
} as const satisfies Record<string, Check>;
