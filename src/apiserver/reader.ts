// The server's own look into its watch cache (see ObjectReader in chain.ts), for authorizers, admission plugins and
// everything else that needs other objects to decide on a request.

import type { ResourceCatalog, ResourceDefinition } from '../api/definition.ts';
import type { KubeObject } from '../api/object.ts';
import type { Logger } from '../component/index.ts';
import type { Change } from './cache/event-ring.ts';
import type { ResourceCache } from './cache/resource-cache.ts';
import type { ObjectReader, ReaderEvent } from './chain.ts';
import type { ObjectStore } from './registry/object-store.ts';

export function objectReader(objects: ObjectStore, catalog: ResourceCatalog, logger: Logger): ObjectReader {
  const definitionOf = (group: string, resource: string): ResourceDefinition => {
    for (const version of catalog.versions(group)) {
      const definition = catalog.byResource(group, version, resource);
      if (definition !== undefined && definition.conversion === undefined) return definition;
    }
    throw new Error(`no resource ${resource} is served in the API group ${JSON.stringify(group)}`);
  };
  const cacheOf = (group: string, resource: string): ResourceCache => {
    const { storage } = definitionOf(group, resource);
    const cache = objects.cache.known(storage.keyPrefix);
    if (cache === undefined)
      throw new Error(`the objects of ${storage.keyPrefix} are not loaded yet; wait for the server's start`);
    return cache;
  };
  return {
    get<T extends KubeObject>(group: string, resource: string, namespace: string, name: string) {
      return cacheOf(group, resource).get(namespace, name)?.object as T | undefined;
    },
    *list<T extends KubeObject>(group: string, resource: string, namespace = '') {
      const cache = cacheOf(group, resource);
      const { start, end } = cache.range(namespace);
      const found: T[] = [];
      cache.scan(start, end, (object) => {
        found.push(object.object as T);
        return true;
      });
      yield* found;
    },
    follow<T extends KubeObject>(group: string, resource: string, handler: (event: ReaderEvent<T>) => void) {
      return cacheOf(group, resource).follow((change) => {
        try {
          handler(readerEvent<T>(change));
        } catch (error) {
          logger.error(
            { component: 'reader', group, resource, err: error },
            'a follower failed on a change; what it knows may be wrong from here on',
          );
        }
      });
    },
    async getFresh<T extends KubeObject>(group: string, resource: string, namespace: string, name: string) {
      const object = await objects.newest(definitionOf(group, resource), namespace, name);
      return object?.object as T | undefined;
    },
  };
}

function readerEvent<T extends KubeObject>({ type, current, previous, gone }: Change): ReaderEvent<T> {
  if (type === 'DELETED') return { type, object: gone!.object as T };
  const old = previous?.object as T | undefined;
  return { type, object: current!.object as T, ...(old === undefined ? {} : { old }) };
}
