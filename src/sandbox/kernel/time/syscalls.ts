// The table of the system calls on clocks, timers and sleeping.

import type { Syscall } from '../../syscalls/contract.ts';
import {
  adjtimex,
  clockAdjtime,
  clockGetres,
  clockGettime,
  clockSettime,
  gettimeofday,
  settimeofday,
  time,
} from './clock-syscalls.ts';
import { clockNanosleep, nanosleep } from './sleep.ts';
import {
  alarm,
  getitimer,
  setitimer,
  timerCreate,
  timerDelete,
  timerGetoverrun,
  timerGettime,
  timerSettime,
} from './timer-syscalls.ts';

const hostClock = "the clocks are the host's: they can be read, and setting them fails with EPERM";

export const timeSyscalls: readonly Syscall[] = [
  {
    name: 'clock_gettime',
    signature: 'clock:enum.clock time:address',
    support: 'full',
    handler: clockGettime,
  },
  { name: 'clock_getres', signature: 'clock:enum.clock time:address', support: 'full', handler: clockGetres },
  {
    name: 'clock_settime',
    signature: 'clock:enum.clock time:timespec',
    support: 'partial',
    note: hostClock,
    handler: clockSettime,
  },
  { name: 'gettimeofday', signature: 'time:address zone:address', support: 'full', handler: gettimeofday },
  {
    name: 'settimeofday',
    signature: 'time:timeval zone:address',
    support: 'partial',
    note: hostClock,
    handler: settimeofday,
  },
  { name: 'time', signature: 'time:address -> long', support: 'full', handler: time },
  { name: 'adjtimex', signature: 'timex:address', support: 'partial', note: hostClock, handler: adjtimex },
  {
    name: 'clock_adjtime',
    signature: 'clock:enum.clock timex:address',
    support: 'partial',
    note: hostClock,
    handler: clockAdjtime,
  },
  { name: 'nanosleep', signature: 'time:timespec left:address', support: 'full', handler: nanosleep },
  {
    name: 'clock_nanosleep',
    signature: 'clock:enum.clock flags:hex time:timespec left:address',
    support: 'full',
    handler: clockNanosleep,
  },
  { name: 'getitimer', signature: 'which:int current:address', support: 'full', handler: getitimer },
  { name: 'setitimer', signature: 'which:int new:address old:address', support: 'full', handler: setitimer },
  { name: 'alarm', signature: 'seconds:uint', support: 'full', handler: alarm },
  {
    name: 'timer_create',
    signature: 'clock:enum.clock event:address id:address',
    support: 'full',
    handler: timerCreate,
  },
  {
    name: 'timer_settime',
    signature: 'id:int flags:hex new:address old:address',
    support: 'full',
    handler: timerSettime,
  },
  { name: 'timer_gettime', signature: 'id:int current:address', support: 'full', handler: timerGettime },
  { name: 'timer_getoverrun', signature: 'id:int', support: 'full', handler: timerGetoverrun },
  { name: 'timer_delete', signature: 'id:int', support: 'full', handler: timerDelete },
];
