// What the virtual file system keeps for a whole sandbox: the dentry cache, the file systems that are mounted, the kinds
// that can be, ids of mounts and peer groups, and the switches of /proc/sys/fs. One a kernel: kernel.part(Vfs).

import { MountFlag } from '../abi/mount.ts';
import { statxSize } from '../abi/stat.ts';
import type { Kernel, Task, UserNamespace } from '../kernel/contract.ts';
import type { FileSystem, FileSystemType, Path, Timespec } from './contract.ts';
import { Dentry, DentryCache } from './dentry.ts';
import { Mount, type SuperBlock } from './mount.ts';
import { MountNamespace } from './mount-namespace.ts';
import { Event, notifyGone } from './notify.ts';
import { PeerGroups } from './propagation.ts';

/** Dentries that nobody holds and that are kept. About 300 bytes each. */
const dentryLimit = 16_384;

const superBlockFlags = MountFlag.readOnly | MountFlag.synchronous | MountFlag.dirSync | MountFlag.lazyTime;

/** /proc/sys/fs/protected_* (proc_sys_fs(5)), with the values that distributions set. */
export interface ProtectionSettings {
  symlinks: number;
  hardlinks: number;
  fifos: number;
  regular: number;
}

export class Vfs {
  readonly kernel: Kernel;
  readonly dentries: DentryCache;
  readonly peerGroups = new PeerGroups();
  readonly protection: ProtectionSettings = { symlinks: 1, hardlinks: 1, fifos: 1, regular: 2 };
  /** Bytes for one structure on its way to a program. Nobody keeps it beyond his own call. */
  readonly scratch = new Uint8Array(Math.max(statxSize, 512));
  readonly scratchView = new DataView(this.scratch.buffer);
  readonly #superBlocks = new Map<FileSystem, SuperBlock>();
  readonly #types = new Map<string, FileSystemType>();
  #lastMount = 20;
  #lastNamespace = 0xf000_0000;
  #lastCookie = 0;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.dentries = new DentryCache(dentryLimit, (dentry) => this.unmountAt(dentry));
  }

  /** The time that file systems put on inodes. */
  now(): Timespec {
    return this.kernel.clock.realtime();
  }

  /** Makes it mountable by mount(2), and listed in /proc/filesystems. */
  registerType(type: FileSystemType): void {
    this.#types.set(type.name, type);
  }

  fileSystemType(name: string): FileSystemType | undefined {
    return this.#types.get(name);
  }

  types(): readonly FileSystemType[] {
    return [...this.#types.values()];
  }

  superFlags(flags: number): number {
    return flags & superBlockFlags;
  }

  /** The super block of a file system; flags count when it is mounted for the first time. */
  superBlock(fileSystem: FileSystem, flags: number): SuperBlock {
    const known = this.#superBlocks.get(fileSystem);
    if (known) return known;
    const made = {
      fileSystem,
      root: new Dentry('', undefined, fileSystem.root).acquire(),
      flags: this.superFlags(flags),
      mounts: 0,
    };
    this.#superBlocks.set(fileSystem, made);
    return made;
  }

  newMount(superBlock: SuperBlock, root: Dentry, flags: number, source: string): Mount {
    return new Mount(this, ++this.#lastMount, superBlock, root, flags, source, () => {
      if (--superBlock.mounts > 0) return;
      const { fileSystem } = superBlock;
      this.#superBlocks.delete(fileSystem);
      this.dentries.drop(superBlock.root);
      superBlock.root.unhash();
      superBlock.root.release();
      notifyGone(fileSystem.root, Event.unmount);
      fileSystem.release();
    });
  }

  /** A mount in no tree, for the kernel's own file systems (memory files). */
  kernelMount(fileSystem: FileSystem): Mount {
    return this.newMount(
      this.superBlock(fileSystem, 0),
      this.superBlock(fileSystem, 0).root,
      0,
      'none',
    ).acquire();
  }

  /** A namespace whose root is this file system. */
  namespace(
    fileSystem: FileSystem,
    source: string,
    flags = 0,
    userNamespace: UserNamespace = this.kernel.rootUserNamespace,
  ): MountNamespace {
    const superBlock = this.superBlock(fileSystem, flags);
    return new MountNamespace(this, userNamespace, this.newMount(superBlock, superBlock.root, flags, source));
  }

  /** All mounts at a place go, in every namespace: the place itself is gone. */
  unmountAt(dentry: Dentry): void {
    if (!dentry.mounts) return;
    for (const mount of [...dentry.mounts.values()]) mount.namespace?.removeMount(mount);
  }

  /** Whether something is mounted there as seen in a namespace (is_local_mountpoint). */
  isMountPoint(dentry: Dentry, namespace: MountNamespace): boolean {
    if (!dentry.mounts) return false;
    for (const mount of dentry.mounts.values()) if (mount.namespace === namespace) return true;
    return false;
  }

  /** sync(2). */
  *fileSystems(): IterableIterator<FileSystem> {
    yield* this.#superBlocks.keys();
  }

  nextNamespaceIno(): number {
    return this.#lastNamespace++;
  }

  /** Joins the two halves of a rename. */
  nextCookie(): number {
    this.#lastCookie = (this.#lastCookie + 1) >>> 0;
    return this.#lastCookie;
  }
}

/** What lies on top at a place: follows mounts down. */
export function topOf(path: Path): Path {
  let { mount, dentry } = path;
  for (;;) {
    const over = dentry.mounts?.get(mount);
    if (!over) return mount === path.mount ? path : { mount, dentry };
    mount = over;
    dentry = over.root;
  }
}

export function vfsOfTask(task: Task): Vfs {
  return task.fs.root.mount.vfs;
}
