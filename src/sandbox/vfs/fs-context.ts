// A process's place in the file system: root, working directory, umask (struct fs_struct), shared with CLONE_FS.

import type { UserNamespace } from '../kernel/contract.ts';
import type { FsContext, Path } from './contract.ts';
import type { MountNamespace } from './mount-namespace.ts';

function hold(path: Path): Path {
  path.mount.acquire();
  path.dentry.acquire();
  return path;
}

function letGo(path: Path): void {
  path.dentry.release();
  path.mount.release();
}

export class FileSystemContext implements FsContext {
  #root: Path;
  #cwd: Path;
  umask: number;
  #users = 1;

  constructor(root: Path, cwd: Path = root, umask = 0o022) {
    this.#root = hold(root);
    this.#cwd = hold(cwd);
    this.umask = umask;
  }

  get root(): Path {
    return this.#root;
  }

  get cwd(): Path {
    return this.#cwd;
  }

  get users(): number {
    return this.#users;
  }

  setRoot(path: Path): void {
    const before = this.#root;
    this.#root = hold(path);
    letGo(before);
  }

  setCwd(path: Path): void {
    const before = this.#cwd;
    this.#cwd = hold(path);
    letGo(before);
  }

  fork(): FileSystemContext {
    return new FileSystemContext(this.#root, this.#cwd, this.umask);
  }

  acquire(): FileSystemContext {
    this.#users++;
    return this;
  }

  release(): void {
    if (--this.#users > 0) return;
    letGo(this.#cwd);
    letGo(this.#root);
  }
}

/** CLONE_NEWNS: a copy of the namespace, with `fs` (which nobody else shares) moved to the same places in it. */
export function copyMounts(from: MountNamespace, fs: FsContext, owner: UserNamespace): MountNamespace {
  const { namespace, translate } = from.clone(owner);
  fs.setRoot(translate(fs.root));
  fs.setCwd(translate(fs.cwd));
  return namespace;
}
