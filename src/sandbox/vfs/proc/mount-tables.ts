// /proc/pid/mounts, mountinfo and mountstats (proc_pid_mounts(5), proc_pid_mountinfo(5)): the mounts of a process's
// namespace as seen from its root. Programs poll them to learn of changes.

import { MountFlag } from '../../abi/mount.ts';
import { deviceMajor, deviceMinor } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import { Poll, WaitQueue } from '../../kernel/wait-queue.ts';
import type { Mount, MountNamespace, Path } from '../contract.ts';
import { dentryText, pathText } from '../path.ts';
import type { ProcFileSystem } from './file-system.ts';
import { type Owner, ProcText, type Show, type TextOptions } from './inode.ts';
import { TextFile } from './text-file.ts';

/** As seq_path and mangle() write names: octal for what separates fields. */
export function mangle(text: string, special: string): string {
  let result = '';
  for (const char of text)
    result += special.includes(char) ? `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}` : char;
  return result;
}

const separators = ' \t\n\\';

const mountOptions: readonly (readonly [number, string])[] = [
  [MountFlag.noSuid, ',nosuid'],
  [MountFlag.noDevices, ',nodev'],
  [MountFlag.noExec, ',noexec'],
  [MountFlag.noAccessTime, ',noatime'],
  [MountFlag.noDirectoryAccessTime, ',nodiratime'],
  [MountFlag.relativeAccessTime, ',relatime'],
  [MountFlag.noSymlinkFollow, ',nosymfollow'],
];

const superOptions: readonly (readonly [number, string])[] = [
  [MountFlag.synchronous, ',sync'],
  [MountFlag.dirSync, ',dirsync'],
  [MountFlag.mandatoryLock, ',mand'],
  [MountFlag.lazyTime, ',lazytime'],
];

function optionText(flags: number, names: readonly (readonly [number, string])[]): string {
  let text = '';
  for (const [flag, name] of names) if (flags & flag) text += name;
  return text;
}

function own(mount: Mount): string {
  const { options } = mount.fileSystem;
  return options === '' ? '' : `,${options}`;
}

const writability = (flags: number): string => (flags & MountFlag.readOnly ? 'ro' : 'rw');

/** Where it is mounted as seen from `root`; undefined: not below it. */
function place(mount: Mount, root: Path): string | undefined {
  const { text, reached } = pathText({ mount, dentry: mount.root }, root);
  return reached ? mangle(text, separators) : undefined;
}

export function mountsText(namespace: MountNamespace, root: Path): string {
  let text = '';
  for (const mount of namespace.mounts()) {
    const where = place(mount, root);
    if (where === undefined) continue;
    const flags = mount.flags | mount.superBlock.flags;
    text += `${mangle(mount.source || 'none', `${separators}#`)} ${where} ${mount.fileSystem.type} `;
    text += `${writability(flags)}${optionText(mount.superBlock.flags, superOptions)}`;
    text += `${optionText(mount.flags, mountOptions)}${own(mount)} 0 0\n`;
  }
  return text;
}

export function mountInfoText(namespace: MountNamespace, root: Path): string {
  let text = '';
  for (const mount of namespace.mounts()) {
    const where = place(mount, root);
    if (where === undefined) continue;
    const { fileSystem, superBlock } = mount;
    const device = `${deviceMajor(fileSystem.device)}:${deviceMinor(fileSystem.device)}`;
    text += `${mount.id} ${mount.parent?.id ?? mount.id} ${device} `;
    text += `${mangle(dentryText(mount.root), separators)} ${where} `;
    text += `${writability(mount.flags)}${optionText(mount.flags, mountOptions)}`;
    if (mount.shared) text += ` shared:${mount.shared.id}`;
    if (mount.master) text += ` master:${mount.master.id}`;
    if (mount.unbindable) text += ' unbindable';
    text += ` - ${fileSystem.type} ${mangle(mount.source || 'none', `${separators}#`)} `;
    text += `${writability(superBlock.flags)}${optionText(superBlock.flags, superOptions)}${own(mount)}\n`;
  }
  return text;
}

export function mountStatsText(namespace: MountNamespace, root: Path): string {
  let text = '';
  for (const mount of namespace.mounts()) {
    const where = place(mount, root);
    if (where === undefined) continue;
    const device = mount.source ? `device ${mangle(mount.source, `${separators}#`)}` : 'no device';
    text += `${device} mounted on ${where} with fstype ${mount.fileSystem.type}\n`;
  }
  return text;
}

/** mounts and mountinfo: readable as any text; exceptional (EPOLLPRI) when the tree has changed since the last poll. */
export class MountText extends ProcText {
  readonly #showMounts: Show;
  readonly #namespace: (opener: Task) => MountNamespace | number;

  constructor(
    fileSystem: ProcFileSystem,
    ino: number,
    permissions: number,
    owner: Owner,
    namespace: (opener: Task) => MountNamespace | number,
    show: Show,
    options: TextOptions = {},
  ) {
    super(fileSystem, ino, permissions, owner, show, options);
    this.#showMounts = show;
    this.#namespace = namespace;
  }

  override open(task: Task, path: Path, flags: number): TextFile | number {
    const namespace = this.#namespace(task);
    if (typeof namespace === 'number') return namespace;
    return new MountFile(path, flags, task, this.#showMounts, namespace);
  }
}

class MountFile extends TextFile {
  readonly #namespace: MountNamespace;
  readonly #queue = new WaitQueue();
  readonly #unwatch: () => void;
  #seen: number;

  constructor(path: Path, flags: number, opener: Task, show: Show, namespace: MountNamespace) {
    super(path, flags, opener, show, undefined);
    this.#namespace = namespace;
    this.#seen = namespace.generation;
    this.#unwatch = namespace.watch(() => this.#queue.notify(Poll.err | Poll.pri));
  }

  override get queue(): WaitQueue {
    return this.#queue;
  }

  override readiness(events: number): number {
    let ready = Poll.in | Poll.rdnorm;
    if (this.#namespace.generation !== this.#seen) {
      this.#seen = this.#namespace.generation;
      ready |= Poll.err | Poll.pri;
    }
    return ready & (events | Poll.err);
  }

  protected override release(): void {
    this.#unwatch();
  }
}
