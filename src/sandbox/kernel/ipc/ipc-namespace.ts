// An IPC namespace: its System V objects and POSIX message queues. Counted: when the last task has left, everything in it
// is destroyed.

import { IpcLimit } from '../../abi/ipc.ts';
import type { Kernel, UserNamespace } from '../contract.ts';
import type { MessageQueue } from './message-queue.ts';
import { IpcRegistry } from './objects.ts';
import { QueueFileSystem } from './queue-file-system.ts';
import type { SemaphoreSet } from './semaphore-set.ts';
import type { SharedSegment } from './shared-memory.ts';

export class IpcNamespace {
  readonly kernel: Kernel;
  readonly userNamespace: UserNamespace;
  readonly segments = new IpcRegistry<SharedSegment>(IpcLimit.shmSegments);
  readonly semaphores = new IpcRegistry<SemaphoreSet>(IpcLimit.semSets);
  readonly messages = new IpcRegistry<MessageQueue>(IpcLimit.msgQueues);
  /** POSIX message queues: what mq_open names, and what a mount of type mqueue shows. */
  readonly queues: QueueFileSystem;
  #users = 1;

  constructor(kernel: Kernel, userNamespace: UserNamespace) {
    this.kernel = kernel;
    this.userNamespace = userNamespace;
    this.queues = new QueueFileSystem(kernel, userNamespace);
  }

  acquire(): this {
    this.#users++;
    return this;
  }

  release(): void {
    if (--this.#users > 0) return;
    for (const segment of this.segments.objects()) segment.remove(this.segments);
    for (const set of this.semaphores.objects()) set.remove(this.semaphores);
    for (const queue of this.messages.objects()) queue.remove(this.messages);
  }
}
