// Volumes that are directories on the node's own disk, and their simulation for nodes without a disk.
//
// The size of a volume is not enforced: all share the file system on which the directory lies, and a claim may even ask
// for more than it has (as with rancher's local-path-provisioner; the kubelet evicts pods when the disk runs full).

import type { Client } from '../client/index.ts';
import { type Running, type StartOptions, silentLogger, systemClock } from '../component/index.ts';
import type { HostOperations } from '../host/index.ts';
import { openVolumeDirectories, simulatedDirectories } from './directories.ts';
import { LOCAL_PATH_PROVISIONER } from './names.ts';
import { startProvisioner } from './provisioner.ts';

export interface LocalPathProvisionerOptions extends StartOptions {
  /** As LOCAL_PATH_PROVISIONER_USER, or somebody with its role. */
  readonly client: Client;
  /** The node on whose disk the volumes lie; it need not be registered yet. */
  readonly nodeName: string;
  /** Where they lie: absolute, made when it is not there. */
  readonly directory: string;
  readonly host: Pick<HostOperations, 'removeTree'>;
  /** bulkhead.dev/local-path when absent. */
  readonly provisionerName?: string;
}

/** Serves the claims and volumes of one node. Rejects when the directory cannot be made. */
export async function startLocalPathProvisioner(options: LocalPathProvisionerOptions): Promise<Running> {
  const directories = await openVolumeDirectories(options.directory, (path) => options.host.removeTree(path));
  return startProvisioner({
    client: options.client,
    provisionerName: options.provisionerName ?? LOCAL_PATH_PROVISIONER,
    nodeName: options.nodeName,
    directories,
    clock: options.clock ?? systemClock,
    logger: options.logger ?? silentLogger,
  });
}

export interface SimulatedProvisionerOptions extends StartOptions {
  readonly client: Client;
  readonly provisionerName?: string;
}

/** The path that volumes of simulated nodes claim to have. */
const SIMULATED_DIRECTORY = '/var/lib/bulkhead/volumes';

/** Serves the claims and volumes of all nodes of a simulated cluster; touches no disk. One for the whole cluster. */
export async function startSimulatedProvisioner(options: SimulatedProvisionerOptions): Promise<Running> {
  return startProvisioner({
    client: options.client,
    provisionerName: options.provisionerName ?? LOCAL_PATH_PROVISIONER,
    nodeName: undefined,
    directories: simulatedDirectories(SIMULATED_DIRECTORY),
    clock: options.clock ?? systemClock,
    logger: options.logger ?? silentLogger,
  });
}
