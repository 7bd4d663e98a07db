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
export {
  type ControllerOptions,
  type ReconcileResult,
  type RunningController,
  startController,
} from './controller.ts';
export type { Credentials, ExecPlugin } from './credentials.ts';
export type { DiscoveredResource, Discovery, ServerResources } from './discovery.ts';
export { createEventRecorder, type EventRecorder, referenceTo } from './events.ts';
export { ConnectionError } from './http2-connection.ts';
export { type HttpsTransport, type HttpsTransportOptions, httpsTransport } from './https-transport.ts';
export type { EventHandler, Informer } from './informer.ts';
export type { InformerFactory, InformerOptions, MetadataObject } from './informer-factory.ts';
export { inClusterConfig, type LoadedConfig, type LoadOptions, loadKubeconfig } from './kubeconfig.ts';
export {
  type LeaderElection,
  type LeaderElectionOptions,
  startLeaderElection,
} from './leader-election.ts';
export {
  defaultRateLimiter,
  ExponentialFailureLimiter,
  type RateLimiter,
  TokenBucket,
} from './rate-limit.ts';
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
export { isTooLargeResourceVersion, statusErrorFromResponse } from './status.ts';
export { WorkQueue, type WorkQueueMetrics, type WorkQueueOptions } from './work-queue.ts';
