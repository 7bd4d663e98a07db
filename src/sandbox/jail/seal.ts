// The Sentry's side of the start: when everything is loaded, the launcher takes the last files away and the filter
// closes the rest. After this the process can only work with what it has.

import { Errno } from '../abi/errno.ts';
import type { Host, HostFd } from '../host/contract.ts';
import { type JailProfile, sentryFilter } from './filter.ts';

/** What the addon offers for it. */
export interface FilterInstaller {
  /**
   * seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC): for all threads of the process. `program` is an array
   * of struct sock_filter. 0 or a negative errno.
   */
  installFilter(program: Uint8Array): number;
}

/**
 * Tells the launcher that nothing will be loaded from files any more, waits until the root is empty and read-only, and
 * installs the filter. `handshake` is the socket that bulkhead-launcher gave by --handshake; it is closed. Must be
 * called before the first instruction of any program. Throws if any part of it fails: the process must then end.
 */
export function sealJail(host: Host & FilterInstaller, handshake: HostFd, profile: JailProfile): void {
  const message = new Uint8Array([0x4c]);
  const sent = host.send(handshake, message, 0, 1, []);
  if (sent !== 1) throw new Error(`the launcher could not be told that the Sentry is loaded (${sent})`);
  let received: number;
  do received = host.receive(handshake, message, 0, 1, []);
  while (received === -Errno.EINTR);
  if (received !== 1 || message[0] !== 0x53)
    throw new Error(`the launcher did not empty the root (${received})`);
  host.close(handshake);
  const installed = host.installFilter(sentryFilter(profile));
  if (installed < 0) throw new Error(`the seccomp filter was refused (${installed})`);
}
