// A network namespace without a network: every family is unknown. For sandboxes whose configuration gives them none.

import { Errno } from '../abi/errno.ts';
import type { UserNamespace } from '../kernel/contract.ts';
import type { NetworkInterface, NetworkNamespace } from './contract.ts';

export class EmptyNetwork implements NetworkNamespace {
  readonly userNamespace: UserNamespace;
  readonly interfaces: readonly NetworkInterface[] = [];

  constructor(userNamespace: UserNamespace) {
    this.userNamespace = userNamespace;
  }

  createSocket(): number {
    return -Errno.EAFNOSUPPORT;
  }
}
