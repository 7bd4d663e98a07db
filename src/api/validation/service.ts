// Services: ports, addresses of one or two families, and what goes with each type. Addresses and node ports are
// allotted before this looks (KEP-563 tells the rules for two families).

import { dns1123Label, dns1123Subdomain, qualifiedName } from '../names.ts';
import type { LoadBalancerStatus, Service, ServiceSpec } from '../types/core-v1.ts';
import { familyOf, validateAddress, validateEndpointAddress, validateRange } from './addresses.ts';
import type { Findings } from './findings.ts';
import { protocols, validatePortNumberOrName } from './pod-containers.ts';

const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const families = ['IPv4', 'IPv6'];
const familyPolicies = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const distributions = ['PreferClose', 'PreferSameZone', 'PreferSameNode'];
const KUBELET_PORT = 10250;
const MOST_AFFINITY_SECONDS = 86_400;
const SOURCE_RANGES = 'service.beta.kubernetes.io/load-balancer-source-ranges';

function isHeadless(spec: ServiceSpec): boolean {
  return spec.clusterIPs?.length === 1 && spec.clusterIPs[0] === 'None';
}

function isExternal(spec: ServiceSpec): boolean {
  return (
    spec.type === 'LoadBalancer' ||
    spec.type === 'NodePort' ||
    (spec.type === 'ClusterIP' && (spec.externalIPs ?? []).length > 0)
  );
}

function needsHealthCheck(spec: ServiceSpec): boolean {
  return spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
}

function validatePorts(findings: Findings, spec: ServiceSpec): void {
  const ports = spec.ports ?? [];
  const names = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = `spec.ports[${i}]`;
    if (port.name) {
      findings.text(`${at}.name`, port.name, dns1123Label);
      if (names.has(port.name)) findings.duplicate(`${at}.name`, port.name);
      names.add(port.name);
    } else if (ports.length > 1) {
      findings.required(`${at}.name`);
    }
    findings.range(`${at}.port`, port.port, 1, 65535);
    findings.oneOf(`${at}.protocol`, port.protocol, protocols, { required: true });
    validatePortNumberOrName(findings, `${at}.targetPort`, port.targetPort ?? port.port);
    if (port.appProtocol !== undefined) findings.text(`${at}.appProtocol`, port.appProtocol, qualifiedName);
  }
}

function validateUniquePorts(findings: Findings, spec: ServiceSpec): void {
  const nodePorts = new Set<string>();
  const ports = new Set<string>();
  for (const [i, port] of (spec.ports ?? []).entries()) {
    const at = `spec.ports[${i}]`;
    if (port.nodePort) {
      if (spec.type === 'ClusterIP')
        findings.forbidden(`${at}.nodePort`, "may not be used when `type` is 'ClusterIP'");
      const key = `${port.protocol}/${port.nodePort}`;
      if (nodePorts.has(key)) findings.duplicate(`${at}.nodePort`, port.nodePort);
      nodePorts.add(key);
    }
    const key = `${port.protocol}/${port.port}`;
    if (ports.has(key)) findings.duplicate(at, { port: port.port, protocol: port.protocol });
    ports.add(key);
  }
}

function validateClusterAddresses(findings: Findings, spec: ServiceSpec): void {
  if (spec.type === 'ExternalName') return;
  const addresses = spec.clusterIPs ?? [];
  const field = 'spec.clusterIPs';
  if (spec.clusterIP) {
    if (addresses.length === 0) findings.required(field);
    else if (addresses[0] !== spec.clusterIP)
      findings.invalid(field, addresses, 'first value must match `clusterIP`');
  } else if (addresses.length > 0) {
    findings.invalid(field, addresses, 'must be empty when `clusterIP` is not specified');
  }
  const wanted = spec.ipFamilies ?? [];
  for (const [i, family] of wanted.entries()) {
    const at = `spec.ipFamilies[${i}]`;
    if (!families.includes(family)) findings.notSupported(at, family, families);
    if (wanted.indexOf(family) < i) findings.duplicate(at, family);
  }
  findings.oneOf('spec.ipFamilyPolicy', spec.ipFamilyPolicy, familyPolicies);
  let valid = true;
  for (const [i, address] of addresses.entries()) {
    if (i === 0 && address === 'None') {
      if (addresses.length === 1) continue;
      findings.invalid(field, addresses, "'None' must be the first and only value");
      valid = false;
      continue;
    }
    if (!validateAddress(findings, `${field}[${i}]`, address)) valid = false;
  }
  if (addresses.length > 2) findings.invalid(field, addresses, 'may only hold up to 2 values');
  if (!valid) return;
  if (addresses.length > 1 && new Set(addresses.map(familyOf)).size !== 2)
    findings.invalid(field, addresses, 'may specify no more than one IP for each IP family');
  if (isHeadless(spec)) return;
  for (const [i, address] of addresses.entries()) {
    const family = wanted[i];
    if (family !== undefined && familyOf(address) !== family)
      findings.invalid(
        `${field}[${i}]`,
        address,
        `expected an ${family} value as indicated by \`ipFamilies[${i}]\``,
      );
  }
}

function validateSessionAffinity(findings: Findings, spec: ServiceSpec): void {
  const config = spec.sessionAffinityConfig;
  const field = 'spec.sessionAffinityConfig';
  findings.oneOf('spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None'], { required: true });
  if (spec.sessionAffinity === 'None' && config !== undefined)
    findings.forbidden(field, 'must not be set when session affinity is None');
  if (spec.sessionAffinity !== 'ClientIP') return;
  const WHEN = 'when session affinity type is ClientIP';
  const seconds = config?.clientIP?.timeoutSeconds;
  if (config === undefined) findings.required(field, WHEN);
  else if (config.clientIP === undefined) findings.required(`${field}.clientIP`, WHEN);
  else if (seconds === undefined) findings.required(`${field}.clientIP.timeoutSeconds`, WHEN);
  else if (seconds <= 0 || seconds > MOST_AFFINITY_SECONDS)
    findings.invalid(
      `${field}.clientIP.timeoutSeconds`,
      seconds,
      `must be greater than 0 and less than ${MOST_AFFINITY_SECONDS}`,
    );
}

function validateType(findings: Findings, spec: ServiceSpec): void {
  switch (spec.type) {
    case 'LoadBalancer':
      for (const [i, port] of (spec.ports ?? []).entries())
        if (port.port === KUBELET_PORT)
          findings.invalid(
            `spec.ports[${i}]`,
            port.port,
            `may not expose port ${KUBELET_PORT} externally since it is used by kubelet`,
          );
      if (isHeadless(spec))
        findings.invalid('spec.clusterIPs[0]', 'None', "may not be set to 'None' for LoadBalancer services");
      break;
    case 'NodePort':
      if (isHeadless(spec))
        findings.invalid('spec.clusterIPs[0]', 'None', "may not be set to 'None' for NodePort services");
      break;
    case 'ExternalName': {
      const no = 'may not be set for ExternalName services';
      if ((spec.clusterIPs ?? []).length > 0) findings.forbidden('spec.clusterIPs', no);
      if ((spec.ipFamilies ?? []).length > 0) findings.forbidden('spec.ipFamilies', no);
      if (spec.ipFamilyPolicy !== undefined) findings.forbidden('spec.ipFamilyPolicy', no);
      findings.name('spec.externalName', (spec.externalName ?? '').replace(/\.$/, ''), dns1123Subdomain);
      break;
    }
    default:
  }
}

function validateSourceRanges(findings: Findings, service: Service, spec: ServiceSpec): void {
  const only = "may only be used when `type` is 'LoadBalancer'";
  const ranges = spec.loadBalancerSourceRanges ?? [];
  const annotation = service.metadata.annotations?.[SOURCE_RANGES];
  if (ranges.length > 0) {
    const field = 'spec.LoadBalancerSourceRanges';
    if (spec.type !== 'LoadBalancer') findings.forbidden(field, only);
    for (const [i, range] of ranges.entries()) validateRange(findings, `${field}[${i}]`, range.trim());
  } else if (annotation !== undefined) {
    const field = `metadata.annotations[${SOURCE_RANGES}]`;
    if (spec.type !== 'LoadBalancer') findings.forbidden(field, only);
    if (annotation.trim() !== '')
      for (const range of annotation.split(',')) validateRange(findings, field, range.trim());
  }
}

function validateTraffic(findings: Findings, spec: ServiceSpec): void {
  const policy = spec.externalTrafficPolicy;
  const field = 'spec.externalTrafficPolicy';
  if (!isExternal(spec)) {
    if (policy) findings.invalid(field, policy, 'may only be set for externally-accessible services');
  } else {
    findings.oneOf(field, policy, ['Cluster', 'Local'], { required: true });
  }
  const port = spec.healthCheckNodePort ?? 0;
  if (!needsHealthCheck(spec)) {
    if (port !== 0)
      findings.invalid(
        'spec.healthCheckNodePort',
        port,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      );
  } else if (port === 0) {
    findings.required('spec.healthCheckNodePort');
  } else {
    findings.range('spec.healthCheckNodePort', port, 1, 65535);
  }
  findings.oneOf('spec.internalTrafficPolicy', spec.internalTrafficPolicy, ['Cluster', 'Local'], {
    required: spec.type !== 'ExternalName',
  });
  findings.oneOf('spec.trafficDistribution', spec.trafficDistribution, distributions);
}

export function validateService(service: Service, findings: Findings): void {
  const spec = service.spec ?? {};
  if ((spec.ports ?? []).length === 0 && !isHeadless(spec) && spec.type !== 'ExternalName')
    findings.required('spec.ports');
  validateType(findings, spec);
  validatePorts(findings, spec);
  findings.labels('spec.selector', spec.selector);
  validateSessionAffinity(findings, spec);
  validateClusterAddresses(findings, spec);
  for (const [i, address] of (spec.externalIPs ?? []).entries())
    validateEndpointAddress(findings, `spec.externalIPs[${i}]`, address);
  findings.oneOf('spec.type', spec.type, types, { required: true });
  validateUniquePorts(findings, spec);
  validateSourceRanges(findings, service, spec);
  if (spec.type !== 'LoadBalancer') {
    const only = "may only be used when `type` is 'LoadBalancer'";
    if (spec.allocateLoadBalancerNodePorts !== undefined)
      findings.forbidden('spec.allocateLoadBalancerNodePorts', only);
    if (spec.loadBalancerClass !== undefined) findings.forbidden('spec.loadBalancerClass', only);
  } else {
    if (spec.allocateLoadBalancerNodePorts === undefined) findings.required('allocateLoadBalancerNodePorts');
    if (spec.loadBalancerClass !== undefined)
      findings.text('spec.loadBalancerClass', spec.loadBalancerClass, qualifiedName);
  }
  validateTraffic(findings, spec);
}

/** The first address stays for good; the second may come, and go when one family is asked for again. */
function validateAddressChange(findings: Findings, now: ServiceSpec, before: ServiceSpec): void {
  const list = now.clusterIPs ?? [];
  const old = before.clusterIPs ?? [];
  const at = (i: number) => `spec.clusterIPs[${i}]`;
  if (list.length === old.length) {
    for (const [i, address] of old.entries())
      if (address !== list[i]) findings.invalid(at(i), list, 'may not change once set');
    return;
  }
  if (list.length === 0) {
    findings.invalid(at(0), list, 'primary clusterIP can not be unset');
    return;
  }
  if (old.length > 0 && list[0] !== old[0]) findings.invalid(at(0), list, 'may not change once set');
  if (list.length < old.length && list.length === 1 && now.ipFamilyPolicy !== 'SingleStack')
    findings.invalid(
      at(0),
      list,
      "`ipFamilyPolicy` must be set to 'SingleStack' when releasing the secondary clusterIP",
    );
}

function validateFamilyChange(findings: Findings, now: ServiceSpec, before: ServiceSpec): void {
  const list = now.ipFamilies ?? [];
  const old = before.ipFamilies ?? [];
  const field = 'spec.ipFamilies[0]';
  if (list.length === old.length) {
    if (old.some((family, i) => family !== list[i])) findings.invalid(field, list, 'may not change once set');
    return;
  }
  if (list.length < old.length && (now.clusterIPs ?? []).length === 0)
    findings.invalid(field, list, 'primary ipFamily can not be unset');
  if (list.length > 0 && old.length > 0 && list[0] !== old[0])
    findings.invalid(field, list, 'may not change once set');
  if (list.length < old.length && list.length === 1 && now.ipFamilyPolicy !== 'SingleStack')
    findings.invalid(
      field,
      list,
      "`ipFamilyPolicy` must be set to 'SingleStack' when releasing the secondary ipFamily",
    );
}

export function validateServiceUpdate(service: Service, old: Service, findings: Findings): void {
  const now = service.spec ?? {};
  const before = old.spec ?? {};
  const named = now.type === 'ExternalName' || before.type === 'ExternalName';
  if (!named) {
    if (!(isHeadless(now) && isHeadless(before))) validateAddressChange(findings, now, before);
    if (!isHeadless(now) && !isHeadless(before)) validateFamilyChange(findings, now, before);
  }
  if (
    before.type === 'LoadBalancer' &&
    now.type === 'LoadBalancer' &&
    now.loadBalancerClass !== before.loadBalancerClass
  )
    findings.invalid('spec.loadBalancerClass', now.loadBalancerClass, 'may not change once set');
  if (
    needsHealthCheck(now) &&
    needsHealthCheck(before) &&
    now.healthCheckNodePort !== before.healthCheckNodePort
  )
    findings.forbidden('spec.healthCheckNodePort', 'field is immutable');
}

export function validateLoadBalancerStatus(
  findings: Findings,
  field: string,
  status: LoadBalancerStatus | undefined,
): void {
  for (const [i, ingress] of (status?.ingress ?? []).entries()) {
    const at = `${field}.ingress[${i}]`;
    if (ingress.ip) validateAddress(findings, `${at}.ip`, ingress.ip);
    if (ingress.ipMode !== undefined) {
      if (!ingress.ip) findings.forbidden(`${at}.ipMode`, 'may not be specified when `ip` is not set');
      findings.oneOf(`${at}.ipMode`, ingress.ipMode, ['Proxy', 'VIP']);
    }
    if (ingress.hostname) {
      findings.text(`${at}.hostname`, ingress.hostname, dns1123Subdomain);
      if (familyOf(ingress.hostname) !== undefined)
        findings.invalid(`${at}.hostname`, ingress.hostname, 'must be a DNS name, not an IP address');
    }
  }
}

export function validateServiceStatusUpdate(service: Service, _old: Service, findings: Findings): void {
  const balancer = service.status?.loadBalancer;
  if (service.spec?.type !== 'LoadBalancer' && (balancer?.ingress ?? []).length > 0)
    findings.forbidden('status.loadBalancer.ingress', 'may only be used when `spec.type` is "LoadBalancer"');
  validateLoadBalancerStatus(findings, 'status.loadBalancer', balancer);
}
