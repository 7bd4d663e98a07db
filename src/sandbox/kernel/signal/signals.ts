// Makes the signal states of the first process and thread of a container; all others are forked from these.

import type { Process, Task } from '../contract.ts';
import type { ProcessSignals, Signals, TaskSignals } from './contract.ts';
import { Handlers } from './handlers.ts';
import { ProcessSignalState } from './process-signals.ts';
import { emptySet } from './signal-set.ts';
import { noAlternateStack, TaskSignalState } from './task-signals.ts';

export const signals: Signals = {
  createProcess(process: Process): ProcessSignals {
    return new ProcessSignalState(process, new Handlers());
  },
  createTask(task: Task, process: ProcessSignals): TaskSignals {
    if (!(process instanceof ProcessSignalState))
      throw new TypeError('a process whose signals are of another kernel');
    return new TaskSignalState(task, process, emptySet, noAlternateStack);
  },
};
