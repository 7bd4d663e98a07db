// Where a cluster keeps what must outlive it, and how it finds out whether that is still its own: the state
// directory with `cluster.json` in it, and the control socket by which later commands reach the running process.

import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';

/** What was chosen when the cluster was first started and cannot change afterwards. */
export interface ClusterSettings {
  /** The layout of the state directory; a newer program refuses an unknown one. */
  readonly format: 1;
  /** `node`: real containers on this machine; `simulated`: nodes without containers. */
  readonly mode: 'node' | 'simulated';
  readonly podCidr: string;
  readonly serviceCidr: string;
  readonly clusterDomain: string;
  readonly nodeName: string;
  /** The bridge of the pod network. */
  readonly bridge: string;
  /** Names what the kernel knows of us by name: the cgroup above all pods, the nftables table. */
  readonly instance: string;
}

export const FORMAT = 1;

/** Every path that a cluster uses, from the two roots. */
export interface ClusterPaths {
  readonly state: string;
  readonly run: string;
  readonly settings: string;
  readonly pki: string;
  readonly store: string;
  readonly images: string;
  /** Debian packages that images were made from. */
  readonly packages: string;
  readonly runtime: string;
  readonly network: string;
  readonly kubelet: string;
  /** What pods keep in volumes from the node's own disk. */
  readonly volumes: string;
  readonly podLogs: string;
  readonly log: string;
  readonly kubeconfig: string;
  readonly controlSocket: string;
}

/** Paths below `state` (kept) and `run` (gone at reboot). */
export function clusterPaths(state: string, run: string): ClusterPaths {
  return {
    state,
    run,
    settings: join(state, 'cluster.json'),
    pki: join(state, 'pki'),
    store: join(state, 'store'),
    images: join(state, 'images'),
    packages: join(state, 'packages'),
    runtime: join(state, 'runtime'),
    network: join(state, 'network'),
    kubelet: join(state, 'kubelet'),
    volumes: join(state, 'volumes'),
    podLogs: join(state, 'pod-logs'),
    log: join(state, 'bulkhead.log'),
    kubeconfig: join(state, 'admin.kubeconfig'),
    controlSocket: join(run, 'control.sock'),
  };
}

/** /var/lib/bulkhead and /run/bulkhead for root; below the home directory for everybody else. */
export function defaultPaths(stateDirectory?: string): ClusterPaths {
  if (stateDirectory !== undefined) {
    const state = resolve(stateDirectory);
    return clusterPaths(state, join(state, 'run'));
  }
  if (process.getuid?.() === 0) return clusterPaths('/var/lib/bulkhead', '/run/bulkhead');
  const state = join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'bulkhead');
  return clusterPaths(state, join(state, 'run'));
}

/** How the kernel's objects of the cluster in this state directory are called: `bulkhead`, or with a suffix of its own. */
export function instanceName(state: string): { readonly instance: string; readonly bridge: string } {
  if (state === '/var/lib/bulkhead') return { instance: 'bulkhead', bridge: 'bulkhead0' };
  const suffix = createHash('sha256').update(state).digest('hex').slice(0, 8);
  return { instance: `bulkhead_${suffix}`, bridge: `bh${suffix}` };
}

/** The settings of the cluster that is kept here; undefined when there is none. */
export async function readSettings(paths: ClusterPaths): Promise<ClusterSettings | undefined> {
  try {
    return parseSettings(await readFile(paths.settings, 'utf8'), paths);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The state directory holds something that this start cannot go on with; the message says what to do. */
export class StateError extends Error {
  override readonly name = 'StateError';
}

/** What else may lie in a state directory: where images are unpacked for an import, and what a mount brings along. */
const ALSO_OURS = ['work', 'cluster.json.new', 'admin.kubeconfig.new', 'lost+found'];

/**
 * What in the state directory is none of ours. A directory with such entries and without settings belongs to somebody
 * else: no cluster is made in it, and `reset` does not touch it.
 */
export async function foreignEntries(paths: ClusterPaths): Promise<string[]> {
  const ours = new Set([...Object.values(paths).map((path) => basename(path)), ...ALSO_OURS]);
  try {
    return (await readdir(paths.state)).filter((name) => !ours.has(name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Reads the settings that the cluster was made with, or keeps `wanted` for a new one. `given` are the settings that
 * the user asked for by name: asking for others than the cluster has is an error, not a silent change.
 */
export async function openState(
  paths: ClusterPaths,
  wanted: ClusterSettings,
  given: Partial<ClusterSettings>,
): Promise<ClusterSettings> {
  await mkdir(paths.state, { recursive: true, mode: 0o700 });
  let text: string;
  try {
    text = await readFile(paths.settings, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const [foreign] = await foreignEntries(paths);
    if (foreign !== undefined) {
      throw new StateError(
        `${paths.state} holds other things than a cluster (${foreign}, for one).\n` +
          'Give a directory of its own: bulkhead up --state-dir DIR',
      );
    }
    const temporary = `${paths.settings}.new`;
    await writeFile(temporary, `${JSON.stringify(wanted, undefined, 2)}\n`, { flush: true });
    await rename(temporary, paths.settings);
    return wanted;
  }
  const kept = parseSettings(text, paths);
  for (const [key, value] of Object.entries(given) as [keyof ClusterSettings, unknown][]) {
    if (value === undefined || kept[key] === value) continue;
    const instead =
      key === 'mode'
        ? `Start it ${kept.mode === 'simulated' ? 'with' : 'without'} --simulate`
        : 'Start it without that option';
    throw new StateError(
      `the cluster in ${paths.state} was made with ${key} ${kept[key]}, which cannot become ${value}.\n` +
        `${instead}, use another --state-dir, or remove the old cluster with: bulkhead reset`,
    );
  }
  return kept;
}

function parseSettings(text: string, paths: ClusterPaths): ClusterSettings {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const settings = value as Partial<ClusterSettings> | undefined;
  const remedy = `Use another --state-dir, or remove what is there with: bulkhead reset`;
  if (settings === null || typeof settings !== 'object' || typeof settings.format !== 'number') {
    throw new StateError(`${paths.settings} is damaged or not of Bulkhead.\n${remedy}`);
  }
  if (settings.format !== FORMAT) {
    throw new StateError(
      `${paths.state} was written in format ${settings.format}; this version of Bulkhead reads format ${FORMAT}.\n${remedy}`,
    );
  }
  for (const key of [
    'mode',
    'podCidr',
    'serviceCidr',
    'clusterDomain',
    'nodeName',
    'bridge',
    'instance',
  ] as const) {
    if (typeof settings[key] !== 'string') throw new StateError(`${paths.settings} lacks ${key}.\n${remedy}`);
  }
  return settings as ClusterSettings;
}

/** What a running cluster says of itself (`bulkhead status`). */
export interface ClusterStatus {
  readonly version: string;
  readonly kubernetesVersion: string;
  readonly pid: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly mode: ClusterSettings['mode'];
  readonly url: string;
  readonly residentBytes: number;
  readonly store: { readonly revision: number; readonly bytes: number };
  readonly nodes: readonly { readonly name: string; readonly ready: boolean; readonly message?: string }[];
  readonly pods: { readonly running: number; readonly total: number };
}

/** How our cluster, user and context are called in kubeconfigs. */
export const CLUSTER_NAME = 'bulkhead';

/** The kubeconfig that kubectl uses: the first of KUBECONFIG, else ~/.kube/config. */
export function userKubeconfig(): string {
  const named = process.env['KUBECONFIG']?.split(':').find((path) => path !== '');
  return named ?? join(homedir(), '.kube', 'config');
}
