// FIFOs: named pipes. An inode of any file system with the type S_IFIFO keeps a Fifo and opens through it; the pipe
// itself exists only while somebody has it open.

import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Inode } from '../inode.ts';
import { PipeFileSystem } from './file-system.ts';
import type { Pipe } from './pipe.ts';
import { openPipe } from './pipe-end.ts';

export class Fifo {
  readonly #inode: Inode;
  readonly #touched: ((written: boolean) => void) | undefined;
  #pipe: Pipe | undefined;

  /** touched: called after bytes were read or written, for the inode's times. */
  constructor(inode: Inode, touched?: (written: boolean) => void) {
    this.#inode = inode;
    this.#touched = touched;
  }

  /** open(2) with these flags. The description may still be `opening`. -ENXIO, -EINVAL, -ENOMEM. */
  open(task: Task, path: Path, flags: number): FileDescription | number {
    const pipe = this.#pipe ?? task.kernel.part(PipeFileSystem).createPipe(task.credentials);
    if (!pipe) return -Errno.ENOMEM;
    const end = openPipe(pipe, this.#inode, path, flags, false, {
      touched: (written) => this.#touched?.(written),
      idle: () => {
        this.#pipe = undefined;
      },
    });
    if (typeof end !== 'number') this.#pipe = pipe;
    else if (pipe !== this.#pipe) pipe.dispose();
    return end;
  }
}
