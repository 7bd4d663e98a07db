// Who on this machine listens at a port, as the kernel's socket tables tell (proc_pid_net(5)): a load-balancer port
// that takes packets away from sshd would lock its owner out.

import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';
import { formatAddress } from '../component/index.ts';

const LISTEN = '0A';
/** A UDP socket that is bound, not connected. */
const UNCONNECTED = '07';

/**
 * In words, when something listens at the port of that address or of all addresses; undefined otherwise, for
 * protocols without a table (SCTP), too. `directory` is /proc/net unless a test says otherwise.
 */
export async function listenerAt(
  address: string,
  protocol: string,
  port: number,
  directory = '/proc/net',
): Promise<string | undefined> {
  const name = protocol.toLowerCase();
  if (name !== 'tcp' && name !== 'udp') return undefined;
  for (const table of [name, `${name}6`]) {
    const text = await readFile(`${directory}/${table}`, 'utf8').catch((error: NodeJS.ErrnoException) => {
      // A kernel without IPv6 has no such table.
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    for (const line of text.split('\n').slice(1)) {
      const [, local = '', , state] = line.trim().split(/\s+/);
      const [hex = '', hexPort = ''] = local.split(':');
      if (Number.parseInt(hexPort, 16) !== port || state !== (name === 'tcp' ? LISTEN : UNCONNECTED))
        continue;
      const at = addressFrom(hex);
      // One socket for both families listens at ::.
      if (at === address || at === '0.0.0.0' || at === '::')
        return `a ${protocol} socket at ${at} port ${port}`;
    }
  }
  return undefined;
}

/** The tables print addresses as 32-bit words in the machine's own byte order. */
function addressFrom(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const ordered = words.map((word) =>
    endianness() === 'LE' ? (word.match(/../g) ?? []).toReversed().join('') : word,
  );
  const value = BigInt(`0x${ordered.join('') || '0'}`);
  if (words.length === 1) return formatAddress({ family: 4, value });
  // An IPv4 address in IPv6 clothes is the IPv4 address.
  if (value >> 32n === 0xffffn) return formatAddress({ family: 4, value: value & 0xffff_ffffn });
  return formatAddress({ family: 6, value });
}
