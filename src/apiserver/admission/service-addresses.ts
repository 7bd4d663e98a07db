// The addresses of Services: cluster IPs and node ports, given out or checked when a Service is written.
//
// A cluster IP is an IPAddress object that is written in the same transaction as its Service, and removed with it: two
// servers over one store never give one address twice, and a crash leaves neither without the other. Ranges are those
// of the ServiceCIDR objects that are ready (KEP-1880). Node ports are derived from the Services in the watch cache;
// what is promised to a write that is still under way is held until its event comes or the write fails.
// Follows upstream's service REST storage (pkg/registry/core/service): random addresses from the upper part of a
// range, the lower part is for whoever asks for a certain one.

import {
  type FieldError,
  fieldError,
  internalError,
  invalid,
  type MutableObject,
  type StatusError,
} from '../../api/index.ts';
import type { Service, ServicePort, ServiceSpec } from '../../api/types/core-v1.ts';
import type { IPAddress } from '../../api/types/networking-v1.ts';
import type { Clock } from '../../component/index.ts';
import type {
  AdmissionAttributes,
  AdmissionPlugin,
  Companions,
  CompanionWrite,
  ObjectReader,
} from '../chain.ts';
import { AddressSpace, type PoolProblem, PortPool } from './address-pools.ts';
import { canonicalAddress, parseCidr } from './ip.ts';
import { belongsTo, clusterAddresses, IP_ADDRESSES, ipAddressObject } from './ip-address-objects.ts';
import { isFor, nameOf, objectAs, oldObjectAs } from './refusal.ts';
import { ServiceRanges } from './service-ranges.ts';
import {
  initFamilies,
  isHeadless,
  keepAllocated,
  needsClusterIp,
  normalizeClusterIps,
  wantsNodePorts,
} from './service-spec.ts';
import { serviceWarnings } from './service-warnings.ts';

/** Nothing is left of what a Service asked for. */
export interface Exhaustion {
  readonly of: 'clusterIP' | 'nodePort';
  /** The ranges that are full, as an operator wrote them; none: there is no range. */
  readonly ranges: readonly string[];
  readonly namespace: string;
  /** The Service's, or what its name was to be made from. */
  readonly name: string;
  /** The Service, when it is there already. */
  readonly service?: Service;
}

export interface ServiceAddressOptions {
  readonly reader: ObjectReader;
  readonly clock: Clock;
  /** One range a family, the cluster's primary family first: the families that there are. */
  readonly serviceCidrs: readonly string[];
  /** Inclusive. 30000–32767 when absent. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Told whenever a Service is refused because nothing is left; must not throw. */
  readonly exhausted?: (exhaustion: Exhaustion) => void;
}

export const DEFAULT_NODE_PORTS = { first: 30000, last: 32767 } as const;

/** What one write has been promised; given back when it fails. */
interface Holder {
  readonly owner: string;
  readonly release: (() => void)[];
}

export class ServiceAddresses implements AdmissionPlugin, Disposable {
  readonly name = 'ServiceAddresses';
  readonly #reader: ObjectReader;
  readonly #spaces: ReadonlyMap<string, AddressSpace>;
  readonly #ports: PortPool;
  readonly #exhausted: (exhaustion: Exhaustion) => void;
  readonly #stops: readonly (() => void)[];

  constructor(options: ServiceAddressOptions) {
    const { reader, random, clock, serviceCidrs } = options;
    this.#reader = reader;
    this.#exhausted = options.exhausted ?? (() => {});
    const families = serviceCidrs.map((text) => parseCidr(text).family);
    const spaces = families.map((family) => [family, new AddressSpace(family, random, clock)] as const);
    this.#spaces = new Map(spaces);
    const { first, last } = options.nodePorts ?? DEFAULT_NODE_PORTS;
    this.#ports = new PortPool(first, last, random, clock);
    const ranges = new ServiceRanges(reader, serviceCidrs, (family, texts) =>
      this.#spaces.get(family)?.setRanges(texts),
    );
    const stopServices = reader.follow<Service>('', 'services', (event) => {
      const owner = ownerKey(event.object.metadata.namespace ?? '', event.object.metadata.name);
      const spec = event.type === 'DELETED' ? undefined : event.object.spec;
      this.#own(owner, clusterAddresses(spec));
      this.#ports.own(owner, spec ? portsOf(spec) : []);
    });
    const stopAddresses = reader.follow<IPAddress>('networking.k8s.io', 'ipaddresses', (event) => {
      const { name } = event.object.metadata;
      this.#own(`IPAddress ${name}`, event.type === 'DELETED' ? [] : [name]);
    });
    this.#stops = [() => ranges[Symbol.dispose](), stopServices, stopAddresses];
  }

  handles(operation: AdmissionAttributes['operation']): boolean {
    return operation !== 'CONNECT';
  }

  admit(attributes: AdmissionAttributes): void {
    if (!isFor(attributes, '', 'services')) return;
    const old = oldObjectAs<Service>(attributes);
    const dynamic = new Set<string>();
    const holder: Holder = {
      // A name made from generateName is not known yet; nobody else can own what is held for it.
      owner: ownerKey(attributes.namespace, nameOf(attributes)),
      release: [],
    };
    attributes.onSettled((committed) => {
      if (!committed) for (const release of holder.release) release();
    });
    if (attributes.operation !== 'DELETE') this.#allocate(attributes, old, holder, dynamic);
    attributes.accompany(this.#companions(attributes, old, holder, dynamic));
  }

  validate(attributes: AdmissionAttributes): void {
    if (attributes.operation === 'DELETE' || !isFor(attributes, '', 'services')) return;
    const service = objectAs<Service>(attributes);
    for (const warning of serviceWarnings(service)) attributes.warn(warning);
    const { spec } = service;
    const old = oldObjectAs<Service>(attributes)?.spec;
    if (!old || !needsClusterIp(spec) || !needsClusterIp(old)) return;
    const before = old.clusterIPs?.[0];
    if (before === undefined || spec.clusterIPs?.[0] === before) return;
    this.#refuse(attributes, [
      fieldError.invalid(
        'spec.clusterIPs[0]',
        spec.clusterIPs ?? [],
        spec.clusterIPs?.[0] === undefined ? 'primary clusterIP can not be unset' : 'may not change once set',
      ),
    ]);
  }

  [Symbol.dispose](): void {
    for (const stop of this.#stops) stop();
  }

  #own(owner: string, addresses: readonly string[]): void {
    for (const space of this.#spaces.values()) space.own(owner, addresses);
  }

  #refuse(attributes: AdmissionAttributes, errors: readonly FieldError[]): void {
    if (errors.length > 0) throw invalid({ group: '', name: 'Service' }, nameOf(attributes), errors);
  }

  #allocate(
    attributes: AdmissionAttributes,
    old: Service | undefined,
    holder: Holder,
    dynamic: Set<string>,
  ): void {
    const { spec } = objectAs<Service>(attributes);
    normalizeClusterIps(spec, old?.spec);
    if (old) keepAllocated(spec, old.spec);
    this.#refuse(attributes, initFamilies(spec, old?.spec, [...this.#spaces.values()].map(familyOf)));
    if (needsClusterIp(spec) && !isHeadless(spec))
      this.#allocateAddresses(attributes, spec, old?.spec, holder, dynamic);
    this.#allocatePorts(attributes, spec, old, holder);
  }

  #allocateAddresses(
    attributes: AdmissionAttributes,
    spec: ServiceSpec,
    old: ServiceSpec | undefined,
    holder: Holder,
    dynamic: Set<string>,
  ): void {
    const wanted = spec.clusterIPs ?? [];
    const had = new Set(clusterAddresses(old));
    const result: string[] = [];
    for (const [index, family] of (spec.ipFamilies ?? []).entries()) {
      const address = wanted[index];
      if (address && had.has(canonicalAddress(address))) {
        result.push(address);
        continue;
      }
      const space = this.#spaces.get(family);
      // initFamilies has refused families that the cluster does not have.
      if (!space) continue;
      if (!address) {
        const next = this.#anyAddress(attributes, space, holder);
        dynamic.add(next);
        result.push(next);
        continue;
      }
      const problem = space.take(canonicalAddress(address), holder.owner, holder.release);
      if (problem !== undefined)
        throw this.#addressRefused(attributes, wanted, address, ADDRESS_PROBLEMS[problem]);
      result.push(address);
    }
    spec.clusterIPs = result;
    spec.clusterIP = result[0] ?? '';
  }

  #addressRefused(
    attributes: AdmissionAttributes,
    wanted: readonly string[],
    address: string,
    why: string,
  ): StatusError {
    return invalid({ group: '', name: 'Service' }, nameOf(attributes), [
      fieldError.invalid('spec.clusterIPs', wanted, `failed to allocate IP ${address}: ${why}`),
    ]);
  }

  #anyAddress(attributes: AdmissionAttributes, space: AddressSpace, holder: Holder): string {
    const address = space.takeAny(holder.owner, holder.release);
    if (address !== undefined) return address;
    this.#report(attributes, 'clusterIP', space.ranges);
    throw internalError(new Error('failed to allocate a serviceIP: range is full'));
  }

  /** The IPAddresses that come and go with this write. */
  #companions(
    attributes: AdmissionAttributes,
    old: Service | undefined,
    holder: Holder,
    dynamic: Set<string>,
  ): Companions {
    const { namespace } = attributes;
    const before = clusterAddresses(old?.spec);
    return {
      writes: (object) => {
        const service = object as unknown as Service | undefined;
        const name = service?.metadata.name ?? old?.metadata.name ?? attributes.name;
        const after = clusterAddresses(service?.spec);
        return [
          ...after
            .filter((address) => !before.includes(address))
            .map(
              (address): CompanionWrite => ({
                type: 'create',
                resource: IP_ADDRESSES,
                object: ipAddressObject(address, namespace, name),
              }),
            ),
          ...before
            .filter((address) => !after.includes(address))
            .flatMap((address): CompanionWrite[] => {
              const { group, resource } = IP_ADDRESSES;
              const object = this.#reader.get<IPAddress>(group, resource, '', address);
              // What is not there, or another's, is for the repair to judge.
              if (object === undefined || !belongsTo(object, namespace, name)) return [];
              return [{ type: 'delete', resource: IP_ADDRESSES, object }];
            }),
        ];
      },
      taken: (object, address) => this.#replace(attributes, object, address, holder, dynamic),
    };
  }

  /** Another server has given the address away meanwhile: another one is found where none was asked for. */
  #replace(
    attributes: AdmissionAttributes,
    object: MutableObject,
    address: string,
    holder: Holder,
    dynamic: Set<string>,
  ): void {
    const { spec } = object as unknown as Service;
    const addresses = spec.clusterIPs ?? [];
    const index = addresses.findIndex((one) => canonicalAddress(one) === address);
    const space = this.#spaces.get(spec.ipFamilies?.[index] ?? '');
    if (index < 0 || space === undefined || !dynamic.has(address))
      throw this.#addressRefused(attributes, addresses, address, ADDRESS_PROBLEMS.taken);
    const next = this.#anyAddress(attributes, space, holder);
    dynamic.add(next);
    spec.clusterIPs = addresses.with(index, next);
    if (index === 0) spec.clusterIP = next;
  }

  #allocatePorts(
    attributes: AdmissionAttributes,
    spec: ServiceSpec,
    old: Service | undefined,
    holder: Holder,
  ): void {
    const given = wantsNodePorts(spec);
    const had = new Set(old ? portsOf(old.spec) : []);
    // One number may serve TCP and UDP of the same port, as DNS wants it.
    const chosen = new Map<number, number>();
    const errors: FieldError[] = [];
    const taken = new Set<number>(had);
    const mayHaveNodePorts = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
    for (const [index, port] of (mayHaveNodePorts ? (spec.ports ?? []) : []).entries()) {
      if (!port.nodePort) continue;
      chosen.set(port.port, port.nodePort);
      if (taken.has(port.nodePort)) continue;
      taken.add(port.nodePort);
      const problem = this.#ports.take(port.nodePort, holder.owner, holder.release);
      if (problem !== undefined)
        errors.push(
          fieldError.invalid(`spec.ports[${index}].nodePort`, port.nodePort, this.#portProblem(problem)),
        );
    }
    this.#refuse(attributes, errors);
    for (const port of given ? (spec.ports ?? []) : []) {
      if (port.nodePort) continue;
      // Upstream shares a number between protocols when the Service is made, and never afterwards.
      const shared = old === undefined ? chosen.get(port.port) : undefined;
      const usable = shared !== undefined && !sharesProtocol(spec.ports ?? [], port, shared);
      port.nodePort = usable ? shared : this.#anyPort(attributes, holder);
      chosen.set(port.port, port.nodePort);
    }
    if (spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local') return;
    if (!spec.healthCheckNodePort) {
      spec.healthCheckNodePort = this.#anyPort(attributes, holder, 'HealthCheck NodePort 0');
      return;
    }
    if (had.has(spec.healthCheckNodePort)) return;
    const problem = this.#ports.take(spec.healthCheckNodePort, holder.owner, holder.release);
    if (problem !== undefined)
      throw internalError(
        new Error(
          `failed to allocate requested HealthCheck NodePort ${spec.healthCheckNodePort}: ${this.#portProblem(problem)}`,
        ),
      );
  }

  #anyPort(attributes: AdmissionAttributes, holder: Holder, what = 'nodePort'): number {
    const port = this.#ports.takeAny(holder.owner, holder.release);
    if (port !== undefined) return port;
    this.#report(attributes, 'nodePort', [`${this.#ports.first}-${this.#ports.last}`]);
    throw internalError(new Error(`failed to allocate a ${what}: range is full`));
  }

  #report(attributes: AdmissionAttributes, of: Exhaustion['of'], ranges: readonly string[]): void {
    if (attributes.dryRun) return;
    const service = oldObjectAs<Service>(attributes);
    this.#exhausted({
      of,
      ranges,
      namespace: attributes.namespace,
      name: nameOf(attributes),
      ...(service && { service }),
    });
  }

  #portProblem(problem: PoolProblem): string {
    return problem === 'taken'
      ? 'provided port is already allocated'
      : `provided port is not in the valid range. The range of valid ports is ${this.#ports.first}-${this.#ports.last}`;
  }
}

const ownerKey = (namespace: string, name: string): string => `${namespace}/${name}`;
const familyOf = ({ family }: AddressSpace) => family;

const ADDRESS_PROBLEMS: Readonly<Record<PoolProblem, string>> = {
  taken: 'provided IP is already allocated',
  'out-of-range': 'the provided network does not match the current range',
};

/** True when another port of the service uses this node port with the same protocol already. */
function sharesProtocol(ports: readonly ServicePort[], port: ServicePort, nodePort: number): boolean {
  return ports.some(
    (other) =>
      other !== port && other.nodePort === nodePort && (other.protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
  );
}

/** All node ports of a Service, the health check's too; a number that serves two protocols comes twice. */
export function portsOf(spec: ServiceSpec): number[] {
  const ports = (spec.ports ?? []).map(({ nodePort }) => nodePort ?? 0);
  return [...ports, spec.healthCheckNodePort ?? 0].filter((port) => port > 0);
}
