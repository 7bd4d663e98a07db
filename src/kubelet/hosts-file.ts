// The /etc/hosts that pods see: written by the agent for each pod and mounted into its containers, so that all of them
// agree and hostAliases work. Pods with the host's network get the host's own file with their aliases after it.

import type { HostAlias } from '../api/types/core-v1.ts';

const HEADER = '# Kubernetes-managed hosts file.\n';
const HOST_NETWORK_HEADER = '# Kubernetes-managed hosts file (host network).\n';

function aliases(hostAliases: readonly HostAlias[]): string {
  if (hostAliases.length === 0) return '';
  const lines = hostAliases.map(({ ip, hostnames = [] }) => `${ip}\t${hostnames.join('\t')}\n`);
  return `\n# Entries added by HostAliases.\n${lines.join('')}`;
}

export function managedHosts(options: {
  readonly podIPs: readonly string[];
  readonly hostname: string;
  readonly domain: string;
  readonly hostAliases: readonly HostAlias[];
}): string {
  const { podIPs, hostname, domain, hostAliases } = options;
  const name = domain === '' ? hostname : `${hostname}.${domain}\t${hostname}`;
  return [
    HEADER,
    '127.0.0.1\tlocalhost\n',
    '::1\tlocalhost ip6-localhost ip6-loopback\n',
    'fe00::0\tip6-localnet\n',
    'fe00::0\tip6-mcastprefix\n',
    'fe00::1\tip6-allnodes\n',
    'fe00::2\tip6-allrouters\n',
    ...podIPs.map((ip) => `${ip}\t${name}\n`),
    aliases(hostAliases),
  ].join('');
}

export function hostNetworkHosts(hostFile: string, hostAliases: readonly HostAlias[]): string {
  return `${HOST_NETWORK_HEADER}${hostFile}${aliases(hostAliases)}`;
}
