// Which sandbox a container runs in: one of its own, or that of the pod it belongs to, by the annotations that CRI
// runtimes give or by a namespace that it shares with a container that runs already.

import type { ContainerSpec } from '../control/protocol.ts';
import { cgroupPath, parentOf } from './cgroups.ts';
import type { Config } from './config.ts';
import { CommandError } from './errors.ts';
import type { ContainerRecord, StateDirectory } from './state.ts';

export interface Placement {
  /** The sandbox's name: the pod's, or the container's own. */
  readonly sandbox: string;
  /** The cgroup for the Sentry, its stubs and its Gofers, if it is not the container's own. */
  readonly sandboxCgroup: string | undefined;
  readonly sharedNamespaces: ContainerSpec['sharedNamespaces'];
  /** Paths of the namespaces that the configuration names. */
  readonly namespaces: Readonly<Record<string, string>>;
}

const sandboxAnnotations = ['io.kubernetes.cri.sandbox-id', 'io.kubernetes.cri-o.SandboxID'];
const sharable = ['pid', 'ipc', 'uts', 'network'] as const;

export function placeContainer(state: StateDirectory, id: string, config: Config): Placement {
  const namespaces: Record<string, string> = {};
  for (const { type, path } of config.namespaces) if (path !== undefined) namespaces[type] = path;
  const pod = sandboxAnnotations.map((name) => config.annotations[name]).find((value) => value);
  if (pod !== undefined && !/^[\w+\-.]{1,200}$/.test(pod))
    throw new CommandError(`annotations: "${pod}" is not the id of a sandbox`);
  const others = Object.keys(namespaces).length > 0 || pod !== undefined ? state.list() : [];
  const sandbox = pod ?? sharedWith(others, namespaces)?.sandbox ?? id;
  const members = others.filter((other) => other.sandbox === sandbox && other.id !== id);
  const sharedNamespaces: Partial<Record<(typeof sharable)[number], string>> = {};
  for (const type of sharable) {
    const path = namespaces[type];
    const holder = path === undefined ? undefined : members.find((one) => shares(one, type, path));
    if (holder) sharedNamespaces[type] = holder.id;
  }
  return {
    sandbox,
    sandboxCgroup:
      pod === undefined ? undefined : `${parentOf(cgroupPath(config.cgroupsPath, id))}/bulkhead-${pod}`,
    sharedNamespaces,
    namespaces,
  };
}

/** A container whose attendant a namespace's path names: /proc/PID/ns/…. */
function sharedWith(
  others: readonly ContainerRecord[],
  namespaces: Readonly<Record<string, string>>,
): ContainerRecord | undefined {
  return others.find((other) =>
    sharable.some((type) => {
      const path = namespaces[type];
      return path !== undefined && namesAttendant(other, path);
    }),
  );
}

const namesAttendant = (other: ContainerRecord, path: string): boolean =>
  other.attend !== undefined && new RegExp(`^/proc/${other.attend.pid}/ns/`).test(path);

/** The same pinned namespace, or the other's own. */
const shares = (other: ContainerRecord, type: string, path: string): boolean =>
  other.namespaces[type] === path || namesAttendant(other, path);
