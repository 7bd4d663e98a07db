// What every component uses to talk to the API.

export {
  deepFreeze,
  type Index,
  type IndexFunction,
  keyOf,
  type Lister,
  makeKey,
  splitKey,
} from './cache.ts';
export {
  type CallOptions,
  type Client,
  type ClientOptions,
  createClient,
  type DeleteCallOptions,
  type GetOptions,
  type JsonPatchOperation,
  type ListOptions,
  type Patch,
  type PatchCallOptions,
  type PropagationPolicy,
  type ResourceClient,
  type SelectorOptions,
  type WatchOptions,
  type WriteOptions,
} from './client.ts';
export type { DiscoveredResource, Discovery, ServerResources } from './discovery.ts';
export type { EventHandler, Informer } from './informer.ts';
export type { InformerFactory, InformerOptions, MetadataObject } from './informer-factory.ts';
export {
  clusterScoped,
  namespaced,
  type ObjectOf,
  type ResourceType,
  resources,
} from './resources.ts';
export {
  Backoff,
  type BackoffOptions,
  delay,
  type RetryOnConflictOptions,
  retryOnConflict,
} from './retry.ts';
export { formatFieldSelector, formatLabelSelector } from './selectors.ts';
