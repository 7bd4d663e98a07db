// The system calls that wait for events or make files that tell of them.

import type { Syscall } from '../../syscalls/contract.ts';
import { epollSyscalls } from './epoll-syscalls.ts';
import { eventfdSyscalls } from './eventfd-syscalls.ts';
import { pollSyscalls } from './poll.ts';
import { selectSyscalls } from './select.ts';
import { signalfdSyscalls } from './signalfd-syscalls.ts';
import { timerfdSyscalls } from './timerfd-syscalls.ts';

export const eventSyscalls: readonly Syscall[] = [
  ...pollSyscalls,
  ...selectSyscalls,
  ...epollSyscalls,
  ...eventfdSyscalls,
  ...signalfdSyscalls,
  ...timerfdSyscalls,
];
