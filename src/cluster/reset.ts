// `bulkhead reset`: everything that a cluster has left on this machine goes, whether it was stopped, killed, or
// started years ago. What it is follows from the settings in its state directory and from what lies there.

import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createLogger, type Logger } from '../component/index.ts';
import { type HostOperations, startHostOperations } from '../host/index.ts';
import { removePodNetworkTraces } from '../network/index.ts';
import { removeServiceProxyTraces } from '../proxy/index.ts';
import { removeRuntimeTraces } from '../runtime/embedded/index.ts';
import { proxyTable } from './node-services.ts';
import {
  type ClusterPaths,
  type ClusterSettings,
  foreignEntries,
  instanceName,
  readSettings,
  StateError,
} from './state.ts';

export interface ResetResult {
  /** What could not be removed, and why; empty when all is gone. */
  readonly left: readonly string[];
}

/** Rejects with a StateError when the directory is not one that a cluster was made in: what lies there is not ours. */
export async function refuseForeignDirectory(paths: ClusterPaths): Promise<void> {
  if (existsSync(paths.settings)) return;
  const [foreign] = await foreignEntries(paths);
  if (foreign === undefined) return;
  throw new StateError(
    `${paths.state} holds no cluster, but other things (${foreign}, for one); nothing was removed.`,
  );
}

/** The cluster must not run. Goes on after a failure, so that one stubborn mount does not keep the rest. */
export async function removeEverything(paths: ClusterPaths): Promise<ResetResult> {
  await refuseForeignDirectory(paths);
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      left.push(`${what}: ${(error as Error).message}`);
    }
  };
  // Settings that cannot be read are no reason to leave the rest: names follow from the directory by default.
  const settings = await readSettings(paths).catch(() => undefined);
  const canHaveContainers =
    process.platform === 'linux' && process.getuid?.() === 0 && settings?.mode !== 'simulated';
  if (canHaveContainers && existsSync(paths.state)) {
    await removeNode(paths, settings, createLogger({ level: 'error' }), attempt);
  }
  const mounted = process.platform === 'linux' ? await mountsBelow([paths.state, paths.run]) : [];
  if (mounted.length > 0)
    left.push(...mounted.map((path) => `${path} is still mounted; its directory was left alone`));
  else {
    await attempt(paths.run, () => rm(paths.run, { recursive: true, force: true }));
    await attempt(paths.state, () => removeDirectory(paths.state));
  }
  return { left };
}

/** With all that is in it; a mount point stays, empty, to whoever mounted it. */
async function removeDirectory(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  for (const name of await readdir(directory)) {
    await rm(join(directory, name), { recursive: true, force: true });
  }
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EBUSY') throw error;
  });
}

async function removeNode(
  paths: ClusterPaths,
  settings: ClusterSettings | undefined,
  logger: Logger,
  attempt: (what: string, work: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const { instance, bridge } = settings ?? instanceName(paths.state);
  await attempt('containers and network', async () => {
    await mkdir(paths.run, { recursive: true, mode: 0o711 });
    await using host: HostOperations = await startHostOperations({
      socketPath: `${paths.run}/host.sock`,
      lockPath: `${paths.run}/host.lock`,
      logger,
    });
    await attempt('containers', () =>
      removeRuntimeTraces({
        host,
        stateDirectory: paths.runtime,
        runDirectory: paths.run,
        cgroup: `/${instance}`,
        podCgroups: [`/${instance}/kubepods`],
        logger,
      }),
    );
    await attempt('the service proxy', () =>
      removeServiceProxyTraces({ host, table: proxyTable({ instance }) }),
    );
    await attempt('the pod network', () =>
      removePodNetworkTraces({ stateDirectory: paths.network, bridge, table: instance, host }),
    );
    for (const directory of [paths.kubelet, paths.images]) {
      await attempt(directory, async () => {
        await host.unmountBelow(directory);
      });
    }
  });
}

async function mountsBelow(directories: readonly string[]): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  // Blanks are written in octal there; a mount that is overlooked here would be emptied.
  const points = lines.map((line) =>
    (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  );
  return points.filter((point) => directories.some((directory) => point.startsWith(`${directory}/`)));
}
