// The bridge that pods hang on, and their interfaces, as batches of ip(8) commands.
//
// A pod gets its address alone (/32 or /128) and one route, to the bridge's address: every packet, also one to a pod
// on the same node, is routed by the host, so that the host's nftables rules see both directions of every connection
// (service addresses and policies need that) without br_netfilter. Where br_netfilter is on all the same, it bridges
// what was redirected to a pod; a pod that is redirected to itself then needs its port in hairpin mode.

import { readFile, writeFile } from 'node:fs/promises';
import { type Cidr, formatCidr, overlap, parseAddress, parseCidr } from '../component/index.ts';
import type { HostOperations } from '../host/index.ts';
import { RuntimeError } from '../runtime/cri.ts';

export interface Gateway {
  readonly cidr: Cidr;
  /** The bridge's address in that range. */
  readonly address: string;
}

/** At most 15 bytes, as interface names are. */
export function vethName(sandboxId: string): string {
  return `bh${sandboxId.slice(0, 13)}`;
}

/** An address's own hardware address: caches that know the address stay right when it goes to another pod. */
export function macOf(address: string): string {
  const { value } = parseAddress(address)!;
  const hex = (value & 0xffffffffn).toString(16).padStart(8, '0');
  return `0a:58:${hex.match(/../g)!.join(':')}`;
}

/** Sets a file below /proc/sys; true when that changed it. */
export async function setSysctl(name: string, value: string): Promise<boolean> {
  const path = `/proc/sys/${name}`;
  if ((await readFile(path, 'utf8')).trim() === value) return false;
  await writeFile(path, value);
  return true;
}

export async function interfaceExists(name: string): Promise<boolean> {
  return readFile(`/sys/class/net/${name}/ifindex`).then(
    () => true,
    () => false,
  );
}

export interface Route {
  /** `default` or a range. */
  readonly destination: string;
  readonly device: string;
}

export async function hostRoutes(host: HostOperations): Promise<Route[]> {
  const outputs = await Promise.all(
    ['-4', '-6'].map((family) => host.check(['ip', '-j', family, 'route', 'show'])),
  );
  return outputs.flatMap((output) => {
    const routes: unknown = JSON.parse(output.toString().trim() || '[]');
    if (!Array.isArray(routes)) return [];
    return routes.flatMap((route: unknown) => {
      const { dst, dev } = (route ?? {}) as { readonly dst?: unknown; readonly dev?: unknown };
      return typeof dst === 'string' && typeof dev === 'string' ? [{ destination: dst, device: dev }] : [];
    });
  });
}

/** The host's own way out sets how long packets can be; 1500 where there is none. */
export async function mtuOfDefaultRoute(routes: readonly Route[]): Promise<number> {
  const device = routes.find((route) => route.destination === 'default')?.device;
  const text = device && (await readFile(`/sys/class/net/${device}/mtu`, 'utf8').catch(() => undefined));
  return Number(text) || 1500;
}

/** Rejects when the host already reaches part of the range over another interface. */
export function checkOverlap(cidr: Cidr, routes: readonly Route[], bridge: string): void {
  for (const { destination, device } of routes) {
    if (device === bridge || destination === 'default') continue;
    const address = parseAddress(destination);
    const range =
      parseCidr(destination) ??
      (address && { family: address.family, base: address.value, prefix: address.family === 4 ? 32 : 128 });
    if (range && overlap(range, cidr))
      throw new RuntimeError(
        'FailedPrecondition',
        `the pod range ${formatCidr(cidr)} overlaps the host's route to ${destination} over ${device}; choose another pod range`,
      );
  }
}

/** Makes the bridge, or makes the one there is as it should be. */
export async function ensureBridge(
  host: HostOperations,
  bridge: string,
  gateways: readonly Gateway[],
  mtu: number,
): Promise<void> {
  const lines: string[] = [];
  // A fixed hardware address: by default it is the lowest of the ports' and changes as pods come and go.
  if (!(await interfaceExists(bridge)))
    lines.push(`link add name ${bridge} address ${macOf(gateways[0]!.address)} type bridge`);
  lines.push(`link set dev ${bridge} mtu ${mtu} up`);
  for (const { cidr, address } of gateways)
    lines.push(`addr replace ${address}/${cidr.prefix} dev ${bridge}${cidr.family === 6 ? ' nodad' : ''}`);
  await host.check(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  await setSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1');
  if (gateways.some(({ cidr }) => cidr.family === 6)) {
    await setSysctl(`net/ipv6/conf/${bridge}/accept_ra`, '0');
    // The bridge asks for pods with its link-local address, which nobody else has. Looking for a duplicate first, from
    // the first pod on, would keep pods from one another for a second or two.
    await setSysctl(`net/ipv6/conf/${bridge}/accept_dad`, '0');
  }
}

export interface PodInterface {
  readonly sandboxId: string;
  readonly netnsPath: string;
  readonly ips: readonly string[];
  readonly gateways: readonly Gateway[];
  readonly bridge: string;
  readonly mtu: number;
}

/** Makes the pair of interfaces and sets up the pod's end. */
export async function plugIn(host: HostOperations, pod: PodInterface): Promise<void> {
  const veth = vethName(pod.sandboxId);
  const onHost = [
    `link add name ${veth} mtu ${pod.mtu} type veth peer name eth0 address ${macOf(pod.ips[0]!)} mtu ${pod.mtu} netns ${pod.netnsPath}`,
    `link set dev ${veth} master ${pod.bridge} up`,
    `link set dev ${veth} type bridge_slave hairpin on`,
  ];
  await host.check(['ip', '-batch', '-'], { input: `${onHost.join('\n')}\n` });
  const inPod = ['link set dev eth0 up'];
  for (const ip of pod.ips) {
    const { family } = parseAddress(ip)!;
    const gateway = pod.gateways.find(({ cidr }) => cidr.family === family)!.address;
    const length = family === 4 ? 32 : 128;
    inPod.push(`addr add ${ip}/${length} dev eth0${family === 6 ? ' nodad' : ''}`);
    inPod.push(`route add ${gateway}/${length} dev eth0 scope link`);
    inPod.push(`route add default via ${gateway} dev eth0`);
  }
  await host.check(['ip', '-batch', '-'], {
    networkNamespace: pod.netnsPath,
    input: `${inPod.join('\n')}\n`,
  });
}

/** The names of the interfaces whose other end is in a pod. */
export async function portsOf(host: HostOperations, bridge: string): Promise<string[]> {
  const output = await host.check(['ip', '-j', 'link', 'show', 'master', bridge]);
  const links: unknown = JSON.parse(output.toString().trim() || '[]');
  if (!Array.isArray(links)) return [];
  return links.flatMap((link: unknown) => {
    const { ifname } = (link ?? {}) as { readonly ifname?: unknown };
    return typeof ifname === 'string' ? [ifname] : [];
  });
}

/** Removes interfaces; those that are gone already are no error. */
export async function unplug(host: HostOperations, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  // -force goes on after a failure; whether something is left is looked up rather than read from messages.
  await host.run(['ip', '-force', '-batch', '-'], {
    input: names.map((name) => `link delete dev ${name}\n`).join(''),
  });
  for (const name of names) {
    if (await interfaceExists(name))
      throw new RuntimeError('Internal', `the network interface ${name} cannot be removed`);
  }
}
