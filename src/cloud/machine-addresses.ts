// Which addresses the machine has of its own. A load-balancer address that is one of them is shared with the machine's
// own programs; every other stands on it for Services alone.

import { networkInterfaces } from 'node:os';
import { formatAddress, parseAddress } from '../component/index.ts';

/** In the canonical notation. What the address announcer puts on `device`, each address alone, does not count. */
export function machineAddresses(device: string, interfaces = networkInterfaces()): ReadonlySet<string> {
  const found = new Set<string>();
  for (const [name, entries = []] of Object.entries(interfaces))
    for (const { address, cidr } of entries) {
      const parsed = parseAddress(address.split('%')[0]!);
      if (!parsed) continue;
      const alone = cidr?.endsWith(parsed.family === 6 ? '/128' : '/32') === true;
      if (name !== device || !alone) found.add(formatAddress(parsed));
    }
  return found;
}
