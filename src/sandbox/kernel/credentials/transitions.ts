// How credentials become others: the capability rules of user-id changes (capabilities(7), cap_emulate_setxuid), of new
// user namespaces, and of execve (cap_bprm_creds_from_file).

import { allCapabilities, Capability, type FileCapabilities, SecureBit } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { TaskCredentials } from './credentials.ts';
import { MappedUserNamespace } from './user-namespace.ts';

/** bits of the capabilities that only count for file access, which setfsuid drops and raises. */
const fileSystemCapabilities = [
  Capability.chown,
  Capability.mknod,
  Capability.dacOverride,
  Capability.dacReadSearch,
  Capability.fowner,
  Capability.fsetid,
  Capability.linuxImmutable,
  Capability.macOverride,
].reduce((set, capability) => set | (1n << BigInt(capability)), 0n);

/** CLONE_NEWUSER: everything in a new namespace that this one owns; or a negative errno. */
export function credentialsForNewNamespace(creator: TaskCredentials): TaskCredentials | number {
  const namespace = MappedUserNamespace.child(creator);
  return typeof namespace === 'number' ? namespace : enterUserNamespace(creator, namespace);
}

/** set_cred_user_ns: all capabilities in it, nothing inheritable. */
export function enterUserNamespace(
  credentials: TaskCredentials,
  namespace: MappedUserNamespace,
): TaskCredentials {
  return credentials.change({
    userNamespace: namespace,
    permitted: allCapabilities,
    effective: allCapabilities,
    inheritable: 0n,
    bounding: allCapabilities,
    ambient: 0n,
    securebits: 0,
  });
}

/** Real, effective and saved user id have changed: capabilities follow user 0, unless SECBIT_NO_SETUID_FIXUP. */
export function fixCapabilitiesAfterSetuid(from: TaskCredentials, to: TaskCredentials): TaskCredentials {
  if (to.securebits & SecureBit.noSetuidFixup) return to;
  const root = from.userNamespace.toKernelUid(0);
  let { permitted, effective, ambient } = to;
  const hadRoot = from.uid === root || from.euid === root || from.suid === root;
  const hasRoot = to.uid === root || to.euid === root || to.suid === root;
  if (hadRoot && !hasRoot) {
    if (!(to.securebits & SecureBit.keepCaps)) {
      permitted = 0n;
      effective = 0n;
    }
    // Pre-ambient programs expect that nothing is left after this.
    ambient = 0n;
  }
  if (from.euid === root && to.euid !== root) effective = 0n;
  if (from.euid !== root && to.euid === root) effective = permitted;
  return to.change({ permitted, effective, ambient });
}

/** setfsuid(2): the capabilities for files follow. */
export function fixCapabilitiesAfterSetfsuid(from: TaskCredentials, to: TaskCredentials): TaskCredentials {
  if (to.securebits & SecureBit.noSetuidFixup) return to;
  const root = from.userNamespace.toKernelUid(0);
  if (from.fsuid === root && to.fsuid !== root)
    return to.change({ effective: to.effective & ~fileSystemCapabilities });
  if (from.fsuid !== root && to.fsuid === root)
    return to.change({ effective: to.effective | (to.permitted & fileSystemCapabilities) });
  return to;
}

/** What execve knows of the file whose credentials count. */
export interface ExecutedFile {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** security.capability; undefined: none. */
  readonly capabilities: FileCapabilities | undefined;
  /** mnt_may_suid: neither a nosuid mount nor one of another user or mount namespace. */
  readonly mayGivePrivileges: boolean;
}

/** What speaks against giving privileges (LSM_UNSAFE_*). */
export interface ExecCircumstances {
  readonly noNewPrivileges: boolean;
  /** fs_struct is shared with a task outside of the thread group. */
  readonly sharedFs: boolean;
  /** There is a tracer without CAP_SYS_PTRACE. */
  readonly weakTracer: boolean;
}

export interface ExecTransition {
  readonly credentials: TaskCredentials;
  /** AT_SECURE. */
  readonly secure: boolean;
  /** PER_CLEAR_ON_SETID applies. */
  readonly clearsPersonality: boolean;
}

/** The credentials after execve (bprm_fill_uid, cap_bprm_creds_from_file), or -EPERM. */
export function credentialsAfterExec(
  old: TaskCredentials,
  file: ExecutedFile,
  circumstances: ExecCircumstances,
): ExecTransition | number {
  const namespace = old.userNamespace;
  let { euid, egid } = old;
  let clearsPersonality = false;
  const mapped = namespace.fromKernelUid(file.uid) >= 0 && namespace.fromKernelGid(file.gid) >= 0;
  if (file.mayGivePrivileges && !circumstances.noNewPrivileges && mapped) {
    if (file.mode & 0o4000) euid = file.uid;
    // Without group execution the bit means mandatory locking.
    if ((file.mode & 0o2010) === 0o2010) egid = file.gid;
    clearsPersonality = (file.mode & 0o4000) !== 0 || (file.mode & 0o2010) === 0o2010;
  }
  const root = namespace.toKernelUid(0);
  let permitted = 0n;
  let fileEffective = false;
  let hasFileCapabilities = false;
  const capabilities = file.mayGivePrivileges ? file.capabilities : undefined;
  if (capabilities && fileCapabilitiesCount(capabilities, namespace)) {
    hasFileCapabilities = true;
    permitted = (capabilities.permitted & old.bounding) | (capabilities.inheritable & old.inheritable);
    fileEffective = capabilities.effective;
    // A program that knows nothing of capabilities would run with half of what it needs.
    if (fileEffective && (capabilities.permitted & ~permitted) !== 0n) return -Errno.EPERM;
  }
  const isRoot = old.uid === root;
  if (
    !(old.securebits & SecureBit.noRoot) &&
    root >= 0 &&
    !(hasFileCapabilities && !isRoot && euid === root)
  ) {
    if (euid === root || isRoot) permitted = old.bounding | old.inheritable;
    if (euid === root) fileEffective = true;
  }
  const gained = (permitted & ~old.permitted) !== 0n;
  clearsPersonality ||= gained;
  const setId = euid !== old.uid || egid !== old.gid;
  const idsChange = euid !== old.euid || !old.inGroup(egid);
  const unsafe = circumstances.noNewPrivileges || circumstances.sharedFs || circumstances.weakTracer;
  if ((idsChange || gained) && unsafe) {
    if (!old.has(Capability.setuid) || circumstances.noNewPrivileges) {
      euid = old.uid;
      egid = old.gid;
    }
    permitted &= old.permitted;
  }
  const ambient = hasFileCapabilities || setId ? 0n : old.ambient;
  permitted |= ambient;
  const credentials = old.change({
    euid,
    suid: euid,
    fsuid: euid,
    egid,
    sgid: egid,
    fsgid: egid,
    permitted,
    effective: fileEffective ? permitted : ambient,
    ambient,
    securebits: old.securebits & ~SecureBit.keepCaps,
  });
  const secure = setId || (!isRoot && (fileEffective || (permitted & ~ambient) !== 0n));
  return { credentials, secure, clearsPersonality };
}

/** Revision 3 capabilities count below the namespace of their root; others for the namespace that mounted the file. */
function fileCapabilitiesCount(capabilities: FileCapabilities, namespace: MappedUserNamespace): boolean {
  if (capabilities.rootUid === 0) return true;
  for (let at: MappedUserNamespace | undefined = namespace; at; at = at.parent)
    if (at.toKernelUid(0) === capabilities.rootUid) return true;
  return false;
}
