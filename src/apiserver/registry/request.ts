// What the registry is asked and what it answers, without any trace of HTTP: the front and the in-process transport
// both speak in these terms.

import type { ResourceDefinition } from '../../api/definition.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Status } from '../../api/types/meta-v1.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import type { ListMeta, WireFormat } from '../cache/wire-format.ts';
import type { UserInfo } from '../chain.ts';

/** The object of a create or update, the patch, or DeleteOptions: as bytes from a client, or as a value in process. */
export type RequestBody =
  | { readonly type: 'encoded'; readonly bytes: Buffer; readonly contentType: string }
  | { readonly type: 'value'; readonly value: unknown; readonly contentType: string };

export interface RegistryRequest {
  readonly definition: ResourceDefinition;
  /** '' for cluster-scoped resources and for all namespaces. */
  readonly namespace: string;
  /** '' for collections. */
  readonly name: string;
  readonly subresource: string;
  readonly verb: string;
  readonly query: URLSearchParams;
  readonly user: UserInfo;
  readonly body: RequestBody | undefined;
  /** Aborts when the client has gone or its time is up. */
  readonly signal: () => AbortSignal;
  /** Adds a `Warning:` header to the answer. */
  warn(message: string): void;
  /** Rejects with 403 when the user may not do this to the object too: an update that creates it, for one. */
  authorize(verb: string): Promise<void> | undefined;
}

export type Answer =
  /** An object as it stands in the store. */
  | {
      readonly type: 'object';
      readonly status: number;
      readonly object: StoredObject;
      readonly format: WireFormat;
    }
  | {
      readonly type: 'list';
      readonly objects: readonly StoredObject[];
      readonly meta: ListMeta;
      readonly format: WireFormat;
    }
  /** Anything that is not (or not yet) in the store: dry runs, Status, Scale, reviews. */
  | { readonly type: 'value'; readonly status: number; readonly value: KubeObject | Status | object };

export function success(details?: Status['details']): Status {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    ...(details === undefined ? {} : { details }),
  };
}

/** The answer to a creation that leaves no object of its own: a binding, an eviction. It carries its code. */
export function done(): Answer {
  return { type: 'value', status: 201, value: { ...success(), code: 201 } };
}
