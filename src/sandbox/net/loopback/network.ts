// A network namespace with nothing but a loopback interface: its sockets reach each other and nobody else.

import { Errno } from '../../abi/errno.ts';
import { Family, InterfaceFlag } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import type { NetworkInterface } from '../contract.ts';
import type { Socket } from '../socket.ts';
import { NetworkStack } from '../stack.ts';

const loopback: NetworkInterface = {
  index: 1,
  name: 'lo',
  flags: InterfaceFlag.up | InterfaceFlag.loopback | InterfaceFlag.running | InterfaceFlag.lowerUp,
  mtu: 65_536,
  // ARPHRD_LOOPBACK
  type: 772,
  hardwareAddress: new Uint8Array(6),
  addresses: [
    { family: Family.inet, address: Uint8Array.of(127, 0, 0, 1), prefix: 8 },
    {
      family: Family.inet6,
      address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
      prefix: 128,
    },
  ],
};

export class LoopbackNetwork extends NetworkStack {
  readonly interfaces: readonly NetworkInterface[] = [loopback];

  protected override createInet(
    _task: Task,
    _family: number,
    _type: number,
    _protocol: number,
  ): Socket | number {
    return -Errno.EAFNOSUPPORT;
  }
}
