// Stopping a running cluster from another process: ask through the control socket, then see its process end.

import { readFileSync } from 'node:fs';
import { callControl } from './control.ts';
import type { ClusterPaths } from './state.ts';
import type { StopRequest } from './up.ts';

/** Resolves when the cluster's process is gone. Rejects with NotRunningError when there is none. */
export async function stopCluster(paths: ClusterPaths, request: StopRequest): Promise<void> {
  const { pid } = (await callControl(paths.controlSocket, 'process')) as { pid: number };
  try {
    await callControl(paths.controlSocket, 'stop', request);
  } catch (error) {
    // A cluster that is still starting ends at once, without a word.
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  }
  await ended(pid);
}

/** The process is not our child, so nothing tells of its end but looking. */
async function ended(pid: number): Promise<void> {
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    // One that has ended and that its parent has not noticed yet (a zombie) holds nothing any more.
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return process.platform !== 'linux'; // no /proc there; here it has just ended
  }
}
