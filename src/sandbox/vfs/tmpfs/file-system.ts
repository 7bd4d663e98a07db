// tmpfs(5): a file system in memory. Options and limits, counting of pages and inodes, statfs, and what mount(2) needs.
// An inode takes 1 KiB of the inode space, user extended attributes what they are long, as in mm/shmem.c.

import { Errno } from '../../abi/errno.ts';
import { SuperMagic } from '../../abi/file.ts';
import { FileType } from '../../abi/open.ts';
import type { Credentials, Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, FileSystemType, StatFs, Timespec } from '../contract.ts';
import type { Contents, PageAccount } from './contents.ts';
import { TmpfsInode } from './inode.ts';
import { pageBytes } from './page-map.ts';

/** BOGO_INODE_SIZE. */
const inodeSpace = 1024;
const defaultRootMode = 0o1777;

export interface TmpfsOptions {
  /** Pages; 0: no limit. */
  readonly pages?: number;
  /** 0: no limit. */
  readonly inodes?: number;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export class TmpfsFileSystem implements FileSystem, PageAccount {
  readonly type: string;
  readonly kernel: Kernel;
  readonly device: number;
  readonly root: TmpfsInode;
  #maximumPages: number;
  #usedPages = 0;
  #maximumSpace: number;
  #freeSpace: number;
  #rootMode: number;
  #rootUid: number;
  #rootGid: number;
  #lastIno = 0;
  readonly #defaultPages: number;
  /** Files whose bytes are the host's: let go with the file system. */
  readonly #contents = new Set<Contents>();

  constructor(kernel: Kernel, options: TmpfsOptions = {}, type = 'tmpfs') {
    this.kernel = kernel;
    this.type = type;
    this.device = kernel.anonymousDevice();
    this.#defaultPages = Math.floor(kernel.memoryTotal / pageBytes / 2);
    this.#maximumPages = options.pages ?? this.#defaultPages;
    this.#maximumSpace = (options.inodes ?? this.#defaultPages) * inodeSpace;
    this.#freeSpace = this.#maximumSpace;
    this.#rootMode = options.mode ?? defaultRootMode;
    this.#rootUid = options.uid ?? 0;
    this.#rootGid = options.gid ?? 0;
    this.takeInode();
    this.root = new TmpfsInode(
      this,
      FileType.directory | this.#rootMode,
      this.#rootUid,
      this.#rootGid,
      0,
      undefined,
    );
    this.root.nlink = 2;
  }

  now(): Timespec {
    return this.kernel.clock.realtime();
  }

  nextIno(): number {
    return ++this.#lastIno;
  }

  get options(): string {
    let text = '';
    if (this.#maximumPages !== this.#defaultPages) text += `,size=${this.#maximumPages * 4}k`;
    if (this.#maximumSpace !== this.#defaultPages * inodeSpace)
      text += `,nr_inodes=${this.#maximumSpace / inodeSpace}`;
    if (this.#rootMode !== defaultRootMode) text += `,mode=${this.#rootMode.toString(8).padStart(3, '0')}`;
    if (this.#rootUid !== 0) text += `,uid=${this.#rootUid}`;
    if (this.#rootGid !== 0) text += `,gid=${this.#rootGid}`;
    return `${text},inode64`.slice(1);
  }

  /** PageAccount. */
  reserve(pages: number): number {
    const got =
      this.#maximumPages === 0 ? pages : Math.max(0, Math.min(pages, this.#maximumPages - this.#usedPages));
    this.#usedPages += got;
    return got;
  }
  free(pages: number): void {
    this.#usedPages -= pages;
  }

  /** Room for an inode or a further name of one; false: ENOSPC. */
  takeInode(): boolean {
    return this.takeSpace(inodeSpace);
  }
  giveInode(): void {
    this.giveSpace(inodeSpace);
  }
  takeSpace(bytes: number): boolean {
    if (this.#maximumSpace === 0) return true;
    if (this.#freeSpace < bytes) return false;
    this.#freeSpace -= bytes;
    return true;
  }
  giveSpace(bytes: number): void {
    if (this.#maximumSpace !== 0) this.#freeSpace += bytes;
  }

  holdContents(contents: Contents): void {
    this.#contents.add(contents);
  }
  dropContents(contents: Contents): void {
    this.#contents.delete(contents);
    contents.release();
  }

  statfs(): StatFs {
    const free = this.#maximumPages - this.#usedPages;
    const limited = this.#maximumPages !== 0;
    return {
      type: SuperMagic.tmpfs,
      blockSize: pageBytes,
      blocks: this.#maximumPages,
      blocksFree: limited ? free : 0,
      blocksAvailable: limited ? free : 0,
      files: this.#maximumSpace / inodeSpace,
      filesFree: Math.floor(this.#freeSpace / inodeSpace),
      nameLength: 255,
    };
  }

  sync(): number {
    return 0;
  }

  release(): void {
    for (const contents of this.#contents) contents.release();
    this.#contents.clear();
  }

  /** mount(2) with MS_REMOUNT: size and nr_inodes may change, but not below what is used, nor from or to "no limit". */
  reconfigure(task: Task, options: string): number {
    const parsed = parseTmpfsOptions(task.credentials, options, this.kernel.memoryTotal);
    if (typeof parsed === 'number') return parsed;
    const used = this.#maximumSpace - this.#freeSpace;
    if (parsed.pages !== undefined) {
      if ((this.#maximumPages === 0) !== (parsed.pages === 0)) return -Errno.EINVAL;
      if (parsed.pages < this.#usedPages) return -Errno.EINVAL;
    }
    if (parsed.inodes !== undefined) {
      if ((this.#maximumSpace === 0) !== (parsed.inodes === 0)) return -Errno.EINVAL;
      if (parsed.inodes * inodeSpace < used) return -Errno.EINVAL;
    }
    if (parsed.pages !== undefined) this.#maximumPages = parsed.pages;
    if (parsed.inodes !== undefined) {
      this.#maximumSpace = parsed.inodes * inodeSpace;
      this.#freeSpace = this.#maximumSpace - used;
    }
    return 0;
  }
}

/** A number with k, m, g, t, p or e behind it (memparse), or undefined. */
function parseSize(text: string): number | undefined {
  const match = /^(0x[0-9a-f]+|[0-9]+)([kmgtpe]?)$/i.exec(text);
  if (!match) return undefined;
  const power = match[2] === '' ? 0 : 'kmgtpe'.indexOf((match[2] ?? '').toLowerCase()) + 1;
  return Number(match[1]) * 1024 ** power;
}

/** "size=64m,mode=755,…" as tmpfs(5) has it; -EINVAL for what it does not know. */
export function parseTmpfsOptions(
  credentials: Credentials,
  text: string,
  memoryTotal: number,
): TmpfsOptions | number {
  const options: { pages?: number; inodes?: number; mode?: number; uid?: number; gid?: number } = {};
  for (const word of text.split(',')) {
    if (word === '') continue;
    const at = word.indexOf('=');
    const name = at < 0 ? word : word.slice(0, at);
    const value = at < 0 ? '' : word.slice(at + 1);
    switch (name) {
      case 'size': {
        const percent = /^([0-9]+)%$/.exec(value);
        const size = percent ? Math.floor((memoryTotal * Number(percent[1])) / 100) : parseSize(value);
        if (size === undefined) return -Errno.EINVAL;
        options.pages = Math.ceil(size / pageBytes);
        break;
      }
      case 'nr_blocks':
      case 'nr_inodes': {
        const count = parseSize(value);
        if (count === undefined) return -Errno.EINVAL;
        if (name === 'nr_blocks') options.pages = count;
        else options.inodes = count;
        break;
      }
      case 'mode':
        if (!/^[0-7]+$/.test(value)) return -Errno.EINVAL;
        options.mode = Number.parseInt(value, 8) & 0o7777;
        break;
      case 'uid':
      case 'gid': {
        if (!/^[0-9]+$/.test(value)) return -Errno.EINVAL;
        const namespace = credentials.userNamespace;
        const id =
          name === 'uid' ? namespace.toKernelUid(Number(value)) : namespace.toKernelGid(Number(value));
        if (id === -1) return -Errno.EINVAL;
        options[name] = id;
        break;
      }
      case 'huge':
        // Without transparent huge pages only this value is known.
        if (value !== 'never') return -Errno.EINVAL;
        break;
      case 'inode64':
      case 'noswap':
        // So it is anyway: inode numbers have 64 bits, and nothing swaps.
        break;
      default:
        return -Errno.EINVAL;
    }
  }
  return options;
}

/** For Vfs.registerType. ramfs and devtmpfs of containers are tmpfs too. */
export const tmpfsType: FileSystemType = {
  name: 'tmpfs',
  userMount: true,
  mount(task, _source, options) {
    const parsed = parseTmpfsOptions(task.credentials, options, task.kernel.memoryTotal);
    if (typeof parsed === 'number') return parsed;
    const { fsuid, fsgid } = task.credentials;
    return new TmpfsFileSystem(task.kernel, { uid: fsuid, gid: fsgid, ...parsed });
  },
};
