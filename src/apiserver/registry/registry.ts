// The one pipeline for all kinds: which function answers which verb of which resource and subresource.

import type { ResourceDefinition } from '../../api/definition.ts';
import { badRequest, notFoundPath, StatusError } from '../../api/errors.ts';
import type { RegistryContext } from './context.ts';
import { create, requireNamespace } from './create.ts';
import { remove, removeCollection } from './delete.ts';
import { get } from './get.ts';
import { list } from './list.ts';
import { bindPod } from './pod-binding.ts';
import { evictPod } from './pod-eviction.ts';
import type { Answer, RegistryRequest } from './request.ts';
import { getScale, patchScale, updateScale } from './scale.ts';
import { isPart } from './subresource-rules.ts';
import { patch, update } from './update.ts';

type Handler = (context: RegistryContext, request: RegistryRequest) => Answer | Promise<Answer>;

const WHOLE: Readonly<Record<string, Handler>> = {
  get,
  list,
  create,
  update,
  patch,
  delete: remove,
  deletecollection: removeCollection,
};

/** Verbs for one object, which its name must say. */
const ONE: ReadonlySet<string> = new Set(['get', 'update', 'patch', 'delete']);

/** Subresources that are a part of the object. */
const PART: Readonly<Record<string, Handler>> = { get, update, patch };

const SCALE: Readonly<Record<string, Handler>> = {
  get: (context, request) => getScale(context, request),
  update: updateScale,
  patch: patchScale,
};

/** Subresources with a kind of their own. */
const SPECIAL: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  'pods/binding': { create: bindPod },
  'pods/eviction': { create: evictPod },
};

/** 405, in the words of upstream's router. */
export function methodNotAllowed(): StatusError {
  return new StatusError({
    code: 405,
    reason: 'MethodNotAllowed',
    message: 'the server does not allow this method on the requested resource',
    details: {},
  });
}

/** Answers everything but watches. Throws or rejects with a StatusError. */
export function dispatch(context: RegistryContext, request: RegistryRequest): Answer | Promise<Answer> {
  const { definition, subresource, verb, namespace, name } = request;
  if (subresource === '' && definition.group === '' && definition.resource === 'bindings')
    return legacyBinding(context, request);
  const handler = handlersOf(definition, subresource)?.[verb];
  if (handler === undefined || !allows(definition, subresource, verb)) throw methodNotAllowed();
  if (name === '' && subresource !== '') throw badRequest('name must be provided');
  if (name === '' && ONE.has(verb)) throw methodNotAllowed();
  if (name !== '' && subresource === '' && verb === 'create') throw methodNotAllowed();
  // Across namespaces there are lists and nothing else.
  if (verb !== 'list' && definition.namespaced && namespace === '')
    throw name === '' ? methodNotAllowed() : notFoundPath();
  return handler(context, request);
}

function handlersOf(
  definition: ResourceDefinition,
  subresource: string,
): Readonly<Record<string, Handler>> | undefined {
  if (subresource === '') return WHOLE;
  if (!definition.subresources.has(subresource)) throw notFoundPath();
  if (subresource === 'scale') return SCALE;
  const special = SPECIAL[`${definition.resource}/${subresource}`];
  if (special !== undefined && definition.group === '') return special;
  return isPart(definition, subresource) ? PART : undefined;
}

export function allows(definition: ResourceDefinition, subresource: string, verb: string): boolean {
  const verbs: readonly string[] =
    subresource === '' ? definition.verbs : (definition.subresources.get(subresource)?.verbs ?? []);
  return verbs.includes(verb);
}

/** POST /api/v1/namespaces/…/bindings, the old way to bind the pod that the body names. */
function legacyBinding(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const pods = context.catalog.byResource('', 'v1', 'pods');
  if (request.verb !== 'create' || pods === undefined) throw methodNotAllowed();
  requireNamespace(pods, request.namespace);
  return bindPod(context, { ...request, definition: pods, subresource: 'binding', name: '' });
}
