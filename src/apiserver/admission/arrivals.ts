// Waiting for an object that is about to come (a namespace's default service account): by its event, not by asking
// again, and not longer than a deadline.

import type { KubeObject } from '../../api/index.ts';
import type { Clock } from '../../component/index.ts';
import type { ObjectReader } from '../chain.ts';

type Waiter = (object: KubeObject) => void;

export class Arrivals implements Disposable {
  readonly #waiters = new Map<string, Set<Waiter>>();
  readonly #clock: Clock;
  readonly #reader: ObjectReader;
  readonly #group: string;
  readonly #resource: string;
  #stop: (() => void) | undefined;

  constructor(reader: ObjectReader, group: string, resource: string, clock: Clock) {
    this.#reader = reader;
    this.#group = group;
    this.#resource = resource;
    this.#clock = clock;
  }

  /** Resolves with the object as soon as it is there; undefined when it has not come in time. */
  wait<T extends KubeObject>(namespace: string, name: string, deadlineMs: number): Promise<T | undefined> {
    return new Promise((resolve) => {
      const key = `${namespace}/${name}`;
      const waiters = this.#waiters.get(key) ?? new Set<Waiter>();
      this.#waiters.set(key, waiters);
      const leave = (): void => {
        waiters.delete(arrived);
        if (waiters.size === 0) this.#waiters.delete(key);
      };
      const arrived: Waiter = (object) => {
        timer.cancel();
        leave();
        resolve(object as T);
      };
      const timer = this.#clock.setTimer(
        deadlineMs,
        () => {
          leave();
          resolve(undefined);
        },
        { unref: true },
      );
      waiters.add(arrived);
      // Following replays what is there, so that nothing that came meanwhile is missed.
      if (this.#stop) {
        const there = this.#reader.get(this.#group, this.#resource, namespace, name);
        if (there) arrived(there);
      } else {
        this.#stop = this.#reader.follow(this.#group, this.#resource, (event) => {
          if (event.type === 'DELETED' || this.#waiters.size === 0) return;
          const { metadata } = event.object;
          const found = this.#waiters.get(`${metadata.namespace ?? ''}/${metadata.name}`);
          for (const waiter of [...(found ?? [])]) waiter(event.object);
        });
      }
    });
  }

  [Symbol.dispose](): void {
    this.#stop?.();
    this.#stop = undefined;
  }
}
