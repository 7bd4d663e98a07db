// process_vm_readv(2) and process_vm_writev(2): bytes between the memories of two programs (mm/process_vm_access.c).

import { Errno } from '../abi/errno.ts';
import { pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { mayAccess } from '../kernel/ptrace/access.ts';
import { readIovec } from '../vfs/io.ts';
import type { ProgramMemory } from './program-memory.ts';
import { VmFlag } from './vma.ts';

const chunk = 64 * 1024;

/** A place in a list of segments. */
class Cursor {
  readonly #segments: readonly number[];
  #index = 0;
  #done = 0;

  constructor(segments: readonly number[]) {
    this.#segments = segments;
    this.#skip();
  }

  #skip(): void {
    while (this.#index < this.#segments.length && this.left === 0) {
      this.#index += 2;
      this.#done = 0;
    }
  }

  get address(): number {
    return (this.#segments[this.#index] ?? 0) + this.#done;
  }

  /** Bytes left in the current segment; 0 at the end of all. */
  get left(): number {
    return (this.#segments[this.#index + 1] ?? 0) - this.#done;
  }

  advance(count: number): void {
    this.#done += count;
    this.#skip();
  }
}

/** direction 'read': from the other program into the caller's. Bytes, or a negative errno. */
export function processVm(
  task: Task,
  direction: 'read' | 'write',
  pid: number,
  local: { readonly address: number; readonly count: number },
  remote: { readonly address: number; readonly count: number },
  flags: bigint,
): number {
  if (flags !== 0n) return -Errno.EINVAL;
  const own = readIovec(task.memory, local.address, local.count);
  if (typeof own === 'number') return own;
  if (new Cursor(own).left === 0) return 0;
  const theirs = readIovec(task.memory, remote.address, remote.count);
  if (typeof theirs === 'number') return theirs;
  if (new Cursor(theirs).left === 0) return 0;
  const target = task.process.pidNamespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  if (mayAccess(task, target) < 0) return -Errno.EPERM;
  return copy(task, target, direction, new Cursor(own), new Cursor(theirs));
}

function copy(task: Task, target: Task, direction: 'read' | 'write', own: Cursor, theirs: Cursor): number {
  const buffer = new Uint8Array(chunk);
  const [source, sink] = direction === 'read' ? [theirs, own] : [own, theirs];
  const sourceMemory = direction === 'read' ? target.memory : task.memory;
  const sinkMemory = direction === 'read' ? task.memory : target.memory;
  // Pages are pinned with what their mapping allows: what can only be written or executed is not read.
  const allowed = (address: number, count: number): boolean =>
    direction === 'write' || (target.mm as ProgramMemory).set.allows(address, count, VmFlag.read);
  let moved = 0;
  while (source.left > 0 && sink.left > 0) {
    let count = Math.min(source.left, sink.left, chunk);
    let failed = !allowed(source.address, count);
    failed ||= sourceMemory.read(source.address, buffer, 0, count) < 0;
    failed ||= sinkMemory.write(sink.address, buffer, 0, count) < 0;
    if (failed) {
      // Again up to the next page boundary: what can be copied is.
      const toBoundary = (address: number): number => pageSize - (address % pageSize);
      count = Math.min(count, toBoundary(source.address), toBoundary(sink.address));
      if (!allowed(source.address, count) || sourceMemory.read(source.address, buffer, 0, count) < 0) break;
      if (sinkMemory.write(sink.address, buffer, 0, count) < 0) break;
    }
    source.advance(count);
    sink.advance(count);
    moved += count;
  }
  return moved > 0 ? moved : -Errno.EFAULT;
}
