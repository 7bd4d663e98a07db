// Where the agent keeps what: one directory a pod, laid out as upstream's, so that tools and people find things.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pod } from '../api/types/core-v1.ts';
import type { HostStorage } from './host/host.ts';

/** The names that upstream gives volume plugins in paths. */
export type VolumePlugin =
  | 'empty-dir'
  | 'configmap'
  | 'secret'
  | 'downward-api'
  | 'projected'
  | 'local-volume';

/** The directory of a pod in which its local persistent volumes are mounted, each under the volume's name. */
export const LOCAL_VOLUME_PLUGIN = 'kubernetes.io~local-volume';

export interface PodPaths {
  readonly pod: string;
  readonly volumes: string;
  readonly subpaths: string;
  readonly etcHosts: string;
  /** Termination messages: <containers>/<container>/<id> */
  readonly containers: string;
  readonly logs: string;
}

export function podPaths(storage: HostStorage, pod: Pod): PodPaths {
  const directory = join(storage.rootDirectory, 'pods', pod.metadata.uid);
  return {
    pod: directory,
    volumes: join(directory, 'volumes'),
    subpaths: join(directory, 'volume-subpaths'),
    etcHosts: join(directory, 'etc-hosts'),
    containers: join(directory, 'containers'),
    logs: join(storage.podLogsDirectory, podLogsName(pod)),
  };
}

export function podLogsName(pod: Pod): string {
  return `${pod.metadata.namespace}_${pod.metadata.name}_${pod.metadata.uid}`;
}

export function volumePath(paths: PodPaths, plugin: VolumePlugin, name: string): string {
  return join(paths.volumes, `kubernetes.io~${plugin}`, name);
}

/** Deletes the logs of pods that nobody knows any more. */
export async function removeOrphanedLogs(
  storage: HostStorage,
  isKnown: (uid: string) => boolean,
): Promise<void> {
  for (const name of await readdir(storage.podLogsDirectory)) {
    const parts = name.split('_');
    if (parts.length === 3 && !isKnown(parts[2]!))
      await storage.removeTree(join(storage.podLogsDirectory, name));
  }
}

/** What is left of a pod of which only its uid (and perhaps its name) is known. */
export async function removePodDirectories(
  storage: HostStorage,
  uid: string,
  name: { readonly name: string; readonly namespace: string } | undefined,
): Promise<void> {
  await storage.removeTree(join(storage.rootDirectory, 'pods', uid));
  if (name) await storage.removeTree(join(storage.podLogsDirectory, `${name.namespace}_${name.name}_${uid}`));
}
