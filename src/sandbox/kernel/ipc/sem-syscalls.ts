// semget(2), semop(2), semtimedop(2), semctl(2), in the order of checks of ipc/sem.c.

import { Errno } from '../../abi/errno.ts';
import { IpcCommand, IpcLimit, SEM_UNDO, Sembuf, SemCommand, SemDs, semInfoSize } from '../../abi/ipc.ts';
import { durationOf, readTimespec } from '../../abi/time.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import {
  encodePerm,
  getObject,
  mayAccessObject,
  mayControlObject,
  nowInSeconds,
  putStructure,
  updatePerm,
  visiblePid,
} from './objects.ts';
import { type SemaphoreOperation, SemaphoreSet } from './semaphore-set.ts';

function semget(task: Task, args: Arguments): number {
  const key = args.i32(0);
  const count = args.i32(1);
  const flags = args.i32(2);
  if (count < 0 || count > IpcLimit.semPerSet) return -Errno.EINVAL;
  const sets = task.ipc.semaphores;
  return getObject(
    sets,
    task,
    key,
    flags,
    (found) => (count > found.count ? -Errno.EINVAL : 0),
    () => {
      if (count === 0) return -Errno.EINVAL;
      const used = sets.objects().reduce((sum, set) => sum + set.count, 0);
      if (used + count > IpcLimit.semTotal) return -Errno.ENOSPC;
      return new SemaphoreSet(task, key, count, flags & 0o777);
    },
  );
}

function readOperations(task: Task, address: number, count: number): SemaphoreOperation[] | number {
  const bytes = new Uint8Array(count * Sembuf.size);
  if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const operations: SemaphoreOperation[] = [];
  for (let at = 0; at < bytes.length; at += Sembuf.size)
    operations.push({
      number: view.getUint16(at + Sembuf.number, true),
      operation: view.getInt16(at + Sembuf.operation, true),
      flags: view.getInt16(at + Sembuf.flags, true),
    });
  return operations;
}

function operate(task: Task, args: Arguments, timeout: number): number {
  const id = args.i32(0);
  const count = args.u32(2);
  let invalidTime = false;
  let deadline: number | undefined;
  if (timeout !== 0) {
    const time = readTimespec(task.memory, timeout);
    if (time === -Errno.EFAULT) return time;
    if (typeof time === 'number') invalidTime = true;
    else deadline = task.kernel.clock.monotonic() + durationOf(time);
  }
  if (count < 1 || id < 0) return -Errno.EINVAL;
  if (count > IpcLimit.semOperations) return -Errno.E2BIG;
  const operations = readOperations(task, args.address(1), count);
  if (typeof operations === 'number') return operations;
  if (invalidTime) return -Errno.EINVAL;
  const set = task.ipc.semaphores.find(id);
  if (!set) return -Errno.EINVAL;
  if (operations.some(({ number }) => number >= set.count)) return -Errno.EFBIG;
  const alters = operations.some(({ operation }) => operation !== 0);
  if (!mayAccessObject(task, set, alters ? 0o222 : 0o444)) return -Errno.EACCES;
  const undoes = operations.some(({ flags, operation }) => flags & SEM_UNDO && operation !== 0);
  return set.operate(task, operations, undoes ? set.undoOf(task) : undefined, deadline);
}

function encodeSet(task: Task, set: SemaphoreSet): DataView {
  const view = new DataView(new ArrayBuffer(SemDs.size));
  encodePerm(set, task.credentials.userNamespace, view);
  view.setBigUint64(SemDs.otime, BigInt(set.operated), true);
  view.setBigUint64(SemDs.ctime, BigInt(set.changed), true);
  view.setBigUint64(SemDs.count, BigInt(set.count), true);
  return view;
}

function information(task: Task, command: number, address: number): number {
  const sets = task.ipc.semaphores;
  const view = new DataView(new ArrayBuffer(semInfoSize));
  const now = command === SemCommand.info;
  const used = sets.objects().reduce((sum, set) => sum + set.count, 0);
  const { semTotal, semSets, semPerSet, semOperations, semValue } = IpcLimit;
  // semmap semmni semmns semmnu semmsl semopm semume semusz semvmx semaem
  const values = [
    semTotal,
    semSets,
    semTotal,
    semTotal,
    semPerSet,
    semOperations,
    semOperations,
    now ? sets.size : 20,
    semValue,
    now ? used : semValue,
  ];
  for (const [index, value] of values.entries()) view.setInt32(4 * index, value, true);
  return putStructure(task, address, view, sets.highestIndex);
}

/** GETVAL and the like, GETALL, SETALL: whoever may read or alter the set. */
function values(task: Task, id: number, number: number, command: number, address: number): number {
  const set = task.ipc.semaphores.find(id);
  if (!set) return -Errno.EINVAL;
  const wanted = command === SemCommand.setAll ? 0o222 : 0o444;
  if (!mayAccessObject(task, set, wanted)) return -Errno.EACCES;
  if (command === SemCommand.getAll) {
    const bytes = new Uint8Array(set.values.buffer, set.values.byteOffset, set.values.byteLength);
    return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : 0;
  }
  if (command === SemCommand.setAll) {
    const given = new Uint16Array(set.count);
    const bytes = new Uint8Array(given.buffer);
    if (task.memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
    if (given.some((value) => value > IpcLimit.semValue)) return -Errno.ERANGE;
    set.assign(task.process, new Map(given.entries()));
    return 0;
  }
  if (number < 0 || number >= set.count) return -Errno.EINVAL;
  switch (command) {
    case SemCommand.getValue:
      return set.values[number] ?? 0;
    case SemCommand.getPid:
      return visiblePid(task, set.changers[number]);
    case SemCommand.getDecreasing:
      return set.waiters(number, false);
    default:
      return set.waiters(number, true);
  }
}

function setValue(task: Task, id: number, number: number, value: number): number {
  if (value < 0 || value > IpcLimit.semValue) return -Errno.ERANGE;
  const set = task.ipc.semaphores.find(id);
  if (!set || number < 0 || number >= set.count) return -Errno.EINVAL;
  if (!mayAccessObject(task, set, 0o222)) return -Errno.EACCES;
  set.assign(task.process, new Map([[number, value]]));
  return 0;
}

function semctl(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const number = args.i32(1);
  const command = args.i32(2);
  const address = args.address(3);
  if (id < 0) return -Errno.EINVAL;
  const sets = task.ipc.semaphores;
  switch (command) {
    case IpcCommand.info:
    case SemCommand.info:
      return information(task, command, address);
    case IpcCommand.stat:
    case SemCommand.stat:
    case SemCommand.statAny: {
      const set = command === IpcCommand.stat ? sets.find(id) : sets.at(id);
      if (!set) return -Errno.EINVAL;
      if (command !== SemCommand.statAny && !mayAccessObject(task, set, 0o444)) return -Errno.EACCES;
      return putStructure(task, address, encodeSet(task, set), command === IpcCommand.stat ? 0 : set.id);
    }
    case SemCommand.getAll:
    case SemCommand.getValue:
    case SemCommand.getPid:
    case SemCommand.getDecreasing:
    case SemCommand.getZero:
    case SemCommand.setAll:
      return values(task, id, number, command, address);
    case SemCommand.setValue:
      return setValue(task, id, number, args.i32(3));
    case IpcCommand.set:
    case IpcCommand.remove: {
      const bytes = new Uint8Array(SemDs.size);
      if (command === IpcCommand.set && task.memory.read(address, bytes, 0, bytes.length) < 0)
        return -Errno.EFAULT;
      const set = sets.find(id);
      if (!set) return -Errno.EINVAL;
      if (!mayControlObject(task, set)) return -Errno.EPERM;
      if (command === IpcCommand.remove) {
        set.remove(sets);
        return 0;
      }
      const result = updatePerm(task, set, new DataView(bytes.buffer));
      if (result === 0) set.changed = nowInSeconds(task.kernel);
      return result;
    }
    default:
      return -Errno.EINVAL;
  }
}

export const semSyscalls: readonly Syscall[] = [
  { name: 'semget', signature: 'key:hex count:int flags:hex', support: 'full', handler: semget },
  {
    name: 'semop',
    signature: 'id:int operations:address count:size',
    support: 'full',
    handler: (task, args) => operate(task, args, 0),
  },
  {
    name: 'semtimedop',
    signature: 'id:int operations:address count:size timeout:timespec',
    support: 'full',
    handler: (task, args) => operate(task, args, args.address(3)),
  },
  {
    name: 'semctl',
    signature: 'id:int number:int command:int argument:hex',
    support: 'full',
    handler: semctl,
  },
];
