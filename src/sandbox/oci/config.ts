// config.json of a bundle, and process.json of an exec (runtime-spec 1.2, config.md and config-linux.md), checked.
// A field that asks for what the sandbox cannot give is refused; fields about the host's own kernel that lose their
// meaning when a program does not run on it (AppArmor and SELinux labels, host device rules, mount propagation, RDT)
// are let be, as gVisor does.

import { readFileSync } from 'node:fs';
import { isAbsolute, join, normalize } from 'node:path';
import { Capability } from '../abi/capability.ts';
import { Rlimit } from '../abi/resource.ts';
import { CommandError, errorCode } from './errors.ts';
import { Field } from './fields.ts';
import { type Hooks, readHooks } from './hooks.ts';
import { type Resources, readResources } from './resources.ts';
import { readSeccomp, type SeccompProfile } from './seccomp.ts';

export type NamespaceType = 'pid' | 'network' | 'ipc' | 'uts' | 'mount' | 'cgroup' | 'user' | 'time';

export interface Process {
  readonly terminal: boolean;
  readonly consoleSize: { readonly rows: number; readonly columns: number };
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly additionalGids: readonly number[];
    readonly umask: number | undefined;
  };
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  /** Capability numbers; undefined: none in any set. */
  readonly capabilities: Readonly<Record<CapabilitySet, readonly number[]>>;
  readonly rlimits: readonly (readonly [resource: number, soft: number, hard: number])[];
  readonly noNewPrivileges: boolean;
  readonly oomScoreAdj: number | undefined;
}

export type CapabilitySet = 'bounding' | 'effective' | 'inheritable' | 'permitted' | 'ambient';

export interface Mount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface Device {
  readonly path: string;
  readonly type: 'c' | 'b' | 'p';
  readonly major: number;
  readonly minor: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface Config {
  readonly ociVersion: string;
  readonly hostname: string | undefined;
  readonly domainname: string;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly process: Process;
  readonly mounts: readonly Mount[];
  readonly namespaces: readonly { readonly type: NamespaceType; readonly path: string | undefined }[];
  readonly devices: readonly Device[];
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly sysctl: Readonly<Record<string, string>>;
  readonly cgroupsPath: string | undefined;
  readonly resources: Resources;
  readonly seccomp: SeccompProfile | undefined;
  readonly hooks: Hooks;
  readonly annotations: Readonly<Record<string, string>>;
}

const highestId = 0xffff_fffe;
const namespaceTypes: readonly string[] = [
  ...(['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup', 'user', 'time'] satisfies NamespaceType[]),
];

/** CAP_NET_BIND_SERVICE → its number. */
export const capabilityNumbers: ReadonlyMap<string, number> = new Map(
  Object.entries(Capability).map(([name, number]) => [
    `CAP_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`,
    number,
  ]),
);

function readJson(path: string, missing: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw new CommandError(missing);
    throw error;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new CommandError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Throws a CommandError that names the field that is wrong. */
export function loadConfig(bundle: string): Config {
  return checkConfig(
    readJson(join(bundle, 'config.json'), 'JSON specification file config.json not found'),
    bundle,
  );
}

export function loadProcess(path: string): Process {
  return readProcess(new Field('process', readJson(path, `open ${path}: no such file or directory`)));
}

export function checkConfig(value: unknown, bundle: string): Config {
  const config = new Field('', value);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CommandError('config.json: it is not an object');
  const ociVersion = config.get('ociVersion').required();
  if (!/^1\.\d+\.\d+([-+].*)?$/.test(ociVersion))
    config.get('ociVersion').fail(`version "${ociVersion}" of the specification is not supported, 1.x is`);
  if (!config.get('process').present) config.get('process').fail('it is missing');
  const root = config.get('root').get('path').required();
  const linux = config.get('linux');
  return {
    ociVersion,
    hostname: config.get('hostname').text(),
    domainname: config.get('domainname').textOr(''),
    root: {
      path: isAbsolute(root) ? normalize(root) : join(bundle, root),
      readonly: config.get('root').get('readonly').truth(),
    },
    process: readProcess(config.get('process')),
    mounts: config.get('mounts').items().map(readMount),
    namespaces: readNamespaces(linux.get('namespaces')),
    devices: linux.get('devices').items().map(readDevice),
    maskedPaths: linux
      .get('maskedPaths')
      .items()
      .map((item) => item.path()),
    readonlyPaths: linux
      .get('readonlyPaths')
      .items()
      .map((item) => item.path()),
    sysctl: textMap(linux.get('sysctl')),
    cgroupsPath: linux.get('cgroupsPath').text(),
    resources: readResources(linux.get('resources')),
    seccomp: linux.get('seccomp').present ? readSeccomp(linux.get('seccomp')) : undefined,
    hooks: readHooks(config.get('hooks')),
    annotations: textMap(config.get('annotations')),
  };
}

function textMap(field: Field): Record<string, string> {
  return Object.fromEntries(field.entries().map(([key, value]) => [key, value.required()]));
}

function readProcess(process: Field): Process {
  const cwd = process.get('cwd').path();
  const args = process.get('args').texts();
  if (args.length === 0) process.get('args').fail('it must not be empty');
  const user = process.get('user');
  const size = process.get('consoleSize');
  const sets = process.get('capabilities');
  const set = (name: CapabilitySet): number[] => sets.get(name).items().flatMap(readCapability);
  return {
    terminal: process.get('terminal').truth(),
    consoleSize: {
      rows: size.get('height').numberOr(0, 0xffff, 0),
      columns: size.get('width').numberOr(0, 0xffff, 0),
    },
    user: {
      uid: user.get('uid').numberOr(0, highestId, 0),
      gid: user.get('gid').numberOr(0, highestId, 0),
      additionalGids: user
        .get('additionalGids')
        .items()
        .map((item) => item.numberOr(0, highestId, 0)),
      umask: user.get('umask').number(0, 0o777),
    },
    args,
    env: process.get('env').texts(),
    cwd,
    capabilities: {
      bounding: set('bounding'),
      effective: set('effective'),
      inheritable: set('inheritable'),
      permitted: set('permitted'),
      ambient: set('ambient'),
    },
    rlimits: process.get('rlimits').items().map(readRlimit),
    noNewPrivileges: process.get('noNewPrivileges').truth(),
    oomScoreAdj: process.get('oomScoreAdj').number(-1000, 1000),
  };
}

/** Names that this kernel does not know are left out, as runtimes do since 1.1. */
function readCapability(item: Field): number[] {
  const number = capabilityNumbers.get(item.required());
  return number === undefined ? [] : [number];
}

function readRlimit(item: Field): readonly [number, number, number] {
  const type = item.get('type').required();
  const resource = Object.entries(Rlimit).find(([name]) => `RLIMIT_${name.toUpperCase()}` === type)?.[1];
  if (resource === undefined) return item.get('type').fail(`there is no resource limit "${type}"`);
  const limit = (name: string): number => {
    const value = item.get(name).numberOr(-1, Number.MAX_SAFE_INTEGER, 0);
    return value > Number.MAX_SAFE_INTEGER ? -1 : value;
  };
  const soft = limit('soft');
  const hard = limit('hard');
  if (hard >= 0 && (soft < 0 || soft > hard))
    item.get('soft').fail(`${soft} is above the hard limit ${hard}`);
  return [resource, soft, hard];
}

function readMount(item: Field): Mount {
  const destination = item.get('destination').required();
  const options = item.get('options').texts();
  const bound = options.includes('bind') || options.includes('rbind');
  return {
    // runc has always taken relative ones as relative to /.
    destination: normalize(destination.startsWith('/') ? destination : `/${destination}`),
    type: bound ? 'bind' : item.get('type').textOr('none'),
    source: item.get('source').textOr(''),
    options,
  };
}

function readNamespaces(list: Field): Config['namespaces'] {
  const seen = new Set<string>();
  return list.items().map((item) => {
    const type = item.get('type').required();
    if (!namespaceTypes.includes(type)) item.get('type').fail(`there is no namespace "${type}"`);
    if (seen.has(type)) item.get('type').fail(`the namespace "${type}" is named twice`);
    seen.add(type);
    const path = item.get('path').text();
    return { type: type as NamespaceType, path: path === '' ? undefined : path };
  });
}

function readDevice(item: Field): Device {
  const type = item.get('type').required();
  const kind = { c: 'c', u: 'c', b: 'b', p: 'p' }[type] as Device['type'] | undefined;
  if (kind === undefined) return item.get('type').fail(`there is no device type "${type}"`);
  return {
    path: item.get('path').path(),
    type: kind,
    major: item.get('major').numberOr(0, 0xfff, 0),
    minor: item.get('minor').numberOr(0, 0xfffff, 0),
    mode: item.get('fileMode').numberOr(0, 0o177777, 0o666) & 0o7777,
    uid: item.get('uid').numberOr(0, highestId, 0),
    gid: item.get('gid').numberOr(0, highestId, 0),
  };
}
