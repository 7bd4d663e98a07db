// A container's config.json: what the CRI and the image ask for, in the words of the OCI runtime specification, with
// the defaults of upstream's runtimes (containerd's, where they differ).

import type { ContainerConfig, PodSandboxConfig } from '../../cri.ts';
import { RuntimeError } from '../../cri.ts';
import type { OciImageConfig } from '../images/image-source.ts';
import { containerCapabilities } from './capabilities.ts';
import { hostDevices, namedDevices } from './devices.ts';
import { containerMounts, type PodFiles } from './mounts.ts';
import type { OciNamespace, OciProcess, OciSpec } from './oci.ts';
import { ociResources, type ResourceHost } from './resources.ts';
import { seccompFor } from './seccomp.ts';
import { resolveUser } from './user.ts';

/** What does not change while we run. */
export interface SpecHost extends ResourceHost {
  readonly capabilities: ReadonlySet<string>;
  readonly arch: string;
  /** uname -r */
  readonly kernel: string;
  readonly hostname: string;
  /** The hard limit of open files that we can give. */
  readonly openFilesLimit: number;
  /** Our own score; without CAP_SYS_RESOURCE no process gets a lower one. */
  readonly oomScoreAdj: number;
}

export interface SpecRequest {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: ContainerConfig;
  readonly sandbox: PodSandboxConfig;
  readonly image: OciImageConfig;
  readonly rootfs: string;
  /** The image's files, empty when it has none. */
  readonly passwd: string;
  readonly group: string;
  readonly files: PodFiles;
  readonly volumes: readonly { readonly path: string; readonly directory: string }[];
  /** Paths of the namespaces to join; a kind that is absent is the host's. */
  readonly namespaces: {
    readonly network?: string;
    readonly ipc?: string;
    readonly uts?: string;
    /** 'new': one of its own. */
    readonly pid?: string;
  };
  readonly cgroupsPath: string;
}

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Later values win and take the place of the first. */
export function mergeEnvironment(...lists: readonly (readonly string[])[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of lists.flat()) merged.set(entry.split('=', 1)[0]!, entry);
  return [...merged.values()];
}

/** What is run, as the pod and the image say together. */
export function commandLine(config: ContainerConfig, image: OciImageConfig): string[] {
  const given = config.command && config.command.length > 0 ? config.command : undefined;
  const command = given ?? image.Entrypoint ?? [];
  const hasArgs = config.args !== undefined && config.args.length > 0;
  const args = hasArgs ? config.args : given ? [] : (image.Cmd ?? []);
  const line = [...command, ...args];
  if (line.length === 0)
    throw new RuntimeError(
      'InvalidArgument',
      `no command specified: neither the container ${config.metadata.name} nor its image names one`,
    );
  return line;
}

function processOf(request: SpecRequest, host: SpecHost): OciProcess {
  const { config, sandbox, image } = request;
  const { security } = config;
  const hostname = sandbox.namespaces.network === 'NODE' ? host.hostname : sandbox.hostname || host.hostname;
  const capabilities = containerCapabilities(security.capabilities, security.privileged, host.capabilities);
  const { oomScoreAdj } = config.resources;
  const lowest = host.capabilities.has('CAP_SYS_RESOURCE') ? -1000 : host.oomScoreAdj;
  return {
    terminal: config.tty,
    user: resolveUser(security, image.User, request.passwd, request.group),
    args: commandLine(config, image),
    env: mergeEnvironment(
      [DEFAULT_PATH, `HOSTNAME=${hostname}`],
      config.tty ? ['TERM=xterm'] : [],
      image.Env ?? [],
      config.env.map(({ key, value }) => `${key}=${value}`),
    ),
    cwd: config.workingDir || image.WorkingDir || '/',
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: [
      {
        type: 'RLIMIT_NOFILE',
        hard: Math.min(524_288, host.openFilesLimit),
        soft: Math.min(1024, host.openFilesLimit),
      },
    ],
    noNewPrivileges: security.noNewPrivileges,
    ...(oomScoreAdj !== undefined && { oomScoreAdj: Math.max(oomScoreAdj, lowest) }),
  };
}

function namespacesOf({ namespaces }: SpecRequest, host: SpecHost): OciNamespace[] {
  const list: OciNamespace[] = [{ type: 'mount' }];
  if (namespaces.network) list.push({ type: 'network', path: namespaces.network });
  if (namespaces.ipc) list.push({ type: 'ipc', path: namespaces.ipc });
  if (namespaces.uts) list.push({ type: 'uts', path: namespaces.uts });
  if (namespaces.pid)
    list.push(namespaces.pid === 'new' ? { type: 'pid' } : { type: 'pid', path: namespaces.pid });
  // Version 1 shows a container its own cgroups through the mounts themselves.
  if (host.mode === 'v2') list.push({ type: 'cgroup' });
  return list;
}

export async function containerSpec(request: SpecRequest, host: SpecHost): Promise<OciSpec> {
  const { config, sandbox } = request;
  const { security } = config;
  const process = processOf(request, host);
  const capabilities = new Set(process.capabilities.bounding);
  const [mounts, devices, seccomp] = await Promise.all([
    containerMounts({
      privileged: security.privileged,
      readonlyRootfs: security.readonlyRootfs,
      files: request.files,
      volumes: request.volumes,
      mounts: config.mounts,
    }),
    security.privileged
      ? hostDevices().then((all) => ({ devices: all, rules: [{ allow: true, access: 'rwm' }] }))
      : namedDevices(config.devices).then((named) => ({
          devices: named.devices,
          rules: [{ allow: false, access: 'rwm' }, ...named.rules],
        })),
    seccompFor(security.seccomp, security.privileged, { capabilities, arch: host.arch }, host.kernel),
  ]);
  return {
    ociVersion: '1.0.2',
    process,
    root: { path: request.rootfs, readonly: security.readonlyRootfs },
    mounts: mounts.mounts,
    annotations: {
      'io.kubernetes.cri.container-type': 'container',
      'io.kubernetes.cri.container-name': config.metadata.name,
      'io.kubernetes.cri.image-name': config.imageReference,
      'io.kubernetes.cri.sandbox-id': request.sandboxId,
      'io.kubernetes.cri.sandbox-name': sandbox.metadata.name,
      'io.kubernetes.cri.sandbox-namespace': sandbox.metadata.namespace,
      'io.kubernetes.cri.sandbox-uid': sandbox.metadata.uid,
    },
    linux: {
      namespaces: namespacesOf(request, host),
      cgroupsPath: request.cgroupsPath,
      resources: { ...ociResources(config.resources, host), devices: devices.rules },
      devices: devices.devices,
      maskedPaths: security.privileged ? [] : security.maskedPaths,
      readonlyPaths: security.privileged ? [] : security.readonlyPaths,
      ...(mounts.rootfsPropagation && { rootfsPropagation: mounts.rootfsPropagation }),
      ...(seccomp && { seccomp }),
    },
  };
}
