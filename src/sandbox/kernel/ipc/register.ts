// Makes IPC visible in file systems: /proc/sysvipc, and mqueue as a kind of file system that can be mounted.

import { ProcRegistry } from '../../vfs/proc/registry.ts';
import { Vfs } from '../../vfs/vfs.ts';
import type { Kernel } from '../contract.ts';
import { sysvIpcText } from './proc.ts';
import { queueFileSystemType } from './queue-file-system.ts';

/** To be called once, before a proc file system is mounted. */
export function registerIpc(kernel: Kernel): void {
  kernel.part(Vfs).registerType(queueFileSystemType);
  const proc = kernel.part(ProcRegistry);
  for (const kind of ['shm', 'sem', 'msg'] as const)
    proc.showSysvipc(kind, (reader) => sysvIpcText(reader, kind));
}
