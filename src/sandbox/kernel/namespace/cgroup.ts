// Cgroup namespaces: every program of the sandbox is in the root cgroup of what it sees, so that a namespace is nothing
// but an identity (CLONE_NEWCGROUP, /proc/pid/ns/cgroup).

import type { UserNamespace } from '../contract.ts';

export class CgroupNamespace {
  readonly userNamespace: UserNamespace;

  constructor(userNamespace: UserNamespace) {
    this.userNamespace = userNamespace;
  }
}
