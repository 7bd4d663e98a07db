// How mounts and unmounts spread between mounts that share them: peer groups and slaves (mount_namespaces(7),
// Documentation/filesystems/sharedsubtree.rst).

import type { Dentry } from './dentry.ts';
import type { Mount, PeerGroup } from './mount.ts';

export type PropagationType = 'shared' | 'private' | 'slave' | 'unbindable';

/** The ids of peer groups as /proc/self/mountinfo shows them: the lowest free one. */
export class PeerGroups {
  readonly #used = new Set<number>();

  create(first: Mount): PeerGroup {
    let id = 1;
    while (this.#used.has(id)) id++;
    this.#used.add(id);
    const group = { id, members: new Set([first]), slaves: new Set<Mount>() };
    first.shared = group;
    return group;
  }

  /** The mount leaves its group; the slaves of a group without members go to the mount's own master. */
  leave(mount: Mount): void {
    const group = mount.shared;
    if (!group) return;
    mount.shared = undefined;
    group.members.delete(mount);
    if (group.members.size > 0) return;
    this.#used.delete(group.id);
    for (const slave of group.slaves) {
      slave.master = mount.master;
      mount.master?.slaves.add(slave);
    }
    group.slaves.clear();
  }

  leaveMaster(mount: Mount): void {
    mount.master?.slaves.delete(mount);
    mount.master = undefined;
  }

  /** mount(2) with MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE. */
  change(mount: Mount, type: PropagationType): void {
    if (type === 'shared') {
      mount.unbindable = false;
      if (!mount.shared) this.create(mount);
      return;
    }
    const group = mount.shared;
    if (type === 'slave') {
      if (group && group.members.size > 1) {
        this.leave(mount);
        this.leaveMaster(mount);
        mount.master = group;
        group.slaves.add(mount);
      } else {
        this.leave(mount);
      }
    } else {
      this.leave(mount);
      this.leaveMaster(mount);
    }
    mount.unbindable = type === 'unbindable';
  }

  /** A copy belongs where its original does. */
  copy(from: Mount, to: Mount): void {
    if (from.shared) {
      to.shared = from.shared;
      from.shared.members.add(to);
    }
    if (from.master) {
      to.master = from.master;
      from.master.slaves.add(to);
    }
  }

  /** A copy receives from where its original is shared (into a less privileged namespace), or as `copy`. */
  copyAsSlave(from: Mount, to: Mount): void {
    const master = from.shared ?? from.master;
    if (!master) return;
    to.master = master;
    master.slaves.add(to);
  }
}

/** One place to which a change of `mount` spreads, with the group through which it came. */
export interface Target {
  readonly mount: Mount;
  /** The group that the mount belongs to, if it is shared. */
  readonly group: PeerGroup | undefined;
  /** The group that it receives from; undefined for peers of the mount itself. */
  readonly from: PeerGroup | undefined;
}

/** Where mounts on `mount` appear too: its peers, their slaves, the slaves' peers and so on. Masters come first. */
export function propagationTargets(mount: Mount): Target[] {
  const targets: Target[] = [];
  if (!mount.shared) return targets;
  const seen = new Set<Mount>([mount]);
  const groups: { group: PeerGroup; from: PeerGroup | undefined }[] = [
    { group: mount.shared, from: undefined },
  ];
  for (const { group, from } of groups) {
    for (const member of group.members) {
      if (seen.has(member)) continue;
      seen.add(member);
      targets.push({ mount: member, group, from });
    }
    for (const slave of group.slaves) {
      if (seen.has(slave)) continue;
      if (slave.shared) {
        if (!groups.some((known) => known.group === slave.shared))
          groups.push({ group: slave.shared, from: group });
      } else {
        seen.add(slave);
        targets.push({ mount: slave, group: undefined, from: group });
      }
    }
  }
  return targets;
}

/** The mounts at the same place through the other mounts that `mount`'s parent shares with. */
export function propagatedMounts(parent: Mount, mountPoint: Dentry): Mount[] {
  const found: Mount[] = [];
  for (const target of propagationTargets(parent)) {
    const child = mountPoint.mounts?.get(target.mount);
    if (child) found.push(child);
  }
  return found;
}
