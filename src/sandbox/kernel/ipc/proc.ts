// The texts of /proc/sysvipc/shm, sem and msg for a reader's IPC namespace (ipc/shm.c, sem.c, msg.c: …_proc_show).

import type { Task } from '../contract.ts';
import { ownerColumns, visiblePid } from './objects.ts';

const heads = {
  shm: '       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n',
  sem: '       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n',
  msg: '       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n',
} as const;

type Column = readonly [value: number | string, width: number];

/** Columns are separated by one space. */
function row(...columns: readonly Column[]): string {
  return `${columns.map(([value, width]) => String(value).padStart(width)).join(' ')}\n`;
}

const columns = (width: number, ...values: readonly number[]): Column[] =>
  values.map((value) => [value, width] as const);

/** perms are two spaces after the id. */
const octal = (mode: number): Column => [mode.toString(8), 5];

export function sysvIpcText(task: Task, kind: 'shm' | 'sem' | 'msg'): string {
  const { ipc } = task;
  const namespace = task.credentials.userNamespace;
  let text: string = heads[kind];
  switch (kind) {
    case 'shm':
      for (const segment of ipc.segments.objects()) {
        const { key, id, mode, size, attached, attachTime, detachTime, changed } = segment;
        text += row(
          ...columns(10, key, id),
          octal(mode),
          [size, 21],
          ...columns(5, visiblePid(task, segment.creator), visiblePid(task, segment.last)),
          [attached, 6],
          ...columns(5, ...ownerColumns(segment, namespace)),
          ...columns(10, attachTime, detachTime, changed),
          [segment.resident, 21],
          [0, 21],
        );
      }
      break;
    case 'sem':
      for (const set of ipc.semaphores.objects())
        text += row(
          ...columns(10, set.key, set.id),
          octal(set.mode),
          [set.count, 10],
          ...columns(5, ...ownerColumns(set, namespace)),
          ...columns(10, set.operated, set.changed),
        );
      break;
    case 'msg':
      for (const queue of ipc.messages.objects())
        text += row(
          ...columns(10, queue.key, queue.id),
          octal(queue.mode),
          [queue.bytes, 11],
          [queue.messages.length, 10],
          ...columns(5, visiblePid(task, queue.sender), visiblePid(task, queue.receiver)),
          ...columns(5, ...ownerColumns(queue, namespace)),
          ...columns(10, queue.sent, queue.received, queue.changed),
        );
      break;
  }
  return text;
}
