// Between descriptor numbers and open files: finding one as fdget() does (descriptors opened with O_PATH are none), and
// giving a new file its number.

import { OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { FileDescription } from '../file-description.ts';

/** Undefined: EBADF. */
export function openFile(task: Task, fd: number): FileDescription | undefined {
  const file = task.files.get(fd);
  return file && (file.flags & OpenFlag.path) === 0 ? file : undefined;
}

/** Gives the file a descriptor; without room for one it is released again. */
export function installFile(task: Task, file: FileDescription, closeOnExec: boolean): number {
  const fd = task.files.install(task, file, closeOnExec);
  if (fd < 0) file.unreference();
  return fd;
}
