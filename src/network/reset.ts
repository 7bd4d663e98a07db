// Removing every trace of a pod network, from what is on disk and from names.

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostOperations } from '../host/index.ts';
import { interfaceExists, portsOf, unplug, vethName } from './bridge.ts';
import { deleteTable } from './firewall.ts';

export const DEFAULT_BRIDGE = 'bulkhead0';
export const DEFAULT_TABLE = 'bulkhead';

export async function removeTraces(
  host: HostOperations,
  bridge: string,
  table: string,
  stateDirectory: string,
): Promise<void> {
  if (await interfaceExists(bridge)) {
    const ports = (await portsOf(host, bridge)).filter((name) => name.startsWith('bh'));
    await unplug(host, [...ports, bridge]);
  }
  // Those whose bridge somebody deleted hang on nothing and are known by their leases.
  const leases = await readdir(join(stateDirectory, 'leases')).catch(() => []);
  const names = leases.map((file) => vethName(file.replace(/\.json.*$/, '')));
  const left = await Promise.all(names.map(async (name) => ((await interfaceExists(name)) ? [name] : [])));
  await unplug(host, left.flat());
  await deleteTable(host, table);
  await rm(join(stateDirectory, 'leases'), { recursive: true, force: true });
  await rm(join(stateDirectory, 'cursor.json'), { force: true });
}

/** Removes interfaces, bridge, rules and leases without a running pod network; succeeds when there are none. */
export async function removePodNetworkTraces(options: {
  readonly stateDirectory: string;
  readonly bridge?: string;
  readonly table?: string;
  readonly host: HostOperations;
}): Promise<void> {
  const { host, stateDirectory } = options;
  await removeTraces(host, options.bridge ?? DEFAULT_BRIDGE, options.table ?? DEFAULT_TABLE, stateDirectory);
}
