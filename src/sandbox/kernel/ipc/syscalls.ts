// The system calls of System V IPC and POSIX message queues.

import type { Syscall } from '../../syscalls/contract.ts';
import { mqSyscalls } from './mq-syscalls.ts';
import { msgSyscalls } from './msg-syscalls.ts';
import { semSyscalls } from './sem-syscalls.ts';
import { shmSyscalls } from './shm-syscalls.ts';

export const ipcSyscalls: readonly Syscall[] = [
  ...shmSyscalls,
  ...semSyscalls,
  ...msgSyscalls,
  ...mqSyscalls,
];
