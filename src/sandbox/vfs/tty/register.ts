// The device numbers of terminals: /dev/tty, /dev/console, /dev/ptmx, and devpts as a kind of file system.

import { Major } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import { deviceMinor } from '../../abi/open.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import { DeviceRegistry } from '../dev/registry.ts';
import type { FileDescription } from '../file-description.ts';
import { Vfs } from '../vfs.ts';
import { Devpts, devptsType } from './devpts.ts';
import { PseudoTerminal } from './pty.ts';
import { Terminal } from './terminal.ts';
import { TtyFile } from './tty-file.ts';

export function registerTerminals(kernel: Kernel): void {
  kernel.part(Vfs).registerType(devptsType);
  const devices = kernel.part(DeviceRegistry);
  devices.register('/dev/tty', Major.ttyAlternate, 0, openControlling);
  devices.register('/dev/console', Major.ttyAlternate, 1, openControlling);
  devices.register('/dev/ptmx', Major.ttyAlternate, 2, openPtmx);
  devices.register('pts', Major.pseudoTerminal, undefined, openByNumber);
}

/** The caller's controlling terminal; -ENXIO without one. */
function openControlling(task: Task, path: Path, flags: number): FileDescription | number {
  const { terminal } = task.process.session;
  if (!(terminal instanceof Terminal)) return -Errno.ENXIO;
  const { other } = terminal;
  return other instanceof PseudoTerminal
    ? other.openSlave(flags, path, undefined)
    : new TtyFile(terminal, flags, path, undefined);
}

/** The devpts that the task sees: as Linux looks for it, at "pts" beside the device node, else the latest mounted. */
function instance(task: Task): Devpts | undefined {
  for (const mount of [...task.mounts.mounts()].reverse())
    if (mount.fileSystem instanceof Devpts) return mount.fileSystem;
  return undefined;
}

function openPtmx(task: Task, path: Path, flags: number): FileDescription | number {
  return instance(task)?.openMaster(task, path, flags) ?? -Errno.ENODEV;
}

/** A node made by mknod with the number of a pseudo-terminal. */
function openByNumber(task: Task, path: Path, flags: number, device: number): FileDescription | number {
  return (
    instance(task)
      ?.find(String(deviceMinor(device)))
      ?.open(task, path, flags) ?? -Errno.ENXIO
  );
}
