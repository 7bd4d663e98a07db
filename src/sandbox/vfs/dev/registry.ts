// Which driver opens a device number. Nodes of any file system (mknod) are opened through it, so that a device works
// wherever it has a name. One a kernel: kernel.part(DeviceRegistry). Terminals and whatever else comes register here.

import { Major } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import { deviceMajor, deviceMinor, FileType, makeDevice } from '../../abi/open.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import { memoryDevices } from './memory-devices.ts';

/** Opens a device: its own description, or a negative errno (-ENXIO). */
export type OpenDevice = (task: Task, path: Path, flags: number, device: number) => FileDescription | number;

interface Driver {
  /** As /proc/devices shows it. */
  readonly name: string;
  readonly major: number;
  /** undefined: all minors. */
  readonly minor: number | undefined;
  readonly open: OpenDevice;
}

export class DeviceRegistry {
  readonly #byDevice = new Map<number, Driver>();
  readonly #byMajor = new Map<number, Driver>();

  constructor(_kernel: Kernel) {
    for (const [device, open] of memoryDevices) this.register('mem', Major.memory, deviceMinor(device), open);
  }

  /** A character device; minor undefined: all of this major that nobody else has. The last one that registers wins. */
  register(name: string, major: number, minor: number | undefined, open: OpenDevice): void {
    const driver = { name, major, minor, open };
    if (minor === undefined) this.#byMajor.set(major, driver);
    else this.#byDevice.set(makeDevice(major, minor), driver);
  }

  /** type: S_IFCHR or S_IFBLK (there are no block devices). -ENXIO: nobody drives it. */
  open(task: Task, path: Path, flags: number, type: number, device: number): FileDescription | number {
    if (type !== FileType.character) return -Errno.ENXIO;
    const driver = this.#byDevice.get(device) ?? this.#byMajor.get(deviceMajor(device));
    return driver ? driver.open(task, path, flags, device) : -Errno.ENXIO;
  }

  /** For /proc/devices: each major and name once, ascending. */
  characterMajors(): readonly (readonly [major: number, name: string])[] {
    const seen = new Map<string, readonly [number, string]>();
    for (const { major, name } of [...this.#byDevice.values(), ...this.#byMajor.values()])
      seen.set(`${major} ${name}`, [major, name]);
    return [...seen.values()].sort((a, b) => a[0] - b[0]);
  }
}
