// The file system calls, for the table.

import type { Syscall } from '../syscalls/contract.ts';
import { inotifySyscalls } from './inotify/syscalls.ts';
import { attributeSyscalls } from './syscalls/attributes.ts';
import { directorySyscalls } from './syscalls/directory.ts';
import { fcntlSyscalls } from './syscalls/fcntl.ts';
import { lockSyscalls } from './syscalls/locks.ts';
import { mountSyscalls } from './syscalls/mount.ts';
import { nameSyscalls } from './syscalls/names.ts';
import { openSyscalls } from './syscalls/open.ts';
import { readWriteSyscalls } from './syscalls/read-write.ts';
import { spliceSyscalls } from './syscalls/splice.ts';
import { statSyscalls } from './syscalls/stat.ts';
import { storageSyscalls } from './syscalls/storage.ts';
import { xattrSyscalls } from './syscalls/xattr.ts';

export const fileSyscalls: readonly Syscall[] = [
  ...openSyscalls,
  ...readWriteSyscalls,
  ...statSyscalls,
  ...nameSyscalls,
  ...attributeSyscalls,
  ...directorySyscalls,
  ...fcntlSyscalls,
  ...lockSyscalls,
  ...storageSyscalls,
  ...spliceSyscalls,
  ...xattrSyscalls,
  ...mountSyscalls,
  ...inotifySyscalls,
];
