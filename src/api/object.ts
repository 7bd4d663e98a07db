// The shapes that every API object shares, whatever its kind.

import type { ObjectMeta } from './types/meta-v1.ts';

/** Any API object as the server gives it: frozen, shared, never to be changed in place. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
}

/** A list as the server gives it. Items of built-in kinds carry neither `kind` nor `apiVersion` on the wire. */
export interface KubeList<T extends KubeObject = KubeObject> {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly resourceVersion?: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items: readonly T[];
}

/** The fields of T whose value may be empty, and so may be left out. */
type MayBeEmpty<T> = { [K in keyof T]-?: Record<never, never> extends T[K] ? K : never }[keyof T];

type Content<T> = Omit<T, 'metadata' | 'status' | 'kind' | 'apiVersion'>;

/** What a client sends to create or update an object of type T: the server fills in the rest. */
export type Draft<T extends { metadata: ObjectMeta }> = Omit<Content<T>, MayBeEmpty<Content<T>>> &
  Partial<Pick<Content<T>, MayBeEmpty<Content<T>>>> & {
    readonly kind?: string;
    readonly apiVersion?: string;
    readonly metadata: Partial<ObjectMeta>;
    readonly status?: T extends { status?: infer S } ? S : never;
  };

/** Names a kind. `group` is '' for the core group. */
export interface GroupVersionKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

/** Names a resource as it stands in a URL. `group` is '' for the core group. */
export interface GroupVersionResource {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
}

/** `apps/v1` → group apps, version v1; `v1` → the core group. */
export function parseGroupVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

export function groupVersion(gv: { readonly group: string; readonly version: string }): string {
  return gv.group === '' ? gv.version : `${gv.group}/${gv.version}`;
}
