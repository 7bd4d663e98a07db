// A task's credentials (credentials(7), capabilities(7)): immutable values; whoever changes one makes another with
// `change`. Ids are the kernel's (root user namespace).

import { allCapabilities } from '../../abi/capability.ts';
import type { Credentials, UserNamespace } from '../contract.ts';
import type { MappedUserNamespace } from './user-namespace.ts';

export interface CredentialValues {
  readonly uid: number;
  readonly euid: number;
  readonly suid: number;
  readonly fsuid: number;
  readonly gid: number;
  readonly egid: number;
  readonly sgid: number;
  readonly fsgid: number;
  /** Ascending, for inGroup. */
  readonly groups: readonly number[];
  readonly userNamespace: MappedUserNamespace;
  /** Capability sets: bit n is capability n. */
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly securebits: number;
}

export class TaskCredentials implements Credentials, CredentialValues {
  readonly uid: number;
  readonly euid: number;
  readonly suid: number;
  readonly fsuid: number;
  readonly gid: number;
  readonly egid: number;
  readonly sgid: number;
  readonly fsgid: number;
  readonly groups: readonly number[];
  readonly userNamespace: MappedUserNamespace;
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly securebits: number;
  readonly #effectiveLow: number;
  readonly #effectiveHigh: number;

  constructor(values: CredentialValues) {
    this.uid = values.uid;
    this.euid = values.euid;
    this.suid = values.suid;
    this.fsuid = values.fsuid;
    this.gid = values.gid;
    this.egid = values.egid;
    this.sgid = values.sgid;
    this.fsgid = values.fsgid;
    this.groups = values.groups;
    this.userNamespace = values.userNamespace;
    this.effective = values.effective;
    this.permitted = values.permitted;
    this.inheritable = values.inheritable;
    this.bounding = values.bounding;
    this.ambient = values.ambient;
    this.securebits = values.securebits;
    this.#effectiveLow = Number(values.effective & 0xffff_ffffn);
    this.#effectiveHigh = Number(values.effective >> 32n);
  }

  /** Root with everything, in this namespace. */
  static root(userNamespace: MappedUserNamespace): TaskCredentials {
    return TaskCredentials.of(userNamespace, 0, 0, []);
  }

  /** All user and group ids the same; all capabilities for user 0, none for others. */
  static of(
    userNamespace: MappedUserNamespace,
    uid: number,
    gid: number,
    groups: readonly number[],
  ): TaskCredentials {
    const held = uid === 0 ? allCapabilities : 0n;
    return new TaskCredentials({
      uid,
      euid: uid,
      suid: uid,
      fsuid: uid,
      gid,
      egid: gid,
      sgid: gid,
      fsgid: gid,
      groups: [...groups].sort((a, b) => a - b),
      userNamespace,
      effective: held,
      permitted: held,
      inheritable: 0n,
      bounding: allCapabilities,
      ambient: 0n,
      securebits: 0,
    });
  }

  change(change: Partial<CredentialValues>): TaskCredentials {
    return new TaskCredentials({
      uid: this.uid,
      euid: this.euid,
      suid: this.suid,
      fsuid: this.fsuid,
      gid: this.gid,
      egid: this.egid,
      sgid: this.sgid,
      fsgid: this.fsgid,
      groups: this.groups,
      userNamespace: this.userNamespace,
      effective: this.effective,
      permitted: this.permitted,
      inheritable: this.inheritable,
      bounding: this.bounding,
      ambient: this.ambient,
      securebits: this.securebits,
      ...change,
    });
  }

  has(capability: number): boolean {
    return capability < 32
      ? (this.#effectiveLow & (1 << capability)) !== 0
      : (this.#effectiveHigh & (1 << (capability - 32))) !== 0;
  }

  /** cap_capable(): held in an ancestor it counts below; the owner of a child namespace has all in it. */
  hasIn(namespace: UserNamespace, capability: number): boolean {
    let at: MappedUserNamespace | undefined = namespace as MappedUserNamespace;
    while (at) {
      if (at === this.userNamespace) return this.has(capability);
      if (at.level <= this.userNamespace.level) return false;
      if (at.parent === this.userNamespace && at.owner === this.euid) return true;
      at = at.parent;
    }
    return false;
  }

  inGroup(gid: number): boolean {
    return gid === this.fsgid || this.#supplementary(gid);
  }

  /** egid or a supplementary group (in_egroup_p). */
  inEffectiveGroup(gid: number): boolean {
    return gid === this.egid || this.#supplementary(gid);
  }

  #supplementary(gid: number): boolean {
    const groups = this.groups;
    let low = 0;
    let high = groups.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = groups[middle] ?? 0;
      if (found === gid) return true;
      if (found < gid) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }
}

/** A task's credentials as the class that they always are. */
export function credentialsOf(task: { readonly credentials: Credentials }): TaskCredentials {
  return task.credentials as TaskCredentials;
}
