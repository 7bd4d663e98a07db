// A disk in memory that can lose its power, run full and fail, with the manners of a real one: what was written and
// not synced may be there after a power cut or not, sector by sector; names may be there only up to some change; a
// failed sync leaves pages that the system takes for clean and that were never written.

import { basename, dirname } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import type { StoreFile, StoreFiles } from '../files.ts';
import { SECTOR_SIZE } from '../format.ts';
import { StoreLockedError } from '../lock.ts';

export type DiskOperation = 'open' | 'write' | 'sync' | 'truncate' | 'rename' | 'remove' | 'syncDirectory';

export interface SimulatedDiskOptions {
  /** 0 <= x < 1. */
  readonly random: () => number;
}

class Inode {
  /** What programs see. */
  cached: Buffer = Buffer.alloc(0);
  /** What is on the platters. */
  durable: Buffer = Buffer.alloc(0);
  /** Sectors that differ and would be written by a sync. */
  readonly dirty = new Set<number>();
}

/** One change of a directory that is not on disk yet. */
type NameChange = { readonly name: string; readonly inode: Inode | undefined };

export class SimulatedDisk {
  readonly #random: () => number;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #nameChanges: NameChange[] = [];
  #locked = false;
  /** Goes up with every power cut; what was begun before never ends. */
  #boot = 0;
  /** Bytes that files may hold together. */
  capacity = Number.POSITIVE_INFINITY;
  /** Throws to make an operation fail. */
  fault: (operation: DiskOperation, name: string) => void = () => {};
  /** Called before each operation that changes something; for counting and for cutting the power at a given one. */
  onOperation: (operation: DiskOperation, name: string) => void = () => {};

  constructor(options: SimulatedDiskOptions) {
    this.#random = options.random;
  }

  /** The names of the files, in order. */
  fileNames(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** A file's bytes, as programs see them; a test may change them. */
  content(name: string): Buffer {
    const inode = this.#names.get(name);
    if (inode === undefined) throw systemError('ENOENT', name);
    return inode.cached;
  }

  /** An independent disk with what programs see on this one, all of it durable. */
  copy(): SimulatedDisk {
    const copy = new SimulatedDisk({ random: this.#random });
    for (const [name, { cached }] of this.#names) copy.put(name, Buffer.from(cached));
    return copy;
  }

  /** Makes a durable file with this content. */
  put(name: string, content: Buffer): void {
    const inode = new Inode();
    inode.cached = content;
    inode.durable = Buffer.from(content);
    this.#names.set(name, inode);
    this.#durableNames.set(name, inode);
  }

  /** What the store has under way never ends, and only what happened to be on disk is there afterwards. */
  cutPower(): void {
    this.#boot++;
    this.#locked = false;
    // A file system's journal keeps the order of changes to names, so some first part of them has happened.
    const happened = Math.floor(this.#random() * (this.#nameChanges.length + 1));
    for (const change of this.#nameChanges.slice(0, happened)) applyName(this.#durableNames, change);
    this.#nameChanges = [];
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) {
      const written = this.#random();
      for (const sector of inode.dirty) if (this.#random() < written) persist(inode, sector);
      inode.dirty.clear();
      inode.cached = Buffer.from(inode.durable);
    }
  }

  /** The store's process dies: what it had under way never ends, but the system goes on with all it was given. */
  killProcess(): void {
    this.#boot++;
    this.#locked = false;
  }

  /** The disk as one process sees it, until that dies. */
  mount(): StoreFiles {
    const boot = this.#boot;
    return {
      makeDirectory: async () => {},
      lock: async (directory) => {
        await this.#alive(boot);
        if (this.#locked) throw new StoreLockedError(directory, 'another store');
        this.#locked = true;
        return async () => {
          if (boot === this.#boot) this.#locked = false;
        };
      },
      list: async () => {
        await this.#alive(boot);
        return Array.from(this.#names, ([name, { cached }]) => ({ name, size: cached.length }));
      },
      open: async (path, mode) => {
        const name = basename(path);
        await this.#begin('open', name, boot);
        let inode = this.#names.get(name);
        if (mode === 'read' || mode === 'modify durable') {
          if (inode === undefined) throw systemError('ENOENT', path);
        } else if (inode === undefined) {
          inode = new Inode();
          this.#changeName({ name, inode });
        } else {
          inode.cached = Buffer.alloc(0);
        }
        return this.#file(name, inode, mode.endsWith('durable'), boot);
      },
      rename: async (from, to) => {
        await this.#begin('rename', basename(from), boot);
        const inode = this.#names.get(basename(from));
        if (inode === undefined || dirname(from) !== dirname(to)) throw systemError('ENOENT', from);
        // The new name first: whatever of this is on disk after a power cut, the file has a name.
        this.#changeName({ name: basename(to), inode });
        this.#changeName({ name: basename(from), inode: undefined });
      },
      remove: async (path) => {
        await this.#begin('remove', basename(path), boot);
        if (!this.#names.has(basename(path))) throw systemError('ENOENT', path);
        this.#changeName({ name: basename(path), inode: undefined });
      },
      syncDirectory: async () => {
        await this.#begin('syncDirectory', '.', boot);
        for (const change of this.#nameChanges) applyName(this.#durableNames, change);
        this.#nameChanges = [];
      },
    };
  }

  // ---- inside ----

  #file(name: string, inode: Inode, durable: boolean, boot: number): StoreFile {
    return {
      write: async (buffers, position) => {
        await this.#begin('write', name, boot, () => {
          if (durable) this.#scatter(inode, Buffer.concat(buffers), position);
        });
        const bytes = Buffer.concat(buffers);
        const room = this.#room(inode);
        const fits = Math.max(0, Math.min(bytes.length, room - position));
        this.#store(inode, bytes.subarray(0, fits), position);
        if (durable) {
          await this.#waitForDisk(boot);
          flush(inode);
        }
        if (fits < bytes.length) throw systemError('ENOSPC', name);
      },
      writeNow: (buffers, position) => {
        // The power may go before the write or in the middle of it. There is no way to hang here; but whatever the
        // dead process tries after the error will.
        const operate = (operation: DiskOperation): void => {
          this.onOperation(operation, name);
          if (boot !== this.#boot) throw systemError('EIO', 'the power is gone');
        };
        if (boot !== this.#boot) throw systemError('EIO', 'the power is gone');
        operate('write');
        const bytes = Buffer.concat(buffers);
        try {
          this.fault('write', name);
        } catch (error) {
          this.#scatter(inode, bytes, position);
          throw error;
        }
        const fits = Math.max(0, Math.min(bytes.length, this.#room(inode) - position));
        this.#store(inode, bytes.subarray(0, fits), position);
        operate('sync');
        flush(inode);
        if (fits < bytes.length) throw systemError('ENOSPC', name);
      },
      read: async (buffer, position) => {
        await this.#alive(boot);
        return inode.cached.copy(buffer, 0, Math.min(position, inode.cached.length));
      },
      truncate: async (length) => {
        await this.#begin('truncate', name, boot);
        inode.cached = Buffer.concat([inode.cached], length);
        inode.dirty.clear();
        for (let sector = 0; sector * SECTOR_SIZE < Math.max(length, inode.durable.length); sector++)
          inode.dirty.add(sector);
      },
      sync: async () => {
        await this.#begin('sync', name, boot, () => inode.dirty.clear());
        await this.#waitForDisk(boot);
        flush(inode);
      },
      close: async () => {},
    };
  }

  /** How long this file may become. */
  #room(inode: Inode): number {
    let used = 0;
    for (const other of new Set(this.#names.values())) if (other !== inode) used += other.cached.length;
    return Math.max(this.capacity - used, inode.cached.length);
  }

  /** A failed durable write: the bytes are in the cache, and whether they are on disk is anybody's guess. */
  #scatter(inode: Inode, bytes: Buffer, position: number): void {
    this.#store(inode, bytes, position);
    for (const sector of inode.dirty) if (this.#random() < 0.5) persist(inode, sector);
    inode.dirty.clear();
  }

  #store(inode: Inode, bytes: Buffer, position: number): void {
    if (bytes.length === 0) return;
    const end = position + bytes.length;
    if (end > inode.cached.length) {
      for (let at = inode.cached.length; at < position; at += SECTOR_SIZE)
        inode.dirty.add(Math.floor(at / SECTOR_SIZE));
      inode.cached = Buffer.concat([inode.cached], end);
    }
    bytes.copy(inode.cached, position);
    for (let sector = Math.floor(position / SECTOR_SIZE); sector * SECTOR_SIZE < end; sector++)
      inode.dirty.add(sector);
  }

  async #begin(
    operation: DiskOperation,
    name: string,
    boot: number,
    onFault: () => void = () => {},
  ): Promise<void> {
    await this.#alive(boot);
    this.onOperation(operation, name);
    await this.#alive(boot);
    try {
      this.fault(operation, name);
    } catch (error) {
      onFault();
      throw error;
    }
  }

  async #waitForDisk(boot: number): Promise<void> {
    await immediate();
    await this.#alive(boot);
  }

  /** A dead process never gets an answer. */
  async #alive(boot: number): Promise<void> {
    if (boot !== this.#boot) await new Promise(() => {});
  }

  #changeName(change: NameChange): void {
    applyName(this.#names, change);
    this.#nameChanges.push(change);
  }
}

export function systemError(code: string, name: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: simulated, ${name}`), { code });
}

function applyName(names: Map<string, Inode>, { name, inode }: NameChange): void {
  if (inode === undefined) names.delete(name);
  else names.set(name, inode);
}

/** Brings one sector to the platters; the file grows or shrinks with it. */
function persist(inode: Inode, sector: number): void {
  const from = sector * SECTOR_SIZE;
  const to = Math.min(from + SECTOR_SIZE, inode.cached.length);
  if (to <= from) return;
  if (inode.durable.length < to) inode.durable = Buffer.concat([inode.durable], to);
  inode.cached.copy(inode.durable, from, from, to);
}

function flush(inode: Inode): void {
  for (const sector of inode.dirty) persist(inode, sector);
  inode.dirty.clear();
  if (inode.durable.length > inode.cached.length)
    inode.durable = inode.durable.subarray(0, inode.cached.length);
}
