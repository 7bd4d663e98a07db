// /proc/pid and /proc/pid/task/tid: which files there are, whose they are and who may look at them. What they show is in
// process-status.ts, process-memory.ts, process-files.ts and mount-tables.ts.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { PidTable } from '../../kernel/task/pid.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { MountNamespace, Path } from '../contract.ts';
import type { Inode } from '../inode.ts';
import { describePath } from '../path.ts';
import type { ProcFileSystem } from './file-system.ts';
import {
  type Listed,
  type Owner,
  ProcDirectory,
  ProcInode,
  ProcLink,
  ProcText,
  rootOwner,
  type Show,
  type TextOptions,
} from './inode.ts';
import { MountText, mountInfoText, mountStatsText, mountsText } from './mount-tables.ts';
import { NetworkDirectory } from './network.ts';
import { DescriptorDirectory, fileText, mayFollow, NamelessMounts, numberOf } from './process-files.ts';
import {
  auxiliaryVector,
  commandLine,
  environment,
  MemoryFile,
  mapsText,
  smapsRollupText,
  smapsText,
} from './process-memory.ts';
import { AttributeDirectory, NamespaceDirectory } from './process-namespaces.ts';
import { changeOomScore, oomScore, oomScoreFromOld } from './process-oom.ts';
import * as status from './process-status.ts';

/** The owner of a task's files: its effective user, or root if it is not dumpable (task_dump_owner). */
class TaskOwner implements Owner {
  readonly #thread: Thread;
  readonly #always: boolean;

  /** always: directories that everybody may enter show their user in any case. */
  constructor(thread: Thread, always: boolean) {
    this.#thread = thread;
    this.#always = always;
  }

  get #shown(): boolean {
    return this.#always || this.#thread.dead || this.#thread.exiting || this.#thread.mm.dumpable === 1;
  }
  get uid(): number {
    return this.#shown ? this.#thread.credentials.euid : 0;
  }
  get gid(): number {
    return this.#shown ? this.#thread.credentials.egid : 0;
  }
}

/** What an entry is made for. */
interface Subject {
  readonly fileSystem: ProcFileSystem;
  readonly thread: Thread;
  readonly namespace: PidTable;
  /** /proc/pid itself, not one of its tasks. */
  readonly whole: boolean;
  readonly ino: number;
  readonly owner: Owner;
}

interface Entry {
  readonly name: string;
  readonly type: number;
  /** Only in /proc/pid, or only in /proc/pid/task/tid. */
  readonly only?: 'process' | 'task';
  make(subject: Subject): ProcInode;
}

const alive = (thread: Thread): boolean => !thread.exiting && !thread.dead;

function text(
  name: string,
  permissions: number,
  show: (subject: Subject, reader: Task) => string | Uint8Array | number,
  options: {
    readonly only?: 'process' | 'task';
    readonly mayOpen?: (subject: Subject, opener: Task) => number;
    readonly store?: (subject: Subject, text: string, writer: Task, opener: Task) => number;
  } = {},
): Entry {
  const { only, mayOpen, store } = options;
  return {
    name,
    type: FileType.regular,
    only,
    make: (subject) => {
      const bound: TextOptions = {
        mayOpen: mayOpen && ((opener) => mayOpen(subject, opener)),
        store: store && ((written, writer, opener) => store(subject, written, writer, opener)),
      };
      // A task that is gone for good has nothing to say any more.
      const showOf: Show = (reader) => (subject.thread.process.reaped ? -Errno.ESRCH : show(subject, reader));
      return new ProcText(subject.fileSystem, subject.ino, permissions, subject.owner, showOf, bound);
    },
  };
}

/** For memory: judged when it is opened (mm_access). */
const mayReadMemory = ({ thread }: Subject, opener: Task): number =>
  mayFollow(opener, thread) ? 0 : -Errno.EACCES;

/** A link to a place of the task's. */
function link(name: string, place: (thread: Thread) => Path | number): Entry {
  return {
    name,
    type: FileType.symlink,
    make: ({ fileSystem, thread, ino, owner }) => {
      const find = (reader: Task): Path | number => {
        if (!mayFollow(reader, thread)) return -Errno.EACCES;
        return alive(thread) ? place(thread) : -Errno.ENOENT;
      };
      return new ProcLink(
        fileSystem,
        ino,
        owner,
        (reader) => {
          const found = find(reader);
          return typeof found === 'number' ? found : describePath(found, reader.fs.root);
        },
        find,
      );
    },
  };
}

function executablePath(thread: Thread): Path | number {
  const file = thread.process.executable;
  if (!file) return -Errno.ENOENT;
  return file.path ?? thread.kernel.part(NamelessMounts).place(file);
}

function mounts(
  name: string,
  permissions: number,
  show: (namespace: MountNamespace, root: Path) => string,
): Entry {
  return {
    name,
    type: FileType.regular,
    only: name === 'mountstats' ? 'process' : undefined,
    make: ({ fileSystem, thread, ino, owner }) =>
      new MountText(
        fileSystem,
        ino,
        permissions,
        owner,
        () => (alive(thread) ? thread.mounts : -Errno.EINVAL),
        () => (alive(thread) ? show(thread.mounts, thread.fs.root) : -Errno.EINVAL),
      ),
  };
}

/** uid_map and gid_map. */
function idMap(kind: 'uid' | 'gid'): Entry {
  return text(
    `${kind}_map`,
    0o644,
    ({ thread }, reader) => thread.credentials.userNamespace.mapText(kind, reader.credentials.userNamespace),
    {
      store: ({ thread }, written, _writer, opener) =>
        thread.credentials.userNamespace.writeMap(kind, written, opener.credentials),
    },
  );
}

/** Inode numbers of a task's files begin here, from its own number on. */
const offsets = {
  attributes: 0x100,
  namespaces: 0x110,
  network: 0x200,
  descriptors: 0x10_0000,
  information: 0x20_0000,
};

const entries: readonly Entry[] = [
  {
    name: 'task',
    type: FileType.directory,
    only: 'process',
    make: ({ fileSystem, thread, ino, owner }) => new TaskDirectory(fileSystem, ino, owner, thread),
  },
  {
    name: 'fd',
    type: FileType.directory,
    make: ({ fileSystem, thread, ino, owner }) =>
      new DescriptorDirectory(fileSystem, ino, owner, thread, ino + offsets.descriptors, true),
  },
  {
    name: 'fdinfo',
    type: FileType.directory,
    make: ({ fileSystem, thread, ino, owner }) =>
      new DescriptorDirectory(fileSystem, ino, owner, thread, ino + offsets.information, false),
  },
  {
    name: 'ns',
    type: FileType.directory,
    make: ({ fileSystem, thread, ino, owner }) =>
      new NamespaceDirectory(fileSystem, ino + offsets.namespaces, owner, thread),
  },
  {
    name: 'net',
    type: FileType.directory,
    make: ({ fileSystem, thread, ino }) =>
      new NetworkDirectory(fileSystem, ino + offsets.network, () =>
        alive(thread) ? thread.network : undefined,
      ),
  },
  text('environ', 0o400, ({ thread }) => environment(thread), { mayOpen: mayReadMemory }),
  text('auxv', 0o400, ({ thread }) => auxiliaryVector(thread), { mayOpen: mayReadMemory }),
  text('status', 0o444, ({ thread, namespace }, reader) => status.statusText(thread, namespace, reader)),
  text(
    'personality',
    0o400,
    ({ thread }) => `${(thread.personality >>> 0).toString(16).padStart(8, '0')}\n`,
    {
      mayOpen: ({ thread }, opener) => (mayFollow(opener, thread) ? 0 : -Errno.EPERM),
    },
  ),
  text('limits', 0o444, ({ thread }) => status.limitsText((resource) => thread.process.limit(resource))),
  text('sched', 0o444, ({ thread, namespace }) => status.schedText(thread, namespace)),
  text('comm', 0o644, ({ thread }) => `${thread.name}\n`, {
    store: ({ thread }, written, writer) => {
      if (writer.process !== thread.process) return -Errno.EINVAL;
      const name = written.slice(0, 15);
      const end = name.indexOf('\0');
      thread.name = end < 0 ? name : name.slice(0, end);
      return 0;
    },
  }),
  text('syscall', 0o400, ({ thread }) => (alive(thread) ? status.syscallText(thread) : ''), {
    mayOpen: ({ thread }, opener) => (mayFollow(opener, thread) ? 0 : -Errno.EPERM),
  }),
  text('cmdline', 0o444, ({ thread }) => commandLine(thread)),
  text('stat', 0o444, ({ thread, whole, namespace }, reader) =>
    status.statText(thread, whole, mayFollow(reader, thread), namespace),
  ),
  text('statm', 0o444, ({ thread }) => status.statmText(thread)),
  text('maps', 0o444, ({ thread }, reader) => mapsText(thread, reader), { mayOpen: mayReadMemory }),
  {
    name: 'mem',
    type: FileType.regular,
    make: ({ fileSystem, thread, ino, owner }) => new MemoryInode(fileSystem, ino, owner, thread),
  },
  link('cwd', (thread) => thread.fs.cwd),
  link('root', (thread) => thread.fs.root),
  {
    name: 'exe',
    type: FileType.symlink,
    make: ({ fileSystem, thread, ino, owner }) =>
      new ProcLink(
        fileSystem,
        ino,
        owner,
        (reader) => {
          if (!mayFollow(reader, thread)) return -Errno.EACCES;
          const file = alive(thread) ? thread.process.executable : undefined;
          return file ? fileText(file, reader) : -Errno.ENOENT;
        },
        (reader) => {
          if (!mayFollow(reader, thread)) return -Errno.EACCES;
          return alive(thread) ? executablePath(thread) : -Errno.ENOENT;
        },
      ),
  },
  mounts('mounts', 0o444, mountsText),
  mounts('mountinfo', 0o444, mountInfoText),
  mounts('mountstats', 0o400, mountStatsText),
  text('smaps', 0o444, ({ thread }, reader) => smapsText(thread, reader), { mayOpen: mayReadMemory }),
  text('smaps_rollup', 0o444, ({ thread }) => smapsRollupText(thread), { mayOpen: mayReadMemory }),
  text('pagemap', 0o400, () => -Errno.EPERM, { mayOpen: () => -Errno.EPERM }),
  {
    name: 'attr',
    type: FileType.directory,
    make: ({ fileSystem, ino, owner }) =>
      new AttributeDirectory(fileSystem, ino + offsets.attributes, 0o555, owner),
  },
  text('wchan', 0o444, () => '0'),
  text('stack', 0o400, () => '', {
    mayOpen: ({ thread }, opener) =>
      opener.credentials.hasIn(thread.kernel.rootUserNamespace, Capability.sysAdmin) ? 0 : -Errno.EACCES,
  }),
  text('schedstat', 0o444, ({ thread }) => status.schedStatText(thread)),
  text('cpuset', 0o444, () => '/\n'),
  text('cgroup', 0o444, () => '0::/\n'),
  text('oom_score', 0o444, ({ thread }) => `${oomScore(thread)}\n`),
  text('oom_adj', 0o644, ({ thread }) => `${oomScoreFromOld.read(thread)}\n`, {
    store: ({ thread }, written, writer) => oomScoreFromOld.write(thread, written, writer),
  }),
  text('oom_score_adj', 0o644, ({ thread }) => `${thread.process.oomScoreAdjust}\n`, {
    store: ({ thread }, written, writer) => changeOomScore(thread, written, writer),
  }),
  // Nobody keeps an audit log here: no login user was ever set, and none can be.
  text('loginuid', 0o644, () => '4294967295', { store: () => -Errno.EPERM }),
  text('sessionid', 0o444, () => '4294967295'),
  text('io', 0o400, ({ thread }, reader) =>
    mayFollow(reader, thread) ? status.ioText(thread.process) : -Errno.EACCES,
  ),
  idMap('uid'),
  idMap('gid'),
  text(
    'setgroups',
    0o644,
    ({ thread }) => (thread.credentials.userNamespace.setgroupsAllowed ? 'allow\n' : 'deny\n'),
    {
      store: ({ thread }, written, _writer, opener) => {
        const namespace = thread.credentials.userNamespace;
        return opener.credentials.hasIn(namespace, Capability.sysAdmin)
          ? namespace.writeSetgroups(written)
          : -Errno.EACCES;
      },
    },
  ),
  text(
    'timerslack_ns',
    0o666,
    ({ thread }, reader) => {
      const may = reader === thread || reader.credentials.has(Capability.sysNice);
      return may ? `${thread.timerSlack}\n` : -Errno.EPERM;
    },
    {
      only: 'process',
      store: ({ thread }, written, writer) => {
        if (writer !== thread && !writer.credentials.has(Capability.sysNice)) return -Errno.EPERM;
        const fields = /^\s*(\d+)\s*$/.exec(written);
        if (!fields) return -Errno.EINVAL;
        const value = Number(fields[1]);
        thread.timerSlack = value === 0 ? thread.defaultTimerSlack : value;
        return 0;
      },
    },
  ),
  text(
    'children',
    0o444,
    ({ thread, namespace }) => {
      let list = '';
      for (const child of thread.process.children)
        if (child.parentThread === thread) list += `${child.id.in(namespace)} `;
      return list;
    },
    { only: 'task' },
  ),
];

class MemoryInode extends ProcInode {
  readonly #thread: Thread;

  constructor(fileSystem: ProcFileSystem, ino: number, owner: Owner, thread: Thread) {
    super(fileSystem, ino, FileType.regular | 0o600, owner);
    this.#thread = thread;
  }

  override open(task: Task, path: Path, flags: number) {
    const mm = status.memoryOf(this.#thread);
    if (!mayFollow(task, this.#thread)) return -Errno.EACCES;
    return mm ? new MemoryFile(path, flags, this.#thread, mm) : -Errno.ESRCH;
  }
}

/** /proc/pid or /proc/pid/task/tid. */
export class ProcessDirectory extends ProcDirectory {
  readonly thread: Thread;
  readonly #whole: boolean;
  readonly #names: readonly (readonly [index: number, entry: Entry])[];
  readonly #inner: Owner;

  constructor(fileSystem: ProcFileSystem, ino: number, thread: Thread, whole: boolean) {
    super(fileSystem, ino, 0o555, new TaskOwner(thread, true));
    this.thread = thread;
    this.#whole = whole;
    this.#inner = new TaskOwner(thread, false);
    const without = whole ? 'task' : 'process';
    this.#names = [...entries.entries()].filter(([, entry]) => entry.only !== without);
  }

  override get linkCount(): number {
    return 2 + this.#names.filter(([, entry]) => entry.type === FileType.directory).length;
  }

  override permission(_mask: number, task: Task): number | undefined {
    return this.#whole ? this.fileSystem.mayEnter(task, this.thread) : undefined;
  }

  override lookup(name: string, _task: Task): Inode | number {
    const found = this.#names.find(([, entry]) => entry.name === name);
    if (!found || this.thread.process.reaped) return -Errno.ENOENT;
    const [index, entry] = found;
    const { thread, fileSystem } = this;
    // Of directories that everybody may enter the owner is always shown.
    const open = entry.type === FileType.directory && name !== 'fd' && name !== 'ns';
    return entry.make({
      fileSystem,
      thread,
      namespace: fileSystem.pidNamespace,
      whole: this.#whole,
      ino: this.ino + 1 + index,
      owner: name === 'net' ? rootOwner : open ? this.owner : this.#inner,
    });
  }

  override revalidate(_name: string, inode: Inode | undefined, _task: Task): boolean {
    return inode !== undefined && !this.thread.process.reaped;
  }

  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    for (const [index, { name, type }] of this.#names)
      if (index + 1 > after) yield [index + 1, { name, ino: this.ino + 1 + index, type }];
  }
}

class TaskDirectory extends ProcDirectory {
  readonly #thread: Thread;

  constructor(fileSystem: ProcFileSystem, ino: number, owner: Owner, thread: Thread) {
    super(fileSystem, ino, 0o555, owner);
    this.#thread = thread;
  }

  override get linkCount(): number {
    return 2 + this.#thread.process.tasks.length;
  }

  #find(name: string): Thread | undefined {
    const number = numberOf(name);
    const found = number > 0 ? this.fileSystem.pidNamespace.findTask(number) : undefined;
    return found?.process === this.#thread.process ? found : undefined;
  }

  override lookup(name: string, _task: Task): Inode | number {
    const thread = this.#find(name);
    if (!thread) return -Errno.ENOENT;
    return new ProcessDirectory(this.fileSystem, this.fileSystem.inodeOf(thread, 1), thread, false);
  }

  override revalidate(name: string, inode: Inode | undefined, _task: Task): boolean {
    return inode instanceof ProcessDirectory && this.#find(name) === inode.thread;
  }

  /** Positions are the threads' numbers, so that a pass goes on after one that has ended. */
  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    const { process } = this.#thread;
    const { pidNamespace } = this.fileSystem;
    const threads = process.tasks.includes(process.leader)
      ? process.tasks
      : [process.leader, ...process.tasks];
    const numbered = threads
      .map((thread) => [status.tidIn(thread, pidNamespace), thread] as const)
      .sort(([a], [b]) => a - b);
    for (const [number, thread] of numbered)
      if (number > after)
        yield [
          number,
          { name: String(number), ino: this.fileSystem.inodeOf(thread, 1), type: FileType.directory },
        ];
  }
}
