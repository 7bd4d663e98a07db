// What a server serves: groups, versions, resources and their verbs, read from aggregated discovery (two requests)
// or, where the server does not know it, from the classic documents (one a group and version). A group that cannot
// be read (an aggregated API whose server is down) is reported beside the others, never silently left out.

import type { Transport } from '../api/index.ts';
import type { APIGroupList, APIResourceList, APIVersions } from '../api/types/meta-v1.ts';
import { statusErrorFromResponse } from './status.ts';

export interface DiscoveredResource {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly verbs: ReadonlySet<string>;
  /** Names of subresources: `status`, `scale`, … */
  readonly subresources: ReadonlySet<string>;
}

export interface ServerResources {
  /** Every served version, groups and versions in the server's order (the preferred version of a group first). */
  readonly all: readonly DiscoveredResource[];
  /** One version of each group's resource: the first in the server's order that has it. */
  readonly preferred: readonly DiscoveredResource[];
  /** `group/version` → why it could not be read. */
  readonly failed: ReadonlyMap<string, Error>;
}

const AGGREGATED =
  'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json';

interface GroupDiscoveryList {
  readonly kind?: string;
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly versions?: readonly {
      readonly version: string;
      readonly freshness?: string;
      readonly resources?: readonly {
        readonly resource: string;
        readonly responseKind?: { readonly kind?: string };
        readonly scope?: string;
        readonly verbs?: readonly string[];
        readonly subresources?: readonly { readonly subresource: string }[];
      }[];
    }[];
  }[];
}

export class Discovery {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Asks the server anew; nothing is remembered. Rejects when the server's root documents cannot be read. */
  async serverResources(signal?: AbortSignal): Promise<ServerResources> {
    const all: DiscoveredResource[] = [];
    const failed = new Map<string, Error>();
    for (const root of ['/api', '/apis']) {
      const document = await this.#read(root, signal);
      const { kind } = document as { readonly kind?: string };
      if (kind === 'APIGroupDiscoveryList') readAggregated(document as GroupDiscoveryList, all, failed);
      else await this.#readClassic(root, document, all, failed, signal);
    }
    const preferred = new Map<string, DiscoveredResource>();
    for (const resource of all) {
      const key = `${resource.group}/${resource.resource}`;
      if (!preferred.has(key)) preferred.set(key, resource);
    }
    return { all, preferred: [...preferred.values()], failed };
  }

  async #readClassic(
    root: string,
    document: unknown,
    all: DiscoveredResource[],
    failed: Map<string, Error>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const groupVersions =
      root === '/api'
        ? ((document as APIVersions).versions ?? [])
        : ((document as APIGroupList).groups ?? []).flatMap((group) => {
            const preferred = group.preferredVersion?.groupVersion;
            const others = group.versions.map((v) => v.groupVersion).filter((gv) => gv !== preferred);
            return preferred === undefined ? others : [preferred, ...others];
          });
    const lists = await Promise.all(
      groupVersions.map(async (gv) => {
        try {
          return { gv, list: (await this.#read(`${root}/${gv}`, signal)) as APIResourceList };
        } catch (error) {
          signal?.throwIfAborted();
          return { gv, error: error instanceof Error ? error : new Error(String(error)) };
        }
      }),
    );
    for (const { gv, list, error } of lists) {
      if (list) readResourceList(gv, list, all);
      else if (error) failed.set(gv, error);
    }
  }

  async #read(path: string, signal: AbortSignal | undefined): Promise<unknown> {
    const answer = await this.#transport.raw({
      method: 'GET',
      path,
      headers: { accept: AGGREGATED },
      signal,
    });
    if (answer.status !== 200) throw statusErrorFromResponse(answer, `GET ${path}`);
    return JSON.parse(new TextDecoder().decode(answer.body));
  }
}

function readAggregated(
  document: GroupDiscoveryList,
  all: DiscoveredResource[],
  failed: Map<string, Error>,
): void {
  for (const item of document.items ?? []) {
    const group = item.metadata?.name ?? '';
    for (const { version, freshness, resources = [] } of item.versions ?? []) {
      if (freshness === 'Stale') {
        const name = group === '' ? version : `${group}/${version}`;
        failed.set(name, new Error(`the server has only a stale list of the resources of ${name}`));
        continue;
      }
      for (const entry of resources) {
        // A resource that exists only through its subresources is listed without a kind of its own.
        if (!entry.responseKind?.kind) continue;
        all.push({
          group,
          version,
          resource: entry.resource,
          kind: entry.responseKind.kind,
          namespaced: entry.scope === 'Namespaced',
          verbs: new Set(entry.verbs),
          subresources: new Set(entry.subresources?.map((s) => s.subresource)),
        });
      }
    }
  }
}

function readResourceList(gv: string, list: APIResourceList, all: DiscoveredResource[]): void {
  const slash = gv.indexOf('/');
  const group = slash < 0 ? '' : gv.slice(0, slash);
  const version = slash < 0 ? gv : gv.slice(slash + 1);
  const subresources = new Map<string, Set<string>>();
  for (const { name } of list.resources) {
    const [resource = '', subresource] = name.split('/');
    const known = subresources.get(resource) ?? new Set<string>();
    if (subresource !== undefined) known.add(subresource);
    subresources.set(resource, known);
  }
  for (const entry of list.resources) {
    if (entry.name.includes('/')) continue;
    all.push({
      group,
      version,
      resource: entry.name,
      kind: entry.kind,
      namespaced: entry.namespaced,
      verbs: new Set(entry.verbs),
      subresources: subresources.get(entry.name) ?? new Set(),
    });
  }
}
