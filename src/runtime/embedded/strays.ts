// Ending what runs of a container that belongs to nobody: its record, or its sandbox's, is lost.

import { readPidFiles } from './conmon.ts';
import type { RuntimeContext } from './context.ts';
import type { ContainerRecord } from './records.ts';

const SIGKILL = 9;

export async function endStray(
  context: RuntimeContext,
  id: string,
  record: ContainerRecord | undefined,
): Promise<void> {
  const { host, paths, runtimes, cgroups } = context;
  const { process, conmon } = await readPidFiles(paths.bundle(id));
  for (const identity of [process, conmon]) if (identity) await host.kill(identity, SIGKILL);
  if (record) await cgroups.kill(record.cgroup);
  for (const handler of record ? [record.handler] : runtimes.keys()) {
    const runtime = runtimes.get(handler);
    if (runtime && (await runtime.knows(id))) await host.run(runtime.command('delete', '--force', id));
  }
  // Without a record its cgroup is not known; it goes with the pod's.
  if (record) await cgroups.remove(record.cgroup);
}
