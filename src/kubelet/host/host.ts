// What the node agent needs from the machine beneath it. There are two: linux.ts, the real one, and simulated.ts,
// which has no disk and needs no root. All else in the agent is the same for both.

import type { Container, Pod, Probe } from '../../api/types/core-v1.ts';
import type { CgroupResources } from '../resources.ts';

/** What the machine is; does not change while the agent runs. */
export interface MachineInfo {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly swapBytes: number;
  /** Of the file system that holds the agent's root directory. */
  readonly storageBytes: number;
  /** Page size as in resource names (`2Mi`) → bytes in such pages. */
  readonly hugePages: Readonly<Record<string, number>>;
  readonly machineId: string;
  readonly systemUuid: string;
  readonly bootId: string;
  readonly kernelVersion: string;
  readonly osImage: string;
  /** GOOS and GOARCH words: linux, amd64, arm64. */
  readonly operatingSystem: string;
  readonly architecture: string;
  /** When the machine booted, ms since the epoch. */
  readonly bootedAt: number;
}

export interface FilesystemState {
  readonly capacityBytes: number;
  readonly availableBytes: number;
  readonly usedBytes: number;
  readonly inodes: number;
  readonly inodesFree: number;
}

/** What the machine consumes at this moment. */
export interface MachineUsage {
  /** Ms since the epoch. */
  readonly timestamp: number;
  readonly cpuCoreNanoseconds: number;
  readonly memory: {
    readonly availableBytes: number;
    readonly usageBytes: number;
    readonly workingSetBytes: number;
    readonly rssBytes: number;
    readonly pageFaults: number;
    readonly majorPageFaults: number;
  };
  readonly nodeFilesystem: FilesystemState;
  /** Where images and writable layers lie. */
  readonly imageFilesystem: FilesystemState;
  readonly processes: { readonly limit: number; readonly current: number };
  readonly network: readonly NetworkInterfaceUsage[];
}

export interface NetworkInterfaceUsage {
  readonly name: string;
  readonly receivedBytes: number;
  readonly receiveErrors: number;
  readonly transmittedBytes: number;
  readonly transmitErrors: number;
}

export interface CgroupUsage {
  readonly cpuCoreNanoseconds: number;
  readonly memoryUsageBytes: number;
  readonly memoryWorkingSetBytes: number;
  readonly memoryRssBytes: number;
  readonly processes: number;
}

/** The control groups that the agent makes: for QoS classes and for pods. Paths as in `/kubepods/burstable/pod<uid>`. */
export interface CgroupManager {
  /** Makes the group (and those above it) or, when it is there, sets its resources anew. */
  ensure(path: string, resources: CgroupResources): Promise<void>;
  /** Kills what is left inside and removes the group with all below it; nothing to do when it is gone. */
  remove(path: string): Promise<void>;
  /** Names of the groups directly below; empty when the group does not exist. */
  children(path: string): Promise<readonly string[]>;
  /** Undefined when the group does not exist. */
  usage(path: string): Promise<CgroupUsage | undefined>;
}

export interface TmpfsOptions {
  /** Absent: the kernel's default, half of the memory. */
  readonly sizeBytes?: number;
}

/** Mounts and ownership, which need root. */
export interface MountOperations {
  mountTmpfs(path: string, options: TmpfsOptions): Promise<void>;
  /** Succeeds when nothing is mounted there; detaches a busy mount. */
  unmount(path: string): Promise<void>;
  bind(source: string, target: string): Promise<void>;
  /** Sets flags of a bind mount, by the names that mount(8) gives them; those not named stay. */
  remountBind(target: string, options: readonly string[]): Promise<void>;
  /** The mount points at and below `path`, as the kernel lists them. */
  mountsUnder(path: string): Promise<readonly string[]>;
}

/** The machine's disk, as far as it is the agent's. */
export interface HostStorage {
  /** Pods' volumes and files: <root>/pods/<uid>/… */
  readonly rootDirectory: string;
  /** Containers' logs: <logs>/<namespace>_<name>_<uid>/<container>/<n>.log */
  readonly podLogsDirectory: string;
  /** Symbolic links to the logs under the names that log collectors know; absent: none are made. */
  readonly containerLogsDirectory?: string;
  /** The host's resolver configuration, which pods with dnsPolicy Default inherit. */
  readonly resolvConf: string;
  readonly mounts: MountOperations;
  /** What a directory takes on its file system; nothing when it does not exist. */
  diskUsage(path: string): Promise<{ readonly bytes: number; readonly inodes: number }>;
  /** Deletes a directory with all in it, never what is mounted below; succeeds when it does not exist. */
  removeTree(path: string): Promise<void>;
}

export type ProbeVerdict = 'success' | 'failure';

/** What a probe or hook is aimed at. */
export interface ProbeTarget {
  readonly pod: Pod;
  readonly container: Container;
  readonly containerId: string;
  readonly podIP: string;
}

export interface ProbeAnswer {
  readonly verdict: ProbeVerdict;
  /** What to tell the user of a failure. */
  readonly output: string;
  /** The answer will stay as it is for as long as the container runs: no need to ask again. */
  readonly settled?: boolean;
}

/** Takes the place of the network and of exec where containers have neither. */
export interface Prober {
  probe(target: ProbeTarget, probe: Probe): Promise<ProbeAnswer>;
  /** A readiness probe for a container whose spec has none. */
  impliedReadiness(pod: Pod, container: Container): Probe | undefined;
}

export interface KubeletHost {
  readonly machine: MachineInfo;
  usage(): Promise<MachineUsage>;
  /** Absent: pods are not confined by the agent. */
  readonly cgroups?: CgroupManager;
  /** Absent: nothing is written anywhere; volumes are resolved but not made. */
  readonly storage?: HostStorage;
  /** Absent: probes and hooks go over the network and through the runtime's exec. */
  readonly prober?: Prober;
}
