// What a Service says that has no effect, or not for long: told as warnings when it is written, in upstream's words
// (pkg/api/service/warnings.go). Pure.

import { goQuote } from '../../api/index.ts';
import type { Service } from '../../api/types/core-v1.ts';
import { canonicalAddress, isAddress } from './ip.ts';

export function serviceWarnings({ metadata, spec }: Service): string[] {
  const warnings: string[] = [];
  const { type = 'ClusterIP', externalIPs = [], clusterIPs = [], loadBalancerIP = '' } = spec;
  const older = 'service.kubernetes.io/topology-aware-hints';
  if (metadata.annotations?.[older] !== undefined)
    warnings.push(
      `annotation ${older} is deprecated, please use service.kubernetes.io/topology-mode instead`,
    );
  if (type === 'ClusterIP' && spec.clusterIP === 'None') {
    const ignored = (field: string): number => warnings.push(`${field} is ignored for headless services`);
    if (loadBalancerIP !== '') ignored('spec.loadBalancerIP');
    if (externalIPs.length > 0) ignored('spec.externalIPs');
    if (spec.sessionAffinity === 'ClientIP') ignored('spec.SessionAffinity');
  }
  const fields: readonly (readonly [field: string, address: string])[] = [
    ...clusterIPs.map((address, i) => [`spec.clusterIPs[${i}]`, address] as const),
    ...externalIPs.map((address, i) => [`spec.externalIPs[${i}]`, address] as const),
    ['spec.loadBalancerIP', loadBalancerIP],
  ];
  for (const [field, address] of fields) {
    if (!isAddress(address) || canonicalAddress(address) === address) continue;
    warnings.push(
      `${field}: IPv6 address ${goQuote(address)} should be in RFC 5952 canonical format (${goQuote(canonicalAddress(address))})`,
    );
  }
  if (type === 'ExternalName' && externalIPs.length > 0)
    warnings.push('spec.externalIPs is ignored when spec.type is "ExternalName"');
  if (type !== 'ExternalName' && spec.externalName)
    warnings.push('spec.externalName is ignored when spec.type is not "ExternalName"');
  if (spec.trafficDistribution === 'PreferClose')
    warnings.push('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"');
  return warnings;
}
