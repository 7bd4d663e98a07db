// devpts: the file system whose files are the terminals of pseudo-terminals, and ptmx, which makes new ones. Every mount
// is an instance of its own (as since Linux 4.7).

import { Device, Major } from '../../abi/device.ts';
import { Errno } from '../../abi/errno.ts';
import { FileType, makeDevice } from '../../abi/open.ts';
import type { Credentials, Kernel, Task } from '../../kernel/contract.ts';
import type { FileSystem, FileSystemType, Path, Stat, StatFs, Timespec } from '../contract.ts';
import { type DirectoryEntry, FileDescription } from '../file-description.ts';
import { type AttributeChange, Inode } from '../inode.ts';
import { PseudoTerminal, PtyMaster } from './pty.ts';
import { Terminal } from './terminal.ts';
import { acquireControl } from './tty-file.ts';

const DEVPTS_SUPER_MAGIC = 0x1cd1;
const CAP_FOWNER = 3;
const CAP_CHOWN = 0;
const characterEntry = 2;
const directoryEntry = 4;

interface Options {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly mode: number;
  readonly ptmxMode: number;
  readonly max: number;
}

/** "gid=5,mode=620,ptmxmode=666,newinstance,max=N"; -EINVAL for anything else. */
export function parseOptions(text: string): Options | number {
  const options: { -readonly [K in keyof Options]: Options[K] } = {
    uid: undefined,
    gid: undefined,
    mode: 0o600,
    ptmxMode: 0,
    max: 1 << 20,
  };
  for (const part of text.split(',')) {
    if (part === '' || part === 'newinstance') continue;
    const [name, value = ''] = part.split('=');
    const octal = /^[0-7]{1,7}$/.test(value) ? Number.parseInt(value, 8) : -1;
    const decimal = /^\d{1,10}$/.test(value) ? Number(value) : -1;
    if (name === 'mode' && octal >= 0) options.mode = octal & 0o7777;
    else if (name === 'ptmxmode' && octal >= 0) options.ptmxMode = octal & 0o7777;
    else if (name === 'uid' && decimal >= 0) options.uid = decimal;
    else if (name === 'gid' && decimal >= 0) options.gid = decimal;
    else if (name === 'max' && decimal >= 0 && decimal <= 1 << 20) options.max = decimal;
    else return -Errno.EINVAL;
  }
  return options;
}

abstract class DevptsInode extends Inode {
  readonly fileSystem: Devpts;
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  #changed: Timespec;

  constructor(fileSystem: Devpts, ino: number, mode: number, uid: number, gid: number) {
    super();
    this.fileSystem = fileSystem;
    this.ino = ino;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.#changed = fileSystem.kernel.clock.realtime();
  }

  protected get device(): number {
    return 0;
  }

  override stat(): Stat {
    return {
      dev: this.fileSystem.device,
      ino: this.ino,
      mode: this.mode,
      nlink: this.isDirectory ? 2 : 1,
      uid: this.uid,
      gid: this.gid,
      rdev: this.device,
      size: 0,
      blksize: 1024,
      blocks: 0,
      atime: this.#changed,
      mtime: this.#changed,
      ctime: this.#changed,
    };
  }

  override setAttributes(change: AttributeChange, credentials: Credentials): number {
    if (change.uid !== undefined && change.uid !== this.uid && !credentials.has(CAP_CHOWN))
      return -Errno.EPERM;
    if (change.mode !== undefined && credentials.fsuid !== this.uid && !credentials.has(CAP_FOWNER))
      return -Errno.EPERM;
    if (change.mode !== undefined) this.mode = (this.mode & FileType.mask) | (change.mode & 0o7777);
    if (change.uid !== undefined) this.uid = change.uid;
    if (change.gid !== undefined) this.gid = change.gid;
    this.#changed = this.fileSystem.kernel.clock.realtime();
    return 0;
  }
}

/** /dev/pts/N */
export class PtyInode extends DevptsInode {
  readonly pty: PseudoTerminal;

  constructor(fileSystem: Devpts, pty: PseudoTerminal, mode: number, uid: number, gid: number) {
    super(fileSystem, pty.index + 3, FileType.character | mode, uid, gid);
    this.pty = pty;
  }

  protected override get device(): number {
    return this.pty.terminal.device;
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    const { pty } = this;
    if (pty.locked || !pty.masterOpen) return -Errno.EIO;
    if (pty.terminal.exclusive && !task.credentials.has(21)) return -Errno.EBUSY;
    acquireControl(pty.terminal, task, flags);
    return pty.openSlave(flags, path, undefined);
  }
}

class PtmxInode extends DevptsInode {
  protected override get device(): number {
    return Device.ptmx;
  }

  override open(task: Task, path: Path, flags: number): FileDescription | number {
    return this.fileSystem.openMaster(task, path, flags);
  }
}

class DevptsDirectory extends DevptsInode {
  override lookup(name: string): Inode | number {
    return this.fileSystem.find(name) ?? -Errno.ENOENT;
  }

  override revalidate(name: string, inode: Inode | undefined): boolean {
    return this.fileSystem.find(name) === inode;
  }

  override open(_task: Task, path: Path, flags: number): FileDescription | number {
    return (flags & 3) === 0 ? new DevptsListing(flags, path, this.fileSystem) : -Errno.EISDIR;
  }
}

class DevptsListing extends FileDescription {
  readonly #fileSystem: Devpts;

  constructor(flags: number, path: Path, fileSystem: Devpts) {
    super(flags, path);
    this.#fileSystem = fileSystem;
  }

  override seek(_task: Task, offset: number, whence: number): number {
    const target = whence === 1 ? this.position + offset : whence === 0 ? offset : -1;
    if (target < 0) return -Errno.EINVAL;
    this.position = target;
    return target;
  }

  override read(): number {
    return -Errno.EISDIR;
  }

  /** Cookies: 1 and 2 behind the dots, 3 behind ptmx, index + 4 behind a terminal. */
  override readDirectory(_task: Task, emit: (entry: DirectoryEntry) => boolean): number {
    const entries: DirectoryEntry[] = [
      { name: '.', ino: 1, type: directoryEntry, next: 1 },
      { name: '..', ino: 1, type: directoryEntry, next: 2 },
      { name: 'ptmx', ino: 2, type: characterEntry, next: 3 },
      ...this.#fileSystem.indices().map((index) => ({
        name: String(index),
        ino: index + 3,
        type: characterEntry,
        next: index + 4,
      })),
    ];
    for (const entry of entries) {
      if (entry.next <= this.position) continue;
      if (!emit(entry)) return 0;
      this.position = entry.next;
    }
    return 0;
  }
}

export class Devpts implements FileSystem {
  readonly kernel: Kernel;
  readonly type = 'devpts';
  readonly device: number;
  readonly root: Inode;
  readonly #options: Options;
  readonly #ptmx: PtmxInode;
  readonly #terminals = new Map<number, PtyInode>();

  constructor(kernel: Kernel, options: Options) {
    this.kernel = kernel;
    this.device = kernel.anonymousDevice();
    this.#options = options;
    this.root = new DevptsDirectory(this, 1, FileType.directory | 0o755, 0, 0);
    this.#ptmx = new PtmxInode(this, 2, FileType.character | options.ptmxMode, 0, 0);
  }

  get options(): string {
    const { uid, gid, mode, ptmxMode, max } = this.#options;
    return [
      ...(uid === undefined ? [] : [`uid=${uid}`]),
      ...(gid === undefined ? [] : [`gid=${gid}`]),
      `mode=${mode.toString(8).padStart(3, '0')}`,
      `ptmxmode=${ptmxMode.toString(8).padStart(3, '0')}`,
      ...(max < 1 << 20 ? [`max=${max}`] : []),
    ].join(',');
  }

  find(name: string): Inode | undefined {
    if (name === 'ptmx') return this.#ptmx;
    return /^(0|[1-9]\d{0,6})$/.test(name) ? this.#terminals.get(Number(name)) : undefined;
  }

  indices(): number[] {
    return [...this.#terminals.keys()].sort((a, b) => a - b);
  }

  /** open(2) of ptmx: a new pseudo-terminal. */
  openMaster(task: Task, path: Path, flags: number): FileDescription | number {
    const pty = this.makePty(task.credentials.fsuid, task.credentials.fsgid);
    if (typeof pty === 'number') return pty;
    return new PtyMaster(pty.pty, pty, flags, path, () => this.#terminals.delete(pty.pty.index));
  }

  /** The lowest free number; -ENOSPC when the instance has its maximum. */
  makePty(uid: number, gid: number): PtyInode | number {
    let index = 0;
    while (this.#terminals.has(index)) index++;
    if (index >= this.#options.max) return -Errno.ENOSPC;
    const terminal = new Terminal(makeDevice(Major.pseudoTerminal, index), `/dev/pts/${index}`);
    const inode = new PtyInode(
      this,
      new PseudoTerminal(terminal, index),
      this.#options.mode,
      this.#options.uid ?? uid,
      this.#options.gid ?? gid,
    );
    this.#terminals.set(index, inode);
    return inode;
  }

  forget(index: number): void {
    this.#terminals.delete(index);
  }

  statfs(): StatFs {
    return {
      type: DEVPTS_SUPER_MAGIC,
      blockSize: 4096,
      blocks: 0,
      blocksFree: 0,
      blocksAvailable: 0,
      files: 0,
      filesFree: 0,
      nameLength: 255,
    };
  }

  sync(): number {
    return 0;
  }

  release(): void {}
}

export const devptsType: FileSystemType = {
  name: 'devpts',
  userMount: true,
  mount(task, _source, text) {
    const options = parseOptions(text);
    return typeof options === 'number' ? options : new Devpts(task.kernel, options);
  },
};
