// watch: where in the history a watcher starts, and how its end comes about. What its events look like and where they
// go is the sink's business.

import { badRequest, resourceExpired, type StatusError } from '../../api/errors.ts';
import { FieldMatcher } from '../../api/fields.ts';
import type { ResourceCache } from '../cache/resource-cache.ts';
import type { Subscription, SubscriptionStart, WatchSink } from '../cache/subscription.ts';
import { type ListOptions, listOptions, parseResourceVersion } from '../request/options.ts';
import type { RegistryContext } from './context.ts';
import { objectFilter, waitForNewest, waitForRevision } from './list.ts';
import type { RegistryRequest } from './request.ts';

/** What a sink needs to know before the first event. */
export interface WatchSettings {
  readonly allowBookmarks: boolean;
  readonly timeoutMs: number;
}

export interface WatchHandle {
  /** To be called when the sink takes events (again). */
  resume(): void;
  /** Tells the client how far it is, where it can be told. */
  bookmark(): void;
  /** Nothing more is told. */
  stop(): void;
}

/** A watch that the server ends by itself does so after this, times one to two, in ms. */
const LEAST_TIMEOUT_MS = 30 * 60_000;

/**
 * Opens a watch. `openSink` is called once the request is known to be good; nothing reaches the sink before `resume`.
 * A revision that is no longer known is told through the sink (close with 410), as upstream does for watches.
 */
export async function watch(
  context: RegistryContext,
  request: RegistryRequest,
  openSink: (settings: WatchSettings) => WatchSink,
): Promise<WatchHandle> {
  const { definition, namespace, name } = request;
  const options = listOptions(request.query, true);
  const filter = objectFilter(definition, namespace, name === '' ? options : withName(options, name));
  const { objects } = context;
  const resource = await objects.resource(definition);
  const { initial, from } = await whereToStart(context, options);
  const sink = openSink({
    allowBookmarks: options.allowWatchBookmarks,
    timeoutMs:
      options.timeoutSeconds !== undefined && options.timeoutSeconds > 0
        ? options.timeoutSeconds * 1000
        : LEAST_TIMEOUT_MS * (1 + context.random()),
  });
  // From here on without a pause: what is read as the state and where changes begin must be the same moment.
  const revision = from === 0 ? objects.cache.revision : from;
  const start: SubscriptionStart = initial
    ? {
        initial: resource.snapshot(filter).values(),
        revision,
        initialBookmark: options.sendInitialEvents === true,
      }
    : { revision, initialBookmark: false };
  const subscription = resource.watch(filter, sink, start);
  if (subscription === undefined) return refused(sink, tooOld(start.revision, resource));
  return handle(context, subscription);
}

function handle({ objects }: RegistryContext, subscription: Subscription): WatchHandle {
  return {
    resume: () => subscription.resume(),
    bookmark: () => subscription.bookmark(objects.cache.revision),
    stop: () => subscription.stop(),
  };
}

function refused(sink: WatchSink, error: StatusError): WatchHandle {
  return { resume: () => sink.close(error), bookmark: () => {}, stop: () => {} };
}

function tooOld(revision: number, resource: ResourceCache): StatusError {
  return resourceExpired(`too old resource version: ${revision} (${resource.completeAfter})`);
}

/** A watch of one object by its path is one with that name in its field selector. */
function withName(options: ListOptions, name: string): ListOptions {
  const { fields } = options;
  const selected = fields.requiredValue('metadata.name');
  if (!fields.empty && selected !== name)
    throw badRequest("fieldSelector metadata.name doesn't match requested name");
  return selected === undefined
    ? { ...options, fields: new FieldMatcher([{ field: 'metadata.name', operator: '=', value: name }]) }
    : options;
}

/** `from`: the revision after which changes are wanted, 0 for now; `initial`: the objects that are there come first. */
async function whereToStart(
  context: RegistryContext,
  { resourceVersion, sendInitialEvents }: ListOptions,
): Promise<{ readonly initial: boolean; readonly from: number }> {
  const asked = parseResourceVersion(resourceVersion);
  if (resourceVersion === '') await waitForNewest(context);
  // Without a revision to start from a watch begins with what there is, unless the client said otherwise.
  const initial = sendInitialEvents ?? asked === 0;
  if (initial && asked > 0) await waitForRevision(context, asked);
  return { initial, from: initial ? 0 : asked };
}
