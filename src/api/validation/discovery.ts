// Rules for endpoint slices. After pkg/apis/discovery/validation.

import { dns1123Label, dns1123Subdomain, labelValue, qualifiedName } from '../names.ts';
import type { Endpoint, EndpointPort, EndpointSlice } from '../types/discovery-v1.ts';
import { familyOf, validateEndpointAddress } from './addresses.ts';
import type { Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { protocols } from './pod-containers.ts';

const MOST_ENDPOINTS = 1000;
const MOST_ADDRESSES = 100;
const MOST_PORTS = 20_000;
const MOST_TOPOLOGY_LABELS = 16;
const MOST_HINTS = 8;

function validateDomainName(findings: Findings, field: string, name: string): void {
  const plain = name.replace(/\.$/, '');
  const complaints = dns1123Subdomain(plain);
  if (name === '') findings.required(field);
  else if (complaints.length > 0) findings.invalid(field, plain, complaints.join(','));
  else if (!plain.includes('.'))
    findings.invalid(field, plain, 'should be a domain with at least two segments separated by dots');
}

function validateSliceAddress(findings: Findings, field: string, address: string, type: string): void {
  if (type === 'FQDN') {
    validateDomainName(findings, field, address);
  } else if (type === 'IPv4' || type === 'IPv6') {
    if (familyOf(address) !== type) findings.invalid(field, address, `must be an ${type} address`);
    else validateEndpointAddress(findings, field, address);
  }
}

function validateHints(findings: Findings, field: string, endpoint: Endpoint): void {
  const { forZones = [], forNodes = [] } = endpoint.hints ?? {};
  for (const [list, hints, rule] of [
    ['forZones', forZones, labelValue],
    ['forNodes', forNodes, dns1123Subdomain],
  ] as const) {
    const at = `${field}.hints.${list}`;
    if (hints.length > MOST_HINTS) {
      findings.tooMany(at, hints.length, MOST_HINTS);
      continue;
    }
    const seen = new Set<string>();
    for (const [i, { name }] of hints.entries()) {
      if (seen.has(name)) findings.duplicate(`${at}[${i}].name`, name);
      seen.add(name);
      findings.name(`${at}[${i}].name`, name, rule);
    }
  }
}

function validateEndpoints(findings: Findings, slice: EndpointSlice): void {
  const endpoints = slice.endpoints ?? [];
  if (endpoints.length > MOST_ENDPOINTS) {
    findings.tooMany('endpoints', endpoints.length, MOST_ENDPOINTS);
    return;
  }
  for (const [i, endpoint] of endpoints.entries()) {
    const at = `endpoints[${i}]`;
    const addresses = endpoint.addresses ?? [];
    if (addresses.length === 0) findings.required(`${at}.addresses`, 'must contain at least 1 address');
    else if (addresses.length > MOST_ADDRESSES)
      findings.tooMany(`${at}.addresses`, addresses.length, MOST_ADDRESSES);
    for (const [j, address] of addresses.entries())
      validateSliceAddress(findings, `${at}.addresses[${j}]`, address, slice.addressType);
    if (endpoint.nodeName !== undefined) findings.text(`${at}.nodeName`, endpoint.nodeName, dns1123Subdomain);
    const topology = endpoint.deprecatedTopology ?? {};
    if (Object.keys(topology).length > MOST_TOPOLOGY_LABELS)
      findings.tooMany(`${at}.deprecatedTopology`, Object.keys(topology).length, MOST_TOPOLOGY_LABELS);
    findings.labels(`${at}.deprecatedTopology`, topology);
    if (endpoint.hostname !== undefined) findings.text(`${at}.hostname`, endpoint.hostname, dns1123Label);
    validateHints(findings, at, endpoint);
  }
}

function validatePorts(findings: Findings, ports: readonly EndpointPort[]): void {
  if (ports.length > MOST_PORTS) {
    findings.tooMany('ports', ports.length, MOST_PORTS);
    return;
  }
  const names = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = `ports[${i}]`;
    const name = port.name ?? '';
    if (name !== '') findings.text(`${at}.name`, name, dns1123Label);
    if (names.has(name)) findings.duplicate(`${at}.name`, name);
    names.add(name);
    findings.oneOf(`${at}.protocol`, port.protocol, protocols, { required: true });
    if (port.appProtocol !== undefined) findings.text(`${at}.appProtocol`, port.appProtocol, qualifiedName);
  }
}

const endpointSlice: KindRules<EndpointSlice> = {
  validate(object, findings) {
    findings.oneOf('addressType', object.addressType, ['FQDN', 'IPv4', 'IPv6'], { required: true });
    validateEndpoints(findings, object);
    validatePorts(findings, object.ports ?? []);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('addressType', object.addressType, old.addressType);
  },
};

export const discoveryRules: Readonly<Record<string, AnyRules>> = { EndpointSlice: endpointSlice };
