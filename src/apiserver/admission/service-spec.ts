// What of a Service's addressing follows from its own spec and from what it was before: keeping what was allocated,
// the older field clusterIP beside clusterIPs, and families and policy (KEP-563, dual stack). Pure.

import { type FieldError, fieldError } from '../../api/index.ts';
import type { ServiceSpec } from '../../api/types/core-v1.ts';
import { addressFamily, type IpFamily, isAddress } from './ip.ts';

export const needsClusterIp = (spec: ServiceSpec): boolean => spec.type !== 'ExternalName';
export const isHeadless = (spec: ServiceSpec): boolean => spec.clusterIP === 'None';
export const wantsNodePorts = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);

const sameList = (a: readonly string[] | undefined, b: readonly string[] | undefined): boolean =>
  (a ?? []).join(',') === (b ?? []).join(',');

/** Clients from before dual stack know only clusterIP, and patches may touch either of the two. */
export function normalizeClusterIps(spec: ServiceSpec, old: ServiceSpec | undefined): void {
  const none = (spec.clusterIPs ?? []).length === 0;
  if (!old) {
    if (spec.clusterIP && none) spec.clusterIPs = [spec.clusterIP];
    return;
  }
  if ((spec.clusterIP ?? '') !== (old.clusterIP ?? '')) {
    if (!sameList(spec.clusterIPs, old.clusterIPs) && !none) return;
    if (spec.clusterIP) spec.clusterIPs = [spec.clusterIP];
    else delete spec.clusterIPs;
  } else if (none && !sameList(spec.clusterIPs, old.clusterIPs)) {
    delete spec.clusterIP;
  }
}

/** A client that leaves out what the server chose means to keep it (a PUT of the manifest that it was made from). */
export function keepAllocated(spec: ServiceSpec, old: ServiceSpec): void {
  if (needsClusterIp(spec) && needsClusterIp(old)) {
    if (!spec.clusterIP && old.clusterIP) spec.clusterIP = old.clusterIP;
    if ((spec.clusterIPs ?? []).length === 0 && old.clusterIPs && spec.clusterIP === old.clusterIP)
      spec.clusterIPs = [...old.clusterIPs];
  }
  const hadNodePorts = old.type === 'NodePort' || old.type === 'LoadBalancer';
  if (wantsNodePorts(spec) && hadNodePorts) {
    const used = new Set((spec.ports ?? []).map(({ nodePort }) => nodePort).filter(Boolean));
    // By name, as upstream does: the rest of the port may be what has changed.
    const before = new Map((old.ports ?? []).map(({ name = '', nodePort }) => [name, nodePort]));
    for (const port of spec.ports ?? []) {
      if (port.nodePort) continue;
      const nodePort = before.get(port.name ?? '');
      if (nodePort && !used.has(nodePort)) port.nodePort = nodePort;
    }
  }
  const local = (s: ServiceSpec): boolean => s.type === 'LoadBalancer' && s.externalTrafficPolicy === 'Local';
  if (local(spec) && local(old) && !spec.healthCheckNodePort && old.healthCheckNodePort)
    spec.healthCheckNodePort = old.healthCheckNodePort;
}

/**
 * A Service that prefers two families got what there was when it was made. It changes when its own addressing is
 * changed, not because the cluster has got, or lost, a family meanwhile.
 */
function isSettled(spec: ServiceSpec, old: ServiceSpec): boolean {
  return (
    old.type === spec.type &&
    spec.ipFamilyPolicy === 'PreferDualStack' &&
    (old.ipFamilyPolicy ?? 'PreferDualStack') === 'PreferDualStack' &&
    sameList(spec.clusterIPs, old.clusterIPs) &&
    sameList(spec.ipFamilies, old.ipFamilies)
  );
}

const hasSelector = (spec: ServiceSpec): boolean => Object.keys(spec.selector ?? {}).length > 0;

/**
 * Sets ipFamilies and ipFamilyPolicy where the client did not, and trims or extends them with the policy.
 * `available`: the cluster's families, the primary one first.
 */
export function initFamilies(
  spec: ServiceSpec,
  old: ServiceSpec | undefined,
  available: readonly IpFamily[],
): FieldError[] {
  if (!needsClusterIp(spec)) return [];
  if (old && isSettled(spec, old)) return [];
  // A client that leaves the policy out of an update keeps the one that there is.
  if (spec.ipFamilyPolicy === undefined && old?.ipFamilyPolicy !== undefined)
    spec.ipFamilyPolicy = old.ipFamilyPolicy;
  const errors: FieldError[] = [];
  const primary = available[0]!;
  const other = (family: IpFamily): IpFamily => (family === 'IPv4' ? 'IPv6' : 'IPv4');

  // From two families to one: what was not touched is cut.
  if (
    old &&
    spec.ipFamilyPolicy === 'SingleStack' &&
    old.ipFamilyPolicy &&
    old.ipFamilyPolicy !== 'SingleStack'
  ) {
    if ((spec.clusterIPs?.length ?? 0) === 2 && sameList(spec.clusterIPs, old.clusterIPs))
      spec.clusterIPs = spec.clusterIPs!.slice(0, 1);
    if ((spec.ipFamilies?.length ?? 0) === 2 && sameList(spec.ipFamilies, old.ipFamilies))
      spec.ipFamilies = spec.ipFamilies!.slice(0, 1);
  }
  if (old && spec.ipFamilyPolicy !== undefined && spec.ipFamilyPolicy !== 'SingleStack') {
    const fewer = (now: readonly string[] = [], before: readonly string[] = []): boolean =>
      now.length > 0 && now.length < before.length;
    const mustBeSingle = (what: string): FieldError =>
      fieldError.invalid(
        'spec.ipFamilyPolicy',
        spec.ipFamilyPolicy,
        `must be 'SingleStack' to release the secondary ${what}`,
      );
    if (fewer(spec.clusterIPs, old.clusterIPs)) errors.push(mustBeSingle('cluster IP'));
    if (fewer(spec.ipFamilies, old.ipFamilies)) errors.push(mustBeSingle('IP family'));
  }

  const families = (spec.ipFamilies ?? []).filter((family): family is IpFamily => family !== '');
  for (const [index, address] of (isHeadless(spec) ? [] : (spec.clusterIPs ?? [])).entries()) {
    if (!isAddress(address)) {
      errors.push(
        fieldError.invalid(
          `spec.clusterIPs[${index}]`,
          address,
          'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
      );
      continue;
    }
    const family = addressFamily(address);
    if (families[index] === undefined) {
      families[index] = family;
      if (!available.includes(family))
        errors.push(
          fieldError.invalid(
            `spec.clusterIPs[${index}]`,
            spec.clusterIPs,
            `${family} is not configured on this cluster`,
          ),
        );
    } else if (families[index] !== family)
      errors.push(
        fieldError.invalid(
          `spec.ipFamilies[${index}]`,
          spec.ipFamilies,
          `expected an ${family} value as indicated by \`spec.clusterIPs[${index}]\``,
        ),
      );
  }
  if (errors.length > 0) return errors;

  if (isHeadless(spec) && !hasSelector(spec)) {
    // Its addresses come from elsewhere, so both families are possible, whatever the cluster has.
    spec.ipFamilyPolicy ??= 'RequireDualStack';
    if (families.length === 0) families.push(primary);
    if (families.length === 1 && spec.ipFamilyPolicy !== 'SingleStack') families.push(other(families[0]!));
    spec.ipFamilies = families;
    return [];
  }

  spec.ipFamilyPolicy ??= 'SingleStack';
  const policy = spec.ipFamilyPolicy;
  if (policy === 'SingleStack') {
    const both = (field: string): FieldError =>
      fieldError.invalid(
        'spec.ipFamilyPolicy',
        policy,
        `must be 'RequireDualStack' or 'PreferDualStack' when multiple '${field}' are specified`,
      );
    if ((spec.clusterIPs?.length ?? 0) > 1) errors.push(both('clusterIPs'));
    else if (families.length > 1) errors.push(both('ipFamilies'));
  }
  if (policy === 'RequireDualStack' && available.length < 2)
    errors.push(
      fieldError.invalid(
        'spec.ipFamilyPolicy',
        policy,
        'this cluster is not configured for dual-stack services',
      ),
    );
  for (const [index, family] of families.entries()) {
    if (!available.includes(family))
      errors.push(fieldError.invalid(`spec.ipFamilies[${index}]`, family, 'not configured on this cluster'));
  }
  if (errors.length > 0) return errors;
  if (families.length === 0) families.push(primary);
  if (families.length === 1 && policy !== 'SingleStack' && available.length > 1)
    families.push(other(families[0]!));
  spec.ipFamilies = families;
  return [];
}
