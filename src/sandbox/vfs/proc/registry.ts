// Texts of /proc that other parts of the kernel show: /proc/net/*, /proc/sysvipc/*, settings below /proc/sys. One a
// kernel: kernel.part(ProcRegistry). What is registered before a proc file system is mounted appears in it.

import type { Task } from '../../kernel/contract.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import type { Setting } from './settings.ts';

/** A table of /proc/net for a namespace; `reader` is the task whose /proc/pid/net it is read through. */
export type ShowNetwork = (namespace: NetworkNamespace, reader: Task) => string;
export type ShowTable = (reader: Task) => string;

export class ProcRegistry {
  readonly network = new Map<string, ShowNetwork>();
  readonly sysvipc = new Map<string, ShowTable>();
  readonly settings = new Map<string, Setting>();

  /** /proc/net/<name>; takes the place of the empty table of that name. */
  showNetwork(name: string, show: ShowNetwork): void {
    this.network.set(name, show);
  }

  /** /proc/sysvipc/<name>: msg, sem, shm. */
  showSysvipc(name: string, show: ShowTable): void {
    this.sysvipc.set(name, show);
  }

  /** /proc/sys/<path>, as "net/core/somaxconn"; takes the place of what is there. */
  addSetting(path: string, setting: Setting): void {
    this.settings.set(path, setting);
  }
}
