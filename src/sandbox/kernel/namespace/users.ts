// Counts who uses namespaces that do not count themselves: tasks and open files under /proc/pid/ns. The last one to go
// releases the namespace.

interface Releasable {
  release?(): void;
}

export class NamespaceUsers {
  readonly #counts = new WeakMap<object, number>();

  hold<T extends object>(namespace: T): T {
    this.#counts.set(namespace, (this.#counts.get(namespace) ?? 0) + 1);
    return namespace;
  }

  drop(namespace: object): void {
    const left = (this.#counts.get(namespace) ?? 0) - 1;
    this.#counts.set(namespace, left);
    if (left === 0) (namespace as Releasable).release?.();
  }
}
