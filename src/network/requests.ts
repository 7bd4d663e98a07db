// Reading what callers ask for: ranges and host ports, with errors that say how to write them.

import { type Cidr, parseAddress, parseCidr } from '../component/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import type { PodNetworkRequest } from '../runtime/network-provider.ts';
import type { HostPort } from './leases.ts';

export function parseRanges(texts: readonly string[], what: string): Cidr[] {
  return texts.map((text) => {
    const cidr = parseCidr(text);
    if (!cidr)
      throw new RuntimeError(
        'InvalidArgument',
        `"${text}" is no ${what}; write it as 10.244.0.0/24, with host bits zero`,
      );
    return cidr;
  });
}

export function parsePodCidrs(texts: readonly string[]): Cidr[] {
  const cidrs = parseRanges(texts, 'pod range');
  if (cidrs.length === 0 || cidrs.length > 2 || (cidrs.length === 2 && cidrs[0]!.family === cidrs[1]!.family))
    throw new RuntimeError(
      'InvalidArgument',
      `pod ranges must be one of either IP version or one of each, not "${texts.join(',')}"`,
    );
  return cidrs;
}

export function hostPortsOf(request: PodNetworkRequest): HostPort[] {
  return request.portMappings
    .filter((mapping) => mapping.hostPort > 0)
    .map(({ protocol, hostIp, hostPort, containerPort }) => {
      const address = hostIp && hostIp !== '0.0.0.0' && hostIp !== '::' ? hostIp : '';
      if (address !== '' && !parseAddress(address))
        throw new RuntimeError('InvalidArgument', `"${hostIp}" of host port ${hostPort} is no IP address`);
      return {
        protocol: protocol.toLowerCase() as HostPort['protocol'],
        hostIp: address,
        hostPort,
        containerPort,
      };
    });
}
