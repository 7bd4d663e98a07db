// What the machine calls itself, and the addresses by which it is reached.

import { hostname, networkInterfaces } from 'node:os';
import type { Family } from '../component/index.ts';

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
 * The address of an IP version by which the machine is reached from its pods: the first one of an interface that is
 * neither loopback nor ours (`except`: prefixes of names). Undefined on a machine without such a network.
 */
export function machineAddress(family: Family, except: readonly string[]): string | undefined {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (except.some((prefix) => name.startsWith(prefix))) continue;
    const found = addresses?.find(
      (one) => one.family === `IPv${family}` && !one.internal && !isLinkLocal(one.address),
    );
    if (found) return found.address;
  }
  return undefined;
}

/** Reached on its own link alone (RFC 3927, RFC 4291). */
const isLinkLocal = (address: string): boolean =>
  address.startsWith('169.254.') || /^fe[89ab]/i.test(address);
