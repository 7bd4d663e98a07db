// An IPC namespace: its System V objects and POSIX message queues, and its limits. Counted: when the last task has left,
// everything in it is destroyed.

import type { Kernel, UserNamespace } from '../contract.ts';

export class IpcNamespace {
  readonly kernel: Kernel;
  readonly userNamespace: UserNamespace;
  #users = 1;
  readonly #parts: { destroy(): void }[] = [];

  constructor(kernel: Kernel, userNamespace: UserNamespace) {
    this.kernel = kernel;
    this.userNamespace = userNamespace;
  }

  acquire(): this {
    this.#users++;
    return this;
  }

  release(): void {
    if (--this.#users > 0) return;
    for (const part of this.#parts) part.destroy();
  }
}
