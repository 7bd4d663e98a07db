// What splice(2), sendfile(2), vmsplice(2) and tee(2) need of pipes: a pipe as the place where another file's read puts
// its bytes, and as the place where another file's write takes them. Nothing is copied twice; between a host file and a
// pipe the host moves the bytes straight into and out of the pipe's pages.

import { Errno } from '../../abi/errno.ts';
import type { Host, HostFd } from '../../host/contract.ts';
import type { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import { type Pipe, pageBytes } from './pipe.ts';
import { PipeEnd } from './pipe-end.ts';

/** The pipe behind an open file, if it is one. */
export function pipeOf(file: FileDescription): Pipe | undefined {
  return file instanceof PipeEnd ? file.pipe : undefined;
}

const zeroes = new Uint8Array(pageBytes);

/** For the read of another file: its bytes go into the pipe, at most `length` and what there is room for now. */
export class PipeSink implements Io {
  readonly #host: Host;
  readonly #pipe: Pipe;
  #length: number;

  constructor(host: Host, pipe: Pipe, length: number) {
    this.#host = host;
    this.#pipe = pipe;
    this.#length = length;
  }

  get left(): number {
    return Math.min(this.#length, this.#pipe.room);
  }

  put(source: Uint8Array, offset: number, length: number): number {
    const wanted = Math.min(length, this.left);
    let done = 0;
    while (done < wanted) {
      const moved = this.#pipe.putPage(source, offset + done, wanted - done);
      if (moved === 0) break;
      done += moved;
    }
    this.#length -= done;
    return done;
  }

  putZeroes(length: number): number {
    let done = 0;
    while (done < length && this.left > 0) done += this.put(zeroes, 0, Math.min(pageBytes, length - done));
    return done;
  }

  putFromHost(fd: HostFd, position: number, length: number): number {
    const wanted = Math.min(length, this.left);
    let done = 0;
    while (done < wanted) {
      const at = position < 0 ? position : position + done;
      const moved = this.#pipe.readFromHost(this.#host, fd, at, wanted - done);
      if (moved <= 0) {
        if (done === 0) return moved;
        break;
      }
      done += moved;
      // The file's own position may belong to a stream that gives what it has: no second read.
      if (position < 0) break;
    }
    this.#length -= done;
    return done;
  }

  skip(): number {
    return 0;
  }
  take(): number {
    return -Errno.EINVAL;
  }
  takeToHost(): number {
    return -Errno.EINVAL;
  }
}

/** For the write of another file: its bytes come from the pipe, at most `length` and what is there now. */
export class PipeSource implements Io {
  readonly #host: Host;
  readonly #pipe: Pipe;
  #left: number;

  constructor(host: Host, pipe: Pipe, length: number) {
    this.#host = host;
    this.#pipe = pipe;
    this.#left = Math.min(length, pipe.available);
  }

  get left(): number {
    return this.#left;
  }

  take(target: Uint8Array, offset: number, length: number): number {
    const count = this.#pipe.takeBytes(target, offset, Math.min(length, this.#left));
    this.#left -= count;
    return count;
  }

  skip(length: number): number {
    const count = this.#pipe.drop(Math.min(length, this.#left));
    this.#left -= count;
    return count;
  }

  takeToHost(fd: HostFd, position: number, length: number): number {
    const wanted = Math.min(length, this.#left);
    let done = 0;
    while (done < wanted) {
      const at = position < 0 ? position : position + done;
      const moved = this.#pipe.writeToHost(this.#host, fd, at, wanted - done);
      if (moved <= 0) {
        if (done === 0) return moved;
        break;
      }
      done += moved;
    }
    this.#left -= done;
    return done;
  }

  put(): number {
    return -Errno.EINVAL;
  }
  putZeroes(): number {
    return -Errno.EINVAL;
  }
  putFromHost(): number {
    return -Errno.EINVAL;
  }
}
