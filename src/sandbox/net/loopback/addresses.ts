// Internet addresses and endpoints. Inside the stack an address is lower-case hexadecimal text, 8 digits for IPv4 and 32
// for IPv6, so that it can be compared and be a key; an IPv4-mapped IPv6 address is the IPv4 address.

import { Errno } from '../../abi/errno.ts';
import { Family, familyOf, Inet6Address, InetAddress } from '../../abi/socket.ts';

export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

export const anyInet = '00000000';
export const anyInet6 = '0'.repeat(32);
export const loopbackInet = '7f000001';
export const loopbackInet6 = `${'0'.repeat(31)}1`;
const mapped = '00000000000000000000ffff';

export const isAny = (ip: string): boolean => ip === anyInet || ip === anyInet6;
export const isInet = (ip: string): boolean => ip.length === 8;
export const isMulticast = (ip: string): boolean => (isInet(ip) ? /^e/.test(ip) : ip.startsWith('ff'));
export const isBroadcast = (ip: string): boolean => ip === 'ffffffff';
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const bytesOf = (ip: string): Uint8Array => Buffer.from(ip, 'hex');

/** An address of a socket of this family; -EINVAL (too short), -EAFNOSUPPORT. scope: sin6_scope_id. */
export function parseEndpoint(
  family: number,
  address: Uint8Array,
): (Endpoint & { readonly scope: number; readonly isMapped: boolean }) | number {
  const view = new DataView(address.buffer, address.byteOffset, address.length);
  if (family === Family.inet) {
    if (address.length < InetAddress.size) return -Errno.EINVAL;
    const port = view.getUint16(InetAddress.port);
    const ip = hexOf(address.subarray(InetAddress.address, InetAddress.address + 4));
    if (familyOf(address) !== Family.inet && !(familyOf(address) === Family.unspecified && ip === anyInet))
      return -Errno.EAFNOSUPPORT;
    return { ip, port, scope: 0, isMapped: false };
  }
  if (address.length < Inet6Address.oldSize) return -Errno.EINVAL;
  if (familyOf(address) !== Family.inet6) return -Errno.EAFNOSUPPORT;
  const ip = hexOf(address.subarray(Inet6Address.address, Inet6Address.address + 16));
  const scope = address.length >= Inet6Address.size ? view.getUint32(Inet6Address.scope, true) : 0;
  const isMapped = ip.startsWith(mapped);
  return {
    ip: isMapped ? ip.slice(mapped.length) : ip,
    port: view.getUint16(Inet6Address.port),
    scope,
    isMapped,
  };
}

/** struct sockaddr_in or sockaddr_in6 for a socket of this family. */
export function formatEndpoint(family: number, { ip, port }: Endpoint): Uint8Array {
  const bytes = new Uint8Array(family === Family.inet ? InetAddress.size : Inet6Address.size);
  bytes[0] = family;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  if (family === Family.inet) bytes.set(bytesOf(ip), InetAddress.address);
  else if (isInet(ip)) bytes.set(bytesOf(ip === anyInet ? anyInet6 : mapped + ip), Inet6Address.address);
  else bytes.set(bytesOf(ip), Inet6Address.address);
  return bytes;
}
