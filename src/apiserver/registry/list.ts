// list: from the watch cache at a revision that is new enough for what the client asked, in pages when it wants them.
// Old revisions (the next page of a list that has changed since, or an exact revision) come from the store's history.

import type { ResourceDefinition } from '../../api/definition.ts';
import { badRequest, resourceExpired, StatusError } from '../../api/errors.ts';
import { SelectorError } from '../../api/labels.ts';
import { CompactedError, FutureRevisionError, type KeyValue, type ListResult } from '../../store/store.ts';
import { ObjectFilter } from '../cache/filter.ts';
import type { ResourceCache } from '../cache/resource-cache.ts';
import { StoredObject } from '../cache/stored-object.ts';
import { decodeContinue, encodeContinue } from '../request/continue-token.ts';
import { type ListOptions, listOptions, parseResourceVersion } from '../request/options.ts';
import type { RegistryContext } from './context.ts';
import { storeFailure } from './object-store.ts';
import type { Answer, RegistryRequest } from './request.ts';

export type ListAnswer = Extract<Answer, { type: 'list' }>;

/** What of the list this request is to get. */
interface Page {
  /** The key to begin with. */
  readonly start: string;
  readonly end: string;
  /** 0: no limit. */
  readonly limit: number;
}

export async function list(context: RegistryContext, request: RegistryRequest): Promise<ListAnswer> {
  const { definition, namespace } = request;
  const { objects } = context;
  const options = listOptions(request.query, false);
  const filter = objectFilter(definition, namespace, options);
  const resource = await objects.resource(definition);
  const range = resource.range(filter.namespace);
  const { limit } = options;
  const answer = (found: Found): ListAnswer => ({
    type: 'list',
    objects: found.objects,
    meta: {
      resourceVersion: String(found.revision),
      ...(found.next === undefined
        ? {}
        : {
            continue: encodeContinue({
              revision: found.revision,
              // After the last key: the smallest key that is greater.
              start: `${found.next.slice(resource.form.keyPrefix.length)}\0`,
            }),
          }),
      ...(found.remaining === undefined ? {} : { remainingItemCount: found.remaining }),
    },
    format: objects.format(definition),
  });

  if (options.continue !== '') {
    if (options.resourceVersion !== '' && options.resourceVersion !== '0')
      throw badRequest('specifying resource version is not allowed when using continue');
    const token = decodeContinue(options.continue);
    const page: Page = { start: resource.form.keyPrefix + token.start, end: range.end, limit };
    if (page.start < range.start) throw badRequest('continue key is not valid: it is of another namespace');
    if (token.revision === -1) {
      await waitForNewest(context);
      return answer(fromCache(resource, filter, page, context.objects.cache.revision));
    }
    return answer(await atRevision(context, resource, filter, page, token.revision, true));
  }

  const page: Page = { ...range, limit };
  const asked = parseResourceVersion(options.resourceVersion);
  if (options.resourceVersionMatch === 'Exact')
    return answer(await atRevision(context, resource, filter, page, asked, false));
  if (options.resourceVersion === '') {
    await waitForNewest(context);
  } else if (asked > 0) {
    await waitForRevision(context, asked);
    // Pages of an unmarked revision are those of that very revision, as they always were.
    if (options.resourceVersionMatch === '' && limit > 0)
      return answer(await atRevision(context, resource, filter, page, asked, false));
  }
  return answer(fromCache(resource, filter, page, context.objects.cache.revision));
}

/** The selectors and the namespace of a list or watch. Throws 400 for a field that cannot be selected by. */
export function objectFilter(
  definition: ResourceDefinition,
  namespace: string,
  options: Pick<ListOptions, 'labels' | 'fields'>,
): ObjectFilter {
  try {
    options.fields.check(definition.strategy.selectableFields);
  } catch (error) {
    if (error instanceof SelectorError) throw badRequest(error.message);
    throw error;
  }
  return new ObjectFilter(namespace, options.labels, options.fields);
}

/** As new as anything that anybody was told before this request came. */
export async function waitForNewest({ objects }: RegistryContext): Promise<void> {
  const wait = objects.cache.waitForStore();
  if (wait !== undefined && !(await wait)) throw cacheBehind(objects.store.revision, objects.cache.revision);
}

export async function waitForRevision({ objects }: RegistryContext, revision: number): Promise<void> {
  const wait = objects.cache.waitFor(revision);
  if (wait !== undefined && !(await wait)) throw cacheBehind(revision, objects.cache.revision);
}

export function cacheBehind(asked: number, current: number): StatusError {
  const message = 'Too large resource version';
  return new StatusError({
    code: 504,
    reason: 'Timeout',
    message: `Timeout: ${message}: ${asked}, current: ${current}`,
    details: { causes: [{ reason: 'ResourceVersionTooLarge', message }], retryAfterSeconds: 1 },
  });
}

interface Found {
  readonly objects: readonly StoredObject[];
  readonly revision: number;
  /** The last key given, when there are more. */
  readonly next?: string | undefined;
  readonly remaining?: number | undefined;
}

function fromCache(resource: ResourceCache, filter: ObjectFilter, page: Page, revision: number): Found {
  const { start, end, limit } = page;
  if (filter.name !== undefined && (filter.namespace !== '' || !resource.form.namespaced)) {
    const object = resource.get(filter.namespace, filter.name);
    const found = object !== undefined && object.key >= start && filter.matches(object);
    return { objects: found ? [object] : [], revision };
  }
  if (filter.open && limit === 0 && start === resource.range(filter.namespace).start)
    return { objects: resource.all(filter.namespace), revision };
  const objects: StoredObject[] = [];
  let next: string | undefined;
  resource.scan(start, end, (object) => {
    if (!filter.open && !filter.matchesSelectors(object)) return true;
    if (limit > 0 && objects.length === limit) {
      next = objects.at(-1)!.key;
      return false;
    }
    objects.push(object);
    return true;
  });
  // How many match is not known without looking at all of them, so it is told for open lists only.
  const remaining =
    next !== undefined && filter.open ? resource.count(start, end) - objects.length : undefined;
  return { objects, revision, next, remaining };
}

/** The state at exactly this revision. */
async function atRevision(
  context: RegistryContext,
  resource: ResourceCache,
  filter: ObjectFilter,
  page: Page,
  revision: number,
  continued: boolean,
): Promise<Found> {
  const { cache, store } = context.objects;
  if (revision > store.revision) await waitForRevision(context, revision);
  await waitForNewest(context);
  // Nothing of this resource has changed since: what is there now is what was there then.
  if (resource.lastChange <= revision && revision <= cache.revision && resource.loadedBefore(revision))
    return fromCache(resource, filter, page, revision);
  const objects: StoredObject[] = [];
  let { start } = page;
  for (;;) {
    const result = await history(context, resource, { ...page, start }, revision, continued);
    for (const [i, item] of result.items.entries()) {
      const object =
        resource.getByKeyAt(item.key, item.modRevision) ??
        new StoredObject(resource.form, item.key, item.value, item.modRevision);
      if (!filter.matches(object)) continue;
      objects.push(object);
      if (page.limit === 0 || objects.length < page.limit) continue;
      const left = result.count - i - 1;
      if (left === 0) return { objects, revision };
      return {
        objects,
        revision,
        next: item.key,
        remaining: filter.open && start === page.start ? left : undefined,
      };
    }
    if (!result.more) return { objects, revision };
    start = `${result.items.at(-1)!.key}\0`;
  }
}

async function history(
  context: RegistryContext,
  resource: ResourceCache,
  page: Page,
  revision: number,
  continued: boolean,
): Promise<Omit<ListResult, 'items'> & { readonly items: readonly KeyValue[] }> {
  try {
    return await context.objects.store.list(
      { start: page.start, end: page.end },
      { revision, limit: page.limit },
    );
  } catch (error) {
    if (error instanceof FutureRevisionError) throw cacheBehind(revision, error.revision);
    if (!(error instanceof CompactedError)) throw storeFailure(error);
    if (!continued) throw resourceExpired('The resourceVersion for the provided list is too old.');
    const expired = resourceExpired(INCONSISTENT_CONTINUE);
    const { metadata: _metadata, status: _status, ...status } = expired.status;
    const start = page.start.slice(resource.form.keyPrefix.length);
    throw withListMeta(status, encodeContinue({ revision: -1, start }));
  }
}

/** A client may go on with another token, which gives the rest as it is now. */
function withListMeta(
  status: ConstructorParameters<typeof StatusError>[0],
  continueToken: string,
): StatusError {
  const error = new StatusError(status);
  error.status.metadata = { continue: continueToken };
  return error;
}

const INCONSISTENT_CONTINUE =
  'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.';
