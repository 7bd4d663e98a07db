// What the machine calls itself, and the addresses by which it is reached.

import { hostname, networkInterfaces } from 'node:os';
import { addressAt, formatAddress, parseCidr } from '../component/index.ts';

/** The host name as a node's name must be: lower case, a DNS subdomain. */
export function defaultNodeName(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, '-')
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '')
    .slice(0, 63);
  return name === '' || name === 'localhost' ? 'node' : name;
}

/** A DNS subdomain (RFC 1123), as the names of nodes are. */
export function isNodeName(name: string): boolean {
  const label = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
  return name.length <= 253 && new RegExp(`^${label}(\\.${label})*$`).test(name);
}

/** What the kernel takes as the name of a network interface. */
export function isInterfaceName(name: string): boolean {
  return /^[A-Za-z0-9_.-]{1,15}$/.test(name) && name !== '.' && name !== '..';
}

/**
 * The IPv4 address by which the machine is reached from its pods: the first one of an interface that is neither
 * loopback nor ours (`except`: prefixes of names). Undefined on a machine without an IPv4 network.
 */
export function machineAddress(except: readonly string[]): string | undefined {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (except.some((prefix) => name.startsWith(prefix))) continue;
    const found = addresses?.find(({ address, family, internal }) => {
      return family === 'IPv4' && !internal && !address.startsWith('169.254.');
    });
    if (found) return found.address;
  }
  return undefined;
}

/** The second address of an IPv4 range (10.96.0.0/16 → 10.96.0.1): the `kubernetes` service, the bridge. */
export function firstAddress(cidr: string): string {
  return addressIn(cidr, 1n);
}

/** The tenth address of the service range (10.96.0.0/16 → 10.96.0.10): where pods ask for names, by convention. */
export function dnsAddress(serviceCidr: string): string {
  return addressIn(serviceCidr, 10n);
}

function addressIn(text: string, offset: bigint): string {
  const cidr = parseCidr(text);
  if (cidr === undefined) throw new TypeError(`${text} is not an address range`);
  return formatAddress(addressAt(cidr, offset));
}

/** A range like 10.96.0.0/16, host bits zero, within the bounds of the prefix. */
export function isIpv4Cidr(text: string, longestPrefix: number): boolean {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  if (!match) return false;
  const octets = match.slice(1, 5).map(Number);
  const prefix = Number(match[5]);
  if (octets.some((octet) => octet > 255) || prefix < 8 || prefix > longestPrefix) return false;
  const value = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  return value % 2 ** (32 - prefix) === 0;
}
