// get: one object out of the watch cache, as new as the client asks for.

import { notFound } from '../../api/errors.ts';
import { parseResourceVersion } from '../request/options.ts';
import type { RegistryContext } from './context.ts';
import { waitForRevision } from './list.ts';
import type { Answer, RegistryRequest } from './request.ts';

export function get(context: RegistryContext, request: RegistryRequest): Answer | Promise<Answer> {
  const { definition, namespace, name, query } = request;
  const { objects } = context;
  const version = query.size === 0 ? null : query.get('resourceVersion');
  if (version !== null && version !== '') return getAtLeast(context, request, version);
  const resource = objects.resource(definition);
  if (resource instanceof Promise || objects.cache.waitForStore() !== undefined)
    return getNewest(context, request);
  const object = resource.get(namespace, name);
  if (object === undefined) throw missing(request);
  return { type: 'object', status: 200, object, format: objects.format(definition) };
}

async function getNewest({ objects }: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace, name } = request;
  const object = await objects.newest(definition, namespace, name);
  if (object === undefined) throw missing(request);
  return { type: 'object', status: 200, object, format: objects.format(definition) };
}

/** Not older than the version; 0: whatever the cache has. */
async function getAtLeast(
  context: RegistryContext,
  request: RegistryRequest,
  version: string,
): Promise<Answer> {
  const { definition, namespace, name } = request;
  const { objects } = context;
  const asked = parseResourceVersion(version);
  const resource = await objects.resource(definition);
  if (asked > 0) await waitForRevision(context, asked);
  const object = resource.get(namespace, name);
  if (object === undefined) throw missing(request);
  return { type: 'object', status: 200, object, format: objects.format(definition) };
}

function missing({ definition, name }: RegistryRequest): Error {
  return notFound({ group: definition.group, name: definition.resource }, name);
}
