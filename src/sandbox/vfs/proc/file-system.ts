// proc: the file system of /proc (proc(5)), for one PID namespace. Processes come and go without the file system being
// told, so that nothing about them is kept: names are looked up when they are used, texts made when they are read.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { SuperMagic } from '../../abi/file.ts';
import { FileType } from '../../abi/open.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import { SystemIdentity } from '../../kernel/system-identity.ts';
import type { PidTable } from '../../kernel/task/pid.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { FileSystem, FileSystemType, StatFs } from '../contract.ts';
import type { Inode } from '../inode.ts';
import {
  type Listed,
  ProcDirectory,
  type ProcInode,
  ProcLink,
  ProcTable,
  ProcText,
  rootOwner,
} from './inode.ts';
import { ProcessDirectory } from './process-directory.ts';
import { mayFollow, numberOf } from './process-files.ts';
import { ProcRegistry } from './registry.ts';
import { type Setting, settingsOf } from './settings.ts';
import * as system from './system.ts';

/** hidepid: 0 off, 1 others' directories cannot be entered, 2 nor seen, 4 only what may be traced is seen. */
interface ProcOptions {
  hidePid: 0 | 1 | 2 | 4;
  /** Who sees everything in spite of hidepid; a kernel id. */
  group: number;
  /** subset=pid: only processes. */
  onlyProcesses: boolean;
}

const hideNames: Readonly<Record<string, ProcOptions['hidePid']>> = {
  '0': 0,
  off: 0,
  '1': 1,
  noaccess: 1,
  '2': 2,
  invisible: 2,
  '4': 4,
  ptraceable: 4,
};

/** PROC_DYNAMIC_FIRST: numbers of files that are always there. */
const firstInode = 4_026_531_840;
/** Numbers that the files of one task take. */
const inodesPerTask = 0x40_0000;
/** Positions in the root's listing: fixed names first, then processes by their number. */
const firstProcess = 256;

export class ProcFileSystem implements FileSystem {
  readonly type = 'proc';
  readonly device: number;
  readonly root: ProcRoot;
  readonly kernel: Kernel;
  readonly pidNamespace: PidTable;
  readonly #options: ProcOptions = { hidePid: 0, group: 0, onlyProcesses: false };
  readonly #inodes = new WeakMap<Thread, number>();
  #lastFixed = firstInode;
  #lastTask = 1;

  constructor(kernel: Kernel, pidNamespace: PidTable) {
    this.kernel = kernel;
    this.device = kernel.anonymousDevice();
    this.pidNamespace = pidNamespace;
    this.root = new ProcRoot(this);
  }

  get onlyProcesses(): boolean {
    return this.#options.onlyProcesses;
  }

  get options(): string {
    const { hidePid, group, onlyProcesses } = this.#options;
    const names = { 0: '', 1: 'noaccess', 2: 'invisible', 4: 'ptraceable' } as const;
    return [
      group === 0 ? '' : `gid=${group}`,
      hidePid === 0 ? '' : `hidepid=${names[hidePid]}`,
      onlyProcesses ? 'subset=pid' : '',
    ]
      .filter((option) => option !== '')
      .join(',');
  }

  /** Options of mount(2): hidepid, gid, subset. 0 or -EINVAL, which leaves everything as it was. */
  reconfigure(task: Task, options: string): number {
    const wanted = { ...this.#options };
    for (const option of options.split(',').filter((word) => word !== '')) {
      const [name = '', value = ''] = option.split('=', 2);
      if (name === 'hidepid') {
        const hide = hideNames[value];
        if (hide === undefined) return -Errno.EINVAL;
        wanted.hidePid = hide;
      } else if (name === 'gid') {
        if (!/^\d+$/.test(value)) return -Errno.EINVAL;
        const gid = task.credentials.userNamespace.toKernelGid(Number(value));
        if (gid < 0) return -Errno.EINVAL;
        wanted.group = gid;
      } else if (name === 'subset') {
        if (value !== 'pid') return -Errno.EINVAL;
        wanted.onlyProcesses = true;
      } else {
        return -Errno.EINVAL;
      }
    }
    Object.assign(this.#options, wanted);
    return 0;
  }

  /** has_pid_permissions: whether the reader may know at least so much of a process. */
  #permits(reader: Task, thread: Thread, least: number): boolean {
    const { hidePid, group } = this.#options;
    const access = (): boolean => mayFollow(reader, thread);
    if (hidePid === 4) return access();
    if (hidePid < least) return true;
    return (group !== 0 && reader.credentials.inGroup(group)) || access();
  }

  /** Entering /proc/pid: undefined where the usual check decides. */
  mayEnter(reader: Task, thread: Thread): number | undefined {
    if (this.#options.hidePid === 0 || this.#permits(reader, thread, 1)) return undefined;
    return this.#options.hidePid === 2 ? -Errno.ENOENT : -Errno.EPERM;
  }

  isVisible(reader: Task, thread: Thread): boolean {
    return this.#permits(reader, thread, 2);
  }

  /** The first of the numbers for a task's files. part: 0 as a process, 1 as a thread. */
  inodeOf(thread: Thread, part: 0 | 1): number {
    let base = this.#inodes.get(thread);
    if (base === undefined) {
      base = this.#lastTask++ * 2 * inodesPerTask;
      this.#inodes.set(thread, base);
    }
    return base + part * inodesPerTask;
  }

  nextInode(): number {
    return this.#lastFixed++;
  }

  statfs(): StatFs {
    return {
      type: SuperMagic.proc,
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

/** A setting below /proc/sys: who may do what says its mode alone, capabilities don't count (test_perm). */
class SettingInode extends ProcText {
  readonly #setting: Setting;

  constructor(fileSystem: ProcFileSystem, setting: Setting) {
    const { write } = setting;
    super(fileSystem, fileSystem.nextInode(), setting.mode, rootOwner, (reader) => setting.read(reader), {
      store: write && ((text, writer) => write(text, writer)),
    });
    this.#setting = setting;
  }

  override permission(mask: number, task: Task): number {
    const { mode } = this.#setting;
    const root = task.kernel.rootUserNamespace;
    const administrator = task.credentials.euid === 0 || task.credentials.hasIn(root, Capability.sysAdmin);
    const bits = administrator ? mode >> 6 : task.credentials.inGroup(0) ? mode >> 3 : mode;
    return (mask & ~bits) === 0 ? 0 : -Errno.EACCES;
  }
}

/** The tree of settings from their paths. */
function settingTree(fileSystem: ProcFileSystem, settings: ReadonlyMap<string, Setting>): ProcTable {
  type Branch = Map<string, Branch | Setting>;
  const root: Branch = new Map();
  for (const [path, setting] of [...settings].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const names = path.split('/');
    const last = names.pop() ?? '';
    let branch = root;
    for (const name of names) {
      const next = branch.get(name);
      if (next instanceof Map) branch = next;
      else {
        const made: Branch = new Map();
        branch.set(name, made);
        branch = made;
      }
    }
    branch.set(last, setting);
  }
  const build = (branch: Branch): ProcTable => {
    const children = new Map<string, ProcInode>();
    for (const [name, child] of branch)
      children.set(name, child instanceof Map ? build(child) : new SettingInode(fileSystem, child));
    return new ProcTable(fileSystem, fileSystem.nextInode(), 0o555, rootOwner, children);
  };
  return build(root);
}

const messageHead =
  '       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n';
const semaphoreHead =
  '       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n';
const memoryHead =
  '       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime' +
  '      ctime                   rss                  swap\n';

/** The names of the root that are always there, in the order in which they are listed. */
function fixedEntries(fileSystem: ProcFileSystem): Map<string, ProcInode> {
  const { kernel } = fileSystem;
  const text = (show: (reader: Task) => string, permissions = 0o444): ProcInode =>
    new ProcText(fileSystem, fileSystem.nextInode(), permissions, rootOwner, show);
  const link = (target: string): ProcInode =>
    new ProcLink(fileSystem, fileSystem.nextInode(), rootOwner, () => target);
  const own = (show: (tgid: number, tid: number) => string): ProcInode =>
    new ProcLink(fileSystem, fileSystem.nextInode(), rootOwner, (reader) => {
      const tgid = (reader as Thread).process.id.in(fileSystem.pidNamespace);
      const tid = (reader as Thread).id.in(fileSystem.pidNamespace);
      return tgid === 0 ? -Errno.ENOENT : show(tgid, tid);
    });
  const table = (children: readonly (readonly [string, ProcInode])[]): ProcInode =>
    new ProcTable(fileSystem, fileSystem.nextInode(), 0o555, rootOwner, new Map(children));
  const registry = kernel.part(ProcRegistry);
  const sysvipc = (name: string, head: string): readonly [string, ProcInode] => [
    name,
    text((reader) => registry.sysvipc.get(name)?.(reader) ?? head),
  ];
  const settings = settingsOf(kernel);
  for (const [path, setting] of registry.settings) settings.set(path, setting);
  return new Map<string, ProcInode>([
    ['cgroups', text(() => '#subsys_name\thierarchy\tnum_cgroups\tenabled\n')],
    ['cmdline', text(() => `${kernel.part(SystemIdentity).commandLine}\n`)],
    ['consoles', text(() => '')],
    ['cpuinfo', text(() => system.processorText(kernel))],
    ['devices', text(() => system.devicesText(kernel))],
    ['diskstats', text(() => '')],
    ['filesystems', text(() => system.fileSystemsText(kernel))],
    ['interrupts', text(() => system.interruptsText(kernel))],
    ['loadavg', text(() => system.loadText(kernel, fileSystem.pidNamespace.last))],
    ['locks', text((reader) => system.locksText(kernel, reader))],
    ['meminfo', text(() => system.memoryText(kernel))],
    ['misc', text(() => '')],
    ['modules', text(() => '')],
    ['mounts', link('self/mounts')],
    ['net', link('self/net')],
    ['partitions', text(() => 'major minor  #blocks  name\n\n')],
    ['self', own((tgid) => String(tgid))],
    ['stat', text(() => system.statText(kernel))],
    ['swaps', text(() => 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n')],
    ['sys', settingTree(fileSystem, settings)],
    [
      'sysvipc',
      table([sysvipc('msg', messageHead), sysvipc('sem', semaphoreHead), sysvipc('shm', memoryHead)]),
    ],
    ['tty', table([['drivers', text(() => system.terminalDriversText(kernel))]])],
    ['thread-self', own((tgid, tid) => `${tgid}/task/${tid}`)],
    ['uptime', text(() => system.uptimeText(kernel))],
    ['version', text(() => system.versionText(kernel))],
    ['vmstat', text(() => system.virtualMemoryText(kernel))],
  ]);
}

class ProcRoot extends ProcDirectory {
  #fixed: Map<string, ProcInode> | undefined;

  constructor(fileSystem: ProcFileSystem) {
    super(fileSystem, 1, 0o555, rootOwner);
  }

  /** Made at the first look, when all parts have registered what they show. */
  get #entries(): Map<string, ProcInode> {
    this.#fixed ??= fixedEntries(this.fileSystem);
    return this.#fixed;
  }

  #named(name: string): ProcInode | undefined {
    if (this.fileSystem.onlyProcesses && name !== 'self' && name !== 'thread-self') return undefined;
    return this.#entries.get(name);
  }

  override get linkCount(): number {
    let count = 0;
    for (const _process of this.fileSystem.pidNamespace.processes()) count++;
    return count + 4;
  }

  /** A number may also be that of a thread that does not lead its process, though it is not listed. */
  #thread(name: string): Thread | undefined {
    const number = numberOf(name);
    if (number <= 0) return undefined;
    const { pidNamespace } = this.fileSystem;
    return pidNamespace.findTask(number) ?? pidNamespace.findProcess(number)?.leader;
  }

  override lookup(name: string, task: Task): Inode | number {
    const fixed = this.#named(name);
    if (fixed) return fixed;
    const thread = this.#thread(name);
    if (!thread) return -Errno.ENOENT;
    if (this.fileSystem.mayEnter(task, thread) === -Errno.ENOENT) return -Errno.ENOENT;
    return new ProcessDirectory(this.fileSystem, this.fileSystem.inodeOf(thread, 0), thread, true);
  }

  override revalidate(name: string, inode: Inode | undefined, _task: Task): boolean {
    if (inode instanceof ProcessDirectory) return this.#thread(name) === inode.thread;
    return inode !== undefined;
  }

  *entries(reader: Task, after: number): Iterable<readonly [number, Listed]> {
    let position = 0;
    for (const [name, inode] of this.#entries) {
      position++;
      if (position > after && this.#named(name))
        yield [position, { name, ino: inode.ino, type: inode.mode & FileType.mask }];
    }
    for (const [number, process] of this.fileSystem.pidNamespace.processes()) {
      if (firstProcess + number <= after || !this.fileSystem.isVisible(reader, process.leader)) continue;
      const ino = this.fileSystem.inodeOf(process.leader, 0);
      yield [firstProcess + number, { name: String(number), ino, type: FileType.directory }];
    }
  }
}

/** For Vfs.registerType: each mount is a proc of the mounting task's PID namespace, with options of its own. */
export const procType: FileSystemType = {
  name: 'proc',
  userMount: true,
  mount(task: Task, _source: string, options: string): FileSystem | number {
    const { process, kernel } = task as Thread;
    const fileSystem = new ProcFileSystem(kernel, process.pidNamespace);
    const result = fileSystem.reconfigure(task, options);
    return result < 0 ? result : fileSystem;
  },
};
