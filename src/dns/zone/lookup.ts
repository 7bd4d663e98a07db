// Names of the cluster's zone and of its reverse zones into records: the DNS-based service discovery specification 1.1
// and, where it leaves things open, what CoreDNS's kubernetes plugin answers (weights, names of endpoints, the SRV
// records of a service's own name). Denials are exact: NXDOMAIN where neither the name nor any below it exists,
// NOERROR without records where only the type does not (RFC 8020).

import { isIP } from 'node:net';
import { addressBytes, addressText, reversePrefix } from '../message/address.ts';
import { RCODE, TYPE } from '../message/constants.ts';
import {
  isWithin,
  labelsOf,
  lowerCase,
  NameError,
  nameOf,
  parseName,
  type WireName,
} from '../message/name.ts';
import {
  addressRecord,
  cnameRecord,
  hinfoRecord,
  nsRecord,
  ptrRecord,
  type ResourceRecord,
  soaRecord,
  srvRecord,
  txtRecord,
} from '../message/record.ts';
import {
  addressDependency,
  type Dependency,
  type NamedPort,
  namespaceDependency,
  type ReadyEndpoint,
  type ServiceDirectory,
  type ServiceEntry,
  serviceDependency,
} from './directory.ts';
import { parseZoneName, type ZoneName } from './names.ts';

const SCHEMA_VERSION = '1.1.0';
/** The specification's example and CoreDNS's value. */
const VERSION_TTL = 28_800;
/** RFC 8482 §4.2: the answer to ANY, which says nothing, and may be kept long. */
const ANY_TTL = 8482;
/** Aliases of aliases are followed so far, as in CoreDNS. */
const LONGEST_CHAIN = 8;

export interface ZoneSettings {
  /** In lower case. */
  readonly zone: WireName;
  /** Seconds for which records and denials may be kept. */
  readonly ttl: number;
  /** The Service under which this server is found. */
  readonly service: { readonly namespace: string; readonly name: string };
  /** Addresses of `ns.dns.<zone>` while that Service is not there. */
  readonly ownAddresses: readonly string[];
}

export interface ZoneAnswer {
  readonly rcode: number;
  readonly answers: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
  /** Where an alias leads out of the zone: its records belong into the answer too. */
  readonly follow?: WireName;
  readonly dependencies: readonly Dependency[];
}

/** An endpoint or a service, with the ports that were asked for. */
interface Target {
  /** The endpoint's own label; a service has its addresses under its own name. */
  readonly label: string | undefined;
  readonly addresses: readonly string[];
  readonly ports: readonly NamedPort[];
}

/** Builds one answer: what was found so far, and what it depends on. */
class Answer {
  readonly answers: ResourceRecord[] = [];
  readonly additional: ResourceRecord[] = [];
  readonly dependencies = new Set<Dependency>();
  follow: WireName | undefined;

  end(rcode: number): ZoneAnswer {
    return {
      rcode,
      answers: this.answers,
      additional: this.additional,
      ...(this.follow !== undefined && { follow: this.follow }),
      dependencies: [...this.dependencies],
    };
  }
}

export class ZoneLookup {
  readonly #directory: ServiceDirectory;
  readonly #settings: ZoneSettings;
  readonly #zoneLabels: readonly string[];

  constructor(directory: ServiceDirectory, settings: ZoneSettings) {
    this.#directory = directory;
    this.#settings = settings;
    this.#zoneLabels = labelsOf(settings.zone);
  }

  /** `name` is the zone's or below it, in lower case. */
  lookup(name: WireName, type: number): ZoneAnswer {
    const answer = new Answer();
    return answer.end(this.#resolve(answer, name, type, new Set()));
  }

  /** Undefined when the name is none of ours: no service has the address. */
  reverse(name: WireName, type: number): ZoneAnswer | undefined {
    const prefix = reversePrefix(labelsOf(name));
    const address =
      prefix !== undefined && prefix.bits === 8 * prefix.bytes.length ? addressText(prefix.bytes) : undefined;
    if (address === undefined) return undefined;
    const answer = new Answer();
    answer.dependencies.add(addressDependency(address));
    const targets = this.#namesOfAddress(address, answer.dependencies);
    if (targets.length === 0) return undefined;
    const { ttl } = this.#settings;
    if (type === TYPE.PTR) answer.answers.push(...targets.map((target) => ptrRecord(name, ttl, target)));
    else if (type === TYPE.ANY) answer.answers.push(hinfoRecord(name, ANY_TTL, 'RFC8482', ''));
    return answer.end(RCODE.NOERROR);
  }

  /** The start of authority of `zone`, which is what a denial carries. */
  soa(zone: WireName, serial: number): ResourceRecord {
    const { ttl } = this.#settings;
    const labels = labelsOf(zone);
    return soaRecord(zone, Math.min(300, ttl), {
      primary: nameOf(['ns', 'dns', ...labels]),
      mailbox: nameOf(['hostmaster', ...labels]),
      serial,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: ttl,
    });
  }

  #resolve(answer: Answer, name: WireName, type: number, seen: Set<WireName>): number {
    const labels = labelsOf(name);
    const asked = parseZoneName(labels.slice(0, labels.length - this.#zoneLabels.length));
    const rcode = this.#answerFor(answer, asked, name, type, seen);
    if (type === TYPE.ANY && rcode === RCODE.NOERROR && answer.answers.length === 0)
      answer.answers.push(hinfoRecord(name, ANY_TTL, 'RFC8482', ''));
    return rcode;
  }

  #answerFor(answer: Answer, asked: ZoneName, name: WireName, type: number, seen: Set<WireName>): number {
    const { ttl } = this.#settings;
    switch (asked.kind) {
      case 'none':
        return RCODE.NXDOMAIN;
      case 'nothing':
        return RCODE.NOERROR;
      case 'apex':
        // The SOA's serial changes with every change; who answers puts it in.
        if (type === TYPE.SOA) answer.answers.push(this.soa(name, 0));
        else if (type === TYPE.NS) this.#nameServers(answer);
        return RCODE.NOERROR;
      case 'version':
        if (type === TYPE.TXT) answer.answers.push(txtRecord(name, VERSION_TTL, [SCHEMA_VERSION]));
        return RCODE.NOERROR;
      case 'server':
        this.#addresses(answer.answers, name, this.#serverAddresses(answer), type);
        return RCODE.NOERROR;
      default:
        break;
    }
    answer.dependencies.add(namespaceDependency(asked.namespace));
    const known = this.#directory.hasNamespace(asked.namespace);
    if (asked.kind === 'namespace') return known ? RCODE.NOERROR : RCODE.NXDOMAIN;
    if (asked.kind === 'pod') {
      const bytes = known ? addressBytes(asked.address) : undefined;
      if (bytes === undefined) return RCODE.NXDOMAIN;
      if (type === (bytes.length === 4 ? TYPE.A : TYPE.AAAA))
        answer.answers.push(addressRecord(name, ttl, asked.address));
      return RCODE.NOERROR;
    }
    answer.dependencies.add(serviceDependency(asked.namespace, asked.service));
    const entry = known ? this.#directory.find(asked.namespace, asked.service) : undefined;
    if (entry?.service === undefined) return RCODE.NXDOMAIN;
    if (entry.service.type === 'external') {
      if (asked.kind !== 'service') return RCODE.NXDOMAIN;
      return this.#alias(answer, name, entry.service.target, type, seen);
    }
    return this.#service(answer, entry, asked, name, type);
  }

  #service(
    answer: Answer,
    entry: ServiceEntry,
    asked: Exclude<ZoneName, { kind: 'apex' | 'version' | 'server' | 'nothing' | 'none' }>,
    name: WireName,
    type: number,
  ): number {
    const { service } = entry;
    let targets: Target[];
    if (service?.type === 'cluster' && asked.kind !== 'endpoint') {
      targets = [{ label: undefined, addresses: service.addresses, ports: service.ports }];
    } else {
      targets = endpointTargets(entry, asked.kind === 'endpoint' ? asked.endpoint : undefined);
      // Specification §2.4.1: a headless service without ready endpoints has no name.
      if (targets.length === 0) return RCODE.NXDOMAIN;
    }
    if (asked.kind === 'port' || asked.kind === 'protocol') {
      const matches = (port: NamedPort): boolean =>
        port.name !== '' &&
        port.protocol === asked.protocol &&
        (asked.kind === 'protocol' || port.name === asked.port);
      targets = targets
        .map((target) => ({ ...target, ports: target.ports.filter(matches) }))
        .filter(({ ports }) => ports.length > 0);
      if (targets.length === 0) return RCODE.NXDOMAIN;
      if (asked.kind === 'port' && type === TYPE.SRV) this.#srv(answer, name, entry, targets);
      return RCODE.NOERROR;
    }
    if (type === TYPE.SRV) this.#srv(answer, name, entry, targets);
    else if (type === TYPE.A || type === TYPE.AAAA) {
      const addresses = new Set(targets.flatMap((target) => target.addresses));
      this.#addresses(answer.answers, name, addresses, type);
    }
    return RCODE.NOERROR;
  }

  #srv(answer: Answer, name: WireName, entry: ServiceEntry, targets: readonly Target[]): void {
    const { ttl } = this.#settings;
    const total = targets.reduce((sum, { addresses, ports }) => sum + addresses.length * ports.length, 0);
    const weight = Math.max(1, Math.floor(100 / Math.max(1, total)));
    const written = new Set<string>();
    const once = (key: string): boolean => !written.has(key) && written.add(key) !== undefined;
    for (const { label, ports, addresses } of targets) {
      const target = this.#nameOf(entry, label);
      if (target === undefined || ports.length === 0) continue;
      for (const { port } of ports)
        if (once(`${target}:${port}`))
          answer.answers.push(srvRecord(name, ttl, { priority: 0, weight, port, target }));
      for (const address of addresses)
        if (once(`${target}=${address}`)) answer.additional.push(addressRecord(target, ttl, address));
    }
  }

  #alias(answer: Answer, name: WireName, target: string, type: number, seen: Set<WireName>): number {
    // An address is no name, and is not resolved (Service docs, "ExternalName").
    if (target === '' || isIP(target.replace(/\.$/, '')) !== 0) return RCODE.NXDOMAIN;
    let written: WireName;
    try {
      written = parseName(target);
    } catch (error) {
      if (error instanceof NameError) return RCODE.NXDOMAIN;
      throw error;
    }
    if (type === TYPE.SRV || type === TYPE.ANY) return RCODE.NOERROR;
    const next = lowerCase(written);
    seen.add(name);
    // A circle, or nearly one: the aliases are told as far as they were followed.
    if (next === name || (seen.has(next) && type !== TYPE.CNAME)) return RCODE.NOERROR;
    answer.answers.push(cnameRecord(name, this.#settings.ttl, written));
    if (type === TYPE.CNAME || seen.size >= LONGEST_CHAIN) return RCODE.NOERROR;
    if (isWithin(next, this.#settings.zone)) return this.#resolve(answer, next, type, seen);
    answer.follow = next;
    return RCODE.NOERROR;
  }

  #addresses(to: ResourceRecord[], name: WireName, addresses: Iterable<string>, type: number): void {
    const family = type === TYPE.A ? 4 : type === TYPE.AAAA ? 6 : undefined;
    for (const address of addresses)
      if (isIP(address) === family) to.push(addressRecord(name, this.#settings.ttl, address));
  }

  #serverAddresses(answer: Answer): readonly string[] {
    const { service, ownAddresses } = this.#settings;
    answer.dependencies.add(serviceDependency(service.namespace, service.name));
    const view = this.#directory.find(service.namespace, service.name)?.service;
    return view?.type === 'cluster' && view.addresses.length > 0 ? view.addresses : ownAddresses;
  }

  #nameServers(answer: Answer): void {
    const { service, ttl, zone } = this.#settings;
    const addresses = this.#serverAddresses(answer);
    const view = this.#directory.find(service.namespace, service.name)?.service;
    const server =
      view?.type === 'cluster' && view.addresses.length > 0
        ? nameOf([service.name, service.namespace, 'svc', ...this.#zoneLabels])
        : nameOf(['ns', 'dns', ...this.#zoneLabels]);
    answer.answers.push(nsRecord(zone, ttl, server));
    for (const type of [TYPE.A, TYPE.AAAA]) this.#addresses(answer.additional, server, addresses, type);
  }

  /** The service that has it as cluster IP, else the endpoints of all services that have it. */
  #namesOfAddress(address: string, dependencies: Set<Dependency>): WireName[] {
    const named = (entry: ServiceEntry, endpoint?: ReadyEndpoint): WireName | undefined => {
      const { namespace, name } = entry;
      dependencies.add(serviceDependency(namespace, name)).add(namespaceDependency(namespace));
      if (entry.service === undefined || !this.#directory.hasNamespace(namespace)) return undefined;
      return this.#nameOf(entry, endpoint?.label);
    };
    for (const entry of this.#directory.servicesWithAddress(address)) {
      const name = named(entry);
      if (name !== undefined) return [name];
    }
    const names = new Set<WireName>();
    for (const { entry, endpoint } of this.#directory.endpointsWithAddress(address)) {
      const name = named(entry, endpoint);
      if (name !== undefined) names.add(name);
    }
    return [...names];
  }

  /** Of a service or of one of its endpoints; undefined where the whole would be too long for a name. */
  #nameOf({ name, namespace }: ServiceEntry, label: string | undefined): WireName | undefined {
    const service = [name, namespace, 'svc', ...this.#zoneLabels];
    return nameOrNone(label === undefined ? service : [label, ...service]);
  }
}

/** One target for each address: CoreDNS counts them so for the weights. */
function endpointTargets(entry: ServiceEntry, label: string | undefined): Target[] {
  const targets: Target[] = [];
  for (const { endpoints, ports } of entry.slices.values())
    for (const endpoint of endpoints)
      if (label === undefined || endpoint.label === label)
        targets.push({ label: endpoint.label, addresses: [endpoint.address], ports });
  return targets;
}

function nameOrNone(labels: readonly string[]): WireName | undefined {
  try {
    return nameOf(labels);
  } catch (error) {
    if (error instanceof NameError) return undefined;
    throw error;
  }
}

/** The zone of the reverse names of a family, as CoreDNS's configuration has them. */
export function reverseZone(name: WireName): WireName | undefined {
  const labels = labelsOf(name);
  const zone = labels.at(-2);
  return labels.at(-1) === 'arpa' && (zone === 'in-addr' || zone === 'ip6')
    ? nameOf([zone, 'arpa'])
    : undefined;
}
