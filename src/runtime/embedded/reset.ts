// Removes every trace of the embedded runtime without a running one, from what is on disk: processes, mounts,
// namespaces, cgroups, files. For `bulkhead reset`, and for tests that were cut short.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Logger, silentLogger } from '../../component/index.ts';
import type { HostOperations, ProcessIdentity } from '../../host/index.ts';
import { type CgroupManager, createCgroupManager } from './cgroups.ts';
import { readPidFiles } from './conmon.ts';
import { RuntimePaths } from './paths.ts';
import { type ContainerRecord, readRecords, type SandboxRecord } from './records.ts';
import { DEFAULT_CGROUP, DEFAULT_RUN_DIRECTORY, DEFAULT_STATE_DIRECTORY } from './runtime.ts';

export interface RemoveTracesOptions {
  readonly host: HostOperations;
  readonly stateDirectory?: string;
  readonly runDirectory?: string;
  readonly cgroup?: string;
  readonly cgroups?: CgroupManager;
  /** Cgroups that were made for pods and go as well, with all that runs in them: /kubepods. */
  readonly podCgroups?: readonly string[];
  readonly logger?: Logger;
}

const SIGKILL = 9;

/** Succeeds when there is nothing. The caller sees to it that no runtime works on the same directories. */
export async function removeRuntimeTraces(options: RemoveTracesOptions): Promise<void> {
  const { host } = options;
  const logger = options.logger ?? silentLogger;
  const paths = new RuntimePaths(
    options.stateDirectory ?? DEFAULT_STATE_DIRECTORY,
    options.runDirectory ?? DEFAULT_RUN_DIRECTORY,
  );
  const cgroups = options.cgroups ?? (await createCgroupManager({ logger }));
  const [sandboxes, containers, bundles] = await Promise.all([
    readRecords<SandboxRecord>(paths.sandboxRecords, 'sandbox'),
    readRecords<ContainerRecord>(paths.containerRecords, 'container'),
    readdir(paths.containerRuns).catch(() => []),
  ]);
  // The bundles name the processes of a container that was being started, which its record does not.
  const fromFiles = await Promise.all(bundles.map((id) => readPidFiles(paths.bundle(id))));
  const processes: ProcessIdentity[] = [
    ...containers.records.flatMap(({ process, conmon }) => [process, conmon]),
    ...sandboxes.records.map(({ init }) => init),
    ...fromFiles.flatMap(({ process, conmon }) => [process, conmon]),
  ].filter((identity) => identity !== undefined);
  const gone = processes.map(
    (identity) =>
      new Promise<void>((resolve) => {
        host.watchProcess(identity, resolve);
      }),
  );
  for (const identity of processes) await host.kill(identity, SIGKILL);
  await Promise.all(gone);
  for (const path of [...containers.records.map(({ cgroup }) => cgroup), ...(options.podCgroups ?? [])]) {
    await cgroups.kill(path);
    await cgroups.remove(path);
  }
  for (const directory of [paths.runDirectory, paths.stateDirectory])
    for (const path of await host.unmountBelow(directory))
      logger.warn({ path }, 'a mount was busy and is only detached');
  // Ours go one by one: the directories may be others' too.
  const owned = [
    ...[
      paths.exits,
      paths.execSessions,
      join(paths.runDirectory, 'oci'),
      paths.sandboxRuns,
      paths.containerRuns,
    ],
    ...[paths.sandboxRecords, paths.containerRecords, paths.lock],
  ];
  for (const path of owned) await host.removeTree(path);
  await removeOwnCgroup(cgroups, options.cgroup ?? DEFAULT_CGROUP, logger);
}

/** Stays where another runtime on this machine uses it, or where pods' cgroups are left in it. */
async function removeOwnCgroup(cgroups: CgroupManager, path: string, logger: Logger): Promise<void> {
  const pids = await cgroups.pids(path);
  if (pids.length > 0) {
    logger.info({ cgroup: path, pids }, 'the cgroup is in use and stays');
    return;
  }
  await cgroups.remove(path);
}
