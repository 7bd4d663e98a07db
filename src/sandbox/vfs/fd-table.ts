// A process's descriptors (struct files_struct): numbers to open files, with the lowest free number found in a bitmap.

import { Errno } from '../abi/errno.ts';
import type { Task } from '../kernel/contract.ts';
import type { FdTable } from './contract.ts';
import type { FileDescription } from './file-description.ts';

const rlimitNoFile = 7;
/** sysctl fs.nr_open: more is refused whatever RLIMIT_NOFILE says. */
const tableMaximum = 1_048_576;

export class DescriptorTable implements FdTable {
  #files: (FileDescription | undefined)[] = [];
  /** One bit a number: in use; and closed at exec. */
  #used = new Uint32Array(2);
  #closing = new Uint32Array(2);
  /** No word below this one has a free bit. */
  #firstWord = 0;
  #users = 1;

  get users(): number {
    return this.#users;
  }

  get(fd: number): FileDescription | undefined {
    // A negative number is no index of the array, but would make it slow.
    return fd >= 0 ? this.#files[fd] : undefined;
  }

  /** The lowest free number that is at least `minimum`. */
  #lowestFree(minimum: number): number {
    const used = this.#used;
    let word = Math.max(minimum >>> 5, this.#firstWord);
    for (; word < used.length; word++) {
      let bits = used[word] ?? 0;
      if (word === minimum >>> 5) bits |= (1 << (minimum & 31)) - 1;
      if (bits >>> 0 !== 0xffff_ffff) {
        const free = ~bits;
        return word * 32 + 31 - Math.clz32(free & -free);
      }
      if (word === this.#firstWord && (used[word] ?? 0) >>> 0 === 0xffff_ffff) this.#firstWord++;
    }
    return Math.max(minimum, word * 32);
  }

  #grow(fd: number): void {
    if (fd >>> 5 < this.#used.length) return;
    const length = Math.max(this.#used.length * 2, (fd >>> 5) + 1);
    const used = new Uint32Array(length);
    used.set(this.#used);
    this.#used = used;
    const closing = new Uint32Array(length);
    closing.set(this.#closing);
    this.#closing = closing;
  }

  #put(fd: number, file: FileDescription, closeOnExec: boolean): void {
    this.#grow(fd);
    while (this.#files.length < fd) this.#files.push(undefined);
    this.#files[fd] = file;
    const word = fd >>> 5;
    const bit = 1 << (fd & 31);
    this.#used[word] = (this.#used[word] ?? 0) | bit;
    this.#closing[word] = closeOnExec ? (this.#closing[word] ?? 0) | bit : (this.#closing[word] ?? 0) & ~bit;
  }

  #take(fd: number): FileDescription | undefined {
    const file = this.get(fd);
    if (file === undefined) return undefined;
    this.#files[fd] = undefined;
    const word = fd >>> 5;
    this.#used[word] = (this.#used[word] ?? 0) & ~(1 << (fd & 31));
    if (word < this.#firstWord) this.#firstWord = word;
    if (fd === this.#files.length - 1) {
      // Keeps entries() short after a high number was used.
      let length = fd;
      while (length > 0 && this.#files[length - 1] === undefined) length--;
      this.#files.length = length;
    }
    return file;
  }

  install(task: Task, file: FileDescription, closeOnExec: boolean, minimum = 0): number {
    const limit = task.process.limit(rlimitNoFile).soft;
    const fd = this.#lowestFree(minimum);
    if (fd >= limit || fd >= tableMaximum) return -Errno.EMFILE;
    this.#put(fd, file, closeOnExec);
    return fd;
  }

  hasFree(task: Task): boolean {
    const fd = this.#lowestFree(0);
    return fd < task.process.limit(rlimitNoFile).soft && fd < tableMaximum;
  }

  replace(task: Task, fd: number, file: FileDescription, closeOnExec: boolean): number {
    if (fd < 0 || fd >= task.process.limit(rlimitNoFile).soft || fd >= tableMaximum) return -Errno.EBADF;
    const before = this.#take(fd);
    this.#put(fd, file, closeOnExec);
    if (before !== undefined) this.#closeFile(task, before);
    return fd;
  }

  close(task: Task, fd: number): number {
    const file = this.#take(fd);
    return file === undefined ? -Errno.EBADF : this.#closeFile(task, file);
  }

  /** filp_close: errors of a flush, POSIX locks of this table, then the reference. */
  #closeFile(task: Task, file: FileDescription): number {
    const result = file.closed(task);
    file.inode?.locks?.releaseTable(this);
    file.unreference();
    return result;
  }

  closeOnExec(fd: number): boolean {
    return ((this.#closing[fd >>> 5] ?? 0) & (1 << (fd & 31))) !== 0;
  }

  setCloseOnExec(fd: number, value: boolean): void {
    const word = fd >>> 5;
    const bit = 1 << (fd & 31);
    if (word < this.#closing.length)
      this.#closing[word] = value ? (this.#closing[word] ?? 0) | bit : (this.#closing[word] ?? 0) & ~bit;
  }

  *entries(): IterableIterator<readonly [fd: number, file: FileDescription]> {
    for (let fd = 0; fd < this.#files.length; fd++) {
      const file = this.#files[fd];
      if (file !== undefined) yield [fd, file];
    }
  }

  /** One more than the highest number in use. */
  get end(): number {
    return this.#files.length;
  }

  fork(): DescriptorTable {
    const copy = new DescriptorTable();
    copy.#files = this.#files.slice();
    copy.#used = this.#used.slice();
    copy.#closing = this.#closing.slice();
    copy.#firstWord = this.#firstWord;
    for (const file of copy.#files) file?.acquire();
    return copy;
  }

  acquire(): DescriptorTable {
    this.#users++;
    return this;
  }

  release(task: Task): void {
    if (--this.#users > 0) return;
    for (const [fd] of [...this.entries()]) this.close(task, fd);
  }

  closeForExec(task: Task): void {
    for (const [fd] of [...this.entries()]) if (this.closeOnExec(fd)) this.close(task, fd);
  }
}
