// The addresses of Services: cluster IPs and node ports, given out or checked when a Service is written. What is in
// use is read from the watch cache; what is promised to a write that is still under way is held until its event comes
// or the write fails, so that two writes at once never get the same. Follows upstream's service REST storage
// (pkg/registry/core/service): random addresses from the upper part of the range, the lower part is for whoever
// asks for a certain one.

import { type FieldError, fieldError, internalError, invalid } from '../../api/index.ts';
import type { Service, ServicePort, ServiceSpec } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { AddressPool, type PoolProblem, PortPool } from './address-pools.ts';
import { addressFamily, type CidrRange, canonicalAddress, isAddress, parseCidr } from './ip.ts';
import { isFor, nameOf, objectAs, oldObjectAs } from './refusal.ts';
import {
  initFamilies,
  isHeadless,
  keepAllocated,
  needsClusterIp,
  normalizeClusterIps,
  wantsNodePorts,
} from './service-spec.ts';

export interface ServiceAddressOptions {
  readonly reader: ObjectReader;
  readonly clock: Clock;
  /** One range a family, the cluster's primary family first. */
  readonly serviceCidrs: readonly string[];
  /** Inclusive. 30000–32767 when absent. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** What one write has been promised; given back when it fails. */
interface Holder {
  readonly owner: string;
  readonly release: (() => void)[];
}

export class ServiceAddresses implements AdmissionPlugin, Disposable {
  readonly name = 'ServiceAddresses';
  readonly #ranges: readonly CidrRange[];
  readonly #pools: ReadonlyMap<string, AddressPool>;
  readonly #ports: PortPool;
  readonly #stop: () => void;

  constructor(options: ServiceAddressOptions) {
    this.#ranges = options.serviceCidrs.map(parseCidr);
    this.#pools = new Map(
      this.#ranges.map((range) => [range.family, new AddressPool(range, options.random, options.clock)]),
    );
    const { first, last } = options.nodePorts ?? { first: 30000, last: 32767 };
    this.#ports = new PortPool(first, last, options.random, options.clock);
    this.#stop = options.reader.follow<Service>('', 'services', (event) => {
      const owner = ownerKey(event.object.metadata.namespace ?? '', event.object.metadata.name);
      const spec = event.type === 'DELETED' ? undefined : event.object.spec;
      const addresses = (spec?.clusterIPs ?? []).filter(isAddress).map(canonicalAddress);
      for (const [family, pool] of this.#pools)
        pool.own(
          owner,
          addresses.filter((address) => addressFamily(address) === family),
        );
      this.#ports.own(owner, spec ? portsOf(spec) : []);
    });
  }

  handles(operation: AdmissionAttributes['operation']): boolean {
    return operation === 'CREATE' || operation === 'UPDATE';
  }

  admit(attributes: AdmissionAttributes): void {
    if (!isFor(attributes, '', 'services')) return;
    const service = objectAs<Service>(attributes);
    const old = oldObjectAs<Service>(attributes);
    const { spec } = service;
    normalizeClusterIps(spec, old?.spec);
    if (old) keepAllocated(spec, old.spec);
    const families = this.#ranges.map(({ family }) => family);
    this.#refuse(attributes, initFamilies(spec, old?.spec, families));

    // A name made from generateName is not known yet; nobody else can own what is held for it.
    const holder: Holder = { owner: ownerKey(attributes.namespace, nameOf(attributes)), release: [] };
    attributes.onSettled((committed) => {
      if (!committed) for (const release of holder.release) release();
    });
    if (needsClusterIp(spec) && !isHeadless(spec)) this.#allocateAddresses(attributes, spec, holder);
    this.#allocatePorts(attributes, spec, holder);
  }

  validate(attributes: AdmissionAttributes): void {
    if (attributes.operation !== 'UPDATE' || !isFor(attributes, '', 'services')) return;
    const { spec } = objectAs<Service>(attributes);
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
    this.#stop();
  }

  #refuse(attributes: AdmissionAttributes, errors: readonly FieldError[]): void {
    if (errors.length > 0) throw invalid({ group: '', name: 'Service' }, nameOf(attributes), errors);
  }

  #allocateAddresses(attributes: AdmissionAttributes, spec: ServiceSpec, holder: Holder): void {
    const wanted = spec.clusterIPs ?? [];
    const result: string[] = [];
    for (const [index, family] of (spec.ipFamilies ?? []).entries()) {
      const pool = this.#pools.get(family);
      // initFamilies has refused families that the cluster does not have.
      if (!pool) continue;
      const address = wanted[index];
      if (!address) {
        const next = pool.takeAny(holder.owner, holder.release);
        if (next === undefined)
          throw internalError(new Error('failed to allocate a serviceIP: range is full'));
        result.push(next);
        continue;
      }
      const problem = pool.take(canonicalAddress(address), holder.owner, holder.release);
      if (problem !== undefined)
        this.#refuse(attributes, [
          fieldError.invalid(
            'spec.clusterIPs',
            wanted,
            `failed to allocate IP ${address}: ${addressProblem(problem, address, pool.range)}`,
          ),
        ]);
      result.push(address);
    }
    spec.clusterIPs = result;
    spec.clusterIP = result[0] ?? '';
  }

  #allocatePorts(attributes: AdmissionAttributes, spec: ServiceSpec, holder: Holder): void {
    const given = wantsNodePorts(spec);
    // One number may serve TCP and UDP of the same port, as DNS wants it.
    const chosen = new Map<number, number>();
    const errors: FieldError[] = [];
    const taken = new Set<number>();
    const mayHaveNodePorts = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
    for (const [index, port] of (mayHaveNodePorts ? (spec.ports ?? []) : []).entries()) {
      if (!port.nodePort || taken.has(port.nodePort)) continue;
      const problem = this.#ports.take(port.nodePort, holder.owner, holder.release);
      if (problem !== undefined)
        errors.push(
          fieldError.invalid(`spec.ports[${index}].nodePort`, port.nodePort, this.#portProblem(problem)),
        );
      taken.add(port.nodePort);
      chosen.set(port.port, port.nodePort);
    }
    this.#refuse(attributes, errors);
    for (const port of given ? (spec.ports ?? []) : []) {
      if (port.nodePort) continue;
      const shared = chosen.get(port.port);
      const usable = shared !== undefined && !sharesProtocol(spec.ports ?? [], port, shared);
      port.nodePort = usable ? shared : this.#anyPort(holder);
      chosen.set(port.port, port.nodePort);
    }
    if (spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local') return;
    if (!spec.healthCheckNodePort) {
      spec.healthCheckNodePort = this.#anyPort(holder);
      return;
    }
    const problem = this.#ports.take(spec.healthCheckNodePort, holder.owner, holder.release);
    if (problem !== undefined)
      throw internalError(
        new Error(
          `failed to allocate requested HealthCheck NodePort ${spec.healthCheckNodePort}: ${this.#portProblem(problem)}`,
        ),
      );
  }

  #anyPort(holder: Holder): number {
    const port = this.#ports.takeAny(holder.owner, holder.release);
    if (port === undefined) throw internalError(new Error('failed to allocate a nodePort: range is full'));
    return port;
  }

  #portProblem(problem: PoolProblem): string {
    return problem === 'taken'
      ? 'provided port is already allocated'
      : `provided port is not in the valid range. The range of valid ports is ${this.#ports.first}-${this.#ports.last}`;
  }
}

const ownerKey = (namespace: string, name: string): string => `${namespace}/${name}`;

function addressProblem(problem: PoolProblem, address: string, range: CidrRange): string {
  return problem === 'taken'
    ? 'provided IP is already allocated'
    : `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${range.text}`;
}

/** True when another port of the service uses this node port with the same protocol already. */
function sharesProtocol(ports: readonly ServicePort[], port: ServicePort, nodePort: number): boolean {
  return ports.some(
    (other) =>
      other !== port && other.nodePort === nodePort && (other.protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
  );
}

function portsOf(spec: ServiceSpec): number[] {
  const ports = (spec.ports ?? []).map(({ nodePort }) => nodePort ?? 0);
  return [...ports, spec.healthCheckNodePort ?? 0].filter((port) => port > 0);
}
