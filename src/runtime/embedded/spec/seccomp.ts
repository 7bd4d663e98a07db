// Seccomp filters of containers: the default profile from the table, and profiles in files, which may be in Docker's
// format (with conditions on capabilities and architectures) or in that of the OCI specification.

import { readFile } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { RuntimeError, type SecurityProfile } from '../../cri.ts';
import type { OciSeccomp, OciSeccompArgument, OciSeccompRule } from './oci.ts';
import {
  AF_VSOCK,
  ALWAYS,
  ARCHITECTURES,
  CLONE_NAMESPACES,
  ENOSYS,
  EPERM,
  PERSONALITIES,
  WITH_CAPABILITY,
} from './seccomp-table.ts';

export interface SeccompHost {
  readonly capabilities: ReadonlySet<string>;
  /** Node's process.arch. */
  readonly arch: string;
}

export function defaultSeccomp({ capabilities, arch }: SeccompHost): OciSeccomp {
  const architecture = ARCHITECTURES[arch];
  const allow = (names: readonly string[], ...args: OciSeccompArgument[]): OciSeccompRule => ({
    names,
    action: 'SCMP_ACT_ALLOW',
    ...(args.length > 0 && { args }),
  });
  const guarded = Object.entries(WITH_CAPABILITY).flatMap(([name, calls]) =>
    capabilities.has(name) ? calls : [],
  );
  const administrator = capabilities.has('CAP_SYS_ADMIN');
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    ...(architecture && { architectures: architecture.seccomp }),
    syscalls: [
      allow([...new Set([...Object.values(ALWAYS).flat(), ...(architecture?.calls ?? []), ...guarded])]),
      allow(['socket'], { index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }),
      ...PERSONALITIES.map((value) => allow(['personality'], { index: 0, value, op: 'SCMP_CMP_EQ' })),
      ...(administrator
        ? []
        : [
            allow(['clone'], { index: 0, value: CLONE_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
            // Its flags are in memory, where no filter sees them: callers fall back to clone.
            { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
          ]),
    ],
  };
}

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function optionalNumber(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

function kernelAtLeast(wanted: string, release: string): boolean {
  const [major = 0, minor = 0] = wanted.split('.').map(Number);
  const [ourMajor = 0, ourMinor = 0] = release.split(/[.-]/).map(Number);
  return ourMajor > major || (ourMajor === major && ourMinor >= minor);
}

/** Whether a rule's conditions (Docker's includes and excludes) hold here. */
function applies(rule: Json, host: SeccompHost, kernel: string): boolean {
  const word = ARCHITECTURES[host.arch]?.profile ?? host.arch;
  const includes = object(rule['includes']) ?? {};
  const excludes = object(rule['excludes']) ?? {};
  const arches = strings(includes['arches']);
  if (arches.length > 0 && !arches.includes(word)) return false;
  if (!strings(includes['caps']).every((cap) => host.capabilities.has(cap))) return false;
  if (typeof includes['minKernel'] === 'string' && !kernelAtLeast(includes['minKernel'], kernel))
    return false;
  if (strings(excludes['arches']).includes(word)) return false;
  if (strings(excludes['caps']).some((cap) => host.capabilities.has(cap))) return false;
  if (typeof excludes['minKernel'] === 'string' && kernelAtLeast(excludes['minKernel'], kernel)) return false;
  return true;
}

function argumentOf(value: unknown): OciSeccompArgument {
  const { index, value: first, valueTwo, op } = object(value) ?? {};
  if (typeof index !== 'number' || typeof first !== 'number' || typeof op !== 'string')
    throw new RuntimeError('InvalidArgument', 'an argument condition lacks index, value or op');
  return { index, value: first, op, ...(typeof valueTwo === 'number' && { valueTwo }) };
}

/** Reads a profile in either format. */
export function parseSeccompProfile(text: string, host: SeccompHost, kernel: string): OciSeccomp {
  let profile: Json | undefined;
  try {
    profile = object(JSON.parse(text));
  } catch (error) {
    throw new RuntimeError('InvalidArgument', `it is not JSON: ${String(error)}`, { cause: error });
  }
  const defaultAction = profile?.['defaultAction'];
  if (!profile || typeof defaultAction !== 'string')
    throw new RuntimeError('InvalidArgument', 'it has no defaultAction');
  const map = Array.isArray(profile['archMap']) ? profile['archMap'].map(object) : [];
  const own = ARCHITECTURES[host.arch]?.seccomp[0];
  const mapped = map.find((entry) => entry?.['architecture'] === own);
  const architectures =
    mapped && own ? [own, ...strings(mapped['subArchitectures'])] : strings(profile['architectures']);
  const rules = Array.isArray(profile['syscalls']) ? profile['syscalls'].map(object) : [];
  const syscalls = rules.flatMap((rule): OciSeccompRule[] => {
    if (!rule || !applies(rule, host, kernel)) return [];
    const names = typeof rule['name'] === 'string' && rule['name'] ? [rule['name']] : strings(rule['names']);
    if (names.length === 0 || typeof rule['action'] !== 'string')
      throw new RuntimeError('InvalidArgument', 'a rule lacks names or action');
    const args = Array.isArray(rule['args']) ? rule['args'].map(argumentOf) : [];
    const errnoRet = optionalNumber(rule['errnoRet']);
    return [
      {
        names,
        action: rule['action'],
        ...(errnoRet !== undefined && { errnoRet }),
        ...(args.length > 0 && { args }),
      },
    ];
  });
  const defaultErrnoRet = optionalNumber(profile['defaultErrnoRet']);
  const flags = strings(profile['flags']);
  return {
    defaultAction,
    ...(defaultErrnoRet !== undefined && { defaultErrnoRet }),
    ...(architectures.length > 0 && { architectures }),
    ...(flags.length > 0 && { flags }),
    ...(typeof profile['listenerPath'] === 'string' && { listenerPath: profile['listenerPath'] }),
    ...(typeof profile['listenerMetadata'] === 'string' && { listenerMetadata: profile['listenerMetadata'] }),
    syscalls,
  };
}

/** The filter for a container; undefined: none. */
export async function seccompFor(
  profile: SecurityProfile | undefined,
  privileged: boolean,
  host: SeccompHost,
  kernel: string,
): Promise<OciSeccomp | undefined> {
  if (privileged || !profile || profile.type === 'Unconfined') return undefined;
  if (profile.type === 'RuntimeDefault') return defaultSeccomp(host);
  const path = profile.localhostRef ?? '';
  if (!isAbsolute(path))
    throw new RuntimeError(
      'InvalidArgument',
      `the seccomp profile "${path}" is not named by an absolute path`,
    );
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new RuntimeError(
      'FailedPrecondition',
      `the seccomp profile ${path} cannot be read: ${String(error)}`,
      {
        cause: error,
      },
    );
  }
  try {
    return parseSeccompProfile(text, host, kernel);
  } catch (error) {
    throw new RuntimeError(
      'InvalidArgument',
      `the seccomp profile ${path} is wrong: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}
