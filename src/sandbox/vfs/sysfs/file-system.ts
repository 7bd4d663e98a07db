// sysfs: what programs look up about the machine. There are no devices of the host's in it: processors, memory, the
// network interfaces of the mounting task's network namespace, and otherwise the empty directories that programs expect.
// Nothing can be written.

import { Errno } from '../../abi/errno.ts';
import { SuperMagic } from '../../abi/file.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { NetworkNamespace } from '../../net/contract.ts';
import type { FileSystemType } from '../contract.ts';
import { directory, type Entry, line, type Names, TreeFileSystem, type TreeKind } from '../kernfs/tree.ts';
import { interfaceDevices, interfaceLinks } from './interfaces.ts';
import { memoryNodes, processors } from './processors.ts';

const kind: TreeKind = {
  type: 'sysfs',
  magic: SuperMagic.sysfs,
  textSize: 4096,
  rootPermissions: 0o555,
  openReadOnly: -Errno.EACCES,
  makeDirectory: -Errno.EPERM,
};

/** The sandbox's memory never has huge pages that it was not asked for. */
const hugePages: Entry = directory({
  defrag: line(() => 'always defer defer+madvise madvise [never]'),
  enabled: line(() => 'always madvise [never]'),
  hpage_pmd_size: line(() => String(2 * 1024 * 1024)),
  shmem_enabled: line(() => 'always within_size advise [never] deny force'),
  use_zero_page: line(() => '1'),
});

function names(kernel: Kernel, network: NetworkNamespace): Names {
  const empty = directory();
  return new Map<string, Entry>(
    Object.entries({
      block: empty,
      bus: directory({ cpu: directory({ devices: empty, drivers: empty }) }),
      class: directory({ net: interfaceLinks(network) }),
      dev: directory({ block: empty, char: empty }),
      devices: directory({
        system: directory({ cpu: processors(kernel), node: memoryNodes(kernel) }),
        virtual: directory({ net: interfaceDevices(network) }),
      }),
      firmware: empty,
      fs: directory({ cgroup: empty }),
      hypervisor: empty,
      kernel: directory({
        mm: directory({ hugepages: empty, transparent_hugepage: hugePages }),
        uevent_seqnum: line(() => '0'),
      }),
      module: empty,
      power: empty,
    }),
  );
}

/** For Vfs.registerType: each mount shows the network namespace of the task that made it. */
export const sysfsType: FileSystemType = {
  name: 'sysfs',
  userMount: true,
  mount(task: Task) {
    return new TreeFileSystem(task.kernel, kind, names(task.kernel, task.network));
  },
};
