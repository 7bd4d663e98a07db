// /sys/class/net and /sys/devices/virtual/net: the interfaces of a network namespace
// (Documentation/ABI/testing/sysfs-class-net).

import { Errno } from '../../abi/errno.ts';
import type { NetworkInterface, NetworkNamespace } from '../../net/contract.ts';
import { directory, type Entry, link, text } from '../kernfs/tree.ts';

const InterfaceFlag = { up: 0x1, loopback: 0x8, running: 0x40 } as const;
/** Flags that are worked out from the state when they are shown by other ways, and not kept (dev_get_flags). */
const volatileFlags = 0x40 | 0x1_0000 | 0x2_0000;

const statistics =
  'collisions multicast rx_bytes rx_compressed rx_crc_errors rx_dropped rx_errors rx_fifo_errors rx_frame_errors ' +
  'rx_length_errors rx_missed_errors rx_nohandler rx_over_errors rx_packets tx_aborted_errors tx_bytes ' +
  'tx_carrier_errors tx_compressed tx_dropped tx_errors tx_fifo_errors tx_heartbeat_errors tx_packets ' +
  'tx_window_errors';

/** The file system's reader finds the interface as it is when a file is read; -ENODEV when it is gone. */
function interfaceFiles(network: NetworkNamespace, index: number): Entry {
  const attribute = (show: (net: NetworkInterface) => string | number): Entry =>
    text(() => {
      const net = network.interfaces.find((candidate) => candidate.index === index);
      if (!net) return -Errno.ENODEV;
      const shown = show(net);
      return typeof shown === 'number' ? shown : `${shown}\n`;
    });
  const address = (bytes: Uint8Array): string =>
    [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  const isUp = (net: NetworkInterface): boolean => (net.flags & InterfaceFlag.up) !== 0;
  const zero = attribute(() => '0');
  return directory({
    addr_assign_type: zero,
    addr_len: attribute((net) => String(net.hardwareAddress.length)),
    address: attribute((net) => address(net.hardwareAddress)),
    broadcast: attribute((net) =>
      address(
        net.flags & InterfaceFlag.loopback
          ? new Uint8Array(net.hardwareAddress.length)
          : new Uint8Array(net.hardwareAddress.length).fill(0xff),
      ),
    ),
    carrier: attribute((net) =>
      isUp(net) ? (net.flags & InterfaceFlag.running ? '1' : '0') : -Errno.EINVAL,
    ),
    carrier_changes: zero,
    dev_id: attribute(() => '0x0'),
    dev_port: zero,
    dormant: attribute((net) => (isUp(net) ? '0' : -Errno.EINVAL)),
    // They ask a driver for what these interfaces do not have.
    duplex: attribute(() => -Errno.EINVAL),
    flags: attribute((net) => `0x${(net.flags & ~volatileFlags).toString(16)}`),
    ifalias: text(() => ''),
    ifindex: attribute((net) => String(net.index)),
    iflink: attribute((net) => String(net.index)),
    link_mode: zero,
    mtu: attribute((net) => String(net.mtu)),
    name_assign_type: attribute(() => '2'),
    netdev_group: zero,
    operstate: attribute((net) =>
      net.flags & InterfaceFlag.loopback ? 'unknown' : net.flags & InterfaceFlag.running ? 'up' : 'down',
    ),
    proto_down: zero,
    speed: attribute(() => -Errno.EINVAL),
    // The kernel keeps no counters of loopback's packets, as in /proc/net/dev.
    statistics: directory(
      Object.fromEntries(statistics.split(' ').map((name) => [name, attribute(() => '0')] as const)),
    ),
    subsystem: link('../../../../class/net'),
    testing: attribute((net) => (isUp(net) ? '0' : -Errno.EINVAL)),
    tx_queue_len: attribute(() => '1000'),
    type: attribute((net) => String(net.type)),
    uevent: text(() => {
      const net = network.interfaces.find((candidate) => candidate.index === index);
      return net ? `INTERFACE=${net.name}\nIFINDEX=${net.index}\n` : -Errno.ENODEV;
    }),
  });
}

const listed = (
  network: NetworkNamespace,
  entry: (net: NetworkInterface) => Entry,
): (() => ReadonlyMap<string, Entry>) => {
  return () => new Map(network.interfaces.map((net) => [net.name, entry(net)] as const));
};

/** /sys/class/net */
export function interfaceLinks(network: NetworkNamespace): Entry {
  return directory(listed(network, (net) => link(`../../devices/virtual/net/${net.name}`)));
}

/** /sys/devices/virtual/net */
export function interfaceDevices(network: NetworkNamespace): Entry {
  return directory(listed(network, (net) => interfaceFiles(network, net.index)));
}
