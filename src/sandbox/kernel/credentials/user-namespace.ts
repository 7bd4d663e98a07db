// User namespaces (user_namespaces(7)): a tree of id maps. Ids inside the kernel are those of the root namespace; a
// namespace says what its programs see of them. The maps are written once, through /proc/pid/{uid,gid}_map.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { Credentials, UserNamespace } from '../contract.ts';

/** One line of a map: `count` ids from `inside` on are the kernel's from `outside` on. */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

const maximumDepth = 32;
const maximumRanges = 340;
const idLimit = 0xffff_ffff;

function inward(ranges: readonly IdRange[], id: number): number {
  for (const range of ranges)
    if (id >= range.outside && id < range.outside + range.count) return range.inside + (id - range.outside);
  return -1;
}

function outward(ranges: readonly IdRange[], id: number): number {
  for (const range of ranges)
    if (id >= range.inside && id < range.inside + range.count) return range.outside + (id - range.inside);
  return -1;
}

export class MappedUserNamespace implements UserNamespace {
  readonly parent: MappedUserNamespace | undefined;
  readonly level: number;
  /** Who made it, in kernel ids: has all capabilities in it from the parent namespace. */
  readonly owner: number;
  readonly ownerGroup: number;
  uidMap: readonly IdRange[] = [];
  gidMap: readonly IdRange[] = [];
  /** /proc/pid/setgroups: "deny" once it is written, or inherited so. */
  setgroupsAllowed: boolean;
  /** Whether the creator had CAP_SETFCAP in the parent (a map of the parent's uid 0 needs it). */
  readonly #creatorHadSetfcap: boolean;

  private constructor(
    parent: MappedUserNamespace | undefined,
    owner: number,
    ownerGroup: number,
    creatorHadSetfcap: boolean,
  ) {
    this.parent = parent;
    this.level = parent ? parent.level + 1 : 0;
    this.owner = owner;
    this.ownerGroup = ownerGroup;
    this.setgroupsAllowed = parent?.setgroupsAllowed ?? true;
    this.#creatorHadSetfcap = creatorHadSetfcap;
  }

  /** The sandbox's own: every id is itself. */
  static root(): MappedUserNamespace {
    const root = new MappedUserNamespace(undefined, 0, 0, true);
    root.uidMap = [{ inside: 0, outside: 0, count: idLimit }];
    root.gidMap = root.uidMap;
    return root;
  }

  /** For CLONE_NEWUSER, by someone with these credentials: -ENOSPC when nested too deeply, -EPERM for unmapped ids. */
  static child(creator: Credentials): MappedUserNamespace | number {
    const parent = creator.userNamespace as MappedUserNamespace;
    if (parent.level >= maximumDepth) return -Errno.ENOSPC;
    if (parent.fromKernelUid(creator.euid) < 0 || parent.fromKernelGid(creator.egid) < 0) return -Errno.EPERM;
    return new MappedUserNamespace(parent, creator.euid, creator.egid, creator.has(Capability.setfcap));
  }

  toKernelUid(uid: number): number {
    return outward(this.uidMap, uid);
  }
  fromKernelUid(uid: number): number {
    return inward(this.uidMap, uid);
  }
  toKernelGid(gid: number): number {
    return outward(this.gidMap, gid);
  }
  fromKernelGid(gid: number): number {
    return inward(this.gidMap, gid);
  }

  /** Whether this is `ancestor` or lies below it. */
  within(ancestor: UserNamespace): boolean {
    for (let at: MappedUserNamespace | undefined = this; at; at = at.parent) if (at === ancestor) return true;
    return false;
  }

  /** setgroups(2) is allowed: a gid map is written and "deny" was not. */
  get maySetgroups(): boolean {
    return this.setgroupsAllowed && this.gidMap.length > 0;
  }

  /** A write to /proc/pid/setgroups: 0, -EPERM or -EINVAL. */
  writeSetgroups(text: string): number {
    const word = text.replace(/[\n\t\v\f\r ]+$/, '');
    if (word === 'allow') return this.setgroupsAllowed ? 0 : -Errno.EPERM;
    if (word !== 'deny') return -Errno.EINVAL;
    if (this.gidMap.length > 0) return -Errno.EPERM;
    this.setgroupsAllowed = false;
    return 0;
  }

  /**
   * A write to /proc/pid/uid_map or gid_map at offset 0 (user_namespaces(7)). `opener` opened the file; 0, or -EPERM,
   * -EINVAL. Ids on the right are those of the parent as the namespace's own programs' parent sees them.
   */
  writeMap(kind: 'uid' | 'gid', text: string, opener: Credentials): number {
    const current = kind === 'uid' ? this.uidMap : this.gidMap;
    const parent = this.parent;
    if (current.length > 0 || !parent) return -Errno.EPERM;
    const ranges: IdRange[] = [];
    for (const line of text.replace(/\n$/, '').split('\n')) {
      const fields = /^[\t ]*(\d+)[\t ]+(\d+)[\t ]+(\d+)[\t ]*$/.exec(line);
      if (!fields) return -Errno.EINVAL;
      const [inside, outside, count] = [Number(fields[1]), Number(fields[2]), Number(fields[3])];
      if (inside >= idLimit || outside >= idLimit || count === 0) return -Errno.EINVAL;
      if (inside + count > idLimit || outside + count > idLimit) return -Errno.EINVAL;
      for (const other of ranges) {
        if (inside < other.inside + other.count && other.inside < inside + count) return -Errno.EINVAL;
        if (outside < other.outside + other.count && other.outside < outside + count) return -Errno.EINVAL;
      }
      ranges.push({ inside, outside, count });
      if (ranges.length > maximumRanges) return -Errno.EINVAL;
    }
    if (!this.#mayMap(kind, ranges, parent, opener)) return -Errno.EPERM;
    const mapped: IdRange[] = [];
    for (const range of ranges) {
      const parentMap = kind === 'uid' ? parent.uidMap : parent.gidMap;
      const first = outward(parentMap, range.outside);
      const last = outward(parentMap, range.outside + range.count - 1);
      if (first < 0 || last - first !== range.count - 1) return -Errno.EPERM;
      mapped.push({ ...range, outside: first });
    }
    if (kind === 'uid') this.uidMap = mapped;
    else this.gidMap = mapped;
    return 0;
  }

  #mayMap(
    kind: 'uid' | 'gid',
    ranges: readonly IdRange[],
    parent: UserNamespace,
    opener: Credentials,
  ): boolean {
    if (!opener.hasIn(this, Capability.sysAdmin)) return false;
    if (kind === 'uid' && ranges.some((range) => range.outside === 0)) {
      // Mapping the parent's root would make file capabilities that count there.
      const may =
        opener.userNamespace === this ? this.#creatorHadSetfcap : opener.hasIn(parent, Capability.setfcap);
      if (!may) return false;
    }
    const only = ranges[0];
    if (ranges.length === 1 && only?.count === 1) {
      if (kind === 'uid' && opener.euid === this.owner && parent.toKernelUid(only.outside) === opener.euid)
        return true;
      if (kind === 'gid' && opener.euid === this.owner && !this.setgroupsAllowed)
        if (parent.toKernelGid(only.outside) === opener.egid) return true;
    }
    return opener.hasIn(parent, kind === 'uid' ? Capability.setuid : Capability.setgid);
  }

  /** As /proc/pid/uid_map shows it to someone in `reader`. */
  mapText(kind: 'uid' | 'gid', reader: UserNamespace): string {
    const view = reader === this && this.parent ? this.parent : reader;
    const number = (value: number): string => String(value).padStart(10);
    return (kind === 'uid' ? this.uidMap : this.gidMap)
      .map(({ inside, outside, count }) => {
        const seen = kind === 'uid' ? view.fromKernelUid(outside) : view.fromKernelGid(outside);
        return `${number(inside)} ${number(seen < 0 ? idLimit : seen)} ${number(count)}\n`;
      })
      .join('');
  }
}
