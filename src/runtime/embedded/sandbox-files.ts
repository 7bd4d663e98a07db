// What a pod's sandbox is set up with besides its namespaces: resolv.conf, the hostname file and sysctls.

import { readFile } from 'node:fs/promises';
import { type DnsConfig, type PodSandboxConfig, RuntimeError } from '../cri.ts';

/** resolv.conf(5) of a pod; the host's when the pod has nothing to say. */
export async function resolvConf(dns: DnsConfig | undefined): Promise<string> {
  if (!dns || (dns.servers.length === 0 && dns.searches.length === 0 && dns.options.length === 0))
    return readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  for (const word of [...dns.servers, ...dns.searches, ...dns.options])
    if (/[\s\0]/.test(word))
      throw new RuntimeError('InvalidArgument', `"${word}" cannot stand in a resolv.conf`);
  const lines = [
    ...(dns.searches.length > 0 ? [`search ${dns.searches.join(' ')}`] : []),
    ...dns.servers.map((server) => `nameserver ${server}`),
    ...(dns.options.length > 0 ? [`options ${dns.options.join(' ')}`] : []),
  ];
  return `${lines.join('\n')}\n`;
}

/** Those that a namespace of the pod's own has; any other would change the host. */
const OF_IPC = /^(kernel\/(shm\w*|msg\w*|sem)|fs\/mqueue\/\w+)$/;
const OF_NETWORK = /^net\/[^/]+(\/[^/]+)+$/;

/** A sysctl's path below /proc/sys. The first separator says which of the two it is written with, as for sysctl(8). */
export function sysctlPath(name: string): string {
  const separator = name.match(/[./]/)?.[0];
  return separator === '.' ? name.replace(/[./]/g, (c) => (c === '.' ? '/' : '.')) : name;
}

/** The sysctls to set in a pod's namespaces; what a pod may not set rejects. */
export function podSysctls(config: PodSandboxConfig): (readonly [path: string, value: string])[] {
  const settings = new Map<string, string>();
  if (config.namespaces.network === 'POD') {
    // A pod's network is its own: ports below 1024 and ping need no capability, as with containerd 2.
    settings.set('net/ipv4/ip_unprivileged_port_start', '0');
    settings.set('net/ipv4/ping_group_range', '0 2147483647');
  }
  for (const [name, value] of Object.entries(config.sysctls)) {
    const path = sysctlPath(name);
    const separate =
      (OF_IPC.test(path) && config.namespaces.ipc === 'POD') ||
      (OF_NETWORK.test(path) && config.namespaces.network === 'POD');
    if (!separate || path.split('/').includes('..'))
      throw new RuntimeError(
        'InvalidArgument',
        `sysctl "${name}" is not in a separate kernel namespace of the pod`,
      );
    settings.set(path, value);
  }
  return [...settings];
}
