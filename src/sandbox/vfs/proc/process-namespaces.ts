// /proc/pid/ns and /proc/pid/attr: a task's namespaces as files that can be opened and given to setns(2), and the
// attributes of security modules, of which there are none.

import { Errno } from '../../abi/errno.ts';
import { FileType, OpenFlag } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import {
  type NamespaceKind,
  namespaceKinds,
  namespaceOf,
  namespaceText,
  openNamespace,
} from '../../kernel/namespace/nsfs.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { Path, Stat } from '../contract.ts';
import { AnonymousFileSystem } from '../event/anonymous.ts';
import type { FileDescription } from '../file-description.ts';
import { Inode } from '../inode.ts';
import type { ProcFileSystem } from './file-system.ts';
import { type Listed, type Owner, ProcDirectory, ProcLink, ProcText } from './inode.ts';
import { mayFollow, NamelessMounts } from './process-files.ts';

/** Without a security module there is nothing to show or to set. */
const attributeNames = ['current', 'prev', 'exec', 'fscreate', 'keycreate', 'sockcreate'] as const;

export class AttributeDirectory extends ProcDirectory {
  override lookup(name: string, _task: Task): Inode | number {
    const index = (attributeNames as readonly string[]).indexOf(name);
    if (index < 0) return -Errno.ENOENT;
    const permissions = name === 'prev' ? 0o444 : 0o666;
    return new ProcText(this.fileSystem, this.ino + 1 + index, permissions, this.owner, () => -Errno.EINVAL, {
      store: () => -Errno.EINVAL,
    });
  }
  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    for (const [index, name] of attributeNames.entries())
      if (index + 1 > after) yield [index + 1, { name, ino: this.ino + 1 + index, type: FileType.regular }];
  }
}

/** A namespace as a file: it can be opened as often as one likes. */
class NamespaceInode extends Inode {
  readonly fileSystem: AnonymousFileSystem;
  readonly mode: number = FileType.regular | 0o444;
  readonly uid = 0;
  readonly gid = 0;
  readonly ino = 0;
  readonly #thread: Thread;
  readonly #kind: NamespaceKind;

  constructor(thread: Thread, kind: NamespaceKind) {
    super();
    this.fileSystem = thread.kernel.part(AnonymousFileSystem);
    this.#thread = thread;
    this.#kind = kind;
  }

  stat(): Stat | number {
    const file = openNamespace(this.#thread, this.#kind);
    if (typeof file === 'number') return file;
    const stat = file.stat();
    file.unreference();
    return stat;
  }

  override open(_task: Task, _path: Path, flags: number): FileDescription | number {
    if ((flags & OpenFlag.accessMode) !== OpenFlag.readOnly) return -Errno.EPERM;
    return openNamespace(this.#thread, this.#kind);
  }
}

function namespaceLink(
  fileSystem: ProcFileSystem,
  ino: number,
  owner: Owner,
  thread: Thread,
  kind: NamespaceKind,
): ProcLink {
  const entryFor = (reader: Task) =>
    mayFollow(reader, thread) ? (namespaceOf(thread, kind) ?? -Errno.ENOENT) : -Errno.EACCES;
  return new ProcLink(
    fileSystem,
    ino,
    owner,
    (reader) => {
      const entry = entryFor(reader);
      return typeof entry === 'number' ? entry : namespaceText(thread.kernel, entry);
    },
    (reader) => {
      const entry = entryFor(reader);
      if (typeof entry === 'number') return entry;
      const name = namespaceText(thread.kernel, entry);
      return thread.kernel.part(NamelessMounts).placeOf(name, new NamespaceInode(thread, kind));
    },
  );
}

export class NamespaceDirectory extends ProcDirectory {
  readonly #thread: Thread;

  constructor(fileSystem: ProcFileSystem, ino: number, owner: Owner, thread: Thread) {
    super(fileSystem, ino, 0o511, owner);
    this.#thread = thread;
  }

  override lookup(name: string, _task: Task): Inode | number {
    const index = (namespaceKinds as readonly string[]).indexOf(name);
    const kind = namespaceKinds[index];
    if (kind === undefined) return -Errno.ENOENT;
    return namespaceLink(this.fileSystem, this.ino + 1 + index, this.owner, this.#thread, kind);
  }
  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    for (const [index, name] of namespaceKinds.entries())
      if (index + 1 > after) yield [index + 1, { name, ino: this.ino + 1 + index, type: FileType.symlink }];
  }
}
