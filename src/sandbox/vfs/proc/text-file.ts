// An open text of /proc. As with Linux's seq files, the text is made when reading begins (at position 0) and stays the
// same while it is read on, so that a program that reads in small pieces never sees two states mixed.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Path } from '../contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import type { Show, Store } from './inode.ts';

const pageBytes = 4096;

export class TextFile extends FileDescription {
  /** The task that opened it: its credentials and namespaces count, whoever reads. */
  readonly #opener: Task;
  readonly #show: Show;
  readonly #store: Store | undefined;
  #bytes: Uint8Array | undefined;

  constructor(path: Path, flags: number, opener: Task, show: Show, store: Store | undefined) {
    super(flags, path);
    this.#opener = opener;
    this.#show = show;
    this.#store = store;
  }

  override read(_task: Task, io: Io, position: number | undefined): number {
    const at = position ?? this.position;
    if (io.left === 0) return 0;
    let bytes = this.#bytes;
    if (bytes === undefined || at === 0) {
      const shown = this.#show(this.#opener);
      if (typeof shown === 'number') return shown;
      bytes = typeof shown === 'string' ? Buffer.from(shown, 'latin1') : shown;
      this.#bytes = bytes;
    }
    if (at >= bytes.length) {
      // Read to its end: nobody needs it any more.
      this.#bytes = undefined;
      return 0;
    }
    const count = io.put(bytes, at, Math.min(io.left, bytes.length - at));
    if (count > 0 && position === undefined) this.position = at + count;
    return count;
  }

  override write(task: Task, io: Io, position: number | undefined): number {
    if (!this.#store) return -Errno.EIO;
    const count = Math.min(io.left, pageBytes - 1);
    const bytes = new Uint8Array(count);
    const taken = io.take(bytes, 0, count);
    if (taken < 0) return taken;
    const text = Buffer.from(bytes.buffer, 0, taken).toString('latin1');
    const result = this.#store(text, task, this.#opener);
    if (result < 0) return result;
    if (position === undefined) this.position += taken;
    return taken;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    if (whence !== Seek.set && whence !== Seek.current) return -Errno.EINVAL;
    const position = whence === Seek.set ? offset : this.position + offset;
    if (position < 0) return -Errno.EINVAL;
    this.position = position;
    return position;
  }

  override truncate(): number {
    return 0;
  }
}
