// The contract between a client and an API server: one request, one answer, whatever lies between them.
// The API server implements it in process (objects are shared, frozen, never encoded); src/client implements it
// over HTTPS. Nothing else knows the difference.

import type { GroupVersionResource, KubeObject } from './object.ts';

export type ApiVerb =
  | 'get'
  | 'list'
  | 'watch'
  | 'create'
  | 'update'
  | 'patch'
  | 'delete'
  | 'deletecollection';

export type PatchType =
  | 'application/json-patch+json'
  | 'application/merge-patch+json'
  | 'application/strategic-merge-patch+json'
  | 'application/apply-patch+yaml';

/** One call against one resource. */
export interface ApiCall {
  readonly verb: Exclude<ApiVerb, 'watch'>;
  readonly resource: GroupVersionResource;
  /** Absent for cluster-scoped resources and for all namespaces. */
  readonly namespace?: string;
  /** Absent for list, create and deletecollection. */
  readonly name?: string;
  readonly subresource?: string;
  /** The object, the patch, or DeleteOptions. The server copies what it keeps; the caller may go on using it. */
  readonly body?: unknown;
  /** Says how `body` is to be read when the verb is patch. */
  readonly patchType?: PatchType;
  /** Query parameters under their names on the wire: labelSelector, resourceVersion, limit, dryRun, … */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly signal?: AbortSignal;
  /**
   * For get, list and watch: the caller reads nothing but metadata (and kind). Over HTTPS the server is asked for
   * PartialObjectMetadata; a transport that shares objects may ignore it.
   */
  readonly metadataOnly?: boolean;
}

export interface WatchCall {
  readonly resource: GroupVersionResource;
  readonly namespace?: string;
  /** labelSelector, fieldSelector, resourceVersion, allowWatchBookmarks, sendInitialEvents, timeoutSeconds, … */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly signal?: AbortSignal;
  /**
   * For get, list and watch: the caller reads nothing but metadata (and kind). Over HTTPS the server is asked for
   * PartialObjectMetadata; a transport that shares objects may ignore it.
   */
  readonly metadataOnly?: boolean;
}

/** ERROR carries a metav1.Status as its object and ends the stream. */
export type WatchEvent<T = KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; readonly object: T }
  | { readonly type: 'ERROR'; readonly object: unknown };

export interface Transport {
  /** True when objects are handed over without a copy, so that asking for metadata alone saves nothing. */
  readonly sharesObjects?: boolean;
  /** Resolves with the object or list that the server answered; rejects with a StatusError for any failure. */
  call(call: ApiCall): Promise<unknown>;
  /**
   * Opens a watch. Resolves once the server has accepted it (rejects with a StatusError otherwise); the iterable
   * ends when the server closes the watch or `signal` aborts.
   */
  watch(call: WatchCall): Promise<AsyncIterable<WatchEvent>>;
  /** A request outside the resources (`/version`, `/healthz`, `/api`): status and body as they came. */
  raw(request: {
    readonly method: string;
    readonly path: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: Uint8Array;
    readonly signal?: AbortSignal;
  }): Promise<{
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
  }>;
}
