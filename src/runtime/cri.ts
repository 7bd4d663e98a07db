// The contract between the node agent and whatever runs its containers: the Container Runtime Interface v1
// (k8s.io/cri-api) in TypeScript's words. Names and semantics are the CRI's, so that an implementation over gRPC
// (containerd, CRI-O) is a translation; where the CRI returns a streaming URL, this returns the streams.
//
// What a caller may rely on:
// - Every call is idempotent where the CRI says so: stopping or removing what is stopped or gone succeeds.
// - Failures reject with RuntimeError; its code tells not-found from the rest.
// - The runtime keeps its own records on disk: after a restart of the node agent list calls answer as before.

import type { Readable, Writable } from 'node:stream';

export type RuntimeErrorCode =
  | 'NotFound'
  | 'AlreadyExists'
  | 'InvalidArgument'
  | 'FailedPrecondition'
  | 'Unavailable'
  | 'Unimplemented'
  | 'DeadlineExceeded'
  | 'Unauthenticated'
  | 'Internal';

export class RuntimeError extends Error {
  override readonly name = 'RuntimeError';
  readonly code: RuntimeErrorCode;
  constructor(code: RuntimeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface PodSandboxMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  /** Counts the sandboxes made for this pod, from 0. */
  readonly attempt: number;
}

export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';

export interface NamespaceOptions {
  readonly network: 'POD' | 'NODE';
  readonly pid: NamespaceMode;
  readonly ipc: 'POD' | 'NODE';
  /** The container whose PID namespace is joined when pid is TARGET. */
  readonly targetId?: string;
}

export interface SecurityProfile {
  readonly type: 'RuntimeDefault' | 'Unconfined' | 'Localhost';
  readonly localhostRef?: string;
}

export interface PortMapping {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly containerPort: number;
  /** 0: not published. */
  readonly hostPort: number;
  readonly hostIp?: string;
}

export interface DnsConfig {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
}

export interface LinuxResources {
  readonly cpuPeriod?: number;
  readonly cpuQuota?: number;
  readonly cpuShares?: number;
  readonly memoryLimitBytes?: number;
  readonly oomScoreAdj?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly pidsLimit?: number;
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[];
  /** cgroup v2 files set as they are: memory.min, memory.high, … */
  readonly unified?: Readonly<Record<string, string>>;
}

export interface PodSandboxConfig {
  readonly metadata: PodSandboxMetadata;
  readonly hostname: string;
  /** Where the containers' log files go: <logDirectory>/<container log path>. */
  readonly logDirectory: string;
  readonly dns?: DnsConfig;
  readonly portMappings: readonly PortMapping[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly namespaces: NamespaceOptions;
  /** The pod's cgroup, relative to the hierarchy's root, e.g. /kubepods/burstable/pod<uid>. Made by the caller. */
  readonly cgroupParent: string;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly security: {
    readonly privileged: boolean;
    readonly runAsUser?: number;
    readonly runAsGroup?: number;
    readonly supplementalGroups: readonly number[];
    readonly seccomp?: SecurityProfile;
  };
}

export type PodSandboxState = 'READY' | 'NOTREADY';

export interface PodSandbox {
  readonly id: string;
  readonly metadata: PodSandboxMetadata;
  readonly state: PodSandboxState;
  /** Nanoseconds since the epoch do not fit a number: milliseconds, with a fraction. */
  readonly createdAt: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly runtimeHandler: string;
}

export interface PodSandboxStatus extends PodSandbox {
  /** The pod's addresses, the primary one first; empty with the host's network. */
  readonly ips: readonly string[];
  readonly namespaces: NamespaceOptions;
}

export interface Mount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly: boolean;
  readonly recursiveReadOnly?: boolean;
  readonly propagation: 'PRIVATE' | 'HOST_TO_CONTAINER' | 'BIDIRECTIONAL';
}

export interface Device {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly permissions: string;
}

export interface ContainerSecurity {
  readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] };
  readonly privileged: boolean;
  readonly namespaces: NamespaceOptions;
  readonly runAsUser?: number;
  readonly runAsUsername?: string;
  readonly runAsGroup?: number;
  readonly supplementalGroups: readonly number[];
  readonly supplementalGroupsPolicy?: 'Merge' | 'Strict';
  readonly readonlyRootfs: boolean;
  readonly noNewPrivileges: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly seccomp?: SecurityProfile;
}

export interface ContainerMetadata {
  readonly name: string;
  /** Counts the containers made for this name, from 0. */
  readonly attempt: number;
}

export interface ContainerConfig {
  readonly metadata: ContainerMetadata;
  /** An image id, as resolved by ImageService.imageStatus or pullImage. */
  readonly image: string;
  /** The reference as the user wrote it, for status. */
  readonly imageReference: string;
  /** Replaces the image's entrypoint; absent: the image's. */
  readonly command?: readonly string[];
  /** Replaces the image's arguments; absent: the image's, unless command is given. */
  readonly args?: readonly string[];
  readonly workingDir?: string;
  readonly env: readonly { readonly key: string; readonly value: string }[];
  readonly mounts: readonly Mount[];
  readonly devices: readonly Device[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Relative to the sandbox's logDirectory. */
  readonly logPath: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  readonly resources: LinuxResources;
  readonly security: ContainerSecurity;
  readonly stopSignal?: string;
}

export type ContainerState = 'CREATED' | 'RUNNING' | 'EXITED' | 'UNKNOWN';

export interface Container {
  readonly id: string;
  readonly podSandboxId: string;
  readonly metadata: ContainerMetadata;
  /** The image as it was asked for. */
  readonly image: string;
  /** The image's id or repository digest, for status.containerStatuses[].imageID. */
  readonly imageId: string;
  readonly state: ContainerState;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ContainerStatus extends Container {
  /** Milliseconds since the epoch; 0: not yet. */
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly exitCode: number;
  /** 'Completed', 'Error', 'OOMKilled', 'StartError', 'ContainerCannotRun' */
  readonly reason: string;
  readonly message: string;
  readonly mounts: readonly Mount[];
  readonly logPath: string;
  readonly resources?: LinuxResources;
  /** The first process's ids inside the container, when running. */
  readonly user?: {
    readonly uid: number;
    readonly gid: number;
    readonly supplementalGroups: readonly number[];
  };
  readonly stopSignal?: string;
  /** The host's process id of the container's first process; 0 when not running. */
  readonly pid: number;
}

export interface ContainerStats {
  readonly id: string;
  readonly metadata: ContainerMetadata;
  readonly podSandboxId: string;
  readonly timestamp: number;
  readonly cpu: { readonly usageCoreNanoSeconds: number };
  readonly memory: {
    readonly workingSetBytes: number;
    readonly rssBytes: number;
    readonly usageBytes: number;
  };
  readonly writableLayer: { readonly usedBytes: number; readonly inodesUsed: number };
}

export type ContainerEvent =
  | {
      readonly type: 'CONTAINER_CREATED' | 'CONTAINER_STARTED' | 'CONTAINER_STOPPED' | 'CONTAINER_DELETED';
      readonly containerId: string;
      readonly podSandboxId: string;
      readonly podUid: string;
    }
  | {
      readonly type: 'SANDBOX_CREATED' | 'SANDBOX_STOPPED' | 'SANDBOX_DELETED';
      readonly podSandboxId: string;
      readonly podUid: string;
    };

export interface ExecOptions {
  readonly command: readonly string[];
  readonly tty: boolean;
  /** Absent: the process reads from /dev/null. */
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  /** Must be absent with a tty. */
  readonly stderr?: Writable;
  readonly signal?: AbortSignal;
}

export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

export interface StreamSession {
  /** Resolves with the exit code once the process has ended and all of its output was written. Attach: 0. */
  readonly done: Promise<number>;
  resize(size: TerminalSize): void;
  /** Ends the exec'd process, or detaches. */
  close(): void;
}

export interface ExecSyncResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly exitCode: number;
}

export interface RuntimeStatus {
  readonly runtimeReady: boolean;
  readonly networkReady: boolean;
  /** Says why when one of them is not. */
  readonly message?: string;
  readonly handlers: readonly string[];
}

export interface RuntimeService {
  version(): Promise<{ readonly runtimeName: string; readonly runtimeVersion: string }>;
  status(): Promise<RuntimeStatus>;

  runPodSandbox(config: PodSandboxConfig, runtimeHandler: string): Promise<string>;
  /** Kills what still runs in the sandbox and takes its network down; its record stays. */
  stopPodSandbox(id: string): Promise<void>;
  removePodSandbox(id: string): Promise<void>;
  podSandboxStatus(id: string): Promise<PodSandboxStatus>;
  listPodSandboxes(filter?: {
    readonly id?: string;
    readonly podUid?: string;
    readonly state?: PodSandboxState;
  }): Promise<PodSandbox[]>;

  createContainer(podSandboxId: string, config: ContainerConfig, sandbox: PodSandboxConfig): Promise<string>;
  startContainer(id: string): Promise<void>;
  /** Sends the stop signal, waits `timeoutSeconds`, then kills; resolves when the container has ended. */
  stopContainer(id: string, timeoutSeconds: number): Promise<void>;
  removeContainer(id: string): Promise<void>;
  listContainers(filter?: {
    readonly id?: string;
    readonly podSandboxId?: string;
    readonly state?: ContainerState;
  }): Promise<Container[]>;
  containerStatus(id: string): Promise<ContainerStatus>;
  updateContainerResources(id: string, resources: LinuxResources): Promise<void>;
  reopenContainerLog(id: string): Promise<void>;
  containerStats(id: string): Promise<ContainerStats>;
  listContainerStats(): Promise<ContainerStats[]>;

  /** Runs a command to its end; with `timeoutSeconds` > 0 rejects with DeadlineExceeded and kills it after that. */
  execSync(id: string, command: readonly string[], timeoutSeconds: number): Promise<ExecSyncResult>;
  exec(id: string, options: ExecOptions): Promise<StreamSession>;
  attach(id: string, options: Omit<ExecOptions, 'command'>): Promise<StreamSession>;
  /** Connects to a TCP port inside the sandbox's network namespace. */
  portForward(
    podSandboxId: string,
    port: number,
  ): Promise<NodeJS.ReadWriteStream & { destroy(error?: Error): void }>;

  /** Calls the handler for each event from now on; returns a function that ends that. */
  onEvent(handler: (event: ContainerEvent) => void): () => void;
  updateRuntimeConfig(config: { readonly podCidrs: readonly string[] }): Promise<void>;
}

export interface Image {
  /** The digest of the image's configuration, sha256:… */
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly size: number;
  /** The user that the image runs as, when numeric. */
  readonly uid?: number;
  /** The same, when a name. */
  readonly username?: string;
  readonly pinned: boolean;
}

export interface RegistryCredentials {
  readonly username?: string;
  readonly password?: string;
  readonly identityToken?: string;
  readonly registryToken?: string;
}

export interface FilesystemUsage {
  readonly mountpoint: string;
  readonly usedBytes: number;
  readonly inodesUsed: number;
}

export interface ImageService {
  listImages(): Promise<Image[]>;
  /** Undefined when the image is not here. The reference is a tag, a digest or an id. */
  imageStatus(reference: string): Promise<Image | undefined>;
  /** Resolves with the image's id when it is wholly here and verified. */
  pullImage(
    reference: string,
    options?: { readonly credentials?: RegistryCredentials; readonly signal?: AbortSignal },
  ): Promise<string>;
  removeImage(reference: string): Promise<void>;
  imageFsInfo(): Promise<FilesystemUsage[]>;
}
