// Path resolution (path_resolution(7), openat2(2)): from text to a place in the tree, as fs/namei.c does it. One Walk
// object per lookup holds where it is; its methods give 0 or a negative errno. Components are looked up in the dentry
// cache one by one, without splitting the path first.

import { Errno } from '../abi/errno.ts';
import { Access, At, pathMaximum, Resolve } from '../abi/file.ts';
import { MountFlag } from '../abi/mount.ts';
import { FileType } from '../abi/open.ts';
import type { Task } from '../kernel/contract.ts';
import type { Path } from './contract.ts';
import type { Dentry } from './dentry.ts';
import type { Inode } from './inode.ts';
import type { Mount } from './mount.ts';
import { inodePermission } from './permission.ts';

/** How a lookup treats the end of the path; the lower bits are openat2's RESOLVE_*. */
export const Lookup = {
  /** A symbolic link at the end is followed. */
  follow: 0x100,
  /** The result must be a directory. */
  directory: 0x200,
  /** An empty path means the starting point (AT_EMPTY_PATH). */
  empty: 0x400,
} as const;

/** What the last component is, when a walk stops before it. */
export const Last = { name: 0, dot: 1, dotDot: 2, root: 3 } as const;

const linkMaximum = 40;
const slash = 0x2f;
const dotCode = 0x2e;

/** What a component turned out to be: walked into, or a link whose text is to be walked. */
type Step = number | string;

export class Walk {
  readonly task: Task;
  mount: Mount;
  dentry: Dentry;
  /** The root that ".." and absolute links stop at. */
  #rootMount: Mount;
  #rootDentry: Dentry;
  flags: number;
  #links = 0;
  /** Rests of paths in which a link was met. */
  #rests: string[] | undefined;
  /** After `toParent`: the last component, whether slashes follow it, and what it is. */
  last = '';
  lastKind: number = Last.root;
  trailingSlash = false;
  /** Seen during the walk: for mayFollowLink. */
  #directoryUid = 0;
  #directoryMode = 0;

  constructor(task: Task, flags: number) {
    const { root, cwd } = task.fs;
    this.task = task;
    this.flags = flags;
    this.#rootMount = root.mount;
    this.#rootDentry = root.dentry;
    this.mount = cwd.mount;
    this.dentry = cwd.dentry;
  }

  get path(): Path {
    return { mount: this.mount, dentry: this.dentry };
  }

  get inode(): Inode | undefined {
    return this.dentry.inode;
  }

  /** Chooses the starting point (path_init): dirfd is AT_FDCWD or a descriptor, `path` decides whether it counts. */
  begin(dirfd: number, path: string): number {
    const absolute = path.charCodeAt(0) === slash;
    if (absolute && !(this.flags & Resolve.inRoot)) {
      if (this.flags & Resolve.beneath) return -Errno.EXDEV;
      this.mount = this.#rootMount;
      this.dentry = this.#rootDentry;
      return 0;
    }
    if (dirfd !== At.cwd) {
      const file = this.task.files.get(dirfd);
      if (file === undefined) return -Errno.EBADF;
      const place = file.path;
      if (place === undefined) {
        // A pipe, a socket: something, but no directory.
        return path === '' ? -Errno.EINVAL : -Errno.ENOTDIR;
      }
      if (path !== '' && !place.dentry.inode?.isDirectory) return -Errno.ENOTDIR;
      this.mount = place.mount;
      this.dentry = place.dentry;
    }
    if (this.flags & (Resolve.beneath | Resolve.inRoot)) {
      this.#rootMount = this.mount;
      this.#rootDentry = this.dentry;
    }
    return 0;
  }

  /** Walks all of the path. 0: `mount` and `dentry` are the place, which exists. */
  resolve(dirfd: number, path: string): number {
    if (path === '' && !(this.flags & Lookup.empty)) return -Errno.ENOENT;
    let result = this.begin(dirfd, path);
    if (result < 0) return result;
    let text = path;
    for (;;) {
      result = this.#walkToLast(text);
      if (result < 0) return result;
      const step = this.#stepLast();
      if (typeof step === 'number') {
        if (step < 0) return step;
        break;
      }
      text = step;
    }
    if (this.flags & Lookup.directory && !this.dentry.inode?.isDirectory) return -Errno.ENOTDIR;
    return 0;
  }

  /** Walks to the directory of the last component: `last`, `lastKind`, `trailingSlash` say what is to be looked up there. */
  toParent(dirfd: number, path: string): number {
    if (path === '') return -Errno.ENOENT;
    const result = this.begin(dirfd, path);
    return result < 0 ? result : this.#walkToLast(path);
  }

  /** For open: goes on from `toParent` along a link's text. */
  alongLink(text: string): number {
    return this.#walkToLast(text);
  }

  /** Everything up to the last component of `path` and of the links met in it (link_path_walk). */
  #walkToLast(path: string): number {
    let name = path;
    let at = 0;
    let length = name.length;
    this.lastKind = Last.root;
    this.trailingSlash = false;
    while (at < length && name.charCodeAt(at) === slash) at++;
    if (at === length) return 0;
    for (;;) {
      const directory = this.dentry.inode;
      if (directory === undefined) return -Errno.ENOENT;
      const allowed = inodePermission(this.task, directory, Access.execute);
      if (allowed < 0) return allowed;
      let end = name.indexOf('/', at);
      if (end < 0) end = length;
      let next = end;
      while (next < length && name.charCodeAt(next) === slash) next++;
      let kind: number = Last.name;
      if (name.charCodeAt(at) === dotCode) {
        if (end === at + 1) kind = Last.dot;
        else if (end === at + 2 && name.charCodeAt(at + 1) === dotCode) kind = Last.dotDot;
      }
      const component = at === 0 && end === length ? name : name.slice(at, end);
      if (next === length) {
        const rests = this.#rests;
        if (rests === undefined || rests.length === 0) {
          this.last = component;
          this.lastKind = kind;
          this.trailingSlash = end < length;
          this.#directoryUid = directory.uid;
          this.#directoryMode = directory.mode;
          return 0;
        }
        name = rests.pop() ?? '';
        at = 0;
        length = name.length;
      } else {
        if (kind === Last.name && directory.prefetches && !this.dentry.children?.has(component))
          directory.prefetch(namesAlong(name, at));
        at = next;
      }
      const step = kind === Last.name ? this.#enter(component, true, directory) : this.#dots(kind);
      if (typeof step === 'string') {
        this.#rests ??= [];
        this.#rests.push(name.slice(at));
        name = step;
        at = 0;
        length = name.length;
        while (at < length && name.charCodeAt(at) === slash) at++;
        if (at === length) {
          // The link was to a root: go on with what stands behind it.
          name = this.#rests.pop() ?? '';
          at = 0;
          length = name.length;
        }
      } else if (step < 0) {
        return step;
      }
      if (!this.dentry.inode?.isDirectory) return -Errno.ENOTDIR;
    }
  }

  /** The last component of a path that is to be resolved wholly. */
  #stepLast(): Step {
    if (this.lastKind === Last.root) return 0;
    if (this.lastKind !== Last.name) return this.#dots(this.lastKind);
    if (this.trailingSlash) this.flags |= Lookup.follow | Lookup.directory;
    const directory = this.dentry.inode;
    if (directory === undefined) return -Errno.ENOENT;
    return this.#enter(this.last, (this.flags & Lookup.follow) !== 0, directory, true);
  }

  /** "." and ".." (handle_dots). */
  #dots(kind: number): number {
    return kind === Last.dotDot ? this.#up() : 0;
  }

  stepDots(): number {
    return this.#dots(this.lastKind);
  }

  #up(): number {
    if (this.dentry === this.#rootDentry && this.mount === this.#rootMount)
      return this.flags & Resolve.beneath ? -Errno.EXDEV : 0;
    let { mount, dentry } = this;
    while (dentry === mount.root) {
      const { parent, mountPoint } = mount;
      // At the top of a tree that lies outside of the root, ".." stays.
      if (parent === undefined || mountPoint === undefined) return 0;
      if (this.flags & Resolve.noXdev) return -Errno.EXDEV;
      mount = parent;
      dentry = mountPoint;
      if (dentry === this.#rootDentry && mount === this.#rootMount) {
        this.mount = mount;
        this.dentry = dentry;
        return this.#down();
      }
    }
    const { parent } = dentry;
    if (parent === undefined) return 0;
    // A directory that was moved out of the part that its mount shows has no way up any more.
    if (mount.root.parent !== undefined && !parent.isUnder(mount.root)) return -Errno.ENOENT;
    this.mount = mount;
    this.dentry = parent;
    return this.#down();
  }

  /** Into what is mounted here. */
  #down(): number {
    while (this.dentry.mounts !== undefined) {
      const over = this.dentry.mounts.get(this.mount);
      if (over === undefined) return 0;
      if (this.flags & Resolve.noXdev) return -Errno.EXDEV;
      this.mount = over;
      this.dentry = over.root;
    }
    return 0;
  }

  /** Looks a name up and goes there; the text of a link that is to be walked. */
  #enter(name: string, follow: boolean, directory: Inode, trailing = false): Step {
    const { dentry: parent } = this;
    let child = parent.children?.get(name);
    if (child !== undefined && directory.revalidate(name, child.inode, this.task)) {
      child.touched = true;
    } else {
      const found = this.mount.vfs.dentries.lookup(this.task, parent, name);
      if (typeof found === 'number') return found;
      child = found;
    }
    return this.stepInto(child, follow, trailing);
  }

  /** Goes to a child of where the walk is (step_into). */
  stepInto(child: Dentry, follow: boolean, trailing: boolean): Step {
    const inode = child.inode;
    if (inode === undefined) return -Errno.ENOENT;
    if (child.mounts !== undefined) {
      const from = this.dentry;
      this.dentry = child;
      const result = this.#down();
      if (result < 0) {
        this.dentry = from;
        return result;
      }
      return 0;
    }
    if ((inode.mode & FileType.mask) !== FileType.symlink || !follow) {
      this.dentry = child;
      return 0;
    }
    return this.#followLink(inode, trailing);
  }

  /** The walk is at the directory that contains the link (pick_link). */
  #followLink(inode: Inode, trailing: boolean): Step {
    if (this.#links++ >= linkMaximum) return -Errno.ELOOP;
    if (trailing) {
      const allowed = this.#mayFollow(inode);
      if (allowed < 0) return allowed;
    }
    if (this.flags & Resolve.noSymlinks || this.mount.flags & MountFlag.noSymlinkFollow) return -Errno.ELOOP;
    const place = inode.followLink(this.task);
    if (place !== undefined) {
      if (typeof place === 'number') return place;
      return this.#jump(place);
    }
    const text = inode.readLink(this.task);
    if (typeof text === 'number') return text;
    if (text === '') return -Errno.ENOENT;
    if (text.length >= pathMaximum) return -Errno.ENAMETOOLONG;
    if (text.charCodeAt(0) === slash) {
      if (this.flags & Resolve.beneath) return -Errno.EXDEV;
      if (this.flags & Resolve.noXdev && this.mount !== this.#rootMount) return -Errno.EXDEV;
      this.mount = this.#rootMount;
      this.dentry = this.#rootDentry;
    }
    return text;
  }

  /** A magic link leads to a place itself (nd_jump_link). */
  #jump(place: Path): number {
    if (this.flags & Resolve.noMagicLinks) return -Errno.ELOOP;
    if (this.flags & Resolve.noXdev && this.mount !== place.mount) return -Errno.EXDEV;
    if (this.flags & (Resolve.beneath | Resolve.inRoot)) return -Errno.EXDEV;
    this.mount = place.mount;
    this.dentry = place.dentry;
    // Nothing is left to be looked up here.
    this.lastKind = Last.root;
    this.trailingSlash = false;
    return 0;
  }

  /** protected_symlinks: links of others in sticky directories that everybody may write (may_follow_link). */
  #mayFollow(link: Inode): number {
    if (this.mount.vfs.protection.symlinks === 0) return 0;
    if (this.task.credentials.fsuid === link.uid) return 0;
    if ((this.#directoryMode & 0o1002) !== 0o1002) return 0;
    return this.#directoryUid === link.uid ? 0 : -Errno.EACCES;
  }
}

/** The components of a path from `start` on that are walked one below the other: up to "." or "..". */
function namesAlong(path: string, start: number): string[] {
  const names: string[] = [];
  for (const name of path.slice(start).split('/')) {
    if (name === '.' || name === '..') break;
    if (name !== '') names.push(name);
  }
  return names;
}

/** The place that a path names, relative to dirfd (AT_FDCWD or a descriptor); or a negative errno. */
export function resolvePath(task: Task, dirfd: number, path: string, flags: number): Path | number {
  const walk = new Walk(task, flags);
  const result = walk.resolve(dirfd, path);
  return result < 0 ? result : walk.path;
}

/** As resolvePath, for callers inside the kernel that have no descriptor: exec, mount options. */
export function resolveFrom(task: Task, path: string, follow = true): Path | number {
  return resolvePath(task, At.cwd, path, follow ? Lookup.follow : 0);
}
