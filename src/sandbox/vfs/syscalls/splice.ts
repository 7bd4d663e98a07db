// Moving bytes between files without a detour through the program: sendfile, splice, tee, vmsplice, copy_file_range
// (fs/splice.c, fs/read_write.c).

import { Errno } from '../../abi/errno.ts';
import { Seek, Splice } from '../../abi/file.ts';
import { OpenFlag } from '../../abi/open.ts';
import { getI64, putU64 } from '../../abi/stat.ts';
import { BLOCKED, type Task } from '../../kernel/contract.ts';
import { Poll, type WaitQueue } from '../../kernel/wait-queue.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Syscall } from '../../syscalls/contract.ts';
import type { FileDescription } from '../file-description.ts';
import { BufferIo, maximumTransfer, readIovec, UserIo } from '../io.ts';
import { Event, notifyPath } from '../notify.ts';
import type { Pipe } from '../pipe/pipe.ts';
import { PipeSink, PipeSource, pipeOf } from '../pipe/splice.ts';
import { fileOf } from './decode.ts';

const SIGPIPE = 13;
const chunk = 262_144;
const spliceFlags = Splice.move | Splice.nonBlock | Splice.more | Splice.gift;

/** An offset at an address; undefined for NULL. */
function readOffset(task: Task, address: number): number | undefined | { readonly errno: number } {
  if (address === 0) return undefined;
  const bytes = new Uint8Array(8);
  if (task.memory.read(address, bytes, 0, 8) < 0) return { errno: -Errno.EFAULT };
  const offset = getI64(new DataView(bytes.buffer), 0);
  return offset < 0 ? { errno: -Errno.EINVAL } : offset;
}

function writeOffset(task: Task, address: number, offset: number): number {
  const bytes = new Uint8Array(8);
  putU64(new DataView(bytes.buffer), 0, offset);
  return Math.min(0, task.memory.write(address, bytes, 0, 8));
}

function isPositioned(task: Task, file: FileDescription): boolean {
  return file.seek(task, 0, Seek.current) !== -Errno.ESPIPE;
}

/**
 * Calls `attempt` until it gives something else than -EAGAIN, waiting on the queues of both files in between. The files
 * are held.
 */
function whenEither(
  task: Task,
  input: FileDescription,
  output: FileDescription,
  attempt: () => number,
): number {
  const result = attempt();
  if (result !== -Errno.EAGAIN) return result;
  const on: { queue: WaitQueue; events: number }[] = [];
  if (input.queue) on.push({ queue: input.queue, events: Poll.in | Poll.rdnorm });
  if (output.queue) on.push({ queue: output.queue, events: Poll.out | Poll.wrnorm });
  input.acquire();
  output.acquire();
  return task.block({
    on,
    retry() {
      const again = attempt();
      return again === -Errno.EAGAIN ? BLOCKED : again;
    },
    ended() {
      input.unreference();
      output.unreference();
    },
  });
}

/** Nobody reads the pipe any more. */
function broken(task: Task): number {
  task.sendSignal({ signal: SIGPIPE, code: 0, sender: task.process, uid: task.credentials.uid });
  return -Errno.EPIPE;
}

function told(input: FileDescription, output: FileDescription, count: number): number {
  if (count > 0) {
    if (input.path) notifyPath(input.path, Event.access);
    if (output.path) notifyPath(output.path, Event.modify);
  }
  return count;
}

interface Transfer {
  readonly input: FileDescription;
  readonly output: FileDescription;
  /** undefined: the file's own position. */
  readonly from: number | undefined;
  readonly to: number | undefined;
  readonly count: number;
  readonly nonBlock: boolean;
}

/** splice between two files of which at least one is a pipe. What moved, -EAGAIN to be asked again. */
function spliceOnce(task: Task, transfer: Transfer): number {
  const { input, output, from, to, count } = transfer;
  const source = pipeOf(input);
  const sink = pipeOf(output);
  const { host } = task.kernel;
  if (source && sink) {
    if (sink.readers === 0) return broken(task);
    if (source.empty) return source.writers === 0 ? 0 : -Errno.EAGAIN;
    return sink.full ? -Errno.EAGAIN : source.copyTo(sink, count, false);
  }
  if (source) {
    if (source.empty) return source.writers === 0 ? 0 : -Errno.EAGAIN;
    return output.write(task, new PipeSource(host, source, count), to);
  }
  if (!sink) return -Errno.EINVAL;
  if (sink.readers === 0) return broken(task);
  return sink.full ? -Errno.EAGAIN : input.read(task, new PipeSink(host, sink, count), from);
}

function splice(task: Task, args: Arguments): number {
  const count = Math.min(args.size(4), maximumTransfer);
  const flags = args.u32(5);
  if (count === 0) return 0;
  if (flags & ~spliceFlags) return -Errno.EINVAL;
  const input = fileOf(task, args.i32(0));
  const output = fileOf(task, args.i32(2));
  if (input === undefined || output === undefined) return -Errno.EBADF;
  const source = pipeOf(input);
  const sink = pipeOf(output);
  const fromAddress = args.address(1);
  const toAddress = args.address(3);
  if ((source && fromAddress !== 0) || (sink && toAddress !== 0)) return -Errno.ESPIPE;
  const to = readOffset(task, toAddress);
  if (typeof to === 'object') return to.errno;
  const from = readOffset(task, fromAddress);
  if (typeof from === 'object') return from.errno;
  if (!input.readable || !output.writable) return -Errno.EBADF;
  if (source && sink && source === sink) return -Errno.EINVAL;
  if (!source && !sink) return -Errno.EINVAL;
  if (to !== undefined && !isPositioned(task, output)) return -Errno.EINVAL;
  if (from !== undefined && !isPositioned(task, input)) return -Errno.EINVAL;
  if (source && !sink && output.flags & OpenFlag.append) return -Errno.EINVAL;
  if (input.inode?.isDirectory) return -Errno.EINVAL;
  const pipeBlocks = (file: FileDescription, pipe: Pipe | undefined) =>
    pipe !== undefined && !file.nonBlocking;
  const nonBlock =
    (flags & Splice.nonBlock) !== 0 || !(pipeBlocks(input, source) || pipeBlocks(output, sink));
  const transfer = { input, output, from, to, count, nonBlock };
  const attempt = () => {
    const moved = told(input, output, spliceOnce(task, transfer));
    if (moved <= 0) return moved;
    if (to !== undefined && writeOffset(task, toAddress, to + moved) < 0) return -Errno.EFAULT;
    if (from !== undefined && writeOffset(task, fromAddress, from + moved) < 0) return -Errno.EFAULT;
    return moved;
  };
  return nonBlock ? attempt() : whenEither(task, input, output, attempt);
}

function tee(task: Task, args: Arguments): number {
  const flags = args.u32(3);
  if (flags & ~spliceFlags) return -Errno.EINVAL;
  const count = Math.min(args.size(2), maximumTransfer);
  if (count === 0) return 0;
  const input = fileOf(task, args.i32(0));
  const output = fileOf(task, args.i32(1));
  if (input === undefined || output === undefined) return -Errno.EBADF;
  if (!input.readable || !output.writable) return -Errno.EBADF;
  const source = pipeOf(input);
  const sink = pipeOf(output);
  if (!source || !sink || source === sink) return -Errno.EINVAL;
  const attempt = () => {
    if (sink.readers === 0) return broken(task);
    if (source.empty) return source.writers === 0 ? 0 : -Errno.EAGAIN;
    return sink.full ? -Errno.EAGAIN : source.copyTo(sink, count, true);
  };
  const nonBlock = (flags & Splice.nonBlock) !== 0 || (input.nonBlocking && output.nonBlocking);
  return nonBlock ? attempt() : whenEither(task, input, output, attempt);
}

function vmsplice(task: Task, args: Arguments): number {
  const flags = args.u32(3);
  if (flags & ~spliceFlags) return -Errno.EINVAL;
  const file = fileOf(task, args.i32(0));
  if (file === undefined) return -Errno.EBADF;
  const pipe = pipeOf(file);
  if (!file.writable && !file.readable) return -Errno.EBADF;
  const segments = readIovec(task.memory, args.address(1), args.i64(2));
  if (typeof segments === 'number') return segments;
  const io = new UserIo(task.memory, segments);
  if (io.left === 0) return 0;
  if (!pipe) return -Errno.EBADF;
  // The flag alone: unlike splice(2), it does not look at O_NONBLOCK.
  const nonBlock = (flags & Splice.nonBlock) !== 0;
  if (!file.writable) {
    const attempt = () => file.read(task, io, undefined);
    return nonBlock ? attempt() : whenEither(task, file, file, attempt);
  }
  // As in Linux it stops when the pipe is full, once something was moved.
  const attempt = () => {
    if (pipe.readers === 0) return broken(task);
    let total = 0;
    while (io.left > 0 && !pipe.full) {
      const moved = pipe.takePage(io, io.left);
      if (moved <= 0) return total > 0 ? total : moved;
      total += moved;
    }
    return total > 0 ? total : -Errno.EAGAIN;
  };
  return nonBlock ? attempt() : whenEither(task, file, file, attempt);
}

/** One position of a copy: a number at an address, or the file's own. */
class Cursor {
  readonly #file: FileDescription;
  readonly explicit: boolean;
  position: number;

  constructor(file: FileDescription, position: number | undefined) {
    this.#file = file;
    this.explicit = position !== undefined;
    this.position = position ?? file.position;
  }

  advance(count: number): void {
    this.position += count;
    if (!this.explicit) this.#file.position = this.position;
  }
}

/**
 * Copies up to `count` bytes from a file with positions to another file, in pieces. to: undefined writes as write(2)
 * does. What was copied, or a negative errno if nothing was.
 */
function copy(
  task: Task,
  input: FileDescription,
  from: Cursor,
  output: FileDescription,
  to: Cursor | undefined,
  count: number,
): number {
  const buffer = new Uint8Array(pipeOf(output) ? 0 : Math.min(count, chunk));
  const { host } = task.kernel;
  let total = 0;
  const sink = pipeOf(output);
  while (total < count) {
    if (sink !== undefined) {
      // A pipe borrows the file's pages: nothing is merged into them.
      if (sink.full) return total > 0 ? total : -Errno.EAGAIN;
      const moved = input.read(task, new PipeSink(host, sink, count - total), from.position);
      if (moved <= 0) return total > 0 ? total : moved;
      from.advance(moved);
      total += moved;
      continue;
    }
    const wanted = Math.min(buffer.length, count - total);
    const got = input.read(task, new BufferIo(host, buffer.subarray(0, wanted)), from.position);
    if (got <= 0) return total > 0 ? total : got;
    const io = new BufferIo(host, buffer.subarray(0, got));
    const put = output.write(task, io, to?.explicit ? to.position : undefined);
    if (put <= 0) return total > 0 ? total : put;
    from.advance(put);
    if (to?.explicit) to.advance(put);
    total += put;
    if (put < got) break;
  }
  return total;
}

function sendfile(task: Task, args: Arguments): number {
  const offsetAddress = args.address(2);
  const offset = readOffset(task, offsetAddress);
  if (typeof offset === 'object' && offset.errno === -Errno.EFAULT) return offset.errno;
  const input = fileOf(task, args.i32(1));
  if (!input?.readable) return -Errno.EBADF;
  if (offset !== undefined && !isPositioned(task, input)) return -Errno.ESPIPE;
  if (typeof offset === 'object') return offset.errno;
  const output = fileOf(task, args.i32(0));
  if (!output?.writable) return -Errno.EBADF;
  const count = Math.min(args.size(3), maximumTransfer);
  const sink = pipeOf(output);
  if (sink === undefined) {
    if (output.flags & OpenFlag.append) return -Errno.EINVAL;
  } else {
    if (sink.readers === 0) return broken(task);
    if (sink.full && output.nonBlocking) return -Errno.EAGAIN;
    if (count === 0) return 0;
  }
  if (!isPositioned(task, input)) return -Errno.EINVAL;
  if (count === 0) return 0;
  if (input.inode?.isDirectory) return -Errno.EINVAL;
  const from = new Cursor(input, offset);
  let total = 0;
  const attempt = () => {
    const moved = told(input, output, copy(task, input, from, output, undefined, count - total));
    if (moved < 0) return total > 0 && moved !== -Errno.EAGAIN ? finish() : moved;
    total += moved;
    // A blocking pipe or socket that is full is waited for until everything is gone.
    if (moved > 0 && total < count && output.writesAll && !output.nonBlocking) return -Errno.EAGAIN;
    return finish();
  };
  const finish = () => {
    if (offsetAddress !== 0 && writeOffset(task, offsetAddress, from.position) < 0) return -Errno.EFAULT;
    return total;
  };
  if (output.nonBlocking || output.queue === undefined) return attempt();
  return waitForOutput(task, input, output, attempt, () => (total > 0 ? finish() : -Errno.ERESTARTSYS));
}

function waitForOutput(
  task: Task,
  input: FileDescription,
  output: FileDescription,
  attempt: () => number,
  interrupted: () => number,
): number {
  // Once more at once: the first may have filled what there was room for, or ended the input.
  let result = attempt();
  if (result === -Errno.EAGAIN) result = attempt();
  const { queue } = output;
  if (result !== -Errno.EAGAIN || queue === undefined) return result;
  input.acquire();
  output.acquire();
  return task.block({
    on: [{ queue, events: Poll.out | Poll.wrnorm }],
    retry() {
      const again = attempt();
      return again === -Errno.EAGAIN ? BLOCKED : again;
    },
    interrupted,
    ended() {
      input.unreference();
      output.unreference();
    },
  });
}

function copyFileRange(task: Task, args: Arguments): number {
  const input = fileOf(task, args.i32(0));
  const output = fileOf(task, args.i32(2));
  if (input === undefined || output === undefined) return -Errno.EBADF;
  const fromAddress = args.address(1);
  const toAddress = args.address(3);
  const from = readOffset(task, fromAddress);
  if (typeof from === 'object' && from.errno === -Errno.EFAULT) return from.errno;
  const to = readOffset(task, toAddress);
  if (typeof to === 'object' && to.errno === -Errno.EFAULT) return to.errno;
  if (args.u32(5) !== 0) return -Errno.EINVAL;
  if (input.inode?.isDirectory || output.inode?.isDirectory) return -Errno.EISDIR;
  if (!input.inode?.isRegular || !output.inode?.isRegular) return -Errno.EINVAL;
  if (!input.readable || !output.writable || output.flags & OpenFlag.append) return -Errno.EBADF;
  if (input.inode.fileSystem !== output.inode.fileSystem) return -Errno.EXDEV;
  if (typeof from === 'object' || typeof to === 'object') return -Errno.EINVAL;
  const source = new Cursor(input, from);
  const target = new Cursor(output, to ?? output.position);
  const stat = input.stat();
  if (typeof stat === 'number') return stat;
  const count = Math.min(args.size(4), maximumTransfer, Math.max(0, stat.size - source.position));
  if (source.position + args.size(4) >= 2 ** 63 || target.position + args.size(4) >= 2 ** 63)
    return -Errno.EOVERFLOW;
  const overlaps = target.position + count > source.position && target.position < source.position + count;
  if (input.inode === output.inode && overlaps) return -Errno.EINVAL;
  if (count === 0) return 0;
  const moved = told(input, output, copy(task, input, source, output, target, count));
  if (moved <= 0) return moved;
  if (to === undefined) output.position = target.position;
  else if (writeOffset(task, toAddress, target.position) < 0) return -Errno.EFAULT;
  if (from !== undefined && writeOffset(task, fromAddress, source.position) < 0) return -Errno.EFAULT;
  return moved;
}

export const spliceSyscalls: readonly Syscall[] = [
  {
    name: 'sendfile',
    signature: 'out:fd in:fd offset:address count:size -> size',
    support: 'full',
    handler: sendfile,
  },
  {
    name: 'splice',
    signature: 'in:fd in_offset:address out:fd out_offset:address count:size flags:hex -> size',
    support: 'full',
    handler: splice,
  },
  { name: 'tee', signature: 'in:fd out:fd count:size flags:hex -> size', support: 'full', handler: tee },
  {
    name: 'vmsplice',
    signature: 'fd:fd iov:iovec count:size flags:hex -> size',
    support: 'full',
    handler: vmsplice,
  },
  {
    name: 'copy_file_range',
    signature: 'in:fd in_offset:address out:fd out_offset:address count:size flags:hex -> size',
    support: 'full',
    handler: copyFileRange,
  },
];
