// cgroup and cgroup2: a container sees its own cgroup as the root, and nothing below it. Making cgroups in it is refused
// as where cgroup.max.descendants is 0.

import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../kernel/contract.ts';
import type { Container } from '../../kernel/task/container.ts';
import type { Thread } from '../../kernel/task/thread.ts';
import type { FileSystem, FileSystemType } from '../contract.ts';
import { TreeFileSystem, type TreeKind } from '../kernfs/tree.ts';
import { hierarchy, oldControllers, unifiedFiles } from './files.ts';

const CGROUP_SUPER_MAGIC = 0x27e0eb;
const CGROUP2_SUPER_MAGIC = 0x63677270;

const kind = (type: string, magic: number): TreeKind => ({
  type,
  magic,
  textSize: 0,
  rootPermissions: 0o555,
  openReadOnly: 0,
  makeDirectory: -Errno.EAGAIN,
});

/** Who mounts it decides whose cgroup it shows. */
const containerOf = (task: Task): Container => (task as Thread).process.container;

const unifiedOptions = new Set([
  ...['nsdelegate', 'favordynmods', 'nofavordynmods', 'memory_localevents', 'memory_recursiveprot'],
  ...['memory_hugetlb_accounting', 'pids_localevents'],
]);

/** For Vfs.registerType. */
export const unifiedCgroupType: FileSystemType = {
  name: 'cgroup2',
  userMount: true,
  mount(task, _source, options): FileSystem | number {
    for (const option of options.split(','))
      if (option !== '' && !unifiedOptions.has(option)) return -Errno.EINVAL;
    const files = new Map(Object.entries(unifiedFiles(containerOf(task))));
    return new TreeFileSystem(task.kernel, kind('cgroup2', CGROUP2_SUPER_MAGIC), files, options);
  },
};

/**
 * The controllers that the options of a mount name ("cpu,cpuacct"; "all" or nothing: every one; "none,name=systemd": a
 * hierarchy without); -EINVAL as cgroup1_parse_param and check_cgroupfs_options give it.
 */
export function parseHierarchy(
  options: string,
): { readonly controllers: readonly string[]; readonly shown: string } | number {
  const chosen = new Set<string>();
  let all = false;
  let none = false;
  let name: string | undefined;
  const flags: string[] = [];
  for (const option of options.split(',')) {
    if (option === '') continue;
    if (option === 'all') all = true;
    else if (option === 'none') none = true;
    else if (['noprefix', 'clone_children', 'cpuset_v2_mode', 'xattr', 'favordynmods'].includes(option))
      flags.push(option);
    else if (option.startsWith('name=')) {
      if (name !== undefined || !/^name=[\w.-]{1,63}$/.test(option)) return -Errno.EINVAL;
      name = option;
    } else if ((oldControllers as readonly string[]).includes(option)) chosen.add(option);
    else return -Errno.EINVAL;
  }
  if ((all && chosen.size > 0) || (none && (all || chosen.size > 0))) return -Errno.EINVAL;
  if (!none && chosen.size === 0 && (all || name === undefined))
    for (const each of oldControllers) chosen.add(each);
  if (chosen.size === 0 && name === undefined) return -Errno.EINVAL;
  // Names without a prefix are for cpuset alone, which was there before.
  if (flags.includes('noprefix') && (chosen.size !== 1 || !chosen.has('cpuset'))) return -Errno.EINVAL;
  const controllers = oldControllers.filter((each) => chosen.has(each));
  return { controllers, shown: [...controllers, ...flags, ...(name === undefined ? [] : [name])].join(',') };
}

/** For Vfs.registerType. */
export const cgroupType: FileSystemType = {
  name: 'cgroup',
  userMount: true,
  mount(task, _source, options): FileSystem | number {
    const parsed = parseHierarchy(options);
    if (typeof parsed === 'number') return parsed;
    const { controllers, shown } = parsed;
    const named = Object.entries(hierarchy(containerOf(task), controllers)).map(
      ([name, entry]) => [shown.includes('noprefix') ? name.replace(/^cpuset\./, '') : name, entry] as const,
    );
    return new TreeFileSystem(task.kernel, kind('cgroup', CGROUP_SUPER_MAGIC), new Map(named), shown);
  },
};
