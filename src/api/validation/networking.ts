// Rules for ingresses, network policies and the addresses of services. After pkg/apis/networking/validation.

import {
  dns1123Label,
  dns1123Subdomain,
  pathSegmentName,
  portName,
  portNumber,
  wildcardDns1123Subdomain,
} from '../names.ts';
import type { TypedLocalObjectReference } from '../types/core-v1.ts';
import type {
  HTTPIngressPath,
  Ingress,
  IngressBackend,
  IngressClass,
  IngressClassParametersReference,
  IPAddress,
  IPBlock,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  ServiceCIDR,
} from '../types/networking-v1.ts';
import {
  canonicalAddress,
  familyOf,
  familyOfRange,
  parseRange,
  rangeContains,
  validateRange,
} from './addresses.ts';
import type { Findings } from './findings.ts';
import { validateDomainPrefixedPath } from './job.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { protocols } from './pod-containers.ts';
import { validateLoadBalancerStatus } from './service.ts';

function validateReference(
  findings: Findings,
  field: string,
  reference: TypedLocalObjectReference | IngressClassParametersReference,
): void {
  if (reference.apiGroup !== undefined)
    findings.text(`${field}.apiGroup`, reference.apiGroup, dns1123Subdomain);
  for (const part of ['kind', 'name'] as const)
    if (!reference[part]) findings.required(`${field}.${part}`, `${part} is required`);
    else findings.text(`${field}.${part}`, reference[part], pathSegmentName);
}

function validateBackend(findings: Findings, field: string, backend: IngressBackend | undefined): void {
  const { service, resource } = backend ?? {};
  if (service !== undefined && resource !== undefined) {
    findings.invalid(field, '', 'cannot set both resource and service backends');
  } else if (resource !== undefined) {
    validateReference(findings, `${field}.resource`, resource);
  } else if (service !== undefined) {
    findings.name(`${field}.service.name`, service.name, dns1123Label);
    const { name = '', number = 0 } = service.port ?? {};
    if (name !== '' && number !== 0) findings.invalid(field, '', 'cannot set both port name & port number');
    else if (name !== '') findings.text(`${field}.service.port.name`, name, portName);
    else if (number !== 0)
      for (const complaint of portNumber(number))
        findings.invalid(`${field}.service.port.number`, number, complaint);
    else findings.required(field, 'port name or number is required');
  } else {
    findings.invalid(field, '', 'resource or service backend is required');
  }
}

const sequencesOutOfPlace = ['//', '/./', '/../', '%2f', '%2F'];
const endsOutOfPlace = ['/..', '/.'];

function validateHttpPath(findings: Findings, field: string, path: HTTPIngressPath): void {
  const text = path.path ?? '';
  const at = `${field}.path`;
  const absolute = () => {
    if (!text.startsWith('/')) findings.invalid(at, text, 'must be an absolute path');
  };
  switch (path.pathType as string | undefined) {
    case undefined:
      findings.required(`${field}.pathType`, 'pathType must be specified');
      return;
    case 'Exact':
    case 'Prefix':
      absolute();
      for (const part of sequencesOutOfPlace)
        if (text.includes(part)) findings.invalid(at, text, `must not contain '${part}'`);
      for (const end of endsOutOfPlace)
        if (text.endsWith(end)) findings.invalid(at, text, `cannot end with '${end}'`);
      break;
    case 'ImplementationSpecific':
      if (text !== '') absolute();
      break;
    default:
      findings.notSupported(`${field}.pathType`, path.pathType, [
        'Exact',
        'ImplementationSpecific',
        'Prefix',
      ]);
  }
  validateBackend(findings, `${field}.backend`, path.backend);
}

function validateHost(findings: Findings, field: string, host: string): void {
  findings.text(field, host, host.includes('*') ? wildcardDns1123Subdomain : dns1123Subdomain);
}

const CLASS_ANNOTATION = 'kubernetes.io/ingress.class';

const ingress: KindRules<Ingress> = {
  validate({ spec = {} }, findings) {
    const rules = spec.rules ?? [];
    if (rules.length === 0 && spec.defaultBackend === undefined)
      findings.invalid('spec', rules, 'either `defaultBackend` or `rules` must be specified');
    if (spec.defaultBackend !== undefined)
      validateBackend(findings, 'spec.defaultBackend', spec.defaultBackend);
    for (const [i, rule] of rules.entries()) {
      const at = `spec.rules[${i}]`;
      if (rule.host) {
        if (familyOf(rule.host) !== undefined)
          findings.invalid(`${at}.host`, rule.host, 'must be a DNS name, not an IP address');
        validateHost(findings, `${at}.host`, rule.host);
      }
      if (rule.http === undefined) continue;
      const paths = rule.http.paths ?? [];
      if (paths.length === 0) findings.required(`${at}.http.paths`);
      for (const [j, path] of paths.entries()) validateHttpPath(findings, `${at}.http.paths[${j}]`, path);
    }
    for (const [i, tls] of (spec.tls ?? []).entries()) {
      for (const [j, host] of (tls.hosts ?? []).entries())
        validateHost(findings, `spec.tls[${i}].hosts[${j}]`, host);
      if (tls.secretName) findings.text(`spec.tls[${i}].secretName`, tls.secretName, dns1123Subdomain);
    }
    if (spec.ingressClassName !== undefined)
      findings.text('spec.ingressClassName', spec.ingressClassName, dns1123Subdomain);
  },
  validateNew(object, findings) {
    const annotation = object.metadata.annotations?.[CLASS_ANNOTATION];
    if (annotation !== undefined && object.spec?.ingressClassName !== undefined)
      findings.invalid(
        `annotations.${CLASS_ANNOTATION}`,
        annotation,
        'can not be set when the class field is also set',
      );
  },
  validateStatusUpdate(object, _old, findings) {
    validateLoadBalancerStatus(findings, 'status.loadBalancer', object.status?.loadBalancer);
  },
};

const MOST_CONTROLLER_NAME = 250;

const ingressClass: KindRules<IngressClass> = {
  validate({ spec = {} }, findings) {
    const controller = spec.controller ?? '';
    if (controller.length > MOST_CONTROLLER_NAME) findings.tooLong('spec.controller', MOST_CONTROLLER_NAME);
    validateDomainPrefixedPath(findings, 'spec.controller', controller);
    if (spec.parameters === undefined) return;
    const field = 'spec.parameters';
    const { scope, namespace } = spec.parameters;
    validateReference(findings, field, spec.parameters);
    if (scope === undefined) {
      findings.required(`${field}.scope`);
      return;
    }
    findings.oneOf(`${field}.scope`, scope, ['Cluster', 'Namespace'], { required: true });
    if (scope === 'Namespace') {
      if (!namespace) findings.required(`${field}.namespace`, "`parameters.scope` is set to 'Namespace'");
      else findings.text(`${field}.namespace`, namespace, dns1123Label);
    }
    if (scope === 'Cluster' && namespace !== undefined)
      findings.forbidden(`${field}.namespace`, "`parameters.scope` is set to 'Cluster'");
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec.controller', object.spec?.controller, old.spec?.controller);
  },
};

function validatePolicyPort(
  findings: Findings,
  field: string,
  { protocol, port, endPort }: NetworkPolicyPort,
): void {
  findings.oneOf(`${field}.protocol`, protocol, protocols);
  const at = `${field}.endPort`;
  if (port === undefined) {
    if (endPort !== undefined)
      findings.invalid(at, endPort, 'may not be specified when `port` is not specified');
  } else if (typeof port === 'number') {
    for (const complaint of portNumber(port)) findings.invalid(`${field}.port`, port, complaint);
    if (endPort === undefined) return;
    if (endPort < port) findings.invalid(at, port, 'must be greater than or equal to `port`');
    for (const complaint of portNumber(endPort)) findings.invalid(at, endPort, complaint);
  } else {
    if (endPort !== undefined)
      findings.invalid(at, endPort, 'may not be specified when `port` is non-numeric');
    findings.text(`${field}.port`, port, portName);
  }
}

function validateBlock(findings: Findings, field: string, { cidr, except = [] }: IPBlock): void {
  if (!cidr) {
    findings.required(`${field}.cidr`);
    return;
  }
  if (!validateRange(findings, `${field}.cidr`, cidr)) return;
  for (const [i, range] of except.entries()) {
    const at = `${field}.except[${i}]`;
    if (!validateRange(findings, at, range)) return;
    const narrower = (parseRange(range)?.prefix ?? 0) > (parseRange(cidr)?.prefix ?? 0);
    if (!narrower || !rangeContains(cidr, range))
      findings.invalid(at, range, 'must be a strict subset of `cidr`');
  }
}

function validatePeer(findings: Findings, field: string, peer: NetworkPolicyPeer): void {
  findings.labelSelector(`${field}.podSelector`, peer.podSelector);
  findings.labelSelector(`${field}.namespaceSelector`, peer.namespaceSelector);
  if (peer.ipBlock !== undefined) validateBlock(findings, `${field}.ipBlock`, peer.ipBlock);
  const selects = peer.podSelector !== undefined || peer.namespaceSelector !== undefined;
  if (!selects && peer.ipBlock === undefined) findings.required(field, 'must specify a peer');
  else if (selects && peer.ipBlock !== undefined)
    findings.forbidden(field, 'may not specify both ipBlock and another peer');
}

function validateDirection(
  findings: Findings,
  field: string,
  end: string,
  rules: readonly {
    readonly ports?: readonly NetworkPolicyPort[];
    readonly peers?: readonly NetworkPolicyPeer[];
  }[],
): void {
  for (const [i, { ports = [], peers = [] }] of rules.entries()) {
    for (const [j, port] of ports.entries()) validatePolicyPort(findings, `${field}[${i}].ports[${j}]`, port);
    for (const [j, peer] of peers.entries()) validatePeer(findings, `${field}[${i}].${end}[${j}]`, peer);
  }
}

const networkPolicy: KindRules<NetworkPolicy> = {
  validate({ spec = {} }, findings) {
    findings.labelSelector('spec.podSelector', spec.podSelector);
    const incoming = (spec.ingress ?? []).map(({ from = [], ports = [] }) => ({ peers: from, ports }));
    const outgoing = (spec.egress ?? []).map(({ to = [], ports = [] }) => ({ peers: to, ports }));
    validateDirection(findings, 'spec.ingress', 'from', incoming);
    validateDirection(findings, 'spec.egress', 'to', outgoing);
    const types = spec.policyTypes ?? [];
    if (types.length > 2)
      findings.invalid('spec.policyTypes', types, 'may not specify more than two policyTypes');
    else
      for (const [i, type] of types.entries())
        findings.oneOf(`spec.policyTypes[${i}]`, type, ['Egress', 'Ingress']);
  },
};

/** An address is the name of its object, so there must be one way to write it. */
function addressName(name: string): readonly string[] {
  if (familyOf(name) === undefined) return ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'];
  const canonical = canonicalAddress(name);
  return canonical === name ? [] : [`must be in canonical form ("${canonical}")`];
}

const ipAddress: KindRules<IPAddress> = {
  name: addressName,
  validate({ spec }, findings) {
    const field = 'spec.parentRef';
    const parent = spec?.parentRef;
    if (parent === undefined) {
      findings.required(field);
      return;
    }
    if (parent.group) findings.text(`${field}.group`, parent.group, dns1123Subdomain);
    findings.name(`${field}.resource`, parent.resource, pathSegmentName);
    findings.name(`${field}.name`, parent.name, pathSegmentName);
    if (parent.namespace) findings.text(`${field}.namespace`, parent.namespace, pathSegmentName);
  },
  validateUpdate(object, old, findings) {
    findings.immutable('spec.parentRef', object.spec?.parentRef, old.spec?.parentRef);
  },
};

const serviceCidr: KindRules<ServiceCIDR> = {
  validate({ spec = {} }, findings) {
    const ranges = spec.cidrs ?? [];
    if (ranges.length === 0) findings.required('spec.cidrs', 'at least one CIDR required');
    if (ranges.length > 2) {
      findings.invalid('spec.cidrs', spec, 'may only hold up to 2 values');
      return;
    }
    for (const [i, range] of ranges.entries())
      validateRange(findings, `spec.cidrs[${i}]`, range, { canonical: true });
    const [family, second] = ranges.map(familyOfRange);
    if (ranges.length === 2 && family === second && family !== undefined)
      findings.invalid(
        'spec.cidrs',
        ranges,
        'may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64',
      );
  },
  validateUpdate(object, old, findings) {
    const now = object.spec?.cidrs ?? [];
    const before = old.spec?.cidrs ?? [];
    // A range of the second family may be added.
    const widened = before.length === 1 && now.length === 2;
    if (!widened && now.length !== before.length) findings.immutable('spec.cidrs', now, before);
    else for (const [i, range] of before.entries()) findings.immutable(`spec.cidrs[${i}]`, now[i], range);
  },
};

export const networkingRules: Readonly<Record<string, AnyRules>> = {
  Ingress: ingress,
  IngressClass: ingressClass,
  NetworkPolicy: networkPolicy,
  IPAddress: ipAddress,
  ServiceCIDR: serviceCidr,
};
