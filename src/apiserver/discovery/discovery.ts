// What this server serves: /api, /apis and below, in the classic form (one document a group and version) and in the
// aggregated one (all in one document, KEP-3352). Made from the catalog, kept as bytes until it changes.

import { createHash } from 'node:crypto';
import type { ResourceCatalog, ResourceDefinition } from '../../api/definition.ts';
import { groupVersion } from '../../api/object.ts';
import type { APIGroup, APIResource } from '../../api/types/meta-v1.ts';

export interface DiscoveryDocument {
  readonly bytes: Buffer;
  readonly contentType: string;
  /** Aggregated documents only: clients ask again with If-None-Match. */
  readonly etag?: string;
}

export type DiscoveryForm = 'classic' | 'aggregated-v2' | 'aggregated-v2beta1';

export class Discovery {
  readonly #catalog: ResourceCatalog;
  /** host:port under which clients reach the server. */
  readonly #address: () => string;
  readonly #documents = new Map<string, DiscoveryDocument | undefined>();
  #madeFrom: readonly ResourceDefinition[] | undefined;

  constructor(catalog: ResourceCatalog, address: () => string) {
    this.#catalog = catalog;
    this.#address = address;
  }

  /** The document of `/api`, `/apis`, `/api/v1`, `/apis/<group>` or `/apis/<group>/<version>`; undefined: no such path. */
  document(path: string, form: DiscoveryForm): DiscoveryDocument | undefined {
    const all = this.#catalog.all();
    if (all !== this.#madeFrom) {
      this.#documents.clear();
      this.#madeFrom = all;
    }
    const key = `${form} ${path}`;
    if (this.#documents.has(key)) return this.#documents.get(key);
    const document = this.#make(path, form);
    // Only paths that exist are kept: a client must not fill the memory with others.
    if (document !== undefined) this.#documents.set(key, document);
    return document;
  }

  /** Paths that `/` lists: one for each group and version. */
  paths(): string[] {
    const paths = ['/api', '/api/v1', '/apis'];
    for (const group of this.#catalog.groups()) {
      if (group === '') continue;
      paths.push(`/apis/${group}`);
      for (const version of this.#catalog.versions(group)) paths.push(`/apis/${group}/${version}`);
    }
    return paths;
  }

  #make(path: string, form: DiscoveryForm): DiscoveryDocument | undefined {
    const [, prefix, ...rest] = path.split('/');
    if (rest.length === 0 && form !== 'classic') return this.#aggregated(prefix === 'api', form);
    const classic = this.#classic(prefix!, rest);
    return classic && { bytes: Buffer.from(JSON.stringify(classic)), contentType: 'application/json' };
  }

  #classic(prefix: string, rest: readonly string[]): object | undefined {
    const [first, second] = rest;
    if (prefix === 'api') {
      if (rest.length === 0) return this.#coreVersions();
      return rest.length === 1 ? this.#resourceList('', first!) : undefined;
    }
    switch (rest.length) {
      case 0:
        return {
          kind: 'APIGroupList',
          apiVersion: 'v1',
          groups: this.#catalog
            .groups()
            .filter((group) => group !== '')
            .map((group) => this.#group(group)),
        };
      case 1:
        return first === '' || !this.#catalog.groups().includes(first!)
          ? undefined
          : { kind: 'APIGroup', apiVersion: 'v1', ...this.#group(first!) };
      case 2:
        return first === '' ? undefined : this.#resourceList(first!, second!);
      default:
        return undefined;
    }
  }

  #coreVersions(): object {
    return {
      kind: 'APIVersions',
      versions: this.#catalog.versions(''),
      serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: this.#address() }],
    };
  }

  #group(group: string): APIGroup {
    const versions = this.#catalog
      .versions(group)
      .map((version) => ({ groupVersion: groupVersion({ group, version }), version }));
    return { name: group, versions, preferredVersion: versions[0]! };
  }

  #definitions(group: string, version: string): ResourceDefinition[] {
    return this.#catalog
      .all()
      .filter((definition) => definition.group === group && definition.version === version)
      .sort((a, b) => (a.resource < b.resource ? -1 : 1));
  }

  #resourceList(group: string, version: string): object | undefined {
    if (!this.#catalog.versions(group).includes(version)) return undefined;
    const resources: APIResource[] = [];
    for (const definition of this.#definitions(group, version)) {
      const { resource, singular, namespaced, kind, shortNames, categories } = definition;
      resources.push({
        name: resource,
        singularName: singular,
        namespaced,
        kind,
        verbs: [...definition.verbs],
        ...(shortNames.length > 0 ? { shortNames: [...shortNames] } : {}),
        ...(categories.length > 0 ? { categories: [...categories] } : {}),
        ...(isStored(definition) ? { storageVersionHash: storageVersionHash(definition) } : {}),
      });
      for (const sub of sortedSubresources(definition))
        resources.push({
          name: `${resource}/${sub.name}`,
          singularName: '',
          namespaced,
          ...(sub.kind.group === group && sub.kind.version === version
            ? {}
            : { group: sub.kind.group, version: sub.kind.version }),
          kind: sub.kind.kind,
          verbs: [...sub.verbs],
        });
    }
    return {
      kind: 'APIResourceList',
      // The core group's own list came before lists had versions.
      ...(group === '' ? {} : { apiVersion: 'v1' }),
      groupVersion: groupVersion({ group, version }),
      resources,
    };
  }

  #aggregated(core: boolean, form: Exclude<DiscoveryForm, 'classic'>): DiscoveryDocument {
    const version = form === 'aggregated-v2' ? 'v2' : 'v2beta1';
    const groups = core ? [''] : this.#catalog.groups().filter((group) => group !== '');
    const body = {
      kind: 'APIGroupDiscoveryList',
      apiVersion: `apidiscovery.k8s.io/${version}`,
      metadata: {},
      items: groups.map((group) => ({
        metadata: group === '' ? {} : { name: group },
        versions: this.#catalog.versions(group).map((groupsVersion) => ({
          version: groupsVersion,
          resources: this.#definitions(group, groupsVersion).map(aggregatedResource),
          freshness: 'Current',
        })),
      })),
    };
    const bytes = Buffer.from(JSON.stringify(body));
    return {
      bytes,
      contentType: `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
      etag: `"${createHash('sha512').update(bytes).digest('hex').toUpperCase()}"`,
    };
  }
}

function aggregatedResource(definition: ResourceDefinition): object {
  const { group, version, kind, resource, singular, namespaced, shortNames, categories, verbs } = definition;
  const subresources = sortedSubresources(definition).map((sub) => ({
    subresource: sub.name,
    responseKind: { group: sub.kind.group, version: sub.kind.version, kind: sub.kind.kind },
    verbs: sub.verbs,
  }));
  return {
    resource,
    responseKind: { group, version, kind },
    scope: namespaced ? 'Namespaced' : 'Cluster',
    singularResource: singular,
    verbs,
    ...(shortNames.length > 0 ? { shortNames } : {}),
    ...(categories.length > 0 ? { categories } : {}),
    ...(subresources.length > 0 ? { subresources } : {}),
  };
}

function sortedSubresources(definition: ResourceDefinition) {
  return [...definition.subresources.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Reviews and their like are answered, never stored. */
function isStored(definition: ResourceDefinition): boolean {
  return definition.verbs.includes('watch');
}

function storageVersionHash({ storage, kind }: ResourceDefinition): string {
  const name = `${storage.group}/${storage.version}/${kind}`;
  return createHash('sha256').update(name).digest().subarray(0, 8).toString('base64');
}
