// The bytes of a regular file in memory. A small file is one array of JavaScript's; when it grows, or is mapped, its
// bytes move to a memory file of the host's, between which and programs the host copies without a detour. Which pages
// there are is kept here in both cases: it decides st_blocks, the size limit and SEEK_HOLE.

import { Errno } from '../../abi/errno.ts';
import { Seek } from '../../abi/file.ts';
import type { Host, HostFd } from '../../host/contract.ts';
import type { Io } from '../io.ts';
import { PageMap, pageBytes } from './page-map.ts';

/** Beyond this a file's bytes are the host's. */
const smallMaximum = 65_536;
const smallestArray = 256;

/** Who counts the pages of a file system. */
export interface PageAccount {
  /** Takes up to `pages` of what is left; how many it got. */
  reserve(pages: number): number;
  free(pages: number): void;
}

export class Contents {
  readonly #host: Host;
  readonly #account: PageAccount;
  readonly #name: string;
  size = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #fd: HostFd = -1;
  /** Pages that exist, and those of them that only fallocate made (holes for SEEK_DATA). */
  readonly #pages = new PageMap();
  #unwritten: PageMap | undefined;
  /** It was mapped: the host knows better than we which pages there are. */
  #mapped = false;
  /** Pages charged while it is mapped. */
  #charged = 0;

  /** name: as the host's /proc shows the memory file. */
  constructor(host: Host, account: PageAccount, name: string) {
    this.#host = host;
    this.#account = account;
    this.#name = name;
  }

  /** In units of 512 bytes. */
  get blocks(): number {
    return this.#pageCount() * 8;
  }

  #pageCount(): number {
    if (!this.#mapped) return this.#pages.count;
    const stat = this.#host.fstat(this.#fd);
    if (typeof stat === 'number') return this.#charged;
    const pages = Math.max(this.#pages.count, Math.ceil(stat.blocks / 8));
    if (pages > this.#charged) this.#account.reserve(pages - this.#charged);
    else this.#account.free(this.#charged - pages);
    this.#charged = pages;
    return pages;
  }

  read(io: Io, position: number): number {
    if (position >= this.size) return 0;
    const count = Math.min(io.left, this.size - position);
    if (count === 0) return 0;
    if (this.#fd >= 0) return io.putFromHost(this.#fd, position, count);
    const stored = Math.min(count, this.#bytes.length - position);
    if (stored <= 0) return io.putZeroes(count);
    const moved = io.put(this.#bytes, position, stored);
    if (moved < stored || stored === count) return moved;
    const zeroes = io.putZeroes(count - stored);
    return zeroes < 0 ? moved : moved + zeroes;
  }

  /** Writes what the limits allow: bytes, -ENOSPC, or -EFAULT. */
  write(io: Io, position: number, length: number): number {
    let count = Math.min(io.left, length);
    if (count <= 0) return 0;
    const end = position + count;
    const first = Math.floor(position / pageBytes);
    const last = Math.ceil(end / pageBytes);
    const missing = this.#pages.missing(first, last);
    if (missing > 0) {
      const got = this.#account.reserve(missing);
      if (got < missing) {
        this.#account.free(got);
        const fitting = this.#fittingPages(first, last, got);
        if (fitting === first) return -Errno.ENOSPC;
        count = Math.min(count, fitting * pageBytes - position);
        return this.write(io, position, count);
      }
    }
    this.#charged += missing;
    const moved = this.#store(io, position, count);
    const present = moved > 0 ? Math.ceil((position + moved) / pageBytes) : first;
    this.#pages.set(first, present);
    this.#unwritten?.clear(first, present);
    if (present < last) {
      const unused = this.#pages.missing(present, last);
      this.#charged -= unused;
      this.#account.free(unused);
    }
    if (moved > 0 && position + moved > this.size) this.size = position + moved;
    return moved;
  }

  /** The end of the longest run of pages from `first` on that needs no more than `available` new ones. */
  #fittingPages(first: number, last: number, available: number): number {
    let left = available;
    let page = first;
    while (page < last) {
      if (!this.#pages.has(page) && left-- <= 0) break;
      page++;
    }
    return page;
  }

  #store(io: Io, position: number, count: number): number {
    const end = position + count;
    if (this.#fd < 0) {
      if (end <= smallMaximum) {
        this.#reserve(end);
        return io.take(this.#bytes, position, count);
      }
      const moved = this.moveToHost();
      if (moved < 0) return moved;
    }
    return io.takeToHost(this.#fd, position, count);
  }

  #reserve(length: number): void {
    if (this.#bytes.length >= length) return;
    let capacity = Math.max(smallestArray, this.#bytes.length);
    while (capacity < length) capacity *= 2;
    const bytes = new Uint8Array(capacity);
    bytes.set(this.#bytes.subarray(0, Math.min(this.#bytes.length, this.size)));
    this.#bytes = bytes;
  }

  /** The host's memory file with these bytes; -ENOSPC when the host has no more descriptors or memory. */
  moveToHost(): HostFd {
    if (this.#fd >= 0) return this.#fd;
    const fd = this.#host.memoryFile(this.#name, this.size);
    if (fd < 0) return -Errno.ENOSPC;
    const stored = Math.min(this.#bytes.length, this.size);
    // Only pages that there are: holes stay holes.
    for (let page = 0; page * pageBytes < stored; page++) {
      if (!this.#pages.has(page)) continue;
      const at = page * pageBytes;
      const count = Math.min(pageBytes, stored - at);
      if (this.#host.pwrite(fd, this.#bytes, at, count, at) !== count) {
        this.#host.close(fd);
        return -Errno.ENOSPC;
      }
    }
    this.#fd = fd;
    this.#bytes = new Uint8Array(0);
    return fd;
  }

  /** As moveToHost; from now on pages may appear without us. */
  map(): HostFd {
    const fd = this.moveToHost();
    if (fd >= 0 && !this.#mapped) {
      this.#charged = this.#pages.count;
      this.#mapped = true;
    }
    return fd;
  }

  truncate(size: number): number {
    if (this.#fd >= 0) {
      const result = this.#host.ftruncate(this.#fd, size);
      if (result < 0) return result;
    } else if (size < this.size) {
      // What is cut off reads as zeroes if the file grows again.
      this.#bytes.fill(0, Math.min(size, this.#bytes.length), Math.min(this.size, this.#bytes.length));
    }
    // Pages beyond the end (FALLOC_FL_KEEP_SIZE) go, too.
    if (size <= this.size) this.#drop(Math.ceil(size / pageBytes), Number.POSITIVE_INFINITY);
    this.size = size;
    return 0;
  }

  #drop(first: number, end: number): void {
    this.#unwritten?.clear(first, end);
    const cleared = this.#pages.clear(first, end);
    this.#charged -= cleared;
    this.#account.free(cleared);
    if (this.#mapped) this.#pageCount();
  }

  /** FALLOC_FL_PUNCH_HOLE. */
  punch(offset: number, length: number): number {
    const end = offset + length;
    if (this.#fd >= 0) {
      // KEEP_SIZE | PUNCH_HOLE
      const result = this.#host.fallocate(this.#fd, 3, offset, length);
      if (result < 0) return result;
    } else {
      this.#bytes.fill(0, Math.min(offset, this.#bytes.length), Math.min(end, this.#bytes.length));
    }
    const first = Math.ceil(offset / pageBytes);
    const last = Math.floor(end / pageBytes);
    if (last > first) this.#drop(first, last);
    return 0;
  }

  /** fallocate(2) without a mode, or with FALLOC_FL_KEEP_SIZE: -ENOSPC leaves everything as it was. */
  allocate(offset: number, length: number, keepSize: boolean): number {
    const end = offset + length;
    const first = Math.floor(offset / pageBytes);
    const last = Math.ceil(end / pageBytes);
    // Pages are found one by one: no limit of the file system may be absurdly far away.
    if (last - first > 2 ** 28) return -Errno.ENOSPC;
    const missing = this.#pages.missing(first, last);
    const got = this.#account.reserve(missing);
    if (got < missing) {
      this.#account.free(got);
      return -Errno.ENOSPC;
    }
    this.#charged += missing;
    this.#unwritten ??= new PageMap();
    // Done twice, it makes a page one that was written: so does Linux (shmem_get_folio), and SEEK_HOLE shows it.
    for (let page = first; page < last; page++)
      if (this.#pages.has(page)) this.#unwritten.clear(page, page + 1);
      else this.#unwritten.set(page, page + 1);
    this.#pages.set(first, last);
    if (!keepSize && end > this.size) {
      if (this.#fd >= 0) {
        const result = this.#host.ftruncate(this.#fd, end);
        if (result < 0) return result;
      }
      this.size = end;
    }
    return 0;
  }

  /** SEEK_DATA and SEEK_HOLE: the offset, or -ENXIO. */
  seek(offset: number, whence: number): number {
    if (offset < 0 || offset >= this.size) return -Errno.ENXIO;
    if (this.#mapped) return this.#host.lseek(this.#fd, offset, whence);
    const end = Math.ceil(this.size / pageBytes);
    const first = Math.floor(offset / pageBytes);
    const isData = (page: number) => this.#pages.has(page) && !this.#unwritten?.has(page);
    let page = first;
    if (whence === Seek.data) {
      while (page < end && !isData(page)) {
        page = this.#pages.next(page, end, true);
        if (page < end && !isData(page)) page++;
      }
      if (page >= end) return -Errno.ENXIO;
    } else {
      while (page < end && isData(page)) page++;
      if (page >= end) return this.size;
    }
    return Math.max(offset, page * pageBytes);
  }

  /** Nobody needs the bytes any more. */
  release(): void {
    this.#account.free(this.#mapped ? this.#charged : this.#pages.count);
    this.#pages.clear(0, Number.POSITIVE_INFINITY);
    this.#charged = 0;
    this.#mapped = false;
    this.#bytes = new Uint8Array(0);
    this.size = 0;
    if (this.#fd >= 0) this.#host.close(this.#fd);
    this.#fd = -1;
  }
}
