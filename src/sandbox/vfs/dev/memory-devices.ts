// The devices of major 1: null, zero, full, random and urandom (drivers/char/mem.c, random.c; null(4), full(4),
// random(4)).

import { Capability } from '../../abi/capability.ts';
import { Device, RandomIoctl } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../kernel/contract.ts';
import { FileDescription } from '../file-description.ts';
import type { Io } from '../io.ts';
import type { OpenDevice } from './registry.ts';

/** How much of one read or write passes through the kernel at a time. */
const chunkBytes = 65_536;

abstract class MemoryDevice extends FileDescription {
  /** null_lseek: every seek goes to the beginning. */
  override seek(_task: Task, _offset: number, _whence: number): number {
    this.position = 0;
    return 0;
  }
}

class NullDevice extends MemoryDevice {
  override read(): number {
    return 0;
  }
  override write(_task: Task, io: Io): number {
    return io.skip(io.left);
  }
}

class ZeroDevice extends MemoryDevice {
  override read(_task: Task, io: Io): number {
    return io.left === 0 ? 0 : io.putZeroes(io.left);
  }
  override write(_task: Task, io: Io): number {
    return io.skip(io.left);
  }
  override get mapsAnonymous(): boolean {
    return true;
  }
}

class FullDevice extends MemoryDevice {
  override read(_task: Task, io: Io): number {
    return io.left === 0 ? 0 : io.putZeroes(io.left);
  }
  override write(): number {
    return -Errno.ENOSPC;
  }
}

/** /dev/random and /dev/urandom: the same, since the host's pool is filled long before a sandbox starts. */
class RandomDevice extends FileDescription {
  /** noop_llseek: accepted and without effect. */
  override seek(_task: Task, _offset: number, _whence: number): number {
    return 0;
  }

  override read(task: Task, io: Io): number {
    const chunk = new Uint8Array(Math.min(io.left, chunkBytes));
    let done = 0;
    while (io.left > 0) {
      const count = Math.min(io.left, chunk.length);
      task.kernel.random(count === chunk.length ? chunk : chunk.subarray(0, count));
      const moved = io.put(chunk, 0, count);
      if (moved < 0) return done > 0 ? done : moved;
      done += moved;
      if (moved < count) break;
    }
    return done;
  }

  /** What programs write would be mixed into the pool; the host's needs nothing from here. It must be readable. */
  override write(_task: Task, io: Io): number {
    const chunk = new Uint8Array(Math.min(io.left, chunkBytes));
    let done = 0;
    while (io.left > 0) {
      const count = Math.min(io.left, chunk.length);
      const moved = io.take(chunk, 0, count);
      if (moved < 0) return done > 0 ? done : moved;
      done += moved;
      if (moved < count) break;
    }
    return done;
  }

  override ioctl(task: Task, command: number, argument: number): number {
    const privileged = task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysAdmin);
    switch (command) {
      case RandomIoctl.getEntropyCount:
        return task.memory.writeU32(argument, 256);
      case RandomIoctl.addToEntropyCount: {
        if (!privileged) return -Errno.EPERM;
        const count = task.memory.readU32(argument);
        if (count < 0) return count;
        return count > 0x7fff_ffff ? -Errno.EINVAL : 0;
      }
      case RandomIoctl.addEntropy: {
        // struct rand_pool_info: int entropy_count, int buf_size, bytes.
        if (!privileged) return -Errno.EPERM;
        const count = task.memory.readU32(argument);
        if (count < 0) return count;
        if (count > 0x7fff_ffff) return -Errno.EINVAL;
        const size = task.memory.readU32(argument + 4);
        if (size < 0) return size;
        if (size > 0x7fff_ffff) return -Errno.EINVAL;
        return this.#readable(task, argument + 8, size);
      }
      case RandomIoctl.zapEntropyCount:
      case RandomIoctl.clearPool:
      case RandomIoctl.reseed:
        return privileged ? 0 : -Errno.EPERM;
      default:
        return -Errno.EINVAL;
    }
  }

  #readable(task: Task, address: number, size: number): number {
    const chunk = new Uint8Array(Math.min(size, chunkBytes));
    for (let done = 0; done < size; done += chunk.length) {
      const result = task.memory.read(address + done, chunk, 0, Math.min(chunk.length, size - done));
      if (result < 0) return result;
    }
    return 0;
  }
}

export const memoryDevices: readonly (readonly [device: number, open: OpenDevice])[] = [
  [Device.null, (_task, path, flags) => new NullDevice(flags, path)],
  [Device.zero, (_task, path, flags) => new ZeroDevice(flags, path)],
  [Device.full, (_task, path, flags) => new FullDevice(flags, path)],
  [Device.random, (_task, path, flags) => new RandomDevice(flags, path)],
  [Device.urandom, (_task, path, flags) => new RandomDevice(flags, path)],
];
