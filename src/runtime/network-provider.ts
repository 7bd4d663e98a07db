// The contract between a runtime that makes pods' network namespaces and whoever connects them to a network: the
// bridge of src/network, or CNI plugins. The runtime makes and removes the namespace; the provider puts an interface
// named eth0 into it and takes back what it gave.
//
// Every call is idempotent: attaching an attached sandbox answers as before, detaching an unknown one succeeds.
// Failures reject with RuntimeError. What was given to sandboxes is kept on disk and outlives both processes.

import type { PortMapping } from './cri.ts';

export interface PodNetworkRequest {
  readonly sandboxId: string;
  /** A file that holds the network namespace, its loopback interface up. */
  readonly netnsPath: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
  readonly hostname: string;
  readonly annotations: Readonly<Record<string, string>>;
  /** Mappings with hostPort 0 are ignored. */
  readonly portMappings: readonly PortMapping[];
}

export interface PodNetworkAttachment {
  /** The primary address first. */
  readonly ips: readonly string[];
}

export interface PodNetworkStatus {
  readonly ready: boolean;
  /** Why not, or what works less well than it should. */
  readonly message?: string;
}

export interface PodNetworkProvider {
  /** Rejects with FailedPrecondition when addresses are used up or a host port is taken; nothing is left behind. */
  attach(request: PodNetworkRequest): Promise<PodNetworkAttachment>;
  /** Gives back addresses and host ports and removes the interface, whether or not its namespace still exists. */
  detach(sandboxId: string): Promise<void>;
  status(): Promise<PodNetworkStatus>;
  /** Detaches every sandbox that is not among these; called once the runtime knows what survived a restart. */
  reconcile(liveSandboxes: ReadonlySet<string>): Promise<void>;
  /** The ranges that addresses come from, as the node's podCIDRs say; rejects when they cannot be changed any more. */
  setPodCidrs(podCidrs: readonly string[]): Promise<void>;
}
