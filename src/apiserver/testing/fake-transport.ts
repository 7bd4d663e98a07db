// A Transport that writes into FakeObjects: enough of a server for the links that write objects of their own. A test
// may hold calls up or make them fail by name.

import type { ApiCall, Transport } from '../../api/index.ts';
import { alreadyExists, conflict, type KubeObject, notFound, OPTIMISTIC_LOCK } from '../../api/index.ts';
import type { FakeObjects, Loose } from './fake-objects.ts';

export class FakeTransport implements Transport {
  readonly calls: ApiCall[] = [];
  readonly #objects: FakeObjects;
  #revision = 1;
  /** Called before each write; may throw to make it fail. */
  before: (call: ApiCall) => void | Promise<void> = () => {};

  constructor(objects: FakeObjects) {
    this.#objects = objects;
  }

  async call(call: ApiCall): Promise<unknown> {
    this.calls.push(call);
    await this.before(call);
    const { group, resource } = call.resource;
    const body = call.body as Loose | undefined;
    const name = call.name ?? body?.metadata.name ?? '';
    const namespace = call.namespace ?? '';
    const existing = this.#objects.get<KubeObject>(group, resource, namespace, name);
    const what = { group, name: resource };
    const store = (object: object): KubeObject =>
      this.#objects.put(group, resource, {
        ...object,
        metadata: {
          ...(existing && { uid: existing.metadata.uid }),
          ...(object as Loose).metadata,
          ...(namespace && { namespace }),
          resourceVersion: String(++this.#revision),
        },
      });
    switch (call.verb) {
      case 'get':
        if (!existing) throw notFound(what, name);
        return existing;
      case 'create':
        if (existing) throw alreadyExists(what, name);
        return store(body ?? {});
      case 'update':
        if (!existing) throw notFound(what, name);
        if (body?.metadata['resourceVersion'] !== existing.metadata.resourceVersion)
          throw conflict(what, name, OPTIMISTIC_LOCK);
        return store(call.subresource === 'status' ? { ...existing, status: body['status'] } : (body ?? {}));
      case 'delete':
        if (!existing) throw notFound(what, name);
        this.#objects.remove(group, resource, namespace, name);
        return existing;
      default:
        throw new Error(`FakeTransport does not know the verb ${call.verb}`);
    }
  }

  watch(): Promise<never> {
    return Promise.reject(new Error('FakeTransport does not watch'));
  }

  raw(): Promise<never> {
    return Promise.reject(new Error('FakeTransport knows resources only'));
  }
}
