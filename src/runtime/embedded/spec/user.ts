// Who a container runs as: the user and group that the pod or the image names, looked up in the image's /etc/passwd
// and /etc/group, with the rules of upstream's runtimes.

import { type ContainerSecurity, RuntimeError } from '../../cri.ts';
import type { OciUser } from './oci.ts';

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** The kernel's (uid_t)-1 means "no change" and is nobody's. */
const LARGEST_ID = 2 ** 32 - 2;

function parseId(text: string): number | undefined {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= LARGEST_ID ? id : undefined;
}

/** Lines that are not whole are passed over, as libc does. */
export function parsePasswd(text: string): PasswdEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name = '', , uid = '', gid = ''] = line.trim().split(':');
    const ids = [parseId(uid), parseId(gid)] as const;
    return name === '' || ids[0] === undefined || ids[1] === undefined
      ? []
      : [{ name, uid: ids[0], gid: ids[1] }];
  });
}

export function parseGroup(text: string): GroupEntry[] {
  return text.split('\n').flatMap((line) => {
    const [name = '', , gid = '', members = ''] = line.trim().split(':');
    const id = parseId(gid);
    return name === '' || id === undefined
      ? []
      : [{ name, gid: id, members: members.split(',').filter(Boolean) }];
  });
}

/** user, uid, user:group, uid:gid and so on, as the pod's security context says it; the image's word when it says nothing. */
function wantedUser(security: ContainerSecurity, imageUser: string | undefined): string {
  const user = security.runAsUsername || (security.runAsUser === undefined ? '' : String(security.runAsUser));
  if (user !== '') return security.runAsGroup === undefined ? user : `${user}:${security.runAsGroup}`;
  if (security.runAsGroup !== undefined)
    throw new RuntimeError('InvalidArgument', `the group ${security.runAsGroup} is given without a user`);
  return imageUser ?? '';
}

/** `passwd` and `group`: the image's files, empty when it has none. */
export function resolveUser(
  security: ContainerSecurity,
  imageUser: string | undefined,
  passwd: string,
  group: string,
): OciUser {
  const [userText = '', groupText] = wantedUser(security, imageUser).split(':');
  const users = parsePasswd(passwd);
  const groups = parseGroup(group);
  const numeric = userText === '' ? 0 : parseId(userText);
  if (numeric === undefined && /^\d+$/.test(userText))
    throw new RuntimeError('InvalidArgument', `the user id ${userText} is out of range`);
  const entry = users.find((user) => (numeric === undefined ? user.name === userText : user.uid === numeric));
  const uid = numeric ?? entry?.uid;
  if (uid === undefined)
    throw new RuntimeError(
      'InvalidArgument',
      `unable to find user ${userText}: no matching entries in passwd file of the image`,
    );
  let gid = entry?.gid ?? 0;
  if (groupText) {
    const found = parseId(groupText) ?? groups.find(({ name }) => name === groupText)?.gid;
    if (found === undefined)
      throw new RuntimeError(
        'InvalidArgument',
        `unable to find group ${groupText}: no matching entries in group file of the image`,
      );
    gid = found;
  }
  const name = entry?.name;
  const ofImage =
    name === undefined || security.supplementalGroupsPolicy === 'Strict'
      ? []
      : groups.filter(({ members }) => members.includes(name)).map((g) => g.gid);
  // The primary group is among the supplementary ones too: a permission can then not be got by dropping it.
  const additionalGids = [...new Set([gid, ...ofImage, ...security.supplementalGroups])];
  return { uid, gid, additionalGids };
}
