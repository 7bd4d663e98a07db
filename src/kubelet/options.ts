// What the node agent can be told, and upstream's defaults for what it is not told.

import type { Service } from '../api/types/core-v1.ts';
import type { Client, Lister } from '../client/index.ts';
import type { StartOptions } from '../component/index.ts';
import type { ImageService, RuntimeService } from '../runtime/cri.ts';
import type { KubeletHost } from './host/host.ts';
import type { ResourceList } from './resources.ts';

export const KUBELET_VERSION = 'v1.36.0';

/** Who may call the agent's server and how: see server/authentication.ts. */
export interface KubeletServerOptions {
  readonly address: string;
  /** 0: any free port; the node's status tells which. */
  readonly port: number;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  /** PEM; certificates of these authorities identify callers. Absent: bearer tokens only. */
  readonly clientAuthorities?: string;
  /** Decides in the API server's place; absent: SubjectAccessReview. */
  readonly authorize?: (request: {
    readonly user: string;
    readonly groups: readonly string[];
    readonly verb: string;
    readonly subresources: readonly string[];
  }) => Promise<boolean>;
}

export interface KubeletOptions extends StartOptions {
  readonly client: Client;
  readonly nodeName: string;
  /** The node's own addresses, the primary family first. */
  readonly nodeIPs: readonly string[];
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  readonly host: KubeletHost;
  /** Absent: no server; logs, exec and port-forward are then not to be had. */
  readonly server?: KubeletServerOptions;
  /** Uniform in [0, 1): jitter of probes and retries. */
  readonly random?: () => number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly taints?: readonly {
    readonly key: string;
    readonly value?: string;
    readonly effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
  }[];
  readonly providerId?: string;
  /** Addresses that pods with dnsPolicy ClusterFirst ask. */
  readonly clusterDNS?: readonly string[];
  readonly clusterDomain?: string;
  /** Where the API server is to be found when no `kubernetes` service exists yet. */
  readonly services?: { readonly lister: Lister<Service>; readonly synced: Promise<void> };
  /** Ranges for pod addresses; absent: what the control plane writes into the Node's spec. */
  readonly podCidrs?: readonly string[];
  readonly maxPods?: number;
  /** Processes a pod may have; 0: as many as it likes. */
  readonly podPidsLimit?: number;
  readonly systemReserved?: ResourceList;
  readonly kubeReserved?: ResourceList;
  /** Thresholds at which pods are evicted, e.g. `{'memory.available': '100Mi', 'nodefs.available': '10%'}`. */
  readonly evictionHard?: Readonly<Record<string, string>>;
  /** The group above `/kubepods`; '' is the hierarchy's root. */
  readonly cgroupRoot?: string;
  /** Sysctls beyond the safe ones that pods may set. */
  readonly allowedUnsafeSysctls?: readonly string[];
  readonly imageGcHighThresholdPercent?: number;
  readonly imageGcLowThresholdPercent?: number;
  readonly containerLogMaxBytes?: number;
  readonly containerLogMaxFiles?: number;
}

export const evictionDefaults: Readonly<Record<string, string>> = {
  'memory.available': '100Mi',
  'nodefs.available': '10%',
  'nodefs.inodesFree': '5%',
  'imagefs.available': '15%',
  'imagefs.inodesFree': '5%',
};

export const defaults = {
  clusterDomain: 'cluster.local',
  maxPods: 110,
  podPidsLimit: 0,
  evictionHard: evictionDefaults,
  cgroupRoot: '',
  imageGcHighThresholdPercent: 85,
  imageGcLowThresholdPercent: 80,
  containerLogMaxBytes: 10 * 2 ** 20,
  containerLogMaxFiles: 5,
} as const;

/** The safe sysctls of upstream (pkg/kubelet/sysctl/safe_sysctls.go): namespaced, and harmless to other pods. */
export const safeSysctls: readonly string[] = [
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_wmem',
];
