// The text of a place (d_path, getcwd): from the dentry up to a root, across mounts.

import type { Path } from './contract.ts';
import type { Dentry } from './dentry.ts';
import type { Mount } from './mount.ts';

/** Whether a mount is a tree of the kernel's own, where names stand alone ("/memfd:x"). */
function isNameless(mount: Mount): boolean {
  return mount.namespace === undefined && mount.parent === undefined;
}

/**
 * As seen from `root`. reached: false when the place does not lie below it (then the text begins at the top of whatever
 * tree it is in).
 */
export function pathText(path: Path, root: Path): { readonly text: string; readonly reached: boolean } {
  let mount: Mount = path.mount;
  let dentry: Dentry = path.dentry;
  let text = '';
  for (;;) {
    if (dentry === root.dentry && mount === root.mount)
      return { text: text === '' ? '/' : text, reached: true };
    if (dentry === mount.root || dentry.parent === undefined) {
      if (dentry === mount.root && mount.parent && mount.mountPoint) {
        dentry = mount.mountPoint;
        mount = mount.parent;
        continue;
      }
      return { text: text === '' ? '/' : text, reached: false };
    }
    text = `/${dentry.name}${text}`;
    dentry = dentry.parent;
  }
}

/** d_path: as /proc/self/fd/N, maps and exe show it; " (deleted)" after a name that is gone. */
export function describePath(path: Path, root: Path): string {
  const { dentry, mount } = path;
  if (isNameless(mount) && dentry.unhashed) return `/${dentry.name} (deleted)`;
  const { text } = pathText(path, root);
  return dentry.unhashed && !dentry.isRoot ? `${text} (deleted)` : text;
}

/** The text below the mount's own file system, as mountinfo shows roots ("/" for a whole file system). */
export function dentryText(dentry: Dentry): string {
  let text = '';
  for (let at = dentry; at.parent !== undefined; at = at.parent) text = `/${at.name}${text}`;
  if (text === '') return '/';
  return dentry.unhashed ? `${text}//deleted` : text;
}
