// msgget(2), msgsnd(2), msgrcv(2), msgctl(2), in the order of checks of ipc/msg.c.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { IpcCommand, IpcFlag, IpcLimit, MsgCommand, MsgDs, MsgFlag, msgInfoSize } from '../../abi/ipc.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { Task } from '../contract.ts';
import { type Message, MessageQueue } from './message-queue.ts';
import {
  encodePerm,
  getObject,
  mayAccessObject,
  mayControlObject,
  putStructure,
  updatePerm,
  visiblePid,
} from './objects.ts';

function msgget(task: Task, args: Arguments): number {
  const key = args.i32(0);
  const flags = args.i32(1);
  return getObject(
    task.ipc.messages,
    task,
    key,
    flags,
    () => 0,
    () => new MessageQueue(task, key, flags & 0o777),
  );
}

/** struct msgbuf: a long and the text. */
const textOffset = 8;

function msgsnd(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const address = args.address(1);
  const size = args.i64(2);
  const head = new Uint8Array(8);
  if (task.memory.read(address, head, 0, 8) < 0) return -Errno.EFAULT;
  const type = new DataView(head.buffer).getBigInt64(0, true);
  if (size < 0 || size > IpcLimit.msgSize || id < 0 || type < 1n) return -Errno.EINVAL;
  const bytes = new Uint8Array(size);
  if (size > 0 && task.memory.read(address + textOffset, bytes, 0, size) < 0) return -Errno.EFAULT;
  const queue = task.ipc.messages.find(id);
  if (!queue) return -Errno.EINVAL;
  const noWait = (args.i32(3) & IpcFlag.noWait) !== 0;
  return queue.send(task, { type, bytes }, noWait, () =>
    mayAccessObject(task, queue, 0o222) ? 0 : -Errno.EACCES,
  );
}

function msgrcv(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const address = args.address(1);
  const size = args.i64(2);
  const type = BigInt.asIntN(64, args.big(3));
  const flags = args.i32(4);
  if (id < 0 || size < 0) return -Errno.EINVAL;
  const noWait = (flags & IpcFlag.noWait) !== 0;
  if (flags & MsgFlag.copy && (flags & MsgFlag.except || !noWait)) return -Errno.EINVAL;
  const queue = task.ipc.messages.find(id);
  if (!queue) return -Errno.EINVAL;
  if (!mayAccessObject(task, queue, 0o444)) return -Errno.EACCES;
  const take = (message: Message): number => {
    const count = Math.min(size, message.bytes.length);
    const { memory } = task;
    if (memory.writeU64(address, message.type) < 0) return -Errno.EFAULT;
    if (count > 0 && memory.write(address + textOffset, message.bytes, 0, count) < 0) return -Errno.EFAULT;
    return count;
  };
  if (flags & MsgFlag.copy) {
    const message = queue.copy(Number(type));
    if (!message) return -Errno.ENOMSG;
    return message.bytes.length > size && (flags & MsgFlag.noError) === 0 ? -Errno.E2BIG : take(message);
  }
  return queue.receive(task, { size, type, flags }, noWait, take);
}

function encodeQueue(task: Task, queue: MessageQueue): DataView {
  const view = new DataView(new ArrayBuffer(MsgDs.size));
  const put = (offset: number, value: number): void => view.setBigUint64(offset, BigInt(value), true);
  encodePerm(queue, task.credentials.userNamespace, view);
  put(MsgDs.stime, queue.sent);
  put(MsgDs.rtime, queue.received);
  put(MsgDs.ctime, queue.changed);
  put(MsgDs.bytes, queue.bytes);
  put(MsgDs.messages, queue.messages.length);
  put(MsgDs.maximum, queue.maximum);
  view.setInt32(MsgDs.lastSender, visiblePid(task, queue.sender), true);
  view.setInt32(MsgDs.lastReceiver, visiblePid(task, queue.receiver), true);
  return view;
}

function information(task: Task, command: number, address: number): number {
  const queues = task.ipc.messages;
  const { msgSize, msgQueueBytes, msgQueues } = IpcLimit;
  // msgpool msgmap msgmax msgmnb msgmni msgssz msgtql, and msgseg in 16 bits
  const values = [
    (msgQueues * msgQueueBytes) / 1024,
    msgQueueBytes,
    msgSize,
    msgQueueBytes,
    msgQueues,
    16,
    msgQueueBytes,
  ];
  if (command === MsgCommand.info) {
    const all = queues.objects();
    values[0] = queues.size;
    values[1] = all.reduce((sum, queue) => sum + queue.messages.length, 0);
    values[6] = all.reduce((sum, queue) => sum + queue.bytes, 0);
  }
  const view = new DataView(new ArrayBuffer(msgInfoSize));
  for (const [index, value] of values.entries()) view.setInt32(4 * index, value, true);
  view.setUint16(28, 0xffff, true);
  return putStructure(task, address, view, queues.highestIndex);
}

function configure(task: Task, queue: MessageQueue, view: DataView): number {
  const maximum = view.getBigUint64(MsgDs.maximum, true);
  const more = maximum > BigInt(IpcLimit.msgQueueBytes);
  if (more && !task.credentials.hasIn(task.ipc.userNamespace, Capability.sysResource)) return -Errno.EPERM;
  const result = updatePerm(task, queue, view);
  if (result < 0) return result;
  queue.maximum = Number(maximum);
  queue.reconfigured((receiver) => mayAccessObject(receiver, queue, 0o444));
  return 0;
}

function msgctl(task: Task, args: Arguments): number {
  const id = args.i32(0);
  const command = args.i32(1);
  const address = args.address(2);
  if (id < 0 || command < 0) return -Errno.EINVAL;
  const queues = task.ipc.messages;
  switch (command) {
    case IpcCommand.info:
    case MsgCommand.info:
      return information(task, command, address);
    case IpcCommand.stat:
    case MsgCommand.stat:
    case MsgCommand.statAny: {
      const queue = command === IpcCommand.stat ? queues.find(id) : queues.at(id);
      if (!queue) return -Errno.EINVAL;
      if (command !== MsgCommand.statAny && !mayAccessObject(task, queue, 0o444)) return -Errno.EACCES;
      return putStructure(
        task,
        address,
        encodeQueue(task, queue),
        command === IpcCommand.stat ? 0 : queue.id,
      );
    }
    case IpcCommand.set:
    case IpcCommand.remove: {
      const bytes = new Uint8Array(MsgDs.size);
      if (command === IpcCommand.set && task.memory.read(address, bytes, 0, bytes.length) < 0)
        return -Errno.EFAULT;
      const queue = queues.find(id);
      if (!queue) return -Errno.EINVAL;
      if (!mayControlObject(task, queue)) return -Errno.EPERM;
      if (command === IpcCommand.set) return configure(task, queue, new DataView(bytes.buffer));
      queue.remove(queues);
      return 0;
    }
    default:
      return -Errno.EINVAL;
  }
}

export const msgSyscalls: readonly Syscall[] = [
  { name: 'msgget', signature: 'key:hex flags:hex', support: 'full', handler: msgget },
  {
    name: 'msgsnd',
    signature: 'id:int message:address size:size flags:hex',
    support: 'full',
    handler: msgsnd,
  },
  {
    name: 'msgrcv',
    signature: 'id:int message:address size:size type:long flags:hex',
    support: 'full',
    handler: msgrcv,
  },
  { name: 'msgctl', signature: 'id:int command:int buffer:address', support: 'full', handler: msgctl },
];
