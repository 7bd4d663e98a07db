// What is known of services, in the shape in which names ask for it: maps by namespace and name and by address. The
// informers of Services, EndpointSlices and Namespaces are its only writers; each change is told as the names of what
// it touched, so that answers made from it can be thrown away and no others.

import type { Service } from '../../api/types/core-v1.ts';
import type { Endpoint, EndpointSlice } from '../../api/types/discovery-v1.ts';
import { canonicalAddress } from '../message/address.ts';

export interface NamedPort {
  /** '' when it has none. */
  readonly name: string;
  /** In lower case, as names have it. */
  readonly protocol: string;
  readonly port: number;
}

export interface ReadyEndpoint {
  readonly address: string;
  /** Its own name below the service's. */
  readonly label: string;
}

export interface SliceView {
  readonly endpoints: readonly ReadyEndpoint[];
  readonly ports: readonly NamedPort[];
}

export type ServiceView =
  | { readonly type: 'external'; readonly target: string }
  | { readonly type: 'headless'; readonly ports: readonly NamedPort[] }
  | { readonly type: 'cluster'; readonly addresses: readonly string[]; readonly ports: readonly NamedPort[] };

export interface ServiceEntry {
  readonly namespace: string;
  readonly name: string;
  /** Absent while only slices are known. */
  service: ServiceView | undefined;
  readonly slices: Map<string, SliceView>;
}

/** Something that answers depend on. */
export type Dependency = `service:${string}/${string}` | `namespace:${string}` | `address:${string}`;

export const serviceDependency = (namespace: string, name: string): Dependency =>
  `service:${namespace}/${name}`;
export const namespaceDependency = (namespace: string): Dependency => `namespace:${namespace}`;
export const addressDependency = (address: string): Dependency => `address:${address}`;

const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

export class ServiceDirectory {
  readonly #changed: (dependencies: readonly Dependency[]) => void;
  readonly #namespaces = new Set<string>();
  readonly #services = new Map<string, ServiceEntry>();
  /** By address, the services that have it as cluster IP. */
  readonly #clusterAddresses = new Map<string, Set<ServiceEntry>>();
  /** By address, the slices that list it as ready, with their service. */
  readonly #endpointAddresses = new Map<string, Map<string, ServiceEntry>>();
  /** Which service a slice was counted to: its label may change. */
  readonly #sliceOwners = new Map<string, ServiceEntry>();

  constructor(changed: (dependencies: readonly Dependency[]) => void) {
    this.#changed = changed;
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.has(name);
  }

  find(namespace: string, name: string): ServiceEntry | undefined {
    return this.#services.get(`${namespace}/${name}`);
  }

  servicesWithAddress(address: string): Iterable<ServiceEntry> {
    return this.#clusterAddresses.get(address) ?? [];
  }

  /** Services of which a slice lists the address as ready, one for each such slice; those of no Service among them. */
  *endpointsWithAddress(
    address: string,
  ): Iterable<{ readonly entry: ServiceEntry; readonly endpoint: ReadyEndpoint }> {
    for (const [key, entry] of this.#endpointAddresses.get(address) ?? [])
      for (const endpoint of entry.slices.get(key)?.endpoints ?? [])
        if (endpoint.address === address) yield { entry, endpoint };
  }

  setNamespace(name: string): void {
    if (this.#namespaces.has(name)) return;
    this.#namespaces.add(name);
    this.#changed([namespaceDependency(name)]);
  }

  deleteNamespace(name: string): void {
    if (this.#namespaces.delete(name)) this.#changed([namespaceDependency(name)]);
  }

  setService(service: Service): void {
    const { namespace = '', name } = service.metadata;
    const entry = this.#entry(namespace, name);
    const touched = this.#replaceService(entry, viewOfService(service));
    this.#changed([serviceDependency(namespace, name), ...touched]);
  }

  deleteService(service: Service): void {
    const { namespace = '', name } = service.metadata;
    const entry = this.find(namespace, name);
    if (entry === undefined) return;
    const touched = this.#replaceService(entry, undefined);
    this.#drop(entry);
    this.#changed([serviceDependency(namespace, name), ...touched]);
  }

  setSlice(slice: EndpointSlice): void {
    const { namespace = '', name, labels } = slice.metadata;
    const key = `${namespace}/${name}`;
    const owner = labels?.[SERVICE_NAME_LABEL];
    const touched = this.#removeSlice(key);
    // A slice of domain names has no addresses to answer with; one without a service answers for no name.
    if (owner !== undefined && owner !== '' && slice.addressType !== 'FQDN') {
      const entry = this.#entry(namespace, owner);
      const view = viewOfSlice(slice);
      entry.slices.set(key, view);
      this.#sliceOwners.set(key, entry);
      for (const { address } of view.endpoints) {
        getOrInsert(this.#endpointAddresses, address, () => new Map<string, ServiceEntry>()).set(key, entry);
        touched.add(addressDependency(address));
      }
      touched.add(serviceDependency(namespace, owner));
    }
    if (touched.size > 0) this.#changed([...touched]);
  }

  deleteSlice(slice: EndpointSlice): void {
    const touched = this.#removeSlice(`${slice.metadata.namespace ?? ''}/${slice.metadata.name}`);
    if (touched.size > 0) this.#changed([...touched]);
  }

  #removeSlice(key: string): Set<Dependency> {
    const touched = new Set<Dependency>();
    const entry = this.#sliceOwners.get(key);
    const view = entry?.slices.get(key);
    if (entry === undefined || view === undefined) return touched;
    for (const { address } of view.endpoints) {
      const slices = this.#endpointAddresses.get(address);
      if (slices?.delete(key) && slices.size === 0) this.#endpointAddresses.delete(address);
      touched.add(addressDependency(address));
    }
    entry.slices.delete(key);
    this.#sliceOwners.delete(key);
    this.#drop(entry);
    touched.add(serviceDependency(entry.namespace, entry.name));
    return touched;
  }

  #replaceService(entry: ServiceEntry, view: ServiceView | undefined): Dependency[] {
    const addresses = (of: ServiceView | undefined) => (of?.type === 'cluster' ? of.addresses : []);
    const before = addresses(entry.service);
    const after = addresses(view);
    entry.service = view;
    for (const address of before) {
      const holders = this.#clusterAddresses.get(address);
      if (holders?.delete(entry) && holders.size === 0) this.#clusterAddresses.delete(address);
    }
    for (const address of after)
      getOrInsert(this.#clusterAddresses, address, () => new Set<ServiceEntry>()).add(entry);
    return [...new Set([...before, ...after])].map(addressDependency);
  }

  #entry(namespace: string, name: string): ServiceEntry {
    return getOrInsert(this.#services, `${namespace}/${name}`, () => ({
      namespace,
      name,
      service: undefined,
      slices: new Map(),
    }));
  }

  #drop(entry: ServiceEntry): void {
    if (entry.service === undefined && entry.slices.size === 0)
      this.#services.delete(`${entry.namespace}/${entry.name}`);
  }
}

function getOrInsert<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}

function viewOfService(service: Service): ServiceView {
  const { spec } = service;
  const ports = (spec?.ports ?? []).map(({ name = '', protocol = 'TCP', port }) => ({
    name: name.toLowerCase(),
    protocol: protocol.toLowerCase(),
    port,
  }));
  if (spec?.type === 'ExternalName') return { type: 'external', target: spec.externalName ?? '' };
  const written = spec?.clusterIPs ?? (spec?.clusterIP ? [spec.clusterIP] : []);
  if (written.includes('None')) return { type: 'headless', ports };
  const addresses = written.map(canonicalAddress).filter((address) => address !== undefined);
  return { type: 'cluster', addresses, ports };
}

function viewOfSlice(slice: EndpointSlice): SliceView {
  return {
    endpoints: (slice.endpoints ?? []).filter(isReady).flatMap((endpoint) =>
      endpoint.addresses
        .map(canonicalAddress)
        .filter((address) => address !== undefined)
        .map((address) => ({ address, label: endpointLabel(endpoint, address) })),
    ),
    ports: (slice.ports ?? []).flatMap(({ name = '', protocol = 'TCP', port }) =>
      // A port without a number means all ports, which no SRV record can say.
      port === undefined ? [] : [{ name: name.toLowerCase(), protocol: protocol.toLowerCase(), port }],
    ),
  };
}

/** Unknown counts as ready (discovery.k8s.io/v1 EndpointConditions). */
function isReady(endpoint: Endpoint): boolean {
  return endpoint.conditions?.ready !== false;
}

function endpointLabel(endpoint: Endpoint, address: string): string {
  return endpoint.hostname ? endpoint.hostname.toLowerCase() : address.replace(/[.:]/g, '-');
}
